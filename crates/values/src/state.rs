//! The state of one type tag, and of a key: one state per tag, joined tag by tag.

use std::collections::BTreeSet;

use clock::{CausalContext, Stamp};
use serde::{Deserialize, Serialize};

mod encoding;

pub use encoding::{deserialize_states, serialize_states};

use crate::{
    Blob, Causal, Delta, DotFun, DotMap, DotSet, DotStore, Expiry, Field, Register, Tag, TagMap,
    Tally,
};

/// One of the concurrent values of a `bytes` key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sibling {
    /// The value put.
    pub value: Blob,
    /// When, in hybrid time: shown to people, decides nothing.
    pub stamp: Stamp,
}

/// State of the `counter` type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CounterState {
    /// What was counted.
    pub tally: Tally,
    /// Every write seen.
    pub context: CausalContext,
}

/// The state of one type tag. Encoded only under its tag, as part of a [`Value`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `bytes`: dots with a sibling each (a multi-value register).
    Bytes(Causal<DotFun<Sibling>>),
    /// `lww`.
    Register(Register),
    /// `gset`: each element under the dots of its adds.
    Gset(Causal<DotMap<DotSet>>),
    /// `counter`.
    Counter(CounterState),
    /// `orset`: each element under the dots of its adds.
    Orset(Causal<DotMap<DotSet>>),
    /// `cart`: each item under the dots of its adds, each with its quantity.
    Cart(Causal<DotMap<DotFun<u64>>>),
    /// `map`.
    Map(Causal<DotMap<Field>>),
    /// The schedules of the key: no type of value, never live.
    Expiry(Expiry),
    /// A type that this build does not know: every encoding of it that came in, to be merged by a
    /// node that knows it.
    Opaque(BTreeSet<Blob>),
}

static NOTHING: std::sync::LazyLock<CausalContext> = std::sync::LazyLock::new(Default::default);

impl State {
    /// The state of `tag` before any write.
    pub fn bottom(tag: Tag) -> Self {
        match tag {
            Tag::BYTES => Self::Bytes(Causal::default()),
            Tag::LWW => Self::Register(Register::default()),
            Tag::GSET => Self::Gset(Causal::default()),
            Tag::COUNTER => Self::Counter(CounterState::default()),
            Tag::ORSET => Self::Orset(Causal::default()),
            Tag::CART => Self::Cart(Causal::default()),
            Tag::MAP => Self::Map(Causal::default()),
            Tag::EXPIRY => Self::Expiry(Causal::default()),
            _ => Self::Opaque(BTreeSet::new()),
        }
    }

    /// Every dot seen of this tag.
    pub fn context(&self) -> &CausalContext {
        match self {
            Self::Bytes(state) => &state.context,
            Self::Register(state) => &state.context,
            Self::Gset(state) | Self::Orset(state) => &state.context,
            Self::Counter(state) => &state.context,
            Self::Cart(state) => &state.context,
            Self::Map(state) => &state.context,
            Self::Expiry(state) => &state.context,
            Self::Opaque(_) => &NOTHING,
        }
    }

    /// The same, to add to; none of an unknown type.
    pub(crate) const fn context_mut(&mut self) -> Option<&mut CausalContext> {
        Some(match self {
            Self::Bytes(state) => &mut state.context,
            Self::Register(state) => &mut state.context,
            Self::Gset(state) | Self::Orset(state) => &mut state.context,
            Self::Counter(state) => &mut state.context,
            Self::Cart(state) => &mut state.context,
            Self::Map(state) => &mut state.context,
            Self::Expiry(state) => &mut state.context,
            Self::Opaque(_) => return None,
        })
    }

    /// Whether a reader of the whole state sees something. For a collection whose elements are
    /// not all here (a view) ask [`View::is_live`](crate::View::is_live).
    pub fn is_live(&self) -> bool {
        match self {
            Self::Bytes(state) => state.store.is_live(),
            Self::Register(state) => state.is_live(),
            Self::Gset(state) | Self::Orset(state) => state.store.is_live(),
            Self::Counter(state) => state.tally.is_live(),
            Self::Cart(state) => state.store.is_live(),
            Self::Map(state) => state.store.is_live(),
            Self::Expiry(_) => false,
            Self::Opaque(encodings) => !encodings.is_empty(),
        }
    }

