//! What a schedule removes: exactly what was observed, as a lattice of its own, so that additions to
//! it join.
//!
//! No dot is minted when it is applied, so every replica's application is the same delta: a
//! register's write is removed under its own stamp and dot, a tally is reset to the totals observed,
//! and what hangs on dots goes with them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clock::{CausalContext, Dot, Stamp};
use serde::{Deserialize, Serialize};

use crate::{
    Base, Blob, Causal, CounterState, Delta, DotFun, DotMap, DotStore, Field, Minted, Register,
    State, Tag, Tally, View, empty_collection, is_collection,
};

/// About how many bytes a field takes beside its name.
const FIELD_BYTES: usize = 64;

/// What was observed of a key, to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Removal {
    /// The dots of `bytes` and of collections, and those of a register's writes.
    dots: BTreeMap<Tag, CausalContext>,
    /// The latest of these.
    base: Option<(Stamp, Dot)>,
    /// The increments of a register, as they are to be reset.
    register: Tally,
    /// Those of a counter.
    counter: Tally,
    /// Those of the fields of a map.
    fields: BTreeMap<Blob, Tally>,
}

impl Removal {
    /// All that `view` shows of the types that are meant. A collection is covered whole, also the
    /// elements that are not at hand, but for the increments of a map's fields.
    pub(crate) fn of_shown(view: &View, is_meant: impl Fn(Tag) -> bool) -> Self {
        let mut removal = Self::default();
        for (&tag, state) in &view.value.0 {
            if !is_meant(tag) || !view.is_live(tag) {
                continue;
            }
            removal.add(tag, state, |_| true);
            if is_collection(tag) {
                removal.dots.insert(tag, state.context().clone());
            }
        }
        removal
    }

    /// What `delta` writes, of which `minted` are the dots. What it has folded it did not write.
    pub(crate) fn of_written(delta: &Delta, minted: Option<Minted>) -> Self {
        let mut removal = Self::default();
        for (&tag, state) in &delta.value.0 {
            // The delta of `bytes` is the whole state: beside the new sibling it shows others.
            let is_new = |dot| tag != Tag::BYTES || minted.is_some_and(|m| m.contains(dot));
            removal.add(tag, state, is_new);
        }
        for (_, tally) in removal.tallies_mut() {
            *tally = tally.without_sums();
        }
        removal
    }

    /// Adds what `state` holds, of `bytes` the dots that are meant.
    fn add(&mut self, tag: Tag, state: &State, is_meant: impl Fn(Dot) -> bool) {
        let dots = match state {
            State::Bytes(state) => {
                state.store.dots().into_iter().filter(|dot| is_meant(*dot)).collect()
            }
            State::Register(register) => {
                let write = register.base.as_ref().filter(|base| base.value.is_some());
                self.base = self.base.max(write.map(|base| (base.stamp, base.dot)));
                self.register.merge(&register.tally.reset());
                write.map(|base| base.dot).into_iter().collect()
            }
            State::Counter(counter) => return self.counter.merge(&counter.tally.reset()),
            State::Gset(state) | State::Orset(state) => state.store.dots(),
            State::Cart(state) => state.store.dots(),
            State::Map(map) => {
                for (name, field) in map.store.0.iter().filter(|(_, f)| f.tally.is_live()) {
                    self.fields.entry(name.clone()).or_default().merge(&field.tally.reset());
                }
                // With the dots of increments, so that it is seen when all of a map is covered.
                map.store.0.values().flat_map(DotStore::dots).collect()
            }
            State::Expiry(_) | State::Opaque(_) => return,
        };
        if !dots.is_empty() {
            self.dots.entry(tag).or_default().extend(dots);
        }
    }

    /// Whether it names dots of a type.
    pub fn has_dots(&self, tag: Tag) -> bool {
        self.dots.contains_key(&tag)
    }

    /// What it resets of a counter or register; nothing of another type.
    pub(crate) fn tally(&self, tag: Tag) -> &Tally {
        static NOTHING: LazyLock<Tally> = LazyLock::new(Tally::default);
        match tag {
            Tag::COUNTER => &self.counter,
            Tag::LWW => &self.register,
            _ => &NOTHING,
        }
    }

    /// The same, of one of these two, to add to.
    pub(crate) const fn tallies_mut(&mut self) -> [(Tag, &mut Tally); 2] {
        [(Tag::COUNTER, &mut self.counter), (Tag::LWW, &mut self.register)]
    }

