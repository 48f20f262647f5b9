//! Receiving a partition: comparing with every present owner, until found equal with each once.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Ownership, Partition, PlanId, Sequence};

use super::{Stands, owners, receivers};
use crate::{Classes, anti_entropy::Found};

/// A present owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    /// Whether it stands at the tenure: from then on nothing is acknowledged by an earlier one.
    stands: bool,
    /// What is compared with it, by n, and what of it is left.
    classes: BTreeSet<u8>,
    left: BTreeSet<u8>,
    /// Comparisons wanted since it stands there, by n.
    wanted: BTreeMap<u8, u64>,
}

/// A partition that this node is to own.
#[derive(Debug)]
pub(super) struct Pull {
    goal: (Sequence, PlanId),
    sources: BTreeMap<NodeId, Source>,
    /// How many keys are still to be brought, by n, as far as that was counted: for an administrator only.
    missing: BTreeMap<u8, u64>,
}

impl Pull {
    /// What `me` has to receive of a partition so that it can be owned by the plan of `goal`; `None` if
    /// it has nothing to receive.
    pub(super) fn of(
        partition: Partition,
        goal: (Sequence, PlanId),
        me: NodeId,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
    ) -> Option<Self> {
        let (from, to) = (ownership.leaving(partition), ownership.entering(partition));
        let mut sources = BTreeMap::<NodeId, Source>::new();
        let mut is_receiver = false;
        for &n in classes {
            if !receivers(from, to, partition, n).contains(&me) {
                continue;
            }
            is_receiver = true;
            for source in owners(from, partition, n).into_iter().filter(|&node| node != me) {
                let source = sources.entry(source).or_default();
                source.classes.insert(n);
                source.left.insert(n);
            }
        }
        is_receiver.then_some(Self { goal, sources, missing: BTreeMap::new() })
    }

    /// Goes on with what `other`, which has the same goal, begins: what was compared is, and what buckets
    /// of another n were created since is left.
    pub(super) fn extend_to(&mut self, other: Self) {
        let mut before = std::mem::replace(&mut self.sources, other.sources);
        for (node, source) in &mut self.sources {
            let Some(had) = before.remove(node) else { continue };
            source.left.retain(|n| had.left.contains(n) || !had.classes.contains(n));
            source.stands = had.stands;
            source.wanted = had.wanted;
        }
    }

    /// Comes after `had`, which was for another stage of the same plan: what that one brought is here.
    pub(super) fn follow(&mut self, had: &Self) {
        self.missing = had.classes().filter_map(|n| Some((n, had.missing_of(n)?))).collect();
    }

    /// The n by which something is compared.
    fn classes(&self) -> impl Iterator<Item = u8> + '_ {
        let all = self.sources.values().flat_map(|source| &source.classes);
        all.copied().collect::<BTreeSet<u8>>().into_iter()
    }

    /// How many keys by this n are still to be brought. Nothing, once one owner was found equal: the others have hardly
    /// more.
    fn missing_of(&self, n: u8) -> Option<u64> {
        let is_equal = |source: &Source| source.classes.contains(&n) && !source.left.contains(&n);
        match self.sources.values().any(is_equal) {
            true => Some(0),
            false => self.missing.get(&n).copied(),
        }
    }

    /// How many keys are still to be brought of what was counted, and how many n were not.
    pub(super) fn keys_left(&self) -> (u64, u64) {
        let of_each = self.classes().map(|n| self.missing_of(n));
        of_each.fold((0, 0), |(keys, unknown), missing| match missing {
            Some(missing) => (keys + missing, unknown),
            None => (keys, unknown + 1),
        })
    }

    /// So many keys by this n are at an owner and not here. Returns whether it is the first count.
    pub(super) fn counted(&mut self, n: u8, missing: u64) -> bool {
        let is_first = self.missing_of(n).is_none();
        self.missing.insert(n, missing);
        is_first
    }

    /// A key by this n was brought.
    pub(super) fn pulled(&mut self, n: u8) {
        if let Some(missing) = self.missing.get_mut(&n) {
            *missing = missing.saturating_sub(1);
        }
    }

    /// The present owners with which something is still to be found equal, and whether each stands at the tenure.
    pub(super) fn left(&self, ownership: &Ownership) -> Vec<(NodeId, bool)> {
        let left = self.sources.iter().filter(|(_, source)| !source.left.is_empty());
        let left = left.filter(|(node, _)| !ownership.is_removed(**node));
        left.map(|(&node, source)| (node, source.stands)).collect()
    }

    pub(super) const fn goal(&self) -> (Sequence, PlanId) {
        self.goal
    }

    /// Whether something is being compared.
    pub(super) fn is_under_way(&self) -> bool {
        self.sources.values().any(|source| source.stands && !source.left.is_empty())
    }

    /// Whether all that every present owner held when it came to stand at the tenure is here. Those gone
    /// for good are not waited for.
    pub(super) fn is_ready(&self, ownership: &Ownership) -> bool {
        let is_done = |(&node, source): (&NodeId, &Source)| {
            source.left.is_empty() || ownership.is_removed(node)
        };
        self.sources.iter().all(is_done)
    }

    /// Whom it waits for to come to stand at the tenure.
    pub(super) fn waits_for(&self, ownership: &Ownership) -> BTreeSet<NodeId> {
        let waits = |(node, source): &(&NodeId, &Source)| {
            !source.stands && !source.left.is_empty() && !ownership.is_removed(**node)
        };
        self.sources.iter().filter(waits).map(|(&node, _)| node).collect()
    }

    /// A node said where it stands. Returns by which n to compare with it now. What it may hold of a bucket
    /// that is not among the `known` ones is compared once it is.
    pub(super) fn stood(&mut self, node: NodeId, stands: Stands, known: Classes) -> Vec<u8> {
        let Some(source) = self.sources.get_mut(&node) else { return Vec::new() };
        if source.stands || stands.sequence < self.goal.0 || !known.have(stands.classes) {
            return Vec::new();
        }
        source.stands = true;
        source.left.iter().copied().collect()
    }

    pub(super) fn wanted(&mut self, node: NodeId, n: u8, number: u64) {
        if let Some(source) = self.sources.get_mut(&node).filter(|source| source.left.contains(&n))
        {
            source.wanted.insert(n, number);
        }
    }

    pub(super) fn found(&mut self, found: &Found) {
        let Some(source) = self.sources.get_mut(&found.peer) else { return };
        if source.wanted.get(&found.n) != Some(&found.number) {
            return;
        }
        source.wanted.remove(&found.n);
        if found.is_equal {
            source.left.remove(&found.n);
        }
    }

    /// Has sources asked again with which nothing is being compared.
    pub(super) fn begin_anew(&mut self) {
        for source in self.sources.values_mut() {
            source.stands &= !source.wanted.is_empty();
        }
    }
}
