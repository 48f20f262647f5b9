//! What one view has seen removed that another one still shows.
//!
//! A removal is made of what its coordinator and those whom it asked show *together* to be there. What one of them
//! shows and another has seen removed is not among that, so the removal would leave it to the other one's, which may
//! have no other copy.

use std::collections::BTreeSet;

use clock::{CausalContext, Dot};

use crate::register::Field;
use crate::{
    Blob, Causal, CounterState, Delta, DotMap, DotStore, Register, Scope, State, Tag, View,
};

impl View {
    /// The delta after which a replica that showed `stale` within `scope` shows nothing there that this view, its merge
    /// with those of others, has seen removed; `None` if it shows nothing of the kind. It says nothing of what `stale`
    /// lacks, of bases of registers, which the later write replaces, of schedules, or of pages.
    pub fn gone_since(&self, stale: &Self, scope: &Scope) -> Option<Delta> {
        if matches!(scope, Scope::Range { .. }) {
            return None;
        }
        let mut gone = Delta::default();
        for (&tag, theirs) in &stale.value.0 {
            if let Some(mine) = self.value.state(tag) {
                gone.merge(&of_state(tag, mine, theirs, scope));
            }
            if self.has_emptied(tag, stale) {
                gone.merge(&cleared(tag, theirs));
            }
        }
        (!gone.is_empty()).then_some(gone)
    }

    /// Whether another replica has seen all that `stale` has of a collection, and that nothing of it is left.
    fn has_emptied(&self, tag: Tag, stale: &Self) -> bool {
        let live = |view: &Self| view.collections.get(&tag).map_or(0, |summary| summary.live);
        live(stale) > 0 && live(self) == 0
    }
}

/// The clearing of a collection of which all that was seen is gone.
fn cleared(tag: Tag, state: &State) -> Delta {
    let context = state.context().clone();
    let state = match state {
        State::Gset(_) => State::Gset(Causal { context, ..Causal::default() }),
        State::Orset(_) => State::Orset(Causal { context, ..Causal::default() }),
        State::Cart(_) => State::Cart(Causal { context, ..Causal::default() }),
        State::Map(_) => State::Map(Causal { context, ..Causal::default() }),
        _ => return Delta::default(),
    };
    Delta::sweeping(tag, state)
}

fn of_state(tag: Tag, mine: &State, theirs: &State, scope: &Scope) -> Delta {
    match (mine, theirs) {
        (State::Bytes(mine), State::Bytes(theirs)) => {
            let context = dead(&mine.context, &mine.store, theirs.store.dots());
            Delta::of(tag, State::Bytes(Causal { context, ..Causal::default() }))
        }
        (State::Gset(mine), State::Gset(theirs)) => of_elements(tag, mine, theirs, State::Gset),
        (State::Orset(mine), State::Orset(theirs)) => of_elements(tag, mine, theirs, State::Orset),
        (State::Cart(mine), State::Cart(theirs)) => of_elements(tag, mine, theirs, State::Cart),
        (State::Map(mine), State::Map(theirs)) => of_fields(tag, mine, theirs, scope),
        (State::Register(mine), State::Register(theirs)) => {
            let (tally, context) = mine.tally.gone_since(&theirs.tally);
            Delta::of(tag, State::Register(Register { base: None, tally, context }))
        }
        (State::Counter(mine), State::Counter(theirs)) => {
            let (tally, context) = mine.tally.gone_since(&theirs.tally);
            Delta::of(tag, State::Counter(CounterState { tally, context }))
        }
        _ => Delta::default(),
    }
}

/// Those of `dots` that were seen, and are not there.
fn dead(seen: &CausalContext, store: &impl DotStore, dots: Vec<Dot>) -> CausalContext {
    let live: BTreeSet<Dot> = store.dots().into_iter().collect();
    dots.into_iter().filter(|dot| seen.contains(*dot) && !live.contains(dot)).collect()
}

fn of_elements<E: DotStore>(
    tag: Tag,
    mine: &Causal<DotMap<E>>,
    theirs: &Causal<DotMap<E>>,
    state: impl Fn(Causal<DotMap<E>>) -> State,
) -> Delta {
    let nothing = E::default();
    let (mut context, mut names) = (CausalContext::default(), BTreeSet::<Blob>::new());
    for (element, entry) in &theirs.store.0 {
        let here = mine.store.0.get(element).unwrap_or(&nothing);
        let dead = dead(&mine.context, here, entry.dots());
        if !dead.is_empty() {
            context.merge(&dead);
            names.insert(element.clone());
        }
    }
    Delta::touching(tag, state(Causal { store: DotMap::default(), context }), names)
}

