//! The one encoding of everything stored or sent: a version byte, then postcard, then nothing.
//!
//! Deterministic for types made of ordered collections: equal values give equal bytes. A byte left
//! over is an error, because postcard itself would ignore it and so hide a newer format.

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

/// Version of the encoding that this build writes and reads.
const VERSION: u8 = 1;

/// Room for what most small values take, so that a Vec need not grow again and again while they are written.
const SMALL_BYTES: usize = 256;

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
    let mut bytes = Vec::with_capacity(SMALL_BYTES);
    encode_into(value, &mut bytes);
    bytes
}

/// Appends what [`encode`] makes of `value` to `bytes`.
///
/// # Panics
/// If `T` refuses to serialise itself, which none of our types does.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    postcard::serialize_with_flavor(value, Appended(bytes))
        .expect("our types serialise without failing");
}

/// Where an encoding goes. Postcard's own extend anything, one byte after the other.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        // Most numbers and lengths are one byte long, for which a call of memmove is much.
        match bytes {
            &[byte] => self.0.push(byte),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Bytes of [`encode`]'s result, counted without making it.
///
/// # Panics
/// If `T` refuses to serialise itself, which none of our types does.
pub fn encoded_length<T: Serialize + ?Sized>(value: &T) -> usize {
    let length = postcard::experimental::serialized_size(value);
    1 + length.expect("our types serialise without failing")
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{CausalContext, ContextToken, TokenClaims, VersionVector};

    #[test]
    fn an_encoding_is_a_version_byte_and_postcard() {
        assert_eq!(encode(&(300_u64, "ab")), [1, 0xac, 0x02, 2, b'a', b'b']);
        assert_eq!(encoded_length(&(300_u64, "ab")), 6);
        let mut bytes = vec![9];
        encode_into(&(300_u64, "ab"), &mut bytes);
        assert_eq!(bytes, [9, 1, 0xac, 0x02, 2, b'a', b'b']);
        assert_eq!(decode(&[1, 0xac, 0x02, 2, b'a', b'b']), Ok((300_u64, "ab".to_owned())));
    }

    #[test]
    fn what_is_not_exactly_one_value_of_this_version_is_refused() {
        assert_eq!(decode::<u64>(&[]), Err(DecodeError::Empty));
        assert_eq!(decode::<u64>(&[2, 7]), Err(DecodeError::Version(2)));
        assert_eq!(decode::<u64>(&[1, 7, 0, 0]), Err(DecodeError::Trailing(2)));
        assert_eq!(
            decode::<u64>(&[1, 0xff]),
            Err(DecodeError::Malformed(postcard::Error::DeserializeUnexpectedEnd))
        );
        assert_eq!(
            DecodeError::Version(2).to_string(),
            "unknown encoding version 2, this build reads version 1"
        );
    }

    /// A length prefix is a claim, not a reason to reserve memory.
    #[test]
    fn a_huge_length_prefix_is_refused_without_reserving_its_memory() {
        let huge = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1];
        for refused in [
            decode::<VersionVector>(&huge).err(),
            decode::<CausalContext>(&huge).err(),
            decode::<Vec<(u64, u64)>>(&huge).err(),
            decode::<bytes::Bytes>(&huge).err(),
            decode::<String>(&huge).err(),
            decode::<BTreeMap<u8, Vec<u8>>>(&huge).err(),
        ] {
            assert!(matches!(refused, Some(DecodeError::Malformed(_))), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(mut bytes: Vec<u8>) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = decode::<CausalContext>(&bytes);
            let _ = decode::<TokenClaims>(&bytes);
            let _ = decode::<ContextToken>(&bytes);
        }
    }
}
