//! The two seams under the engine: an ordered transactional index, and files.
//!
//! Each has a real implementation (crate `storage-lmdb`) and a simulated double here, and both
//! must pass `conformance`. What an engine changes is written through them on I/O threads: records
//! into the files of the log, and now and then rows into the index. The engine itself only reads
//! the index, from its event loop.

mod disk;
mod files;
mod memory;

pub use disk::{DiskSnapshot, SimDisk};
pub use files::{FilesSnapshot, SimFiles};
pub use memory::{IndexSnapshot, SimIndex, SimIndexReader, SimIndexWriter};

use std::ops::ControlFlow;

/// Why the disk did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeamError {
    /// No room on the device. Nothing of the batch was applied; reads go on.
    #[error("the disk is full: free some space, the node goes on by itself")]
    Full,
    /// The device or file system refuses writes. Nothing of the batch was applied.
    #[error("the data directory cannot be written: {0}")]
    ReadOnly(String),
    /// What was read is not what was written.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// Anything else the operating system said. Whether the batch was applied is unknown until
    /// the index is opened again.
    #[error("input/output: {0}")]
    Io(String),
}

/// A table of the index. Tables are ordered maps of their own, changed together in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Collections with dead rows that wait to be swept.
    Meta = 0,
    /// One row per key: every type tag's header or whole state.
    Header = 1,
    /// One row per element of a collection.
    Element = 2,
    /// Rows per (owner, key): merged deltas that the owner has not acknowledged.
    Outbox = 3,
    /// Leaves of the hash trees over keys.
    Tree = 4,
    /// Chunks of the hash trees over the elements of large collections.
    ElementTree = 5,
    /// One row per storage shard: up to where in the log the other tables go, and its census.
    Shard = 6,
}

impl Table {
    /// Every table, in order.
    pub const ALL: [Self; 7] = [
        Self::Meta,
        Self::Header,
        Self::Element,
        Self::Outbox,
        Self::Tree,
        Self::ElementTree,
        Self::Shard,
    ];

    /// Its name, on disk and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Header => "header",
            Self::Element => "element",
            Self::Outbox => "outbox",
            Self::Tree => "tree",
            Self::ElementTree => "element-tree",
            Self::Shard => "shard",
        }
    }
}

/// Longest key of a row, in bytes (LMDB's limit). Keys are never empty.
pub const ROW_KEY_MAX: usize = 511;

/// Refuses a key that no index takes: an empty one, or one longer than [`ROW_KEY_MAX`].
///
/// Every implementation asks this first, so that all refuse the same keys with the same words.
pub fn check_row_key(key: &[u8]) -> Result<(), SeamError> {
    if (1..=ROW_KEY_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(SeamError::Io(format!("key of {} bytes: a row's key has 1 to {ROW_KEY_MAX}", key.len())))
}

/// Longest name of a file, in bytes.
pub const FILE_NAME_MAX: usize = 128;

/// Refuses a name that is not 1 to [`FILE_NAME_MAX`] letters, digits, `.`, `_` or `-` of ASCII,
/// or that begins with a dot (a name with a dot belongs to the directory itself: its lock).
pub fn check_file_name(name: &str) -> Result<(), SeamError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=FILE_NAME_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(legal)
    {
        return Ok(());
    }
    Err(SeamError::Io(format!("{name:?} is no name of a file here")))
}

/// One change of one row: a new value, or none to delete it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowChange<'a> {
    /// The table of the row.
    pub table: Table,
    /// The row's key: 1 to [`ROW_KEY_MAX`] bytes.
    pub key: &'a [u8],
    /// The row's new value, or `None` to delete the row (also when it is absent).
    pub value: Option<&'a [u8]>,
}

/// What a scan does with each key and value; breaking ends it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads of the committed state. Cheap to call; values are copied out or looked at in place, and
/// no borrow of the index escapes. A read may be made from inside another.
pub trait IndexRead {
    /// Looks at the value of `key` in place, once; `false` (and no look) if there is no such row.
    fn get(&self, table: Table, key: &[u8], look: &mut dyn FnMut(&[u8]))
    -> Result<bool, SeamError>;

