//! Taking a backup.

use std::ops::ControlFlow;

use super::manifest::{
    BackupFile, DRAFT, Draft, LOG, MANIFEST, MANIFEST_MAX, MEMBERS, Manifest, ROWS, STAMP,
};
use super::merged::Rows;
use super::rows::RowsWriter;
use super::{Backup, BackupError};
use crate::log::SegmentPart;
use crate::{DirectoryStamp, Files, IndexRead, SeamError, Table, check_row};

/// Once the rows that changed come to this part of all rows, the next backup writes all. A guess:
/// reading costs no more than twice, and so does the room.
const CHANGES_MAX: u64 = 2;
/// With more files of rows than this the next backup writes all: also one of no change has one, the
/// manifest names all of them, and a reader looks into each. A guess.
const ROWS_FILES_MAX: usize = 64;
/// Bytes of the log read at a time.
const READ_BYTES: usize = 1 << 20;

/// A backup that is being taken into `files`.
#[derive(Debug)]
pub struct Taking<F> {
    files: F,
    previous: Option<Backup<F>>,
    /// Why the backup before is not gone on from, though there is one.
    unreadable: Option<BackupError>,
    number: u64,
    /// What this one consists of so far.
    parts: Vec<BackupFile>,
    log_end: u64,
    directory: u64,
    /// How many rows there are to copy, if that is known.
    rows_expected: Option<u64>,
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What the backup consists of.
    pub manifest: Manifest,
    /// Rows that were written: all, or those that changed since the backup before.
    pub rows_written: u64,
    /// Rows that are damaged in the replica; they are in the backup as they are.
    pub rows_damaged: u64,
    /// Bytes that were written; the others are those of backups before.
    pub bytes_written: u64,
    /// Whether it goes on from the backup before.
    pub is_incremental: bool,
    /// Why it does not, though there is one that could not be read: all was written then.
    pub unreadable: Option<BackupError>,
}

impl<F: Files> Taking<F> {
    /// Begins a backup of the data directory with this stamp. `before`: the same files as `files`,
    /// to read what was backed up before.
    pub fn begin(mut files: F, before: F, stamp: &DirectoryStamp) -> Result<Self, BackupError> {
        let names = files.list().map_err(BackupError::files)?;
        if let Some(foreign) = names.iter().find(|name| !is_backup_file(name)) {
            return Err(BackupError::Foreign(foreign.clone()));
        }
        let (mut previous, mut unreadable, mut number) = (None, None, 1);
        if let Some(manifest) = Manifest::read(&before)? {
            number = manifest.number + 1;
            let held = manifest.stamp(&before)?;
            if held != *stamp {
                let DirectoryStamp { cluster, node_name, .. } = held;
                let what = if (&cluster, &node_name) == (&stamp.cluster, &stamp.node_name) {
                    format!(
                        "another data directory of node {node_name:?}, from before it was \
                             started empty"
                    )
                } else {
                    format!("node {node_name:?} of cluster {cluster:?}")
                };
                return Err(BackupError::Other(what));
            }
            match Backup::open(before) {
                Ok(backup) if is_to_go_on(backup.manifest()) => previous = Some(backup),
                Ok(_) => (),
                Err(error) => unreadable = Some(error),
            }
        }
        let mut draft = Draft::begin(&mut files, format!("{STAMP}{number}"))?;
        draft.append(stamp.text().as_bytes())?;
        let parts = vec![draft.finish()?];
        let directory = stamp.directory;
        let rows_expected = None;
        Ok(Self {
            files,
            previous,
            unreadable,
            number,
            parts,
            log_end: 0,
            directory,
            rows_expected,
        })
    }

    /// Says how many rows there are to copy: an index that shows others when it is walked is damaged,
    /// and what it does not show would be kept as deleted.
    pub const fn expect_rows(&mut self, count: u64) {
        self.rows_expected = Some(count);
    }

