//! Why a node did not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use ring::PlacementError;
use storage::{StampError, StorageError};
use storage_lmdb::OpenError;

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
    /// The members make no ring.
    #[error("`members`: {0}")]
    Placement(#[from] PlacementError),
    /// The operating system gave no thread, or no directory for temporary data.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
}
