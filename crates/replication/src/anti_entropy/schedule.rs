//! Which replicas are compared next: pairs of this node and a peer, a shard's partitions that both
//! own at a time, those first that were not compared for the longest.
//!
//! Every pair is compared once in an interval, and at once when the peer comes back. What failed is
//! tried again, later each time. Nothing here is kept on disk: after a start everything is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::NodeId;
use ring::{Ownership, Partition};
use storage::{Shard, ShardSet};

use crate::turn::Shared;

/// Pause before what failed or could not be finished is compared again, in milliseconds: doubled
/// each time, up to the maximum. Guesses: a sweep of a large collection takes seconds.
const RETRY_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 60_000;

/// What is compared in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) peer: NodeId,
    /// Keys of buckets with this n.
    pub(super) n: u8,
    pub(super) shard: Shard,
}

/// How a pair stands.
#[derive(Debug)]
struct Standing {
    /// The partitions that both own, and when the last comparison of each that came to its end was begun.
    partitions: BTreeMap<Partition, Option<u64>>,
    due_ms: u64,
    /// What was compared before this makes the pair no less due.
    since_ms: u64,
    retry_ms: u64,
    /// Where it stands among those that were never compared.
    lot: u64,
}

impl Standing {
    /// Of a pair that was not compared yet.
    fn new(pair: Pair, seed: u64, interval_ms: Option<u64>, now_ms: u64) -> Self {
        let Pair { peer, n, shard } = pair;
        let lot = mix(seed ^ mix(peer.0 ^ u64::from(n) << 32) ^ u64::from(shard.0));
        let due_ms = interval_ms
            .map_or(u64::MAX, |interval_ms| now_ms.saturating_add(lot % interval_ms.max(1)));
        Self { partitions: BTreeMap::new(), due_ms, since_ms: 0, retry_ms: RETRY_MS, lot }
    }

    fn compared_ms(&self) -> Option<u64> {
        self.partitions.values().copied().min().flatten()
    }
}

/// When a partition was last found equal at this node and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// Which partition.
    pub partition: Partition,
    /// Keys of buckets with this n.
    pub n: u8,
    /// The other owner.
    pub peer: NodeId,
    /// How long ago the two last held the same, or began to be brought to: every key that differed was
    /// exchanged. In milliseconds; `None` if not since this node's start.
    pub equal_ms_ago: Option<u64>,
}

/// How long ago this node's partitions were found equal with other owners, in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComparisonSummary {
    /// Pairs of a partition and another owner of it.
    pub pairs: u64,
    /// Those of them that were not found equal since the start.
    pub never: u64,
    /// Of the others, how long ago that was which is the longest ago, in milliseconds.
    pub oldest_ms: u64,
}

impl ComparisonSummary {
    /// Of the pairs of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            pairs: self.pairs + other.pairs,
            never: self.never + other.never,
            oldest_ms: self.oldest_ms.max(other.oldest_ms),
        }
    }
}

/// All pairs, and when each is due.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ms: Option<u64>,
    shards: ShardSet,
    seed: u64,
    pairs: BTreeMap<Pair, Standing>,
    /// The ownership and the classes for which `pairs` was made.
    made_for: Option<(Arc<Ownership>, BTreeSet<u8>)>,
}

impl Pair {
    /// What is compared of a partition.
    pub(super) fn of(peer: NodeId, n: u8, partition: Partition, shards: &ShardSet) -> Self {
        Self { peer, n, shard: shards.shards().of_partition(partition) }
    }
}

impl Schedule {
    pub(super) const fn new(interval_ms: Option<u64>, shards: ShardSet, seed: u64) -> Self {
        Self { interval_ms, shards, seed, pairs: BTreeMap::new(), made_for: None }
    }

    /// Takes note of who owns what, where that changed: a handover changes a few partitions at a time.
    pub(super) fn refresh(&mut self, shared: &Shared, now_ms: u64) {
        let made_for = (Arc::clone(&shared.ownership), shared.buckets.classes());
        if let Some((ownership, classes)) = &self.made_for
            && Arc::ptr_eq(ownership, &made_for.0)
            && *classes == made_for.1
        {
            return;
        }
        let before = self.made_for.take();
        let (ownership, classes) = &made_for;
        let me = shared.config.node;
        for partition in ownership.partition_count().iter() {
            let shard = self.shards.shards().of_partition(partition);
            let is_as_before = |(before, had): &(Arc<Ownership>, BTreeSet<u8>)| {
                had == classes && before.tenure(partition) == ownership.tenure(partition)
            };
            if !self.shards.contains(shard) || before.as_ref().is_some_and(is_as_before) {
                continue;
            }
            let pairs =
                |ownership: &Ownership, classes| pairs(ownership, classes, partition, shard, me);
            let had = before
                .as_ref()
                .map_or_else(BTreeSet::new, |(ownership, classes)| pairs(ownership, classes));
            let has = pairs(ownership, classes);
            for pair in had.difference(&has) {
                if let Some(standing) = self.pairs.get_mut(pair) {
                    standing.partitions.remove(&partition);
                }
            }
            for &pair in has.difference(&had) {
                let (seed, interval_ms) = (self.seed, self.interval_ms);
                let begin = || Standing::new(pair, seed, interval_ms, now_ms);
                let standing = self.pairs.entry(pair).or_insert_with(begin);
                standing.partitions.insert(partition, None);
            }
        }
        self.pairs.retain(|_, standing| !standing.partitions.is_empty());
        self.made_for = Some(made_for);
    }

