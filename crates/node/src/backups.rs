//! Backups that a node takes of itself while it serves: one at a time, on a thread of its own.
//!
//! What a backup shows is one moment of the index and the log up to a later one, so everything that
//! was acknowledged before it began is in it. The log is held back from trimming while it is copied,
//! a second or two; the snapshot of the index stands until all rows were looked at, which holds up
//! nobody: the index only cannot use again the room of what is replaced meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::{
    BackupError, DirectoryStamp, SeamError, Shards, Table, Taken, Taking, is_backup_file,
    log_parts, shard_positions,
};
use storage_lmdb::{
    DirectoryLock, DiskFiles, LOCK_FILE, LmdbReader, LmdbSnapshot, OpenError, create_directory,
};
use wire::{BackupProgress, BackupTaken};

use crate::config::NodeConfig;
use crate::data_directory::{SECRET, SECRET_DRAFT, keep};
use crate::identity::wall_ms;
use crate::log_thread::LogJob;
use crate::snapshot_file;

/// What a backup is made of. Holds up the end of the threads of log and index while it is there.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) reader: LmdbReader,
    pub(crate) stamp: DirectoryStamp,
    pub(crate) shards: Shards,
    pub(crate) log: Sender<LogJob>,
}

/// The backups of one node. The lock is taken by whoever asks about them, never on the way of data.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the storage is open, and once the node stops.
    source: Option<Source>,
    /// The last one that was begun.
    last: Option<Arc<Job>>,
}

/// A backup under way, or one that has ended.
#[derive(Debug)]
struct Job {
    number: u64,
    directory: PathBuf,
    rows_total: AtomicU64,
    rows_done: AtomicU64,
    bytes_written: AtomicU64,
    /// The node stops.
    must_stop: AtomicBool,
    outcome: Mutex<Option<Result<BackupTaken, String>>>,
}

/// Why a backup was not taken.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the node's own data: {0}")]
    Data(#[from] SeamError),
    #[error("{}: {reason}", path.display())]
    System { path: PathBuf, reason: std::io::Error },
    #[error("the node is stopping")]
    Stopping,
}

impl Backups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The storage is open.
    pub(crate) fn open(&self, source: Source) {
        self.state().source = Some(source);
    }

    /// The node stops: what is under way ends soon, and no more are begun.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.source = None;
        if let Some(job) = &state.last {
            job.must_stop.store(true, Ordering::Relaxed);
        }
    }

    /// Begins a backup into `directory`; one into the same that is under way goes on.
    pub(crate) fn begin(&self, directory: PathBuf, config: &NodeConfig) -> BackupProgress {
        let mut state = self.state();
        if let Some(job) = &state.last
            && job.outcome().is_none()
        {
            if job.directory == directory {
                return job.progress();
            }
            let other = job.directory.display();
            return refused(format!("a backup into {other} is under way: wait for its end"));
        }
        let Some(source) = state.source.clone() else { return refused(Failed::Stopping) };
        if let Some(reason) = unsuitable(&directory, &config.data) {
            return refused(format!("{}: {reason}", directory.display()));
        }
        let number = state.last.as_ref().map_or(0, |last| last.number) + 1;
        let job = Arc::new(Job::new(number, directory));
        let (data, ours) = (config.data.clone(), Arc::clone(&job));
        let thread = std::thread::Builder::new().name(format!("{}-backup", config.name));
        let begun = thread.spawn(move || {
            tracing::info!(directory = %ours.directory.display(), "backup begun");
            let outcome = take(&source, &data, &ours);
            // Before anybody is told, so that a node that stops has its directory back.
            drop(source);
            match &outcome {
                Ok(taken) => tracing::info!(?taken, "backup taken"),
                Err(error) => tracing::error!(%error, "the backup failed"),
            }
            let outcome = outcome.map_err(|error| format!("{}: {error}", ours.directory.display()));
            *ours.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        if let Err(error) = begun {
            return refused(format!("the operating system gave no thread: {error}"));
        }
        let progress = job.progress();
        state.last = Some(job);
        progress
    }

    /// How far the backup with this number is.
    pub(crate) fn progress(&self, number: u64) -> BackupProgress {
        match &self.state().last {
            Some(job) if job.number == number => job.progress(),
            _ => refused("the node has begun another backup, or was restarted: begin it again"),
        }
    }
}

fn refused(reason: impl ToString) -> BackupProgress {
    BackupProgress { outcome: Some(Err(reason.to_string())), ..BackupProgress::default() }
}

/// Why a backup of the data in `data` cannot go to `directory`, if so.
fn unsuitable(directory: &Path, data: &Path) -> Option<&'static str> {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    // The directory itself need not be there yet.
    let mut existing = directory;
    while let (false, Some(parent)) = (existing.exists(), existing.parent()) {
        existing = parent;
    }
    let existing = existing.canonicalize().unwrap_or_else(|_| existing.to_owned());
    if !directory.is_absolute() {
        Some("give an absolute path: it is a directory of the node's machine")
    } else if existing.starts_with(&data) {
        Some("it lies in the node's data directory: choose one elsewhere, best on another disk")
    } else {
        None
    }
}

