//! `merganser verify`: whether a stopped node's directory, or a backup, is what was written.

use std::path::Path;

use storage::{
    DirectoryStamp, EngineConfig, Fault, FaultKind, Files, LogRecovery, ShardSet, StorageError,
    Table, Verifying, check_census, check_log, check_log_alone, check_rows, check_trees,
};
use storage_lmdb::OpenError;

use super::OfflineError;
use super::source::{Directory, Opened, Source};
use crate::data_directory::INDEX;
use crate::snapshot_file;

/// Faults that are told with their places; of more, only how many there are.
const FAULTS_MAX: usize = 1_000;

/// How far a check is: what is checked, how much of it was, and of how much (0 if that is not known).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// What is checked.
    pub what: &'static str,
    /// Bytes or rows looked at.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// Whether they are bytes.
    pub is_bytes: bool,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Whether it is a backup.
    pub is_backup: bool,
    /// What was checked, and how much of it there is, in words.
    pub checked: Vec<(&'static str, String)>,
    /// What is wrong, as far as it is told.
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
}

/// Gathers what is found, and says how far it is.
struct Report<'a> {
    passed: &'a mut dyn FnMut(VerifyProgress),
    progress: VerifyProgress,
    faults: Vec<Fault>,
    fault_count: u64,
    checked: Vec<(&'static str, String)>,
}

impl Report<'_> {
    fn begin(&mut self, what: &'static str, total: u64, is_bytes: bool) {
        self.progress = VerifyProgress { what, done: 0, total, is_bytes };
        (self.passed)(self.progress);
    }

    fn checked(&mut self, what: &'static str, count: String) {
        self.checked.push((what, count));
    }
}