    /// A peer can be reached again: it may have missed anything, or start empty.
    pub(super) fn peer_is_back(&mut self, peer: NodeId, now_ms: u64) {
        if self.interval_ms.is_none() {
            return;
        }
        for (_, standing) in self.pairs.iter_mut().filter(|(pair, _)| pair.peer == peer) {
            (standing.due_ms, standing.retry_ms) = (standing.due_ms.min(now_ms), RETRY_MS);
            standing.since_ms = now_ms;
        }
    }

    /// The pair to compare now, among those with peers that `is_in_reach`.
    pub(super) fn next(&self, now_ms: u64, is_in_reach: impl Fn(NodeId) -> bool) -> Option<Pair> {
        let due = self
            .pairs
            .iter()
            .filter(|(pair, standing)| standing.due_ms <= now_ms && is_in_reach(pair.peer));
        due.min_by_key(|(_, standing)| (standing.compared_ms(), standing.lot))
            .map(|(pair, _)| *pair)
    }

    /// When [`next`](Self::next) has one at the latest, as far as time alone decides.
    pub(super) fn next_due_ms(&self, is_in_reach: impl Fn(NodeId) -> bool) -> Option<u64> {
        let due = self.pairs.iter().filter(|(pair, _)| is_in_reach(pair.peer));
        due.map(|(_, standing)| standing.due_ms).filter(|&due_ms| due_ms < u64::MAX).min()
    }

    /// The partitions of a pair.
    pub(super) fn partitions(&self, pair: Pair) -> Vec<Partition> {
        let standing = self.pairs.get(&pair);
        standing.map_or_else(Vec::new, |standing| standing.partitions.keys().copied().collect())
    }

    /// Takes note that a comparison begun at `began_ms` found partitions of a pair equal. Once all of them were since
    /// the pair was put off last, and since its peer came back, it is put off: until an interval after the
    /// first of them.
    pub(super) fn compared(
        &mut self,
        pair: Pair,
        partitions: impl IntoIterator<Item = Partition>,
        began_ms: u64,
        now_ms: u64,
    ) {
        let Some(standing) = self.pairs.get_mut(&pair) else { return };
        for partition in partitions {
            if let Some(compared_ms) = standing.partitions.get_mut(&partition) {
                // The peer may have begun a later one.
                *compared_ms = (*compared_ms).max(Some(began_ms));
            }
        }
        let Some(first_ms) = standing.compared_ms() else { return };
        if first_ms < standing.since_ms {
            return;
        }
        (standing.retry_ms, standing.since_ms) = (RETRY_MS, now_ms);
        standing.due_ms = self.interval_ms.map_or(u64::MAX, |interval_ms| {
            // Spread, so that what fell due together at a start does not for ever.
            let early = mix(standing.lot ^ now_ms) % (interval_ms / 4 + 1);
            first_ms.saturating_add(interval_ms - early)
        });
    }

    /// A pair was not found equal in all of the partitions that it has: it is compared again, later each
    /// time.
    pub(super) fn failed(&mut self, pair: Pair, now_ms: u64) {
        let Some(standing) = self.pairs.get_mut(&pair) else { return };
        (standing.due_ms, standing.since_ms) = (now_ms.saturating_add(standing.retry_ms), now_ms);
        standing.retry_ms = standing.retry_ms.saturating_mul(2).min(RETRY_MAX_MS);
    }

    /// Whether `partitions` are all of a pair.
    pub(super) fn are_all(&self, pair: Pair, partitions: &BTreeSet<Partition>) -> bool {
        let standing = self.pairs.get(&pair);
        standing.is_some_and(|standing| {
            standing.partitions.keys().all(|partition| partitions.contains(partition))
        })
    }

