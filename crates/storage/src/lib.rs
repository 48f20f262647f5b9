//! One replica's storage engine, pure over two seams.

mod backup;
mod census;
mod checkpoint;
mod command;
pub mod conformance;
mod durability;
mod engine;
mod epochs;
mod inspect;
mod log;
mod log_record;
mod memory;
mod memtable;
mod record;
mod row_check;
mod row_key;
mod sealed_text;
mod seam;
mod shard;
mod single;
mod stamp;
mod tree;
mod verify;

pub use backup::{
    Backup, BackupError, BackupFile, BackupLog, MANIFEST_FILE, Manifest, Taken, Taking,
    is_backup_file, restore,
};
pub use census::ConflictCounts;
pub use checkpoint::{Checkpoint, shard_positions};
pub use command::{
    Answer, Command, ConflictPage, ConflictPosition, Conflicted, Forgetting, KeysOf, ListPosition,
    Listed, Listing, NOTE_NAME_MAX, OutboxPosition, Pending, StorageError, Ticket,
};
pub use durability::Durability;
pub use engine::{Batch, Engine, EngineBounds, EngineConfig, Replay, TreeCheck, WrittenRows};
pub use epochs::Epochs;
pub use inspect::{LeafShown, RecordShown, RowShown, show_record, show_row, show_tree};
pub use log::{Appended, Log, LogDamage, LogRecovery, Logged, SegmentPart, log_parts};
pub use log_record::record_shard;
pub use memory::MemoryEngine;
pub use memtable::BatchId;
pub use row_check::check_row;
pub use row_key::row_token;
pub use seam::{
    DiskSnapshot, FILE_NAME_MAX, Files, FilesSnapshot, IndexRead, IndexSnapshot, IndexWrite,
    ROW_KEY_MAX, RowChange, SeamError, SimDisk, SimFiles, SimIndex, SimIndexReader, SimIndexWriter,
    Table, Visit, check_file_name, check_row_key,
};
pub use shard::{Shard, ShardSet, Shards};
pub use single::SingleEngine;
pub use stamp::{
    DIRECTORY_FORMAT, DirectoryStamp, STAMP_FILE, STARTING_EMPTY, StampError, check_or_write,
};
pub use tree::{
    ElementKey, ElementKeys, ElementRange, TREE_FANOUT, TreeClasses, TreeKey, TreeKeys, TreeNode,
    TreePath,
};
pub use verify::{
    Fault, FaultKind, LogCheck, UnchangedFiles, Verifying, check_census, check_log,
    check_log_alone, check_rows, check_trees,
};
