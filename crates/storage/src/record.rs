//! Records: what stands in a row.
//!
//! Every record begins with the xxh3-64 of the rest, seeded with that of the row's key, so that a
//! row that turns up under another key is as damaged as a changed byte. The rest is
//! `clock::encode` of one of the types here; a header's is preceded by its live tags and number of
//! siblings, so that counting and listing need not decode it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::CausalContext;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use values::{Blob, Delta, Field, Key, State, Tag, Value, is_collection};
use xxhash_rust::xxh3;

use crate::StorageError;
use crate::census::ShardCensus;
use crate::row_key::{RowKey, is_long_element};

const CHECKSUM_BYTES: usize = 8;

/// One key's states, collections without their elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tags: BTreeMap<Tag, Part>,
}

/// What a header holds of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The state itself.
    Whole(State),
    /// What is known of a collection whose elements have rows of their own.
    Collection(Collection),
}

/// A collection without its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collection {
    /// Every dot seen.
    pub(crate) context: CausalContext,
    /// Dots that a clearing removed and that rows may still hold. Invariant: within `context`, and
    /// no live dot is in it.
    pub(crate) cleared: CausalContext,
    /// What of `cleared` is counted no more in `live` and `digest`. `None`: all of it, so they are
    /// exact. Otherwise they still count dead rows, until the sweep has come to the last of them.
    pub(crate) deducted: Option<CausalContext>,
    /// Number of live elements.
    pub(crate) live: u64,
    /// Wrapping sum of [`row_digest`] over all rows, less what is deducted.
    pub(crate) digest: u128,
    /// What would be left if every dot were cleared.
    pub(crate) tallies: Tallies,
}

/// Fields of a map that hold a tally. No context covers one, so a clearing leaves it: a map that
/// everything is cleared of has these, without their writes, and no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tallies {
    /// How many.
    pub(crate) fields: u64,
    /// How many have increments that were not reset.
    pub(crate) live: u64,
    /// Wrapping sum of the digests of their rows, without writes.
    pub(crate) digest: u128,
}

impl Tallies {
    /// Of one row.
    pub(crate) fn of(tag: Tag, element: &[u8], row: &[u8]) -> Result<Self, StorageError> {
        if tag != Tag::MAP {
            return Ok(Self::default());
        }
        let Field { tally, .. } = decode(row)?;
        if tally.is_empty() {
            return Ok(Self::default());
        }
        let (live, field) = (tally.is_live(), Field { tally, ..Field::default() });
        let digest = row_digest(tag, element, &clock::encode(&field));
        Ok(Self { fields: 1, live: live.into(), digest })
    }

    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_add(other.fields),
            live: self.live.saturating_add(other.live),
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    #[must_use]
    pub(crate) const fn less(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_sub(other.fields),
            live: self.live.saturating_sub(other.live),
            digest: self.digest.wrapping_sub(other.digest),
        }
    }
}

impl Part {
    pub(crate) fn bottom(tag: Tag) -> Self {
        if is_collection(tag) {
            Self::Collection(Collection::default())
        } else {
            Self::Whole(State::bottom(tag))
        }
    }

    pub(crate) fn context(&self) -> &CausalContext {
        match self {
            Self::Whole(state) => state.context(),
            Self::Collection(collection) => &collection.context,
        }
    }

    fn is_live(&self) -> bool {
        match self {
            Self::Whole(state) => state.is_live(),
            Self::Collection(collection) => collection.live > 0,
        }
    }
}

/// The part of a collection's digest that one row makes. Replicas that hold the same elements
/// compute the same, whatever is still to be swept.
pub(crate) fn row_digest(tag: Tag, element: &[u8], row: &[u8]) -> u128 {
    let mut hash = xxh3::Xxh3::new();
    hash.update(&[tag.0]);
    hash.update(&(element.len() as u64).to_le_bytes());
    hash.update(element);
    hash.update(row);
    hash.digest128()
}

/// A header as it is stored. States stand as they do in a message, so that one of a type that this
/// build does not know is kept as it came.
#[derive(Serialize)]
struct HeaderOut<'a> {
    key: Option<&'a Key>,
    states: Value,
    collections: BTreeMap<Tag, &'a Collection>,
}

