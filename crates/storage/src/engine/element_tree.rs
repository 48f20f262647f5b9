//! Hash trees over the elements of large collections.
//!
//! Clients choose elements, and pages come in their order, so this tree cuts that order: a *chunk* is
//! a run of element rows, and its row holds how many there are and the wrapping sum of their digests.
//! Where a replica cuts is its own business; what it answers is not, for it answers with the
//! sum over any range that it is asked for: whole chunks, and the rows of the two at the ends.
//!
//! ```text
//! chunk's row: key of the first element row after it ‖ nothing; of the last chunk, what the
//!              keys of the collection's element rows begin with
//!              → where it begins, number of rows, sum of their digests
//! ```
//!
//! Invariants: chunks do not overlap and leave nothing out; each counts the rows that *stand* in its
//! run, dead ones included, so that it changes with its rows and in the same batch. While nothing waits
//! for the sweep, the sums add up to the digest in the header. The last chunk of a collection that
//! became large is not counted until the background has come to its end
//! ([`count_chunks`](Engine::count_chunks)).

mod asked;
mod recount;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use sabotage::Bug;
use serde::{Deserialize, Serialize};
use values::{Key, Tag};

use super::look::{corrupt, read_element};
use super::{Change, Engine};
use crate::memtable::successor;
use crate::record::{Collection, Header, Part, decode_chunk, encode_chunk, row_digest};
use crate::row_key::{RowKey, chunks_prefix, parse_chunks};
use crate::tree::LeafSum;
use crate::{IndexRead, StorageError, Table};

/// A run of element rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Where it begins: an element row's key without what all of its collection begin with.
    pub(crate) from: Bytes,
    /// Its rows. Of a last chunk that is still to be counted, one that is unsettled.
    pub(crate) sum: LeafSum,
}

impl Chunk {
    fn uncounted(from: Bytes) -> Self {
        Self { from, sum: LeafSum { count: 0, unsettled: 1, digest: 0 } }
    }

    const fn is_counted(&self) -> bool {
        self.sum.unsettled == 0
    }
}

/// A collection's place and what its rows' keys begin with.
struct Place<'a> {
    key: &'a Key,
    tag: Tag,
    prefix: Vec<u8>,
}

impl Place<'_> {
    fn row_key(&self, part: &[u8]) -> Vec<u8> {
        [&self.prefix, part].concat()
    }

    fn part(&self, row_key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&row_key[self.prefix.len()..])
    }

    fn sum(&self, row_key: &[u8], record: &[u8]) -> Result<LeafSum, StorageError> {
        let (element, row) = read_element(&self.prefix, row_key, record, Some(self.key))?;
        Ok(LeafSum::of(Some(row_digest(self.tag, &element, &row))))
    }
}

/// What changes of element rows make of a collection's chunks.
#[derive(Debug)]
pub(super) struct Rechunked {
    pub(super) tag: Tag,
    /// New chunks, by row.
    chunks: BTreeMap<Vec<u8>, Chunk>,
    /// If what they counted before is not known: how to begin again.
    reset: Vec<Change>,
}

impl<R: IndexRead> Engine<R> {
    /// What `changes` make of the chunks of `key`'s collections. Changes nothing.
    pub(super) fn rechunked(
        &self,
        at: &RowKey,
        key: &Key,
        header: &Header,
        changes: &[Change],
    ) -> Result<Vec<Rechunked>, StorageError> {
        let mut rechunked = Vec::new();
        for (&tag, part) in &header.tags {
            if !matches!(part, Part::Collection(collection) if collection.is_chunked) {
                continue;
            }
            let place = Place { key, tag, prefix: at.elements(tag) };
            let (chunks, reset) = match self.changed_chunks(&place, changes) {
                Ok(chunks) => (chunks, Vec::new()),
                Err(StorageError::Corrupt(_)) => (BTreeMap::new(), self.rechunk(at, tag, true)?),
                Err(error) => return Err(error),
            };
            rechunked.push(Rechunked { tag, chunks, reset });
        }
        Ok(rechunked)
    }

