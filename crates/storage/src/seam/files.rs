//! Simulated files, with the crashes that real ones have.
//!
//! What was not synced is lost, kept, torn at any byte, or replaced by zeros from some byte on
//! (a file system may record the new length before the bytes arrive). Of what was written over zeros
//! reserved before, some sectors in a row may be missing too, with later ones there: here only one
//! such hole in each file, a real disk may leave several. Zeros that were synced stay as long as the
//! file is not cut, others may. Each creation, renaming and removal that no sync of the directory
//! covered is kept or undone on its own: POSIX promises no order among them. Invariant: a crash never
//! touches what a successful sync covered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Files, SeamError, check_file_name};
use crate::log::SECTOR_BYTES;

/// One file, whatever its name is at the moment.
#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a crash cannot take.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Shortest length since the last sync: beyond it every byte was appended since.
    floor: usize,
    /// Up to where zeros were reserved, whether or not something was written over them; those after
    /// `current` are not in it, since reads show none.
    zeros_to: usize,
    /// The same, of zeros that a crash leaves.
    durable_zeros_to: usize,
    /// A sync failed; what follows `durable` is in doubt.
    doubtful: bool,
    /// From where on no sync writes anything any more, though reads show it: a sync failed, and pages
    /// that could not be written are taken for clean since.
    unwritten: Option<usize>,
}

/// A change of the directory that no sync has covered.
#[derive(Clone, Debug)]
enum Pending {
    Create { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { name: String },
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// The directory as reads see it, and as a crash cannot undo it.
    current: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<Pending>,
    full: bool,
    read_only: bool,
    capacity: Option<u64>,
    fail_next: Option<SeamError>,
    fail_next_sync: bool,
    syncs: u64,
    /// Changes asked for, and after how many the machine stops.
    changes: u64,
    stop_after: Option<u64>,
}

/// A simulated directory of files. Clones share it: a test keeps one to crash it.
#[derive(Clone, Debug, Default)]
pub struct SimFiles {
    state: Arc<Mutex<State>>,
}

/// Everything that a directory held at one moment, as reads saw it: a backup.
#[derive(Clone, Debug)]
pub struct FilesSnapshot {
    files: BTreeMap<String, Vec<u8>>,
}

impl SimFiles {
    /// An empty directory without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the device is full: appends of one byte or more, and creations, fail.
    pub fn full(&self, full: bool) {
        self.held().full = full;
    }

    /// Limits the bytes of all files; an append beyond it fails with [`SeamError::Full`].
    pub fn capacity(&self, bytes: Option<u64>) {
        self.held().capacity = bytes;
    }

    /// Whether the device refuses every change with [`SeamError::ReadOnly`].
    pub fn read_only(&self, read_only: bool) {
        self.held().read_only = read_only;
    }

    /// Makes the next append fail with `error` and append nothing.
    pub fn fail_next(&self, error: SeamError) {
        self.held().fail_next = Some(error);
    }

    /// The machine stops at change number `count` from now on, counted from 0, and at all that
    /// follow: they do nothing. `None` for never. (A change is whatever takes `&mut self`.)
    pub fn stop_after(&self, count: Option<u64>) {
        let mut state = self.held();
        state.stop_after = count.map(|count| state.changes + count);
    }

    /// How many changes were asked for.
    pub fn change_count(&self) -> u64 {
        self.held().changes
    }

    /// A copy of all files.
    pub fn snapshot(&self) -> FilesSnapshot {
        let state = self.held();
        let files = state
            .current
            .iter()
            .map(|(name, inode)| (name.clone(), state.inodes[inode].current.clone()));
        FilesSnapshot { files: files.collect() }
    }

    /// Puts a snapshot back in place of all files, durable: a disk restored from a backup.
    pub fn restore(&self, snapshot: &FilesSnapshot) {
        let mut state = self.held();
        state.inodes.clear();
        state.pending.clear();
        state.current.clear();
        for (next, (name, bytes)) in (0_u64..).zip(&snapshot.files) {
            let (durable, current) = (bytes.clone(), bytes.clone());
            state
                .inodes
                .insert(next, Inode { durable, floor: current.len(), current, ..Inode::default() });
            state.current.insert(name.clone(), next);
        }
        state.next_inode = state.inodes.len() as u64;
        state.durable = state.current.clone();
    }

    /// Loses everything: a disk replaced by an empty one.
    pub fn wipe(&self) {
        self.restore(&FilesSnapshot { files: BTreeMap::new() });
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no call panics while it holds the state")
    }

    /// Makes the next sync of a file fail; see [`Files`] for what that does to it.
    pub fn fail_next_sync(&self) {
        self.held().fail_next_sync = true;
    }

    /// How many syncs of files succeeded.
    pub fn sync_count(&self) -> u64 {
        self.held().syncs
    }

