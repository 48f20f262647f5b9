//! Storage shards: runs of neighbouring partitions, dealt to the cores of a node.
//!
//! The number of shards is stamped on a node's disk; the number of cores may change at every start
//! and differ between nodes. Invariant: whatever the number of cores, the partitions of one shard
//! belong to one core. So a request that stays within a shard finds its partitions in one place at
//! every node.

use std::ops::RangeInclusive;

use crate::{Partition, PartitionCount};

/// Storage shards of a node: more than most machines have cores, and few enough to list.
pub const SHARD_COUNT: u32 = 64;

/// Which core of a node has which partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    partitions: PartitionCount,
    cores: u32,
}

impl Shards {
    /// The shards of a ring of so many partitions, dealt to `cores` cores (at least 1).
    pub fn new(partitions: PartitionCount, cores: u32) -> Self {
        Self { partitions, cores: cores.max(1) }
    }

    /// The number of cores.
    pub const fn cores(self) -> u32 {
        self.cores
    }

    /// The core that has `partition` (whose number is taken modulo Q).
    pub fn core(self, partition: Partition) -> u32 {
        self.shard(partition) % self.cores
    }

    /// The partitions of the shard that holds `partition`, first to last.
    pub fn run(self, partition: Partition) -> RangeInclusive<u32> {
        let first = self.shard(partition) * self.width();
        first..=first + (self.width() - 1)
    }

    fn shard(self, partition: Partition) -> u32 {
        partition.0 % self.partitions.get() / self.width()
    }

    /// Partitions of a shard. Both counts are powers of two: where there are fewer partitions than
    /// shards, each is a shard.
    fn width(self) -> u32 {
        let count = self.partitions.get();
        count / count.min(SHARD_COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(partitions: u32, cores: u32) -> Shards {
        Shards::new(PartitionCount::new(partitions).unwrap(), cores)
    }

    #[test]
    fn neighbouring_shards_are_dealt_to_different_cores() {
        let shards = shards(4096, 3);
        let cores = [0, 63, 64, 128, 192, 4095].map(|number| shards.core(Partition(number)));
        assert_eq!(cores, [0, 0, 1, 2, 0, 0]);
        assert_eq!(shards.run(Partition(100)), 64..=127);
        assert_eq!(shards.run(Partition(4095)), 4032..=4095);
    }

    #[test]
    fn the_partitions_of_a_shard_belong_to_one_core_whatever_the_number_of_cores() {
        for partitions in [1, 2, 32, 64, 128, 4096] {
            for cores in 1..=9 {
                let shards = shards(partitions, cores);
                for number in 0..partitions {
                    let run = shards.run(Partition(number));
                    assert!(run.contains(&number));
                    for other in run {
                        assert_eq!(shards.core(Partition(other)), shards.core(Partition(number)));
                    }
                }
            }
        }
    }
}
