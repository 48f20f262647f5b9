//! Merging a delta into a collection, row by row.
//!
//! A delta that names its elements costs one row each, whatever the collection's size. One that
//! touches everything clears the collection in its header: the dots it removes go to `cleared`,
//! which every read of a row takes away, and the rows go when `sweep` comes by. What the delta
//! still holds live is kept out of `cleared`, so named rows are joined as ever. Only a delta that
//! touches everything and holds many live dots (a whole state) is joined with every row at once.
//!
//! The header's sum stays exact where the clearing had seen everything (of a map then its tallies
//! are left), and where few rows are to be counted. A large collection with something that the
//! clearing had not seen counts dead rows until the sweep has taken them away: `live` is then the
//! most that there can be, and its summary is not `exact`.
//!
//! The result is that of `Value::apply` on the whole (`tests::rows`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use clock::{CausalContext, Dot};
use sabotage::Bug;
use values::{Blob, Delta, DotStore, JoinedRow, Key, State, Tag, empty_collection, join_row};

use super::look::{Looked, Rows, corrupt, read_element};
use super::{Change, Engine};
use crate::record::{Collection, Tallies, encode_cleared, encode_element, row_digest};
use crate::row_key::RowKey;
use crate::tree::LeafSum;
use crate::{IndexRead, StorageError, Table};

/// What some rows add to their collection's header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    live: u64,
    digest: u128,
    tallies: Tallies,
}

impl Sum {
    fn of(tag: Tag, element: &Blob, row: Option<&[u8]>, live: bool) -> Result<Self, StorageError> {
        let Some(row) = row else { return Ok(Self::default()) };
        let (digest, tallies) = (row_digest(tag, element, row), Tallies::of(tag, element, row)?);
        Ok(Self { live: live.into(), digest, tallies })
    }

    pub(super) fn before(
        tag: Tag,
        element: &Blob,
        joined: &JoinedRow,
    ) -> Result<Self, StorageError> {
        Self::of(tag, element, joined.before.as_deref(), joined.was_live)
    }

    fn after(tag: Tag, element: &Blob, joined: &JoinedRow) -> Result<Self, StorageError> {
        Self::of(tag, element, joined.after.as_deref(), joined.is_live)
    }

    /// What the row of which this is the sum adds to its chunk.
    fn in_chunk(self) -> LeafSum {
        // Only what is no row has the digest 0.
        if self.digest == 0 { LeafSum::default() } else { LeafSum::of(Some(self.digest)) }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.live += other.live;
        self.digest = self.digest.wrapping_add(other.digest);
        self.tallies = self.tallies.plus(other.tallies);
    }
}

impl Collection {
    pub(super) fn replace(&mut self, before: Sum, after: Sum) {
        self.live = self.live.saturating_sub(before.live).saturating_add(after.live);
        self.digest = self.digest.wrapping_sub(before.digest).wrapping_add(after.digest);
        self.tallies = self.tallies.less(before.tallies).plus(after.tallies);
    }