    /// Whether it is the state before any write. Never kept under a tag: a write that changes
    /// nothing must not make equal values differ.
    pub fn is_bottom(&self) -> bool {
        match self {
            Self::Bytes(state) => state.is_bottom(),
            Self::Register(state) => state.is_bottom(),
            Self::Gset(state) | Self::Orset(state) => state.is_bottom(),
            Self::Counter(state) => *state == CounterState::default(),
            Self::Cart(state) => state.is_bottom(),
            Self::Map(state) => state.is_bottom(),
            Self::Expiry(state) => state.is_bottom(),
            Self::Opaque(encodings) => encodings.is_empty(),
        }
    }

    /// The least upper bound: commutative, associative, idempotent, total. Visits every element of
    /// both sides; a delta is cheaper to [`Value::apply`].
    ///
    /// Two states of different kinds never stand under one tag; should a peer send such, ours is
    /// kept.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Bytes(mine), Self::Bytes(theirs)) => mine.merge(theirs),
            (Self::Register(mine), Self::Register(theirs)) => mine.merge(theirs),
            (Self::Gset(mine), Self::Gset(theirs)) | (Self::Orset(mine), Self::Orset(theirs)) => {
                mine.merge(theirs)
            }
            (Self::Counter(mine), Self::Counter(theirs)) => {
                let (mine, seen) = (&mut mine.tally, &mut mine.context);
                mine.merge_with(seen, &theirs.tally, &theirs.context);
            }
            (Self::Cart(mine), Self::Cart(theirs)) => mine.merge(theirs),
            (Self::Map(mine), Self::Map(theirs)) => mine.merge(theirs),
            (Self::Expiry(mine), Self::Expiry(theirs)) => mine.merge(theirs),
            (Self::Opaque(mine), Self::Opaque(theirs)) => {
                mine.extend(theirs.iter().cloned());
            }
            _ => {}
        }
    }
}

/// A key's state: one state per tag, of that tag's kind (encoding: `state/encoding.rs`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Value(pub TagMap<State>);

impl<const N: usize> From<[(Tag, State); N]> for Value {
    fn from(states: [(Tag, State); N]) -> Self {
        Self(states.into_iter().collect())
    }
}

impl Value {
    /// The state of `tag`, if there ever was one.
    pub fn state(&self, tag: Tag) -> Option<&State> {
        self.0.get(&tag)
    }

    /// What was seen of `tag`.
    pub fn context(&self, tag: Tag) -> &CausalContext {
        self.state(tag).map_or_else(|| &*NOTHING, State::context)
    }

    /// The least upper bound, tag by tag. Both must be whole, or views within one scope.
    pub fn merge(&mut self, other: &Self) {
        for (&tag, theirs) in other.0.iter().filter(|(_, theirs)| !theirs.is_bottom()) {
            self.0.entry(tag).or_insert_with(|| State::bottom(tag)).merge(theirs);
        }
    }

    /// Merges a delta, visiting only the elements that it names.
    pub fn apply(&mut self, delta: &Delta) {
        if self.0.is_empty() {
            self.0 = TagMap::with_capacity(delta.value.0.len());
        }
        for (&tag, theirs) in delta.value.0.iter().filter(|(_, theirs)| !theirs.is_bottom()) {
            let mine = self.0.entry(tag).or_insert_with(|| State::bottom(tag));
            if delta.touches_everything(tag) {
                mine.merge(theirs);
                continue;
            }
            match (mine, theirs) {
                (State::Gset(mine), State::Gset(theirs))
                | (State::Orset(mine), State::Orset(theirs)) => {
                    apply_elements(mine, theirs, delta, tag);
                }
                (State::Cart(mine), State::Cart(theirs)) => {
                    apply_elements(mine, theirs, delta, tag);
                }
                (State::Map(mine), State::Map(theirs)) => apply_elements(mine, theirs, delta, tag),
                (mine, theirs) => mine.merge(theirs),
            }
        }
    }
}

fn apply_elements<E: DotStore>(
    mine: &mut Causal<DotMap<E>>,
    theirs: &Causal<DotMap<E>>,
    delta: &Delta,
    tag: Tag,
) {
    for element in delta.named_elements(tag) {
        mine.store.join_element(&element, &mine.context, &theirs.store, &theirs.context);
    }
    mine.context.merge(&theirs.context);
}
