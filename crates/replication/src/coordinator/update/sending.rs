//! Sending the delta to its owners, again where these become others, and taking their acknowledgements.

use clock::NodeId;
use ring::Sequence;
use storage::StorageError;
use values::{Delta, Scope, View};

use super::{Hint, Peer, Update, observed_owners};
use crate::{
    Body,
    latency::Work,
    message,
    turn::{Part, PartKind, Turn, Waiter},
};

impl Update {
    /// Sends the delta to every other owner, and to those that a handover is to make owners: what
    /// these have already, they need not be sent again when it ends.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>) {
        let cover_ms = u64::from(turn.shared.config.cover_ms);
        self.terms.cover_at = turn.now.monotonic_ms.saturating_add(cover_ms);
        self.send_to(self.peers.keys().copied().collect(), turn);
        if self.is_partial {
            return;
        }
        let partition = self.terms.partition;
        let Some(coming) = turn.shared.ownership.coming(partition) else { return };
        let coming: Vec<NodeId> = coming.owners(partition, self.terms.quorum.n.into()).collect();
        let is_new = |node: &NodeId| {
            *node != turn.me()
                && !self.peers.contains_key(node)
                && turn.shared.links.contains(node)
                && !turn.is_silent(*node)
        };
        let coming: Vec<NodeId> = coming.into_iter().filter(is_new).collect();
        let parts = if coming.is_empty() { Vec::new() } else { self.messages() };
        for node in coming {
            for delta in &parts {
                let delta = delta.clone();
                let body = Body::Merge { key: self.terms.key.clone(), delta, show: None };
                turn.ask(node, Waiter::Nobody, turn.shared.config.timeout_ms, body);
            }
        }
    }

    /// What is sent of the delta in one message each. Only what is removed whole can name more than
    /// an operation's own size allows.
    pub(super) fn messages(&self) -> Vec<Delta> {
        match self.operation.scope() {
            Scope::Removal => message::parts(self.delta.clone()),
            _ => vec![self.delta.clone()],
        }
    }

    pub(super) fn send_to(&mut self, mut nodes: Vec<NodeId>, turn: &mut Turn<'_>) {
        if self.is_partial {
            nodes.retain(|node| self.observation.is_known_to(*node));
            for (node, peer) in &mut self.peers {
                if !self.observation.is_known_to(*node) {
                    (peer.hint, peer.is_out) = (Hint::Absent, true);
                }
            }
        }
        if nodes.is_empty() {
            return;
        }
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        let (parts, nothing) = (self.messages(), [Delta::default()]);
        self.parts = parts.len();
        self.round += 1;
        for node in nodes {
            if !turn.shared.is_in_reach(node) {
                self.give_up(node, turn);
                continue;
            }
            let (is_silent, cover_at) = (turn.is_silent(node), turn.cover_at(node, Work::Write));
            let is_sure = !self.is_partial || self.peers.get(&node).is_some_and(|it| it.is_sure);
            let (parts, show) = if is_sure {
                (&parts[..], self.show.clone())
            } else {
                (&nothing[..], Some(self.operation.scope()))
            };
            for delta in parts {
                let key = self.terms.key.clone();
                let body = Body::Merge { key, delta: delta.clone(), show: show.clone() };
                let waiter = self.terms.waiter(self.round, node, PartKind::Ask);
                turn.ask_owner(node, waiter, budget_ms, self.terms.sequence, body);
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.parts = parts.len();
                peer.is_out = is_silent;
                peer.is_moved = false;
                (peer.round, peer.sequence) = (self.round, self.terms.sequence);
                peer.cover_at = if is_silent { turn.now.monotonic_ms } else { cover_at };
            }
        }
    }

    /// The owners are others now. What some of those before have durably they have, so it counts
    /// where they are owners still; the others are sent the delta, as are those who said so.
    pub(super) fn rerouted(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me();
        let holders: Vec<NodeId> = self.terms.holders().filter(|&node| node != me).collect();
        self.peers.retain(|node, _| holders.contains(node));
        for &node in &holders {
            self.peers.entry(node).or_insert(Peer { is_moved: true, ..Peer::UNSENT });
        }
        if self.is_sent() {
            let again = self.peers.iter().filter(|(_, peer)| peer.is_moved && !peer.acked);
            self.send_to(again.map(|(&node, _)| node).collect(), turn);
        } else {
            let needed = observed_owners(&self.operation, &self.terms);
            self.observation.rerouted(needed, &self.terms, turn);
        }
    }

    /// An owner knows of a tenure of `sequence`, later than the one by which it was sent the delta. It is
    /// sent it again once this node goes by that one: now, if it does already. What it was sent by this
    /// node's present tenure, and says this of, it is no owner for by what it knows: it would say so
    /// again.
    pub(super) fn moved(&mut self, part: Part, sequence: Sequence, turn: &mut Turn<'_>) {
        let is_sent = self.is_sent();
        let Some(peer) = self.peers.get_mut(&part.node) else { return };
        if !is_sent || part.round != peer.round || part.kind != PartKind::Ask || peer.acked {
            return;
        }
        peer.is_moved = true;
        if sequence <= self.terms.sequence && peer.sequence < self.terms.sequence {
            self.send_to(vec![part.node], turn);
        }
    }

    /// Takes that an owner has, durably, what it was sent, or why not.
    pub(super) fn acknowledged(
        &mut self,
        part: Part,
        merged: Result<Option<View>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&part.node) else { return };
        if part.round != peer.round || part.kind != PartKind::Ask {
            return;
        }
        match merged {
            Ok(shown) if self.is_partial && !peer.is_sure => self.showed(part.node, shown, turn),
            Ok(shown) => {
                peer.parts = peer.parts.saturating_sub(1);
                peer.acked = peer.parts == 0;
                if let Some(shown) = shown {
                    self.view.merge(&shown);
                }
            }
            Err(StorageError::Dropped) => self.covered_by_drop(part.node),
            Err(_) => self.give_up(part.node, turn),
        }
    }

    /// Sends a partial delta to who shows, with all of it durable, that it knows the operation. What it showed before it
    /// may have known from memory alone, and lost since: told that the operation was done, and not what it took away,
    /// it would be counted and hold that.
    fn showed(&mut self, owner: NodeId, shown: Option<View>, turn: &mut Turn<'_>) {
        if !shown.is_some_and(|view| self.knows(&view)) {
            return self.give_up(owner, turn);
        }
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.is_sure = true;
        }
        self.send_to(vec![owner], turn);
    }

    /// A node does not keep the delta for `owner` because its bucket was dropped: the owner needs
    /// none.
    pub(super) fn covered_by_drop(&mut self, owner: NodeId) {
        self.is_dropped = true;
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.is_out = true;
            if matches!(peer.hint, Hint::None | Hint::Asked { .. }) {
                peer.hint = Hint::Absent;
            }
        }
    }
}
