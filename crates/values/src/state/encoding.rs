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
use std::marker::PhantomData;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeSeq,
};

use super::{State, Value};
use crate::{Blob, Tag, TagMap};

/// A state, written as bytes of its own with their length before them. (Counting the bytes instead of making them
/// apart costs more: a state has many small parts.)
struct Encoded<'a, T>(&'a T);

impl<T: Serialize> Serialize for Encoded<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&clock::encode(self.0))
    }
}

impl State {
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
        serialize_states(self.0.iter().map(|(&tag, state)| (tag, state)), serializer)
    }
}

/// Serialises states, in order of tag, as the [`Value`] of them.
pub fn serialize_states<'a, S: Serializer>(
    states: impl Iterator<Item = (Tag, &'a State)> + Clone,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let count = states.clone().map(|(_, state)| match state {
        State::Opaque(encodings) => encodings.len(),
        _ => 1,
    });
    let mut pairs = serializer.serialize_seq(Some(count.sum()))?;
    for (tag, state) in states {
        match state {
            State::Bytes(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Register(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Gset(state) | State::Orset(state) => {
                pairs.serialize_element(&(tag, Encoded(state)))?;
            }
            State::Counter(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Cart(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Map(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Expiry(state) => pairs.serialize_element(&(tag, Encoded(state)))?,
            State::Opaque(encodings) => {
                for bytes in encodings {
                    pairs.serialize_element(&(tag, bytes))?;
                }
            }
        }
    }
    pairs.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_states(deserializer).map(Self)
    }
}

/// Deserialises the states of a [`Value`], each into what is held of its tag.
pub fn deserialize_states<'de, D: Deserializer<'de>, T: From<State>>(
    deserializer: D,
) -> Result<TagMap<T>, D::Error> {
    deserializer.deserialize_seq(Pairs(PhantomData))
}

struct Pairs<T>(PhantomData<T>);

impl<'de, T: From<State>> Visitor<'de> for Pairs<T> {
    type Value = TagMap<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ascending pairs of a type tag and a state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<TagMap<T>, A::Error> {
        let count = pairs.size_hint().unwrap_or_default().min(Tag::KNOWN.len());
        let mut states = TagMap::with_capacity(count);
        let decoded = |(tag, bytes)| State::decoded(tag, bytes).map_err(A::Error::custom);
        let mut next: Option<(Tag, &'de [u8])> = pairs.next_element()?;
        while let Some(mut last) = next {
            let (tag, mut state) = (last.0, decoded(last)?);
            loop {
                next = pairs.next_element()?;
                match next {
                    Some(pair) if pair <= last => {
                        return Err(A::Error::custom("states out of order"));
                    }
                    Some(pair) if pair.0 == tag => {
                        state.merge(&decoded(pair)?);
                        last = pair;
                    }
                    _ => break,
                }
            }
            states.insert(tag, state.into());
        }
        Ok(states)
    }
}
