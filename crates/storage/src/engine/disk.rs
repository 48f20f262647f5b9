//! The disk: whether it takes batches, and how an engine finds out that it does again.
//!
//! Every update whose batch fails may have reached other replicas before, and so costs its key an
//! epoch for ever (`epochs`). So while the last batch is one that failed, nothing is coordinated:
//! updates are refused before anything is drawn or made. Merges and deferred deltas, which mint
//! nothing, are still tried, and any batch that is committed ends this. A replica that is given
//! nothing but updates asks the disk itself: each refused one sends a probe unless something is
//! on its way already.
//!
//! A probe is a record as long as the batch that failed: a disk that has room for a small batch
//! only would otherwise seem to work between one failure and the next.

use super::{Engine, Waiting};
use crate::log_record::{self, RecordOut};
use crate::{IndexRead, SeamError, StorageError};
use sabotage::Bug;

/// Longest probe, in bytes. A guess: a disk with less room than this is as good as full.
const PROBE_BYTES_MAX: usize = 1 << 20;

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Why the last batch failed, if it did.
    error: Option<StorageError>,
    /// How long a probe must be.
    probe_bytes: usize,
}

impl<R: IndexRead> Engine<R> {
    /// Why the disk refused the last batch; `None` if it took it. While there is an error, updates
    /// are answered with it.
    pub const fn disk_error(&self) -> Option<&StorageError> {
        self.disk.error.as_ref()
    }

    /// The log failed, though every batch of this engine came through: of what was acknowledged without a sync nobody
    /// knows whether it is on the disk, and nothing more is written. Updates are refused, from now on.
    pub fn log_failed(&mut self, error: &SeamError) {
        self.disk.error = Some(error.clone().into());
    }

    /// Asks a disk that refused the last batch whether it takes one again, with the next batch.
    /// A refused update does so too; called now and then, this ends the refusals before the next.
    pub fn probe(&mut self) {
        if self.disk.error.is_some() && self.is_settled() {
            let shard = self.config.shards.iter().next();
            let length = self.disk.probe_bytes.min(self.config.pending_bytes_max / 2);
            if let Some(shard) = shard {
                let probe = RecordOut::Probe(vec![0; length].into());
                log_record::push(&mut self.current.records, shard, &probe);
                self.current.sync = true;
            }
        }
    }

    /// Refuses, and asks the disk again, if it refused the last batch.
    pub(super) fn check_disk(&mut self) -> Result<(), StorageError> {
        let Some(error) = self.disk.error.clone() else { return Ok(()) };
        self.probe();
        Err(error)
    }

    /// The disk took a batch.
    pub(super) fn disk_works(&mut self) {
        self.disk = Disk::default();
    }

    /// The disk refused `failed`, and `lost` may rest on it.
    pub(super) fn disk_failed(&mut self, error: &SeamError, failed: &Waiting, lost: &Waiting) {
        self.disk.error = Some(error.clone().into());
        let bytes = failed.bytes + lost.records.len();
        self.disk.probe_bytes = bytes.min(PROBE_BYTES_MAX).max(self.disk.probe_bytes);
        self.rows.failed();
        self.batch_ended();
        for (at, tag) in failed.minted.iter().chain(&lost.minted) {
            if !sabotage::is(Bug::EpochSurvivesFailure) {
                self.epochs.lose(at, *tag);
            }
        }
        self.sweep.failed();
        self.trees.failed();
        for (counted, added) in failed.counted.iter().chain(&lost.counted).rev() {
            if *added { self.census.remove(counted) } else { self.census.add(counted) }
        }
    }
}
