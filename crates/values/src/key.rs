//! Keys: (bucket, key), both byte strings.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An opaque byte string: a value, an element, a field name.
pub type Blob = Bytes;

/// Longest bucket name, in bytes. Bucket names are never empty.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Longest key within a bucket, in bytes. The empty key is a key.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// A key of the store: a bucket and a key within it, within their limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Bytes, Bytes)", into = "(Bytes, Bytes)")]
pub struct Key {
    bucket: Bytes,
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
    /// The key `key` of `bucket`.
    pub fn new(bucket: impl Into<Bytes>, key: impl Into<Bytes>) -> Result<Self, InvalidKey> {
        let (bucket, key) = (bucket.into(), key.into());
        match (bucket.len(), key.len()) {
            (0, _) => Err(InvalidKey::NoBucket),
            (length, _) if length > BUCKET_BYTES_MAX => Err(InvalidKey::LongBucket(length)),
            (_, length) if length > KEY_BYTES_MAX => Err(InvalidKey::LongKey(length)),
            _ => Ok(Self { bucket, key }),
        }
    }

    /// The bucket's name.
    pub const fn bucket(&self) -> &Bytes {
        &self.bucket
    }

    /// The key within its bucket.
    pub const fn key(&self) -> &Bytes {
        &self.key
    }
}

impl TryFrom<(Bytes, Bytes)> for Key {
    type Error = InvalidKey;

    fn try_from((bucket, key): (Bytes, Bytes)) -> Result<Self, InvalidKey> {
        Self::new(bucket, key)
    }
}

impl From<Key> for (Bytes, Bytes) {
    fn from(key: Key) -> Self {
        (key.bucket, key.key)
    }
}
