//! How each type's delta is made.
//!
//! A delta's context holds the dots that it mints and the dots that it takes away, no others: what
//! it does not speak of it must not claim to have seen.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Actor, CausalContext, Dot, Stamp};

use super::{Limits, Minted, Prepared, Seen, UpdateError};
use crate::{
    Base, Blob, BytesOp, CartOp, Causal, CounterOp, CounterState, Delta, DotFun, DotMap, DotSet,
    DotStore, Field, MapOp, OrsetOp, Register, RegisterOp, Sibling, State, Tag, Tally, View, Write,
    empty_collection,
};
use sabotage::Bug;

/// Mints the dots of one operation: contiguous after those that the replica has seen of its own.
pub(super) struct Dots {
    actor: Actor,
    /// The last one seen before.
    seen: u64,
    last: u64,
}

impl Dots {
    /// A named operation makes the same dots wherever it is done, from 1 on.
    pub(super) fn new(view: &View, tag: Tag, actor: Actor) -> Self {
        let is_first = actor.is_named() && !sabotage::is(Bug::NameUsedTwice);
        let seen = if is_first { 0 } else { view.value.context(tag).highest(actor) };
        Self { actor, seen, last: seen }
    }

    /// What was minted, for `tag`.
    pub(super) fn minted(&self, tag: Tag) -> Option<Minted> {
        let first = Dot::new(self.actor, self.seen.saturating_add(1));
        (self.last > self.seen).then_some(Minted { tag, first, last: self.last })
    }

    pub(super) fn mint(&mut self) -> Result<Dot, UpdateError> {
        self.last = self.last.checked_add(1).ok_or(UpdateError::ActorDoubted)?;
        Ok(Dot::new(self.actor, self.last))
    }
}

/// Whether `by` may be added to something that shows `present`. Concurrent increments can have
/// taken it beyond 64 bits; then every step back is allowed, however short.
fn check_sum(present: i128, by: i64) -> Result<(), UpdateError> {
    match present.checked_add(i128::from(by)) {
        _ if sabotage::is(Bug::SumsUnchecked) => Ok(()),
        Some(sum) if i64::try_from(sum).is_ok() => Ok(()),
        Some(sum) if sum.unsigned_abs() < present.unsigned_abs() => Ok(()),
        _ => Err(UpdateError::Overflow),
    }
}

/// `bytes` replicates its whole sibling set: its delta is its whole new state.
pub(super) fn prepare_bytes(
    op: &BytesOp,
    view: &View,
    observed: &CausalContext,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let mut state = match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => state.clone(),
        _ => Causal::default(),
    };
    if observed.highest(dots.actor) > dots.last {
        // A dot minted now may be one that the client has seen, and superseded, before.
        return Err(UpdateError::ActorDoubted);
    }
    let bytes_of = |state: &Causal<DotFun<Sibling>>| {
        state.store.0.values().map(|sibling| sibling.value.len()).sum::<usize>()
    };
    let (before, bytes_before) = (state.store.0.len(), bytes_of(&state));
    state.context.merge(observed);
    if !(sabotage::is(Bug::PutKeepsSeen) && matches!(op, BytesOp::Put(_))) {
        state.store.remove(observed);
    }
    if sabotage::is(Bug::DeleteTakesUnseen) && *op == BytesOp::Delete {
        state.store.0.clear();
    }
    let removed = (before - state.store.0.len()) as u64;
    let changed = match op {
        BytesOp::Delete => removed,
        BytesOp::Put(value) => {
            // A put repeated after an unknown outcome is not its own sibling.
            state.store.0.retain(|_, sibling| sibling.value != *value);
            // Merges may have taken the key beyond a limit: then every step that leads back, or at
            // least no further, is allowed.
            let after = state.store.0.len() + 1;
            if after > limits.siblings.max(1).max(before) {
                return Err(UpdateError::TooManySiblings(before));
            }
            let (bytes, limit) = (bytes_of(&state) + value.len(), limits.siblings_bytes());
            if bytes > limit.max(bytes_before) {
                return Err(UpdateError::SiblingsTooLong { bytes, limit });
            }
            let dot = dots.mint()?;
            state.context.insert(dot);
            state.store.0.insert(dot, Sibling { value: value.clone(), stamp });
            1
        }
    };
    Ok(Prepared::new(Delta::of(Tag::BYTES, State::Bytes(state)), changed))
}

