//! Why a node did not start.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use membership::InvalidConfig;
use ring::PlacementError;
use storage::{StampError, StorageError};
use storage_lmdb::OpenError;

use crate::snapshot_file::SnapshotError;

/// Why a node did not start. What it had begun is undone; of the data directory nothing changed
/// but that it, its lock, its stamp and an empty index may have been created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Somebody listens there already.
    #[error(
        "port {} is in use ({address}): stop what listens there, or choose another with `{setting}`",
        address.port()
    )]
    PortInUse {
        /// The setting of the port.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// It cannot listen there for another reason.
    #[error("cannot listen on {address}: {source}; choose another address with `{setting}`")]
    Listen {
        /// The setting of the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("data directory: {0}")]
    Open(#[from] OpenError),
    /// The data directory is not this node's.
    #[error("{}: {source}", dir.display())]
    Stamp {
        /// The directory.
        dir: PathBuf,
        /// In what it differs.
        source: StampError,
    },
    /// What the directory holds is older than the barrier, and cannot be set aside.
    #[error("{}: what it holds is to be set aside: {source}", dir.display())]
    SetAside {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It was restored with its whole cluster, and what says so cannot be read or written.
    #[error("{}: what says that it was restored with its whole cluster: {source}", dir.display())]
    WholeCluster {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The secret of a cluster of one cannot be kept.
    #[error("{}: {reason}", path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is stored cannot be read.
    #[error("data directory: {0}")]
    Storage(#[from] StorageError),
    /// What membership left on disk cannot be read.
    #[error("data directory: {0}")]
    Snapshot(#[from] SnapshotError),
    /// The directory is of a cluster with other founders.
    #[error(
        "{}: it is of a cluster whose members are {found:?}, and was not founded by {wanted:?} with \
         these zones and weights: start with the same `members` as the first time, or with none",
        dir.display()
    )]
    OtherFounders {
        /// The directory.
        dir: PathBuf,
        /// Names of its cluster's members.
        found: Vec<String>,
        /// Names of the founders of this start.
        wanted: Vec<String>,
    },
    /// The directory is of a ring with another number of partitions.
    #[error("the cluster has {found} partitions, this start asks for {wanted}: start with {found}")]
    Partitions {
        /// The ring's.
        found: u32,
        /// This start's.
        wanted: u32,
    },
    /// Neither a cluster of before nor a way to one.
    #[error(
        "this node belongs to no cluster yet: `--bootstrap` begins one, `--seed HOST:PORT` (a member's \
         peer address) joins one"
    )]
    Lost,
    /// It has found a cluster, stopped before it had heard of the ring, and is to begin one of its own.
    #[error(
        "this node has found a cluster before and does not know that one's ring yet: start it with `--seed \
         HOST:PORT` (a member's peer address), without `--bootstrap` and `--member`; to begin another cluster, \
         give it an empty data directory"
    )]
    RingUnknown,
    /// What the node says of itself is out of bounds.
    #[error(transparent)]
    Membership(InvalidConfig),
    /// The members make no ring.
    #[error("`members`: {0}")]
    Placement(#[from] PlacementError),
    /// A file of the data directory cannot be read or written.
    #[error("{}: {source}{}", path.display(), to_do(source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system gave no thread.
    #[error(
        "the operating system gives this process no more threads ({0}): raise the limit on processes \
         (ulimit -u) or on those of its service, or have the node make fewer event loops"
    )]
    Thread(std::io::Error),
}

/// What to do about an error with a file, if that is clear.
fn to_do(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": free some space on its file system and start again"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            ": check its owner, its mode and its mount"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// errno of Linux.
    const ENOSPC: i32 = 28;

    #[test]
    fn what_cannot_be_written_is_named_and_what_to_do_is_said() {
        let source = std::io::Error::from_raw_os_error(ENOSPC);
        let error = StartError::File { path: "/data/n1/members".into(), source };
        assert_eq!(
            error.to_string(),
            "/data/n1/members: No space left on device (os error 28): free some space on its file system and \
             start again"
        );
    }
}