/// Increments that were reset are in no context: the field says it. A view of what a removal must name
/// ([`Scope::Removal`]) leaves out fields that have none, and who shows no field there has not seen it removed.
fn of_fields(
    tag: Tag,
    mine: &Causal<DotMap<Field>>,
    theirs: &Causal<DotMap<Field>>,
    scope: &Scope,
) -> Delta {
    let (mut part, mut names) = (Causal::<DotMap<Field>>::default(), BTreeSet::<Blob>::new());
    let nothing = Field::default();
    for (name, field) in &theirs.store.0 {
        let here = mine.store.0.get(name).unwrap_or(&nothing);
        let (tally, reset) = here.tally.gone_since(&field.tally);
        if !tally.is_empty() {
            part.store.0.insert(name.clone(), Field { tally, ..Field::default() });
            part.context.merge(&reset);
        }
        if *scope != Scope::Removal {
            let dead = dead(&mine.context, &here.writes, field.writes.dots());
            if !dead.is_empty() {
                part.context.merge(&dead);
                names.insert(name.clone());
            }
        }
    }
    Delta::touching(tag, State::Map(part), names)
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId, Stamp};

    use super::*;
    use crate::{
        BytesOp, CartOp, CounterOp, Limits, MapOp, Mint, Operation, OrsetOp, RegisterOp, Value,
    };

    fn done(view: &mut View, node: u64, operation: &Operation) {
        let actor = Actor::new(NodeId(node), node, 0);
        let mint = Mint { actor, stamp: Stamp::from_millis(node) };
        let seen = view.value.context(Tag::BYTES).clone();
        let prepared = operation.prepare(view, &seen, mint, &Limits::default()).unwrap();
        view.value.apply(&prepared.delta);
    }

    #[test]
    fn what_was_removed_elsewhere_is_told_of_every_type_and_nothing_else_is() {
        let blob = Blob::from_static;
        let cases: Vec<(Operation, Operation)> = vec![
            (
                Operation::Orset(OrsetOp::Add(vec![blob(b"x")])),
                Operation::Orset(OrsetOp::Remove(vec![blob(b"x")])),
            ),
            (
                Operation::Cart(CartOp::Add { item: blob(b"x"), quantity: 2 }),
                Operation::Cart(CartOp::Remove(blob(b"x"))),
            ),
            (
                Operation::Map(MapOp::Set(vec![(blob(b"f"), blob(b"1"))])),
                Operation::Map(MapOp::Remove(vec![blob(b"f")])),
            ),
            (
                Operation::Map(MapOp::Increment { field: blob(b"f"), by: 3 }),
                Operation::Map(MapOp::Remove(vec![blob(b"f")])),
            ),
            (Operation::Counter(CounterOp::Add(3)), Operation::Counter(CounterOp::Reset)),
            (
                Operation::Register(RegisterOp::Increment(3)),
                Operation::Register(RegisterOp::Set {
                    value: blob(b"1"),
                    at: None,
                    replace: false,
                }),
            ),
            (Operation::Bytes(BytesOp::Put(blob(b"x"))), Operation::Bytes(BytesOp::Delete)),
        ];
        for (adds, removes) in cases {
            let mut stale = View::of(Value::default());
            done(&mut stale, 1, &adds);
            assert_eq!(stale.gone_since(&stale, &Scope::Whole), None, "{adds:?}");
            let mut later = stale.clone();
            done(&mut later, 2, &removes);
            let gone = later
                .gone_since(&stale, &Scope::Whole)
                .unwrap_or_else(|| panic!("after {removes:?}"));
            let before = stale.value.clone();
            stale.value.apply(&gone);
            let tag = adds.tag().unwrap();
            let is_live = |value: &Value| value.state(tag).is_some_and(State::is_live);
            assert!(is_live(&before) && !is_live(&stale.value), "{adds:?}: {gone:?}");
            assert_eq!(later.gone_since(&stale, &Scope::Whole), None, "told once is enough");
            let mut never = View::of(Value::default());
            done(&mut never, 3, &adds);
            assert_eq!(
                View::of(Value::default()).gone_since(&never, &Scope::Whole),
                None,
                "nobody saw that"
            );
        }
    }

    /// A view of what a removal must name shows no field without increments, and the whole context.
    #[test]
    fn a_field_that_a_view_leaves_out_is_not_gone() {
        let field = || Blob::from_static(b"f");
        let mut other = View::of(Value::default());
        done(&mut other, 1, &Operation::Map(MapOp::Set(vec![(field(), Blob::from_static(b"5"))])));
        let mut here = other.clone();
        done(&mut here, 2, &Operation::Map(MapOp::Increment { field: field(), by: 1 }));
        let mut both = View::within(here.value.clone(), &Scope::Removal);
        let held = both.clone();
        let mut shown = View::within(other.value, &Scope::Removal);
        let Some(State::Map(map)) = shown.value.0.get_mut(&Tag::MAP) else { panic!("a map") };
        map.store.0.clear();
        both.merge(&shown);
        assert_eq!(both.gone_since(&held, &Scope::Removal), None);
    }

    #[test]
    fn a_collection_that_another_has_seen_emptied_is_cleared() {
        let mut held = View::of(Value::default());
        done(&mut held, 1, &Operation::Orset(OrsetOp::Add(vec![Blob::from_static(b"x")])));
        let mut emptied = held.clone();
        let removal = Operation::Orset(OrsetOp::Remove(vec![Blob::from_static(b"x")]));
        done(&mut emptied, 2, &removal);
        let within = |view: &View| View::within(view.value.clone(), &Scope::Removal);
        let (mut both, mut stale) = (within(&held), held.clone());
        both.merge(&within(&emptied));
        let gone = both.gone_since(&within(&held), &Scope::Removal).unwrap();
        assert!(gone.touches_everything(Tag::ORSET));
        stale.value.apply(&gone);
        assert!(!stale.value.state(Tag::ORSET).unwrap().is_live());
    }
}
