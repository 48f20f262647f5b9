//! Writing a key's header row, and with it all that follows from it: the census, the rows that list the
//! key, and its leaf of the hash tree.

use values::Key;

use sabotage::Bug;

use super::Engine;
use super::trees::StoredLeaf;
use crate::census::{Counted, counted_key};
use crate::record::{Age, Header, Told};
use crate::row_key::{RowKey, conflict_row, expiry_row, remnant_row};
use crate::tree::Share;
use crate::{IndexRead, StorageError, Table};

/// A key's header as it stands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) header: Header,
    pub(super) before: Before,
}

/// What stands before a change of a key's header row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// What the row tells.
    pub(super) told: Told,
    /// The row of its leaf in one class, if that was looked at.
    pub(super) leaf: Option<StoredLeaf>,
}

/// Under what a key is listed: its siblings if it is in conflict, a deadline, its age as a remnant. Mostly under nothing.
fn listed_by(told: &Told) -> (Option<u32>, Option<u64>, Option<Age>) {
    let Told { live, siblings, due_ms, age, .. } = *told;
    ((live > 1 || siblings > 1).then_some(siblings), due_ms, age)
}

/// Keys of the rows that list it.
fn lists(at: &[u8], told: &Told) -> [Option<Vec<u8>>; 3] {
    let (siblings, due_ms, age) = listed_by(told);
    [
        siblings.map(|siblings| conflict_row(siblings, at)),
        due_ms.map(|due_ms| expiry_row(due_ms, at)),
        age.map(|age| remnant_row(age.is_hidden, age.round, at)),
    ]
}

impl<R: IndexRead> Engine<R> {
    /// What a key's header row tells; of one that is not there, what that of a key that never was does.
    fn told(&self, at: &[u8]) -> Result<Told, StorageError> {
        let told = self.rows.get(Table::Header, at, |record| Told::by(at, record))?;
        Ok(told.unwrap_or_default())
    }

    /// Changes the header row of `key` at `at`, and what follows from it. `before`: what stands there
    /// now, if that is known. Fails before it changes anything.
    pub(super) fn put_header(
        &mut self,
        at: &RowKey,
        key: &Key,
        header: &mut Header,
        before: Option<Before>,
    ) -> Result<(), StorageError> {
        header.age = Age { round: self.round(), is_hidden: false };
        self.write_header(at, key, header, before)
    }

    /// The same, of a header that says itself how old it is.
    pub(super) fn write_header(
        &mut self,
        at: &RowKey,
        key: &Key,
        header: &Header,
        before: Option<Before>,
    ) -> Result<(), StorageError> {
        let record = header.encode(at, key, self.trees.class_of(key));
        let before = match before {
            Some(before) => before,
            None => Before { told: self.told(at.as_bytes())?, leaf: None },
        };
        let mut after = Told::by_whole(at.as_bytes(), &record);
        let is_forgotten = sabotage::is(Bug::DeletedForgotten) && after.live == 0;
        if is_forgotten {
            after.share = Share::Nothing;
        }
        self.follow(at.as_bytes(), before, after)?;
        let record = Some(record).filter(|_| !is_forgotten);
        self.rows.put_shared(Table::Header, at.shared(), record);
        Ok(())
    }

    /// Drops the header row at `row_key`, and what follows from it. Returns whether there is one. Fails
    /// before it changes anything.
    pub(super) fn drop_header(&mut self, row_key: &[u8]) -> Result<bool, StorageError> {
        let told = self.rows.get(Table::Header, row_key, |record| Told::by(row_key, record))?;
        let Some(told) = told else { return Ok(false) };
        self.follow(row_key, Before { told, leaf: None }, Told::default())?;
        self.rows.put(Table::Header, row_key, None);
        Ok(true)
    }

    /// Changes what follows from a header row that tells something else than before.
    fn follow(
        &mut self,
        at: &[u8],
        Before { told: before, leaf }: Before,
        after: Told,
    ) -> Result<(), StorageError> {
        self.change_share(at, before.share, after.share, leaf)?;
        if listed_by(&before) != listed_by(&after) {
            for (was_listed, is_listed) in lists(at, &before).into_iter().zip(lists(at, &after)) {
                if was_listed != is_listed {
                    self.list_anew(was_listed, is_listed);
                }
            }
        }
        let shards = self.config.shards.shards();
        let counts = |told: &Told| (told.live.min(2), told.siblings > 1);
        if counts(&before) != counts(&after) {
            for (told, added) in [(before, false), (after, true)] {
                if let Some(counted) = counted_key(at, told.live, told.siblings, shards) {
                    self.count(counted, added);
                }
            }
        }
        Ok(())
    }

    /// Changes the row that lists a key in conflict, one with a deadline, or a remnant.
    fn list_anew(&mut self, before: Option<Vec<u8>>, after: Option<Vec<u8>>) {
        for (row, value) in [(before, None), (after, Some(Vec::new()))] {
            if let Some(row) = row {
                self.rows.put(Table::Meta, &row, value);
            }
        }
    }

    pub(super) fn count(&mut self, counted: Counted, added: bool) {
        if added {
            self.census.add(&counted)
        } else {
            self.census.remove(&counted)
        }
        self.current.counted.push((counted, added));
    }
}
