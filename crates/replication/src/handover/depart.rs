//! Departing: a node that holds something of a partition which it does not own sees to it that the
//! owners hold it, and drops its copy.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Ownership, Partition, Sequence};
use sabotage::Bug;
use storage::{Answer, Command, KeysOf};

use super::{Stands, owners};
use crate::{
    anti_entropy::Found,
    turn::{Turn, Waiter},
};

/// An owner.
#[derive(Debug, Default)]
struct Holder {
    /// Whether it stands at the tenure, so that it knows itself for an owner.
    stands: bool,
    /// Of which it is an owner, by n, and what of it is still to be compared with it.
    classes: BTreeSet<u8>,
    left: BTreeSet<u8>,
    wanted: BTreeMap<u8, u64>,
    /// Whether it said after that, that everything it holds is durable.
    is_sure: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Whether there is anything here is to be asked.
    Unknown,
    /// The engine was asked.
    Looking,
    /// There is something: the owners are compared with.
    Comparing,
    /// The owners hold it: it is dropped, some keys at a time.
    Dropping,
    /// There was nothing, or it is dropped.
    Gone,
}

/// A partition that this node does not own: of all buckets, or of those with few owners.
#[derive(Debug)]
pub(super) struct Departure {
    /// No other departure of this core has it.
    number: u64,
    partition: Partition,
    keys: KeysOf,
    sequence: Sequence,
    classes: BTreeSet<u8>,
    phase: Phase,
    holders: BTreeMap<NodeId, Holder>,
}

