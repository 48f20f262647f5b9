//! What must hold after every run, each as a function of its own. Each returns what is wrong.
//!
//! They judge by the history alone: what clients did, when, and what they were told. An update is
//! *acknowledged* if its client was told that it was done; one whose outcome is unknown may or may
//! not show.

use std::collections::{BTreeMap, BTreeSet};

use clock::encode;
use values::{
    Blob, BytesOp, CartOp, CounterOp, GsetOp, Key, MapOp, Operation, OrsetOp, RegisterOp, State,
    Tag, View,
};

use crate::{History, Record, Sim};

/// What a run ended with, by key.
type Finals = BTreeMap<Key, View>;

/// The elements, items or fields that a view shows of a collection.
fn members(view: &View, tag: Tag) -> BTreeSet<Blob> {
    match view.value.state(tag) {
        Some(State::Gset(set) | State::Orset(set)) => set.store.0.keys().cloned().collect(),
        Some(State::Cart(cart)) => cart.store.0.keys().cloned().collect(),
        Some(State::Map(map)) => {
            let shown = map.store.0.iter().filter(|(_, field)| field.read().is_some());
            shown.map(|(name, _)| name.clone()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// The sums that a view shows: of a counter or register under the empty name, of a cart or map by
/// item or field.
fn sums(view: &View) -> BTreeMap<(Tag, Blob), i128> {
    let number = |text: Blob| std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    let mut sums = BTreeMap::new();
    for (&tag, state) in &view.value.0 {
        match state {
            State::Counter(counter) => {
                sums.insert((tag, Blob::new()), counter.tally.value());
            }
            State::Register(register) => {
                sums.insert((tag, Blob::new()), register.read().and_then(number).unwrap_or(0));
            }
            State::Cart(cart) => {
                for (item, adds) in &cart.store.0 {
                    let sum = adds.0.values().map(|&quantity| i128::from(quantity)).sum();
                    sums.insert((tag, item.clone()), sum);
                }
            }
            State::Map(map) => {
                for (name, field) in &map.store.0 {
                    let sum = field.read().and_then(number).unwrap_or(0);
                    sums.insert((tag, name.clone()), sum);
                }
            }
            _ => {}
        }
    }
    sums
}

/// What an operation adds to which sum.
fn adds(operation: &Operation) -> Option<((Tag, Blob), i128)> {
    match operation {
        Operation::Counter(CounterOp::Add(by)) => {
            Some(((Tag::COUNTER, Blob::new()), i128::from(*by)))
        }
        Operation::Register(RegisterOp::Increment(by)) => {
            Some(((Tag::LWW, Blob::new()), i128::from(*by)))
        }
        Operation::Cart(CartOp::Add { item, quantity }) => {
            Some(((Tag::CART, item.clone()), i128::from(*quantity)))
        }
        Operation::Map(MapOp::Increment { field, by }) => {
            Some(((Tag::MAP, field.clone()), i128::from(*by)))
        }
        _ => None,
    }
}

/// The members that an operation puts into a collection.
fn puts(operation: &Operation) -> Option<(Tag, Vec<Blob>)> {
    match operation {
        Operation::Gset(GsetOp::Add(names)) => Some((Tag::GSET, names.clone())),
        Operation::Orset(OrsetOp::Add(names)) => Some((Tag::ORSET, names.clone())),
        Operation::Cart(CartOp::Add { item, .. }) => Some((Tag::CART, vec![item.clone()])),
        Operation::Map(MapOp::Set(fields)) => {
            Some((Tag::MAP, fields.iter().map(|(name, _)| name.clone()).collect()))
        }
        _ => None,
    }
}

/// Whether an operation takes `member` out of a collection of type `tag`.
fn takes(operation: &Operation, tag: Tag, member: &Blob) -> bool {
    match operation {
        Operation::Orset(OrsetOp::Remove(names)) => tag == Tag::ORSET && names.contains(member),
        Operation::Map(MapOp::Remove(names)) => tag == Tag::MAP && names.contains(member),
        Operation::Cart(CartOp::Remove(item)) => tag == Tag::CART && item == member,
        Operation::Delete(only) => only.is_none_or(|only| only == tag),
        _ => false,
    }
}

fn done<'a>(
    history: &'a History,
    key: &'a Key,
) -> impl Iterator<Item = (&'a Record, &'a Operation)> + Clone {
    history.of(key).filter(|record| record.is_done()).filter_map(with_operation)
}

fn maybe_done<'a>(
    history: &'a History,
    key: &'a Key,
) -> impl Iterator<Item = (&'a Record, &'a Operation)> + Clone {
    history.of(key).filter(|record| record.may_be_done()).filter_map(with_operation)
}

fn with_operation(record: &Record) -> Option<(&Record, &Operation)> {
    record.operation.as_ref().map(|operation| (record, operation))
}

/// The values that a `bytes` key shows side by side.
fn siblings(view: &View) -> BTreeSet<Blob> {
    match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => {
            state.store.0.values().map(|sibling| sibling.value.clone()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Every acknowledged update shows at the end, unless something that may have been done took it
/// away.
pub fn invariant_no_acknowledged_update_lost(
    history: &History,
    finals: &Finals,
) -> Result<(), String> {
    for (key, view) in finals {
        for (record, operation) in done(history, key) {
            if let Some((tag, names)) = puts(operation) {
                let there = members(view, tag);
                for name in names.iter().filter(|name| !there.contains(*name)) {
                    if !maybe_done(history, key).any(|(_, other)| takes(other, tag, name)) {
                        return Err(format!("{key:?} lost {name:?}, acknowledged: {record:?}"));
                    }
                }
            }
            if let Operation::Bytes(BytesOp::Put(value)) = operation
                && !siblings(view).contains(value)
                && !maybe_done(history, key).any(|(other, _)| other.seen.contains(value))
            {
                return Err(format!("{key:?} lost {value:?}, acknowledged: {record:?}"));
            }
            if let Operation::Register(RegisterOp::Set { .. }) = operation
                && !view.is_live(Tag::LWW)
                && !maybe_done(history, key).any(|(_, other)| matches!(other, Operation::Delete(_)))
            {
                return Err(format!("{key:?} shows nothing, acknowledged: {record:?}"));
            }
        }
    }
    Ok(())
}

/// What an acknowledged removal saw stays gone. A removal saw an update if the update was reported
/// at w owners before the removal began, and the removal was shown what r of them have (r + w > n);
/// or if it says that it changed something.
pub fn invariant_no_removed_element_returns(
    history: &History,
    finals: &Finals,
) -> Result<(), String> {
    for (key, view) in finals {
        for (removal, removed) in done(history, key) {
            let Some(answer) = removal.answer() else { continue };
            for (put, operation) in maybe_done(history, key) {
                let saw_quorum = put.is_met() && put.is_before(removal) && !answer.partly_observed;
                if let Some((tag, names)) = puts(operation)
                    && tag != Tag::CART
                {
                    let there = members(view, tag);
                    let is_gone = |name: &Blob| takes(removed, tag, name);
                    // Elements and fields are put once, so one that was removed is that one.
                    if let Some(name) = names
                        .iter()
                        .find(|name| saw_quorum && is_gone(name) && there.contains(*name))
                    {
                        return Err(format!(
                            "{key:?}: {name:?} of {put:?} is back after {removal:?}"
                        ));
                    }
                }
                if let (
                    Operation::Register(RegisterOp::Set { value, .. }),
                    Operation::Register(RegisterOp::Set { .. }),
                ) = (operation, removed)
                    && saw_quorum
                    && matches!(view.value.state(Tag::LWW), Some(State::Register(register))
                        if register.read().as_ref() == Some(value))
                {
                    return Err(format!("{key:?}: {put:?} is back after {removal:?}"));
                }
            }
            let there = siblings(view);
            if let Some(value) = removal.seen.iter().find(|value| there.contains(*value)) {
                return Err(format!("{key:?}: {value:?} is back after {removal:?}"));
            }
        }
    }
    Ok(())
}

/// Every sum lies between what was acknowledged and that with everything whose outcome is unknown.
pub fn invariant_counters_exact(history: &History, finals: &Finals) -> Result<(), String> {
    for (key, view) in finals {
        let mut bounds = BTreeMap::<(Tag, Blob), (i128, i128)>::new();
        for (record, operation) in maybe_done(history, key) {
            let Some((name, by)) = adds(operation) else { continue };
            let bounds = bounds.entry(name).or_default();
            if record.is_done() {
                bounds.0 += by;
                bounds.1 += by;
            } else if by < 0 {
                bounds.0 += by;
            } else {
                bounds.1 += by;
            }
        }
        let shown = sums(view);
        for ((tag, name), (low, high)) in bounds {
            let is_removed = maybe_done(history, key).any(|(_, other)| takes(other, tag, &name));
            let sum = shown.get(&(tag, name.clone())).copied().unwrap_or(0);
            if !is_removed && !(low..=high).contains(&sum) {
                return Err(format!("{key:?} {tag} {name:?} shows {sum}, not {low} to {high}"));
            }
        }
    }
    Ok(())
}

/// A read that r owners answered shows every update that w owners had before it began, provided
/// r + w > n and nothing can have taken it away meanwhile.
pub fn invariant_reads_see_quorum_writes(
    history: &History,
    r_plus_w_exceeds_n: bool,
) -> Result<(), String> {
    if !r_plus_w_exceeds_n {
        return Ok(());
    }
    let reads = history.records.iter().filter(|record| record.operation.is_none());
    for read in reads.filter(|read| read.is_met()) {
        let Some(view) = read.view() else { continue };
        let mut sum = 0;
        for (record, operation) in done(history, &read.key) {
            if !(record.is_met() && record.is_before(read)) {
                continue;
            }
            if let Some((tag, names)) = puts(operation)
                && matches!(tag, Tag::GSET | Tag::ORSET)
            {
                let there = members(view, tag);
                for name in names.iter().filter(|name| !there.contains(*name)) {
                    let taken = maybe_done(history, &read.key).any(|(other, operation)| {
                        takes(operation, tag, name) && other.from_ms <= read.to_ms
                    });
                    if !taken {
                        return Err(format!("{read:?} does not see {name:?} of {record:?}"));
                    }
                }
            }
            if let Operation::Counter(CounterOp::Add(by)) = operation {
                sum += i128::from(*by);
            }
        }
        let shown = sums(view).get(&(Tag::COUNTER, Blob::new())).copied().unwrap_or(0);
        // Holds for counters that only grow, as those of the workload do.
        if shown < sum {
            return Err(format!("{read:?} shows {shown}, less than the {sum} before it"));
        }
    }
    Ok(())
}

/// No dot was ever issued twice.
pub fn invariant_dots_issued_once(sim: &Sim) -> Result<(), String> {
    match sim.dot_violations().first() {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}

/// All owners of each key show the same; `whole` compares also what they have seen, which is equal
/// once every delta reached every owner, but not by read repair alone.
pub fn invariant_replicas_equal_after_healing(
    sim: &mut Sim,
    keys: &BTreeSet<Key>,
    whole: bool,
) -> Result<(), String> {
    for key in keys {
        let owners = sim.owners(key);
        let views: Vec<(usize, View)> =
            owners.into_iter().filter_map(|node| Some((node, sim.view(node, key)?))).collect();
        for pair in views.windows(2) {
            let equal =
                if whole { pair[0].1 == pair[1].1 } else { shown(&pair[0].1) == shown(&pair[1].1) };
            if !equal {
                let (a, b) = (&pair[0], &pair[1]);
                return Err(format!("{key:?} differs:\n{a:?}\n{b:?}"));
            }
        }
    }
    Ok(())
}

/// Every hash tree is what a full scan of its replica gives, whatever happened. Where all replicas
/// are `equal`, so are the trees of the owners of a key.
pub fn invariant_trees_are_exact(
    sim: &mut Sim,
    keys: &BTreeSet<Key>,
    equal: bool,
) -> Result<(), String> {
    for node in 0..sim.nodes() {
        if let Some(check) = sim.check_trees(node).filter(|check| !check.is_clean()) {
            return Err(format!("node {node}: {check:?}"));
        }
    }
    for key in keys.iter().filter(|_| equal) {
        let owners = sim.owners(key);
        let roots: Vec<_> =
            owners.into_iter().filter_map(|node| Some((node, sim.tree_root(node, key)?))).collect();
        let settled: Vec<_> = roots.iter().filter(|(_, root)| root.is_settled).collect();
        if settled.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            return Err(format!("the trees of the owners of {key:?} differ: {roots:?}"));
        }
    }
    Ok(())
}

/// A view without what a replica has seen of things gone: equal if readers see the same.
pub fn shown(view: &View) -> BTreeMap<Tag, Vec<u8>> {
    let states = view.value.0.iter().map(|(&tag, state)| (tag, without_context(state)));
    states.filter(|(tag, bytes)| *bytes != without_context(&State::bottom(*tag))).collect()
}

fn without_context(state: &State) -> Vec<u8> {
    match state {
        State::Bytes(state) => encode(&state.store),
        State::Register(register) => encode(&(&register.base, &register.tally)),
        State::Gset(state) | State::Orset(state) => encode(&state.store),
        State::Counter(counter) => encode(&counter.tally),
        State::Cart(state) => encode(&state.store),
        State::Map(state) => encode(&state.store),
        State::Opaque(encodings) => encode(encodings),
    }
}
