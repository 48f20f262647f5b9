//! The data directory: locked, stamped, with the index and, for a cluster of one, its secret.
//!
//! ```text
//! stamp      whose data this is (crate storage)
//! members    what membership left for the next start; beside it room for the next (snapshot_file)
//! .lock      held while a process uses the directory
//! .secret    of a cluster that was given none, readable by its owner only
//! index/     LMDB
//! .indexed   says that there was an index: from then on its absence is a loss
//!
//! older-than-barrier-N/   what was there before the node began anew (set_aside)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clock::ClusterSecret;
use storage::{DIRECTORY_FORMAT, DirectoryStamp, STAMP_FILE, StampError, check_or_write};
use storage_lmdb::{DirectoryLock, DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};

use crate::config::NodeConfig;
use crate::identity::{random_bytes, random_u64};
use crate::routing::SHARDS;
use crate::set_aside::{bring_back, set_aside_if_marked, stamped_if_marked};
use crate::start_error::StartError;

/// Name of the directory that holds the index.
pub(crate) const INDEX: &str = "index";
/// Name of the empty file that says that the index was created.
pub(crate) const INDEXED: &str = ".indexed";
/// Name of the file that holds the secret of a cluster that was given none.
pub(crate) const SECRET: &str = ".secret";
/// Where that is written before it gets its name.
pub(crate) const SECRET_DRAFT: &str = ".secret.new";

/// A data directory in use.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    /// Where the log stands.
    pub(crate) files: DiskFiles,
    pub(crate) stamp: DirectoryStamp,
    pub(crate) reader: LmdbReader,
    pub(crate) writer: LmdbWriter,
    pub(crate) secret: ClusterSecret,
    /// Held by whoever uses the directory.
    pub(crate) lock: Option<DirectoryLock>,
}

impl DataDirectory {
    /// Opens the directory of a node.
    pub(crate) fn open(config: &NodeConfig) -> Result<Self, StartError> {
        let lock = DirectoryLock::acquire(&config.data)?;
        let dir = lock.dir().to_owned();
        let wanted = DirectoryStamp {
            format: DIRECTORY_FORMAT,
            cluster: config.cluster.clone(),
            node: config.node(),
            node_name: config.name.clone(),
            partitions: config.partitions.get(),
            shards: SHARDS.into(),
            directory: random_u64(),
        };
        let refused = |source| StartError::Stamp { dir: dir.clone(), source };
        let set_aside = |source| StartError::SetAside { dir: dir.clone(), source };
        if let Some(stamped) = stamped_if_marked(&dir).map_err(set_aside)? {
            // Before anything in it moves: it may be another node's, given to this one by mistake.
            check_or_write(&mut DiskFiles::open(&stamped)?, &wanted).map_err(refused)?;
        }
        if let Some(aside) = set_aside_if_marked(&dir).map_err(set_aside)? {
            tracing::warn!(aside = %aside.display(), "what this node held was older than what its cluster has \
                forgotten: it was set aside, and the node begins anew, empty");
        }
        // Whose it is only its stamp knew.
        if dir.join(INDEX).exists() && !dir.join(STAMP_FILE).exists() {
            return Err(refused(StampError::Unstamped(INDEX.into())));
        }
        let mut files = DiskFiles::open(&dir)?;
        let stamp = check_or_write(&mut files, &wanted).map_err(refused)?;
        bring_back(&dir).map_err(set_aside)?;
        let secret = match &config.secret {
            Some(secret) => secret.clone(),
            None => own_secret(&dir)?,
        };
        let is_new = !dir.join(INDEXED).exists();
        let options = LmdbOptions { may_create: is_new, ..LmdbOptions::default() };
        let (reader, writer) = LmdbIndex::open(&dir.join(INDEX), &options)?;
        if is_new {
            // Before anything is acknowledged.
            create_durably(&dir, INDEXED)
                .map_err(|source| StartError::File { path: dir.join(INDEXED), source })?;
        }
        Ok(Self { files, stamp, reader, writer, secret, lock: Some(lock) })
    }
}

/// The secret kept in `dir`, drawn if there is none yet.
pub(crate) fn own_secret(dir: &Path) -> Result<ClusterSecret, StartError> {
    let path = dir.join(SECRET);
    let failed = |path: &PathBuf, reason: String| StartError::Secret { path: path.clone(), reason };
    match fs::metadata(&path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let reason = "others than its owner may use it: chmod 600".into();
            return Err(failed(&path, reason));
        }
        Ok(_) => {
            let secret = fs::read(&path).map_err(|error| failed(&path, error.to_string()))?;
            if secret.len() != 64 {
                let reason = "it is damaged: restore it, or remove it to draw another; \
                              context tokens given out before are then refused";
                return Err(failed(&path, reason.into()));
            }
            return Ok(ClusterSecret::new(secret));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(failed(&path, error.to_string())),
    }
    let secret: String = random_bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
    keep(dir, secret.as_bytes()).map_err(|error| failed(&path, error.to_string()))?;
    Ok(ClusterSecret::new(secret))
}

/// Creates an empty file that a crash does not take away again.
pub(crate) fn create_durably(dir: &Path, name: &str) -> std::io::Result<()> {
    File::create(dir.join(name))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Writes a file so that a crash leaves it whole, as before, or not at all. It is drafted as `NAME.new`, with
/// this mode less the process's mask.
pub(crate) fn replace_durably(
    dir: &Path,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Writes the secret durably, and only its owner reads it.
pub(crate) fn keep(dir: &Path, secret: &[u8]) -> std::io::Result<()> {
    replace_durably(dir, SECRET, 0o600, secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::set_aside::mark;

    fn config(name: &str, data: &Path) -> NodeConfig {
        let text = format!("name = \"{name}\"\ndata = {:?}", data.to_str().unwrap());
        toml::from_str::<Settings>(&text).unwrap().resolve().unwrap()
    }

    #[test]
    fn only_its_own_node_sets_a_directory_aside() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let opened = DataDirectory::open(&config("n1", dir)).unwrap().stamp;
        let aside = dir.join("older-than-barrier-1");
        let refused_to_another = || {
            let refused = DataDirectory::open(&config("n2", dir)).unwrap_err();
            let StartError::Stamp { source, .. } = &refused else { panic!("{refused}") };
            assert!(matches!(source, StampError::OtherNode { .. }), "{refused}");
        };
        mark(dir).unwrap();
        refused_to_another();
        assert!(dir.join(STAMP_FILE).exists() && dir.join(INDEX).exists() && !aside.exists());
        // A crash on the way.
        fs::create_dir(&aside).unwrap();
        fs::rename(dir.join(STAMP_FILE), aside.join(STAMP_FILE)).unwrap();
        refused_to_another();
        assert!(dir.join(INDEX).exists());
        let anew = DataDirectory::open(&config("n1", dir)).unwrap().stamp;
        assert!(aside.join(INDEX).exists() && anew.directory != opened.directory);
    }

    #[test]
    fn a_secret_is_drawn_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let first = own_secret(dir.path()).unwrap().mac("test", &[]);
        assert_eq!(own_secret(dir.path()).unwrap().mac("test", &[]), first);
        let path = dir.path().join(".secret");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = own_secret(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("chmod 600"), "{error}");
    }
}