pub(super) fn prepare_register(
    op: &RegisterOp,
    seen: Seen<'_>,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let bottom = Register::default();
    let register = register_of(seen.view).unwrap_or(&bottom);
    match op {
        RegisterOp::Set { value, at, replace } => {
            if let Some(at) = at {
                let ahead_ms = at.millis().saturating_sub(stamp.millis());
                let limit_ms = limits.future_ms;
                if ahead_ms > limit_ms && !sabotage::is(Bug::FarFutureTaken) {
                    return Err(UpdateError::FutureStamp { ahead_ms, limit_ms });
                }
            }
            let stamp = at.map_or_else(|| later_than(register, stamp), Ok)?;
            set_register(value, stamp, |tag| *replace && tag != Tag::LWW, seen, dots)
        }
        RegisterOp::PutRaw(value) => {
            let stamp = later_than(register, stamp)?;
            set_register(value, stamp, |tag| tag == Tag::BYTES, seen, dots)
        }
        RegisterOp::DeleteRaw => {
            prepare_delete(|tag| tag == Tag::BYTES || tag == Tag::LWW, seen, dots, stamp)
        }
        RegisterOp::Increment(by) => {
            check_sum(register.number().ok_or(UpdateError::NotAnInteger)?, *by)?;
            let dot = dots.mint()?;
            let held = register_of(seen.held).unwrap_or(&bottom);
            let mut tally = held.tally.incremented(dot, i128::from(*by), seen.folding.round);
            seen.folding.fold(Tag::LWW, &held.tally, &mut tally);
            let delta = Register { base: None, tally, context: [dot].into_iter().collect() };
            Ok(Prepared::new(Delta::of(Tag::LWW, State::Register(delta)), 1))
        }
    }
}

fn register_of(view: &View) -> Option<&Register> {
    match view.value.state(Tag::LWW) {
        Some(State::Register(register)) => Some(register),
        _ => None,
    }
}

/// Sets the register, and removes what is seen of the types that this `replaces`.
fn set_register(
    value: &Blob,
    stamp: Stamp,
    replaces: impl Fn(Tag) -> bool,
    seen: Seen<'_>,
    dots: &mut Dots,
) -> Result<Prepared, UpdateError> {
    let dot = dots.mint()?;
    let base = Some(Base { stamp, dot, value: Some(value.clone()) });
    let mut delta = Register { base, context: [dot].into_iter().collect(), ..Register::default() };
    let mut others = Delta::default();
    // A set that loses against what it observed replaces nothing.
    if register_of(seen.view).and_then(|register| register.base.as_ref()) < delta.base.as_ref() {
        let tallies = seen.each().filter_map(register_of).map(|register| &register.tally);
        delta.tally = reset(Tag::LWW, seen, tallies);
        others = removal(seen, replaces, dots, stamp)?;
    }
    let set = Delta::of(Tag::LWW, State::Register(delta));
    if others.is_empty() {
        return Ok(Prepared::new(set, 1));
    }
    others.merge(&set);
    Ok(Prepared::new(others, 1))
}

/// The delta that resets what is live in any of `tallies`.
fn reset<'a>(tag: Tag, seen: Seen<'_>, tallies: impl IntoIterator<Item = &'a Tally>) -> Tally {
    let mut all = Tally::default();
    tallies.into_iter().for_each(|tally| all.merge(&tally.reset()));
    seen.folding.complete(tag, seen.held, &mut all);
    seen.folding.fold_reset(tag, &mut all);
    all
}

/// Removes what is held of the types that are meant and that anybody shows something of.
pub(super) fn prepare_delete(
    is_meant: impl Fn(Tag) -> bool,
    seen: Seen<'_>,
    dots: &mut Dots,
    stamp: Stamp,
) -> Result<Prepared, UpdateError> {
    let delta = removal(seen, is_meant, dots, stamp)?;
    let is_there = |tag: &Tag| seen.view.is_live(*tag);
    let changed = u64::from(delta.value.0.keys().any(is_there));
    Ok(Prepared::new(delta, changed))
}

