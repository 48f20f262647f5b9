//! The encoding of a value: (tag, bytes) pairs, ascending, each tag's state in bytes of its own.
//!
//! So a node finds its way past a type that it does not know: the bytes stay as they came
//! ([`State::Opaque`]) and go on to a node that knows it (design.md, Merge is total). What came in
//! from several sides stands as several pairs of one tag; a node that knows the tag joins them.
//! Of a tag that this build knows it writes one pair. A changed format of a type takes a new tag.
//!
//! Invariants: equal values give equal bytes. Pairs that do not ascend, and bytes that are not
//! exactly one state of a known tag, are refused. States hold no values, so nothing nests.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeSeq,
};

use super::{State, Value};
use crate::{Blob, Tag, TagMap};

/// One state's bytes, written with their length before them.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl State {
    /// The bytes of a state; of one that this build does not know, `None`.
    fn encoded(&self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(state) => Some(clock::encode(state)),
            Self::Register(state) => Some(clock::encode(state)),
            Self::Gset(state) | Self::Orset(state) => Some(clock::encode(state)),
            Self::Counter(state) => Some(clock::encode(state)),
            Self::Cart(state) => Some(clock::encode(state)),
            Self::Map(state) => Some(clock::encode(state)),
            Self::Expiry(state) => Some(clock::encode(state)),
            Self::Opaque(_) => None,
        }
    }

    fn decoded(tag: Tag, bytes: &[u8]) -> Result<Self, clock::DecodeError> {
        Ok(match tag {
            Tag::BYTES => Self::Bytes(clock::decode(bytes)?),
            Tag::LWW => Self::Register(clock::decode(bytes)?),
            Tag::GSET => Self::Gset(clock::decode(bytes)?),
            Tag::COUNTER => Self::Counter(clock::decode(bytes)?),
            Tag::ORSET => Self::Orset(clock::decode(bytes)?),
            Tag::CART => Self::Cart(clock::decode(bytes)?),
            Tag::MAP => Self::Map(clock::decode(bytes)?),
            Tag::EXPIRY => Self::Expiry(clock::decode(bytes)?),
            _ => Self::Opaque([Blob::copy_from_slice(bytes)].into()),
        })
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = self.0.values().map(|state| match state {
            State::Opaque(encodings) => encodings.len(),
            _ => 1,
        });
        let mut pairs = serializer.serialize_seq(Some(count.sum()))?;
        for (tag, state) in &self.0 {
            match (state.encoded(), state) {
                (Some(bytes), _) => pairs.serialize_element(&(tag, Bytes(&bytes)))?,
                (None, State::Opaque(encodings)) => {
                    for bytes in encodings {
                        pairs.serialize_element(&(tag, Bytes(bytes)))?;
                    }
                }
                (None, _) => {}
            }
        }
        pairs.end()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ascending pairs of a type tag and a state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let count = pairs.size_hint().unwrap_or_default().min(Tag::KNOWN.len());
        let mut value = Value(TagMap::with_capacity(count));
        let mut last: Option<(Tag, &[u8])> = None;
        while let Some(pair) = pairs.next_element::<(Tag, &'de [u8])>()? {
            if last.is_some_and(|last| last >= pair) {
                return Err(A::Error::custom("states out of order"));
            }
            last = Some(pair);
            let (tag, bytes) = pair;
            let state = State::decoded(tag, bytes).map_err(A::Error::custom)?;
            match value.0.get_mut(&tag) {
                Some(joined) => joined.merge(&state),
                None => drop(value.0.insert(tag, state)),
            }
        }
        Ok(value)
    }
}
