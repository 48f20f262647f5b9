//! Options of what is done to the data of one node: backing it up, bringing it back, checking it, looking
//! at it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use node::offline::DebugTable;

#[derive(Args)]
pub(crate) struct BackupOptions {
    /// A directory of the node's machine: a new or empty one, or one that holds a backup of this node,
    /// into which only what changed is then written.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Args)]
pub(crate) struct RestoreOptions {
    /// The directory of the backup.
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: PathBuf,
    /// The node's data directory, which must be new or empty.
    #[arg(value_name = "DATA_DIR")]
    pub(crate) data: PathBuf,
    /// All nodes of the cluster are restored, from backups of about one time, and none goes on with what it
    /// had: without it, all but those with the latest backups begin anew, empty, if deleted keys were
    /// forgotten meanwhile.
    #[arg(long)]
    pub(crate) whole_cluster: bool,
}

#[derive(Args)]
pub(crate) struct VerifyOptions {
    /// The data directory of a node that is stopped, or the directory of a backup.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// What is on disk.
#[derive(Subcommand)]
pub(crate) enum DebugCommand {
    /// Show the rows of the index: table, partition, key, what they say.
    Rows {
        #[command(flatten)]
        options: DebugOptions,
        /// This table only: meta, header, element, outbox, tree, element-tree or shard.
        #[arg(long, value_parser = table)]
        table: Option<DebugTable>,
    },
    /// Show the records of the log: position, storage shard, what was done.
    Log {
        #[command(flatten)]
        options: DebugOptions,
    },
    /// Show the hash trees over keys: the root of each partition, or the leaves of one.
    Tree {
        /// The data directory of a node that is stopped, or the directory of a backup.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The leaves of this partition.
        #[arg(long)]
        partition: Option<u32>,
        /// Lines at most.
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
}

#[derive(Args)]
pub(crate) struct DebugOptions {
    /// The data directory of a node that is stopped, or the directory of a backup.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// What is of this key only, with --bucket of that bucket.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// What is of this partition only.
    #[arg(long)]
    pub(crate) partition: Option<u32>,
    /// Lines at most.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u64,
}

fn table(name: &str) -> Result<DebugTable, String> {
    let table = DebugTable::ALL.into_iter().find(|table| table.name() == name);
    table.ok_or_else(|| {
        let names = DebugTable::ALL.map(DebugTable::name);
        format!("no such table; there are {}", names.join(", "))
    })
}
