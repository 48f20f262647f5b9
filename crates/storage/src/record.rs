//! Records: what stands in a row.
//!
//! Every record begins with the xxh3-64 of the rest, seeded with that of the row's key, so that a
//! row that turns up under another key is as damaged as a changed byte. The rest is
//! `clock::encode` of one of the types here; a header's is split, so that counting, listing and
//! the hash trees need not decode it:
//!
//! ```text
//! number of live tags (2, big-endian) ‖ number of siblings (4, big-endian) ‖ live tags ‖ tree class (1)
//!   ‖ length of the state (4, big-endian, with four flags on top)
//!   ‖ when something is due (8, big-endian, if the third flag says so) ‖ state ‖ local
//! ```
//!
//! Invariant: the state of a settled header is a function of what was merged, the same bytes at
//! every replica; whatever depends on the replica (what waits for the sweep) stands in the local
//! part. A key of which nothing is known has an empty state. What is left of a deleted key says in its
//! local part how old it is here, and a flag that it is hidden: then it adds nothing to a tree.

use std::collections::BTreeSet;

use bytes::Bytes;
use clock::{CausalContext, Stamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use values::{Blob, Delta, Field, Key, State, Tag, TagMap, Value, is_collection, tag_map};
use xxhash_rust::xxh3;

use crate::StorageError;
use crate::census::ShardCensus;
use crate::engine::Chunk;
use crate::row_key::{RowKey, is_long_element};
use crate::tree::{GONE, LeafSum, Share, key_digest};

pub(crate) const CHECKSUM_BYTES: usize = 8;

/// One key's states, collections without their elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tags: TagMap<Part>,
    /// How old it is here, if it is a remnant. Says nothing of any other.
    pub(crate) age: Age,
}

/// How old a remnant is at this replica, and whether it counts as gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Age {
    /// The round of the barrier that this replica had entered when the key changed last.
    pub(crate) round: u64,
    /// Whether all members know that nothing older is left anywhere: it is shown no more.
    pub(crate) is_hidden: bool,
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
    /// Whether its rows are counted in chunks too (`engine/element_tree`).
    pub(crate) is_chunked: bool,
}

impl Collection {
    /// Whether nothing was ever written.
    fn is_bottom(&self) -> bool {
        *self == Self::default()
    }
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

    /// Whether it is what a deletion left: nothing live, no rows, and no name that a client gave, which
    /// is still to be known again.
    fn is_remnant(&self) -> bool {
        let has_rest = match self {
            Self::Whole(State::Opaque(_)) => true,
            Self::Whole(State::Expiry(expiry)) => !expiry.store.0.is_empty(),
            Self::Whole(state) => state.is_live(),
            Self::Collection(collection) => {
                let Collection { live, digest, tallies, is_chunked, .. } = collection;
                let has_rows = *digest != 0 || *tallies != Tallies::default() || *is_chunked;
                *live > 0 || has_rows || !self.is_swept()
            }
        };
        let is_asked = |actor: clock::Actor| actor.is_named() && !actor.is_unasked();
        !has_rest && !self.context().actors().any(is_asked)
    }

    /// Whether no row waits for the sweep.
    pub(crate) fn is_swept(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Collection(collection) => collection.cleared.is_empty(),
        }
    }

    /// Whether the header says all there is to say: nothing is left for the sweep to count.
    const fn is_settled(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Collection(collection) => collection.deducted.is_none(),
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

/// A header's state as it is stored. States stand as they do in a message, so that one of a type
/// that this build does not know is kept as it came.
#[derive(Serialize)]
struct StateOut<'a> {
    states: Value,
    /// Context and digest of each collection.
    collections: TagMap<(&'a CausalContext, u128)>,
}

#[derive(Deserialize)]
struct StateIn {
    states: Value,
    #[serde(deserialize_with = "tag_map")]
    collections: TagMap<(CausalContext, u128)>,
}

/// What stands beside it.
#[derive(Serialize)]
struct LocalOut<'a> {
    key: Option<&'a Key>,
    remnant: Option<Age>,
    collections: TagMap<LocalCollection<&'a CausalContext>>,
}

impl LocalOut<'_> {
    /// So it is of most keys: nothing is then stored.
    fn is_nothing(&self) -> bool {
        self.key.is_none() && self.remnant.is_none() && self.collections.is_empty()
    }
}

#[derive(Default, Deserialize)]
struct LocalIn {
    key: Option<Key>,
    remnant: Option<Age>,
    #[serde(deserialize_with = "tag_map")]
    collections: TagMap<LocalCollection<CausalContext>>,
}

