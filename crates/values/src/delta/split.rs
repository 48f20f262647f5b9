//! Cutting a delta into parts that fit in messages.
//!
//! Invariant: the join of the parts, merged in any order and however often, is the delta. An
//! element's entry goes with its own dots. The dots that the delta takes away are not known by
//! element, so they go with every part that names one: until all parts are in, an element still
//! holds dots that another part will take, which is what a replica looks like that has not heard
//! of the removal yet. No part claims a dot that it neither brings nor takes away.

use std::collections::{BTreeMap, BTreeSet};

use clock::{CausalContext, Dot};
use serde::Serialize;

use super::{Delta, Touch};
use crate::{Blob, Causal, DotFun, DotMap, DotStore, Sibling, State};

/// At most so many bytes encode a range of dots in a context: an actor, two counters, lengths.
const RANGE_BYTES: usize = 56;
/// At most so many bytes encode a part without its elements and dots, and an element without its
/// name and entry.
const FRAME_BYTES: usize = 64;

impl Delta {
    /// Parts whose join is this delta, each of at most `bytes_max` bytes encoded. A part is longer
    /// only where it holds no more than one sibling or element, or a register, a counter or an
    /// unknown state, which are not cut. None of nothing.
    pub fn split(self, bytes_max: usize) -> Vec<Self> {
        if self.is_empty() {
            return Vec::new();
        }
        // What is estimated to be far shorter need not be measured.
        let is_short = 2 * self.weight() + 1_024 <= bytes_max;
        if is_short || clock::encoded_length(&self) <= bytes_max {
            return vec![self];
        }
        let Self { value, mut touch } = self;
        let mut parts = Vec::new();
        for (tag, state) in value.0 {
            let touch = touch.remove(&tag).unwrap_or_default();
            let mut push = |state, touch| parts.push(Self::with_touch(tag, state, touch));
            match state {
                State::Bytes(state) => {
                    split_siblings(&state, bytes_max).into_iter().for_each(|part| {
                        push(State::Bytes(part), Touch::default());
                    });
                }
                State::Gset(state) => {
                    split_elements(state, touch, bytes_max, |s, t| push(State::Gset(s), t));
                }
                State::Orset(state) => {
                    split_elements(state, touch, bytes_max, |s, t| push(State::Orset(s), t));
                }
                State::Cart(state) => {
                    split_elements(state, touch, bytes_max, |s, t| push(State::Cart(s), t));
                }
                State::Map(state) => {
                    split_elements(state, touch, bytes_max, |s, t| push(State::Map(s), t));
                }
                whole => push(whole, touch),
            }
        }
        parts
    }

    /// The same for a repair, of which one part may be lost and another one merged: in several parts it leaves out which
    /// schedules were taken back.
    pub fn split_repair(self, bytes_max: usize) -> Vec<Self> {
        let mut parts = self.split(bytes_max);
        if parts.len() > 1 {
            parts.iter_mut().for_each(Self::leave_taken_back);
            parts.retain(|part| !part.is_empty());
        }
        parts
    }
}

/// Groups `items` in order, so that the sizes in a group sum up to at most `bytes_max`.
fn grouped<T>(items: impl Iterator<Item = (T, usize)>, bytes_max: usize) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut left = 0;
    for (item, bytes) in items {
        match groups.last_mut() {
            Some(group) if bytes <= left => {
                left -= bytes;
                group.push(item);
            }
            _ => {
                left = bytes_max.saturating_sub(bytes);
                groups.push(vec![item]);
            }
        }
    }
    groups
}

/// Bytes of an element or sibling with its own dots.
fn size(name: &Blob, entry: &impl Serialize, dots: usize) -> usize {
    FRAME_BYTES + name.len() + clock::encode(entry).len() + dots * RANGE_BYTES
}

