//! A simulated disk: files for the log, and the index beside them.

use super::{FilesSnapshot, IndexSnapshot, SeamError, SimFiles, SimIndex};

/// Files and index of one replica. Clones share them: a test keeps one to fail or crash it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    /// Where the log stands.
    pub files: SimFiles,
    /// Where checkpoints go.
    pub index: SimIndex,
}

/// Everything that a disk held at one moment.
#[derive(Clone, Debug)]
pub struct DiskSnapshot {
    files: FilesSnapshot,
    index: IndexSnapshot,
}

impl SimDisk {
    /// An empty disk without faults or limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the device is full.
    pub fn full(&self, full: bool) {
        self.files.full(full);
        self.index.full(full);
    }

    /// Whether the device refuses every change.
    pub fn read_only(&self, read_only: bool) {
        self.files.read_only(read_only);
        self.index.read_only(read_only);
    }

    /// Makes the next append to the log fail with `error` and append nothing.
    pub fn fail_next(&self, error: SeamError) {
        self.files.fail_next(error);
    }

    /// A copy of what it holds.
    pub fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot { files: self.files.snapshot(), index: self.index.snapshot() }
    }

    /// Puts a snapshot back.
    pub fn restore(&self, snapshot: &DiskSnapshot) {
        self.files.restore(&snapshot.files);
        self.index.restore(&snapshot.index);
    }

    /// Loses everything.
    pub fn wipe(&self) {
        self.files.wipe();
        self.index.wipe();
    }

    /// The machine stops and starts again; `choice` decides about what the files had not synced
    /// ([`SimFiles::crash`]). The index loses nothing.
    pub fn crash(&self, choice: &mut dyn FnMut(u64) -> u64) {
        self.files.crash(choice);
    }
}