    /// Changes one byte of `name`, as a failing disk would; `false` if there is no such byte.
    pub fn corrupt(&self, name: &str, offset: usize) -> bool {
        let mut state = self.held();
        let Some(inode) = state.current.get(name).copied() else { return false };
        let inode = state.inodes.get_mut(&inode).expect("a name has its inode");
        let Some(byte) = inode.current.get_mut(offset) else { return false };
        *byte ^= 0x55;
        if let Some(byte) = inode.durable.get_mut(offset) {
            *byte ^= 0x55;
        }
        true
    }

    /// The process ends and another begins: it knows nothing of syncs that failed, and finds what
    /// was appended, durable or not.
    pub fn process_ended(&self) {
        let mut state = self.held();
        state.forget_faults();
        for inode in state.inodes.values_mut() {
            inode.doubtful = false;
            inode.current.resize(inode.size(), 0);
        }
    }

    /// The machine stops and starts again. `choice(n)` picks one of `0..n` for each thing that
    /// may come out in several ways; what is left is durable.
    pub fn crash(&self, choice: &mut dyn FnMut(u64) -> u64) {
        let mut pick = |bound: usize| -> usize {
            let bound = bound as u64;
            usize::try_from(choice(bound) % bound).expect("below a usize")
        };
        let state = &mut *self.held();
        state.forget_faults();
        let mut directory = std::mem::take(&mut state.durable);
        for change in std::mem::take(&mut state.pending) {
            if pick(2) == 0 {
                continue;
            }
            match change {
                Pending::Create { name, inode } => {
                    directory.insert(name, inode);
                }
                Pending::Rename { from, to, inode } => {
                    if directory.get(&from) == Some(&inode) {
                        directory.remove(&from);
                    }
                    directory.insert(to, inode);
                }
                Pending::Remove { name } => {
                    directory.remove(&name);
                }
            }
        }
        // Of two renamings of one file only the second may be kept: then it stands under two
        // names, and each gets a copy of its own.
        let mut inodes = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (next, (name, inode)) in (0_u64..).zip(directory) {
            let left = state.inodes.get(&inode).expect("an inode lives while it has a name");
            let kept = left.after_crash(&mut pick);
            inodes.insert(
                next,
                Inode {
                    floor: kept.len(),
                    durable: kept.clone(),
                    current: kept,
                    ..Inode::default()
                },
            );
            names.insert(name, next);
        }
        state.next_inode = inodes.len() as u64;
        state.inodes = inodes;
        state.durable.clone_from(&names);
        state.current = names;
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, SeamError>,
    ) -> Result<T, SeamError> {
        let mut state = self.held();
        state.changes += 1;
        if state.stop_after.is_some_and(|last| state.changes > last) {
            return Err(SeamError::Io("the simulated machine has stopped".into()));
        }
        if state.read_only {
            return Err(SeamError::ReadOnly("the simulated device is read-only".into()));
        }
        change(&mut state)
    }
}

impl Inode {
    /// What a crash leaves of it.
    fn after_crash(&self, pick: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let cut = self.floor < self.durable.len() || self.zeros_to < self.durable_zeros_to;
        if cut && pick(2) == 0 {
            let mut left = self.durable.clone();
            left.resize(left.len().max(self.durable_zeros_to), 0);
            return left;
        }
        let kept = self.floor + pick(self.current.len() - self.floor + 1);
        let mut left = self.current[..kept].to_vec();
        if kept > self.floor && pick(4) == 0 {
            let arrived = self.floor + pick(kept - self.floor + 1);
            left[arrived..].fill(0);
        }
        if self.zeros_to > self.floor {
            self.after_crash_over_zeros(&mut left, pick);
        }
        left
    }

    /// What else a crash does to `left` where zeros were reserved.
    fn after_crash_over_zeros(&self, left: &mut Vec<u8>, pick: &mut dyn FnMut(usize) -> usize) {
        let over = left.len().min(self.zeros_to);
        if over > self.floor && pick(2) == 0 {
            let sectors = (self.floor / SECTOR_BYTES, over.div_ceil(SECTOR_BYTES));
            let first = sectors.0 + pick(sectors.1 - sectors.0);
            let end = first + 1 + pick(sectors.1 - first);
            left[self.floor.max(first * SECTOR_BYTES)..over.min(end * SECTOR_BYTES)].fill(0);
        }
        let stays = if self.floor < self.durable.len() { 0 } else { self.durable_zeros_to };
        let to = if pick(2) == 0 { self.size() } else { stays };
        left.resize(left.len().max(to), 0);
    }

    /// Its bytes on the device.
    fn size(&self) -> usize {
        self.current.len().max(self.zeros_to)
    }
}

impl State {
    /// Faults that were to come do not outlive the process they were meant for.
    fn forget_faults(&mut self) {
        self.stop_after = None;
        self.fail_next = None;
        self.fail_next_sync = false;
    }

    fn inode(&self, name: &str) -> Option<&Inode> {
        self.current.get(name).map(|inode| &self.inodes[inode])
    }

    fn inode_mut(&mut self, name: &str) -> Result<&mut Inode, SeamError> {
        let inode = *self.current.get(name).ok_or_else(|| absent(name))?;
        Ok(self.inodes.get_mut(&inode).expect("a name has its inode"))
    }