    /// Keeps what the node knows of its cluster, whatever it is to it.
    pub fn keep_members(&mut self, members: &[u8]) -> Result<(), BackupError> {
        let mut draft = Draft::begin(&mut self.files, format!("{MEMBERS}{}", self.number))?;
        draft.append(members)?;
        self.parts.push(draft.finish()?);
        Ok(())
    }

    /// Copies `segments` of the log in `data`, which go up to `log_end`.
    pub fn copy_log(
        &mut self,
        data: &impl Files,
        segments: &[SegmentPart],
        log_end: u64,
    ) -> Result<(), BackupError> {
        for SegmentPart { name, length, .. } in segments {
            let start = name.trim_start_matches(LOG);
            let name_here = format!("{LOG}{}-{start}", self.number);
            let mut draft = Draft::begin(&mut self.files, name_here)?;
            while draft.length() < *length {
                let left = usize::try_from(length - draft.length()).unwrap_or(usize::MAX);
                let bytes = data.read(name, draft.length(), left.min(READ_BYTES));
                let bytes = bytes.map_err(BackupError::Data)?;
                if bytes.is_empty() {
                    break;
                }
                draft.append(&bytes)?;
            }
            self.parts.push(draft.finish()?);
        }
        self.log_end = log_end;
        Ok(())
    }

