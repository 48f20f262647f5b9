//! Why a node did not start.

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
    /// The operating system gave no thread, or no directory for temporary data.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
}
