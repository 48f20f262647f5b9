//! Reading: views of a key within a scope.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use clock::CausalContext;
use values::{
    Blob, CollectionSummary, Delta, Field, Key, Scope, State, Tag, TagMap, Value, View,
    empty_collection, insert_row,
};

use super::Engine;
use super::header_row::{Before, Held};
use super::trees::StoredLeaf;
use crate::memtable::successor;
use crate::record::{Collection, Header, Part, Told, decode_element, decode_leaf};
use crate::row_key::{ELEMENT_INLINE_MAX, RowKey, inline_element, is_long_element};
use crate::{IndexRead, StorageError, Table};

/// Rows looked at beyond a page's limit before the page is given short: dead rows that wait to be
/// swept do not count as elements, and must not make one page cost a whole collection. A guess.
const DEAD_ROWS_PER_PAGE: usize = 1024;

/// Rows of elements, as they are stored, that a command has looked at: it need not look again.
#[derive(Debug, Default)]
pub(super) struct Looked(BTreeMap<(Tag, Blob), Option<Bytes>>);

impl Header {
    /// Size and digest of each collection.
    pub(super) fn summaries(&self) -> TagMap<CollectionSummary> {
        let collections = self.tags.iter().filter_map(|(&tag, part)| match part {
            Part::Collection(Collection { live, digest, deducted, .. }) => {
                let exact = deducted.is_none();
                let digest = if exact { *digest } else { 0 };
                Some((tag, CollectionSummary { live: *live, digest, exact }))
            }
            Part::Whole(_) => None,
        });
        collections.collect()
    }

    /// Makes of what it showed before `delta` was merged into it what it shows since. Only if that is of no collection,
    /// whose elements are not here: returns whether.
    pub(super) fn show_wholes(&self, delta: &Delta, shown: &mut Value) -> bool {
        let whole = |tag| match self.tags.get(tag) {
            Some(Part::Whole(state)) => Some(state),
            _ => None,
        };
        if !delta.value.0.keys().all(|tag| whole(tag).is_some()) {
            return false;
        }
        if shown.0.is_empty() {
            shown.0 = TagMap::with_capacity(delta.value.0.len());
        }
        let states = delta.value.0.keys().filter_map(|tag| Some((*tag, whole(tag)?.clone())));
        states.for_each(|(tag, state)| drop(shown.0.insert(tag, state)));
        true
    }
}

impl<R: IndexRead> Engine<R> {
    pub(super) fn read(&self, key: &Key, scope: &Scope) -> Result<View, StorageError> {
        let at = RowKey::of(key);
        let header = self.header(&at, key)?;
        self.show(&at, key, header, scope)
    }

    /// The header of `key`; empty if there is none, or if it is a remnant that counts as gone.
    pub(super) fn header(&self, at: &RowKey, key: &Key) -> Result<Header, StorageError> {
        let held = self.held_header(at, key)?;
        Ok(if held.is_hidden() { Header::default() } else { held })
    }

    /// The header of `key` as it is stored.
    pub(super) fn held_header(&self, at: &RowKey, key: &Key) -> Result<Header, StorageError> {
        let header = self.rows.get(Table::Header, at.as_bytes(), |record| read(at, key, record))?;
        header.unwrap_or_else(|| Ok(Header::default()))
    }

    /// The same for whoever is to change it, with what else stands there. Of one that is not there no rows are left then.
    pub(super) fn held_to_change(&mut self, at: &RowKey, key: &Key) -> Result<Held, StorageError> {
        let class = self.trees.class_of(key);
        let leaf_row = self.trees.leaf_row(at.as_bytes(), class);
        let (held, leaf) = self.rows.get_with(
            (Table::Header, at.as_bytes()),
            (Table::Tree, &leaf_row),
            |record| {
                let header = read(at, key, record)?;
                Ok::<_, StorageError>((header, Told::by_whole(at.as_bytes(), record)))
            },
            |record| decode_leaf(&leaf_row, record).ok(),
        )?;
        let held = held.transpose()?;
        if held.is_none() {
            self.finish_dropping(at)?;
        }
        let (header, told) = held.unwrap_or_default();
        Ok(Held {
            header,
            before: Before { told, leaf: leaf.map(|sum| StoredLeaf::of(class, sum)) },
        })
    }

