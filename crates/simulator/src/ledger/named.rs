//! What an operation says: which writes it makes, and which it may or must take away.

use std::collections::{BTreeMap, BTreeSet};

use clock::{CausalContext, Stamp};
use values::{
    Blob, BytesOp, CartOp, CounterOp, Field, GsetOp, MapOp, Operation, OrsetOp, RegisterOp, State,
    Tag, Value,
};

use super::{Place, nameless};
use crate::sight::Write;

/// How an operation stands to a write made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It leaves it alone.
    No,
    /// It may replace it by one of its own that means the same.
    Replaces,
    /// It takes it away if it was shown it.
    Removes,
}

pub(super) fn naming(
    operation: &Operation,
    (tag, dot): Place,
    write: &Write,
    observed: &CausalContext,
) -> Naming {
    let element = match write {
        Write::Entry { element, .. } | Write::Count { element, .. } => element,
        Write::Base { .. } | Write::End | Write::Mark => return Naming::No,
    };
    let removes = |names: bool| if names { Naming::Removes } else { Naming::No };
    let replaces = |names: bool| if names { Naming::Replaces } else { Naming::No };
    match operation {
        Operation::Delete(only) => removes(only.is_none_or(|only| only == tag)),
        Operation::Resolve(kept) => removes(*kept != tag),
        Operation::Register(RegisterOp::Set { replace, .. }) => {
            removes(*replace || tag == Tag::LWW)
        }
        Operation::Register(RegisterOp::PutRaw(_) | RegisterOp::DeleteRaw) => {
            removes(tag == Tag::BYTES || tag == Tag::LWW)
        }
        Operation::Bytes(_) if tag == Tag::BYTES && observed.contains(dot) => Naming::Removes,
        // A value put again replaces itself.
        Operation::Bytes(BytesOp::Put(value)) => {
            replaces(tag == Tag::BYTES && *write == Write::entry(&nameless(), value.clone()))
        }
        Operation::Gset(GsetOp::Add(names)) => {
            replaces(tag == Tag::GSET && names.contains(element))
        }
        Operation::Orset(OrsetOp::Add(names)) => {
            replaces(tag == Tag::ORSET && names.contains(element))
        }
        Operation::Orset(OrsetOp::Remove(names)) => {
            removes(tag == Tag::ORSET && names.contains(element))
        }
        Operation::Counter(CounterOp::Reset) => removes(tag == Tag::COUNTER),
        Operation::Cart(CartOp::Remove(item) | CartOp::SetQuantity { item, .. }) => {
            removes(tag == Tag::CART && item == element)
        }
        Operation::Map(MapOp::Set(fields)) => {
            removes(tag == Tag::MAP && fields.iter().any(|(name, _)| name == element))
        }
        Operation::Map(MapOp::Remove(names)) => removes(tag == Tag::MAP && names.contains(element)),
        Operation::Bytes(BytesOp::Delete)
        | Operation::Register(RegisterOp::Increment(_))
        | Operation::Counter(CounterOp::Add(_))
        | Operation::Cart(CartOp::Add { .. })
        | Operation::Map(MapOp::Increment { .. })
        | Operation::Expiry(_) => Naming::No,
    }
}

/// Whether an operation takes a write away where it is shown it. (What `bytes` takes away is what
/// its client presents.)
pub(crate) fn removes(operation: &Operation, place: Place, write: &Write) -> bool {
    naming(operation, place, write, &CausalContext::default()) == Naming::Removes
}

/// What an operation adds, to which field.
pub(super) fn increment(operation: &Operation) -> Option<(Blob, i64)> {
    match operation {
        Operation::Counter(CounterOp::Add(by)) | Operation::Register(RegisterOp::Increment(by)) => {
            Some((nameless(), *by))
        }
        Operation::Map(MapOp::Increment { field, by }) => Some((field.clone(), *by)),
        _ => None,
    }
}

/// The sum to which an increment adds, as `value` shows it.
pub(super) fn present(operation: &Operation, value: &Value) -> Option<i128> {
    match (operation, value.state(operation.minted_tag())) {
        (_, None) => Some(0),
        (Operation::Map(MapOp::Increment { field, .. }), Some(State::Map(map))) => {
            map.store.0.get(field).map_or(Some(0), Field::number)
        }
        (_, Some(State::Register(register))) => register.number(),
        (_, Some(State::Counter(counter))) => Some(counter.tally.value()),
        _ => None,
    }
}

/// The writes that an operation makes, stamps aside; of a delete, which makes one where there is a
/// register, none.
pub(crate) fn said(operation: &Operation) -> BTreeSet<Write> {
    let adds = |names: &[Blob]| names.iter().map(|name| Write::entry(name, "")).collect();
    if let Some((element, by)) = increment(operation) {
        return BTreeSet::from([Write::Count { element, by }]);
    }
    match operation {
        Operation::Bytes(BytesOp::Put(value)) => [Write::entry(&nameless(), value.clone())].into(),
        Operation::Register(RegisterOp::Set { value, .. } | RegisterOp::PutRaw(value)) => {
            [Write::Base { stamp: Stamp(0), value: Some(value.clone()) }].into()
        }
        Operation::Gset(GsetOp::Add(names)) | Operation::Orset(OrsetOp::Add(names)) => adds(names),
        Operation::Cart(
            CartOp::Add { item, quantity } | CartOp::SetQuantity { item, quantity },
        ) if *quantity > 0 => [Write::units(item, *quantity)].into(),
        Operation::Map(MapOp::Set(fields)) => {
            // Where a field is named twice, the last value counts.
            let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, value)).collect();
            fields.into_iter().map(|(name, value)| Write::entry(name, value.clone())).collect()
        }
        _ => BTreeSet::new(),
    }
}
