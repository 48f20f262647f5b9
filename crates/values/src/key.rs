//! Keys: (bucket, key), both byte strings, and the generation of the bucket.
//!
//! Who names a key names no generation: the coordinating node puts in the one that the bucket is
//! in. What is stored, sent between nodes and sealed in context tokens has it, so that nothing of a
//! bucket that was dropped is ever taken for its successor's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(BucketId, Bytes)", into = "(BucketId, Bytes)")]
pub struct Key {
    bucket: BucketId,
    key: Bytes,
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
            _ => Ok(Self { bucket, key }),
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
}

impl TryFrom<(BucketId, Bytes)> for Key {
    type Error = InvalidKey;

    fn try_from((bucket, key): (BucketId, Bytes)) -> Result<Self, InvalidKey> {
        Self::within(bucket, key)
    }
}

impl From<Key> for (BucketId, Bytes) {
    fn from(key: Key) -> Self {
        (key.bucket, key.key)
    }
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
    fn a_key_of_another_generation_is_another_key_of_the_same_name() {
        let first = Key::new("carts", "ann").unwrap();
        let second = first.clone().in_generation(1);
        assert_ne!(first, second);
        assert_eq!((second.bucket(), second.key()), (first.bucket(), first.key()));
        assert_eq!(second.generation(), 1);
        assert_eq!(clock::decode(&clock::encode(&second)), Ok(second));
    }

    #[test]
    fn decoding_refuses_a_key_beyond_its_limits() {
        let key = Key::new("default", "cart").unwrap();
        assert_eq!(clock::decode(&clock::encode(&key)), Ok(key));
        let oversize = (BucketId::first(Bytes::new()), Bytes::from_static(b"k"));
        assert!(clock::decode::<Key>(&clock::encode(&oversize)).is_err());
    }
}