    /// What `header` and its elements show within `scope`.
    pub(super) fn show(
        &self,
        at: &RowKey,
        key: &Key,
        header: Header,
        scope: &Scope,
    ) -> Result<View, StorageError> {
        self.show_noting(at, key, header, scope, &mut Looked::default())
    }

    /// The same, and notes which rows of elements were looked at.
    pub(super) fn show_noting(
        &self,
        at: &RowKey,
        key: &Key,
        header: Header,
        scope: &Scope,
        looked: &mut Looked,
    ) -> Result<View, StorageError> {
        let mut view = View { collections: header.summaries(), ..View::default() };
        let mut states = TagMap::with_capacity(header.tags.len());
        for (tag, part) in header.tags {
            let state = match part {
                Part::Whole(state) => state,
                Part::Collection(collection) => {
                    let mut state = empty_collection(tag, collection.context.clone());
                    let rows = Rows { at, key, tag, collection: &collection };
                    match scope {
                        Scope::Elements { tag: wanted, elements } if *wanted == tag => {
                            for element in elements {
                                let row = self.element(&rows, element)?;
                                if let Some(row) = &row {
                                    rows.insert(&mut state, element.clone(), row)?;
                                }
                                looked.0.insert((tag, element.clone()), row);
                            }
                        }
                        Scope::Range { tag: wanted, after, limit } if *wanted == tag => {
                            let (after, limit) = (after.as_ref(), *limit as usize);
                            view.next = self.page(&rows, after, limit.max(1), &mut state)?;
                        }
                        // Also fields whose increments were all reset: where another replica
                        // still shows such a field, the join of the two views must not.
                        Scope::Removal if collection.tallies.fields > 0 => {
                            self.visit(&rows, |element, row| {
                                let field: Field = clock::decode(&row).map_err(corrupt)?;
                                if !field.tally.is_empty() {
                                    rows.insert(&mut state, element, &row)?;
                                }
                                Ok(())
                            })?;
                        }
                        Scope::Whole => self.visit(&rows, |element, row| {
                            rows.insert(&mut state, element, &row).map(|_| ())
                        })?,
                        _ => {}
                    }
                    state
                }
            };
            states.insert(tag, state);
        }
        view.value = Value(states);
        Ok(view)
    }

    /// [`element`](Self::element), unless it was looked at before.
    pub(super) fn element_looked(
        &self,
        rows: &Rows<'_>,
        element: &Blob,
        looked: &Looked,
    ) -> Result<Option<Bytes>, StorageError> {
        if looked.0.is_empty() {
            return self.element(rows, element);
        }
        match looked.0.get(&(rows.tag, element.clone())) {
            Some(row) => Ok(row.clone()),
            None => self.element(rows, element),
        }
    }

    /// The stored row of one element, dots in `cleared` included.
    pub(super) fn element(
        &self,
        rows: &Rows<'_>,
        element: &Blob,
    ) -> Result<Option<Bytes>, StorageError> {
        let row_key = rows.at.element(rows.tag, element);
        let row = self.rows.get(Table::Element, &row_key, |record| {
            decode_element(&row_key, record, Some(rows.key), Some(element)).map(|(_, row)| row)
        })?;
        row.transpose()
    }

