//! Tokens and partitions: points on the ring of 2^128, and the Q equal slices it is cut into.
//!
//! Source: Dynamo §4.2 (MD5 of the key) and §6.2, strategy 3 (equal partitions). Q is a power of
//! two, so that a token's partition is its topmost bits and every partition is of one size.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// A point on the ring of 2^128.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Token(pub u128);

/// As much as MD5 takes in one block.
const SHORT_MAX: usize = 55;

impl Token {
    /// The point of a key: MD5 of the bucket's length (u32, big-endian), the bucket and the key.
    /// The length comes first so that ("ab", "c") and ("a", "bc") are different points.
    pub fn of(bucket: &[u8], key: &[u8]) -> Self {
        // Saturating: a bucket of 4 GiB is refused long before; two of them would only collide.
        let length = u32::try_from(bucket.len()).unwrap_or(u32::MAX);
        let parts = [&length.to_be_bytes()[..], bucket, key];
        // A request places its key a few times: in one piece it costs less than in three.
        let (mut short, mut end) = ([0; SHORT_MAX], 0);
        let digest = if parts.iter().map(|part| part.len()).sum::<usize>() <= SHORT_MAX {
            for part in parts {
                short[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            Md5::digest(&short[..end])
        } else {
            parts.iter().fold(Md5::new(), Md5::chain_update).finalize()
        };
        Self(u128::from_be_bytes(digest.into()))
    }
}

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
    use md5::{Digest, Md5};

    use super::{InvalidPartitionCount, Partition, PartitionCount, Token};

    /// The figure is `printf '\0\0\0\5cartsann' | md5sum`: stored data depends on it for ever.
    #[test]
    fn a_token_is_the_md5_of_bucket_length_bucket_and_key() {
        assert_eq!(Token::of(b"carts", b"ann").0, 0x1b26_c824_fa88_96a0_0260_e986_23da_f824);
    }

    /// Lengths around that of a block, against a digest fed in parts.
    #[test]
    fn short_and_long_keys_have_the_digest_of_the_same_bytes() {
        for length in 0..130 {
            let key = vec![7; length];
            let parts = Md5::new().chain_update([0, 0, 0, 5]).chain_update(b"carts");
            let digest = parts.chain_update(&key).finalize();
            assert_eq!(Token::of(b"carts", &key).0, u128::from_be_bytes(digest.into()));
        }
    }

    #[test]
    fn the_border_between_bucket_and_key_is_part_of_the_token() {
        assert_ne!(Token::of(b"ab", b"c"), Token::of(b"a", b"bc"));
    }

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
