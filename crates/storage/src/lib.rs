//! One replica's storage engine, pure over two seams.

mod census;
mod command;
pub mod conformance;
mod durability;
mod engine;
mod epochs;
mod memory;
mod memtable;
mod record;
mod row_key;
mod seam;
mod stamp;
mod tree;

pub use census::ConflictCounts;
pub use command::{
    Answer, Command, ConflictPage, ConflictPosition, Conflicted, ListPosition, Listed, Listing,
    NOTE_NAME_MAX, OutboxPosition, Pending, StorageError, Ticket,
};
pub use durability::Durability;
pub use engine::{Engine, EngineConfig, TreeCheck};
pub use memory::MemoryEngine;
pub use memtable::{Batch, BatchId};
pub use row_key::row_token;
pub use seam::{
    FILE_NAME_MAX, Files, IndexRead, IndexSnapshot, IndexWrite, ROW_KEY_MAX, RowChange, SeamError,
    SimFiles, SimIndex, SimIndexReader, SimIndexWriter, Table, Visit, check_file_name,
    check_row_key,
};
pub use stamp::{
    DIRECTORY_FORMAT, DirectoryStamp, STAMP_FILE, STARTING_EMPTY, StampError, StampedRing,
    check_or_write,
};
pub use tree::{
    ElementKey, ElementKeys, ElementRange, TREE_FANOUT, TreeClasses, TreeKey, TreeKeys, TreeNode,
    TreePath,
};
