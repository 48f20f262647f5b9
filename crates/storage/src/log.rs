//! The log: what a replica merged, in the order in which it did, before it stands in the index.
//!
//! One per node. Records ([`frame`]) are appended to segments ([`segment`]), files of bounded size,
//! and made durable by one sync for all that wait. A *position* is a number of bytes of records since
//! the log began; it goes on across segments and restarts and never goes back, so that "everything
//! before position p is in the index" means the same for ever. Opening reads what is left
//! ([`recovery`]).
//!
//! Invariants: a record is valid at one position of one log only; the segment before is durable
//! before another is begun; what is said to be durable was covered by a sync that succeeded. After a
//! sync that failed nothing is appended any more: the operating system may have forgotten what it
//! could not write, and a later sync that succeeds would say nothing about it. An append that failed
//! left nothing, and is tried again with the next.
//!
//! Records are written over zeros that were put there before, some at a time, because a sync that
//! need not write a new length as well is cheaper: 0.12 ms instead of 0.18 for a record of 200 bytes,
//! 0.14 instead of 0.23 for 4 KiB (measured on ext4). Over zeros a disk may write later sectors before
//! earlier ones: so zeros stand behind what is durable only, the first record after a sync says that it
//! is ([`frame`]), and recovery knows a sector that never came from one that is damaged. Before another
//! segment is begun the zeros are cut off.

pub(crate) mod frame;
mod parts;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use parts::{SegmentPart, log_parts};
pub(crate) use recovery::first_position;
pub use recovery::{LogDamage, LogRecovery, Logged};
use segment::{Header, Segment};

use sabotage::Bug;

use crate::{Files, SeamError};

/// A segment that has reached this length gets no more records. A guess: a small part of what is
/// kept, so that trimming follows checkpoints closely, and few enough files to list.
pub(crate) const SEGMENT_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// So many zeros are put after the records at once. Measured on ext4 with commits of 4 KiB: the
/// syncs that write so many leave the 99th percentile where it was without zeros, 0.36 ms; of 256 KiB
/// they make it 0.55; with fewer the mean is higher.
const ZEROS_BYTES: u64 = 64 << 10;

/// What a disk writes whole or not at all: larger ones are multiples.
pub(crate) const SECTOR_BYTES: usize = 512;

/// How far the log goes, as whoever waits for a batch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the log ended after the batch.
    pub position: u64,
    /// Whether all of it is durable: otherwise it survives the end of the process, not of the
    /// machine.
    pub synced: bool,
}

/// That zeros are not to be tried again in a segment: there was no room for them.
const NO_ZEROS: u64 = u64::MAX;

/// The log of one node.
#[derive(Debug)]
pub struct Log<F> {
    files: F,
    /// The directory whose log it is: part of every checksum.
    directory: u64,
    /// What is kept, ascending.
    segments: VecDeque<Segment>,
    /// Whether the last segment takes records.
    is_open: bool,
    /// Whether no sync says that what the last segment holds is durable: a process before this one wrote it.
    is_doubted: bool,
    end: u64,
    /// The index goes up to here: a segment begins no earlier, so that no position is used twice.
    floor: u64,
    synced: u64,
    /// The position up to which zeros were put into the last segment; no position comes after
    /// [`NO_ZEROS`]. 0 where this process put none.
    zeros_to: u64,
    /// Why a sync failed, if one did.
    failed: Option<SeamError>,
    segment_bytes: u64,
}

