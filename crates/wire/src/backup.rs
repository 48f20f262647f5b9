//! What is asked and told of a backup that a node takes of itself.

use serde::{Deserialize, Serialize};

/// About the backup of the node that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupCall {
    /// Begins one.
    Begin {
        /// Into which directory of the node's machine: an absolute path.
        directory: String,
    },
    /// How far it is.
    Progress {
        /// The number that it began under.
        job: u64,
    },
}

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupProgress {
    /// The number to ask under; 0 for one that was refused.
    pub job: u64,
    /// Rows to look at; 0 until that is known.
    pub rows_total: u64,
    /// Rows looked at.
    pub rows_done: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// What came of it, once it has ended: or why there is none. Then the backup before, if any, is
    /// whole.
    pub outcome: Option<Result<BackupTaken, String>>,
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTaken {
    /// How many were taken into the directory, this one included.
    pub number: u64,
    /// Rows of the replica.
    pub rows: u64,
    /// Rows that were written: all, or those that changed since the backup before.
    pub rows_written: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Whether it goes on from the backup before.
    pub is_incremental: bool,
    /// Rows that are damaged in the replica, and so in the backup.
    pub rows_damaged: u64,
    /// Why all was written though there was a backup before: that one is damaged.
    pub unreadable: Option<String>,
}
