//! The seam's index in LMDB: many readers, one writer, a map that grows by itself.
//!
//! **The gate.** Every read holds the read side of one lock while it runs, uncontended and about
//! as dear as the atomic counter it is; only growing the map takes the write side, which waits
//! for the reads under way, closes the environment and opens it with a larger map. With the
//! default map of 64 GiB of address space that is once in 64 GiB of data. So no reader ever
//! stands on a map that goes away, and the types say so: the environment lives inside the lock.
//!
//! **A read is a transaction of its own.** Beginning and ending one takes 90 ns, renewing a kept
//! one 15, beside 1.3 µs for finding a row among 200,000 (measured on two shared cores). Keeping
//! one per thread would need `unsafe` and hold old pages; 75 ns do not earn that. A write looks at
//! its two rows in one ([`get_each`](IndexRead::get_each)).
//!
//! **A snapshot** is a read of all tables in one transaction, which may stand for as long as a backup
//! takes: it makes way, with an error, when the map must grow.
//!
//! **A commit is one fully synced write transaction.** No flag that weakens that is ever set.

mod environment;
mod header;
mod snapshot;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use storage::{IndexRead, IndexWrite, RowChange, SeamError, Table, Visit, check_row_key};

pub(crate) use environment::DATA_FILE;
use environment::Opened;
pub(crate) use environment::READERS_MIN;
pub(crate) use header::{Header, read as read_header};
pub use snapshot::LmdbSnapshot;

use crate::disk_error::{EIO, seam_io, seam_lmdb};
use crate::{DirectoryLock, OpenError};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// How an index is opened. Any value is legal; sizes are rounded up to a mebibyte.
#[derive(Clone, Debug)]
pub struct LmdbOptions {
    /// Bytes of address space mapped at first. It costs no memory and no disk: the file grows
    /// with its contents.
    pub map_size: usize,
    /// The map doubles when it is full, up to this many bytes.
    pub map_limit: usize,
    /// Whether an index that is absent, or an empty file, is created. If not, it is
    /// [`OpenError::Damaged`]: it was there before, and what it held is lost.
    pub may_create: bool,
}

impl Default for LmdbOptions {
    /// 64 GiB, so that growing is rare; up to 16 TiB, which 47 bits of address hold eight times.
    /// Created when absent.
    fn default() -> Self {
        Self { map_size: 64 * GIB, map_limit: 16 * 1_024 * GIB, may_create: true }
    }
}

/// Opens indexes.
#[derive(Debug)]
pub struct LmdbIndex;

impl LmdbIndex {
    /// Opens the index in `dir`, a directory of its own, creating it when absent if the options say
    /// so. It stays locked until the writer and every reader are dropped.
    pub fn open(dir: &Path, options: &LmdbOptions) -> Result<(LmdbReader, LmdbWriter), OpenError> {
        let lock = DirectoryLock::acquire(dir)?;
        let map_size = options.map_size.max(1).next_multiple_of(MIB);
        let opened = Opened::open(lock.dir(), map_size, options.may_create)?;
        let gate = RwLock::new(Some(Arc::new(opened)));
        let shared = Arc::new(Shared { gate, is_growing: AtomicBool::new(false), lock });
        let writer =
            LmdbWriter { shared: Arc::clone(&shared), map_size, map_limit: options.map_limit };
        Ok((LmdbReader { shared }, writer))
    }
}

/// Reads an index; clones read the same one, from any thread.
#[derive(Clone, Debug)]
pub struct LmdbReader {
    shared: Arc<Shared>,
}

/// The one writer of an index.
#[derive(Debug)]
pub struct LmdbWriter {
    shared: Arc<Shared>,
    map_size: usize,
    map_limit: usize,
}

#[derive(Debug)]
struct Shared {
    /// Empty only after an environment was closed to grow and could not be opened again; each
    /// commit then tries to.
    gate: RwLock<Option<Arc<Opened>>>,
    /// Whether somebody waits for the gate's write side: snapshots, which may stand long, make way.
    is_growing: AtomicBool,
    /// Dropped after the environment is closed.
    lock: DirectoryLock,
}

thread_local! {
    /// The environments that reads of this thread stand in, innermost last, with the address of
    /// their `Shared`. A read inside a read takes its environment from here: the gate's lock
    /// would make it wait for a writer that waits for the outer read.
    static HELD: RefCell<Vec<(usize, Arc<Opened>)>> = const { RefCell::new(Vec::new()) };
}

/// An entry of [`HELD`], for as long as its read runs.
struct Held;

impl Held {
    fn push(shared: usize, opened: Arc<Opened>) -> Self {
        HELD.with_borrow_mut(|held| held.push((shared, opened)));
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(Vec::pop);
    }
}

impl Shared {
    /// The environment that an outer read of this thread stands in.
    fn held(&self) -> Option<Arc<Opened>> {
        let address = std::ptr::from_ref(self).addr();
        HELD.with_borrow(|held| {
            held.iter().find(|(shared, _)| *shared == address).map(|(_, opened)| Arc::clone(opened))
        })
    }

    /// Runs `use_it` on the environment, which stays open meanwhile.
    fn with<T>(&self, use_it: impl FnOnce(&Opened) -> T) -> Result<T, SeamError> {
        if let Some(opened) = self.held() {
            return Ok(use_it(&opened));
        }
        // A reader that panicked has changed nothing; a writer leaves `None` or an environment.
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let opened = gate.as_ref().ok_or_else(closed)?;
        // Declared after the gate, so dropped before it: whoever holds the write side of the gate
        // has the only handle.
        let _held = Held::push(std::ptr::from_ref(self).addr(), Arc::clone(opened));
        Ok(use_it(opened))
    }

