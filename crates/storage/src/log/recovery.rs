//! Opening a log: what is whole is read, a torn tail is cut off, damage before it is told and kept.
//!
//! A crash can tear what was not synced, and only that: the last bytes of the last segment. So
//! what is not whole and has nothing whole after it, in the last segment, is cut off, and zeros, which
//! wait for records, are nothing at all. Where records were written over zeros the disk may have later
//! ones and lack a sector of those before, which is zeros then: that is cut off too with all that
//! follows, unless a frame that follows says that what is lacking was durable. Anything
//! else (a frame that is not whole before one that is, or ends before the file does and lacks no sector;
//! a segment that is missing, cut short, or not of this log) is damage: records that may have been
//! acknowledged are gone. It is reported with its
//! place, the segment is copied aside before anything is done to it, and what is whole is
//! read all the same: each record is a merge, and the other replicas have what is lost. (A disk that
//! makes zeros of a sector of what was synced last, or changes the last record and that ends in zeros, leaves what a
//! loss of power can: that is cut off.)
//!
//! Opening twice gives what opening once gives: no record is changed but the tail that is cut. Damage at the
//! end of the log stays where it is, and the log goes on in another segment behind it: so the next start finds that
//! something is gone, too.

use std::collections::VecDeque;

use super::Log;
use super::SECTOR_BYTES;
use super::frame::{self, FRAME_BYTES, Frame, LENGTH_BYTES};
use super::segment::{HEADER_BYTES, Header, Segment, parse_name};
use crate::{Files, SeamError};

/// What damaged segments are called when they are kept aside.
const ASIDE: &str = "damaged-";

/// What a segment is called while it is written again.
const AGAIN: &str = "again-";

/// A place where the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// The file, which may be missing.
    pub segment: String,
    /// Where in the file the damage begins.
    pub offset: u64,
    /// How many bytes of records are gone, as far as the file tells.
    pub bytes: u64,
    /// What was found.
    pub what: &'static str,
    /// Under which name the segment's bytes are kept, if they could be.
    pub kept_as: Option<String>,
}

impl std::fmt::Display for LogDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { segment, offset, bytes, what, kept_as } = self;
        write!(f, "{segment} at byte {offset}: {what}, {bytes} bytes of records are lost")?;
        match kept_as {
            Some(name) => write!(f, " (kept as {name})"),
            None => Ok(()),
        }
    }
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecovery {
    /// Whole records read.
    pub records: u64,
    /// Their bytes, with their frames.
    pub bytes: u64,
    /// Bytes cut off at the end: a write that a crash interrupted.
    pub torn_bytes: u64,
    /// What is gone.
    pub damage: Vec<LogDamage>,
}

/// What opening a log gives of it, in order, with the position at which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged<'a> {
    /// A whole record.
    Record(&'a [u8]),
    /// Records are gone, up to this position.
    GoneTo(u64),
}

impl<'a> Logged<'a> {
    /// The record, if it is one.
    pub const fn record(self) -> Option<&'a [u8]> {
        match self {
            Self::Record(record) => Some(record),
            Self::GoneTo(_) => None,
        }
    }
}

/// What a walk through one segment found.
#[derive(Default)]
struct Walked {
    /// Position after the last whole frame.
    end: u64,
    /// Whole frames, needed or not.
    frames: u64,
    /// Length of the file without zeros at its end.
    filled: u64,
    /// Whether what stands after the last whole frame, in the last segment, is not what a crash leaves.
    is_foreign: bool,
    /// Holes before it, of records that are needed: offset in the file, and length.
    holes: Vec<(u64, u64)>,
}

