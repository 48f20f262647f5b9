//! Snapshots: many reads of one committed state.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use storage::{IndexRead, SeamError, Table, Visit, check_row_key};

use super::LmdbReader;
use super::environment::Snapshot;
use crate::disk_error::seam_lmdb;

/// What an index held at one moment: every read of it shows the same. While it stands, the index
/// does not use again the room of what is replaced meanwhile.
pub struct LmdbSnapshot<'a> {
    snapshot: Snapshot<'a>,
    is_growing: &'a AtomicBool,
}

impl std::fmt::Debug for LmdbSnapshot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LmdbSnapshot(..)")
    }
}

impl LmdbReader {
    /// Runs `use_it` on a snapshot.
    pub fn snapshot<T>(&self, use_it: impl FnOnce(&LmdbSnapshot<'_>) -> T) -> Result<T, SeamError> {
        let is_growing = &self.shared.is_growing;
        self.shared.with(|opened| {
            let snapshot = opened.snapshot().map_err(seam_lmdb)?;
            Ok(use_it(&LmdbSnapshot { snapshot, is_growing }))
        })?
    }
}

impl LmdbSnapshot<'_> {
    /// How many rows a table has.
    pub fn row_count(&self, table: Table) -> Result<u64, SeamError> {
        self.snapshot.row_count(table).map_err(seam_lmdb)
    }
}

impl IndexRead for LmdbSnapshot<'_> {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        check_row_key(key)?;
        self.snapshot.get(table, key, look).map_err(seam_lmdb)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        let mut must_end = false;
        let mut visit = |key: &[u8], value: &[u8]| {
            must_end = self.is_growing.load(Ordering::Relaxed);
            if must_end { ControlFlow::Break(()) } else { visit(key, value) }
        };
        self.snapshot.scan(table, from, &mut visit).map_err(seam_lmdb)?;
        if must_end {
            let why = "the index's map must grow, and waits for a snapshot to end: take it again";
            return Err(SeamError::Io(why.into()));
        }
        Ok(())
    }
}