    /// Visits all stored rows of a collection, in order of row.
    pub(super) fn visit(
        &self,
        rows: &Rows<'_>,
        mut visit: impl FnMut(Blob, Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if rows.is_empty() {
            return Ok(());
        }
        let prefix = rows.at.elements(rows.tag);
        let mut result = Ok(());
        self.rows.scan(Table::Element, &prefix, &[], |row_key, record| {
            result = read_element(&prefix, row_key, record, Some(rows.key))
                .and_then(|(element, row)| visit(element, row));
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result
    }

    /// Puts up to `limit` elements after `after` into `state`; returns the last one if there are
    /// more.
    fn page(
        &self,
        rows: &Rows<'_>,
        after: Option<&Blob>,
        limit: usize,
        state: &mut State,
    ) -> Result<Option<Blob>, StorageError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let prefix = rows.at.elements(rows.tag);
        let from = match after {
            None => Vec::new(),
            // Long elements that begin alike stand in no order: all of them are looked at.
            Some(after) if is_long_element(after) => {
                successor(&[&prefix, &after[..ELEMENT_INLINE_MAX]].concat())
            }
            Some(after) => successor(&[prefix.as_slice(), after].concat()),
        };
        let mut page: Vec<(Blob, Bytes, bool)> = Vec::new();
        let (mut live, mut group, mut result) = (0, None::<Blob>, Ok(()));
        self.rows.scan(Table::Element, &prefix, &from, |row_key, record| {
            let (element, row) = match read_element(&prefix, row_key, record, Some(rows.key)) {
                Ok(read) => read,
                Err(error) => {
                    result = Err(error);
                    return ControlFlow::Break(());
                }
            };
            let start = is_long_element(&element).then(|| element.slice(..ELEMENT_INLINE_MAX));
            let enough = live > limit || page.len() > limit + DEAD_ROWS_PER_PAGE;
            if enough && (start.is_none() || start != group) {
                return ControlFlow::Break(());
            }
            group = start;
            if after.is_some_and(|after| element <= *after) {
                return ControlFlow::Continue(());
            }
            match rows.survives(&element, &row) {
                Ok(survives) => {
                    live += usize::from(survives);
                    page.push((element, row, survives));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        result?;
        page.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut put = 0;
        let mut last = None;
        let looked = page.len().min(limit + DEAD_ROWS_PER_PAGE);
        let more = page.len() > looked;
        for (element, row, survives) in page.into_iter().take(looked) {
            if put == limit && survives {
                return Ok(last);
            }
            if survives {
                rows.insert(state, element.clone(), &row)?;
                put += 1;
            }
            last = Some(element);
        }
        Ok(last.filter(|_| more))
    }
}

fn read(at: &RowKey, key: &Key, record: &[u8]) -> Result<Header, StorageError> {
    let (header, full) = Header::decode(at.as_bytes(), record)?;
    match full {
        Some(full) if full != *key => {
            Err(StorageError::Corrupt("another key with the same digest".into()))
        }
        _ => Ok(header),
    }
}

/// The element and row in one row of the element table.
pub(super) fn read_element(
    prefix: &[u8],
    row_key: &[u8],
    record: &[u8],
    key: Option<&Key>,
) -> Result<(Blob, Bytes), StorageError> {
    let part = &row_key[prefix.len()..];
    let inline = inline_element(part);
    let (full, row) = decode_element(row_key, record, key, inline.as_ref())?;
    match inline.or(full) {
        Some(element) => Ok((element, row)),
        None => Err(StorageError::Corrupt("a long element's record lacks it".into())),
    }
}

pub(super) fn corrupt(error: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt(error.to_string())
}

/// The rows of one collection.
pub(super) struct Rows<'a> {
    pub(super) at: &'a RowKey,
    pub(super) key: &'a Key,
    pub(super) tag: Tag,
    pub(super) collection: &'a Collection,
}

impl Rows<'_> {
    /// Whether no row holds anything but dead dots: what a set never written and one just cleared
    /// have in common.
    fn is_empty(&self) -> bool {
        self.collection.digest == 0 && self.collection.live == 0
    }

    /// Puts a row into `state`; returns whether the element is live, `None` if the row is dead.
    pub(super) fn insert(
        &self,
        state: &mut State,
        element: Blob,
        row: &[u8],
    ) -> Result<Option<bool>, StorageError> {
        insert_row(state, element, row, &self.collection.cleared).map_err(corrupt)
    }

    fn survives(&self, element: &Blob, row: &[u8]) -> Result<bool, StorageError> {
        if self.collection.cleared.is_empty() {
            return Ok(true);
        }
        let mut scratch = empty_collection(self.tag, CausalContext::default());
        Ok(self.insert(&mut scratch, element.clone(), row)?.is_some())
    }
}
