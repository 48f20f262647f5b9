//! The disk: whether it takes batches, and how an engine finds out that it does again.
//!
//! Every update whose batch fails may have reached other replicas before, and so costs its key an
//! epoch for ever (`epochs`). So while the last batch is one that failed, nothing is coordinated:
//! updates are refused before anything is drawn or made. Merges and deferred deltas, which mint
//! nothing, are still tried, and any batch that is committed ends this. A replica that is given
//! nothing but updates asks the disk itself: each refused one sends a probe unless something is
//! on its way already.
//!
//! A probe is a row as long as the batch that failed: a disk that has room for a small batch only
//! would otherwise seem to work between one failure and the next.

use std::collections::BTreeSet;

use super::{Engine, Recorded, Waiting};
use crate::census::Census;
use crate::{IndexRead, SeamError, StorageError, Table};

/// Key of the meta row that a probe writes. It stays behind, until the next probe, only where
/// deleting it fails.
const PROBE: &[u8] = b"probe";

/// Longest probe, in bytes. A guess: a disk with less room than this is as good as full.
const PROBE_BYTES_MAX: usize = 1 << 20;

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Why the last batch failed, if it did.
    error: Option<StorageError>,
    /// How long a probe must be.
    probe_bytes: usize,
    /// Whether there may be a probe on the disk.
    is_probed: bool,
}

impl<R: IndexRead> Engine<R> {
    /// Why the disk refused the last batch; `None` if it took it. While there is an error, updates
    /// are answered with it.
    pub const fn disk_error(&self) -> Option<&StorageError> {
        self.disk.error.as_ref()
    }

    /// Asks a disk that refused the last batch whether it takes one again, with the next batch.
    /// A refused update does so too; called now and then, this ends the refusals before the next.
    pub fn probe(&mut self) {
        if self.disk.error.is_some() && self.is_settled() {
            let probe = vec![0; self.disk.probe_bytes.min(self.config.pending_bytes_max / 2)];
            self.rows.put(Table::Meta, PROBE.to_vec(), Some(probe));
            self.disk.is_probed = true;
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
        if self.disk.error.take().is_some() {
            self.disk.probe_bytes = 0;
            if std::mem::take(&mut self.disk.is_probed) {
                self.rows.put(Table::Meta, PROBE.to_vec(), None);
            }
        }
        if self.is_miscounted
            && let Ok(census) = Census::of(&self.rows, self.config.partitions)
        {
            self.census = census;
            self.is_miscounted = false;
        }
    }

    /// The disk refused `failed`, and `lost` may rest on it.
    pub(super) fn disk_failed(&mut self, error: &SeamError, failed: &Waiting, lost: &Waiting) {
        self.disk.error = Some(error.clone().into());
        self.disk.probe_bytes = self.rows.bytes().min(PROBE_BYTES_MAX).max(self.disk.probe_bytes);
        self.rows.failed();
        for (at, tag) in failed.minted.iter().chain(&lost.minted) {
            self.epochs.lose(at, *tag);
        }
        self.sweep.failed();
        for Recorded { counted, added, .. } in failed.counted.iter().chain(&lost.counted).rev() {
            if *added { self.census.remove(counted) } else { self.census.add(counted) }
        }
        if matches!(error, SeamError::Io(_)) {
            self.recount(failed);
        }
    }

    /// Counts anew what a batch of unknown outcome may have changed; the census counts what was
    /// there before it.
    fn recount(&mut self, batch: &Waiting) {
        let mut seen = BTreeSet::new();
        for Recorded { table, place, counted, added } in &batch.counted {
            if !seen.insert((*table, place)) {
                continue;
            }
            // The first change of a place took away what was there before.
            let before = (!added).then_some(counted);
            let Ok(now) = self.counted_at(*table, place) else {
                // Everything is counted anew once the disk works again.
                self.is_miscounted = true;
                continue;
            };
            if before != now.as_ref() {
                before.inspect(|before| self.census.remove(before));
                now.inspect(|now| self.census.add(now));
            }
        }
    }
}