#[derive(Deserialize)]
struct HeaderIn {
    key: Option<Key>,
    states: Value,
    collections: BTreeMap<Tag, Collection>,
}

#[derive(Serialize, Deserialize)]
struct ElementRecord {
    key: Option<Key>,
    element: Option<Blob>,
    row: Bytes,
}

#[derive(Serialize)]
struct PendingOut<'a>(&'a Key, &'a Delta);

#[derive(Deserialize)]
struct PendingIn(Key, Delta);

fn damaged(what: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt(what.to_string())
}

fn checksum(row_key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    xxh3::xxh3_64_with_seed(body, xxh3::xxh3_64(row_key)).to_be_bytes()
}

fn seal(row_key: &[u8], body: &[u8]) -> Vec<u8> {
    [&checksum(row_key, body), body].concat()
}

fn open<'a>(row_key: &[u8], record: &'a [u8]) -> Result<&'a [u8], StorageError> {
    let (stored, body) =
        record.split_first_chunk().ok_or_else(|| damaged("record shorter than its checksum"))?;
    if *stored == checksum(row_key, body) { Ok(body) } else { Err(damaged("checksum differs")) }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, StorageError> {
    clock::decode(body).map_err(damaged)
}

/// What stands before a header's encoding, and that encoding.
fn split_standing(body: &[u8]) -> Option<(Standing<'_>, &[u8])> {
    let (count, rest) = body.split_first_chunk()?;
    let (siblings, rest) = rest.split_first_chunk()?;
    let (live, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)))?;
    Some((Standing { live, siblings: u32::from_be_bytes(*siblings) }, rest))
}

/// How a key stands, as its header's record says before its encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    /// Numbers of the live tags.
    pub(crate) live: &'a [u8],
    /// Different siblings of its raw value.
    pub(crate) siblings: u32,
}

impl Standing<'_> {
    /// Whether someone is to resolve or reconcile something.
    pub(crate) const fn is_in_conflict(&self) -> bool {
        self.live.len() > 1 || self.siblings > 1
    }
}

impl Header {
    /// Types that a reader sees something of.
    pub(crate) fn live_tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.tags.iter().filter(|(_, part)| part.is_live()).map(|(&tag, _)| tag)
    }

    /// Different siblings that a reader of the raw value is shown.
    fn siblings(&self) -> u32 {
        let Some(Part::Whole(State::Bytes(state))) = self.tags.get(&Tag::BYTES) else { return 0 };
        let siblings = &state.store.0;
        let different = match siblings.len() {
            few @ 0..=1 => few,
            _ => siblings.values().map(|sibling| &sibling.value).collect::<BTreeSet<_>>().len(),
        };
        u32::try_from(different).unwrap_or(u32::MAX)
    }

    /// The record of `key`'s header row at `at`.
    pub(crate) fn encode(&self, at: &RowKey, key: &Key) -> Vec<u8> {
        let live: Vec<u8> = self.live_tags().map(|tag| tag.0).collect();
        let count = u16::try_from(live.len()).expect("there are 256 tags");
        let key = at.is_long().then_some(key);
        let mut header = HeaderOut { key, states: Value::default(), collections: BTreeMap::new() };
        for (&tag, part) in &self.tags {
            match part {
                // Long values are shared, not copied.
                Part::Whole(state) => drop(header.states.0.insert(tag, state.clone())),
                Part::Collection(collection) => drop(header.collections.insert(tag, collection)),
            }
        }
        let encoding = clock::encode(&header);
        let siblings = self.siblings().to_be_bytes();
        let body = [count.to_be_bytes().as_slice(), &siblings, &live, &encoding].concat();
        seal(at.as_bytes(), &body)
    }

    /// The header in `record`, with the key where the row's key is a digest.
    pub(crate) fn decode(
        row_key: &[u8],
        record: &[u8],
    ) -> Result<(Self, Option<Key>), StorageError> {
        let (_, encoding) =
            split_standing(open(row_key, record)?).ok_or_else(|| damaged("header cut short"))?;
        let HeaderIn { key, states, collections } = decode(encoding)?;
        let states = states.0.into_iter().map(|(tag, state)| (tag, Part::Whole(state)));
        let collections = collections.into_iter().map(|(tag, held)| (tag, Part::Collection(held)));
        let tags: BTreeMap<Tag, Part> = states.chain(collections).collect();
        for (&tag, part) in &tags {
            if is_collection(tag) != matches!(part, Part::Collection(_)) {
                return Err(damaged(format_args!("{tag} stored in the wrong form")));
            }
        }
        Ok((Self { tags }, key))
    }
}