    /// Writes the rows of `snapshot`, which must not change meanwhile: all, or those that changed.
    /// `passed` is told how many rows were looked at and how many bytes were written, now and then,
    /// and may stop it.
    pub fn copy_rows(
        self,
        snapshot: &impl IndexRead,
        taken_ms: u64,
        passed: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Taken, BackupError> {
        let Self {
            mut files,
            mut previous,
            mut unreadable,
            number,
            mut parts,
            log_end,
            directory,
            rows_expected,
        } = self;
        let name = format!("{ROWS}{number}");
        let copied = loop {
            let writer = RowsWriter::begin(&mut files, name.clone(), directory)?;
            match copy(snapshot, previous.as_ref(), writer, passed) {
                // Of a backup that cannot be read nothing can be kept: this one begins again, whole.
                Err(Failed::Previous(error)) => (previous, unreadable) = (None, Some(error)),
                Err(Failed::This(error)) => return Err(error),
                Ok(copied) => break copied,
            }
        };
        let Copied { file, rows, written, damaged } = copied;
        if let Some(expected) = rows_expected
            && expected != rows
        {
            let what = format!("the index has {expected} rows, and shows {rows}");
            return Err(BackupError::Data(SeamError::Corrupt(what)));
        }
        let bytes_written = file.length + parts.iter().map(|file| file.length).sum::<u64>();
        let kept = previous.iter().flat_map(|backup| backup.manifest.files_of(ROWS).cloned());
        parts.extend(kept);
        parts.push(file);
        let manifest = Manifest { number, taken_ms, directory, rows, log_end, files: parts };
        replace(&mut files, &manifest).map_err(BackupError::files)?;
        let is_incremental = previous.is_some();
        Ok(Taken {
            manifest,
            rows_written: written,
            rows_damaged: damaged,
            bytes_written,
            is_incremental,
            unreadable,
        })
    }
}

/// What came between rows and their copies.
enum Failed {
    /// The backup before cannot be read.
    Previous(BackupError),
    This(BackupError),
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Self {
        Self::This(error)
    }
}

/// Rows that were looked at, and the file of those that were written.
struct Copied {
    file: BackupFile,
    rows: u64,
    written: u64,
    damaged: u64,
}

/// Writes the rows of `snapshot`, all or those that `previous` does not have so.
fn copy<F: Files>(
    snapshot: &impl IndexRead,
    previous: Option<&Backup<F>>,
    writer: RowsWriter<'_, F>,
    passed: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Copied, Failed> {
    let before = previous.map(|backup| backup.rows_from((0, Vec::new())));
    let before = before.transpose().map_err(unreadable)?;
    let mut changes = Changes { writer, before, rows: 0, written: 0, damaged: 0 };
    changes.advance()?;
    for table in Table::ALL {
        let mut result = Ok(());
        let scanned = snapshot.scan(table, &[], &mut |key, record| {
            result = changes.add(table, key, record).and_then(|()| {
                match passed(changes.rows, changes.writer.length()) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(BackupError::Stopped.into()),
                }
            });
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        result?;
        scanned.map_err(BackupError::Data)?;
    }
    changes.finish()
}

fn unreadable(error: SeamError) -> Failed {
    Failed::Previous(BackupError::files(error))
}

/// What is written of rows that are given in order: those that the backup before does not have so, and
/// which of its rows are gone.
struct Changes<'a, F> {
    writer: RowsWriter<'a, F>,
    /// At the first row of the backup before that was not met yet; `None` at its end.
    before: Option<Rows<'a, F>>,
    rows: u64,
    written: u64,
    damaged: u64,
}

impl<F: Files> Changes<'_, F> {
    fn add(&mut self, table: Table, key: &[u8], record: &[u8]) -> Result<(), Failed> {
        self.rows += 1;
        self.damaged += u64::from(check_row(table, key, record).is_err());
        let place = (table as u8, key);
        self.gone_before(Some(place))?;
        if let Some(old) = &self.before
            && old.place() == place
        {
            let is_same = old.record == record;
            self.advance()?;
            if is_same {
                return Ok(());
            }
        }
        self.written += 1;
        Ok(self.writer.push(table as u8, key, Some(record))?)
    }

    /// Writes that the rows of the backup before up to this place are gone; all that are left if there
    /// is none.
    fn gone_before(&mut self, place: Option<(u8, &[u8])>) -> Result<(), Failed> {
        while let Some(old) = &self.before
            && place.is_none_or(|place| old.place() < place)
        {
            self.writer.push(old.table, &old.key, None)?;
            self.written += 1;
            self.advance()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), Failed> {
        if let Some(old) = &mut self.before
            && !old.advance().map_err(unreadable)?
        {
            self.before = None;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Copied, Failed> {
        self.gone_before(None)?;
        let Self { writer, rows, written, damaged, .. } = self;
        Ok(Copied { file: writer.finish()?, rows, written, damaged })
    }
}

/// Replaces the manifest, and removes what it does not name.
pub(super) fn replace(files: &mut impl Files, manifest: &Manifest) -> Result<(), SeamError> {
    let text = manifest.text();
    if text.len() > MANIFEST_MAX {
        let count = manifest.files.len();
        return Err(SeamError::Io(format!(
            "a manifest of {count} files is longer than one may be"
        )));
    }
    files.sync_directory()?;
    files.remove(DRAFT)?;
    files.append(DRAFT, text.as_bytes())?;
    files.sync(DRAFT)?;
    files.rename(DRAFT, MANIFEST)?;
    files.sync_directory()?;
    for name in files.list()? {
        if name != MANIFEST && !manifest.files.iter().any(|file| file.name == name) {
            files.remove(&name)?;
        }
    }
    Ok(())
}

/// Whether a file with this name may be one of a backup: what has others is something else.
pub fn is_backup_file(name: &str) -> bool {
    [MANIFEST, DRAFT].contains(&name)
        || [ROWS, LOG, STAMP, MEMBERS].iter().any(|kind| has_number(name, kind))
}

/// Whether the next backup writes changes only.
fn is_to_go_on(manifest: &Manifest) -> bool {
    let mut lengths = manifest.files_of(ROWS).map(|file| file.length);
    let first = lengths.next().unwrap_or(0);
    manifest.files_of(ROWS).count() <= ROWS_FILES_MAX && lengths.sum::<u64>() * CHANGES_MAX <= first
}

/// Whether `name` is `kind` and a number, with more after a hyphen or not.
fn has_number(name: &str, kind: &str) -> bool {
    let Some(rest) = name.strip_prefix(kind) else { return false };
    let (number, rest) = rest.split_once('-').unwrap_or((rest, "0"));
    let is_hexadecimal = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    number.parse::<u64>().is_ok()
        && is_hexadecimal
        && (kind != LOG || name.matches('-').count() == 2)
}
