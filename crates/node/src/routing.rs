//! Which event loop a key belongs to, and how the loops are reached.
//!
//! A node's storage is cut into [`SHARDS`] shards of neighbouring partitions, a number that is
//! stamped on the disk; shards are dealt to the loops, whose number may change at every start. All
//! that concerns a key happens in the loop of its partition, so no lock is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use replication::Body;
use ring::{Partition, PartitionCount, Token};
use storage::{Shard, ShardSet, Shards};
use tokio::sync::mpsc;
use values::Key;

use crate::work::{Job, Urgent, Work};

/// Storage shards of a node; more than there are cores in most machines, and few enough to list.
pub(crate) const SHARDS: u16 = 64;

/// Groups of calls and batches of messages that wait for one loop. A guess; each is bounded itself.
pub(crate) const WORK_MAX: usize = 1024;

/// How a loop is reached from other threads.
#[derive(Clone, Debug)]
pub(crate) struct LoopHandle {
    /// Calls and messages; a full queue means an overloaded loop.
    pub(crate) work: mpsc::Sender<Work>,
    /// What must not be lost: few at a time by construction.
    pub(crate) urgent: mpsc::UnboundedSender<Urgent>,
    /// Tasks to be started in the loop, connections for the most part.
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
}

/// The loops of a node.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    loops: Vec<LoopHandle>,
    owners: LoopOwners,
    /// Spreads connections and calls that concern no key.
    next: AtomicU64,
}

/// Which loop owns which partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopOwners {
    shards: Shards,
    loops: usize,
}

impl LoopOwners {
    /// The assignment of `partitions` to `loops` loops, at least 1.
    pub(crate) fn new(partitions: PartitionCount, loops: usize) -> Self {
        Self { shards: Shards::new(partitions, SHARDS), loops: loops.max(1) }
    }

    /// The loop of a partition.
    pub(crate) fn of_partition(self, partition: Partition) -> usize {
        self.of_shard(self.shards.of_partition(partition))
    }

    /// The loop of a shard.
    pub(crate) fn of_shard(self, shard: Shard) -> usize {
        usize::from(shard.0) % self.loops
    }

    /// How the storage is cut.
    pub(crate) const fn shards(self) -> Shards {
        self.shards
    }

    /// The shards of a loop.
    pub(crate) fn set(self, loop_index: usize) -> ShardSet {
        let number = |count: usize| u16::try_from(count).expect("loops are limited to 64");
        ShardSet::dealt(self.shards, number(loop_index), number(self.loops))
    }

    /// The loop of a key. Costs an MD5 if there are several.
    pub(crate) fn of_key(self, key: &Key) -> usize {
        if self.loops == 1 {
            return 0;
        }
        self.of_shard(self.shards.of_token(Token(key.identifier())))
    }

    /// How many loops there are.
    pub(crate) fn count(self) -> usize {
        self.loops
    }

    /// The loop that a message is for: that of its key or partition, or the one that asked.
    /// `None` if it names a loop that does not exist.
    pub(crate) fn of_message(self, message: &replication::Message) -> Option<usize> {
        let index = match &message.body {
            Body::List { first, .. } => self.of_partition(*first),
            Body::Count { partitions, .. } | Body::Stand { partitions } => {
                partitions.first().map_or(0, |&first| self.of_partition(first))
            }
            Body::Compare(compare) if compare.key().is_none() => {
                compare.partition().map_or(0, |partition| self.of_partition(partition))
            }
            // Every loop is told; one that does not exist stands for another.
            Body::Draining { core } => usize::from(*core) % self.count(),
            // Any loop asks all; the one that asked may have a number that does not exist here.
            Body::Conflicts { .. } => usize::from(message.id.core) % self.count(),
            // The first loop has the registrar and the keeper.
            Body::Policies { .. } | Body::Ownership { .. } => 0,
            body => match body.key() {
                Some(key) => self.of_key(key),
                None => usize::from(message.id.core),
            },
        };
        (index < self.count()).then_some(index)
    }
}

impl Routes {
    pub(crate) fn new(loops: Vec<LoopHandle>, owners: LoopOwners) -> Self {
        assert_eq!(loops.len(), owners.count(), "every loop has its handle");
        Self { shared: Arc::new(Shared { loops, owners, next: AtomicU64::new(0) }) }
    }

    pub(crate) fn owners(&self) -> LoopOwners {
        self.shared.owners
    }

    pub(crate) fn loops(&self) -> &[LoopHandle] {
        &self.shared.loops
    }

    /// The handle of loop `index`, which exists.
    pub(crate) fn handle(&self, index: usize) -> &LoopHandle {
        &self.shared.loops[index]
    }

    /// One loop after the other.
    pub(crate) fn next(&self) -> usize {
        let next = self.shared.next.fetch_add(1, Ordering::Relaxed);
        usize::try_from(next % self.shared.loops.len() as u64).expect("an index")
    }

    /// Tells every loop.
    pub(crate) fn tell_all(&self, urgent: impl Fn() -> Urgent) {
        for handle in self.loops() {
            // A loop that is gone needs no telling.
            let _ = handle.urgent.send(urgent());
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Stamp;
    use replication::{Message, RequestId};
    use ring::Sequence;

    use super::*;

    #[test]
    fn a_page_of_conflicts_is_for_some_loop_and_an_answer_for_the_one_that_asked() {
        let owners = LoopOwners::new(PartitionCount::default(), 2);
        let from_loop_3 = |body| {
            let id = RequestId { core: 3, number: 7 };
            let (sequence, time) = (Sequence(0), Stamp(0));
            owners.of_message(&Message { id, trace: 0, sequence, time, budget_ms: 0, body })
        };
        assert_eq!(from_loop_3(Body::Conflicts { after: None, limit: 9 }), Some(1));
        assert_eq!(from_loop_3(Body::Merged(Ok(None))), None, "there is no such loop here");
    }

    #[test]
    fn shards_of_neighbouring_partitions_are_dealt_to_the_loops() {
        let owners = LoopOwners::new(PartitionCount::new(4096).unwrap(), 3);
        assert_eq!(owners.of_partition(Partition(0)), 0);
        assert_eq!(owners.of_partition(Partition(63)), 0);
        assert_eq!(owners.of_partition(Partition(64)), 1);
        assert_eq!(owners.of_partition(Partition(128)), 2);
        assert_eq!(owners.of_partition(Partition(4095)), 0);
    }

    #[test]
    fn few_partitions_still_have_a_loop_each() {
        let owners = LoopOwners::new(PartitionCount::new(2).unwrap(), 2);
        assert_eq!(owners.of_partition(Partition(0)), 0);
        assert_eq!(owners.of_partition(Partition(1)), 0);
        let key = Key::new("b", "k").unwrap();
        assert_eq!(LoopOwners::new(PartitionCount::default(), 1).of_key(&key), 0);
    }
}
