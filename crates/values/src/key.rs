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
    fn decoding_refuses_a_key_beyond_its_limits() {
        let key = Key::new("default", "cart").unwrap();
        assert_eq!(clock::decode(&clock::encode(&key)), Ok(key));
        let oversize = (Bytes::new(), Bytes::from_static(b"k"));
        assert!(clock::decode::<Key>(&clock::encode(&oversize)).is_err());
    }
}
