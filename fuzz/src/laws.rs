//! Laws of joins, of whatever decodes, made by an honest replica or not.

use std::fmt::Debug;

use values::{Delta, DotMap, DotStore, State, Value, View};

/// Two states merge the same either way round, and again changes nothing.
pub fn check_join<T: Clone + PartialEq + Debug>(one: &T, other: &T, merge: impl Fn(&mut T, &T)) {
    let joined = |first: &T, second: &T| {
        let mut first = first.clone();
        merge(&mut first, second);
        first
    };
    let (there, back) = (joined(one, other), joined(other, one));
    assert!(there == back, "not commutative:\n{there:?}\n{back:?}");
    for state in [one, other, &there] {
        let again = joined(&there, state);
        assert!(again == there, "not idempotent:\n{there:?}\n{again:?}");
    }
}

/// A value merged into nothing; what is then there keeps the invariants of a replica's value.
pub fn check_value(value: &Value) -> Value {
    let mut held = Value::default();
    held.merge(value);
    for state in held.0.values() {
        assert!(!state.is_bottom(), "a state before any write is kept: {state:?}");
        match state {
            State::Gset(state) | State::Orset(state) => no_empty_elements(&state.store),
            State::Cart(state) => no_empty_elements(&state.store),
            State::Map(state) => no_empty_elements(&state.store),
            _ => (),
        }
    }
    check_join(&held, &Value::default(), Value::merge);
    let mut again = held.clone();
    again.merge(value);
    assert!(again == held, "not idempotent:\n{held:?}\n{again:?}");
    assert_eq!(clock::decode::<Value>(&clock::encode(&held)).as_ref(), Ok(&held));
    let view = View::of(held.clone());
    let _ = (view.live_tags(), view.siblings(), view.weight());
    // A live dot that a state has not seen is one of no honest replica: repaired it is seen.
    if !held.0.values().all(has_seen_its_dots) {
        return held;
    }
    let mut repaired = Value::default();
    if let Some(repair) = view.repair(&View::default()) {
        repaired.apply(&repair);
    }
    repaired.merge(&held);
    assert!(repaired == held, "repair brings more than there is:\n{held:?}\n{repaired:?}");
    held
}

fn has_seen_its_dots(state: &State) -> bool {
    let dots = match state {
        State::Bytes(state) => state.store.dots(),
        State::Gset(state) | State::Orset(state) => state.store.dots(),
        State::Cart(state) => state.store.dots(),
        State::Map(state) => state.store.dots(),
        State::Expiry(state) => state.store.dots(),
        State::Register(_) | State::Counter(_) | State::Opaque(_) => Vec::new(),
    };
    dots.into_iter().all(|dot| state.context().contains(dot))
}

fn no_empty_elements<E: DotStore>(store: &DotMap<E>) {
    assert!(store.0.values().all(|element| !element.is_bottom()), "an element without anything");
}

/// A delta applied to nothing is its state merged into nothing, whole and in parts.
pub fn check_delta(delta: &Delta, part_bytes: usize) {
    let held = check_value(&delta.value);
    let applied = |deltas: &[Delta]| {
        let mut value = Value::default();
        deltas.iter().for_each(|delta| value.apply(delta));
        value
    };
    assert!(applied(std::slice::from_ref(delta)) == held, "applied it is another: {delta:?}");
    let mut parts = delta.clone().split(part_bytes);
    assert!(applied(&parts) == held, "its parts make another: {delta:?}");
    parts.reverse();
    assert!(applied(&parts) == held, "its parts make another in another order: {delta:?}");
    let mut joined = Delta::default();
    joined.merge(delta);
    joined.merge(delta);
    assert!(applied(&[joined]) == held, "joined with itself it is another: {delta:?}");
}