impl Verifying for Report<'_> {
    fn passed(&mut self, rows: u64) {
        self.progress.done += rows;
        (self.passed)(self.progress);
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

/// Checks everything in `dir`. Changes nothing there but LMDB's table of readers.
pub fn verify(
    dir: &Path,
    passed: &mut dyn FnMut(VerifyProgress),
) -> Result<Verified, OfflineError> {
    let progress = VerifyProgress { what: "", done: 0, total: 0, is_bytes: true };
    let mut report =
        Report { passed, progress, faults: Vec::new(), fault_count: 0, checked: Vec::new() };
    let opened = Opened::open(dir, &mut |done, total| {
        (report.passed)(VerifyProgress { what: "index pages", done, total, is_bytes: true });
    });
    let opened = match opened {
        Err(OfflineError::Open(OpenError::Damaged { reason, .. })) => {
            return without_index(dir, reason, report);
        }
        opened => opened?,
    };
    report.checked("stamp", format!("format {}", opened.stamp.format));
    if let Source::Node { pages, .. } = &opened.source {
        report.checked("pages of the index", pages.to_string());
    }
    let failed = |source| OfflineError::Storage { dir: dir.into(), source };
    if let Source::Backup(backup) = &opened.source {
        report.begin("files", backup.manifest().bytes(), true);
        let damage = backup.check(&mut |bytes| report.passed(bytes));
        let files = &backup.manifest().files;
        report.checked("files", format!("{} of {} bytes", files.len(), backup.manifest().bytes()));
        for error in damage {
            let (place, what) = ("the backup".into(), error.to_string());
            report.fault(Fault { kind: FaultKind::File, place, what });
        }
        if report.fault_count > 0 {
            // What the rows would be is anybody's guess.
            return Ok(finish(&opened.stamp, true, report));
        }
    }
    if let Source::Node { .. } = &opened.source {
        members(dir, &mut report);
    }
    contents(&opened, &mut report).map_err(failed)?;
    Ok(finish(&opened.stamp, matches!(opened.source, Source::Backup(_)), report))
}

/// Checks what there is beside an index that is damaged: read through LMDB, it could end the process.
fn without_index(
    dir: &Path,
    reason: String,
    mut report: Report<'_>,
) -> Result<Verified, OfflineError> {
    let Directory { files, stamp, shards, _lock } = Directory::open(dir)?;
    report.checked("stamp", format!("format {}", stamp.format));
    report.fault(Fault { kind: FaultKind::File, place: INDEX.into(), what: reason });
    members(dir, &mut report);
    report.begin("log", 0, false);
    let failed = |source| OfflineError::Storage { dir: dir.into(), source };
    let found = check_log_alone(&files, stamp.directory, shards, &mut report).map_err(failed)?;
    report.checked("log", in_words(&found));
    kept_aside(&files, &mut report).map_err(failed)?;
    Ok(finish(&stamp, false, report))
}

fn finish(stamp: &DirectoryStamp, is_backup: bool, report: Report<'_>) -> Verified {
    let Report { faults, fault_count, checked, .. } = report;
    Verified {
        cluster: stamp.cluster.clone(),
        node: stamp.node_name.clone(),
        is_backup,
        checked,
        faults,
        fault_count,
    }
}

/// What the last start knew of its cluster.
fn members(dir: &Path, report: &mut Report<'_>) {
    match snapshot_file::read(dir) {
        Ok(None) => report.checked("members", "none are known".into()),
        Ok(Some(snapshot)) => {
            report.checked("members", format!("{} known", snapshot.table.iter().count()));
        }
        Err(error) => {
            let place = snapshot_file::FILE.into();
            report.fault(Fault { kind: FaultKind::File, place, what: error.to_string() });
        }
    }
}

/// Rows, trees, counts and log.
fn contents(opened: &Opened, report: &mut Report<'_>) -> Result<(), StorageError> {
    let Opened { source, stamp, shards, .. } = opened;
    let config = EngineConfig {
        node: stamp.node,
        // Nothing is coordinated, so no dot is issued.
        process: 0,
        shards: ShardSet::all(*shards),
        pending_bytes_max: usize::MAX,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let total = source.row_count()?;
    report.begin("rows", total, false);
    let mut counts = Vec::new();
    for table in Table::ALL {
        counts.push(format!("{} {}", check_rows(source, table, *shards, report)?, table.name()));
    }
    report.checked("rows", counts.join(", "));
    report.begin("trees", total, false);
    let trees = check_trees(source, config.clone(), report)?;
    report.checked(
        "hash trees and collections",
        format!("{} keys, {} elements under them", trees.keys, trees.elements),
    );
    report.begin("census", 0, false);
    let keys = check_census(source, *shards, report)?;
    report.checked("census", format!("{keys} live keys"));
    report.begin("log", total, false);
    match source {
        Source::Node { files, .. } => log(opened, files, config, report),
        Source::Backup(backup) => log(opened, &backup.log(), config, report),
    }
}

fn log(
    opened: &Opened,
    files: &impl Files,
    config: EngineConfig,
    report: &mut Report<'_>,
) -> Result<(), StorageError> {
    let check = check_log(&opened.source, files, opened.stamp.directory, config, report)?;
    report.checked("log beyond the index", in_words(&check.recovery));
    if check.replayed > 0 {
        let keys = check.live_keys;
        report
            .checked("the log done again", format!("{} records, {keys} live keys", check.replayed));
    }
    kept_aside(files, report)
}

fn in_words(found: &LogRecovery) -> String {
    let torn = match found.torn_bytes {
        0 => String::new(),
        torn => {
            format!("; {torn} torn bytes at its end, which a crash leaves and a start cuts off")
        }
    };
    format!("{} records, {} bytes{torn}", found.records, found.bytes)
}

fn kept_aside(files: &impl Files, report: &mut Report<'_>) -> Result<(), StorageError> {
    let aside = files.list()?.into_iter().filter(|name| name.starts_with("damaged-")).count();
    if aside > 0 {
        report.checked("segments kept aside", format!("{aside}, from damage of earlier starts"));
    }
    Ok(())
}
