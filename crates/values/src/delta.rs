//! Deltas: small states, and the names of the elements that they take away.
//!
//! A delta's context holds exactly the dots that it speaks of. A removal leaves no entry behind,
//! so it names the element it removed from: that is how the element's row is found. A delta that
//! speaks of elements without naming them (a cleared collection) says that it touches everything.

mod split;

use std::collections::BTreeSet;

use clock::CausalContext;
use serde::{Deserialize, Serialize};

use crate::{Blob, Expiry, State, Tag, TagMap, Value, only, tag_map};

/// Which elements of one tag a delta touches beyond those it holds entries of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Touch {
    /// Elements from which dots were removed.
    pub elements: BTreeSet<Blob>,
    /// Whether any element may hold a dot of the delta's context.
    pub everything: bool,
}

/// A small state to merge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delta {
    /// The state.
    pub value: Value,
    /// What it touches beyond its entries.
    #[serde(deserialize_with = "tag_map")]
    pub touch: TagMap<Touch>,
}

impl Delta {
    /// A delta of one tag that touches only what it holds. Like the other constructors, empty if
    /// `state` is bottom.
    pub fn of(tag: Tag, state: State) -> Self {
        if state.is_bottom() {
            return Self::default();
        }
        Self { value: Value(only(tag, state)), touch: TagMap::new() }
    }

    /// A delta of one tag that also removed from `elements`.
    pub fn touching(tag: Tag, state: State, elements: impl IntoIterator<Item = Blob>) -> Self {
        let touch = Touch { elements: elements.into_iter().collect(), everything: false };
        Self::with_touch(tag, state, touch)
    }

    /// A delta of one tag that removed dots from no matter which elements.
    pub fn sweeping(tag: Tag, state: State) -> Self {
        Self::with_touch(tag, state, Touch { elements: BTreeSet::new(), everything: true })
    }

    /// Leaves out which schedules were taken back: to whom that is told before what their sweeps removed, it shows again
    /// what had ended.
    pub fn leave_taken_back(&mut self) {
        let Some(State::Expiry(expiry)) = self.value.0.get_mut(&Tag::EXPIRY) else { return };
        *expiry = expiry.added_to(&Expiry::default());
        if expiry.store.0.is_empty() {
            self.value.0.remove(&Tag::EXPIRY);
            self.touch.remove(&Tag::EXPIRY);
        }
    }

    /// Adds to a delta that speaks of `tag` what a context says of actors of that.
    pub fn seal(&mut self, tag: Tag, seals: &CausalContext) {
        if let Some(context) = self.value.0.get_mut(&tag).and_then(State::context_mut) {
            context.merge(seals);
        }
    }

    fn with_touch(tag: Tag, state: State, touch: Touch) -> Self {
        let mut delta = Self::of(tag, state);
        if !delta.is_empty() && touch != Touch::default() {
            delta.touch.insert(tag, touch);
        }
        delta
    }

    /// The whole of `value` as a delta.
    pub fn whole(value: Value) -> Self {
        let everything = Touch { elements: BTreeSet::new(), everything: true };
        let touch = value.0.keys().map(|&tag| (tag, everything.clone())).collect();
        Self { value, touch }
    }

    /// Joins another delta: merging the result equals merging both, in any order.
    pub fn merge(&mut self, other: &Self) {
        // What a join drops from the entries must stay named.
        for (&tag, state) in &self.value.0 {
            if other.value.0.contains_key(&tag) {
                // Whoever can read an unknown state will find several joined, and no names of
                // what that drops.
                touches(&mut self.touch, tag, state.elements(), matches!(state, State::Opaque(_)));
            }
        }
        for (&tag, state) in &other.value.0 {
            touches(&mut self.touch, tag, state.elements(), false);
            if let Some(theirs) = other.touch.get(&tag) {
                let elements = theirs.elements.iter().cloned();
                touches(&mut self.touch, tag, elements, theirs.everything);
            }
        }
        self.value.merge(&other.value);
    }

    /// Whether rows that the delta does not name must be visited.
    pub fn touches_everything(&self, tag: Tag) -> bool {
        self.touch.get(&tag).is_some_and(|touch| touch.everything)
    }

    /// The elements of `tag` that the delta names, each once, in order.
    pub fn named_elements(&self, tag: Tag) -> BTreeSet<Blob> {
        let mut elements =
            self.value.state(tag).map_or_else(BTreeSet::new, |state| state.elements().collect());
        if let Some(touch) = self.touch.get(&tag) {
            elements.extend(touch.elements.iter().cloned());
        }
        elements
    }

    /// Whether merging it changes nothing anywhere.
    pub fn is_empty(&self) -> bool {
        self.value.0.is_empty()
    }
}

/// Adds to what is touched of a tag; of one of which nothing is, nothing is said.
fn touches(
    touch: &mut TagMap<Touch>,
    tag: Tag,
    elements: impl Iterator<Item = Blob>,
    everything: bool,
) {
    let mut elements = elements.peekable();
    if elements.peek().is_some() || everything {
        let touch = touch.entry(tag).or_default();
        touch.elements.extend(elements);
        touch.everything |= everything;
    }
}

impl State {
    /// The elements held, of a collection; none of another type.
    pub(crate) fn elements(&self) -> Box<dyn Iterator<Item = Blob> + '_> {
        match self {
            Self::Gset(state) | Self::Orset(state) => Box::new(state.store.0.keys().cloned()),
            Self::Cart(state) => Box::new(state.store.0.keys().cloned()),
            Self::Map(state) => Box::new(state.store.0.keys().cloned()),
            _ => Box::new(std::iter::empty()),
        }
    }
}