    /// The peer compares partitions of this pair itself: if these are all of it, it need not be done
    /// twice.
    pub(super) fn is_done_by_peer(&mut self, pair: Pair, partitions: &[Partition], now_ms: u64) {
        let Some(standing) = self.pairs.get_mut(&pair) else { return };
        // They come in order.
        let are_all =
            standing.partitions.keys().all(|partition| partitions.binary_search(partition).is_ok());
        if are_all && standing.due_ms < u64::MAX {
            standing.due_ms = standing.due_ms.max(now_ms.saturating_add(RETRY_MAX_MS / 4));
        }
    }

    /// Makes pairs due that no comparison begun since `since_ms` found equal. Returns how many pairs of a partition
    /// and a peer `is_meant` names, and how many of them one did.
    pub(super) fn demand(
        &mut self,
        since_ms: u64,
        is_meant: impl Fn(Pair, Partition) -> bool,
    ) -> (u64, u64) {
        let (mut all, mut done) = (0, 0);
        for (&pair, standing) in &mut self.pairs {
            let meant = standing.partitions.iter().filter(|(at, _)| is_meant(pair, **at));
            let (mut missing, before) = (0, all);
            for (_, compared_ms) in meant {
                all += 1;
                missing += u64::from(compared_ms.is_none_or(|at| at < since_ms));
            }
            done += all - before - missing;
            if missing > 0 {
                standing.since_ms = standing.since_ms.max(since_ms);
            }
            // What failed since then waits for its next try.
            if missing > 0 && standing.due_ms > since_ms && standing.retry_ms == RETRY_MS {
                standing.due_ms = since_ms;
            }
        }
        (all, done)
    }

    /// How long ago what was compared was found equal.
    pub(super) fn summary(&self, now_ms: u64) -> ComparisonSummary {
        let mut summary = ComparisonSummary::default();
        let compared = self.pairs.values().flat_map(|standing| standing.partitions.values());
        for compared_ms in compared {
            summary.pairs += 1;
            match compared_ms {
                Some(at) => summary.oldest_ms = summary.oldest_ms.max(now_ms.saturating_sub(*at)),
                None => summary.never += 1,
            }
        }
        summary
    }

    /// When each partition was last found equal, by partition.
    pub(super) fn comparisons(&self, now_ms: u64) -> Vec<Comparison> {
        let mut comparisons: Vec<_> = self
            .pairs
            .iter()
            .flat_map(|(pair, standing)| {
                standing.partitions.iter().map(move |(&partition, compared_ms)| Comparison {
                    partition,
                    n: pair.n,
                    peer: pair.peer,
                    equal_ms_ago: compared_ms.map(|at| now_ms.saturating_sub(at)),
                })
            })
            .collect();
        comparisons.sort_unstable_by_key(|found| (found.partition, found.n, found.peer));
        comparisons
    }
}

/// This node with every other owner of a partition, by the n of buckets.
fn pairs(
    ownership: &Ownership,
    classes: &BTreeSet<u8>,
    partition: Partition,
    shard: Shard,
    me: NodeId,
) -> BTreeSet<Pair> {
    let mut pairs = BTreeSet::new();
    for &n in classes {
        let owners = || ownership.present(partition).owners(partition, usize::from(n));
        if owners().any(|owner| owner == me) {
            let peers = owners().filter(|&peer| peer != me);
            pairs.extend(peers.map(|peer| Pair { peer, n, shard }));
        }
    }
    pairs
}

