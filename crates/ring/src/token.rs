//! Tokens and partitions: points on the ring of 2^128, and the Q equal slices it is cut into.
//!
//! Source: Dynamo §4.1 (a key's token is its 128-bit identifier) and §6.2, strategy 3 (equal partitions). Q is
//! a power of two, so that a token's partition is its topmost bits and every partition is of one size.

use serde::{Deserialize, Serialize};

/// A point on the ring of 2^128. That of a key is its identifier: MD5, which spreads keys evenly.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Token(pub u128);

/// A slice of the ring, numbered clockwise from 0. Numbers are cyclic: a ring of Q partitions
/// takes them modulo Q.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Partition(pub u32);

/// The number Q of partitions, fixed when a cluster is created. Invariant: a power of two in
/// `1..=65536`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PartitionCount(u32);

/// Not a number of partitions. Nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} partitions: the number must be a power of two from 1 to {max}", max = PartitionCount::MAX)]
pub struct InvalidPartitionCount(pub u32);

impl PartitionCount {
    /// The largest Q. A ring then takes 128 KiB, still small enough to be sent whole.
    pub const MAX: u32 = 1 << 16;

    /// Checks `count`.
    pub fn new(count: u32) -> Result<Self, InvalidPartitionCount> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(Self(count))
        } else {
            Err(InvalidPartitionCount(count))
        }
    }

    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The partition in which `token` lies: its topmost bits.
    pub fn partition(self, token: Token) -> Partition {
        let top = token.0.checked_shr(u128::BITS - self.0.trailing_zeros());
        Partition(top.map_or(0, |bits| u32::try_from(bits).expect("at most 16 bits are left")))
    }

    /// All partitions, clockwise.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Partition> + ExactSizeIterator {
        (0..self.0).map(Partition)
    }
}

impl Default for PartitionCount {
    /// 4,096: about forty partitions a node at a hundred nodes, which keeps the heaviest within a
    /// few per cent of its fair share (Dynamo §6.2 wants Q much larger than the number of nodes).
    fn default() -> Self {
        Self(4096)
    }
}

impl TryFrom<u32> for PartitionCount {
    type Error = InvalidPartitionCount;

    fn try_from(count: u32) -> Result<Self, InvalidPartitionCount> {
        Self::new(count)
    }
}

impl From<PartitionCount> for u32 {
    fn from(count: PartitionCount) -> Self {
        count.0
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidPartitionCount, Partition, PartitionCount, Token};

    #[test]
    fn partitions_are_the_topmost_bits() {
        let count = PartitionCount::new(16).unwrap();
        assert_eq!(count.partition(Token(0)), Partition(0));
        assert_eq!(count.partition(Token((1 << 124) - 1)), Partition(0));
        assert_eq!(count.partition(Token(1 << 124)), Partition(1));
        assert_eq!(count.partition(Token(u128::MAX)), Partition(15));
        assert_eq!(
            PartitionCount::new(65536).unwrap().partition(Token(u128::MAX)),
            Partition(65535)
        );
    }

    #[test]
    fn a_single_partition_holds_every_token() {
        let one = PartitionCount::new(1).unwrap();
        assert_eq!(one.partition(Token(u128::MAX)), Partition(0));
        assert_eq!(one.iter().collect::<Vec<_>>(), [Partition(0)]);
    }

    #[test]
    fn only_powers_of_two_up_to_65536_are_partition_counts() {
        for count in [0, 3, 4095, 65537, 1 << 17, u32::MAX] {
            assert_eq!(PartitionCount::new(count), Err(InvalidPartitionCount(count)));
        }
        assert_eq!(PartitionCount::new(65536).map(PartitionCount::get), Ok(65536));
        assert_eq!(
            InvalidPartitionCount(3).to_string(),
            "3 partitions: the number must be a power of two from 1 to 65536"
        );
    }
}
