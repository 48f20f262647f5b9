//! Departing: a node that holds something of a partition which it does not own sees to it that the
//! owners hold it, and drops its copy.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Ownership, Partition, Sequence};
use sabotage::Bug;
use storage::{Answer, Command};

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
    /// What is still to be compared with it, by n.
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

/// A partition that this node does not own, or not of buckets with some n.
#[derive(Debug)]
pub(super) struct Departure {
    partition: Partition,
    sequence: Sequence,
    classes: BTreeSet<u8>,
    /// Whether it owns nothing of the partition, whatever the n of its buckets.
    is_whole: bool,
    phase: Phase,
    holders: BTreeMap<NodeId, Holder>,
}

impl Departure {
    /// From keys of buckets with the n that are in `classes`; from all keys if it `is_whole`.
    pub(super) fn of(
        partition: Partition,
        sequence: Sequence,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
        is_whole: bool,
    ) -> Self {
        let mut holders = BTreeMap::<NodeId, Holder>::new();
        for &n in classes {
            for owner in owners(ownership.present(partition), partition, n) {
                holders.entry(owner).or_default().left.insert(n);
            }
        }
        Self {
            partition,
            sequence,
            classes: classes.clone(),
            is_whole,
            phase: Phase::Unknown,
            holders,
        }
    }

    #[cfg(test)]
    pub(super) const fn begin_to_drop(&mut self) {
        self.phase = Phase::Dropping;
    }

    /// Of which buckets it is to be dropped.
    pub(super) fn dropped_classes(&self) -> Option<BTreeSet<u8>> {
        (!self.is_whole).then(|| self.classes.clone())
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

    /// Does what can be done, and returns who is to be asked where it stands.
    pub(super) fn go_on(&mut self, ownership: &Ownership, turn: &mut Turn<'_>) -> BTreeSet<NodeId> {
        match self.phase {
            Phase::Unknown => {
                self.phase = Phase::Looking;
                let (partition, classes) = (self.partition, self.dropped_classes());
                let command = Command::IsEmpty { partition, classes };
                turn.store(Waiter::Departure(self.partition), command);
            }
            Phase::Comparing if sabotage::is(Bug::DroppedUnheld) => self.phase = Phase::Dropping,
            Phase::Comparing => {
                let mut left =
                    self.holders.iter().filter(|(node, _)| !ownership.is_removed(**node));
                let is_sure = !self.holders.is_empty() && left.all(|(_, holder)| holder.is_sure);
                let has_holder =
                    self.holders.iter().any(|(node, holder)| holder.is_sure && *node != turn.me());
                if is_sure && has_holder {
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
