//! Shards: the fixed pieces into which one node's storage is cut, each of neighbouring partitions.
//!
//! Their number is stamped on the disk and never changes; what is remembered of a piece (how far
//! of the log its rows in the index go, its census) is remembered by shard, so that the engines
//! among which the shards are dealt may be more or fewer at every start.

use ring::{Partition, PartitionCount, Token};

/// One shard, numbered from 0 in the order of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// How a node's storage is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    partitions: PartitionCount,
    count: u16,
}

impl Shards {
    /// `partitions` cut into `count` shards, at least 1. Where there are fewer partitions than
    /// shards, some shards stay empty.
    pub fn new(partitions: PartitionCount, count: u16) -> Self {
        Self { partitions, count: count.max(1) }
    }

    /// Partitions of the ring.
    pub const fn partitions(self) -> PartitionCount {
        self.partitions
    }

    /// How many shards there are.
    pub const fn count(self) -> u16 {
        self.count
    }

    /// Every shard, in order.
    pub fn iter(self) -> impl Iterator<Item = Shard> {
        (0..self.count).map(Shard)
    }

    /// The shard of a partition.
    pub fn of_partition(self, partition: Partition) -> Shard {
        let partitions = u64::from(self.partitions.get());
        let shard = u64::from(partition.0) % partitions * u64::from(self.count) / partitions;
        Shard(u16::try_from(shard).expect("below the count of shards"))
    }

    /// The first partition of a shard; `None` of an empty one.
    pub fn first_partition(self, shard: Shard) -> Option<Partition> {
        let partitions = u64::from(self.partitions.get());
        let first = (u64::from(shard.0) * partitions).div_ceil(u64::from(self.count));
        let first = Partition(u32::try_from(first).ok()?);
        (u64::from(first.0) < partitions && self.of_partition(first) == shard).then_some(first)
    }

    /// The shard of a token.
    pub fn of_token(self, token: Token) -> Shard {
        self.of_partition(self.partitions.partition(token))
    }
}

/// The shards of one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSet {
    shards: Shards,
    engine: u16,
    engines: u16,
}

impl ShardSet {
    /// All of them, for the only engine.
    pub fn all(shards: Shards) -> Self {
        Self::dealt(shards, 0, 1)
    }

    /// What falls to engine number `engine` of `engines` (at least 1) when shards are dealt one by
    /// one.
    pub fn dealt(shards: Shards, engine: u16, engines: u16) -> Self {
        Self { shards, engine, engines: engines.max(1) }
    }

    /// How the storage is cut.
    pub const fn shards(&self) -> Shards {
        self.shards
    }

    /// Among how many engines shards were dealt.
    pub const fn engines(&self) -> u16 {
        self.engines
    }

    /// The engine's shards, in order.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + '_ {
        self.shards.iter().filter(|&shard| self.contains(shard))
    }

    /// Whether the engine has this shard.
    pub const fn contains(&self, shard: Shard) -> bool {
        shard.0 % self.engines == self.engine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_of_neighbouring_partitions_and_every_engine_gets_some() {
        let shards = Shards::new(PartitionCount::new(4096).unwrap(), 64);
        let of = |partition| shards.of_partition(Partition(partition)).0;
        assert_eq!([of(0), of(63), of(64), of(128), of(4095)], [0, 0, 1, 2, 63]);
        assert_eq!(shards.of_token(Token(u128::MAX)), Shard(63));
        let mut seen = Vec::new();
        for engine in 0..3 {
            seen.extend(ShardSet::dealt(shards, engine, 3).iter());
        }
        seen.sort();
        assert_eq!(seen, shards.iter().collect::<Vec<_>>());
        let few = Shards::new(PartitionCount::new(2).unwrap(), 64);
        assert_eq!(few.of_partition(Partition(1)), Shard(32));
        assert_eq!(few.first_partition(Shard(32)), Some(Partition(1)));
        assert_eq!(few.first_partition(Shard(33)), None);
        for shards in [shards, few, Shards::new(PartitionCount::new(16).unwrap(), 5)] {
            for shard in shards.iter() {
                let mut partitions = shards.partitions().iter();
                let first = partitions.find(|partition| shards.of_partition(*partition) == shard);
                assert_eq!(shards.first_partition(shard), first);
            }
        }
    }
}