    fn size(&self) -> u64 {
        self.current.values().map(|inode| self.inodes[inode].size() as u64).sum()
    }
}

fn absent(name: &str) -> SeamError {
    SeamError::Io(format!("there is no file {name}"))
}

fn doubtful(name: &str) -> SeamError {
    SeamError::Io(format!("an earlier sync of {name} failed, what it holds is in doubt"))
}

impl Files for SimFiles {
    fn list(&self) -> Result<Vec<String>, SeamError> {
        Ok(self.held().current.keys().cloned().collect())
    }

    fn length(&self, name: &str) -> Result<Option<u64>, SeamError> {
        check_file_name(name)?;
        Ok(self.held().inode(name).map(|inode| inode.current.len() as u64))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, SeamError> {
        check_file_name(name)?;
        let state = self.held();
        let bytes = &state.inode(name).ok_or_else(|| absent(name))?.current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), SeamError> {
        check_file_name(name)?;
        self.change(|state| {
            if let Some(error) = state.fail_next.take() {
                return Err(error);
            }
            if state.inode(name).is_some_and(|inode| inode.doubtful) {
                return Err(doubtful(name));
            }
            let creates = !state.current.contains_key(name);
            let grown = state.inode(name).map_or(bytes.len(), |inode| {
                (inode.current.len() + bytes.len()).saturating_sub(inode.size())
            });
            let beyond = |capacity: u64| grown > 0 && state.size() + grown as u64 > capacity;
            if (creates || !bytes.is_empty()) && (state.full || state.capacity.is_some_and(beyond))
            {
                return Err(SeamError::Full);
            }
            if creates {
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                state.current.insert(name.into(), inode);
                state.pending.push(Pending::Create { name: name.into(), inode });
            }
            state.inode_mut(name)?.current.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), SeamError> {
        check_file_name(name)?;
        self.change(|state| {
            let inode = state.inode_mut(name)?;
            if inode.doubtful {
                return Err(doubtful(name));
            }
            let to = inode.current.len() + usize::try_from(bytes).expect("what a test reserves");
            let grown = to.saturating_sub(inode.size()) as u64;
            let beyond = |capacity: u64| state.size() + grown > capacity;
            if grown > 0 && (state.full || state.capacity.is_some_and(beyond)) {
                return Err(SeamError::Full);
            }
            let inode = state.inode_mut(name)?;
            inode.zeros_to = inode.zeros_to.max(to);
            Ok(())
        })
    }

    fn truncate(&mut self, name: &str, length: u64) -> Result<(), SeamError> {
        check_file_name(name)?;
        self.change(|state| {
            let inode = state.inode_mut(name)?;
            let length = usize::try_from(length)
                .ok()
                .filter(|&length| length <= inode.current.len())
                .ok_or_else(|| SeamError::Io(format!("{name} is shorter than {length} bytes")))?;
            inode.current.truncate(length);
            inode.floor = inode.floor.min(length);
            inode.zeros_to = 0;
            if length <= inode.floor {
                inode.doubtful = false;
                inode.unwritten = None;
            }
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> Result<(), SeamError> {
        check_file_name(name)?;
        self.change(|state| {
            let fails = std::mem::take(&mut state.fail_next_sync);
            let inode = state.inode_mut(name)?;
            if inode.doubtful {
                return Err(doubtful(name));
            }
            if fails {
                inode.doubtful = true;
                inode.unwritten = Some(inode.floor);
                return Err(SeamError::Io(format!("the simulated sync of {name} failed")));
            }
            let written = inode.unwritten.unwrap_or(inode.current.len());
            // Appended to most often: what was durable before stands as it was then.
            if inode.floor == inode.durable.len() && inode.floor <= written {
                inode.durable.extend_from_slice(&inode.current[inode.floor..written]);
            } else {
                inode.durable = inode.current[..written].to_vec();
            }
            inode.floor = written;
            if inode.unwritten.is_none() {
                inode.durable_zeros_to = inode.zeros_to;
            }
            state.syncs += 1;
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), SeamError> {
        check_file_name(from)?;
        check_file_name(to)?;
        self.change(|state| {
            let inode = *state.current.get(from).ok_or_else(|| absent(from))?;
            if from == to {
                return Ok(());
            }
            state.current.remove(from);
            state.current.insert(to.into(), inode);
            state.pending.push(Pending::Rename { from: from.into(), to: to.into(), inode });
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), SeamError> {
        check_file_name(name)?;
        self.change(|state| {
            if state.current.remove(name).is_some() {
                state.pending.push(Pending::Remove { name: name.into() });
            }
            Ok(())
        })
    }

    fn sync_directory(&mut self) -> Result<(), SeamError> {
        self.change(|state| {
            state.pending.clear();
            state.durable.clone_from(&state.current);
            // Nothing can bring back an inode that has no name any more.
            let named = &state.durable;
            state.inodes.retain(|inode, _| named.values().any(|other| other == inode));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