#[derive(Serialize, Deserialize)]
struct LocalCollection<C> {
    cleared: C,
    deducted: Option<C>,
    live: u64,
    tallies: Tallies,
    is_chunked: bool,
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

pub(crate) fn checksum(row_key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
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

/// Marks the length of a state that is not settled.
const UNSETTLED: u32 = 1 << 31;
/// Marks the length of a state with a type that the build which wrote it did not know.
const UNKNOWN_TYPE: u32 = 1 << 30;
/// Marks the length of a state beside which stands when something is due.
const IS_SCHEDULED: u32 = 1 << 29;
/// Marks the length of the state of a remnant that is hidden.
const HIDDEN: u32 = 1 << 28;
const FLAGS: u32 = UNSETTLED | UNKNOWN_TYPE | IS_SCHEDULED | HIDDEN;

/// How the key stands, before the rest of a header, and that.
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

/// What follows how a header's key stands.
struct Outline<'a> {
    class: u8,
    flags: u32,
    due_ms: Option<u64>,
    state: &'a [u8],
    local: &'a [u8],
}

impl<'a> Outline<'a> {
    fn of(rest: &'a [u8]) -> Option<Self> {
        let (&class, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u32::from_be_bytes(*length);
        let (due_ms, rest) = if length & IS_SCHEDULED == 0 {
            (None, rest)
        } else {
            let (due_ms, rest) = rest.split_first_chunk()?;
            (Some(u64::from_be_bytes(*due_ms)), rest)
        };
        let (state, local) = rest.split_at_checked((length & !FLAGS) as usize)?;
        Some(Self { class, flags: length & FLAGS, due_ms, state, local })
    }
}

/// What a header's row adds to the hash tree of its class.
pub(crate) fn share(row_key: &[u8], record: &[u8]) -> Share {
    let outline = open(row_key, record).ok().and_then(split_standing);
    match outline.and_then(|(_, rest)| Outline::of(rest)) {
        None => Share::Damaged,
        Some(outline) if outline.state.is_empty() || outline.flags & HIDDEN != 0 => Share::Nothing,
        Some(Outline { class, flags, state, .. }) => {
            let is_settled = flags & UNSETTLED == 0;
            Share::Key { class, digest: is_settled.then(|| key_digest(row_key, state)) }
        }
    }
}

impl Header {
    /// Types that a reader sees something of.
    pub(crate) fn live_tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.tags.iter().filter(|(_, part)| part.is_live()).map(|(&tag, _)| tag)
    }

    /// Whether it is what is left of a deleted key, of which nothing needs to be known for ever.
    pub(crate) fn is_remnant(&self) -> bool {
        !self.tags.is_empty() && self.tags.values().all(Part::is_remnant)
    }

    /// Whether it counts as gone.
    pub(crate) fn is_hidden(&self) -> bool {
        self.age.is_hidden && self.is_remnant()
    }

