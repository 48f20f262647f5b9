//! Type tags: which kind of value a state is.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use litemap::LiteMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Something of each type, in order of tag: a key nearly always has one.
///
/// Whatever may come from outside is read by [`tag_map`]: of itself the map takes the memory that the bytes say
/// it has.
pub type TagMap<T> = LiteMap<Tag, T>;

/// A map of one type. It has room for no other.
pub fn only<T>(tag: Tag, of_tag: T) -> TagMap<T> {
    TagMap::from_sorted_store_unchecked(vec![(tag, of_tag)])
}

/// Reads a map: `#[serde(deserialize_with = "tag_map")]`. What it takes follows what there is.
pub fn tag_map<'de, D, T>(deserializer: D) -> Result<TagMap<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(Entries(PhantomData))
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = TagMap<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by type tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<TagMap<T>, A::Error> {
        let mut map = TagMap::new();
        while let Some((tag, of_tag)) = entries.next_entry()? {
            map.insert(tag, of_tag);
        }
        Ok(map)
    }
}

/// Number of a value type. A number that this build does not know is carried opaquely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u8);

impl Tag {
    /// Opaque value with siblings.
    pub const BYTES: Self = Self(1);
    /// Last-writer-wins register with increments.
    pub const LWW: Self = Self(2);
    /// Grow-only set.
    pub const GSET: Self = Self(3);
    /// PN-counter.
    pub const COUNTER: Self = Self(4);
    /// Observed-remove set.
    pub const ORSET: Self = Self(5);
    /// Shopping cart.
    pub const CART: Self = Self(6);
    /// Map of fields.
    pub const MAP: Self = Self(7);

    /// No type: a key's schedules ([`Expiry`](crate::Expiry)).
    pub const EXPIRY: Self = Self(8);

    /// Every type that this build knows.
    pub const KNOWN: [Self; 7] =
        [Self::BYTES, Self::LWW, Self::GSET, Self::COUNTER, Self::ORSET, Self::CART, Self::MAP];

    /// The type's name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BYTES => "bytes",
            Self::LWW => "lww",
            Self::GSET => "gset",
            Self::COUNTER => "counter",
            Self::ORSET => "orset",
            Self::CART => "cart",
            Self::MAP => "map",
            Self::EXPIRY => "expiry",
            _ => "unknown",
        }
    }
}

impl FromStr for Tag {
    type Err = NoSuchTag;

    fn from_str(name: &str) -> Result<Self, NoSuchTag> {
        let known = Self::KNOWN.into_iter().find(|tag| tag.name().eq_ignore_ascii_case(name));
        known.ok_or(NoSuchTag)
    }
}

/// The name is none of a type's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such type: bytes, lww, gset, counter, orset, cart and map there are")]
pub struct NoSuchTag;

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(f, "unknown type {}", self.0),
            name => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Read(#[serde(deserialize_with = "tag_map")] TagMap<u8>);

    #[test]
    fn of_pairs_in_any_order_the_last_of_each_tag_is_read() {
        let pairs = vec![(Tag::LWW, 1_u8), (Tag::BYTES, 5), (Tag::LWW, 9)];
        let read = clock::decode(&clock::encode(&pairs));
        assert_eq!(read, Ok(Read([(Tag::BYTES, 5), (Tag::LWW, 9)].into_iter().collect())));
    }
}
