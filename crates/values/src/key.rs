//! Keys: (bucket, key), both byte strings, and the generation of the bucket.
//!
//! Who names a key names no generation: the coordinating node puts in the one that the bucket is
//! in. What is stored, sent between nodes and sealed in context tokens has it, so that nothing of a
//! bucket that was dropped is ever taken for its successor's.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize, Serializer};

/// An opaque byte string: a value, an element, a field name.
pub type Blob = Bytes;

/// The bucket of who names none.
pub const DEFAULT_BUCKET: &str = "default";
/// Longest bucket name, in bytes. Bucket names are never empty.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Longest key within a bucket, in bytes. The empty key is a key.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// A bucket as data is stored in it: its name, and how often the name was created anew after a
/// drop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BucketId {
    /// Its name.
    pub name: Bytes,
    /// Its generation, from 0.
    pub generation: u64,
}

impl BucketId {
    /// Generation 0 of the bucket `name`.
    pub fn first(name: impl Into<Bytes>) -> Self {
        Self { name: name.into(), generation: 0 }
    }
}

/// A key of the store: a bucket and a key within it, within their limits.
#[derive(Clone, Deserialize)]
#[serde(try_from = "(BucketId, Bytes)")]
pub struct Key {
    bucket: BucketId,
    key: Bytes,
    /// Follows from the rest. Computed once: a request asks for it again and again on its way. (Bytes, because a
    /// u128's alignment would cost as many again.)
    identifier: [u8; 16],
}

/// Why bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The bucket's name is empty.
    #[error("a bucket needs a name")]
    NoBucket,
    /// The bucket's name is too long.
    #[error("bucket name of {0} bytes, at most {BUCKET_BYTES_MAX} are allowed")]
    LongBucket(usize),
    /// The key is too long.
    #[error("key of {0} bytes, at most {KEY_BYTES_MAX} are allowed")]
    LongKey(usize),
}

impl Key {
    /// The key `key` of generation 0 of `bucket`.
    pub fn new(bucket: impl Into<Bytes>, key: impl Into<Bytes>) -> Result<Self, InvalidKey> {
        Self::within(BucketId::first(bucket), key)
    }

    /// The key `key` of `bucket`.
    pub fn within(bucket: BucketId, key: impl Into<Bytes>) -> Result<Self, InvalidKey> {
        let key = key.into();
        match (bucket.name.len(), key.len()) {
            (0, _) => Err(InvalidKey::NoBucket),
            (length, _) if length > BUCKET_BYTES_MAX => Err(InvalidKey::LongBucket(length)),
            (_, length) if length > KEY_BYTES_MAX => Err(InvalidKey::LongKey(length)),
            _ => Ok(Self { identifier: identifier(&bucket.name, &key).to_be_bytes(), bucket, key }),
        }
    }

    /// The bucket's name.
    pub const fn bucket(&self) -> &Bytes {
        &self.bucket.name
    }

    /// The bucket's generation.
    pub const fn generation(&self) -> u64 {
        self.bucket.generation
    }

    /// The bucket's name and generation.
    pub const fn bucket_id(&self) -> &BucketId {
        &self.bucket
    }

    /// The key of the same name in another generation of its bucket.
    #[must_use]
    pub fn in_generation(mut self, generation: u64) -> Self {
        self.bucket.generation = generation;
        self
    }

    /// The key within its bucket.
    pub const fn key(&self) -> &Bytes {
        &self.key
    }

    /// Where it lies among all keys: its [`identifier`], the same in every generation of its bucket.
    pub const fn identifier(&self) -> u128 {
        u128::from_be_bytes(self.identifier)
    }

