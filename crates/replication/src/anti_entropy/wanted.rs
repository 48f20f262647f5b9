//! Comparisons that a handover waits for: they come before those that are only due, in the order in
//! which they were wanted, several partitions of one pair side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::NodeId;
use ring::Partition;

use super::schedule::Pair;

/// Partitions compared in one session at most. A guess: enough to share round trips, few enough that
/// another peer's turn comes.
const PARTITIONS_MAX: usize = 32;

/// What became of a comparison that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) peer: NodeId,
    pub(crate) n: u8,
    pub(crate) partition: Partition,
    /// Under which it was wanted.
    pub(crate) number: u64,
    /// Whether the two hold the same, or were brought to: all that either held when it began, both
    /// hold durably.
    pub(crate) is_equal: bool,
}

/// Which comparisons are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    order: VecDeque<Pair>,
    /// Under which numbers.
    partitions: BTreeMap<Pair, BTreeMap<Partition, u64>>,
    /// Those of the session under way, if it is of any.
    under_way: Option<(Pair, BTreeMap<Partition, u64>)>,
    found: Vec<Found>,
}

impl Wanted {
    /// Wants one more, which begins no earlier than now: one that is under way is begun once more.
    pub(super) fn want(&mut self, pair: Pair, partition: Partition, number: u64) {
        let partitions = self.partitions.entry(pair).or_insert_with(|| {
            self.order.push_back(pair);
            BTreeMap::new()
        });
        partitions.insert(partition, number);
    }

    /// What to compare next.
    pub(super) fn next(&mut self) -> Option<(Pair, Vec<Partition>)> {
        let pair = self.order.pop_front()?;
        let mut all = self.partitions.remove(&pair)?;
        let some = all.iter().take(PARTITIONS_MAX).map(|(&partition, &number)| (partition, number));
        let some: BTreeMap<Partition, u64> = some.collect();
        all.retain(|partition, _| !some.contains_key(partition));
        if !all.is_empty() {
            self.partitions.insert(pair, all);
            self.order.push_back(pair);
        }
        self.under_way = Some((pair, some.clone()));
        Some((pair, some.into_keys().collect()))
    }

    /// A session ended that found or made some partitions `equal`.
    pub(super) fn ended(&mut self, pair: Pair, equal: &BTreeSet<Partition>) {
        let Some((_, partitions)) = self.under_way.take_if(|(of, _)| *of == pair) else { return };
        let Pair { peer, n, .. } = pair;
        for (partition, number) in partitions {
            let is_equal = equal.contains(&partition);
            self.found.push(Found { peer, n, partition, number, is_equal });
        }
    }

    /// What was wanted with this peer is not to be had now.
    pub(super) fn link_down(&mut self, peer: NodeId) {
        self.order.retain(|pair| pair.peer != peer);
        let gone = self.partitions.extract_if(.., |pair, _| pair.peer == peer);
        for (pair, partitions) in gone {
            for (partition, number) in partitions {
                let n = pair.n;
                self.found.push(Found { peer, n, partition, number, is_equal: false });
            }
        }
    }

    pub(super) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }
}
