//! Driving a partition from stage to stage: the one node that decides, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Ownership, Partition, PlanId, Ring, Sequence, Stage, Tenure};

use super::{Stands, WaitReason, owners, receivers};
use crate::Classes;

/// After so long in the joint stage a partition goes back to its owners, so that a receiver that does
/// not answer is not needed for their writes, in milliseconds. A guess.
const JOINT_MAX_MS: u64 = 30_000;
/// So long after that it is not tried again, in milliseconds. A guess.
const REST_MS: u64 = 30_000;

/// A partition that this node drives.
#[derive(Debug, Default)]
pub(super) struct Drive {
    stands: BTreeMap<NodeId, Stands>,
    /// The tenure decided last: until it is durable nothing else is.
    decided: Option<Tenure>,
    tenure: Option<Tenure>,
    /// Since when it has that tenure.
    since_ms: u64,
    /// Until when it rests after it went back.
    rests_until: u64,
}

/// Owners by one ring, of buckets with any n, that are not gone for good.
fn remaining_owners(
    ring: &Ring,
    partition: Partition,
    ownership: &Ownership,
    classes: &BTreeSet<u8>,
) -> BTreeSet<NodeId> {
    let n = classes.last().copied().unwrap_or_default();
    let all = ring.owners(partition, usize::from(n));
    all.filter(|&node| !ownership.is_removed(node)).collect()
}

/// Who is to be sent keys of any bucket.
fn all_receivers(
    from: &Ring,
    to: &Ring,
    partition: Partition,
    classes: &BTreeSet<u8>,
) -> BTreeSet<NodeId> {
    classes.iter().flat_map(|&n| receivers(from, to, partition, n)).collect()
}

/// Whether a partition's data is where it is to be: every n has the same owners.
fn is_same(from: &Ring, to: &Ring, partition: Partition, classes: &BTreeSet<u8>) -> bool {
    classes.iter().all(|&n| owners(from, partition, n) == owners(to, partition, n))
}

impl Drive {
    /// Takes note of the partition's tenure.
    pub(super) fn look(&mut self, tenure: Tenure, now_ms: u64) {
        if self.tenure != Some(tenure) {
            (self.tenure, self.since_ms) = (Some(tenure), now_ms);
        }
        if self.decided.is_some_and(|decided| decided.sequence <= tenure.sequence) {
            self.decided = None;
        }
    }

    /// Whether it is past the first stage.
    pub(super) fn is_begun(&self) -> bool {
        let tenure = self.decided.or(self.tenure);
        tenure.is_some_and(|tenure| !matches!(tenure.stage, Stage::Steady { .. }))
    }

    pub(super) fn stood(&mut self, node: NodeId, stands: Stands) {
        self.stands.insert(node, stands);
    }

    /// A node cannot be reached any more: its disk may be another one when it can.
    pub(super) fn link_down(&mut self, node: NodeId) {
        self.stands.remove(&node);
    }

    #[cfg(test)]
    pub(super) fn has_heard_of(&self, node: NodeId) -> bool {
        self.stands.contains_key(&node)
    }

    pub(super) const fn decided(&mut self, tenure: Tenure) {
        self.decided = Some(tenure);
    }

    fn stands_at(&self, node: NodeId, sequence: Sequence) -> bool {
        self.stands.get(&node).is_some_and(|stands| stands.sequence >= sequence)
    }

    /// Whether a receiver has been sent the keys of all buckets that this node knows of.
    fn is_ready(&self, node: NodeId, goal: (Sequence, PlanId), classes: &BTreeSet<u8>) -> bool {
        let is_it = |stands: &Stands| {
            stands.ready == Some(goal) && stands.classes.have(Classes::of(classes))
        };
        self.stands.get(&node).is_some_and(is_it)
    }

    /// Whether it is not tried again yet.
    pub(super) const fn rests(&self, now_ms: u64) -> bool {
        now_ms < self.rests_until
    }