    fn changed_chunks(
        &self,
        place: &Place<'_>,
        changes: &[Change],
    ) -> Result<BTreeMap<Vec<u8>, Chunk>, StorageError> {
        let mut chunks = BTreeMap::<Vec<u8>, Chunk>::new();
        let is_missed = sabotage::is(Bug::CountMissesWrites) && self.is_counting(place)?;
        let ours = changes.iter().filter(|change| {
            change.table == Table::Element && change.row_key.starts_with(&place.prefix)
        });
        for change in ours {
            let (row, stored) = self.chunk_of(&place.prefix, &change.row_key)?;
            if !stored.is_counted() || is_missed {
                continue;
            }
            let chunk = chunks.entry(row).or_insert(stored);
            let (before, after) = match change.counted {
                Some(counted) => counted,
                None => self.chunk_change(place, change)?,
            };
            let rest = chunk.sum.less(before);
            let rest = rest.ok_or_else(|| corrupt("a chunk that lacks what is taken from it"))?;
            chunk.sum = if sabotage::is(Bug::ChunkMissesElement) { rest } else { rest.plus(after) };
        }
        Ok(chunks)
    }

    /// Whether the last chunk is still to be counted.
    fn is_counting(&self, place: &Place<'_>) -> Result<bool, StorageError> {
        let last = self
            .rows
            .get(Table::ElementTree, &place.prefix, |record| decode_chunk(&place.prefix, record))?;
        Ok(last.transpose()?.is_some_and(|last| !last.is_counted()))
    }

    /// What an element's row adds to its chunk, and what it will.
    fn chunk_change(
        &self,
        place: &Place<'_>,
        Change { row_key, value, .. }: &Change,
    ) -> Result<(LeafSum, LeafSum), StorageError> {
        let before = self.rows.get(Table::Element, row_key, |record| place.sum(row_key, record))?;
        let after = value.as_ref().map(|record| place.sum(row_key, record));
        Ok((before.transpose()?.unwrap_or_default(), after.transpose()?.unwrap_or_default()))
    }

    /// The chunk in which an element row stands, and the key of its row.
    fn chunk_of(&self, prefix: &[u8], row_key: &[u8]) -> Result<(Vec<u8>, Chunk), StorageError> {
        self.next_chunk(prefix, &successor(row_key))?
            .ok_or_else(|| corrupt("a large collection without its last chunk"))
    }

    /// The first chunk that ends at `from` or after it.
    fn next_chunk(
        &self,
        prefix: &[u8],
        from: &[u8],
    ) -> Result<Option<(Vec<u8>, Chunk)>, StorageError> {
        let mut found = None;
        self.rows.scan(Table::ElementTree, prefix, from, |row, record| {
            found = Some(decode_chunk(row, record).map(|chunk| (row.to_vec(), chunk)));
            ControlFlow::Break(())
        })?;
        if let Some(found) = found {
            return found.map(Some);
        }
        let last = self.rows.get(Table::ElementTree, prefix, |record| decode_chunk(prefix, record));
        Ok(last?.transpose()?.map(|chunk| (prefix.to_vec(), chunk)))
    }

    fn put_chunk(&mut self, row: Vec<u8>, chunk: &Chunk) {
        let record = encode_chunk(&row, chunk);
        self.rows.put(Table::ElementTree, &row, Some(record));
    }