impl Departure {
    pub(super) fn of(
        number: u64,
        partition: Partition,
        sequence: Sequence,
        ownership: &Ownership,
        (keys, classes): (KeysOf, BTreeSet<u8>),
    ) -> Self {
        let mut holders = BTreeMap::<NodeId, Holder>::new();
        for &n in &classes {
            for owner in owners(ownership.present(partition), partition, n) {
                let holder = holders.entry(owner).or_default();
                holder.classes.insert(n);
                holder.left.insert(n);
            }
        }
        Self { number, partition, keys, sequence, classes, phase: Phase::Unknown, holders }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Which keys of the partition go.
    pub(super) const fn keys(&self) -> KeysOf {
        self.keys
    }

    #[cfg(test)]
    pub(super) const fn begin_to_drop(&mut self) {
        self.phase = Phase::Dropping;
    }

    /// Whether what is written here now is compared before anything is dropped.
    pub(super) const fn compares(&self) -> bool {
        matches!(self.phase, Phase::Unknown | Phase::Comparing)
    }

    /// Whether nothing is compared any more.
    pub(super) fn is_dropping(&self) -> bool {
        self.phase == Phase::Dropping
    }

    /// Whom it waits for.
    pub(super) fn waits_for(&self, ownership: &Ownership) -> BTreeSet<NodeId> {
        if self.phase != Phase::Comparing {
            return BTreeSet::new();
        }
        let waits = |(node, holder): &(&NodeId, &Holder)| {
            let is_compared = holder.left.is_empty();
            (!holder.stands || is_compared) && !holder.is_sure && !ownership.is_removed(**node)
        };
        self.holders.iter().filter(waits).map(|(&node, _)| node).collect()
    }

    /// The owners that have not said that they hold all, and whether each is being compared with.
    pub(super) fn unsure(&self, ownership: &Ownership) -> Vec<(NodeId, bool)> {
        if self.phase != Phase::Comparing {
            return Vec::new();
        }
        let unsure = self.holders.iter().filter(|(_, holder)| !holder.is_sure);
        let unsure = unsure.filter(|(node, _)| !ownership.is_removed(**node));
        unsure.map(|(&node, holder)| (node, holder.stands && !holder.left.is_empty())).collect()
    }

    /// Does what can be done, and returns who is to be asked where it stands.
    pub(super) fn go_on(&mut self, ownership: &Ownership, turn: &mut Turn<'_>) -> BTreeSet<NodeId> {
        match self.phase {
            Phase::Unknown => {
                self.phase = Phase::Looking;
                let command = Command::IsEmpty { partition: self.partition, keys: self.keys };
                turn.store(Waiter::Departure(self.partition, self.number), command);
            }
            Phase::Comparing if sabotage::is(Bug::DroppedUnheld) => self.phase = Phase::Dropping,
            Phase::Comparing => {
                let left = || self.holders.iter().filter(|(node, _)| !ownership.is_removed(**node));
                let is_sure = !self.holders.is_empty() && left().all(|(_, holder)| holder.is_sure);
                // Where all owners by one n are gone this may be the last copy: those of the next tenure get it.
                let has_holder = |n: &u8| {
                    left().any(|(node, holder)| *node != turn.me() && holder.classes.contains(n))
                };
                if is_sure && self.classes.iter().all(has_holder) {
                    self.phase = Phase::Dropping;
                }
            }
            Phase::Looking | Phase::Dropping | Phase::Gone => {}
        }
        self.waits_for(ownership)
    }

    /// The engine said whether there is anything here. Returns whether the departure is over.
    pub(super) const fn looked(&mut self, answer: &Answer) -> bool {
        if let Phase::Looking = self.phase {
            self.phase = match answer {
                Answer::IsEmpty(true) => Phase::Gone,
                Answer::IsEmpty(false) => Phase::Comparing,
                // The disk failed: once more, a little later.
                _ => Phase::Unknown,
            };
        }
        matches!(self.phase, Phase::Gone)
    }

    /// The engine dropped some keys. Returns whether the departure is over. Where the disk failed the rest
    /// is dropped a little later; and where something was written here meanwhile, which is compared
    /// first, nothing is over.
    pub(super) const fn dropped(&mut self, answer: &Answer) -> bool {
        if let (Phase::Dropping, Answer::Forgotten { is_last: true, .. }) = (self.phase, answer) {
            self.phase = Phase::Gone;
        }
        matches!(self.phase, Phase::Gone)
    }

    /// A node said where it stands. Returns by which n to compare with it now.
    pub(super) fn stood(&mut self, node: NodeId, stands: Stands) -> Vec<u8> {
        let Some(holder) = self.holders.get_mut(&node) else { return Vec::new() };
        if self.phase != Phase::Comparing || stands.sequence < self.sequence {
            return Vec::new();
        }
        if holder.left.is_empty() {
            holder.is_sure = true;
            return Vec::new();
        }
        if std::mem::replace(&mut holder.stands, true) {
            return Vec::new();
        }
        holder.left.iter().copied().filter(|n| self.classes.contains(n)).collect()
    }

    /// A node cannot be reached any more: its disk may be another one when it can.
    pub(super) fn link_down(&mut self, node: NodeId) {
        if let Some(holder) = self.holders.get_mut(&node) {
            let classes = std::mem::take(&mut holder.classes);
            *holder = Holder { left: classes.clone(), classes, ..Holder::default() };
        }
    }

    pub(super) fn wanted(&mut self, node: NodeId, n: u8, number: u64) {
        if let Some(holder) = self.holders.get_mut(&node).filter(|holder| holder.left.contains(&n))
        {
            holder.wanted.insert(n, number);
        }
    }

    pub(super) fn found(&mut self, found: &Found) {
        let Some(holder) = self.holders.get_mut(&found.peer) else { return };
        if holder.wanted.get(&found.n) != Some(&found.number) {
            return;
        }
        holder.wanted.remove(&found.n);
        if found.is_equal {
            holder.left.remove(&found.n);
        }
    }

    /// Has holders asked again with which nothing is being compared.
    pub(super) fn begin_anew(&mut self) {
        for holder in self.holders.values_mut() {
            holder.stands &= !holder.wanted.is_empty();
        }
    }
}
