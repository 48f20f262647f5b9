//! Collections as rows: one encoded row per element, so that storage can join one element without
//! decoding the others.
//!
//! Invariant: joining a delta row by row gives the same as [`Value::apply`](crate::Value::apply) on
//! the whole (`storage`'s conformance tests hold it).

use std::collections::BTreeSet;

use clock::{Actor, CausalContext, DecodeError};

use crate::{Blob, Causal, DotFun, DotMap, DotSet, DotStore, Field, State, Tag};

/// Whether states of `tag` are stored as one row per element.
pub const fn is_collection(tag: Tag) -> bool {
    matches!(tag, Tag::GSET | Tag::ORSET | Tag::CART | Tag::MAP)
}

/// A collection of type `tag` that has seen `context` and holds no element.
pub fn empty_collection(tag: Tag, context: CausalContext) -> State {
    match State::bottom(tag) {
        State::Gset(_) => State::Gset(Causal { context, ..Causal::default() }),
        State::Orset(_) => State::Orset(Causal { context, ..Causal::default() }),
        State::Cart(_) => State::Cart(Causal { context, ..Causal::default() }),
        State::Map(_) => State::Map(Causal { context, ..Causal::default() }),
        other => other,
    }
}

/// What became of an element's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedRow {
    /// The row before, without what the collection's clearing had already removed; `None` if
    /// nothing was left.
    pub before: Option<Vec<u8>>,
    /// The row after; `None` if there is nothing to store.
    pub after: Option<Vec<u8>>,
    /// Whether a reader saw the element before.
    pub was_live: bool,
    /// Whether a reader sees it after.
    pub is_live: bool,
}

/// Joins the part of `delta` about `element` into the element's stored `row`.
///
/// `cleared` are the dots that a clearing of the whole collection removed and that the row may
/// still hold; `context` is what the replica has seen. Fails only if the row is damaged.
pub fn join_row(
    tag: Tag,
    row: Option<&[u8]>,
    cleared: &CausalContext,
    context: &CausalContext,
    delta: &State,
    element: &Blob,
) -> Result<JoinedRow, DecodeError> {
    match delta {
        State::Gset(delta) if tag == Tag::GSET => join(row, cleared, context, delta, element),
        State::Orset(delta) if tag == Tag::ORSET => join(row, cleared, context, delta, element),
        State::Cart(delta) if tag == Tag::CART => join(row, cleared, context, delta, element),
        State::Map(delta) if tag == Tag::MAP => join(row, cleared, context, delta, element),
        // Not a state of this type: as if the delta did not speak of the element.
        _ => {
            let row = row.map(<[u8]>::to_vec);
            let live = row.is_some();
            Ok(JoinedRow { before: row.clone(), after: row, was_live: live, is_live: live })
        }
    }
}

fn join<E: DotStore>(
    row: Option<&[u8]>,
    cleared: &CausalContext,
    context: &CausalContext,
    delta: &Causal<DotMap<E>>,
    element: &Blob,
) -> Result<JoinedRow, DecodeError> {
    let mut entry = match row {
        Some(row) => clock::decode::<E>(row)?,
        None => E::default(),
    };
    entry.remove(cleared);
    let was_live = entry.is_live();
    let before = encoded(&entry);
    let bottom = E::default();
    entry.join(context, delta.store.0.get(element).unwrap_or(&bottom), &delta.context);
    Ok(JoinedRow { before, after: encoded(&entry), was_live, is_live: entry.is_live() })
}

fn encoded<E: DotStore>(entry: &E) -> Option<Vec<u8>> {
    (!entry.is_bottom()).then(|| clock::encode(entry))
}

/// The row of `element` in `state`, if the state holds it.
pub fn entry_row(state: &State, element: &Blob) -> Option<Vec<u8>> {
    match state {
        State::Gset(state) | State::Orset(state) => state.store.0.get(element).and_then(encoded),
        State::Cart(state) => state.store.0.get(element).and_then(encoded),
        State::Map(state) => state.store.0.get(element).and_then(encoded),
        _ => None,
    }
}

/// Whose dots and increments a stored row holds, also such as are not live. Fails only if the row is damaged.
pub fn row_actors(tag: Tag, row: &[u8]) -> Result<BTreeSet<Actor>, DecodeError> {
    fn of<V: Ord>(dots: &DotFun<V>) -> impl Iterator<Item = Actor> + '_ {
        dots.0.keys().map(|dot| dot.actor)
    }
    Ok(match tag {
        Tag::GSET | Tag::ORSET => of(&clock::decode::<DotSet>(row)?).collect(),
        Tag::CART => of(&clock::decode::<DotFun<u64>>(row)?).collect(),
        Tag::MAP => {
            let Field { writes, tally } = clock::decode(row)?;
            of(&writes).chain(tally.entries().map(|(actor, _)| actor)).collect()
        }
        _ => BTreeSet::new(),
    })
}

/// Puts a stored row into the collection `state`, less the dots in `cleared`. Returns whether the
/// element is live, or `None` if nothing of it was left to put. Fails only if the row is damaged.
pub fn insert_row(
    state: &mut State,
    element: Blob,
    row: &[u8],
    cleared: &CausalContext,
) -> Result<Option<bool>, DecodeError> {
    match state {
        State::Gset(state) | State::Orset(state) => insert::<DotSet>(state, element, row, cleared),
        State::Cart(state) => insert::<DotFun<u64>>(state, element, row, cleared),
        State::Map(state) => insert::<Field>(state, element, row, cleared),
        _ => Ok(None),
    }
}

fn insert<E: DotStore>(
    state: &mut Causal<DotMap<E>>,
    element: Blob,
    row: &[u8],
    cleared: &CausalContext,
) -> Result<Option<bool>, DecodeError> {
    let mut entry = clock::decode::<E>(row)?;
    entry.remove(cleared);
    if entry.is_bottom() {
        return Ok(None);
    }
    let live = entry.is_live();
    state.store.0.insert(element, entry);
    Ok(Some(live))
}
