//! Headers: one key's states, and how they are written and read.

use std::collections::BTreeSet;

use clock::{CausalContext, Stamp};
use serde::{Deserialize, Serialize, Serializer};
use values::{
    Key, State, Tag, TagMap, deserialize_states, is_collection, serialize_states, tag_map,
};

use super::outline::{
    HAS_LOCAL, HIDDEN, IS_SCHEDULED, Outline, UNKNOWN_TYPE, UNSETTLED, push_number,
};
use super::{
    CHECKSUM_BYTES, Collection, Part, Tallies, damaged, decode, open, seal_in_place, trim,
};
use crate::StorageError;
use crate::row_key::RowKey;
use crate::tree::GONE;

/// Room for most records.
const RECORD_BYTES: usize = 256;

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

/// A header's state as it is stored. States stand as they do in a message, so that one of a type
/// that this build does not know is kept as it came.
#[derive(Serialize)]
struct StateOut<'a> {
    states: States<'a>,
    /// Context and digest of each collection.
    collections: TagMap<(&'a CausalContext, u128)>,
}

/// The states of all types but collections, written as those of a value.
struct States<'a>(&'a TagMap<Part>);

impl<'a> States<'a> {
    fn iter(&self) -> impl Iterator<Item = (Tag, &'a State)> + Clone + use<'a> {
        self.0.iter().filter_map(|(&tag, part)| match part {
            Part::Whole(state) if !state.is_bottom() => Some((tag, state)),
            _ => None,
        })
    }
}

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_states(self.iter(), serializer)
    }
}

#[derive(Deserialize)]
struct StateIn {
    #[serde(deserialize_with = "deserialize_states")]
    states: TagMap<Part>,
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

impl Header {
    /// Types that a reader sees something of.
    pub(crate) fn live_tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.tags.iter().filter(|(_, part)| part.is_live()).map(|(&tag, _)| tag)
    }

    /// Whether it is what is left of a deleted key.
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
        let key = at.is_long().then_some(key);
        let states = States(&self.tags);
        let mut has_state = states.iter().next().is_some();
        let mut state = StateOut { states, collections: TagMap::new() };
        let remnant = self.is_remnant().then_some(self.age);
        let mut local = LocalOut { key, remnant, collections: TagMap::new() };
        for (&tag, part) in &self.tags {
            let Part::Collection(collection) = part else { continue };
            if collection.is_bottom() {
                continue;
            }
            has_state = true;
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
        let has_local = !local.is_nothing();
        // Of a bucket that was dropped nothing is to be removed by its deadline.
        let due_ms = self.deadline_ms().filter(|_| class != GONE);
        let is_unknown = |part: &Part| matches!(part, Part::Whole(State::Opaque(_)));
        let flags = [
            (UNSETTLED, !self.tags.values().all(Part::is_settled)),
            (UNKNOWN_TYPE, self.tags.values().any(is_unknown)),
            (IS_SCHEDULED, due_ms.is_some()),
            (HIDDEN, self.is_hidden()),
            (HAS_LOCAL, has_local),
        ];
        let flags = flags.into_iter().filter(|(_, holds)| *holds);
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(&[0; CHECKSUM_BYTES]);
        push_number(&mut record, u32::try_from(self.live_tags().count()).expect("256 tags"));
        push_number(&mut record, self.siblings());
        record.extend(self.live_tags().map(|tag| tag.0));
        record.extend([class, flags.fold(0, |all, (flag, _)| all | flag)]);
        if let Some(due_ms) = due_ms {
            record.extend_from_slice(&due_ms.to_be_bytes());
        }
        if has_local {
            let state = if has_state { clock::encode(&state) } else { Vec::new() };
            let length = u32::try_from(state.len()).expect("a state's parts are limited");
            push_number(&mut record, length);
            record.extend_from_slice(&state);
            clock::encode_into(&local, &mut record);
        } else if has_state {
            clock::encode_into(&state, &mut record);
        }
        seal_in_place(at.as_bytes(), &mut record);
        trim(&mut record);
        record
    }

    /// The header in `record`, with the key where the row's key is a digest.
    pub(crate) fn decode(
        row_key: &[u8],
        record: &[u8],
    ) -> Result<(Self, Option<Key>), StorageError> {
        let cut_short = || damaged("header cut short");
        let outline = Outline::of(open(row_key, record)?).ok_or_else(cut_short)?;
        let Outline { state, local, .. } = outline;
        let LocalIn { key, remnant, collections: mut beside } =
            if local.is_empty() { LocalIn::default() } else { decode(local)? };
        if state.is_empty() {
            return Ok((Self::default(), key));
        }
        let StateIn { states: mut tags, collections } = decode(state)?;
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

/// How old a remnant is, by the local part of its header's record; `None` if it is none.
pub(super) fn age_of(local: &[u8]) -> Option<Age> {
    if local.is_empty() { None } else { decode::<LocalIn>(local).ok()?.remnant }
}