    /// Puts what [`rechunked`](Self::rechunked) made, once the rows are what was said.
    pub(super) fn put_chunks(&mut self, at: &RowKey, key: &Key, rechunked: Vec<Rechunked>) {
        for Rechunked { tag, chunks, reset } in rechunked {
            let place = Place { key, tag, prefix: at.elements(tag) };
            self.put_rows(reset);
            let bounds = self.config.bounds;
            let is_in_shape = |(row, chunk): (&Vec<u8>, &Chunk)| {
                let least = if *row == place.prefix { 0 } else { bounds.chunk_rows_min };
                (least..=bounds.chunk_rows_max).contains(&chunk.sum.count)
            };
            // Joining one to the next changes that one too.
            let rows: Vec<Vec<u8>> = match chunks.iter().all(is_in_shape) {
                true => Vec::new(),
                false => chunks.keys().cloned().collect(),
            };
            for (row, chunk) in chunks {
                self.put_chunk(row, &chunk);
            }
            for row in rows {
                // A chunk that cannot be read now keeps its size, which is nobody else's business,
                // until it changes again.
                let _ = self.reshape(&place, &row);
            }
        }
    }

    /// Cuts a chunk that is too large; joins one that is too small to the next.
    fn reshape(&mut self, place: &Place<'_>, row: &[u8]) -> Result<(), StorageError> {
        let record = self.rows.get(Table::ElementTree, row, |record| decode_chunk(row, record))?;
        let Some(mut chunk) = record.transpose()?.filter(Chunk::is_counted) else { return Ok(()) };
        let is_last = row == place.prefix;
        let bounds = self.config.bounds;
        if chunk.sum.count < bounds.chunk_rows_min && !is_last {
            let Some((next_row, next)) = self.next_chunk(&place.prefix, &successor(row))? else {
                return Ok(());
            };
            if next.is_counted() {
                let sum = next.sum.plus(chunk.sum);
                self.rows.put(Table::ElementTree, row, None);
                self.put_chunk(next_row, &Chunk { from: chunk.from, sum });
            }
            return Ok(());
        }
        let until = (!is_last).then(|| place.part(row));
        while chunk.sum.count > bounds.chunk_rows_max {
            let (first, rest) =
                self.sum_rows(place, &chunk.from, until.as_deref(), bounds.chunk_rows)?;
            let (Some(from), Some(sum)) = (rest, chunk.sum.less(first)) else { return Ok(()) };
            self.put_chunk(place.row_key(&from), &Chunk { from: chunk.from, sum: first });
            chunk = Chunk { from, sum };
            self.put_chunk(row.to_vec(), &chunk);
        }
        Ok(())
    }