    /// What the header counts of the stored row of `element`, of which `joined` was made.
    pub(super) fn counted(
        &self,
        tag: Tag,
        element: &Blob,
        row: Option<&Bytes>,
        joined: &JoinedRow,
    ) -> Result<Sum, StorageError> {
        match (&self.deducted, row) {
            (Some(deducted), Some(row)) => {
                Sum::before(tag, element, &without_dots(tag, row, deducted, element)?)
            }
            _ => Sum::before(tag, element, joined),
        }
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
        looked: &Looked,
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
            let row = self.element_looked(&rows, element, looked)?;
            let joined = joined(tag, row.as_ref(), collection, theirs, element)?;
            let after = Sum::after(tag, element, &joined)?;
            if push_row(at, key, tag, element, &joined, changes) {
                let counted = collection.counted(tag, element, row.as_ref(), &joined)?;
                collection.replace(counted, after);
                // What its chunk counts is what stands: the same, unless dead dots do.
                let stands = row.as_deref() == joined.before.as_deref();
                if stands && collection.deducted.is_none() {
                    let last = changes.last_mut().expect("it was pushed");
                    last.counted = Some((counted.in_chunk(), after.in_chunk()));
                }
            }
            named_sum.add(after);
        }
        if delta.touches_everything(tag) && had_rows {
            let kept = dots(theirs);
            if kept.len() > self.config.bounds.cut_out_max {
                self.join_others(at, key, tag, collection, theirs, &named, changes)?;
            } else {
                let kept = if sabotage::is(Bug::ClearingTakesLive) { Vec::new() } else { kept };
                let gone = theirs.context().without(kept);
                if !collection.cleared.descends(&gone) {
                    self.clear(at, key, tag, collection, theirs, gone, &named, named_sum)?;
                    let marker = at.sweep(tag);
                    let record = encode_cleared(&marker, &collection.cleared);
                    changes.push(Change::of(Table::Meta, marker, Some(record)));
                }
            }
        }
        collection.context.merge(theirs.context());
        Ok(())
    }

    /// Takes `gone` from every row in the header alone. Where few rows are left to count, or what is
    /// left is known, so is its sum; otherwise the sweep counts, and the header says so.
    #[expect(clippy::too_many_arguments, reason = "the collection's place takes three of them")]
    fn clear(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        collection: &mut Collection,
        theirs: &State,
        gone: CausalContext,
        named: &BTreeSet<Blob>,
        named_sum: Sum,
    ) -> Result<(), StorageError> {
        let before = collection.cleared.clone();
        collection.cleared.merge(&gone);
        let others = if theirs.context().descends(&collection.context) {
            let tallies = collection.tallies.less(named_sum.tallies);
            Some(Sum { live: tallies.live, digest: tallies.digest, tallies })
        } else {
            self.count_others(at, key, tag, collection, named)?
        };
        match others {
            Some(mut sum) => {
                sum.add(named_sum);
                collection.deducted = None;
                (collection.live, collection.digest) = (sum.live, sum.digest);
            }
            None => drop(collection.deducted.get_or_insert(before)),
        }
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
        self.visit_others(at, key, tag, named, usize::MAX, |element, row| {
            let joined = joined(tag, Some(&row), collection, theirs, &element)?;
            if push_row(at, key, tag, &element, &joined, changes) {
                sums.0.add(collection.counted(tag, &element, Some(&row), &joined)?);
                sums.1.add(Sum::after(tag, &element, &joined)?);
            }
            Ok(())
        })?;
        collection.replace(sums.0, sums.1);
        Ok(())
    }

    /// Counts what `cleared` leaves of every row that `named` does not name; `None` if that takes
    /// looking at too many.
    fn count_others(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        collection: &Collection,
        named: &BTreeSet<Blob>,
    ) -> Result<Option<Sum>, StorageError> {
        let mut sum = Sum::default();
        let counted_all = self.visit_others(
            at,
            key,
            tag,
            named,
            self.config.bounds.count_max,
            |element, row| {
                let kept = without_dots(tag, &row, &collection.cleared, &element)?;
                sum.add(Sum::before(tag, &element, &kept)?);
                Ok(())
            },
        )?;
        Ok(counted_all.then_some(sum))
    }

    /// Visits rows that `named` does not name, and looks at up to `limit`; returns whether that
    /// were all.
    fn visit_others(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        named: &BTreeSet<Blob>,
        limit: usize,
        mut visit: impl FnMut(Blob, Bytes) -> Result<(), StorageError>,
    ) -> Result<bool, StorageError> {
        let prefix = at.elements(tag);
        let (mut result, mut looked, mut all) = (Ok(()), 0, true);
        self.rows.scan(Table::Element, &prefix, &[], |row_key, record| {
            all = looked < limit;
            if !all {
                return ControlFlow::Break(());
            }
            looked += 1;
            result =
                read_element(&prefix, row_key, record, Some(key)).and_then(|(element, row)| {
                    if named.contains(&element) { Ok(()) } else { visit(element, row) }
                });
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result.map(|()| all)
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

/// What is left of a row without the dots in `cleared`, as `before`.
pub(super) fn without_dots(
    tag: Tag,
    row: &Bytes,
    cleared: &CausalContext,
    element: &Blob,
) -> Result<JoinedRow, StorageError> {
    let (nothing, unseen) =
        (empty_collection(tag, CausalContext::default()), CausalContext::default());
    join_row(tag, Some(row), cleared, &unseen, &nothing, element).map_err(corrupt)
}

/// Returns whether the row is written.
fn push_row(
    at: &RowKey,
    key: &Key,
    tag: Tag,
    element: &Blob,
    joined: &JoinedRow,
    changes: &mut Vec<Change>,
) -> bool {
    // Where only dead dots differ, the sweep writes the row.
    if joined.after == joined.before || sabotage::is(Bug::RowsNotWritten) {
        return false;
    }
    let row_key = at.element(tag, element);
    let record =
        joined.after.as_ref().map(|row| encode_element(&row_key, at, key, element, row.clone()));
    changes.push(Change::of(Table::Element, row_key, record));
    true
}
