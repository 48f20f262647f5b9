//! Merging a delta into a collection, row by row.
//!
//! A delta that names its elements costs one row each, whatever the collection's size. One that
//! touches everything clears the collection in its header: the dots it removes go to `cleared`,
//! which every read of a row takes away, and the rows go when `sweep` comes by. What the delta
//! still holds live is kept out of `cleared`, so named rows are joined as ever. Only a delta that
//! touches everything and holds many live dots (a whole state) is joined with every row at once.
//!
//! The result is that of `Value::apply` on the whole (`tests::rows`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use clock::{CausalContext, Dot};
use values::{Blob, Delta, DotStore, JoinedRow, Key, State, Tag, empty_collection, join_row};

use super::look::{Rows, corrupt, read_element};
use super::{Change, Engine};
use crate::record::{Collection, encode_element, row_digest};
use crate::row_key::RowKey;
use crate::{IndexRead, StorageError, Table};

/// Most live dots of a delta that are cut out of `cleared` one by one. A guess: beyond it, joining
/// every row is the lesser cost.
/// Under test small enough that both ways are taken.
const CUT_OUT_MAX: usize = if cfg!(test) { 3 } else { 64 };

/// Live elements and digest of some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    live: u64,
    digest: u128,
}

impl Sum {
    fn of(tag: Tag, element: &Blob, row: Option<&[u8]>, live: bool) -> Self {
        let digest = row.map_or(0, |row| row_digest(tag, element, row));
        Self { live: u64::from(live), digest }
    }

    fn before(tag: Tag, element: &Blob, joined: &JoinedRow) -> Self {
        Self::of(tag, element, joined.before.as_deref(), joined.was_live)
    }

    fn after(tag: Tag, element: &Blob, joined: &JoinedRow) -> Self {
        Self::of(tag, element, joined.after.as_deref(), joined.is_live)
    }

    fn add(&mut self, other: Self) {
        self.live += other.live;
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

impl Collection {
    fn replace(&mut self, before: Sum, after: Sum) {
        self.live = self.live.saturating_sub(before.live).saturating_add(after.live);
        self.digest = self.digest.wrapping_sub(before.digest).wrapping_add(after.digest);
    }
}

/// Whether `state` is one of a collection of type `tag`. A peer could send anything.
const fn is_of(tag: Tag, state: &State) -> bool {
    matches!(
        (tag, state),
        (Tag::GSET, State::Gset(_))
            | (Tag::ORSET, State::Orset(_))
            | (Tag::CART, State::Cart(_))
            | (Tag::MAP, State::Map(_))
    )
}

/// The live dots of a collection.
pub(super) fn dots(state: &State) -> Vec<Dot> {
    match state {
        State::Gset(state) | State::Orset(state) => state.store.dots(),
        State::Cart(state) => state.store.dots(),
        State::Map(state) => state.store.dots(),
        _ => Vec::new(),
    }
}

impl<R: IndexRead> Engine<R> {
    #[expect(clippy::too_many_arguments, reason = "the collection's place takes three of them")]
    pub(super) fn merge_collection(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        collection: &mut Collection,
        theirs: &State,
        delta: &Delta,
        changes: &mut Vec<Change>,
    ) -> Result<(), StorageError> {
        if !is_of(tag, theirs) {
            return Ok(());
        }
        let named = delta.named_elements(tag);
        let had_rows = collection.digest != 0 || !collection.cleared.is_empty();
        let mut named_sum = Sum::default();
        for element in &named {
            let rows = Rows { at, key, tag, collection };
            let row = self.element(&rows, element)?;
            let joined = joined(tag, row.as_ref(), collection, theirs, element)?;
            push_row(at, key, tag, element, &joined, changes);
            let after = Sum::after(tag, element, &joined);
            named_sum.add(after);
            collection.replace(Sum::before(tag, element, &joined), after);
        }
        if delta.touches_everything(tag) && had_rows {
            let kept = dots(theirs);
            if kept.len() > CUT_OUT_MAX {
                self.join_others(at, key, tag, collection, theirs, &named, changes)?;
            } else {
                let gone = theirs.context().without(kept);
                if !collection.cleared.descends(&gone) {
                    // Fields of a map can outlive their writes: their tallies.
                    let all_gone =
                        tag != Tag::MAP && theirs.context().descends(&collection.context);
                    collection.cleared.merge(&gone);
                    let mut sum = named_sum;
                    if !all_gone {
                        sum.add(self.count_others(at, key, tag, collection, &named)?);
                    }
                    (collection.live, collection.digest) = (sum.live, sum.digest);
                    changes.push((Table::Meta, at.sweep(tag), Some(vec![1])));
                }
            }
        }
        collection.context.merge(theirs.context());
        Ok(())
    }

    /// Joins every row that `named` does not name.
    #[expect(clippy::too_many_arguments, reason = "the collection's place takes three of them")]
    fn join_others(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        collection: &mut Collection,
        theirs: &State,
        named: &BTreeSet<Blob>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StorageError> {
        let mut sums = (Sum::default(), Sum::default());
        self.visit_others(at, key, tag, named, |element, row| {
            let joined = joined(tag, Some(&row), collection, theirs, &element)?;
            push_row(at, key, tag, &element, &joined, changes);
            sums.0.add(Sum::before(tag, &element, &joined));
            sums.1.add(Sum::after(tag, &element, &joined));
            Ok(())
        })?;
        collection.replace(sums.0, sums.1);
        Ok(())
    }

    /// Counts what `cleared` leaves of every row that `named` does not name.
    fn count_others(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        collection: &Collection,
        named: &BTreeSet<Blob>,
    ) -> Result<Sum, StorageError> {
        let mut sum = Sum::default();
        self.visit_others(at, key, tag, named, |element, row| {
            let kept = without_cleared(tag, &row, collection, &element)?;
            sum.add(Sum::before(tag, &element, &kept));
            Ok(())
        })?;
        Ok(sum)
    }

    fn visit_others(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        named: &BTreeSet<Blob>,
        mut visit: impl FnMut(Blob, Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let prefix = at.elements(tag);
        let mut result = Ok(());
        self.rows.scan(Table::Element, &prefix, &[], |row_key, record| {
            result =
                read_element(&prefix, row_key, record, Some(key)).and_then(|(element, row)| {
                    if named.contains(&element) { Ok(()) } else { visit(element, row) }
                });
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result
    }
}

fn joined(
    tag: Tag,
    row: Option<&Bytes>,
    collection: &Collection,
    theirs: &State,
    element: &Blob,
) -> Result<JoinedRow, StorageError> {
    let row = row.map(|row| &row[..]);
    join_row(tag, row, &collection.cleared, &collection.context, theirs, element).map_err(corrupt)
}

/// What `cleared` leaves of a row, as `before`.
pub(super) fn without_cleared(
    tag: Tag,
    row: &Bytes,
    collection: &Collection,
    element: &Blob,
) -> Result<JoinedRow, StorageError> {
    let nothing = empty_collection(tag, CausalContext::default());
    joined(tag, Some(row), collection, &nothing, element)
}

fn push_row(
    at: &RowKey,
    key: &Key,
    tag: Tag,
    element: &Blob,
    joined: &JoinedRow,
    changes: &mut Vec<Change>,
) {
    // Where only dead dots differ, the sweep writes the row.
    if joined.after == joined.before {
        return;
    }
    let row_key = at.element(tag, element);
    let record =
        joined.after.as_ref().map(|row| encode_element(&row_key, at, key, element, row.clone()));
    changes.push((Table::Element, row_key, record));
}
