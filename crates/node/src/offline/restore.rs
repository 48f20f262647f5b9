//! `merganser restore`: a node's data directory from a backup.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use storage::{Backup, BackupError, Files, MANIFEST_FILE, Manifest};
use storage_lmdb::{DirectoryLock, DiskFiles, LmdbIndex, LmdbOptions, create_directory};

use super::OfflineError;
use crate::data_directory::{INDEX, INDEXED, SECRET, create_durably, keep};
use crate::{snapshot_file, whole_cluster};

/// How far a restore is: the backup is read and checked, its rows are written, they are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreProgress {
    /// Bytes of the backup that were checked, of how many.
    Checked(u64, u64),
    /// Rows written and read back, of how many; each counts twice.
    Rows(u64, u64),
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// What the backup consists of.
    pub manifest: Manifest,
}

/// Makes `data`, an empty or a new directory, what the backup in `backup` says. Until this returns
/// `Ok` no node starts on it. `is_whole_cluster` if all nodes of the cluster are restored, and none goes on with
/// what it had.
pub fn restore(
    backup: &Path,
    data: &Path,
    is_whole_cluster: bool,
    passed: &mut dyn FnMut(RestoreProgress),
) -> Result<Restored, OfflineError> {
    if !backup.is_dir() {
        return Err(OfflineError::NoDirectory(backup.into()));
    }
    let system = |path: &Path| {
        let path = path.to_owned();
        move |source| OfflineError::System { path, source }
    };
    let failed = |source| OfflineError::Backup { dir: backup.into(), source };
    if !backup.join(MANIFEST_FILE).exists() {
        return Err(failed(BackupError::Absent));
    }
    // Against a node that takes a backup into it just now.
    let _backup_lock = DirectoryLock::acquire_to_read(backup)?;
    let held = Backup::open(DiskFiles::open(backup)?).map_err(failed)?;
    let (mut checked, total) = (0, held.manifest().bytes());
    let damage = held.check(&mut |bytes| {
        checked += bytes;
        passed(RestoreProgress::Checked(checked, total));
    });
    if let Some(first) = damage.into_iter().next() {
        return Err(failed(first));
    }
    create_directory(data, 0o700).map_err(system(data))?;
    if fs::read_dir(data).map_err(system(data))?.next().is_some() {
        return Err(OfflineError::NotEmpty(data.into()));
    }
    let _lock = DirectoryLock::acquire(data)?;
    let (reader, mut writer) = LmdbIndex::open(&data.join(INDEX), &LmdbOptions::default())?;
    create_durably(data, INDEXED).map_err(system(data))?;
    match fs::read(backup.join(SECRET)) {
        Ok(secret) => keep(data, &secret).map_err(system(data))?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(system(&backup.join(SECRET))(error)),
    }
    let total = 2 * held.manifest().rows;
    let mut files = DiskFiles::open(data)?;
    if let Some(members) = held.members().map_err(failed)? {
        let kept = files.append(snapshot_file::FILE, &members);
        let kept = kept.and_then(|()| files.sync(snapshot_file::FILE));
        kept.map_err(|error| failed(BackupError::Data(error)))?;
    }
    if is_whole_cluster {
        whole_cluster::mark(data).map_err(system(data))?;
    }
    storage::restore(&held, &mut writer, &reader, &mut files, &mut |rows| {
        passed(RestoreProgress::Rows(rows, total));
    })
    .map_err(failed)?;
    Ok(Restored {
        cluster: held.stamp().cluster.clone(),
        node: held.stamp().node_name.clone(),
        manifest: held.manifest().clone(),
    })
}