impl<F: Files> Log<F> {
    /// Opens the log in `files`, of the data directory with the number `directory`. `indexed`: of
    /// each shard that has a row in the index, up to which position its records are there; none in a
    /// new directory. `visit` is given every whole record that some shard may lack, with its
    /// position, in order; and where some are gone that it may lack, before those that came later.
    pub fn open(
        files: F,
        directory: u64,
        indexed: &[Option<u64>],
        visit: &mut dyn FnMut(u64, Logged<'_>),
    ) -> Result<(Self, LogRecovery), SeamError> {
        let log = Self {
            files,
            directory,
            segments: VecDeque::new(),
            is_open: false,
            is_doubted: false,
            end: 0,
            floor: indexed.iter().copied().flatten().max().unwrap_or(0),
            synced: 0,
            zeros_to: 0,
            failed: None,
            segment_bytes: super::SEGMENT_BYTES,
        };
        let needed = indexed.iter().map(|position| position.unwrap_or(0)).min().unwrap_or(0);
        let found = LogRecovery::default();
        let mut opening = Opening { log, needed, read_to: needed, found, visit };
        opening.read_all()?;
        let Opening { mut log, found, .. } = opening;
        if log.end < log.floor {
            // What was not synced of the log is lost, and the index is ahead of it.
            log.is_open = false;
        }
        log.is_doubted = !log.segments.is_empty();
        match log.write_again() {
            // Nothing is appended before there is.
            Err(SeamError::Full | SeamError::ReadOnly(_)) => log.sync_as_it_stands()?,
            done => done?,
        }
        log.synced = log.end;
        Ok((log, found))
    }
}

impl<F: Files> Log<F> {
    /// Makes all of the last segment durable, unless that was done. What the process before this one appended may not
    /// be, and is shown from now on; after a sync that failed it never will be by another, since the pages are taken
    /// for clean: so it is written into a new file. Until there is room for that, nothing is appended and nothing
    /// counts as synced: what is appended to such a file is as doubtful. What fails here is tried again with a new copy.
    pub(super) fn write_again(&mut self) -> Result<(), SeamError> {
        let Some(segment) = self.segments.back().filter(|_| self.is_doubted) else {
            return Ok(());
        };
        let name = segment.name();
        let length = usize::try_from(segment.file_length()).unwrap_or(usize::MAX);
        let copy = format!("{AGAIN}{name}");
        let files = &mut self.files;
        let mut copied = || -> Result<(), SeamError> {
            files.remove(&copy)?;
            let bytes = files.read(&name, 0, length)?;
            files.append(&copy, &bytes)?;
            files.sync(&copy)?;
            files.rename(&copy, &name)?;
            files.sync_directory()
        };
        copied().inspect_err(|_| drop(files.remove(&copy)))?;
        self.is_doubted = false;
        Ok(())
    }

    /// Syncs the last segment, whatever that is worth.
    fn sync_as_it_stands(&mut self) -> Result<(), SeamError> {
        if let Some(last) = self.segments.back() {
            self.files.sync(&last.name())?;
        }
        self.files.sync_directory()
    }
}

/// Whether a crash can leave what stands at `from` of a file that is `filled`, in place of a frame that goes up to `to`:
/// it is cut off, or a sector of it never came to the disk.
fn is_torn(filled: &[u8], from: usize, to: usize) -> bool {
    let sectors = from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES);
    let lacks = |sector: usize| {
        let end = filled.len().min((sector + 1) * SECTOR_BYTES);
        filled[from.max(sector * SECTOR_BYTES)..end].iter().all(|&byte| byte == 0)
    };
    to > filled.len() || sectors.into_iter().any(lacks)
}

/// Where the first segment in `files` begins, if there is one.
pub(crate) fn first_position(files: &impl Files) -> Result<Option<u64>, SeamError> {
    Ok(files.list()?.iter().filter_map(|name| parse_name(name)).min())
}

struct Opening<'a, F> {
    log: Log<F>,
    /// Records before this are in the index.
    needed: u64,
    /// All records from there up to this were given, or told to be gone.
    read_to: u64,
    found: LogRecovery,
    visit: &'a mut dyn FnMut(u64, Logged<'_>),
}

/// Offset in its file of what stands at `position` in the segment that begins at `start`.
const fn offset(start: u64, position: u64) -> u64 {
    HEADER_BYTES + (position - start)
}

