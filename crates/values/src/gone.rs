//! What one view has seen removed that another one still shows.
//!
//! A removal is made of what its coordinator and those whom it asked show *together* to be there. What one of them
//! shows and another has seen removed is not among that, so the removal would leave it to the other one's, which may
//! have no other copy.

use std::collections::BTreeSet;

use clock::{CausalContext, Dot};

use crate::register::Field;
use crate::{
    Blob, Causal, CounterState, Delta, DotMap, DotStore, Register, State, Tag, Tally, View,
};

impl View {
    /// The delta after which a replica that showed `stale` within the same scope shows nothing that this view has seen
    /// removed; `None` if it shows nothing of the kind. It says nothing of what `stale` lacks, of bases of registers,
    /// which the later write replaces, or of schedules.
    pub fn gone_since(&self, stale: &Self) -> Option<Delta> {
        let mut gone = Delta::default();
        for (&tag, theirs) in &stale.value.0 {
            if let Some(mine) = self.value.state(tag) {
                gone.merge(&of_state(tag, mine, theirs));
            }
        }
        (!gone.is_empty()).then_some(gone)
    }
}

fn of_state(tag: Tag, mine: &State, theirs: &State) -> Delta {
    match (mine, theirs) {
        (State::Bytes(mine), State::Bytes(theirs)) => {
            let context = dead(&mine.context, &mine.store, theirs.store.dots());
            Delta::of(tag, State::Bytes(Causal { context, ..Causal::default() }))
        }
        (State::Gset(mine), State::Gset(theirs)) => of_elements(tag, mine, theirs, State::Gset),
        (State::Orset(mine), State::Orset(theirs)) => of_elements(tag, mine, theirs, State::Orset),
        (State::Cart(mine), State::Cart(theirs)) => of_elements(tag, mine, theirs, State::Cart),
        (State::Map(mine), State::Map(theirs)) => of_fields(tag, mine, theirs),
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

/// As of elements; increments that were reset are in no context, so the field says it.
fn of_fields(tag: Tag, mine: &Causal<DotMap<Field>>, theirs: &Causal<DotMap<Field>>) -> Delta {
    let mut delta = of_elements(tag, mine, theirs, State::Map);
    let mut reset = Causal::<DotMap<Field>>::default();
    for (name, field) in &theirs.store.0 {
        let Some(here) = mine.store.0.get(name) else { continue };
        let (tally, context): (Tally, _) = here.tally.gone_since(&field.tally);
        if !tally.is_empty() {
            reset.store.0.insert(name.clone(), Field { tally, ..Field::default() });
            reset.context.merge(&context);
        }
    }
    delta.merge(&Delta::of(tag, State::Map(reset)));
    delta
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
            assert_eq!(stale.gone_since(&stale), None, "{adds:?}");
            let mut later = stale.clone();
            done(&mut later, 2, &removes);
            let gone = later.gone_since(&stale).unwrap_or_else(|| panic!("after {removes:?}"));
            let before = stale.value.clone();
            stale.value.apply(&gone);
            let tag = adds.tag().unwrap();
            let is_live = |value: &Value| value.state(tag).is_some_and(State::is_live);
            assert!(is_live(&before) && !is_live(&stale.value), "{adds:?}: {gone:?}");
            assert_eq!(later.gone_since(&stale), None, "told once is enough");
            let mut never = View::of(Value::default());
            done(&mut never, 3, &adds);
            assert_eq!(View::of(Value::default()).gone_since(&never), None, "nobody saw that");
        }
    }
}
