//! Comparisons that a handover waits for: they come before those that are only due, those first that
//! are urgent, else in the order in which they were wanted, several partitions of one pair side by side.

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

/// Comparisons that wait, in the order in which they were wanted.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Pair>,
    /// Under which numbers.
    partitions: BTreeMap<Pair, BTreeMap<Partition, u64>>,
}

impl Queue {
    fn push(&mut self, pair: Pair, partition: Partition, number: u64) {
        let partitions = self.partitions.entry(pair).or_insert_with(|| {
            self.order.push_back(pair);
            BTreeMap::new()
        });
        partitions.insert(partition, number);
    }

    fn remove(&mut self, pair: Pair, partition: Partition) {
        let Some(partitions) = self.partitions.get_mut(&pair) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.partitions.remove(&pair);
            self.order.retain(|of| *of != pair);
        }
    }

    fn pop(&mut self) -> Option<(Pair, BTreeMap<Partition, u64>)> {
        let pair = self.order.pop_front()?;
        let mut some = self.partitions.remove(&pair)?;
        if let Some(&rest) = some.keys().nth(PARTITIONS_MAX) {
            self.partitions.insert(pair, some.split_off(&rest));
            self.order.push_back(pair);
        }
        Some((pair, some))
    }

    fn remove_peer(&mut self, peer: NodeId) -> BTreeMap<Pair, BTreeMap<Partition, u64>> {
        self.order.retain(|pair| pair.peer != peer);
        self.partitions.extract_if(.., |pair, _| pair.peer == peer).collect()
    }
}

/// Which comparisons are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Those that writes, or copies that nobody is to have, wait for: they come first.
    urgent: Queue,
    later: Queue,
    /// Those of the session under way, if it is of any, and whether they are urgent.
    under_way: Option<(Pair, BTreeMap<Partition, u64>, bool)>,
    found: Vec<Found>,
}

impl Wanted {
    /// Wants one more, which begins no earlier than now: one that is under way is begun once more.
    pub(super) fn want(&mut self, pair: Pair, partition: Partition, number: u64, is_urgent: bool) {
        // What it was wanted for before is not waited for any more.
        self.urgent.remove(pair, partition);
        self.later.remove(pair, partition);
        let queue = if is_urgent { &mut self.urgent } else { &mut self.later };
        queue.push(pair, partition, number);
    }

    /// What to compare next.
    pub(super) fn next(&mut self) -> Option<(Pair, Vec<Partition>)> {
        let urgent = self.urgent.pop().map(|next| (next, true));
        let ((pair, some), is_urgent) =
            urgent.or_else(|| self.later.pop().map(|next| (next, false)))?;
        self.under_way = Some((pair, some.clone(), is_urgent));
        Some((pair, some.into_keys().collect()))
    }

    /// Whether something waits that the session under way is to make room for.
    pub(super) fn is_waiting(&self) -> bool {
        let is_urgent = self.under_way.as_ref().is_some_and(|(.., is_urgent)| *is_urgent);
        !self.urgent.order.is_empty() || !is_urgent && !self.later.order.is_empty()
    }

    /// A session ended that found or made some partitions `equal`.
    pub(super) fn ended(&mut self, pair: Pair, equal: &BTreeSet<Partition>) {
        let Some((_, partitions, _)) = self.under_way.take_if(|(of, ..)| *of == pair) else {
            return;
        };
        let Pair { peer, n, .. } = pair;
        for (partition, number) in partitions {
            let is_equal = equal.contains(&partition);
            self.found.push(Found { peer, n, partition, number, is_equal });
        }
    }

    /// What was wanted with this peer is not to be had now.
    pub(super) fn link_down(&mut self, peer: NodeId) {
        let gone = [self.urgent.remove_peer(peer), self.later.remove_peer(peer)];
        for (pair, partitions) in gone.into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use storage::Shard;

    use super::*;

    fn pair(peer: u64) -> Pair {
        Pair { peer: NodeId(peer), n: 3, shard: Shard(0) }
    }

    #[test]
    fn what_is_urgent_comes_first_and_some_partitions_at_a_time() {
        let mut wanted = Wanted::default();
        let most = u32::try_from(PARTITIONS_MAX).unwrap();
        for partition in 0..=most {
            wanted.want(pair(1), Partition(partition), 1, false);
        }
        wanted.want(pair(2), Partition(9), 2, false);
        let first = (0..most).map(Partition).collect();
        assert_eq!(wanted.next(), Some((pair(1), first)));
        assert!(wanted.is_waiting(), "the rest of it");
        wanted.want(pair(2), Partition(7), 3, true);
        // It was wanted for another stage before.
        wanted.want(pair(2), Partition(9), 4, true);
        wanted.ended(pair(1), &BTreeSet::from([Partition(0)]));
        let found = wanted.take_found();
        assert_eq!(found.len(), PARTITIONS_MAX);
        assert_eq!(found.iter().filter(|found| found.is_equal).count(), 1);
        assert_eq!(wanted.next(), Some((pair(2), vec![Partition(7), Partition(9)])));
        assert!(!wanted.is_waiting(), "what is urgent makes no room for what is not");
        assert_eq!(wanted.next(), Some((pair(1), vec![Partition(most)])));
        assert_eq!(wanted.next(), None);
    }
}