/// A stamp that wins over the register's present one: a write over a stamp from the future takes
/// that stamp plus one.
fn later_than(register: &Register, stamp: Stamp) -> Result<Stamp, UpdateError> {
    let Some(base) = &register.base else { return Ok(stamp) };
    if sabotage::is(Bug::ClockDecides) {
        return Ok(stamp);
    }
    let stamp = stamp.max(base.stamp.next());
    if stamp > base.stamp { Ok(stamp) } else { Err(UpdateError::StampExhausted) }
}

fn counter_of(view: &View) -> Option<&Tally> {
    match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => Some(&counter.tally),
        _ => None,
    }
}

pub(super) fn prepare_counter(
    op: &CounterOp,
    seen: Seen<'_>,
    dots: &mut Dots,
) -> Result<Prepared, UpdateError> {
    let bottom = Tally::default();
    let (present, held) =
        (counter_of(seen.view).unwrap_or(&bottom), counter_of(seen.held).unwrap_or(&bottom));
    let mut delta = CounterState::default();
    let changed = match op {
        CounterOp::Add(by) => {
            check_sum(present.value(), *by)?;
            let dot = dots.mint()?;
            delta.context.insert(dot);
            delta.tally = held.incremented(dot, i128::from(*by), seen.folding.round);
            seen.folding.fold(Tag::COUNTER, held, &mut delta.tally);
            1
        }
        CounterOp::Reset => {
            delta.tally = reset(Tag::COUNTER, seen, seen.each().filter_map(counter_of));
            u64::from(present.is_live())
        }
    };
    Ok(Prepared::new(Delta::of(Tag::COUNTER, State::Counter(delta)), changed))
}

/// Adds `names`, each under a dot of its own that replaces the dots seen of it. An element already
/// there is added anew all the same, so that it survives a concurrent removal; not one whose dot was seen: of an
/// operation with a name that was done in part.
pub(super) fn add_elements(
    set: Option<&Causal<DotMap<DotSet>>>,
    names: &[Blob],
    dots: &mut Dots,
) -> Result<(Causal<DotMap<DotSet>>, u64), UpdateError> {
    let mut delta = Causal::<DotMap<DotSet>>::default();
    let mut changed = 0;
    for name in names.iter().collect::<BTreeSet<_>>() {
        let dot = dots.mint()?;
        if set.is_some_and(|set| set.context.contains(dot)) {
            continue;
        }
        match set.and_then(|set| set.store.0.get(name)) {
            Some(seen) => delta.context.extend(seen.dots()),
            None => changed += 1,
        }
        delta.context.insert(dot);
        delta.store.0.insert(name.clone(), DotFun([(dot, ())].into()));
    }
    Ok((delta, changed))
}

fn set_of(view: &View) -> Option<&Causal<DotMap<DotSet>>> {
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => Some(set),
        _ => None,
    }
}

pub(super) fn prepare_orset(
    op: &OrsetOp,
    seen: Seen<'_>,
    dots: &mut Dots,
) -> Result<Prepared, UpdateError> {
    match op {
        OrsetOp::Add(names) => {
            let (delta, changed) = add_elements(set_of(seen.view), names, dots)?;
            Ok(Prepared::new(Delta::of(Tag::ORSET, State::Orset(delta)), changed))
        }
        OrsetOp::Remove(names) => {
            let mut delta = Causal::<DotMap<DotSet>>::default();
            let mut gone = BTreeSet::new();
            for name in names {
                for adds in seen.each().filter_map(set_of).filter_map(|set| set.store.0.get(name)) {
                    let all = if sabotage::is(Bug::RemovalTakesOne) { 1 } else { usize::MAX };
                    delta.context.extend(adds.dots().into_iter().take(all));
                    gone.insert(name.clone());
                }
            }
            let is_there =
                |name: &&Blob| set_of(seen.view).is_some_and(|set| set.store.0.contains_key(*name));
            let changed = gone.iter().filter(is_there).count() as u64;
            let delta = Delta::touching(Tag::ORSET, State::Orset(delta), gone);
            Ok(Prepared::new(delta, changed))
        }
    }
}

pub(super) fn cart_item<'a>(view: &'a View, item: &Blob) -> Option<&'a DotFun<u64>> {
    match view.value.state(Tag::CART) {
        Some(State::Cart(cart)) => cart.store.0.get(item),
        _ => None,
    }
}

