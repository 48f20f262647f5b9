//! The simulated double of the ordered index, by LMDB's contract.
//!
//! Invariants: a batch is applied wholly or not at all; a scan stands on the state in which it
//! began, whatever is committed meanwhile; what [`IndexWrite::commit`] acknowledged stays until
//! [`SimIndex::restore`] or [`SimIndex::wipe`] (there is no crash that loses it).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{IndexRead, IndexWrite, RowChange, SeamError, Table, Visit, check_row_key};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// All tables. Each stands behind its own `Arc`: a scan keeps the one it walks, and a commit
/// meanwhile copies that table instead of changing it underneath.
#[derive(Clone, Debug, Default)]
struct Tables {
    rows: [Arc<Rows>; Table::ALL.len()],
    /// Bytes of all keys and values.
    size: u64,
}

impl Tables {
    fn of(&self, table: Table) -> &Arc<Rows> {
        &self.rows[table as usize]
    }
}

/// Faults of the simulated device.
#[derive(Debug, Default)]
enum Fault {
    #[default]
    None,
    /// The next commit fails and nothing of it is applied.
    Refuse(SeamError),
    /// The next commit is applied and then reported as failed.
    ApplyAndReport(SeamError),
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    fault: Fault,
    full: bool,
    read_only: bool,
    capacity: Option<u64>,
    commits: u64,
}

/// Locked only for the moment of one call, and never while a caller looks at a row. `Arc` and not
/// `Rc` so that an engine over it can live in any thread.
fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no call panics while it holds the state")
}

/// A simulated index: the handle through which a test sets faults and takes the disk away.
#[derive(Clone, Debug, Default)]
pub struct SimIndex {
    state: Arc<Mutex<State>>,
}

/// Reads a [`SimIndex`].
#[derive(Clone, Debug)]
pub struct SimIndexReader {
    state: Arc<Mutex<State>>,
}

/// Writes a [`SimIndex`].
#[derive(Debug)]
pub struct SimIndexWriter {
    state: Arc<Mutex<State>>,
}

/// Everything a [`SimIndex`] held at one moment: a backup of its disk.
#[derive(Clone, Debug)]
pub struct IndexSnapshot {
    tables: Tables,
}

impl SimIndex {
    /// An empty index without faults or limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle that reads it.
    pub fn reader(&self) -> SimIndexReader {
        SimIndexReader { state: Arc::clone(&self.state) }
    }

    /// A handle that writes it. A second writer stands for the process started anew, never for
    /// one beside the first.
    pub fn writer(&self) -> SimIndexWriter {
        SimIndexWriter { state: Arc::clone(&self.state) }
    }

    /// Makes the next commit fail with `error` and apply nothing.
    pub fn fail_next(&self, error: SeamError) {
        held(&self.state).fault = Fault::Refuse(error);
    }

    /// Makes the next commit fail with `error` although it was applied: the unknown outcome that
    /// [`SeamError::Io`] speaks of.
    pub fn apply_and_fail_next(&self, error: SeamError) {
        held(&self.state).fault = Fault::ApplyAndReport(error);
    }

    /// Whether the device is full: every commit that is not empty fails with
    /// [`SeamError::Full`].
    pub fn full(&self, full: bool) {
        held(&self.state).full = full;
    }

    /// Whether the device refuses writes with [`SeamError::ReadOnly`].
    pub fn read_only(&self, read_only: bool) {
        held(&self.state).read_only = read_only;
    }

    /// Limits the bytes of all keys and values; a commit that would leave more, and more than
    /// there was, fails with [`SeamError::Full`].
    pub fn capacity(&self, bytes: Option<u64>) {
        held(&self.state).capacity = bytes;
    }

    /// Bytes of all keys and values.
    pub fn size(&self) -> u64 {
        held(&self.state).tables.size
    }

    /// How many commits were applied that were not empty.
    pub fn commit_count(&self) -> u64 {
        held(&self.state).commits
    }

    /// A copy of the committed state.
    pub fn snapshot(&self) -> IndexSnapshot {
        IndexSnapshot { tables: held(&self.state).tables.clone() }
    }

    /// Puts a snapshot back in place of the state: a disk restored from a backup.
    pub fn restore(&self, snapshot: &IndexSnapshot) {
        held(&self.state).tables = snapshot.tables.clone();
    }

    /// Loses everything: a disk replaced by an empty one.
    pub fn wipe(&self) {
        held(&self.state).tables = Tables::default();
    }

    /// The keys of all rows of a table, ascending.
    pub fn keys(&self, table: Table) -> Vec<Vec<u8>> {
        held(&self.state).tables.of(table).keys().cloned().collect()
    }

    /// Writes the row `to` over with the value of the row `from`, as a disk would that writes in a
    /// wrong place; `false` if there are no such rows.
    pub fn misdirect(&self, table: Table, from: &[u8], to: &[u8]) -> bool {
        let mut state = held(&self.state);
        let tables = &mut state.tables;
        let rows = Arc::make_mut(&mut tables.rows[table as usize]);
        let Some(value) = rows.get(from).cloned() else { return false };
        let Some(place) = rows.get_mut(to) else { return false };
        tables.size += value.len() as u64;
        tables.size -= place.len() as u64;
        *place = value;
        true
    }

    /// Changes one byte of the value of a row, as a failing disk would; `false` if there is no
    /// such byte.
    pub fn corrupt(&self, table: Table, key: &[u8], offset: usize) -> bool {
        let mut state = held(&self.state);
        let rows = Arc::make_mut(&mut state.tables.rows[table as usize]);
        let Some(byte) = rows.get_mut(key).and_then(|value| value.get_mut(offset)) else {
            return false;
        };
        *byte ^= 0x55;
        true
    }
}