    /// All that tells keys apart.
    const fn parts(&self) -> (&BucketId, &Bytes) {
        (&self.bucket, &self.key)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("bucket", &self.bucket).field("key", &self.key).finish()
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl TryFrom<(BucketId, Bytes)> for Key {
    type Error = InvalidKey;

    fn try_from((bucket, key): (BucketId, Bytes)) -> Result<Self, InvalidKey> {
        Self::within(bucket, key)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts().serialize(serializer)
    }
}

/// As much as MD5 takes in one block.
const SHORT_MAX: usize = 55;

/// The 128-bit identifier of a key (Dynamo §4.1): MD5 of the bucket's length (u32, big-endian), the bucket and
/// the key. The length comes first so that ("ab", "c") and ("a", "bc") are different. Nodes and clusters have their ids
/// by it too, of two names.
pub fn identifier(bucket: &[u8], key: &[u8]) -> u128 {
    // Saturating: a bucket of 4 GiB is refused long before; two of them would only collide.
    let length = u32::try_from(bucket.len()).unwrap_or(u32::MAX);
    let parts = [&length.to_be_bytes()[..], bucket, key];
    // In one piece it costs less than in three.
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
    u128::from_be_bytes(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_within_their_limits_and_no_others_are_made() {
        assert!(Key::new("b", "").is_ok());
        assert!(Key::new(vec![b'b'; BUCKET_BYTES_MAX], vec![0; KEY_BYTES_MAX]).is_ok());
        assert_eq!(Key::new("", "k"), Err(InvalidKey::NoBucket));
        let long = vec![b'b'; BUCKET_BYTES_MAX + 1];
        assert_eq!(Key::new(long, "k"), Err(InvalidKey::LongBucket(129)));
        let long = vec![b'k'; KEY_BYTES_MAX + 1];
        assert_eq!(Key::new("b", long), Err(InvalidKey::LongKey(65_537)));
    }

    #[test]
    fn keys_are_ordered_hashed_and_shown_by_bucket_and_key() {
        use std::collections::BTreeSet;
        use std::hash::DefaultHasher;
        let (ann, bob) = (Key::new("b", "ann").unwrap(), Key::new("b", "bob").unwrap());
        let last = Key::new("c", "ann").unwrap();
        let ordered: BTreeSet<&Key> = [&last, &bob, &ann].into();
        assert!(ordered.into_iter().eq([&ann, &bob, &last]));
        let hash = |key: &Key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&ann), hash(&Key::new("b", "ann").unwrap()));
        assert_ne!(hash(&ann), hash(&bob));
        let shown = r#"Key { bucket: BucketId { name: b"b", generation: 0 }, key: b"ann" }"#;
        assert_eq!(format!("{ann:?}"), shown);
    }

    #[test]
    fn a_key_of_another_generation_is_another_key_of_the_same_name() {
        let first = Key::new("carts", "ann").unwrap();
        let second = first.clone().in_generation(1);
        assert_ne!(first, second);
        assert_eq!((second.bucket(), second.key()), (first.bucket(), first.key()));
        assert_eq!(second.generation(), 1);
        assert_eq!(clock::decode(&clock::encode(&second)), Ok(second));
    }

    /// The figure is `printf '\0\0\0\5cartsann' | md5sum`: stored data depends on it for ever.
    #[test]
    fn an_identifier_is_the_md5_of_bucket_length_bucket_and_key() {
        let key = Key::new("carts", "ann").unwrap();
        assert_eq!(key.identifier(), 0x1b26_c824_fa88_96a0_0260_e986_23da_f824);
        assert_eq!(key.clone().in_generation(1).identifier(), key.identifier());
        let decoded: Key = clock::decode(&clock::encode(&key)).unwrap();
        assert_eq!(decoded.identifier(), key.identifier());
    }

    /// Lengths around that of a block, against a digest fed in parts.
    #[test]
    fn short_and_long_keys_have_the_digest_of_the_same_bytes() {
        for length in 0..130 {
            let key = vec![7; length];
            let parts = Md5::new().chain_update([0, 0, 0, 5]).chain_update(b"carts");
            let digest = parts.chain_update(&key).finalize();
            assert_eq!(identifier(b"carts", &key), u128::from_be_bytes(digest.into()));
        }
    }

    #[test]
    fn the_border_between_bucket_and_key_is_part_of_the_identifier() {
        assert_ne!(identifier(b"ab", b"c"), identifier(b"a", b"bc"));
    }

    #[test]
    fn decoding_refuses_a_key_beyond_its_limits() {
        let key = Key::new("default", "cart").unwrap();
        assert_eq!(clock::decode(&clock::encode(&key)), Ok(key));
        let oversize = (BucketId::first(Bytes::new()), Bytes::from_static(b"k"));
        assert!(clock::decode::<Key>(&clock::encode(&oversize)).is_err());
    }
}