pub(super) fn prepare_cart(
    op: &CartOp,
    seen: Seen<'_>,
    dots: &mut Dots,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let (item, quantity, replaces) = match op {
        CartOp::Add { quantity: 0, .. } => return Err(UpdateError::ZeroQuantity),
        CartOp::Add { item, quantity } => (item, *quantity, false),
        CartOp::Remove(item) => (item, 0, true),
        CartOp::SetQuantity { item, quantity } => (item, *quantity, true),
    };
    let present = cart_item(seen.view, item);
    let mut delta = Causal::<DotMap<DotFun<u64>>>::default();
    let kept = if replaces { None } else { present };
    let sum = kept.map_or(0, |adds| adds.0.values().copied().map(u128::from).sum::<u128>());
    if i64::try_from(sum.saturating_add(u128::from(quantity))).is_err() {
        return Err(UpdateError::Overflow);
    }
    if let Some(adds) = kept
        && adds.0.len() >= limits.adds_per_item
    {
        return Err(UpdateError::TooManyAdds(adds.0.len()));
    }
    if replaces || sabotage::is(Bug::AddReplaces) {
        let adds = seen.each().filter_map(|view| cart_item(view, item));
        adds.for_each(|adds| delta.context.extend(adds.dots()));
    }
    if quantity > 0 {
        let dot = dots.mint()?;
        delta.context.insert(dot);
        delta.store.0.insert(item.clone(), DotFun([(dot, quantity)].into()));
    }
    let changed = match op {
        CartOp::Remove(_) => u64::from(present.is_some()),
        _ => u64::from(present.is_none() && quantity > 0),
    };
    let delta = Delta::touching(Tag::CART, State::Cart(delta), [item.clone()]);
    Ok(Prepared::new(delta, changed))
}

/// Each field once: where one is named twice, the last value counts.
pub(super) fn last_values(fields: &[(Blob, Blob)]) -> BTreeMap<&Blob, &Blob> {
    fields.iter().map(|(name, value)| (name, value)).collect()
}

fn map_of(view: &View) -> Option<&Causal<DotMap<Field>>> {
    match view.value.state(Tag::MAP) {
        Some(State::Map(map)) => Some(map),
        _ => None,
    }
}

pub(super) fn map_field<'a>(view: &'a View, field: &Blob) -> Option<&'a Field> {
    map_of(view)?.store.0.get(field)
}

pub(super) fn prepare_map(
    op: &MapOp,
    seen: Seen<'_>,
    dots: &mut Dots,
    stamp: Stamp,
) -> Result<Prepared, UpdateError> {
    let view = seen.view;
    let mut delta = Causal::<DotMap<Field>>::default();
    let mut named = BTreeSet::new();
    let mut changed = 0;
    match op {
        MapOp::Set(fields) => {
            for (name, value) in last_values(fields) {
                let dot = dots.mint()?;
                if view.value.context(Tag::MAP).contains(dot) {
                    continue;
                }
                let present = map_field(view, name);
                changed += u64::from(!present.is_some_and(DotStore::is_live));
                let mut field = Field::default();
                let mut stamp = stamp;
                if let Some((_, latest)) = present.and_then(Field::winner) {
                    stamp = stamp.max(latest.stamp.next());
                }
                for shown in seen.each().filter_map(|view| map_field(view, name)) {
                    delta.context.extend(shown.writes.dots());
                    field.tally.merge(&shown.tally.reset());
                }
                delta.context.insert(dot);
                field.writes.0.insert(dot, Write { stamp, value: value.clone() });
                delta.store.0.insert(name.clone(), field);
            }
        }
        MapOp::Increment { field: name, by } => {
            let bottom = Field::default();
            let present = map_field(view, name).unwrap_or(&bottom);
            check_sum(present.number().ok_or(UpdateError::NotAnInteger)?, *by)?;
            changed = u64::from(!present.is_live());
            let dot = dots.mint()?;
            delta.context.insert(dot);
            let held = map_field(seen.held, name).unwrap_or(&bottom);
            // A field's names are beside the context, in rows of their own: they are not folded.
            let tally = held.tally.incremented(dot, i128::from(*by), None);
            delta.store.0.insert(name.clone(), Field { writes: DotFun::default(), tally });
        }
        MapOp::Remove(names) => {
            for name in names.iter().collect::<BTreeSet<_>>() {
                changed += u64::from(map_field(view, name).is_some_and(DotStore::is_live));
                for shown in seen.each().filter_map(|view| map_field(view, name)) {
                    remove_field(&mut delta, name, shown);
                    named.insert(name.clone());
                }
            }
        }
    }
    Ok(Prepared::new(Delta::touching(Tag::MAP, State::Map(delta), named), changed))
}

