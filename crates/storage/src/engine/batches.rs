//! Batches: records on their way to the log, and the answers that wait for them.

use std::sync::Arc;

use ring::Token;
use sabotage::Bug;
use values::Tag;

use super::Engine;
use crate::census::Counted;
use crate::log_record::{self, RecordOut};
use crate::memtable::BatchId;
use crate::{Answer, Appended, Durability, IndexRead, SeamError, Shard, StorageError, Ticket};

/// Room, in bytes, that each list of a batch is left with for the next one, at most. A guess.
const ROOM_MAX: usize = 1 << 20;

/// Records for the log, to be appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// To report the result under.
    pub id: BatchId,
    /// What to [append](crate::Log::append). May be empty, where only the sync is asked for.
    pub records: Vec<u8>,
    /// Whether it must be durable before the result is reported.
    pub sync: bool,
}

/// A batch before its result is known.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) records: Vec<u8>,
    /// How many bytes of records it has, also once they were taken.
    pub(super) bytes: usize,
    /// Whether it must be durable for its answers to be given.
    pub(super) sync: bool,
    /// Whether what is acknowledged later may rest on it: on a delivery nothing does.
    pub(super) is_relied_on: bool,
    pub(super) answers: Vec<(Ticket, Answer)>,
    /// Changes of the census, in order: what, and whether it is counted now or no longer is.
    pub(super) counted: Vec<(Counted, bool)>,
    /// The header rows and tags that dots were minted for.
    pub(super) minted: Vec<(Arc<[u8]>, Tag)>,
}

impl Waiting {
    /// Nothing of it but the room of its lists: what later batches gather need not move again and again.
    fn emptied(self) -> Self {
        fn empty<T>(mut list: Vec<T>) -> Vec<T> {
            list.clear();
            list.shrink_to(ROOM_MAX / size_of::<T>());
            list
        }
        Self {
            answers: empty(self.answers),
            counted: empty(self.counted),
            minted: empty(self.minted),
            ..Self::default()
        }
    }
}

impl<R: IndexRead> Engine<R> {
    /// The records of what was done since the last batch, for the log. `None` if there are none,
    /// while a batch is under way (the next one gathers meanwhile, and may rest on it), and while
    /// so much waits for a checkpoint under way that acknowledgements are to wait for it too.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.rows.is_under_way() || self.must_wait() {
            return None;
        }
        if self.current.records.is_empty() && !self.current.sync {
            // What else was changed follows from what is in the log.
            self.rows.keep();
            self.current.counted.clear();
            self.current.minted.clear();
            return None;
        }
        let id = self.rows.take_batch();
        // What is taken now leaves the lists of the batch before to be filled.
        std::mem::swap(&mut self.under_way, &mut self.current);
        let records = std::mem::take(&mut self.under_way.records);
        // Batches are about as large as the one before.
        self.current.records.reserve(records.len().min(ROOM_MAX));
        self.under_way.bytes = records.len();
        Some(Batch { id, records, sync: self.under_way.sync })
    }

    /// The log's result for the batch under way: releases the answers that waited for it.
    ///
    /// If it failed, every write that is not in the log is answered [`Answer::Failed`] and no longer
    /// visible, and updates are refused until a batch is appended again.
    pub fn committed(
        &mut self,
        batch: BatchId,
        result: Result<Appended, SeamError>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        if !self.rows.awaits(batch) {
            return;
        }
        let mut done = std::mem::take(&mut self.under_way);
        let is_ignored = sabotage::is(Bug::FailureTakenForSuccess) && result.is_err();
        let unchanged = Appended { position: self.position, synced: true };
        let error = match if is_ignored { Ok(unchanged) } else { result } {
            Ok(Appended { position, synced }) => {
                self.rows.committed();
                self.position = position;
                self.is_unsynced = !synced && (self.is_unsynced || done.is_relied_on);
                self.batch_ended();
                self.disk_works();
                answers.append(&mut done.answers);
                self.under_way = done.emptied();
                return;
            }
            Err(error) => error,
        };
        let lost = std::mem::take(&mut self.current);
        self.disk_failed(&error, &done, &lost);
        let error = StorageError::from(error);
        let waiting = done.answers.into_iter().chain(lost.answers);
        answers.extend(waiting.map(|(ticket, _)| (ticket, Answer::Failed(error.clone()))));
    }

    /// Whether nothing waits for the log.
    pub fn is_settled(&self) -> bool {
        self.current.records.is_empty() && !self.current.sync && !self.rows.is_under_way()
    }

    /// Tells of elements once they are durable: another replica that finds them equal to its own sends
    /// none, and then says that all it had seen is seen here. Lost after that, they would count as
    /// removed.
    pub(super) fn show_elements(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        self.settle(ticket, answer, Durability::Sync, answers);
    }

    /// Gives `answer` once everything that is visible now is as durable as asked: also what changed
    /// nothing rests on what it found.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        durability: Durability,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let sync = durability == Durability::Sync;
        let is_gathered = !self.current.records.is_empty();
        let waits = match durability {
            Durability::None => None,
            _ if sabotage::is(Bug::AckBeforeCommit) => None,
            _ if is_gathered => Some(&mut self.current),
            _ if self.rows.is_under_way() && (!sync || self.under_way.sync) => {
                Some(&mut self.under_way)
            }
            Durability::Sync if self.rows.is_under_way() || self.is_unsynced => {
                Some(&mut self.current)
            }
            _ => None,
        };
        match waits {
            Some(waiting) => {
                waiting.sync |= sync;
                waiting.answers.push((ticket, answer));
            }
            None => answers.push((ticket, answer)),
        }
    }

    /// Adds what was done to the batch being gathered.
    pub(super) fn record(&mut self, token: Token, record: &RecordOut<'_>) {
        self.record_in(self.config.shards.shards().of_token(token), record);
    }

    pub(super) fn record_in(&mut self, shard: Shard, record: &RecordOut<'_>) {
        if self.is_replaying || self.is_recorded {
            return;
        }
        self.current.is_relied_on |= !matches!(record, RecordOut::Delivered(..));
        log_record::push(&mut self.current.records, shard, record);
    }
}
