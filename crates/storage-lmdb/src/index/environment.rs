//! One open LMDB environment, with its tables: opened with care, written in one transaction.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use lmdb::{
    Cursor, Database, DatabaseFlags, Environment, EnvironmentFlags, RoTransaction, RwTransaction,
    Transaction, WriteFlags,
};
use storage::{RowChange, Table, Visit};

use super::header;
use crate::OpenError;

pub(crate) const DATA_FILE: &str = "data.mdb";
const READERS_FILE: &str = "lock.mdb";

/// Size of the file that holds LMDB's table of readers: 64 bytes for each.
const READERS_BYTES: usize = 65_536;

/// Reads at once that the table of readers surely has room for.
pub(crate) const READERS_MIN: usize = READERS_BYTES / 64 - 8;

/// Where in an `MDB_db` of LMDB 0.9 the number of rows stands.
const ENTRIES_AT: usize = 32;

/// Pages that one transaction may have allocated at the end of the file and given back unwritten
/// (`MDB_IDL_UM_MAX`): by so much a sound file may be shorter than its header says.
const UNWRITTEN_MAX: u64 = (1 << 17) - 1;

/// An open environment. Everything it lends is bound to a borrow of it.
#[derive(Debug)]
pub(super) struct Opened {
    env: Environment,
    tables: [Database; Table::ALL.len()],
    /// The main table, whose rows name the others.
    names: Database,
}

impl Opened {
    /// Opens the environment in `dir`, creating what is missing; the data file only if
    /// `may_create`. `dir` must be locked by us.
    pub(super) fn open(dir: &Path, map_size: usize, may_create: bool) -> Result<Self, OpenError> {
        let data = dir.join(DATA_FILE);
        let io = |error: io::Error| OpenError::io(dir, &error);
        prepare_readers(&dir.join(READERS_FILE)).map_err(io)?;
        let found =
            header::read(&data).map_err(io)?.map_err(|reason| OpenError::damaged(dir, reason))?;
        if found.is_none() && !may_create {
            return Err(OpenError::damaged(dir, "data.mdb is missing or empty"));
        }
        if let Some(found) = found {
            lengthen(&data, &found)
                .map_err(io)?
                .map_err(|reason| OpenError::damaged(dir, reason))?;
        }
        // Each table is created by a transaction of its own, the first that there are. An older
        // index without one of them is not what it was; writing to it would harm it further.
        let may_create = found.is_none_or(|header| header.transaction < Table::ALL.len() as u64);
        let opened = Self::open_environment(dir, map_size, may_create);
        if opened.is_err() && found.is_none() {
            // What LMDB began to write when the disk ran full is no data file, and would be
            // taken for a damaged one at the next start. Whether this succeeds changes nothing
            // about the error that is returned.
            let _ = fs::remove_file(&data);
        }
        let opened = opened.map_err(|error| match error {
            lmdb::Error::NotFound => OpenError::damaged(dir, "a table of the index is missing"),
            error => OpenError::lmdb(dir, error),
        })?;
        if found.is_none() {
            // LMDB syncs its file, but not the entry of the directory that names it.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(opened)
    }

    fn open_environment(
        dir: &Path,
        map_size: usize,
        may_create: bool,
    ) -> Result<Self, lmdb::Error> {
        let env = Environment::new()
            // NO_TLS: a thread may read inside a read. NO_READAHEAD: reads are random, and what
            // is read beside them would push hotter pages out. No flag that weakens a commit.
            .set_flags(EnvironmentFlags::NO_TLS | EnvironmentFlags::NO_READAHEAD)
            .set_max_dbs(Table::ALL.len() as u32)
            .set_map_size(map_size)
            .open(dir)?;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            let opened = match env.open_db(Some(table.name())) {
                Err(lmdb::Error::NotFound) if may_create => {
                    env.create_db(Some(table.name()), DatabaseFlags::empty())
                }
                opened => opened,
            };
            tables.push(opened?);
        }
        let tables = tables.try_into().expect("one database per table");
        let names = env.open_db(None)?;
        Ok(Self { env, tables, names })
    }

    pub(super) fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, lmdb::Error> {
        get(&self.env.begin_ro_txn()?, self.tables[table as usize], key, look)
    }

    /// Looks at several rows in one transaction.
    pub(super) fn get_each(
        &self,
        keys: &[(Table, &[u8])],
        look: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), lmdb::Error> {
        let transaction = self.env.begin_ro_txn()?;
        for (number, &(table, key)) in keys.iter().enumerate() {
            let look = &mut |value: &[u8]| look(number, value);
            get(&transaction, self.tables[table as usize], key, look)?;
        }
        Ok(())
    }

    pub(super) fn scan(
        &self,
        table: Table,
        from: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), lmdb::Error> {
        scan(&self.env.begin_ro_txn()?, self.tables[table as usize], from, visit)
    }

