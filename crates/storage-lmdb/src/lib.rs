//! The disk under the storage engine: its ordered index in LMDB, its files in a directory.
//!
//! The only crate that knows LMDB. lmdb-rkv is safe to call only within rules that its types do
//! not state; here they hold by construction, without `unsafe`:
//!
//! * An environment is opened once: a registry of this process and a lock file against others.
//! * Its map is never resized under a reader. lmdb-rkv's `set_map_size` is safe Rust and kills
//!   the process when a reader is live; it is not called at all. To grow, the environment is
//!   closed and opened anew behind a gate that every read holds.
//! * No borrow of the map leaves a read: callers see rows inside a closure.
//! * A data file whose header LMDB would believe and crash on is refused before LMDB sees it. What pages
//!   beyond it may do to LMDB is found by [`check_pages`], for whoever can wait for the whole file to be
//!   read.

mod disk_error;
mod files;
mod index;
mod lock;
mod pages;
mod replay;

pub use disk_error::OpenError;
pub use files::DiskFiles;
pub use index::{LmdbIndex, LmdbOptions, LmdbReader, LmdbSnapshot, LmdbWriter};
pub use lock::{DirectoryLock, LOCK_FILE, create_directory};
pub use pages::check_pages;
pub use replay::{OpenedEngines, open_engines};
