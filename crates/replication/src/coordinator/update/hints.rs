//! What becomes of the delta where an owner does not acknowledge it: a fallback keeps a hint, or this node.

use clock::NodeId;
use sabotage::Bug;
use storage::{Command, StorageError};

use super::{Hint, Peer, Update};
use crate::{
    Body,
    latency::Work,
    turn::{PartKind, Turn},
};

impl Update {
    /// Takes the engine's answer on what is kept for `owner`.
    pub(super) fn deferred(
        &mut self,
        owner: NodeId,
        answer: &storage::Answer,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if *answer == storage::Answer::Durable || sabotage::is(Bug::RefusedHintCounts) {
            peer.hint = Hint::Durable;
        } else if let storage::Answer::Failed(full @ StorageError::HintsFull { bytes }) = answer {
            // What another owner has comes to this one when they are compared.
            peer.hint = Hint::Absent;
            turn.shared.counters.hints_refused += 1;
            turn.shared.note_full(owner, *bytes, turn.now.monotonic_ms);
            self.full = Some(full.clone());
        } else if peer.hint != Hint::Durable {
            peer.hint = Hint::Absent;
            self.keep(owner, turn);
        }
    }

    /// Has the delta tried again that the disk refused, for this node itself or in the outbox.
    pub(super) fn keep(&self, owner: NodeId, turn: &mut Turn<'_>) {
        turn.unkept.push((owner, self.terms.key.clone(), self.delta.clone()));
    }

    /// Covers owners whose time is over, and keeps here what fallbacks did not keep in theirs.
    pub(super) fn cover_late(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        let is_late = |peer: &Peer| !peer.acked && peer.wakes_at().is_some_and(|at| at <= now_ms);
        let late = self.peers.iter().filter(|(_, peer)| is_late(peer));
        for (node, hint) in late.map(|(&node, peer)| (node, peer.hint)).collect::<Vec<_>>() {
            if hint == Hint::None {
                self.cover(node, turn);
            } else {
                self.keep_here(node, turn);
            }
        }
    }

    /// Covers an owner that will not acknowledge.
    pub(super) fn give_up(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.is_out = true;
            self.cover(owner, turn);
        }
    }

    /// An owner or fallback cannot be reached any more.
    pub(super) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.give_up(node, turn);
        let asked =
            |peer: &Peer| matches!(peer.hint, Hint::Asked { fallback, .. } if fallback == node);
        let owner = self.peers.iter().find(|(_, peer)| !peer.acked && asked(peer));
        if let Some((&owner, _)) = owner {
            self.keep_here(owner, turn);
        }
    }

    /// Ends soon: what is not kept by anyone for certain is kept here.
    pub(super) fn hurry(&mut self, turn: &mut Turn<'_>) {
        for owner in self.peers.keys().copied().collect::<Vec<_>>() {
            self.keep_here(owner, turn);
        }
    }

    /// Has the delta kept for an owner that has not acknowledged it: by the next fallback, else
    /// here.
    pub(super) fn cover(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if peer.acked || peer.hint != Hint::None {
            return;
        }
        // That it was done says nothing to who does not know it.
        if self.delta.is_empty() || self.is_partial || sabotage::is(Bug::NoHints) {
            peer.hint = Hint::Absent;
            return;
        }
        turn.shared.counters.hinted_writes += 1;
        let Some(fallback) = self.next_fallback(turn) else {
            return self.keep_here(owner, turn);
        };
        self.fallbacks.insert(fallback);
        let until = turn.cover_at(fallback, Work::Write);
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.hint = Hint::Asked { fallback, until };
        }
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        let waiter = self.terms.waiter(0, owner, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        turn.ask(fallback, waiter, budget_ms, Body::Hint { owner, key, delta });
    }

    /// The next node of the preference list that can keep a hint. None for what is too long for
    /// one message.
    pub(super) fn next_fallback(&self, turn: &Turn<'_>) -> Option<NodeId> {
        if self.parts > 1 {
            return None;
        }
        let list = turn.shared.preference_list(self.terms.partition);
        list.into_iter().skip(self.terms.owners.len()).find(|node| {
            *node != turn.me()
                && !self.terms.beside.contains(node)
                && turn.takes_charge(*node)
                && !self.fallbacks.contains(node)
        })
    }

    /// Takes a fallback's answer on what it is to keep for `owner`.
    pub(super) fn hinted(
        &mut self,
        owner: NodeId,
        hinted: &Result<(), StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        match hinted {
            Ok(()) => peer.hint = Hint::Durable,
            Err(StorageError::Dropped) => self.covered_by_drop(owner),
            Err(_) if matches!(peer.hint, Hint::Asked { .. }) => self.keep_here(owner, turn),
            Err(_) => {}
        }
    }

    /// Keeps the delta in this node's own outbox for an owner that has not acknowledged it.
    pub(super) fn keep_here(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if peer.acked || !matches!(peer.hint, Hint::None | Hint::Asked { .. }) {
            return;
        }
        if self.delta.is_empty() || self.is_partial {
            peer.hint = Hint::Absent;
            return;
        }
        turn.shared.counters.hinted_writes += u64::from(peer.hint == Hint::None);
        peer.hint = Hint::Waiting;
        turn.deferred.push(owner);
        let waiter = self.terms.waiter(0, owner, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        let durability = turn.durability(&key);
        turn.store(waiter, Command::Defer { owner, key, delta, durability });
    }
}
