//! Deltas that this node's own disk would not take: kept in memory and tried again until it does.
//!
//! They are of writes made here: this node's own copy, and hints for owners that could not be
//! reached. Other owners may have acknowledged such a write, and the client with them, so without
//! this a disk that was full for a moment would leave a replica stale until the key is read.
//! Bounded, and gone with the process: what is dropped is left to read repair.

use std::collections::BTreeMap;

use clock::NodeId;
use storage::{Answer, Command};
use values::{Delta, Key};

use crate::turn::{Timer, Turn, Waiter};

/// Most deltas kept (a guess), and most bytes of them: a quarter of what may wait for the disk.
const DELTAS_MAX: usize = 4_096;
const BYTES_MAX: usize = 64 << 20;
/// Pause before deltas are tried again, in milliseconds: doubled each time that any is refused, up
/// to the maximum.
const RETRY_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 10_000;
/// Deltas tried at once.
const TRIED_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    /// For whom; this node itself for its own copy.
    owner: NodeId,
    key: Key,
    delta: Delta,
    bytes: usize,
    is_tried: bool,
}

/// The deltas kept, by number.
#[derive(Debug)]
pub(crate) struct Unkept {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    next: u64,
    retry_ms: u64,
    /// Whether one of those tried last was refused.
    is_refused: bool,
}

impl Default for Unkept {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, next: 0, retry_ms: RETRY_MS, is_refused: false }
    }
}

impl Unkept {
    /// Keeps a delta of `owner`.
    pub(crate) fn keep(&mut self, owner: NodeId, key: Key, delta: Delta, turn: &mut Turn<'_>) {
        let bytes = clock::encode(&delta).len() + key.bucket().len() + key.key().len();
        if self.entries.len() >= DELTAS_MAX || self.bytes.saturating_add(bytes) > BYTES_MAX {
            turn.shared.counters.deltas_dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.entries.insert(self.next, Entry { owner, key, delta, bytes, is_tried: false });
        self.next += 1;
        self.wait(turn);
    }

    /// Tries the oldest again.
    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me();
        self.is_refused = false;
        let rest = self.entries.iter_mut().filter(|(_, entry)| !entry.is_tried);
        for (&number, entry) in rest.take(TRIED_MAX) {
            entry.is_tried = true;
            let (key, delta) = (entry.key.clone(), entry.delta.clone());
            let durability = turn.durability(&key);
            if entry.owner == me {
                let partition = turn.shared.partition(&key);
                turn.shared.note_stray(&key, partition);
            }
            let command = if entry.owner == me {
                Command::Merge { key, delta, show: None, durability }
            } else {
                Command::Defer { owner: entry.owner, key, delta, durability }
            };
            turn.store(Waiter::Unkept(number), command);
        }
    }

    /// The engine took one, or refused it again. Returns for whom it is in the outbox now, if it
    /// is.
    pub(crate) fn stored(
        &mut self,
        number: u64,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) -> Option<NodeId> {
        if let Answer::Failed(_) = answer {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.is_tried = false;
            }
            if !std::mem::replace(&mut self.is_refused, true) {
                self.retry_ms = self.retry_ms.saturating_mul(2).min(RETRY_MAX_MS);
            }
            self.wait(turn);
            return None;
        }
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.bytes;
        self.retry_ms = RETRY_MS;
        if self.entries.values().any(|entry| !entry.is_tried) {
            self.wait(turn);
        }
        (entry.owner != turn.me()).then_some(entry.owner)
    }

    /// Whether it keeps none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn wait(&self, turn: &mut Turn<'_>) {
        let at = turn.now.monotonic_ms.saturating_add(self.retry_ms);
        turn.set_timer_if_none(Timer::Unkept, at);
    }
}