impl Job {
    fn new(number: u64, directory: PathBuf) -> Self {
        Self {
            number,
            directory,
            rows_total: AtomicU64::new(0),
            rows_done: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            must_stop: AtomicBool::new(false),
            outcome: Mutex::new(None),
        }
    }

    fn outcome(&self) -> Option<Result<BackupTaken, String>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn progress(&self) -> BackupProgress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BackupProgress {
            job: self.number,
            rows_total: read(&self.rows_total),
            rows_done: read(&self.rows_done),
            bytes_written: read(&self.bytes_written),
            outcome: self.outcome(),
        }
    }
}

/// Holds the log back from trimming until it is dropped.
struct Hold<'a>(&'a Sender<LogJob>);

impl<'a> Hold<'a> {
    fn take(log: &'a Sender<LogJob>) -> Result<Self, Failed> {
        let (reply, held) = sync_channel(1);
        log.send(LogJob::Hold(reply)).map_err(|_| Failed::Stopping)?;
        let hold = Self(log);
        held.recv().map_err(|_| Failed::Stopping)?;
        Ok(hold)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // A log thread that has ended holds nothing.
        let _ = self.0.send(LogJob::Release);
    }
}

/// Takes the backup of `job`.
fn take(source: &Source, data: &Path, job: &Job) -> Result<BackupTaken, Failed> {
    let directory = &job.directory;
    let system = |reason| Failed::System { path: directory.clone(), reason };
    create_directory(directory, 0o700).map_err(system)?;
    // Before anything is written there, the lock's file included.
    if let Some(foreign) = foreign_entry(directory).map_err(system)? {
        return Err(BackupError::Foreign(foreign).into());
    }
    let _lock = DirectoryLock::acquire(directory)?;
    let files = DiskFiles::open(directory)?;
    let mut taking = Taking::begin(files, DiskFiles::open(directory)?, &source.stamp)?;
    match fs::read(data.join(SECRET)) {
        Ok(secret) => keep(directory, &secret).map_err(system)?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(reason) => return Err(Failed::System { path: data.join(SECRET), reason }),
    }
    let members = data.join(snapshot_file::FILE);
    match fs::read(&members) {
        Ok(bytes) => taking.keep_members(&bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(reason) => return Err(Failed::System { path: members, reason }),
    }
    let hold = Hold::take(&source.log)?;
    let taken = source.reader.snapshot(|snapshot| -> Result<_, Failed> {
        let mut total = 0;
        for table in Table::ALL {
            total += snapshot.row_count(table)?;
        }
        job.rows_total.store(total, Ordering::Relaxed);
        taking.expect_rows(total);
        copy_log(&mut taking, source, data, snapshot)?;
        drop(hold);
        copy_rows(taking, snapshot, job)
    })??;
    let bytes = taken.manifest.bytes();
    let Taken { manifest, rows_written, rows_damaged, bytes_written, is_incremental, unreadable } =
        taken;
    Ok(BackupTaken {
        number: manifest.number,
        rows: manifest.rows,
        rows_written,
        bytes,
        bytes_written,
        is_incremental,
        rows_damaged,
        unreadable: unreadable.map(|error| error.to_string()),
    })
}

/// An entry of a directory that no backup puts there.
fn foreign_entry(directory: &Path) -> std::io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours =
            [LOCK_FILE, SECRET, SECRET_DRAFT].contains(&name.as_str()) || is_backup_file(&name);
        if !is_ours || !entry.file_type()?.is_file() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Copies what the snapshot lacks of the log.
fn copy_log(
    taking: &mut Taking<DiskFiles>,
    source: &Source,
    data: &Path,
    snapshot: &LmdbSnapshot<'_>,
) -> Result<(), Failed> {
    let (reply, told) = sync_channel(1);
    source.log.send(LogJob::End(reply)).map_err(|_| Failed::Stopping)?;
    let end = told.recv().map_err(|_| Failed::Stopping)??;
    let positions = shard_positions(snapshot, source.shards)?;
    let needed = positions.iter().map(|position| position.unwrap_or(0)).min().unwrap_or(0);
    let log = DiskFiles::open(data)?;
    let parts = log_parts(&log, needed, end)?;
    Ok(taking.copy_log(&log, &parts, end)?)
}

fn copy_rows(
    taking: Taking<DiskFiles>,
    snapshot: &LmdbSnapshot<'_>,
    job: &Job,
) -> Result<Taken, Failed> {
    Ok(taking.copy_rows(snapshot, wall_ms(), &mut |rows, bytes| {
        job.rows_done.store(rows, Ordering::Relaxed);
        job.bytes_written.store(bytes, Ordering::Relaxed);
        if job.must_stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?)
}