    /// Whether it removes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// About how many bytes it holds beyond its contexts: what grows with the number of fields.
    pub(crate) fn field_bytes(&self) -> usize {
        self.fields.keys().map(|name| name.len() + FIELD_BYTES).sum()
    }

    /// The least upper bound: removes what either removes.
    pub fn merge(&mut self, other: &Self) {
        for (&tag, dots) in &other.dots {
            self.dots.entry(tag).or_default().merge(dots);
        }
        self.base = self.base.max(other.base);
        self.register.merge(&other.register);
        self.counter.merge(&other.counter);
        for (name, tally) in &other.fields {
            self.fields.entry(name.clone()).or_default().merge(tally);
        }
    }

    /// The delta that removes it.
    pub fn delta(&self) -> Delta {
        let mut delta = Delta::default();
        for (&tag, context) in &self.dots {
            let context = context.clone();
            let part = match State::bottom(tag) {
                State::Bytes(_) => {
                    Delta::of(tag, State::Bytes(Causal { store: DotFun::default(), context }))
                }
                State::Gset(_) | State::Orset(_) | State::Cart(_) | State::Map(_) => {
                    Delta::sweeping(tag, empty_collection(tag, context))
                }
                // Nothing of another type is removed by dots. A peer could send anything.
                _ => continue,
            };
            delta.merge(&part);
        }
        let base = self.base.map(|(stamp, dot)| Base { stamp, dot, value: None });
        let context = self.dots.get(&Tag::LWW).cloned().unwrap_or_default();
        let register = Register { base, tally: self.register.clone(), context };
        delta.merge(&Delta::of(Tag::LWW, State::Register(register)));
        let counter = CounterState { tally: self.counter.clone(), ..CounterState::default() };
        delta.merge(&Delta::of(Tag::COUNTER, State::Counter(counter)));
        let fields = self.fields.iter().map(|(name, tally)| (name.clone(), reset_field(tally)));
        let fields = Causal { store: DotMap(fields.collect()), context: CausalContext::default() };
        delta.merge(&Delta::of(Tag::MAP, State::Map(fields)));
        delta
    }

    /// Removes it from what `view` shows.
    pub(crate) fn take_from(&self, view: &mut View) {
        let mut delta = self.delta();
        if let (Some(State::Map(theirs)), shown) =
            (delta.value.0.get_mut(&Tag::MAP), view.value.state(Tag::MAP))
        {
            // Fields beyond the view's scope stay beyond it.
            theirs.store.0.retain(|name, _| match shown {
                Some(State::Map(mine)) => mine.store.0.contains_key(name),
                _ => false,
            });
        }
        let is_whole: Vec<Tag> =
            self.dots.keys().copied().filter(|&tag| view.shows_all(tag)).collect();
        view.value.apply(&delta);
        for (tag, summary) in &mut view.collections {
            let Some(removed) = self.dots.get(tag) else { continue };
            let Some(state) = view.value.state(*tag) else { continue };
            let left = state.live_elements();
            let all_gone = removed.descends(state.context());
            if is_whole.contains(tag) || all_gone {
                summary.live = left;
            } else {
                *summary = crate::CollectionSummary { digest: 0, exact: false, ..*summary };
            }
        }
    }

    /// Whether it removes something that `view` shows.
    pub(crate) fn removes_from(&self, view: &View) -> bool {
        view.value.0.iter().any(|(tag, state)| match state {
            State::Bytes(state) => {
                let removed = self.dots.get(tag);
                state.store.0.keys().any(|dot| removed.is_some_and(|all| all.contains(*dot)))
            }
            State::Register(register) => {
                let write = register.base.as_ref().filter(|base| base.value.is_some());
                write.is_some_and(|base| Some((base.stamp, base.dot)) <= self.base)
                    || register.tally.loses_by(&self.register)
            }
            State::Counter(counter) => counter.tally.loses_by(&self.counter),
            State::Expiry(_) | State::Opaque(_) => false,
            _ => {
                let is_named = *tag == Tag::MAP && !self.fields.is_empty();
                view.is_live(*tag) && (is_named || self.dots.contains_key(tag))
            }
        })
    }
}

fn reset_field(tally: &Tally) -> Field {
    Field { writes: DotFun::default(), tally: tally.clone() }
}
