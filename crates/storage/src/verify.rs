//! Checking a replica that nobody serves from: each row for itself, rows against rows, and the log.
//!
//! Reads everything, changes nothing. What is wrong is told as [`Fault`]s; what a fault costs and what
//! to do is said by its [`FaultKind`].

mod census;
mod unchanged;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use values::Tag;

use crate::inspect::show_row;
use crate::log::first_position;
use crate::record::{
    Age, Header, Part, age_unchecked, decode_cleared, due_unchecked, standing_unchecked,
};
use crate::row_key::{
    RowKey, conflict_row, expiry_row, parse_chunks, parse_conflict, parse_elements, parse_expiry,
    parse_remnant, parse_sweep,
};
use crate::{
    EngineConfig, Files, IndexRead, Log, LogRecovery, Logged, Replay, Shards, StorageError, Table,
    TreeCheck, check_row, record_shard, shard_positions,
};

pub use census::check_census;
pub use unchanged::UnchangedFiles;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of what kind: what it costs, what to do.
    pub kind: FaultKind,
    /// Where: table, partition, key; or file and byte.
    pub place: String,
    /// What was found.
    pub what: String,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A file is not what was written.
    File,
    /// A row is not what was written.
    Row,
    /// Rows that belong together do not agree.
    Rows,
    /// A hash tree is other than the rows under it.
    Tree,
    /// A count is other than the rows.
    Count,
    /// A key is listed by what it is not, or not by what it is: as in conflict, or with its deadline.
    List,
    /// Records of the log are gone or cannot be read.
    Log,
}

impl FaultKind {
    /// What to do about it, for people.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::File => {
                "restore the node from a backup, or start it empty: the other owners bring back what \
                 they hold"
            }
            Self::Row => {
                "start the node: what is whole of the key stays, the rest comes from the other owners; \
                 in a cluster of one, restore a backup"
            }
            Self::Rows => {
                "start the node: the collection is brought back to what is whole of it as it is \
                 counted anew, the rest comes from the other owners; in a cluster of one, restore a \
                 backup"
            }
            Self::Tree => "start the node: it counts its hash trees anew in the background",
            Self::Count => "nothing but the counts that are shown rests on it",
            Self::List => {
                "write to the key, or read it with r = n: it is listed anew with its next change; until \
                 then it may lack among the keys in conflict, or not expire by itself"
            }
            Self::Log => {
                "start the node: it keeps the damaged segment aside and reads what is whole; what is \
                 lost comes from the other owners; in a cluster of one, restore a backup"
            }
        }
    }
}

/// Told of each row that was looked at, and of each fault.
pub trait Verifying {
    /// So many more rows were looked at.
    fn passed(&mut self, rows: u64);
    /// Something is wrong.
    fn fault(&mut self, fault: Fault);
}

/// Checks every row of `table` for itself, and that what it belongs to is there. Returns how many there
/// are.
pub fn check_rows(
    index: &impl IndexRead,
    table: Table,
    shards: Shards,
    verifying: &mut impl Verifying,
) -> Result<u64, StorageError> {
    let mut owners = Owners { index, last: None };
    let (mut rows, mut result) = (0, Ok(()));
    index.scan(table, &[], &mut |key, record| {
        rows += 1;
        verifying.passed(1);
        let place = || show_row(table, key, record, shards).place();
        if let Err(error) = check_row(table, key, record) {
            let (place, what) = (place(), error.to_string());
            verifying.fault(Fault { kind: FaultKind::Row, place, what });
            return ControlFlow::Continue(());
        }
        match owners.belongs(table, key, record) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some((kind, what))) => {
                verifying.fault(Fault { kind, place: place(), what: what.into() });
                ControlFlow::Continue(())
            }
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    result.map(|()| rows)
}

/// Finds the header that a row belongs to.
struct Owners<'a, R> {
    index: &'a R,
    /// The header read last, of which place and tag: many rows have the same.
    last: Option<(Vec<u8>, Tag, Held)>,
}

/// What a header says of a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Damaged,
    Whole,
    Collection { is_chunked: bool, is_swept: bool },
}

