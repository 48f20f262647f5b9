//! The memtable: rows changed and not yet committed, over the committed index.
//!
//! Invariants: a read sees every change made before it; one batch is under way at a time, so a
//! batch that fails leaves nothing behind it that rests on it (a header that was committed after
//! its element's row failed would claim to have seen what is not there).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use crate::{IndexRead, RowChange, SeamError, StorageError, Table};

/// Names a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Changes for the index's writer, to be committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// To report the result under.
    pub id: BatchId,
    /// What to commit, in order of table and key; each row once.
    pub changes: Vec<RowChange>,
}

impl From<SeamError> for StorageError {
    fn from(error: SeamError) -> Self {
        match error {
            SeamError::Full => Self::Full,
            SeamError::ReadOnly(why) => Self::ReadOnly(why),
            SeamError::Corrupt(why) => Self::Corrupt(why),
            SeamError::Io(why) => Self::Io(why),
        }
    }
}

/// A changed row: its value, or none where it was deleted.
#[derive(Debug)]
struct Slot {
    value: Option<Vec<u8>>,
    /// The batch that carries the change.
    batch: BatchId,
}

type RowName = (Table, Vec<u8>);

/// The key right after `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Memtable<R> {
    reader: R,
    tables: [BTreeMap<Vec<u8>, Slot>; Table::ALL.len()],
    /// Bytes of all keys and values in `tables`.
    bytes: usize,
    /// Rows changed since the last batch was taken, each once.
    dirty: Vec<RowName>,
    /// The batch that will carry them.
    next: BatchId,
    under_way: Option<(BatchId, Vec<RowName>)>,
}

impl<R: IndexRead> Memtable<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            tables: Default::default(),
            bytes: 0,
            dirty: Vec::new(),
            next: BatchId(0),
            under_way: None,
        }
    }

    /// Looks at a row in place.
    pub(crate) fn get<T>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        if let Some(slot) = self.tables[table as usize].get(key) {
            return Ok(slot.value.as_deref().map(look));
        }
        let (mut look, mut seen) = (Some(look), None);
        self.reader.get(table, key, &mut |value| seen = look.take().map(|look| look(value)))?;
        Ok(seen)
    }

    /// Visits rows whose keys begin with `prefix` and are not less than `from`, in order of key.
    pub(crate) fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let from = from.max(prefix);
        let mut changed = self.tables[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        let mut ended = false;
        self.reader.scan(table, from, &mut |key, value| {
            if !key.starts_with(prefix) {
                return ControlFlow::Break(());
            }
            while let Some((other, slot)) = changed.next_if(|(other, _)| other.as_slice() <= key) {
                if let Some(value) = &slot.value
                    && visit(other, value).is_break()
                {
                    ended = true;
                    return ControlFlow::Break(());
                }
                if other == key {
                    return ControlFlow::Continue(());
                }
            }
            let step = visit(key, value);
            ended = step.is_break();
            step
        })?;
        if !ended {
            for (key, slot) in changed {
                if let Some(value) = &slot.value
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Changes a row.
    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let next = self.next;
        self.bytes += length(&value);
        if let Some(slot) = self.tables[table as usize].get_mut(key.as_slice()) {
            self.bytes -= length(&slot.value);
            slot.value = value;
            if slot.batch != next {
                slot.batch = next;
                self.dirty.push((table, key));
            }
            return;
        }
        self.bytes += key.len();
        self.tables[table as usize].insert(key.clone(), Slot { value, batch: next });
        self.dirty.push((table, key));
    }

    /// Bytes that wait for the disk.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows were changed since the last batch was taken.
    pub(crate) const fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a batch was taken whose result is not known.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Everything changed since the last batch; `None` if nothing, or while one is under way.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        if self.dirty.is_empty() || self.under_way.is_some() {
            return None;
        }
        let mut names = std::mem::take(&mut self.dirty);
        // In order of key, as a B-tree is written best.
        names.sort_unstable();
        let changes = names
            .iter()
            .map(|(table, key)| RowChange {
                table: *table,
                key: key.clone(),
                value: self.tables[*table as usize].get(key).and_then(|slot| slot.value.clone()),
            })
            .collect();
        let id = self.next;
        self.next = BatchId(id.0 + 1);
        self.under_way = Some((id, names));
        Some(Batch { id, changes })
    }

    /// Whether `batch` is the one under way.
    pub(crate) fn awaits(&self, batch: BatchId) -> bool {
        self.under_way.as_ref().is_some_and(|(id, _)| *id == batch)
    }

    /// The batch under way was committed: its rows are read from the index again.
    pub(crate) fn committed(&mut self) {
        let Some((id, names)) = self.under_way.take() else { return };
        for (table, key) in names {
            let rows = &mut self.tables[table as usize];
            if rows.get(&key).is_some_and(|slot| slot.batch == id)
                && let Some(slot) = rows.remove(&key)
            {
                self.bytes -= key.len() + slot.value.map_or(0, |value| value.len());
            }
        }
    }

    /// The batch under way failed: everything not committed is gone.
    pub(crate) fn failed(&mut self) {
        self.tables = Default::default();
        self.bytes = 0;
        self.dirty.clear();
        self.under_way = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{IndexWrite, SimIndex};

    fn rows<R: IndexRead>(
        memtable: &Memtable<R>,
        prefix: &[u8],
        from: &[u8],
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        memtable
            .scan(Table::Header, prefix, from, |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        rows
    }

    proptest! {
        /// Against one map that takes every change at once.
        #[test]
        fn reads_see_the_memtable_over_the_index(
            steps in prop::collection::vec((prop::collection::vec(0u8..3, 1..4), any::<Option<u8>>(), 0u8..6), 0..60),
            prefix in prop::collection::vec(0u8..3, 0..2),
            from in prop::collection::vec(0u8..3, 0..3),
        ) {
            let index = SimIndex::new();
            let mut writer = index.writer();
            let mut memtable = Memtable::new(index.reader());
            let mut model = BTreeMap::new();
            let mut taken = None;
            for (key, value, step) in steps {
                match value {
                    Some(value) => model.insert(key.clone(), vec![value]),
                    None => model.remove(&key),
                };
                memtable.put(Table::Header, key, value.map(|value| vec![value]));
                match step {
                    0 if taken.is_none() => {
                        taken = memtable.take_batch();
                        if let Some(batch) = &taken {
                            writer.commit(&batch.changes).unwrap();
                        }
                    }
                    1 if taken.take().is_some() => memtable.committed(),
                    _ => {}
                }
                let within = |key: &&Vec<u8>| key.starts_with(&prefix);
                let expected: Vec<_> = model.iter().filter(|(key, _)| within(key))
                    .map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(rows(&memtable, &prefix, &[]), expected.clone());
                let after: Vec<_> = expected.iter().filter(|(key, _)| *key > from).cloned().collect();
                prop_assert_eq!(rows(&memtable, &prefix, &successor(&from)), after);
                for key in [vec![0], vec![1, 2]] {
                    let got = memtable.get(Table::Header, &key, <[u8]>::to_vec).unwrap();
                    prop_assert_eq!(got.as_ref(), model.get(&key));
                }
            }
            if taken.is_some() {
                memtable.committed();
            }
            if let Some(batch) = memtable.take_batch() {
                writer.commit(&batch.changes).unwrap();
                memtable.committed();
            }
            prop_assert_eq!(memtable.bytes(), 0);
            prop_assert!(memtable.tables[Table::Header as usize].is_empty());
        }
    }
}
