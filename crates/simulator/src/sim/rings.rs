//! Two rings that were founded apart under one name, and how nodes go over from one to the other with what
//! they hold, as a shell has them do it.
//!
//! A node that goes over keeps that it does (a file, in a shell), drains, and starts anew: it forgets its
//! membership and by which tenures it went, looks for the other ring, and begins a first life there with the
//! barrier. Once it has found it, and that is on disk, it is a member that joins.

use std::collections::BTreeMap;

use clock::NodeId;
use membership::{About, MemberState};
use replication::{Event, RequestError};

use super::Sim;

/// How far a process is on its way from one ring to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It belongs to its ring.
    Member,
    /// It is about to leave its ring: it takes nothing more.
    Draining,
    /// It left one, and has not found the other.
    Searching,
    /// It has found it, and has not heard what is forgotten there.
    Joining,
}

/// What a node keeps of its way to the other ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossing {
    /// Whether it is under way: its next process looks for the other ring. Lies beside its data.
    pub(super) is_merging: bool,
    /// Whether it is still to begin a life there.
    is_to_begin: bool,
    /// Whether it went over, so that a plan there is to name it.
    went_over: bool,
    /// Members of the ring that it left, as it knew them.
    pub(super) fellows: BTreeMap<NodeId, About>,
}

impl Crossing {
    /// The disk is one of another time. What an administrator has to do stays.
    pub(super) fn go_back_to(&mut self, other: Self) {
        let went_over = self.went_over;
        *self = Self { went_over, ..other };
    }
}

/// The founders of each ring: all of one, or the last `apart` of a second one.
pub(super) fn founded(ids: &[NodeId], apart: usize) -> Vec<Vec<NodeId>> {
    let (first, second) = ids.split_at(ids.len() - apart);
    [first, second].into_iter().filter(|ring| !ring.is_empty()).map(<[_]>::to_vec).collect()
}

impl Sim {
    /// The ring that a node is of: its process, or the next one.
    pub(crate) fn ring_of(&self, node: usize) -> usize {
        let Self { nodes, .. } = self;
        nodes[node].process.as_ref().map_or(nodes[node].ring, |process| process.ring)
    }

    /// Whether there were two rings once.
    pub(crate) const fn are_founded_apart(&self) -> bool {
        self.rings.len() > 1
    }

    /// The nodes that founded a ring.
    pub(super) fn founders(&self, ring: usize) -> std::ops::Range<usize> {
        let first = self.options.nodes - self.options.apart;
        if ring == 0 { 0..first } else { first..self.options.nodes }
    }

    fn way(&self, node: usize) -> Option<Way> {
        self.nodes[node].process.as_ref().map(|process| process.way)
    }

    /// Whether a node runs that does not know its cluster.
    pub(super) fn is_searching(&self, node: usize) -> bool {
        self.way(node) == Some(Way::Searching)
    }

    /// Whether a node runs and belongs to its ring, neither about to leave it nor to join it.
    pub fn is_settled(&self, node: usize) -> bool {
        self.way(node) == Some(Way::Member)
    }

    /// Why a node takes no calls, if it runs and does not.
    pub(super) fn refusal(&self, node: usize) -> Option<RequestError> {
        match self.way(node)? {
            Way::Member if self.is_open(node) => None,
            Way::Member => {
                let why = "the node has not noted yet in which life it is".to_owned();
                Some(RequestError::Unreachable(why))
            }
            Way::Draining => Some(RequestError::Stopping),
            Way::Searching | Way::Joining => {
                Some(RequestError::Unreachable("the node looks for its cluster".to_owned()))
            }
        }
    }

    /// Whether two nodes are of one ring, and both know it.
    pub(super) fn is_of_one_ring(&self, node: usize, peer: usize) -> bool {
        let is_known = !self.is_searching(node) && !self.is_searching(peer);
        is_known && self.ring_of(node) == self.ring_of(peer)
    }

    /// Whether a node that connects to another tells that its gossip. Somebody gave nodes of one ring a seed of
    /// the other; not those that know no cluster, for whom that would be the one to join.
    pub(super) fn may_meet(&self, node: usize, peer: usize) -> bool {
        let knows = |node| self.gossip(node).is_some_and(|gossip| !gossip.cluster_ids().is_empty());
        self.ring_of(node) == self.ring_of(peer) || knows(node) && knows(peer)
    }