impl SimIndexReader {
    fn rows(&self, table: Table) -> Arc<Rows> {
        Arc::clone(held(&self.state).tables.of(table))
    }
}

impl IndexRead for SimIndexReader {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        check_row_key(key)?;
        let rows = self.rows(table);
        let value = rows.get(key);
        if let Some(value) = value {
            look(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        let rows = self.rows(table);
        for (key, value) in rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl IndexWrite for SimIndexWriter {
    fn commit(&mut self, changes: &[RowChange<'_>]) -> Result<(), SeamError> {
        for change in changes {
            check_row_key(change.key)?;
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut state = held(&self.state);
        let fault = std::mem::take(&mut state.fault);
        if let Fault::Refuse(error) = fault {
            return Err(error);
        }
        if state.read_only {
            return Err(SeamError::ReadOnly("the simulated device is read-only".into()));
        }
        // The last change of a row is the one that stands.
        let last: BTreeMap<(Table, &[u8]), Option<&[u8]>> =
            changes.iter().map(|change| ((change.table, change.key), change.value)).collect();
        let bytes = |key: &[u8], value: &[u8]| (key.len() + value.len()) as u64;
        let before = state.tables.size;
        let mut size = before;
        for (&(table, key), value) in &last {
            size -= state.tables.of(table).get(key).map_or(0, |old| bytes(key, old));
            size += value.map_or(0, |new| bytes(key, new));
        }
        if state.full || state.capacity.is_some_and(|capacity| size > capacity && size > before) {
            return Err(SeamError::Full);
        }
        for ((table, key), value) in last {
            let rows = Arc::make_mut(&mut state.tables.rows[table as usize]);
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
        }
        state.tables.size = size;
        state.commits += 1;
        match fault {
            Fault::ApplyAndReport(error) => Err(error),
            Fault::None | Fault::Refuse(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    fn put<'a>(key: &'a str, value: &'a str) -> RowChange<'a> {
        RowChange { table: Table::Header, key: key.as_bytes(), value: Some(value.as_bytes()) }
    }

    fn delete(key: &str) -> RowChange<'_> {
        RowChange { table: Table::Header, key: key.as_bytes(), value: None }
    }

    fn get(index: &SimIndex, key: &str) -> Option<String> {
        let mut found = None;
        index
            .reader()
            .get(Table::Header, key.as_bytes(), &mut |value| {
                found = Some(String::from_utf8(value.to_vec()).unwrap());
            })
            .unwrap();
        found
    }

    #[test]
    fn the_simulated_index_keeps_the_contract_of_an_index() {
        conformance::check_index(|| {
            let index = SimIndex::new();
            (index.reader(), index.writer())
        });
    }

    #[test]
    fn a_full_index_refuses_what_grows_it_and_takes_what_frees_it() {
        let index = SimIndex::new();
        let mut writer = index.writer();
        index.capacity(Some(10));
        writer.commit(&[put("a", "1234")]).unwrap();
        assert_eq!(index.size(), 5);
        assert_eq!(writer.commit(&[put("b", "1"), put("c", "12345")]), Err(SeamError::Full));
        assert_eq!(get(&index, "b"), None, "nothing of a refused batch is applied");
        writer.commit(&[put("b", "1234")]).unwrap();
        index.capacity(Some(3));
        writer.commit(&[delete("a")]).unwrap();
        assert_eq!(index.size(), 5);

        index.full(true);
        assert_eq!(writer.commit(&[put("a", "")]), Err(SeamError::Full));
        index.full(false);
        index.capacity(None);
        writer.commit(&[put("a", "again")]).unwrap();
        assert_eq!(get(&index, "a").as_deref(), Some("again"));
    }

    #[test]
    fn a_fault_hits_one_commit_and_applies_nothing_unless_told_to() {
        let index = SimIndex::new();
        let mut writer = index.writer();
        index.fail_next(SeamError::Corrupt("page 7".into()));
        assert_eq!(writer.commit(&[put("a", "1")]), Err(SeamError::Corrupt("page 7".into())));
        assert_eq!(get(&index, "a"), None);
        index.apply_and_fail_next(SeamError::Io("unplugged".into()));
        assert_eq!(writer.commit(&[put("a", "2")]), Err(SeamError::Io("unplugged".into())));
        assert_eq!(get(&index, "a").as_deref(), Some("2"));
        index.read_only(true);
        assert!(matches!(writer.commit(&[put("a", "3")]), Err(SeamError::ReadOnly(_))));
        index.read_only(false);
        writer.commit(&[put("a", "4")]).unwrap();
        assert_eq!(index.commit_count(), 2);
    }

    #[test]
    fn a_snapshot_brings_back_what_was_and_a_wipe_loses_it() {
        let index = SimIndex::new();
        let mut writer = index.writer();
        writer.commit(&[put("a", "old")]).unwrap();
        let backup = index.snapshot();
        writer.commit(&[put("a", "new"), put("b", "new")]).unwrap();
        index.restore(&backup);
        assert_eq!((get(&index, "a").as_deref(), get(&index, "b")), (Some("old"), None));
        assert_eq!(index.size(), 4);
        index.wipe();
        assert_eq!((get(&index, "a"), index.size()), (None, 0));
    }

    #[test]
    fn a_corrupted_byte_is_read_back_changed() {
        let index = SimIndex::new();
        index.writer().commit(&[put("a", "ab")]).unwrap();
        assert!(index.corrupt(Table::Header, b"a", 1));
        assert_eq!(get(&index, "a").as_deref(), Some("a7"));
        assert!(!index.corrupt(Table::Header, b"a", 2));
        assert!(!index.corrupt(Table::Header, b"b", 0));
    }
}