    /// Whom the next stage waits for.
    pub(super) fn waits_for(
        &self,
        partition: Partition,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
    ) -> BTreeSet<NodeId> {
        self.waits(partition, ownership, classes).into_keys().collect()
    }

    /// The same, and what for: that a receiver has all, or that a former owner stands at the tenure.
    pub(super) fn waits(
        &self,
        partition: Partition,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
    ) -> BTreeMap<NodeId, WaitReason> {
        let Tenure { sequence, stage, .. } = ownership.tenure(partition);
        let (from, to) = (ownership.leaving(partition), ownership.entering(partition));
        let unready = |goal| {
            let mut receivers = all_receivers(from, to, partition, classes);
            receivers.retain(|&node| !self.is_ready(node, (sequence, goal), classes));
            receivers.into_iter().map(|node| (node, WaitReason::Receiver))
        };
        let elsewhere = || {
            let mut former = remaining_owners(from, partition, ownership, classes);
            former.retain(|&node| !self.stands_at(node, sequence));
            former.into_iter().map(|node| (node, WaitReason::Unheard))
        };
        match stage {
            Stage::Steady { .. } => unready(ownership.target().id()).collect(),
            Stage::Joint { to, .. } => elsewhere().chain(unready(to)).collect(),
            Stage::Shifted { .. } => elsewhere().collect(),
        }
    }

    /// The stage that may follow now, if one may.
    pub(super) fn next(
        &mut self,
        partition: Partition,
        me: NodeId,
        now_ms: u64,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
    ) -> Option<Stage> {
        if self.decided.is_some() {
            return None;
        }
        let Tenure { sequence, by, stage } = ownership.tenure(partition);
        let (from, to) = (ownership.leaving(partition), ownership.entering(partition));
        let receivers = || all_receivers(from, to, partition, classes);
        let target = ownership.target().id();
        match stage {
            Stage::Steady { plan } if plan == target => None,
            Stage::Steady { .. } if is_same(from, to, partition, classes) => {
                Some(Stage::Steady { plan: target })
            }
            Stage::Steady { plan } => {
                let goal = (sequence, target);
                let are_ready =
                    || receivers().iter().all(|&node| self.is_ready(node, goal, classes));
                let begins = now_ms >= self.rests_until && are_ready();
                begins.then_some(Stage::Joint { from: plan, to: target })
            }
            Stage::Joint { from: before, to: after } => {
                let all_stand =
                    |nodes: &BTreeSet<NodeId>| nodes.iter().all(|&n| self.stands_at(n, sequence));
                let former = remaining_owners(from, partition, ownership, classes);
                let receivers = receivers();
                let has_lost = receivers.iter().any(|&node| ownership.is_removed(node));
                let goal = (sequence, after);
                let are_ready = receivers.iter().all(|&node| self.is_ready(node, goal, classes));
                if are_ready && !has_lost && all_stand(&former) {
                    return Some(Stage::Shifted { from: before, to: after });
                }
                let is_over = now_ms.saturating_sub(self.since_ms) >= JOINT_MAX_MS;
                if !is_over && !has_lost {
                    return None;
                }
                // One in the place of another cannot know whether that one went further, unless
                // everybody is past what it did.
                if by != me {
                    return Some(stage);
                }
                let is_first = ownership.leaving(partition).owner(partition) == me;
                if is_first
                    || all_stand(&former)
                        && all_stand(&remaining_owners(to, partition, ownership, classes))
                {
                    self.rests_until = now_ms.saturating_add(REST_MS);
                    return Some(Stage::Steady { plan: before });
                }
                None
            }
            Stage::Shifted { to, .. } => {
                let former = remaining_owners(from, partition, ownership, classes);
                let all_stand = former.iter().all(|&node| self.stands_at(node, sequence));
                all_stand.then_some(Stage::Steady { plan: to })
            }
        }
    }
}