    /// Looks at the values of several rows in place, in the order of `keys`, each under its number there; at none of a
    /// row that is not there. For an index of which beginning to read costs as much as reading.
    fn get_each(
        &self,
        keys: &[(Table, &[u8])],
        look: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), SeamError> {
        for (number, (table, key)) in keys.iter().enumerate() {
            self.get(*table, key, &mut |value| look(number, value))?;
        }
        Ok(())
    }

    /// Visits the rows with `from <= key` in ascending order of key, until `visit` breaks or the
    /// rows end. One consistent snapshot. `from` may be empty (every row) or of any length.
    ///
    /// Long walks are made in pages: the index cannot reclaim what was replaced, nor grow its
    /// map, while a scan stands in the middle.
    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError>;
}

impl<R: IndexRead + ?Sized> IndexRead for &R {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        (**self).get(table, key, look)
    }

    fn get_each(
        &self,
        keys: &[(Table, &[u8])],
        look: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), SeamError> {
        (**self).get_each(keys, look)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        (**self).scan(table, from, visit)
    }
}

/// The one writer of an index.
pub trait IndexWrite {
    /// Applies all changes in order, or none. Once this returns `Ok` they survive a crash of the
    /// process and of the machine. On `Full`, `ReadOnly` and `Corrupt` nothing was applied, nor
    /// when a key is refused ([`check_row_key`]).
    fn commit(&mut self, changes: &[RowChange<'_>]) -> Result<(), SeamError>;
}

/// Named append-only files in one flat directory.
///
/// What was appended reaches the disk for certain only at [`sync`](Files::sync), a creation,
/// removal or renaming only at [`sync_directory`](Files::sync_directory): until then a crash may
/// keep any part of it. Names obey [`check_file_name`].
///
/// A failed [`sync`](Files::sync) puts the whole tail of that file in doubt (the operating
/// system may forget what it could not write and then report success): from then on the file
/// refuses appends and syncs until it is cut back to what an earlier sync covered, replaced or
/// removed.
pub trait Files {
    /// Names of all files, ascending.
    fn list(&self) -> Result<Vec<String>, SeamError>;
    /// Length of `name` in bytes, or `None` if there is no such file.
    fn length(&self, name: &str) -> Result<Option<u64>, SeamError>;
    /// Reads up to `length` bytes of `name` from `offset`; fewer at the end of the file.
    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, SeamError>;
    /// Appends to `name`, creating it when absent (also with no bytes). All of `bytes`, or on an
    /// error none; a file that was to be created may then be there, empty.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), SeamError>;
    /// Puts zeros after what was appended to `name`, `bytes` of them, for the next appends to be
    /// written over: a sync of these is cheaper, since the file does not grow. An error if it is
    /// absent; on any error nothing but some of the zeros may be there.
    ///
    /// [`length`](Files::length) and [`read`](Files::read) of these files show none of them; what
    /// opens the file anew, as the next process, finds them as contents. A crash may keep of what
    /// was written over zeros any sectors and no others, in any order, where an append that makes
    /// the file longer leaves a beginning. A cut takes the zeros away.
    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), SeamError>;
    /// Cuts `name` to `length` bytes; an error if it is absent or shorter. Durable at the next
    /// [`sync`](Files::sync), like an append.
    fn truncate(&mut self, name: &str, length: u64) -> Result<(), SeamError>;
    /// Makes the contents of `name` durable (fdatasync); an error if it is absent.
    fn sync(&mut self, name: &str) -> Result<(), SeamError>;
    /// Renames `from` to `to`, replacing `to` atomically; an error if `from` is absent.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), SeamError>;
    /// Removes `name`; nothing happens when it is absent.
    fn remove(&mut self, name: &str) -> Result<(), SeamError>;
    /// Makes creations, removals and renamings durable (fsync of the directory).
    fn sync_directory(&mut self) -> Result<(), SeamError>;
}