impl<F: Files> Opening<'_, F> {
    fn read_all(&mut self) -> Result<(), SeamError> {
        let names = self.log.files.list()?;
        let starts: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
        if starts.is_empty() && self.log.floor > 0 {
            self.damaged("log".into(), 0, 0, "every segment is missing", None);
        }
        // Of those that begin before what is needed, the last one may hold some of it.
        let first = starts.partition_point(|&start| start <= self.needed).saturating_sub(1);
        let mut before = None;
        for (at, &start) in starts.iter().enumerate() {
            let next = starts.get(at + 1).copied();
            match next {
                Some(end) if at < first => self.log.segments.push_back(Segment { start, end }),
                _ => self.read_segment(start, next, &mut before)?,
            }
        }
        if !self.found.damage.is_empty() && self.read_to < self.log.end() {
            // Nothing is left that came later.
            (self.visit)(self.read_to, Logged::GoneTo(self.log.end()));
        }
        Ok(())
    }

    /// Reads the segment at `start`, which ends where the `next` begins. `before`: the segment
    /// before it, as far as it is whole.
    fn read_segment(
        &mut self,
        start: u64,
        next: Option<u64>,
        before: &mut Option<Segment>,
    ) -> Result<(), SeamError> {
        let name = Segment::at(start).name();
        let bytes = self.log.files.read(&name, 0, usize::MAX)?;
        let header = Header::decode(&bytes, self.log.directory, start);
        if header.as_ref().is_ok_and(|header| header.before == self.read_to) {
            // What stood between was never synced, and the index is ahead of it.
            self.read_to = start;
        }
        let walked = self.walk(&bytes, start, next);
        if let Err(what) = header
            && walked.frames == 0
        {
            if next.is_none() && Header::is_begun(&bytes, self.log.directory, start) {
                // Its beginning was interrupted: nothing was acknowledged that stood in it.
                self.found.torn_bytes += bytes.len() as u64;
                let previous_end = self.previous_end(start, *before)?;
                self.check_gap(&name, previous_end, *before);
                self.begin_again(start, previous_end)?;
            } else if let Some(end) = next {
                let aside = format!("{ASIDE}{name}");
                self.log.files.rename(&name, &aside)?;
                self.damaged(name, 0, end - start, what, Some(aside));
                // The one before it is not to blame.
                *before = Some(Segment { start, end });
            } else {
                let kept = self.copy_aside(&name, Some(&bytes));
                let lost = self.go_on_behind(start, start, walked.filled);
                self.damaged(name, 0, lost, what, kept);
            }
            return self.log.files.sync_directory();
        }
        let previous_end = header.map_or(start, |header| header.before);
        self.check_gap(&name, previous_end, *before);
        if header.is_err() || !walked.holes.is_empty() || walked.is_foreign {
            let kept = self.copy_aside(&name, Some(&bytes));
            if let Err(what) = header {
                self.damaged(name.clone(), 0, 0, what, kept.clone());
            }
            for (at, length) in walked.holes {
                self.damaged(name.clone(), at, length, "records are damaged", kept.clone());
            }
            if walked.is_foreign {
                let lost = self.go_on_behind(start, walked.end, walked.filled);
                let at = offset(start, walked.end);
                self.damaged(name, at, lost, "what follows is no record", kept);
                return Ok(());
            }
        }
        let whole = Segment { start, end: walked.end };
        if next.is_none() {
            let length = offset(start, walked.end);
            let torn = walked.filled.saturating_sub(length);
            if torn > 0 {
                self.log.files.truncate(&name, length)?;
                self.log.files.sync(&name)?;
                self.found.torn_bytes += torn;
            }
            // What follows a damaged header would be looked for in vain.
            self.log.is_open = header.is_ok();
        }
        self.log.segments.push_back(Segment { start, end: next.unwrap_or(walked.end) });
        self.log.end = walked.end;
        *before = Some(whole);
        Ok(())
    }

    /// Where the segment before the one at `start` ended, of which the header is torn. A segment is
    /// durable before the next is begun, and the next begins where it ends, except where the index
    /// was ahead of the log: what stood between them was never synced then.
    fn previous_end(&self, start: u64, before: Option<Segment>) -> Result<u64, SeamError> {
        let Some(before) = before else { return Ok(start.min(self.needed)) };
        let length = self.log.files.length(&before.name())?.unwrap_or(0);
        let is_whole = length <= offset(before.start, before.end);
        Ok(if is_whole && start <= self.log.floor { before.end } else { start })
    }

    /// Tells of records that are gone between the segment `before`, as far as it is whole, and the
    /// segment `name`, whose predecessor ended at `previous_end`.
    fn check_gap(&mut self, name: &str, previous_end: u64, before: Option<Segment>) {
        let read_to = before.map_or(self.needed, |before| before.end.max(self.needed));
        let Some(lost) = previous_end.checked_sub(read_to).filter(|&lost| lost > 0) else { return };
        match before {
            Some(before) => {
                let kept = self.copy_aside(&before.name(), None);
                let at = offset(before.start, before.end);
                self.damaged(before.name(), at, lost, "it is not whole to its end", kept);
            }
            None => self.damaged(name.to_owned(), 0, lost, "the segment before is missing", None),
        }
    }

    /// Writes the torn header of the last segment again: that there is a segment tells a log whose
    /// unsynced records are gone from one that was lost.
    fn begin_again(&mut self, start: u64, before: u64) -> Result<(), SeamError> {
        let segment = Segment::at(start);
        let header = Header { start, before };
        self.log.files.truncate(&segment.name(), 0)?;
        self.log.files.append(&segment.name(), &header.encode(self.log.directory))?;
        self.log.segments.push_back(segment);
        self.log.is_open = true;
        self.log.end = start;
        Ok(())
    }

    /// Has the log go on behind the last segment, of which `filled` bytes are there and nothing from the position `from` on
    /// is what was written: in another, and at a position that says that something is gone. Returns how much.
    fn go_on_behind(&mut self, start: u64, from: u64, filled: u64) -> u64 {
        let end = start + filled.saturating_sub(HEADER_BYTES);
        let end = end.max(self.log.floor).max(self.read_to + 1);
        self.log.segments.push_back(Segment { start, end });
        self.log.is_open = false;
        self.log.end = end;
        end - from.max(self.needed)
    }

    /// Visits the whole frames in `bytes`, the segment that begins at `start`.
    fn walk(&mut self, bytes: &[u8], start: u64, next: Option<u64>) -> Walked {
        let ends = |next| usize::try_from(offset(start, next)).unwrap_or(usize::MAX);
        let bytes = &bytes[..next.map_or(usize::MAX, ends).min(bytes.len())];
        let position = |at: usize| start + (at as u64 - HEADER_BYTES);
        let directory = self.log.directory;
        let read = |at: usize| frame::read(&bytes[at..], directory, position(at));
        let filled = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // No frame is zeros from its beginning on.
        let next_whole = |at: usize| (at..filled).find(|&at| read(at).is_some());
        let mut walked = Walked { end: start, filled: filled as u64, ..Walked::default() };
        let mut at = HEADER_BYTES as usize;
        while at < filled {
            if let Some(Frame { record, .. }) = read(at) {
                self.give(position(at), record);
                walked.frames += 1;
                at += FRAME_BYTES + record.len();
                walked.end = position(at);
                continue;
            }
            // What tells how long it is may be lacking itself.
            let size = frame::size(&bytes[at..], directory, position(at)).unwrap_or(LENGTH_BYTES);
            let is_torn = next.is_none() && is_torn(&bytes[..filled], at, at.saturating_add(size));
            let Some(whole) = next_whole(at + 1) else {
                walked.is_foreign = next.is_none() && !is_torn;
                break;
            };
            let was_durable = || {
                let mut frames = std::iter::successors(Some(whole), |&at| {
                    next_whole(at + FRAME_BYTES + read(at)?.record.len())
                });
                frames.any(|at| read(at).is_some_and(|frame| frame.is_after_sync))
            };
            if is_torn && !was_durable() {
                break;
            }
            if position(whole) > self.needed {
                walked.holes.push((at as u64, (whole - at) as u64));
            }
            at = whole;
        }
        walked
    }

    /// Gives the record at `position`, if the index may lack it. One that does not follow the one before stands behind
    /// others that are gone, whatever took them: that is told first.
    fn give(&mut self, position: u64, record: &[u8]) {
        if position < self.needed {
            return;
        }
        if position > self.read_to {
            (self.visit)(self.read_to, Logged::GoneTo(position));
        }
        (self.visit)(position, Logged::Record(record));
        let bytes = (FRAME_BYTES + record.len()) as u64;
        self.read_to = position + bytes;
        self.found.records += 1;
        self.found.bytes += bytes;
    }

    fn damaged(
        &mut self,
        segment: String,
        offset: u64,
        bytes: u64,
        what: &'static str,
        kept_as: Option<String>,
    ) {
        self.found.damage.push(LogDamage { segment, offset, bytes, what, kept_as });
    }

    /// Copies a segment, so that trimming the log does not take away what could tell what happened.
    fn copy_aside(&mut self, name: &str, bytes: Option<&[u8]>) -> Option<String> {
        let aside = format!("{ASIDE}{name}");
        let files = &mut self.log.files;
        let read;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => {
                read = files.read(name, 0, usize::MAX).ok()?;
                &read
            }
        };
        if files.length(&aside).ok()? == Some(bytes.len() as u64) {
            return Some(aside);
        }
        // A disk without room for the copy must not keep the replica from its records.
        files.remove(&aside).ok()?;
        files.append(&aside, bytes).ok()?;
        files.sync(&aside).ok()?;
        files.sync_directory().ok()?;
        Some(aside)
    }
}