impl<F: Files> Log<F> {
    /// Begins a segment once the one before has so many bytes, from now on.
    #[must_use]
    pub fn with_segments_of(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes, ..self }
    }

    /// Appends the frames in `batch`, which are without checksums yet, as they come out of
    /// [`Engine::take_batch`](crate::Engine::take_batch). All of them or, on an error, none.
    pub fn append(&mut self, batch: &mut [u8]) -> Result<(), SeamError> {
        self.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.write_again()?;
        let is_full = |segment: &Segment| segment.length() >= self.segment_bytes;
        if self.is_open && self.segments.back().is_some_and(is_full) {
            self.sync()?;
            self.is_open = false;
        }
        if !self.is_open {
            self.begin()?;
        }
        self.reserve(batch.len() as u64);
        frame::seal(batch, self.directory, self.end, self.is_synced());
        let segment = self.segments.back_mut().expect("one was begun");
        if let Err(error) = self.files.append(&segment.name(), batch) {
            // Where the file could not cut off what it wrote of this, it is cut here, if it lets us.
            let _ = self.files.truncate(&segment.name(), segment.file_length());
            self.zeros_to = NO_ZEROS;
            return Err(error);
        }
        self.end += batch.len() as u64;
        segment.end = self.end;
        Ok(())
    }

    /// [Appends](Self::append), and makes it durable if it is to be.
    pub fn commit(&mut self, batch: &mut [u8], sync: bool) -> Result<Appended, SeamError> {
        self.append(batch)?;
        if sync && !sabotage::is(Bug::NoSync) {
            self.sync()?;
        }
        Ok(Appended { position: self.end(), synced: self.is_synced() })
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), SeamError> {
        self.check()?;
        self.write_again()?;
        if self.synced < self.end
            && let Some(segment) = self.segments.back()
        {
            let synced = self.files.sync(&segment.name());
            self.must_sync(synced)?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Where the log ends.
    pub fn end(&self) -> u64 {
        self.end.max(self.floor)
    }

    /// Whether everything appended is durable.
    pub fn is_synced(&self) -> bool {
        self.synced >= self.end && !self.is_doubted
    }

    /// Why nothing is appended any more; `None` while the log works.
    pub const fn failure(&self) -> Option<&SeamError> {
        self.failed.as_ref()
    }

    /// Where what is kept of it begins.
    pub fn start(&self) -> u64 {
        self.segments.front().map_or(self.end(), |segment| segment.start)
    }

    /// Removes segments whose records all stand before `position`, which is in the index. The last
    /// segment stays: that there is one tells a log from files that were lost.
    pub fn trim(&mut self, position: u64) -> Result<(), SeamError> {
        let holds_records = self.segments.back().is_some_and(|last| last.length() > 0);
        if self.is_doubted && holds_records && position >= self.end {
            // Nothing rests on what it holds any more: the next records begin another. Beside one without records that
            // would have the same name.
            (self.is_doubted, self.is_open) = (false, false);
        }
        while self.segments.len() > 1 && self.segments[0].end <= position {
            // That this is durable matters to nobody: what comes back is removed again.
            self.files.remove(&self.segments[0].name())?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Ends a log of which everything stands in the index: leaves one segment without records, so
    /// that the next start has nothing to read.
    pub fn finish(mut self) -> Result<(), SeamError> {
        self.sync()?;
        if self.segments.back().is_some_and(|segment| segment.length() > 0) {
            self.begin()?;
            let begun = self.files.sync(&Segment::at(self.end).name());
            self.must_sync(begun)?;
        }
        self.trim(self.end)
    }

    /// Puts zeros where `length` bytes are to be appended, if there are none and it is of use.
    fn reserve(&mut self, length: u64) {
        let zeros = ZEROS_BYTES.min(self.segment_bytes);
        let segment = self.segments.back().expect("one was begun");
        let is_durable = self.is_synced() && segment.length() > 0;
        if is_durable && self.end + length > self.zeros_to && length <= zeros {
            // Records need no zeros: where there is no room, whether for them is seen as they come.
            let reserved = self.files.reserve(&segment.name(), zeros);
            self.zeros_to = reserved.map_or(NO_ZEROS, |()| self.end + zeros);
        }
    }

    /// Cuts the zeros off the last segment, durably: that a segment is no longer than its records
    /// tells one that is whole once another follows.
    fn cut_zeros(&mut self) -> Result<(), SeamError> {
        let Some(segment) = self.segments.back() else { return Ok(()) };
        let (name, exact) = (segment.name(), segment.file_length());
        // Those of a process before this one are shown.
        let is_longer = self.files.length(&name)?.is_some_and(|length| length > exact);
        if is_longer || self.zeros_to > 0 {
            self.files.truncate(&name, exact)?;
            let synced = self.files.sync(&name);
            self.must_sync(synced)?;
            self.zeros_to = 0;
        }
        Ok(())
    }

    /// Begins a segment. Its header is durable with the first records.
    fn begin(&mut self) -> Result<(), SeamError> {
        self.cut_zeros()?;
        let start = self.end();
        let segment = Segment::at(start);
        let header = Header { start, before: self.end }.encode(self.directory);
        // Left by an attempt that failed half-way.
        self.files.remove(&segment.name())?;
        self.files.append(&segment.name(), &header)?;
        let named = self.files.sync_directory();
        self.must_sync(named)?;
        self.segments.push_back(segment);
        self.is_open = true;
        self.end = start;
        self.synced = self.synced.max(start);
        Ok(())
    }

    fn check(&self) -> Result<(), SeamError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// A sync failed, or did not.
    fn must_sync(&mut self, synced: Result<(), SeamError>) -> Result<(), SeamError> {
        synced.map_err(|error| {
            let error = SeamError::Io(format!(
                "the log could not be synced ({error}): nothing more is written to it, check the \
                 disk and restart the node"
            ));
            self.failed = Some(error.clone());
            error
        })
    }
}
