//! Counting chunks anew, and comparing collections with what their headers say.

use bytes::Bytes;
use values::{Key, Tag};

use super::asked::total;
use super::{Chunk, Place};
use crate::engine::look::corrupt;
use crate::engine::{Engine, TreeCheck};
use crate::record::{Collection, Header, Part};
use crate::row_key::RowKey;
use crate::tree::ElementRange;
use crate::{IndexRead, StorageError, Table};

const ROWS_DIFFER: &str = "a collection's rows are not what its header says";

impl<R: IndexRead> Engine<R> {
    /// Compares the chunks of a collection, and what its header says, with its rows.
    pub(in crate::engine) fn check_collection(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        held: &Collection,
        check: &mut TreeCheck,
    ) -> Result<(), StorageError> {
        let place = Place { key, tag, prefix: at.elements(tag) };
        let (rows, _) = self.sum_rows(&place, &[], None, usize::MAX)?;
        check.elements += rows.count;
        check.wrong_collections += u64::from(held.cleared.is_empty() && rows.digest != held.digest);
        let mut from = Bytes::new();
        let whole = ElementRange::default();
        for (end, chunk) in
            if held.is_chunked { self.chunks_in(&place, &whole)? } else { Vec::new() }
        {
            let (sum, _) = self.sum_rows(&place, &from, end.as_deref(), usize::MAX)?;
            let is_right = chunk.is_some_and(|chunk| {
                chunk.from == from && (chunk.sum == sum || end.is_none() && !chunk.is_counted())
            });
            check.wrong_chunks += u64::from(!is_right);
            from = end.unwrap_or_default();
        }
        Ok(())
    }

    /// Counts one chunk of a collection anew, or all rows of one that has none; returns where the
    /// next begins. What is wrong is mended; a collection whose rows are not what its header says
    /// is brought back to what is whole of it.
    pub(in crate::engine) fn recount_elements(
        &mut self,
        at: &RowKey,
        tag: Tag,
        from: &Bytes,
    ) -> Result<Option<Bytes>, StorageError> {
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let Some((header, full)) = decoded.flatten() else { return Ok(None) };
        let Some(key) = full.or_else(|| at.short_key()) else { return Ok(None) };
        // What waits for the sweep is looked at by the sweep, and then here.
        let Some(Part::Collection(held)) = header.tags.get(&tag).filter(|part| part.is_swept())
        else {
            return Ok(None);
        };
        let place = Place { key: &key, tag, prefix: at.elements(tag) };
        let done = if held.is_chunked {
            self.recount_chunk(&place, held, from)
        } else {
            self.sum_rows(&place, &[], None, usize::MAX).and_then(|(sum, _)| {
                if sum.digest == held.digest { Ok(None) } else { Err(corrupt(ROWS_DIFFER)) }
            })
        };
        match done {
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild_rows(at, &key)?;
                Ok(None)
            }
            done => done,
        }
    }

    fn recount_chunk(
        &mut self,
        place: &Place<'_>,
        held: &Collection,
        from: &Bytes,
    ) -> Result<Option<Bytes>, StorageError> {
        let (row, chunk) = self.chunk_of(&place.prefix, &place.row_key(from))?;
        let end = (row != place.prefix).then(|| place.part(&row));
        if chunk.is_counted() {
            let (sum, _) = self.sum_rows(place, &chunk.from, end.as_deref(), usize::MAX)?;
            if sum != chunk.sum {
                self.trees.mended();
                self.put_chunk(row, &Chunk { from: chunk.from, sum });
            }
        }
        if end.is_none() {
            let whole = self.pieces(place, held, &ElementRange::default(), &mut 0)?;
            let sum = total(&whole);
            if sum.unsettled == 0 && sum.digest != held.digest {
                return Err(corrupt(ROWS_DIFFER));
            }
        }
        Ok(end)
    }
}
