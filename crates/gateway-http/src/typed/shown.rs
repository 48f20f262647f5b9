//! What a view shows of a type, as JSON.

use serde_json::{Map, Value, json};
use values::{Blob, Causal, DotFun, DotMap, DotStore, Field, State, Tag, View};

use super::Kind;
use crate::json::{number, text};

/// Sets `document[name]` to what `view` shows of `tag` within its scope: a number, a string, a
/// list of members, a list of items with quantities, an object of fields (those whose names are no
/// UTF-8 in a list of their own, `binary_fields`).
pub(crate) fn put_value(document: &mut Value, name: &str, view: &View, tag: Tag) {
    let value = match view.value.state(tag) {
        Some(State::Counter(state)) => number(state.tally.value()),
        Some(State::Register(state)) => state.read().map_or(Value::Null, |value| text(&value)),
        Some(State::Gset(state) | State::Orset(state)) => {
            state.store.0.keys().map(|member| text(member)).collect()
        }
        Some(State::Cart(state)) => items(state),
        Some(State::Map(state)) => {
            let (fields, binary) = fields(state);
            if !binary.is_empty() {
                document["binary_fields"] = binary.into();
            }
            fields.into()
        }
        _ => match Kind::of(tag) {
            Some(Kind::Counter) => 0.into(),
            Some(Kind::Set | Kind::Gset | Kind::Cart) => json!([]),
            Some(Kind::Map) => json!({}),
            Some(Kind::Register) | None => Value::Null,
        },
    };
    document[name] = value;
}

/// Sets `size`, the number of live elements of a collection, and says so if it is only the largest
/// that one of several differing replicas showed.
pub(crate) fn put_size(document: &mut Value, view: &View, tag: Tag) {
    let summary = view.collections.get(&tag).copied();
    document["size"] = summary.map_or(0, |summary| summary.live).into();
    if summary.is_some_and(|summary| !summary.exact) {
        document["size_exact"] = false.into();
    }
}

/// Sets what `view` shows of one element: whether a set contains it, the quantity of an item, the
/// value of a field.
pub(crate) fn put_element(document: &mut Value, view: &View, kind: Kind, element: &Blob) {
    match (kind, view.value.state(kind.tag())) {
        (Kind::Set | Kind::Gset, Some(State::Gset(state) | State::Orset(state))) => {
            document["contains"] = state.store.0.contains_key(element).into();
        }
        (Kind::Cart, Some(State::Cart(state))) => {
            document["quantity"] = state.store.0.get(element).map_or(0.into(), quantity);
        }
        (Kind::Map, Some(State::Map(state))) => {
            let value = state.store.0.get(element).and_then(Field::read);
            document["value"] = value.map_or(Value::Null, |value| text(&value));
        }
        _ => {}
    }
}

fn quantity(adds: &DotFun<u64>) -> Value {
    // At most as many adds as fit in memory, each below 2^64: no overflow.
    number(adds.0.values().map(|&quantity| i128::from(quantity)).sum())
}

fn items(cart: &Causal<DotMap<DotFun<u64>>>) -> Value {
    cart.store
        .0
        .iter()
        .map(|(item, adds)| json!({ "item": text(item), "quantity": quantity(adds) }))
        .collect()
}

fn fields(map: &Causal<DotMap<Field>>) -> (Map<String, Value>, Vec<Value>) {
    let (mut named, mut binary) = (Map::new(), Vec::new());
    for (name, field) in map.store.0.iter().filter(|(_, field)| field.is_live()) {
        let value = field.read().map_or(Value::Null, |value| text(&value));
        match std::str::from_utf8(name) {
            Ok(name) => drop(named.insert(name.to_owned(), value)),
            Err(_) => binary.push(json!({ "field": text(name), "value": value })),
        }
    }
    (named, binary)
}