    /// Looks whether a message that a node took comes from its own ring.
    pub(super) fn watch_rings(&mut self, from: usize, to: usize) {
        if self.ring_of(from) != self.ring_of(to) {
            let what = format!("node {to} took a message of node {from}, which is of another ring");
            self.mixed.get_or_insert(what);
        }
    }

    /// The first message of another ring that a node took, if one did.
    pub(crate) fn mixed(&self) -> Option<&str> {
        self.mixed.as_deref()
    }

    /// What shows that two rings did not refuse each other, if anything does: a message taken, or a node that
    /// counts another's among its members or owners.
    pub(crate) fn rings_mixed(&self) -> Option<String> {
        if self.mixed.is_some() {
            return self.mixed.clone();
        }
        for node in (0..self.nodes.len()).filter(|&node| !self.is_searching(node)) {
            let of_another = |id: NodeId| self.ring_of(self.number_of(id)) != self.ring_of(node);
            // Who is gone was of the one that it was of.
            let left = |id: NodeId| self.nodes[self.number_of(id)].is_gone;
            let owner = self.ownership(node).into_iter().flat_map(|it| it.members());
            let mut owners = owner.copied().filter(|&id| of_another(id) && !left(id));
            if let Some(owner) = owners.next() {
                return Some(format!("node {node} has {owner} of another ring for an owner"));
            }
            let known = self.gossip(node).into_iter().flat_map(|gossip| gossip.table().iter());
            let known = known.filter(|(_, record)| record.state() != MemberState::Expected);
            let mut known = known.map(|(id, _)| id).filter(|&id| of_another(id) && !left(id));
            if let Some(member) = known.next() {
                return Some(format!("node {node} has {member} of another ring for a member"));
            }
        }
        None
    }

    /// A node whose ring is being left knows it no more: whoever runs it has it join the other one, empty.
    pub(super) fn lose_ring(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if self.left == Some(state.ring) {
            state.ring = 1 - state.ring;
            state.joins = true;
            state.crossing.went_over = true;
            // As with `go_over`.
            (state.ills.backup, state.ills.twin) = (None, None);
        }
    }

    /// How often gossip refused another cluster.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The ring that nodes go over from, or went, if any does or did.
    pub(crate) const fn left_ring(&self) -> Option<usize> {
        self.left
    }

    /// Whether a node that runs takes another for one that is still to come over.
    pub(crate) fn expects(&self, node: usize, other: usize) -> bool {
        let known = self.gossip(node).and_then(|it| it.table().get(self.nodes[other].id));
        known.is_some_and(|record| record.state() == MemberState::Expected)
    }

    /// Whether a node of a ring does not belong to the other one yet.
    pub(crate) fn is_left_behind(&self, node: usize, ring: usize) -> bool {
        !self.is_gone(node) && self.nodes[node].ring == ring
    }

    /// Whether all members of a ring can go over: all run and reach each other, and its partitions follow its plan.
    pub(crate) fn can_merge(&self, ring: usize) -> bool {
        let nodes = || (0..self.nodes.len()).filter(|&node| self.is_left_behind(node, ring));
        let reaches = |process: &super::Process, node: usize| {
            nodes().all(|other| other == node || process.core.is_in_reach(self.nodes[other].id))
        };
        nodes().all(|node| {
            let process = self.nodes[node].process.as_ref();
            process.is_some_and(|process| {
                reaches(process, node) && process.core.ownership().is_settled()
            })
        })
    }