/// Spreads numbers evenly (the finalizer of splitmix64).
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use ring::{Member, PartitionCount, Ring, Stage};
    use storage::Shards;

    use super::*;
    use crate::core::tests::config;

    /// Of one pair with two partitions, compared once in ten seconds.
    fn schedule() -> (Schedule, Pair) {
        let count = PartitionCount::new(2).unwrap();
        let mut schedule = Schedule::new(Some(10_000), ShardSet::all(Shards::new(count, 1)), 1);
        let pair = Pair { peer: NodeId(2), n: 3, shard: Shard(0) };
        let partitions = [0, 1].map(|at| (Partition(at), None)).into();
        let (due_ms, since_ms, retry_ms, lot) = (0, 0, RETRY_MS, 7);
        schedule.pairs.insert(pair, Standing { partitions, due_ms, since_ms, retry_ms, lot });
        (schedule, pair)
    }

    #[test]
    fn a_pair_is_put_off_once_all_of_its_partitions_were_compared() {
        let (mut schedule, pair) = schedule();
        let due_ms = |schedule: &Schedule| schedule.pairs[&pair].due_ms;
        let compared = |schedule: &mut Schedule, partitions: &[u32], at| {
            let partitions = partitions.iter().copied().map(Partition);
            schedule.compared(pair, partitions, at, at);
        };
        compared(&mut schedule, &[0], 1_000);
        assert_eq!(due_ms(&schedule), 0, "a handover compared one of them");
        compared(&mut schedule, &[1], 2_000);
        let soon = due_ms(&schedule);
        assert!((8_500..=11_000).contains(&soon), "an interval after the first: {soon}");
        compared(&mut schedule, &[1], 9_000);
        assert_eq!(due_ms(&schedule), soon, "the other is no younger for it");
        schedule.peer_is_back(pair.peer, 9_500);
        assert_eq!(due_ms(&schedule), soon.min(9_500));
        compared(&mut schedule, &[0], 9_600);
        assert_eq!(due_ms(&schedule), soon.min(9_500), "what it missed in the other is not known");
        compared(&mut schedule, &[0, 1], 9_700);
        assert!(due_ms(&schedule) > 17_000);
    }

    #[test]
    fn what_is_asked_for_while_a_pair_is_compared_is_compared_once_more() {
        let (mut schedule, pair) = schedule();
        let all = || [0, 1].map(Partition);
        let demand = |schedule: &mut Schedule| schedule.demand(1_500, |_, _| true);
        assert_eq!(demand(&mut schedule), (2, 0));
        schedule.compared(pair, all(), 1_000, 2_000);
        assert_eq!((demand(&mut schedule), schedule.pairs[&pair].due_ms), ((2, 0), 0));
        // The peer found it equal meanwhile.
        schedule.compared(pair, all(), 2_500, 2_500);
        schedule.compared(pair, [Partition(0)], 2_000, 3_000);
        assert_eq!(schedule.pairs[&pair].compared_ms(), Some(2_500));
        assert_eq!(demand(&mut schedule), (2, 2));
        assert!(schedule.pairs[&pair].due_ms > 10_000, "it is put off");
    }

    /// What a pair compares, and when that was compared last.
    fn partitions(schedule: &Schedule) -> BTreeMap<Pair, BTreeMap<Partition, Option<u64>>> {
        schedule.pairs.iter().map(|(&pair, it)| (pair, it.partitions.clone())).collect()
    }

    #[test]
    fn what_a_handover_leaves_where_it_is_stays_compared() {
        let members = |nodes| (1..=nodes).map(|id| Member::new(NodeId(id))).collect::<Vec<_>>();
        let ring = Ring::place(&members(3), PartitionCount::new(16).unwrap(), 3, None).unwrap();
        let mut ownership = Ownership::new(ring.ring);
        let plan = ownership.commit(&members(5), 3, &[]).unwrap();
        let (from, to) = (ownership.target().id(), plan.id());
        let mut shared = Shared::new(config(), Arc::new(ownership.clone()));
        let shards = || shared.config.shards.clone();
        let mut schedule = Schedule::new(Some(10_000), shards(), 1);
        let mut anew = Schedule::new(Some(10_000), shards(), 1);
        schedule.refresh(&shared, 0);
        let all: Vec<Pair> = schedule.pairs.keys().copied().collect();
        for pair in all {
            schedule.compared(pair, schedule.partitions(pair), 700, 700);
        }
        let before = partitions(&schedule);
        assert!(before.values().flatten().all(|(_, compared_ms)| *compared_ms == Some(700)));

        ownership.add_plan(plan);
        for stage in [Stage::Joint { from, to }, Stage::Shifted { from, to }] {
            for partition in ownership.partition_count().iter().filter(|at| at.0 % 2 == 0) {
                let by = ownership.driver(partition).unwrap();
                let tenure = ownership.next_tenure(partition, by, stage).unwrap();
                ownership.add_tenures([(partition, tenure)]);
            }
            shared.ownership = Arc::new(ownership.clone());
            schedule.refresh(&shared, 800);
        }
        anew.refresh(&shared, 800);
        let (after, anew) = (partitions(&schedule), partitions(&anew));
        assert_ne!(after, before);
        let pairs = |of: &BTreeMap<Pair, BTreeMap<Partition, Option<u64>>>| -> Vec<_> {
            let each = of.iter().map(|(&pair, at)| (pair, at.keys().copied().collect::<Vec<_>>()));
            each.collect()
        };
        assert_eq!(pairs(&after), pairs(&anew), "as if it had been made for this ownership");
        for (pair, at) in &after {
            for (partition, compared_ms) in at {
                let was = before.get(pair).and_then(|at| at.get(partition)).copied().flatten();
                assert_eq!(*compared_ms, was, "{pair:?} {partition:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_compares_some_partitions_does_not_put_the_pair_off() {
        let (mut schedule, pair) = schedule();
        schedule.is_done_by_peer(pair, &[Partition(1)], 1_000);
        assert_eq!(schedule.pairs[&pair].due_ms, 0);
        schedule.is_done_by_peer(pair, &[Partition(0), Partition(1)], 1_000);
        assert_eq!(schedule.pairs[&pair].due_ms, 16_000);
    }
}