    /// When a register was deleted that it is a remnant of.
    pub(crate) fn tombstone(&self) -> Option<Stamp> {
        match self.tags.get(&Tag::LWW) {
            Some(Part::Whole(State::Register(register))) => {
                register.base.as_ref().map(|it| it.stamp)
            }
            _ => None,
        }
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

    /// The record of `key`'s header row at `at`, counted in the hash tree of `class`.
    pub(crate) fn encode(&self, at: &RowKey, key: &Key, class: u8) -> Vec<u8> {
        let live: Vec<u8> = self.live_tags().map(|tag| tag.0).collect();
        let count = u16::try_from(live.len()).expect("there are 256 tags");
        let key = at.is_long().then_some(key);
        let mut state = StateOut { states: Value::default(), collections: TagMap::new() };
        let remnant = self.is_remnant().then_some(self.age);
        let mut local = LocalOut { key, remnant, collections: TagMap::new() };
        for (&tag, part) in &self.tags {
            match part {
                Part::Whole(whole) if whole.is_bottom() => {}
                // Long values are shared, not copied.
                Part::Whole(whole) => drop(state.states.0.insert(tag, whole.clone())),
                Part::Collection(collection) if collection.is_bottom() => {}
                Part::Collection(collection) => {
                    let Collection { context, cleared, deducted, digest, .. } = collection;
                    state.collections.insert(tag, (context, *digest));
                    let beside = LocalCollection {
                        cleared,
                        deducted: deducted.as_ref(),
                        live: collection.live,
                        tallies: collection.tallies,
                        is_chunked: collection.is_chunked,
                    };
                    local.collections.insert(tag, beside);
                }
            }
        }
        let is_nothing = state.states.0.is_empty() && state.collections.is_empty();
        let state = if is_nothing { Vec::new() } else { clock::encode(&state) };
        let local = if local.is_nothing() { Vec::new() } else { clock::encode(&local) };
        let length = u32::try_from(state.len()).ok().filter(|length| length & FLAGS == 0);
        let mut length = length.expect("a state is far below 256 MiB: its parts are limited");
        // Of a bucket that was dropped nothing is to be removed by its deadline.
        let due_ms = self.deadline_ms().filter(|_| class != GONE).map(u64::to_be_bytes);
        if due_ms.is_some() {
            length |= IS_SCHEDULED;
        }
        if !self.tags.values().all(Part::is_settled) {
            length |= UNSETTLED;
        }
        if self.tags.values().any(|part| matches!(part, Part::Whole(State::Opaque(_)))) {
            length |= UNKNOWN_TYPE;
        }
        if self.is_hidden() {
            length |= HIDDEN;
        }
        let body = [
            count.to_be_bytes().as_slice(),
            &self.siblings().to_be_bytes(),
            &live,
            &[class],
            &length.to_be_bytes(),
            due_ms.as_ref().map_or(&[][..], |due_ms| due_ms),
            &state,
            &local,
        ]
        .concat();
        seal(at.as_bytes(), &body)
    }

    /// The header in `record`, with the key where the row's key is a digest.
    pub(crate) fn decode(
        row_key: &[u8],
        record: &[u8],
    ) -> Result<(Self, Option<Key>), StorageError> {
        let cut_short = || damaged("header cut short");
        let (_, rest) = split_standing(open(row_key, record)?).ok_or_else(cut_short)?;
        let Outline { state, local, .. } = Outline::of(rest).ok_or_else(cut_short)?;
        let LocalIn { key, remnant, collections: mut beside } =
            if local.is_empty() { LocalIn::default() } else { decode(local)? };
        if state.is_empty() {
            return Ok((Self::default(), key));
        }
        let StateIn { states, collections } = decode(state)?;
        let states = states.0.into_iter().map(|(tag, state)| (tag, Part::Whole(state)));
        let mut tags: TagMap<Part> = states.collect();
        for (tag, (context, digest)) in collections {
            let LocalCollection { cleared, deducted, live, tallies, is_chunked } = beside
                .remove(&tag)
                .ok_or_else(|| damaged(format_args!("{tag} stored without its local part")))?;
            let collection =
                Collection { context, cleared, deducted, live, digest, tallies, is_chunked };
            tags.insert(tag, Part::Collection(collection));
        }
        for (&tag, part) in &tags {
            if is_collection(tag) != matches!(part, Part::Collection(_)) {
                return Err(damaged(format_args!("{tag} stored in the wrong form")));
            }
        }
        Ok((Self { tags, age: remnant.unwrap_or_default() }, key))
    }
}

/// How old the remnant of a header's record is; `None` if it is none. Unchecked: the same for the same
/// bytes.
pub(crate) fn age_unchecked(record: &[u8]) -> Option<Age> {
    let (standing, rest) = split_standing(record.get(CHECKSUM_BYTES..)?)?;
    let local = Outline::of(rest)?.local;
    if !standing.live.is_empty() || local.is_empty() {
        return None;
    }
    decode::<LocalIn>(local).ok()?.remnant
}

/// How the key of a header's record stands, whole or damaged: unchecked, for counting.
pub(crate) fn standing_unchecked(record: &[u8]) -> Standing<'_> {
    let body = record.get(CHECKSUM_BYTES..);
    body.and_then(split_standing).map_or_else(Standing::default, |(standing, _)| standing)
}

/// When something of a header's record is due, whole or damaged: unchecked, for listing.
pub(crate) fn due_unchecked(record: &[u8]) -> Option<u64> {
    let (_, rest) = record.get(CHECKSUM_BYTES..).and_then(split_standing)?;
    Outline::of(rest)?.due_ms
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

/// The record of a leaf of a hash tree.
pub(crate) fn encode_leaf(row_key: &[u8], sum: LeafSum) -> Vec<u8> {
    seal(row_key, &clock::encode(&sum))
}

/// The sum in the record of a leaf.
pub(crate) fn decode_leaf(row_key: &[u8], record: &[u8]) -> Result<LeafSum, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a chunk of a collection.
pub(crate) fn encode_chunk(row_key: &[u8], chunk: &Chunk) -> Vec<u8> {
    seal(row_key, &clock::encode(chunk))
}

/// The chunk in its record.
pub(crate) fn decode_chunk(row_key: &[u8], record: &[u8]) -> Result<Chunk, StorageError> {
    decode(open(row_key, record)?)
}

/// Whether there is more to look at than a header's share of its tree.
pub(crate) fn has_more(record: &[u8]) -> bool {
    let outline = record.get(CHECKSUM_BYTES..).and_then(split_standing);
    outline
        .and_then(|(_, rest)| Outline::of(rest))
        .is_none_or(|rest| !rest.local.is_empty() || rest.flags & UNKNOWN_TYPE != 0)
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

/// The record that says which round of the barrier was entered.
pub(crate) fn encode_round(row_key: &[u8], round: u64) -> Vec<u8> {
    seal(row_key, &clock::encode(&round))
}

/// The round in that record.
pub(crate) fn decode_round(row_key: &[u8], record: &[u8]) -> Result<u64, StorageError> {
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