fn remove_field(delta: &mut Causal<DotMap<Field>>, name: &Blob, seen: &Field) {
    delta.context.extend(seen.writes.dots());
    let tally = seen.tally.reset();
    if !tally.is_empty() && !sabotage::is(Bug::FieldKeepsIncrements) {
        delta.store.0.entry(name.clone()).or_default().tally.merge(&tally);
    }
}

/// Removes what anybody shows of every type but `keep`.
pub(super) fn prepare_resolve(
    keep: Tag,
    seen: Seen<'_>,
    dots: &mut Dots,
    stamp: Stamp,
) -> Result<Prepared, UpdateError> {
    let live = seen.view.live_tags();
    if live.len() < 2 {
        return Err(UpdateError::NotInConflict(live));
    }
    if !live.contains(&keep) {
        return Err(UpdateError::NotHeld { wanted: keep, live });
    }
    let others: Vec<Tag> = live.into_iter().filter(|&tag| tag != keep).collect();
    if let Some(&unknown) = others.iter().find(|tag| !Tag::KNOWN.contains(tag)) {
        return Err(UpdateError::UnknownType(unknown));
    }
    let changed = others.len() as u64;
    Ok(Prepared::new(removal(seen, |tag| tag != keep, dots, stamp)?, changed))
}

/// The delta that removes what anybody holds of those types that are meant and of which anybody shows something, also
/// what is due: a context covers it all. A collection is cleared by its context alone; a map also names the fields whose
/// increments are reset. Of a register that is deleted already that is said again: a later deletion would win over what
/// nobody was shown.
fn removal(
    seen: Seen<'_>,
    is_meant: impl Fn(Tag) -> bool,
    dots: &mut Dots,
    stamp: Stamp,
) -> Result<Delta, UpdateError> {
    let mut delta = Delta::default();
    let is_removed = |tag| is_meant(tag) && seen.shows(tag);
    for (&tag, state) in seen.held.value.0.iter().filter(|(tag, _)| is_removed(**tag)) {
        let context = state.context().clone();
        let part = match state {
            State::Bytes(_) => {
                Delta::of(tag, State::Bytes(Causal { store: DotFun::default(), context }))
            }
            State::Register(register) => {
                let tallies = seen.each_held().filter_map(register_of).map(|it| &it.tally);
                let tally = reset(tag, seen, tallies);
                let (base, context) = if seen.view.is_live(tag) {
                    let (stamp, dot) = (later_than(register, stamp)?, dots.mint()?);
                    (Some(Base { stamp, dot, value: None }), [dot].into_iter().collect())
                } else {
                    // Not that it was done, if it has a name: nothing is known here of what else it took.
                    let base = register_of(seen.view).and_then(|register| register.base.clone());
                    let dots = base.iter().map(|base| base.dot);
                    (base.clone(), dots.filter(|dot| !dot.actor.is_named()).collect())
                };
                Delta::of(tag, State::Register(Register { base, tally, context }))
            }
            State::Counter(_) => {
                let tally = reset(tag, seen, seen.each_held().filter_map(counter_of));
                let context = CausalContext::default();
                Delta::of(tag, State::Counter(CounterState { tally, context }))
            }
            State::Gset(_) | State::Orset(_) | State::Cart(_) => {
                Delta::sweeping(tag, empty_collection(tag, context))
            }
            State::Map(_) => {
                let mut part = Causal { store: DotMap::default(), context };
                let fields = seen.each_held().filter_map(map_of).flat_map(|map| &map.store.0);
                for (name, field) in fields.filter(|(_, field)| field.tally.is_live()) {
                    remove_field(&mut part, name, field);
                }
                Delta::sweeping(tag, State::Map(part))
            }
            // What this build does not know it cannot remove.
            State::Expiry(_) | State::Opaque(_) => continue,
        };
        delta.merge(&part);
    }
    Ok(delta)
}