    /// Has a node go over to the other ring, if it reaches one of that. Returns whether it does: it has that on
    /// disk, and drains.
    pub fn go_over(&mut self, node: usize) -> bool {
        let other = 1 - self.nodes[node].ring;
        let greets = |peer: usize| {
            self.is_settled(peer)
                && self.ring_of(peer) == other
                && !self.is_apart(node, peer)
                && !self.is_apart(peer, node)
        };
        let is_there = self.is_settled(node) && self.nodes[node].paused.is_none();
        if !is_there || !(0..self.nodes.len()).any(greets) {
            return false;
        }
        self.left = Some(1 - other);
        let known = self.gossip(node).into_iter().flat_map(|gossip| gossip.table().iter());
        let fellows = known
            .filter(|(_, record)| !record.is_over())
            .map(|(id, record)| (id, record.entry.about.clone()))
            .collect();
        let state = &mut self.nodes[node];
        state.ring = other;
        // Should its disk be lost on the way.
        state.joins = true;
        state.crossing = Crossing { is_merging: true, is_to_begin: true, went_over: true, fellows };
        // Copies of a disk that knows the ring of before are thrown away.
        (state.ills.backup, state.ills.twin) = (None, None);
        if let Some(process) = &mut state.process {
            process.way = Way::Draining;
        }
        self.step(node, Event::Drain);
        true
    }

    /// Whether a node that drains has nothing left to do, as far as it reaches others.
    pub fn is_drained(&self, node: usize) -> bool {
        let Some(process) = &self.nodes[node].process else { return false };
        let keeps = |owner: &super::Node| {
            process.core.is_in_reach(owner.id) && process.engine.pending_for(owner.id) > 0
        };
        process.way == Way::Draining
            && process.core.under_way() == 0
            && process.core.is_drain_known()
            && !self.nodes.iter().any(keeps)
    }

    /// Whether a node runs that is about to leave its ring.
    pub(crate) fn is_draining(&self, node: usize) -> bool {
        self.way(node) == Some(Way::Draining)
    }

    /// Stops a node that drains and starts it again. One that is paused goes on first.
    pub fn leave_ring(&mut self, node: usize) {
        if self.is_draining(node) && self.nodes[node].paused.is_none() {
            self.restart_process(node);
        }
    }

    /// Nodes that went over and that no plan names: not yet, or not any more, where the disk of the only member that
    /// knew of one was lost. They can be named only once they belong there.
    pub(crate) fn to_own(&self) -> Vec<usize> {
        let is_named = |node: usize| {
            let state = &self.nodes[node];
            let there = (0..self.nodes.len())
                .filter(|&peer| self.is_settled(peer) && self.ring_of(peer) == state.ring);
            let mut known = there.filter_map(|peer| self.ownership(peer));
            known.any(|ownership| ownership.members().contains(&state.id))
        };
        let is_to_own = |&node: &usize| {
            self.nodes[node].crossing.went_over && !self.nodes[node].is_gone && !is_named(node)
        };
        (0..self.nodes.len()).filter(is_to_own).collect()
    }

    /// A node without gossip connects to one of its ring.
    pub(super) fn meets(&mut self, node: usize, peer: usize) {
        let is_of_it = self.ring_of(node) == self.ring_of(peer) && self.is_settled(peer);
        if self.is_searching(node) && is_of_it {
            self.has_found(node);
        }
    }

    /// A node has found its cluster, and has that on disk.
    pub(super) fn has_found(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(process) = &mut state.process else { return };
        if process.way != Way::Searching {
            return;
        }
        // What its disk says of the barrier is of the ring that it left, until it has begun a life.
        process.way = if process.hand.is_some() { Way::Joining } else { Way::Member };
        state.crossing.is_merging = process.hand.is_some();
        let ring = self.rings[process.ring].clone();
        self.step(node, Event::Ring(ring));
        for peer in 0..self.nodes.len() {
            self.links_changed(node, peer);
        }
    }

    /// A node has noted in which life it is.
    pub(super) fn has_begun(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(process) = &mut state.process else { return };
        if process.way == Way::Joining {
            process.way = Way::Member;
            (state.crossing.is_merging, state.crossing.is_to_begin) = (false, false);
        }
    }

    /// A node that went over and goes on with the life of before, if one does.
    pub fn is_in_no_life(&self) -> Option<usize> {
        let is_it = |node: &usize| {
            let state = &self.nodes[*node];
            let has_hand = state.process.as_ref().is_some_and(|process| process.hand.is_some());
            has_hand && state.crossing.is_to_begin
        };
        (0..self.nodes.len()).find(is_it)
    }
}
