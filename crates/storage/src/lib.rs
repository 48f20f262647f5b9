//! One replica's storage engine, pure over two seams.

mod census;
mod checkpoint;
mod command;
pub mod conformance;
mod durability;
mod engine;
mod epochs;
mod log;
mod log_record;
mod memory;
mod memtable;
mod record;
mod row_key;
mod seam;
mod shard;
mod single;
mod stamp;
mod tree;

pub use census::ConflictCounts;
pub use checkpoint::{Checkpoint, shard_positions};
pub use command::{
    Answer, Command, ConflictPage, ConflictPosition, Conflicted, ListPosition, Listed, Listing,
    NOTE_NAME_MAX, OutboxPosition, Pending, StorageError, Ticket,
};
pub use durability::Durability;
pub use engine::{Batch, Engine, EngineConfig, Replay, TreeCheck, WrittenRows};
pub use log::{Appended, Log, LogDamage, LogRecovery};
pub use log_record::record_shard;
pub use memory::MemoryEngine;
pub use memtable::BatchId;
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
