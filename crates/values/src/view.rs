//! Views: what one replica, or several merged, show of a value within a scope.

use std::collections::{BTreeMap, BTreeSet};

use clock::CausalContext;
use serde::{Deserialize, Serialize};

use crate::{Blob, Causal, Delta, DotMap, DotStore, State, Tag, Touch, Value, WrongType};

/// Which part of a value is looked at. Every scope has all of `bytes`, `lww` and `counter`, and the
/// context and summary of every collection; they differ in the elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// No elements.
    Headers,
    /// The named elements of one collection.
    Elements {
        /// Which collection.
        tag: Tag,
        /// Which elements.
        elements: BTreeSet<Blob>,
    },
    /// Up to `limit` elements of one collection after `after`, in order.
    Range {
        /// Which collection.
        tag: Tag,
        /// The element to go on after; `None` for the first page.
        after: Option<Blob>,
        /// How many elements at most; at least 1.
        limit: u32,
    },
    /// What a removal of the whole key must name: map fields with increments.
    Removal,
    /// Everything.
    Whole,
}

/// Size and digest of a collection, elements not looked at included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSummary {
    /// Number of live elements.
    pub live: u64,
    /// Order-independent digest of all rows: equal summaries mean equal elements.
    pub digest: u128,
    /// Whether this is the summary of one replica, or of several that agree. If not, `live` is
    /// only the largest that any of them showed.
    pub exact: bool,
}

/// What a reader sees within a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The states, collections with the elements in scope only, but with their whole contexts.
    pub value: Value,
    /// Summaries of the collections.
    pub collections: BTreeMap<Tag, CollectionSummary>,
    /// In a [`Scope::Range`]: the last element looked at, if there are more after it.
    pub next: Option<Blob>,
}

impl View {
    /// The view of a whole value (summaries counted, digests left at 0).
    pub fn of(value: Value) -> Self {
        let summary = |state: &State| {
            let live = match state {
                State::Gset(state) | State::Orset(state) => live_count(&state.store),
                State::Cart(state) => live_count(&state.store),
                State::Map(state) => live_count(&state.store),
                _ => return None,
            };
            Some(CollectionSummary { live, digest: 0, exact: true })
        };
        let collections =
            value.0.iter().filter_map(|(&tag, state)| Some((tag, summary(state)?))).collect();
        Self { value, collections, next: None }
    }

    /// Whether the key has something of type `tag`.
    pub fn is_live(&self, tag: Tag) -> bool {
        match self.collections.get(&tag) {
            Some(summary) => summary.live > 0,
            None => self.value.state(tag).is_some_and(State::is_live),
        }
    }

    /// Every type that the key has something of. More than one is a type conflict.
    pub fn live_tags(&self) -> Vec<Tag> {
        self.value.0.keys().copied().filter(|&tag| self.is_live(tag)).collect()
    }

    /// Whether an operation of `tag` makes sense: the key has something of that type, or nothing.
    pub fn check_type(&self, tag: Tag) -> Result<(), WrongType> {
        let live = self.live_tags();
        if live.is_empty() || live.contains(&tag) {
            Ok(())
        } else {
            Err(WrongType { wanted: tag, live })
        }
    }

    /// Merges another replica's view within the same scope.
    pub fn merge(&mut self, other: &Self) {
        for (&tag, theirs) in &other.collections {
            let known = self.value.0.contains_key(&tag);
            let mine = self
                .collections
                .entry(tag)
                .or_insert(CollectionSummary { exact: !known, ..CollectionSummary::default() });
            if *mine != *theirs {
                let live = mine.live.max(theirs.live);
                *mine = CollectionSummary { live, digest: 0, exact: false };
            }
        }
        self.value.merge(&other.value);
        self.next = match (self.next.take(), &other.next) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs.clone())),
            (mine, theirs) => mine.or_else(|| theirs.clone()),
        };
        if let Some(next) = &self.next {
            // Beyond the shorter page one side has not looked.
            for state in self.value.0.values_mut() {
                match state {
                    State::Gset(state) | State::Orset(state) => cut(state, next),
                    State::Cart(state) => cut(state, next),
                    State::Map(state) => cut(state, next),
                    _ => {}
                }
            }
        }
    }

    /// The delta that brings a replica which showed `stale` within the same scope up to this view;
    /// `None` if it lacks nothing. Speaks only of dots that one of the two shows, so the replica
    /// claims to have seen nothing else (read repair, Dynamo §5).
    pub fn repair(&self, stale: &Self) -> Option<Delta> {
        let mut delta = Delta::default();
        for (&tag, state) in &self.value.0 {
            let theirs = stale.value.state(tag);
            if theirs == Some(state) {
                continue;
            }
            let repaired = match (state, theirs) {
                (State::Gset(mine), Some(State::Gset(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Gset(part), names))
                }
                (State::Gset(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Gset(part), names)),
                (State::Orset(mine), Some(State::Orset(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Orset(part), names))
                }
                (State::Orset(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Orset(part), names)),
                (State::Cart(mine), Some(State::Cart(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Cart(part), names))
                }
                (State::Cart(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Cart(part), names)),
                (State::Map(mine), Some(State::Map(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Map(part), names))
                }
                (State::Map(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Map(part), names)),
                (whole, _) => Some((whole.clone(), BTreeSet::new())),
            };
            if let Some((state, elements)) = repaired {
                delta.value.0.insert(tag, state);
                if !elements.is_empty() {
                    delta.touch.insert(tag, Touch { elements, everything: false });
                }
            }
        }
        (!delta.is_empty()).then_some(delta)
    }
}

fn live_count<E: DotStore>(store: &DotMap<E>) -> u64 {
    store.0.values().filter(|entry| entry.is_live()).count() as u64
}

fn cut<E>(state: &mut Causal<DotMap<E>>, next: &Blob) {
    state.store.0.retain(|element, _| element <= next);
}

/// The part of `mine` that `theirs` lacks, and the elements it names.
fn repair_elements<E: DotStore>(
    mine: &Causal<DotMap<E>>,
    theirs: &Causal<DotMap<E>>,
) -> Option<(Causal<DotMap<E>>, BTreeSet<Blob>)> {
    let mut part = Causal::<DotMap<E>>::default();
    let mut names = BTreeSet::new();
    for (element, entry) in &mine.store.0 {
        if theirs.store.0.get(element) != Some(entry) {
            part.context.extend(entry.dots());
            part.store.0.insert(element.clone(), entry.clone());
        }
    }
    for (element, entry) in &theirs.store.0 {
        let live = mine.store.0.get(element).map_or_else(Vec::new, E::dots);
        let dead: CausalContext = entry
            .dots()
            .into_iter()
            .filter(|dot| mine.context.contains(*dot) && !live.contains(dot))
            .collect();
        if !dead.is_empty() {
            part.context.merge(&dead);
            names.insert(element.clone());
        }
    }
    (!part.store.0.is_empty() || !names.is_empty()).then_some((part, names))
}
