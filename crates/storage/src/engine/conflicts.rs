//! Keys in conflict: which they are, those with most siblings first.
//!
//! Each has a row in the meta table, written in the batch of its header, whose key begins with the
//! number of siblings: so they are in order on disk, a page of them costs what it holds and nothing
//! is kept in memory but their number. A row of whose header something else is read is left over
//! from damage, and passed over.

use std::ops::ControlFlow;

use values::{Key, Tag};

use super::Engine;
use crate::memtable::successor;
use crate::record::{Header, standing};
use crate::row_key::{RowKey, conflict_prefix, parse_conflict};
use crate::{ConflictPage, ConflictPosition, Conflicted, IndexRead, StorageError, Table};

impl<R: IndexRead> Engine<R> {
    /// Keys in conflict after `after`. Looks at `limit` rows.
    pub(super) fn list_conflicts(
        &self,
        after: Option<&ConflictPosition>,
        limit: usize,
    ) -> Result<ConflictPage, StorageError> {
        let from = after.map_or_else(Vec::new, |after| successor(&after.0));
        let (mut rows, mut more) = (Vec::new(), false);
        self.rows.scan(Table::Meta, conflict_prefix(), &from, |row_key, _| {
            more = rows.len() == limit.max(1);
            if more {
                return ControlFlow::Break(());
            }
            rows.push(row_key.to_vec());
            ControlFlow::Continue(())
        })?;
        let mut page = ConflictPage::default();
        if more {
            page.next = rows.last().map(|last| ConflictPosition(last.clone().into()));
        }
        for row in rows {
            if let Some((key, tags, siblings)) = self.conflicted(&row)? {
                let position = ConflictPosition(row.into());
                page.keys.push(Conflicted { position, key, tags, siblings });
            }
        }
        Ok(page)
    }

    /// The key that a row lists, with its types and siblings.
    fn conflicted(&self, row: &[u8]) -> Result<Option<(Key, Vec<Tag>, u32)>, StorageError> {
        let Some((listed, at)) = parse_conflict(row) else { return Ok(None) };
        let Some(place) = RowKey::read(at) else { return Ok(None) };
        let found = self.rows.get(Table::Header, at, |record| {
            let standing = standing(at, record)?;
            let is_true = standing.is_in_conflict() && standing.siblings == listed;
            let key = match place.short_key() {
                Some(key) => key,
                None => Header::decode(at, record).ok()?.1?,
            };
            let tags = standing.live.iter().copied().map(Tag).collect();
            is_true.then_some((key, tags, listed))
        })?;
        Ok(found.flatten())
    }

    /// The most siblings that a key has, 0 if none has several.
    pub fn most_siblings(&self) -> u32 {
        let mut most = 0;
        // What cannot be read is reported by those who must read it.
        let _ = self.rows.scan(Table::Meta, conflict_prefix(), &[], |row_key, _| {
            most = parse_conflict(row_key).map_or(0, |(siblings, _)| siblings);
            ControlFlow::Break(())
        });
        if most > 1 { most } else { 0 }
    }
}