    /// Begins a snapshot of everything.
    pub(super) fn snapshot(&self) -> Result<Snapshot<'_>, lmdb::Error> {
        Ok(Snapshot { transaction: self.env.begin_ro_txn()?, opened: self })
    }

    /// Writes all changes in one transaction, fully synced.
    pub(super) fn write(&self, changes: &[RowChange<'_>]) -> Result<(), lmdb::Error> {
        let mut txn = self.env.begin_rw_txn()?;
        for change in changes {
            self.apply(&mut txn, change)?;
        }
        txn.commit()
    }

    fn apply(
        &self,
        txn: &mut RwTransaction<'_>,
        change: &RowChange<'_>,
    ) -> Result<(), lmdb::Error> {
        let table = self.tables[change.table as usize];
        match change.value {
            Some(value) => txn.put(table, &change.key, &value, WriteFlags::empty()),
            None => match txn.del(table, &change.key, None) {
                Err(lmdb::Error::NotFound) => Ok(()),
                deleted => deleted,
            },
        }
    }

    /// Whether LMDB still takes write transactions.
    pub(super) fn is_writable(&self) -> bool {
        self.env.begin_rw_txn().is_ok()
    }

    /// Number of the last committed transaction.
    pub(super) fn transaction(&self) -> Result<usize, lmdb::Error> {
        Ok(self.env.info()?.last_txnid())
    }

    /// Bytes of address space that the file can grow into.
    pub(super) fn map_size(&self) -> Result<usize, lmdb::Error> {
        Ok(self.env.info()?.map_size())
    }
}

/// What stood in the index at one moment, all tables.
pub(super) struct Snapshot<'a> {
    transaction: RoTransaction<'a>,
    opened: &'a Opened,
}

impl Snapshot<'_> {
    pub(super) fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, lmdb::Error> {
        get(&self.transaction, self.opened.tables[table as usize], key, look)
    }

    pub(super) fn scan(
        &self,
        table: Table,
        from: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), lmdb::Error> {
        scan(&self.transaction, self.opened.tables[table as usize], from, visit)
    }

    /// How many rows a table has. LMDB keeps the number in the row of its main table that names
    /// the table (`MDB_db`).
    pub(super) fn row_count(&self, table: Table) -> Result<u64, lmdb::Error> {
        let record = self.transaction.get(self.opened.names, &table.name())?;
        let entries = record.get(ENTRIES_AT..ENTRIES_AT + 8).and_then(<[u8]>::first_chunk);
        entries.map(|entries| u64::from_ne_bytes(*entries)).ok_or(lmdb::Error::Corrupted)
    }
}

fn get(
    transaction: &RoTransaction<'_>,
    table: Database,
    key: &[u8],
    look: &mut dyn FnMut(&[u8]),
) -> Result<bool, lmdb::Error> {
    match transaction.get(table, &key) {
        Ok(value) => {
            look(value);
            Ok(true)
        }
        Err(lmdb::Error::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn scan(
    transaction: &RoTransaction<'_>,
    table: Database,
    from: &[u8],
    visit: Visit<'_>,
) -> Result<(), lmdb::Error> {
    let mut cursor = transaction.open_ro_cursor(table)?;
    // LMDB cannot look for an empty key.
    let rows = if from.is_empty() { cursor.iter_start() } else { cursor.iter_from(from) };
    for row in rows {
        let (key, value) = row?;
        if visit(key, value) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

/// Writes the table of readers in full where it does not have its size. LMDB would make it with a
/// hole, write into that through a map when readers come, and die of SIGBUS if the disk is full
/// by then.
fn prepare_readers(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.len() == READERS_BYTES as u64 => return Ok(()),
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    // Under another name first: half a table would have its size at the next start.
    let draft = path.with_extension("new");
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(&[0; READERS_BYTES])?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        // Of no use to anyone; if it stays, the next start writes over it.
        let _ = fs::remove_file(&draft);
    })
}

/// Makes the file as long as its header says, so that no page in use lies beyond its end: reading
/// such a page through the map would kill the process, while a page of zeros is an error.
fn lengthen(path: &Path, header: &header::Header) -> io::Result<Result<(), String>> {
    let length = fs::metadata(path)?.len();
    let Some(missing) = header.length().checked_sub(length).filter(|&missing| missing > 0) else {
        return Ok(Ok(()));
    };
    if missing > UNWRITTEN_MAX * header.page_size {
        return Ok(Err(format!("data.mdb has {length} of its {} bytes", header.length())));
    }
    tracing::warn!(path = %path.display(), length, missing, "the data file is lengthened");
    File::options().write(true).open(path)?.set_len(header.length())?;
    Ok(Ok(()))
}