    /// Whether an environment that was closed could not be opened again.
    fn is_closed(&self) -> bool {
        self.held().is_none() && self.gate.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes the environment and opens it with a map of `map_size`, or of `fallback` if that
    /// fails, which is then the error.
    fn reopen(&self, map_size: usize, fallback: usize) -> Result<(), SeamError> {
        if self.held().is_some() {
            return Err(SeamError::Io(
                "nothing was applied: the map cannot grow inside a read of the same thread".into(),
            ));
        }
        self.is_growing.store(true, Ordering::Relaxed);
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.is_growing.store(false, Ordering::Relaxed);
        if let Some(opened) = gate.take() {
            Arc::into_inner(opened).expect("reads drop their handles before they leave the gate");
        }
        let failed = match Opened::open(self.lock.dir(), map_size, false) {
            Ok(opened) => {
                *gate = Some(Arc::new(opened));
                return Ok(());
            }
            Err(error) => error,
        };
        *gate = Opened::open(self.lock.dir(), fallback, false).ok().map(Arc::new);
        Err(SeamError::Io(format!("nothing was applied: {failed}")))
    }
}

fn closed() -> SeamError {
    SeamError::Io("the index could not be opened again after its map was full".into())
}

impl IndexRead for LmdbReader {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        check_row_key(key)?;
        self.shared.with(|opened| opened.get(table, key, look))?.map_err(seam_lmdb)
    }

    fn get_each(
        &self,
        keys: &[(Table, &[u8])],
        look: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), SeamError> {
        keys.iter().try_for_each(|(_, key)| check_row_key(key))?;
        self.shared.with(|opened| opened.get_each(keys, look))?.map_err(seam_lmdb)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        self.shared.with(|opened| opened.scan(table, from, visit))?.map_err(seam_lmdb)
    }
}

impl IndexWrite for LmdbWriter {
    fn commit(&mut self, changes: &[RowChange<'_>]) -> Result<(), SeamError> {
        for change in changes {
            check_row_key(change.key)?;
        }
        if changes.is_empty() {
            return Ok(());
        }
        if self.shared.is_closed() {
            self.shared.reopen(self.map_size, self.map_size)?;
        }
        loop {
            let (before, written) =
                self.shared.with(|opened| (opened.transaction(), opened.write(changes)))?;
            match written {
                Ok(()) => return Ok(()),
                Err(lmdb::Error::MapFull) => self.grow()?,
                Err(error) => return self.failed(changes, before.map_err(seam_lmdb)?, error),
            }
        }
    }
}

impl LmdbWriter {
    /// Bytes of address space mapped at present.
    pub fn map_size(&self) -> Result<usize, SeamError> {
        self.shared.with(Opened::map_size)?.map_err(seam_lmdb)
    }

    /// Doubles the map.
    fn grow(&mut self) -> Result<(), SeamError> {
        // What LMDB mapped may be more than was asked for: never less than the file.
        let size = self.map_size()?.max(self.map_size);
        let larger = size.saturating_mul(2).min(self.map_limit) / MIB * MIB;
        if larger <= size {
            return Err(SeamError::ReadOnly(format!(
                "the index has reached its limit of {size} bytes: raise the limit of its map"
            )));
        }
        self.shared.reopen(larger, size)?;
        self.map_size = larger;
        tracing::info!(dir = %self.shared.lock.dir().display(), larger, "the index map grew");
        Ok(())
    }

    /// What a failed write means, given the number of the last transaction `before` it. LMDB is
    /// usable afterwards.
    fn failed(
        &mut self,
        changes: &[RowChange<'_>],
        before: usize,
        error: lmdb::Error,
    ) -> Result<(), SeamError> {
        let mut meaning = seam_lmdb(error);
        if error == lmdb::Error::Other(EIO) && self.is_full(changes) {
            meaning = SeamError::Full;
        }
        // When the very last write of a commit fails, LMDB refuses every transaction from then on,
        // and the transaction may be on the disk or not. Opening it anew tells which.
        let usable = self.shared.with(Opened::is_writable)?;
        if !usable {
            self.shared.reopen(self.map_size, self.map_size)?;
            let after = self.shared.with(Opened::transaction)?.map_err(seam_lmdb)?;
            if after != before {
                return Err(SeamError::Io(format!("{meaning}; the batch may be applied")));
            }
        }
        Err(meaning)
    }

    /// Whether the disk is full, asked by writing to it. LMDB reports a write that was cut short,
    /// as the one that fills a disk is, as an input/output error.
    fn is_full(&self, changes: &[RowChange<'_>]) -> bool {
        // A batch dirties whole pages on the path to each row; more than a gibibyte is not probed.
        let bytes: usize = changes
            .iter()
            .map(|change| change.key.len() + change.value.map_or(0, <[u8]>::len) + 16_384)
            .sum();
        let path = self.shared.lock.dir().join(".probe");
        let probe = File::create(&path).and_then(|mut file| {
            let zeros = vec![0; MIB];
            for _ in 0..(2 * bytes / MIB + 1).min(1_024) {
                file.write_all(&zeros)?;
            }
            Ok(())
        });
        // If it stays, it is overwritten by the next probe.
        let _ = fs::remove_file(&path);
        probe.is_err_and(|error: io::Error| seam_io(&error) == SeamError::Full)
    }

    /// Bytes of the data file.
    pub fn file_size(&self) -> Result<u64, SeamError> {
        let data = fs::metadata(self.shared.lock.dir().join(DATA_FILE));
        Ok(data.map_err(|error| seam_io(&error))?.len())
    }
}

#[cfg(test)]
mod tests;