    /// Sums up to `limit` rows from `from` to `until`; returns where the rest begins, if there is
    /// more.
    fn sum_rows(
        &self,
        place: &Place<'_>,
        from: &[u8],
        until: Option<&[u8]>,
        limit: usize,
    ) -> Result<(LeafSum, Option<Bytes>), StorageError> {
        let (mut sum, mut looked, mut rest, mut result) = (LeafSum::default(), 0, None, Ok(()));
        let until = until.map(|until| place.row_key(until));
        let from = place.row_key(from);
        self.rows.scan(Table::Element, &place.prefix, &from, |row_key, record| {
            if until.as_ref().is_some_and(|until| row_key >= until.as_slice()) {
                return ControlFlow::Break(());
            }
            if looked == limit {
                rest = Some(place.part(row_key));
                return ControlFlow::Break(());
            }
            looked += 1;
            match place.sum(row_key, record) {
                Ok(row) => sum = sum.plus(row),
                Err(error) => result = Err(error),
            }
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result.map(|()| (sum, rest))
    }

    /// Whether a collection is to have chunks: it gets them when it becomes large, and loses them
    /// when it is small again; a cleared one once it is swept, when few are left.
    pub(super) fn has_chunks(&self, collection: &Collection) -> bool {
        // Fields of a map whose increments were all reset have rows too.
        let rows = collection.live.saturating_add(collection.tallies.fields);
        if collection.is_chunked {
            rows >= self.config.bounds.chunked_down_to || !collection.cleared.is_empty()
        } else {
            rows >= self.config.bounds.chunked_from
        }
    }

    /// What is to change where a collection gets chunks, or loses them: all there are go, and of
    /// one that gets them the last is still to be counted.
    pub(super) fn rechunk(
        &self,
        at: &RowKey,
        tag: Tag,
        has_chunks: bool,
    ) -> Result<Vec<Change>, StorageError> {
        let (prefix, mut changes) = (at.elements(tag), Vec::new());
        self.rows.scan(Table::ElementTree, &prefix, &[], |row, _| {
            changes.push(Change::of(Table::ElementTree, row.to_vec(), None));
            ControlFlow::Continue(())
        })?;
        if has_chunks {
            let record = encode_chunk(&prefix, &Chunk::uncounted(Bytes::new()));
            changes.push(Change::of(Table::ElementTree, prefix, Some(record)));
        }
        let marker = has_chunks.then(Vec::new);
        changes.push(Change::of(Table::Meta, at.chunks(tag), marker));
        Ok(changes)
    }

    /// Counts up to about `rows` element rows of collections that became large. Returns whether
    /// there may be more; `false` also while the disk is too far behind or refuses batches.
    pub fn count_chunks(&mut self, rows: usize) -> bool {
        let is_behind = self.rows.bytes() > self.config.pending_bytes_max / 2;
        if is_behind || self.disk_error().is_some() {
            return false;
        }
        let mut left = rows.div_ceil(self.config.bounds.chunk_rows).max(1);
        while left > 0 {
            left -= 1;
            match self.count_chunk() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => {
                    self.damaged += 1;
                    return false;
                }
            }
        }
        true
    }

    /// Counts one chunk of the first collection that waits for it. `false` if none does.
    fn count_chunk(&mut self) -> Result<bool, StorageError> {
        let mut marker = None;
        self.rows.scan(Table::Meta, chunks_prefix(), &[], |row, _| {
            marker = Some(row.to_vec());
            ControlFlow::Break(())
        })?;
        let Some(marker) = marker else { return Ok(false) };
        let chunked = match parse_chunks(&marker) {
            Some((tag, at)) => self.chunked(&at, tag)?.map(|key| (tag, at, key)),
            None => None,
        };
        let Some((tag, at, key)) = chunked else {
            self.rows.put(Table::Meta, &marker, None);
            return Ok(true);
        };
        let place = Place { key: &key, tag, prefix: at.elements(tag) };
        let last = self
            .rows
            .get(Table::ElementTree, &place.prefix, |record| decode_chunk(&place.prefix, record))?;
        let counted = match last.transpose() {
            Ok(Some(last)) if !last.is_counted() => {
                let counted =
                    self.sum_rows(&place, &last.from, None, self.config.bounds.chunk_rows);
                counted.map(|(sum, rest)| Some((last.from, sum, rest)))
            }
            Ok(Some(_)) => Ok(None),
            Ok(None) => Err(corrupt("a large collection without its last chunk")),
            Err(error) => Err(error),
        };
        match counted {
            Ok(None) => self.rows.put(Table::Meta, &marker, None),
            Ok(Some((from, sum, None))) => {
                self.put_chunk(place.prefix.clone(), &Chunk { from, sum });
                self.rows.put(Table::Meta, &marker, None);
            }
            Ok(Some((from, sum, Some(rest)))) => {
                self.put_chunk(place.row_key(&rest), &Chunk { from, sum });
                self.put_chunk(place.prefix.clone(), &Chunk::uncounted(rest));
            }
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild(&at, &key)?;
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// The key at `at` if its collection of this type has chunks.
    fn chunked(&self, at: &RowKey, tag: Tag) -> Result<Option<Key>, StorageError> {
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let Some((header, full)) = decoded.flatten() else { return Ok(None) };
        let is_chunked =
            matches!(header.tags.get(&tag), Some(Part::Collection(held)) if held.is_chunked);
        Ok(full.or_else(|| at.short_key()).filter(|_| is_chunked))
    }
}