/// The dots of `context` without those in `live`, in groups of at most `bytes_max` bytes. What the context says of actors each
/// group says: who has forgotten them would take the dots alone for news.
fn taken(context: &CausalContext, live: Vec<Dot>, bytes_max: usize) -> Vec<CausalContext> {
    let (taken, seals) = (context.without(live), context.only_seals());
    let bytes_max = bytes_max.saturating_sub(clock::encoded_length(&seals));
    let groups = grouped(taken.ranges().map(|range| (range, RANGE_BYTES)), bytes_max);
    let with_seals = |ranges: Vec<_>| {
        let mut context = CausalContext::default();
        for (actor, first, last) in ranges {
            context.insert_range(actor, first, last);
        }
        context.merge(&seals);
        context
    };
    let mut taken: Vec<_> = groups.into_iter().map(with_seals).collect();
    if taken.is_empty() && !seals.is_empty() {
        taken.push(seals);
    }
    taken
}

fn split_siblings(
    state: &Causal<DotFun<Sibling>>,
    bytes_max: usize,
) -> Vec<Causal<DotFun<Sibling>>> {
    let bytes_max = bytes_max.saturating_sub(FRAME_BYTES);
    let sized = state.store.0.iter().map(|held| (held, size(&Blob::new(), held.1, 1)));
    let held = grouped(sized, bytes_max).into_iter().map(|group| {
        let dots = group.iter().map(|(dot, _)| **dot);
        Causal {
            context: dots.filter(|dot| state.context.contains(*dot)).collect(),
            store: DotFun(group.into_iter().map(|(dot, held)| (*dot, held.clone())).collect()),
        }
    });
    let taken = taken(&state.context, state.store.dots(), bytes_max);
    let taken = taken.into_iter().map(|context| Causal { store: DotFun::default(), context });
    held.chain(taken).collect()
}

fn split_elements<E: DotStore>(
    state: Causal<DotMap<E>>,
    touch: Touch,
    bytes_max: usize,
    mut push: impl FnMut(Causal<DotMap<E>>, Touch),
) {
    let bytes_max = bytes_max.saturating_sub(FRAME_BYTES);
    let Causal { store, context } = state;
    let mut taken = taken(&context, store.dots(), bytes_max / 2);
    let mut names = touch.elements;
    if touch.everything || (store.0.is_empty() && names.is_empty()) {
        // What is taken away is taken wherever it is, so no element need be named for it.
        for context in std::mem::take(&mut taken) {
            let touch = Touch { elements: BTreeSet::new(), everything: touch.everything };
            push(Causal { store: DotMap::default(), context }, touch);
        }
    }
    if taken.is_empty() {
        names.clear();
    }
    let longest = taken.iter().map(context_bytes).max().unwrap_or(0);
    let mut items: BTreeMap<Blob, Option<E>> = names.into_iter().map(|name| (name, None)).collect();
    items.extend(store.0.into_iter().map(|(name, entry)| (name, Some(entry))));
    let sized = items.into_iter().map(|(name, entry)| {
        let bytes = match &entry {
            Some(entry) => size(&name, entry, entry.dots().len()),
            None => FRAME_BYTES + name.len(),
        };
        ((name, entry), bytes)
    });
    for group in grouped(sized, bytes_max.saturating_sub(longest)) {
        let names: BTreeSet<Blob> = group.iter().map(|(name, _)| name.clone()).collect();
        let mut part = Causal::<DotMap<E>>::default();
        let mut touch = Touch::default();
        for (name, entry) in group {
            let Some(entry) = entry else {
                touch.elements.insert(name);
                continue;
            };
            let dots = entry.dots().into_iter().filter(|dot| context.contains(*dot));
            part.context.extend(dots);
            part.store.0.insert(name, entry);
        }
        if let Some(first) = taken.first() {
            part.context.merge(first);
        }
        push(part, touch);
        for context in taken.iter().skip(1) {
            let touch = Touch { elements: names.clone(), everything: false };
            push(Causal { store: DotMap::default(), context: context.clone() }, touch);
        }
    }
}

fn context_bytes(context: &CausalContext) -> usize {
    context.ranges().count() * RANGE_BYTES
}
