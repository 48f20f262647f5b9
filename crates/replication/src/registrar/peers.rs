//! What each other member is known to have of the table, and what it is told.

use std::collections::BTreeMap;

use clock::NodeId;
use storage::StorageError;

use super::Wait;
use crate::{
    Body, KnownPolicies, PolicyTable,
    turn::{Turn, Waiter},
};

/// Pause before what was not answered, or could not be stored, is sent again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// What is under way to a member.
#[derive(Debug)]
struct Sent {
    number: u64,
    entries: PolicyTable,
    /// The digest of the table that was told.
    digest: u128,
    /// The last change that the table had.
    change: u64,
    /// When it is sent again.
    retry_at: u64,
}

/// A member whose link is up.
#[derive(Debug, Default)]
struct Peer {
    /// The digest of its table, as it last said; `None` if it did not since its link came up.
    digest: Option<u128>,
    /// What it may lack.
    lacking: PolicyTable,
    sent: Option<Sent>,
    /// The last change of this node's table that it has on its disk.
    knows: u64,
}

/// The members whose links are up.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    /// Of the table.
    digest: u128,
    is_empty: bool,
    /// How often the table changed.
    changes: u64,
    /// Until when nothing is sent, because the disk refused what came of it.
    paused_until: u64,
}

impl Peers {
    pub(super) fn new(table: &PolicyTable) -> Self {
        Self {
            peers: BTreeMap::new(),
            digest: table.digest(),
            is_empty: table.is_empty(),
            // Members begin with 0: what was in the table at the start they may not have.
            changes: 1,
            paused_until: 0,
        }
    }

    pub(super) const fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) const fn last_change(&self) -> u64 {
        self.changes
    }

    pub(super) fn link_up(&mut self, node: NodeId) {
        self.peers.insert(node, Peer::default());
    }

    pub(super) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        if let Some(Peer { sent: Some(sent), .. }) = self.peers.remove(&node) {
            turn.shared.forget_ask(sent.number);
        }
    }

    /// The table changed: everybody may lack it.
    pub(super) fn changed(&mut self, change: &PolicyTable, table: &PolicyTable) {
        self.digest = table.digest();
        self.is_empty = table.is_empty();
        self.changes += 1;
        for peer in self.peers.values_mut() {
            peer.lacking.join(change);
        }
    }

    /// The member said the digest that this node's table has.
    pub(super) fn agrees(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.digest = Some(self.digest);
            peer.lacking = PolicyTable::default();
            peer.knows = self.changes;
        }
    }

    /// Nothing is sent for a while.
    pub(super) fn pause(&mut self, turn: &Turn<'_>) {
        self.paused_until = turn.now.monotonic_ms.saturating_add(RETRY_MS);
    }

    /// Tells members what they may lack. One that was never heard of is asked what it has, unless
    /// there is nothing to tell: then it asks, if it has anything.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        if self.is_empty || now < self.paused_until {
            return;
        }
        for (&node, peer) in &mut self.peers {
            if peer.sent.is_some() || peer.digest == Some(self.digest) {
                continue;
            }
            let entries = std::mem::take(&mut peer.lacking);
            let body = Body::Policies { digest: self.digest, entries: entries.clone() };
            let waiter = Waiter::Registrar(Wait::Told(node));
            let budget_ms = u32::try_from(RETRY_MS).unwrap_or(u32::MAX);
            let number = turn.ask(node, waiter, budget_ms, body);
            let retry_at = now.saturating_add(RETRY_MS);
            let (digest, change) = (self.digest, self.changes);
            peer.sent = Some(Sent { number, entries, digest, change, retry_at });
        }
    }

    /// Takes a member's answer. Returns what it has that differs, for the table to learn.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        known: Result<KnownPolicies, StorageError>,
        table: &PolicyTable,
        turn: &Turn<'_>,
    ) -> Option<PolicyTable> {
        let peer = self.peers.get_mut(&node)?;
        let sent = peer.sent.take()?;
        let Ok(KnownPolicies { digest, entries }) = known else {
            // Its disk, or its queue, is full: later.
            peer.lacking.join(&sent.entries);
            let retry_at = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            peer.sent = Some(Sent { entries: PolicyTable::default(), retry_at, ..sent });
            return None;
        };
        peer.digest = Some(digest);
        if digest == sent.digest {
            peer.knows = sent.change;
            return None;
        }
        let lacking = table.beyond(&entries);
        if lacking.is_empty() {
            peer.knows = self.changes;
        }
        peer.lacking.join(&lacking);
        Some(entries)
    }

    /// Has sent again what was not answered.
    pub(super) fn time(&mut self, turn: &mut Turn<'_>) {
        for peer in self.peers.values_mut() {
            let due = |sent: &mut Sent| turn.now.monotonic_ms >= sent.retry_at;
            if let Some(sent) = peer.sent.take_if(due) {
                turn.shared.forget_ask(sent.number);
                peer.lacking.join(&sent.entries);
            }
        }
    }

    /// When something is to be sent again.
    pub(super) fn wake_at(&self, now_ms: u64) -> Option<u64> {
        let sent = self.peers.values().filter_map(|peer| Some(peer.sent.as_ref()?.retry_at));
        let tells = |peer: &Peer| peer.sent.is_none() && peer.digest != Some(self.digest);
        let is_paused =
            !self.is_empty && self.paused_until > now_ms && self.peers.values().any(tells);
        sent.chain(is_paused.then_some(self.paused_until)).min()
    }

    /// Whether every member in reach has the change on its disk.
    pub(super) fn all_know(&self, change: u64) -> bool {
        self.peers.values().all(|peer| peer.knows >= change)
    }

    /// How many members in reach have.
    pub(super) fn count(&self, change: u64) -> usize {
        self.peers.values().filter(|peer| peer.knows >= change).count()
    }
}