/// How the key of a header's record stands, whole or damaged: unchecked, for counting.
pub(crate) fn standing_unchecked(record: &[u8]) -> Standing<'_> {
    let body = record.get(CHECKSUM_BYTES..);
    body.and_then(split_standing).map_or_else(Standing::default, |(standing, _)| standing)
}

/// How the key of a header's record stands; `None` if the record is damaged.
pub(crate) fn standing<'a>(row_key: &[u8], record: &'a [u8]) -> Option<Standing<'a>> {
    split_standing(open(row_key, record).ok()?).map(|(standing, _)| standing)
}

/// The live tags of a header's record; `None` if it is damaged.
pub(crate) fn live_tags(row_key: &[u8], record: &[u8]) -> Option<Vec<Tag>> {
    Some(standing(row_key, record)?.live.iter().copied().map(Tag).collect())
}

/// The record of the row of `element` of the collection at `at`.
pub(crate) fn encode_element(
    row_key: &[u8],
    at: &RowKey,
    key: &Key,
    element: &Blob,
    row: Vec<u8>,
) -> Vec<u8> {
    let record = ElementRecord {
        key: at.is_long().then(|| key.clone()),
        element: is_long_element(element).then(|| element.clone()),
        row: row.into(),
    };
    seal(row_key, &clock::encode(&record))
}

/// The row in the record of an element; with the full element where the row's key is a digest.
/// Given a `key` or `element` that stand under digests, compares them.
pub(crate) fn decode_element(
    row_key: &[u8],
    record: &[u8],
    key: Option<&Key>,
    element: Option<&Blob>,
) -> Result<(Option<Blob>, Bytes), StorageError> {
    let record: ElementRecord = decode(open(row_key, record)?)?;
    if key.is_some_and(|key| record.key.as_ref().is_some_and(|other| other != key)) {
        return Err(damaged("another key with the same digest"));
    }
    if let (Some(element), Some(stored)) = (element, &record.element)
        && element != stored
    {
        return Err(damaged("another element with the same digest"));
    }
    Ok((record.element, record.row))
}

/// The record of a collection that waits to be swept. It says what was cleared once more, because
/// a header that is damaged would otherwise bring it back.
pub(crate) fn encode_cleared(row_key: &[u8], cleared: &CausalContext) -> Vec<u8> {
    seal(row_key, &clock::encode(cleared))
}

/// What was cleared of a collection that waits to be swept.
pub(crate) fn decode_cleared(row_key: &[u8], record: &[u8]) -> Result<CausalContext, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a shard: up to which position of the log its rows go, and its census, if known.
pub(crate) fn encode_shard(row_key: &[u8], position: u64, census: Option<&ShardCensus>) -> Vec<u8> {
    seal(row_key, &clock::encode(&(position, census)))
}

/// What stands in the record of a shard.
pub(crate) fn decode_shard(
    row_key: &[u8],
    record: &[u8],
) -> Result<(u64, Option<ShardCensus>), StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a pending delta.
pub(crate) fn encode_pending(row_key: &[u8], key: &Key, delta: &Delta) -> Vec<u8> {
    seal(row_key, &clock::encode(&PendingOut(key, delta)))
}

/// A pending delta, with its version: another one for another delta.
pub(crate) fn decode_pending(
    row_key: &[u8],
    record: &[u8],
) -> Result<(Key, Delta, u128), StorageError> {
    let body = open(row_key, record)?;
    let PendingIn(key, delta) = decode(body)?;
    Ok((key, delta, xxh3::xxh3_128(body)))
}