impl<R: IndexRead> Owners<'_, R> {
    /// What is wrong with how a row stands to its header; `None` if nothing is.
    fn belongs(
        &mut self,
        table: Table,
        key: &[u8],
        record: &[u8],
    ) -> Result<Option<(FaultKind, &'static str)>, StorageError> {
        let (at, tag) = match table {
            Table::Header => return self.is_listed(key, record),
            Table::Element | Table::ElementTree => match parse_elements(key) {
                Some((at, tag, _)) => (at, tag),
                None => return Ok(None),
            },
            Table::Meta => {
                if let Some((siblings, at)) = parse_conflict(key) {
                    return self.is_in_conflict(siblings, at);
                }
                if let Some((is_hidden, round, at)) = parse_remnant(key) {
                    return self.is_remnant(Age { round, is_hidden }, at);
                }
                if let Some((deadline_ms, at)) = parse_expiry(key) {
                    return self.is_due(deadline_ms, &at);
                }
                match parse_sweep(key).or_else(|| parse_chunks(key)) {
                    Some((tag, at)) => (at, tag),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let held = self.held(&at, tag)?;
        let is_chunk = table == Table::ElementTree;
        Ok(match held {
            // The header's own fault is told where it stands.
            Held::Damaged => None,
            Held::Nothing | Held::Whole if table == Table::Element => {
                // Or of a key that was dropped.
                let (marker, mut is_dropped) = (at.sweep(tag), false);
                self.index.get(Table::Meta, &marker, &mut |record| {
                    is_dropped = decode_cleared(&marker, record).is_ok_and(|it| it.is_empty());
                })?;
                let what = "no header says that there is such a collection";
                (!is_dropped).then_some((FaultKind::Rows, what))
            }
            Held::Collection { is_chunked: false, .. } if is_chunk => {
                Some((FaultKind::Tree, "its collection is not counted in chunks"))
            }
            Held::Nothing | Held::Whole if is_chunk => {
                Some((FaultKind::Tree, "there is no such collection"))
            }
            Held::Collection { is_swept: true, .. } if parse_sweep(key).is_some() => {
                Some((FaultKind::Rows, "it waits for the sweep, its header does not"))
            }
            _ => None,
        })
    }

    fn held(&mut self, at: &RowKey, tag: Tag) -> Result<Held, StorageError> {
        if let Some((place, of, held)) = &self.last
            && (place.as_slice(), *of) == (at.as_bytes(), tag)
        {
            return Ok(*held);
        }
        let mut held = Held::Nothing;
        self.index.get(Table::Header, at.as_bytes(), &mut |record| {
            held = match Header::decode(at.as_bytes(), record) {
                Err(_) => Held::Damaged,
                Ok((header, _)) => match header.tags.get(&tag) {
                    None => Held::Nothing,
                    Some(Part::Whole(_)) => Held::Whole,
                    Some(part @ Part::Collection(collection)) => Held::Collection {
                        is_chunked: collection.is_chunked,
                        is_swept: part.is_swept(),
                    },
                },
            };
        })?;
        self.last = Some((at.as_bytes().to_vec(), tag, held));
        Ok(held)
    }

    fn is_remnant(
        &self,
        age: Age,
        at: &[u8],
    ) -> Result<Option<(FaultKind, &'static str)>, StorageError> {
        let mut found = None;
        self.index.get(Table::Header, at, &mut |record| found = age_unchecked(record))?;
        let what = "it is listed as the remnant of a deleted key, and is none";
        Ok((found != Some(age)).then_some((FaultKind::Count, what)))
    }

    fn is_in_conflict(
        &self,
        siblings: u32,
        at: &[u8],
    ) -> Result<Option<(FaultKind, &'static str)>, StorageError> {
        let mut is_true = false;
        self.index.get(Table::Header, at, &mut |record| {
            let standing = standing_unchecked(record);
            is_true = standing.is_in_conflict() && standing.siblings == siblings;
        })?;
        let what = "it is listed as a key in conflict, and is none";
        Ok((!is_true).then_some((FaultKind::List, what)))
    }

    fn is_due(
        &self,
        deadline_ms: u64,
        at: &RowKey,
    ) -> Result<Option<(FaultKind, &'static str)>, StorageError> {
        let mut due = None;
        self.index.get(Table::Header, at.as_bytes(), &mut |record| due = due_unchecked(record))?;
        let what = "it is listed with another deadline than its header has";
        Ok((due != Some(deadline_ms)).then_some((FaultKind::List, what)))
    }

    /// Whether the header's key has the rows by which it is found.
    fn is_listed(
        &self,
        key: &[u8],
        record: &[u8],
    ) -> Result<Option<(FaultKind, &'static str)>, StorageError> {
        let standing = standing_unchecked(record);
        if standing.is_in_conflict() {
            let row = conflict_row(standing.siblings, key);
            if !self.index.get(Table::Meta, &row, &mut |_| ())? {
                return Ok(Some((FaultKind::List, "it is in conflict and not listed so")));
            }
        }
        if let Some(deadline_ms) = due_unchecked(record) {
            let row = expiry_row(deadline_ms, key);
            if !self.index.get(Table::Meta, &row, &mut |_| ())? {
                return Ok(Some((FaultKind::List, "it has a deadline and is not listed with it")));
            }
        }
        Ok(None)
    }
}

/// What [`check_log`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCheck {
    /// What reading the log found.
    pub recovery: LogRecovery,
    /// Records that the index lacks.
    pub replayed: u64,
    /// Live keys, with what they did.
    pub live_keys: u64,
}

/// Reads the log in `files` as a start would, does again over the index what that lacks, in memory, and
/// compares hash trees and collections with what is then there.
pub fn check_log(
    index: &impl IndexRead,
    files: &impl Files,
    directory: u64,
    config: EngineConfig,
    verifying: &mut impl Verifying,
) -> Result<LogCheck, StorageError> {
    let shards = config.shards.shards();
    let positions = shard_positions(index, shards)?;
    let mut replay = Replay::begin(index, config)?;
    let (log, recovery) =
        read_log(files, directory, &positions, shards, verifying, &mut |position, logged| {
            replay.replay(position, logged);
        })?;
    let replayed = replay.records();
    let engine = replay.finish(log.end(), log.is_synced());
    if replayed > 0 {
        engine.check_trees_telling(verifying)?;
    }
    Ok(LogCheck { recovery, replayed, live_keys: engine.live_keys() })
}

/// Reads all of the log in `files`, where no index can be read that says what of it is needed.
pub fn check_log_alone(
    files: &impl Files,
    directory: u64,
    shards: Shards,
    verifying: &mut impl Verifying,
) -> Result<LogRecovery, StorageError> {
    let first = first_position(files)?;
    let (_, recovery) = read_log(files, directory, &[first], shards, verifying, &mut |_, _| ())?;
    Ok(recovery)
}

/// Opens the log without changing it, gives `visit` what there is of it from `positions` on, and tells what is
/// wrong with it.
fn read_log<'a, F: Files>(
    files: &'a F,
    directory: u64,
    positions: &[Option<u64>],
    shards: Shards,
    verifying: &mut impl Verifying,
    visit: &mut dyn FnMut(u64, Logged<'_>),
) -> Result<(Log<UnchangedFiles<'a, F>>, LogRecovery), StorageError> {
    let mut unreadable = BTreeMap::new();
    let (log, recovery) =
        Log::open(UnchangedFiles::new(files), directory, positions, &mut |position, logged| {
            if let Some(record) = logged.record()
                && (record_shard(record).is_none_or(|shard| shard.0 >= shards.count())
                    || crate::log_record::decode(record).is_none())
            {
                unreadable.insert(position, record.len());
            }
            visit(position, logged);
        })?;
    for damage in &recovery.damage {
        let place = format!("{} at byte {}", damage.segment, damage.offset);
        let what = format!("{}, {} bytes of records are lost", damage.what, damage.bytes);
        verifying.fault(Fault { kind: FaultKind::Log, place, what });
    }
    for (position, length) in unreadable {
        let place = format!("the record at position {position}");
        let what = format!("its {length} bytes are whole and are no record of this version");
        verifying.fault(Fault { kind: FaultKind::Log, place, what });
    }
    Ok((log, recovery))
}

/// Compares hash trees and collections with the rows under them, as the index has them.
pub fn check_trees(
    index: &impl IndexRead,
    config: EngineConfig,
    verifying: &mut impl Verifying,
) -> Result<TreeCheck, StorageError> {
    let engine = Replay::begin(index, config)?.finish(0, true);
    engine.check_trees_telling(verifying)
}
