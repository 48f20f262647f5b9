//! The one encoding of everything stored or sent: a version byte, then postcard, then nothing.
//!
//! Deterministic for types made of ordered collections: equal values give equal bytes. A byte left
//! over is an error, because postcard itself would ignore it and so hide a newer format.

use serde::{Serialize, de::DeserializeOwned};

/// Version of the encoding that this build writes and reads.
const VERSION: u8 = 1;

/// Why bytes were not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing to decode, not even a version byte.
    #[error("empty encoding")]
    Empty,
    /// Written by a version that this build does not know.
    #[error("unknown encoding version {0}, this build reads version {VERSION}")]
    Version(u8),
    /// Not a value of the wanted type.
    #[error("malformed encoding: {0}")]
    Malformed(postcard::Error),
    /// A value, and then more.
    #[error("{0} bytes left over after the value")]
    Trailing(usize),
}

/// Encodes `value`: the version byte, then postcard.
///
/// # Panics
/// If `T` refuses to serialise itself, which none of our types does.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("our types serialise without failing")
}

/// Decodes exactly one value of the present version from all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (value, rest) = postcard::take_from_bytes(rest).map_err(DecodeError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(rest.len())) }
}
