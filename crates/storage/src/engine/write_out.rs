//! How rows leave memory: checkpoints, and what is done while one does not keep up.
//!
//! Past a soft bound, with a checkpoint under way, no batch is taken, so acknowledgements wait and
//! with them whoever waits for one. Past a hard bound writes are refused. While checkpoints
//! fail only the hard bound holds: their failing must not stop what the log still takes.

use std::sync::Arc;

use super::Engine;
use crate::census::Census;
use crate::checkpoint::Checkpoint;
use crate::memtable::Generation;
use crate::{IndexRead, SeamError, StorageError};

/// How far the checkpoint of the frozen rows is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What the census was when the rows were frozen, if it is known.
    census: Option<Arc<Census>>,
    /// The position in the log; unknown until the batch under way is there.
    position: Option<u64>,
    /// Whether the writer has it.
    is_lent: bool,
    /// Why the last one failed, if it did.
    error: Option<StorageError>,
}

/// Frozen rows that are in the index: to be dropped where that may take its time, as giving back
/// the memory of many rows does.
#[derive(Debug)]
pub struct WrittenRows(#[expect(dead_code, reason = "held to be dropped")] Arc<Generation>);

impl<R: IndexRead> Engine<R> {
    /// Begins a checkpoint: freezes what is in memory. To be called right after
    /// [`take_batch`](Self::take_batch). `false` if one is under way, or if commands were
    /// executed since.
    ///
    /// `logged`: where the log ended when it had reported every batch of this engine but the one
    /// under way, or 0.
    pub fn freeze(&mut self, logged: u64) -> bool {
        if !self.current.records.is_empty() || !self.rows.freeze() {
            return false;
        }
        // A damaged record may have been counted wrongly: then the next start counts.
        let is_known = self.damaged == 0;
        self.out.census = is_known.then(|| Arc::new(self.census.clone()));
        let is_logged = !self.rows.is_under_way();
        self.out.position = is_logged.then(|| self.position.max(logged));
        true
    }

    /// The batch under way is in the log, or failed.
    pub(super) fn batch_ended(&mut self) {
        if !self.rows.is_frozen() {
            self.out = Progress::default();
        } else if self.out.position.is_none() {
            self.out.position = Some(self.position);
        }
    }

    /// The checkpoint that was begun, for the index's writer, once the log has all of it; once.
    pub fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        if self.out.is_lent {
            return None;
        }
        let rows = Arc::clone(self.rows.frozen()?);
        let census = self.out.census.clone();
        let position = self.out.position?;
        self.out.is_lent = true;
        Some(Checkpoint { rows, shards: self.config.shards.clone(), census, position })
    }

    /// The writer's result. After a failure [`take_checkpoint`](Self::take_checkpoint) gives the
    /// checkpoint again.
    pub fn checkpointed(&mut self, result: Result<(), SeamError>) -> Option<WrittenRows> {
        self.out.is_lent = false;
        if let Err(error) = result {
            self.out.error = Some(error.into());
            return None;
        }
        self.out = Progress::default();
        self.rows.thaw().map(WrittenRows)
    }

    /// Whether rows are frozen and not in the index.
    pub const fn is_checkpointing(&self) -> bool {
        self.rows.is_frozen()
    }

    /// Why the last checkpoint failed; `None` if it did not.
    pub const fn checkpoint_error(&self) -> Option<&StorageError> {
        self.out.error.as_ref()
    }

    /// What rows take in memory that no checkpoint under way brings into the index, in bytes.
    pub const fn unfrozen_bytes(&self) -> usize {
        self.rows.active_bytes()
    }

    /// Whether acknowledgements are to wait for the checkpoint under way.
    pub(super) fn must_wait(&self) -> bool {
        self.out.is_lent
            && self.out.error.is_none()
            && self.rows.bytes() > self.config.pending_bytes_max / 2
    }

    pub(super) fn check_room(&self) -> Result<(), StorageError> {
        let bytes = self.rows.bytes();
        if bytes > self.config.pending_bytes_max {
            return Err(self.out.error.clone().unwrap_or(StorageError::Overloaded(bytes)));
        }
        Ok(())
    }
}
