//! One replica's engine: commands in, answers and batches out.
//!
//! Rows (`row_key`, `record`) are read through the memtable. A command changes rows in memory at
//! once; the answer that acknowledges it waits until the batch that carries them, or that carries
//! what it found already there, was committed. A failed batch takes everything with it that was
//! not committed, and the reads go back to what the disk has.
//!
//! Source: design.md, Storage. Invariants: no acknowledgement before its batch is durable; data
//! enters a replica by a merge and in no other way; a dot is issued once (`epochs`).

mod collection;
mod conflicts;
mod disk;
mod element_tree;
mod listing;
mod look;
mod merge;
mod notes;
mod outbox;
mod rebuild;
mod sweep;
mod trees;

use self::conflicts::conflict_of;

#[cfg(test)]
mod tests;

pub(crate) use element_tree::Chunk;
pub use trees::TreeCheck;

use std::sync::Arc;

use clock::{Actor, CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use values::{Key, Limits, Mint, Operation, Prepared, Scope, Tag, UpdateError, View};

use crate::census::{Census, ConflictCounts, Counted, counted_key};
use crate::epochs::Epochs;
use crate::memtable::{Batch, BatchId, Memtable};
use crate::record::{Header, share};
use crate::row_key::RowKey;
use crate::tree::Share;
use crate::{Answer, Command, IndexRead, SeamError, StorageError, Table, Ticket};

/// What an engine is told when it opens.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Whose replica it is.
    pub node: NodeId,
    /// 64 random bits, drawn for this engine's start and for nothing else: that no dot is issued
    /// twice rests on them.
    pub process: u64,
    /// Into how many partitions the ring is cut.
    pub partitions: PartitionCount,
    /// Once so many bytes wait for the disk, writes are refused as
    /// [`Overloaded`](StorageError::Overloaded).
    pub pending_bytes_max: usize,
}

/// One change of one row, not made yet.
type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// One replica's state, over an index.
#[derive(Debug)]
pub struct Engine<R> {
    config: EngineConfig,
    rows: Memtable<R>,
    epochs: Epochs,
    census: Census,
    /// Answers that wait for the rows changed since the last batch was taken, and what to do to
    /// the census should they be lost.
    current: Waiting,
    /// The same of the batch under way.
    under_way: Waiting,
    sweep: sweep::Progress,
    trees: trees::Trees,
    disk: disk::Disk,
    /// Whether the census may be wrong, because what is on the disk could not be read.
    is_miscounted: bool,
    damaged: u64,
}

/// An operation to coordinate.
struct Asked {
    operation: Operation,
    observed: CausalContext,
    shown: Option<View>,
    stamp: Stamp,
    named: Option<Actor>,
    limits: Arc<Limits>,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: Vec<(Ticket, Answer)>,
    /// Changes of the census, in order.
    counted: Vec<Recorded>,
    /// The header rows and tags that dots were minted for.
    minted: Vec<(Vec<u8>, Tag)>,
}

/// One change of the census.
#[derive(Debug)]
struct Recorded {
    table: Table,
    /// The row that was counted, or what the rows that are counted as one begin with.
    place: Vec<u8>,
    counted: Counted,
    /// Whether it is counted now, or no longer is.
    added: bool,
}

impl<R: IndexRead> Engine<R> {
    /// Opens the replica that `reader` shows, and counts its live keys and those pending for others.
    pub fn open(reader: R, config: EngineConfig) -> Result<Self, StorageError> {
        let rows = Memtable::new(reader);
        Ok(Self {
            epochs: Epochs::new(config.node, config.process),
            census: Census::of(&rows, config.partitions)?,
            rows,
            trees: trees::Trees::new(config.partitions),
            config,
            current: Waiting::default(),
            under_way: Waiting::default(),
            sweep: sweep::Progress::default(),
            disk: disk::Disk::default(),
            is_miscounted: false,
            damaged: 0,
        })
    }

    /// Executes one command. Answers that are ready are pushed; those that acknowledge a write
    /// come from [`committed`](Self::committed), unless nothing is left to wait for.
    pub fn execute(
        &mut self,
        ticket: Ticket,
        command: Command,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let done = match command {
            Command::Read { key, scope } => self.read(&key, &scope).map(|view| {
                answers.push((ticket, Answer::View(view)));
            }),
            Command::ReadHeld { key, scope } => self.read_held(&key, &scope).map(|view| {
                answers.push((ticket, Answer::View(view)));
            }),
            Command::Update { key, operation, observed, shown, stamp, named, limits } => {
                let asked = Asked { operation, observed, shown, stamp, named, limits };
                self.update(ticket, &key, &asked, answers)
            }
            Command::Merge { key, delta, show } => self.merge(&key, &delta).and_then(|()| {
                let view = show.map(|scope| self.read(&key, &scope)).transpose()?;
                self.settle(ticket, Answer::Merged(view), answers);
                Ok(())
            }),
            Command::Defer { owner, key, delta } => self.defer(owner, &key, &delta).map(|()| {
                self.settle(ticket, Answer::Durable, answers);
            }),
            Command::Outbox { owner, after, limit } => {
                self.outbox(owner, after.as_ref(), limit).map(|pending| {
                    answers.push((ticket, Answer::Outbox(pending)));
                })
            }
            Command::Delivered { position, version } => {
                self.delivered(&position, version).map(|()| {
                    self.settle(ticket, Answer::Durable, answers);
                })
            }
            Command::List { first, last, bucket, after, limit } => {
                self.list(first..=last, &bucket, after.as_ref(), limit).map(|listed| {
                    answers.push((ticket, Answer::Listed(listed)));
                })
            }
            Command::Count { partitions, bucket } => {
                answers.push((ticket, Answer::Count(self.census.keys(&bucket, &partitions))));
                Ok(())
            }
            Command::Note { notes } => self.note(notes).map(|()| {
                self.settle(ticket, Answer::Durable, answers);
            }),
            Command::Explain { key } => self.read(&key, &Scope::Whole).map(|view| {
                let pending_for = self.pending_owners(&key);
                answers.push((ticket, Answer::Explained { key, view, pending_for }));
            }),
            Command::Conflicts { after, limit } => {
                self.list_conflicts(after.as_ref(), limit).map(|page| {
                    answers.push((ticket, Answer::Conflicts(page)));
                })
            }
            Command::TreeRoots { n, partitions } => self.tree_roots(n, &partitions).map(|nodes| {
                answers.push((ticket, Answer::TreeNodes(nodes)));
            }),
            Command::TreeChildren { n, partition, path } => {
                self.tree_children(n, partition, &path).map(|nodes| {
                    answers.push((ticket, Answer::TreeNodes(nodes)));
                })
            }
            Command::ElementNodes { key, tag, ranges } => {
                self.element_nodes(&key, tag, &ranges).map(|nodes| {
                    answers.push((ticket, Answer::TreeNodes(nodes)));
                })
            }
            Command::ElementChildren { key, tag, range } => {
                self.element_children(&key, tag, &range).map(|children| {
                    answers.push((ticket, Answer::ElementChildren(children)));
                })
            }
            Command::ElementKeys { key, tag, range, limit } => {
                self.element_keys(&key, tag, &range, limit).map(|keys| {
                    answers.push((ticket, Answer::ElementKeys(keys)));
                })
            }
            Command::TreeKeys { n, partition, path, after, limit } => {
                self.tree_keys(n, partition, &path, after.as_ref(), limit).map(|keys| {
                    answers.push((ticket, Answer::TreeKeys(keys)));
                })
            }
        };
        if let Err(error) = done {
            if matches!(error, StorageError::Corrupt(_)) {
                self.damaged += 1;
            }
            answers.push((ticket, Answer::Failed(error)));
        }
    }

    /// Everything changed since the last batch, for the index's writer. `None` if there is
    /// nothing, or while a batch is under way: the next one gathers meanwhile, and may rest on it.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let batch = self.rows.take_batch()?;
        self.under_way = std::mem::take(&mut self.current);
        Some(batch)
    }

    /// The writer's result for the batch under way: releases the answers that waited for it.
    ///
    /// If it failed, every write not committed is answered [`Answer::Failed`] and no longer
    /// visible, and updates are refused until a batch is committed again.
    pub fn committed(
        &mut self,
        batch: BatchId,
        result: Result<(), SeamError>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        if !self.rows.awaits(batch) {
            return;
        }
        let done = std::mem::take(&mut self.under_way);
        let Err(error) = result else {
            self.rows.committed();
            self.disk_works();
            answers.extend(done.answers);
            return;
        };
        let lost = std::mem::take(&mut self.current);
        self.disk_failed(&error, &done, &lost);
        let error = StorageError::from(error);
        let waiting = done.answers.into_iter().chain(lost.answers);
        answers.extend(waiting.map(|(ticket, _)| (ticket, Answer::Failed(error.clone()))));
    }

    /// Whether nothing waits for the disk.
    pub fn is_settled(&self) -> bool {
        !self.rows.is_dirty() && !self.rows.is_under_way()
    }

    /// Number of keys with something live.
    pub fn live_keys(&self) -> u64 {
        self.census.live_keys()
    }

    /// Number of keys in conflict.
    pub const fn conflicts(&self) -> ConflictCounts {
        self.census.conflicts()
    }

    /// Number of keys of which deltas are pending for `owner`.
    pub fn pending_for(&self, owner: NodeId) -> u64 {
        self.census.pending(owner)
    }

    /// Bytes that wait for the disk.
    pub fn pending_bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// How often a damaged record was met since the engine opened.
    pub fn damaged_count(&self) -> u64 {
        self.damaged
    }

    /// Coordinates an operation. A damaged key is first brought back to what is whole of it.
    fn update(
        &mut self,
        ticket: Ticket,
        key: &Key,
        asked: &Asked,
        answers: &mut Vec<(Ticket, Answer)>,
    ) -> Result<(), StorageError> {
        self.check_disk()?;
        self.check_room()?;
        let at = RowKey::of(key);
        let answer = match self.try_update(&at, key, asked) {
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild(&at, key)?;
                self.try_update(&at, key, asked)?
            }
            done => done?,
        };
        let is_prepared = matches!(answer, Answer::Prepared { .. });
        answers.push((ticket, answer));
        if is_prepared {
            self.settle(ticket, Answer::Durable, answers);
        }
        Ok(())
    }

    fn try_update(
        &mut self,
        at: &RowKey,
        key: &Key,
        asked: &Asked,
    ) -> Result<Answer, StorageError> {
        let Asked { operation, observed, shown, stamp, named, limits } = asked;
        let header = self.header(at, key)?;
        let mut view = self.show(at, key, &header, &operation.scope())?;
        let tag = operation.minted_tag();
        let local = view.value.context(tag);
        if tag == Tag::BYTES {
            // Of all types only this one merges what the client has seen.
            self.epochs.observe(at.as_bytes(), tag, local, observed);
        }
        if let Some(shown) = shown {
            self.epochs.observe(at.as_bytes(), tag, local, shown.value.context(tag));
        }
        let actor = match named {
            Some(actor) => *actor,
            None => self.actor(at, tag, local)?,
        };
        if let Some(shown) = shown {
            view.merge(shown);
        }
        let prepare = |view: &View, actor| {
            operation.prepare(view, observed, Mint { actor, stamp: *stamp }, limits)
        };
        let mut prepared = prepare(&view, actor);
        if named.is_none() && matches!(prepared, Err(UpdateError::ActorDoubted)) {
            // This actor can go no further with the key: one of a new epoch can.
            self.epochs.doubt();
            let actor = self.actor(at, tag, view.value.context(tag))?;
            prepared = prepare(&view, actor);
        }
        let Prepared { delta, changed, repeated, minted } = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Answer::Refused(refused)),
        };
        let merged = self.merged(at, key, header, &delta)?;
        // Within the scope this is what reading it again would show, for less.
        view.value.apply(&delta);
        view.collections = merged.header.summaries();
        self.make(at, key, merged)?;
        self.current.minted.push((at.as_bytes().to_vec(), tag));
        Ok(Answer::Prepared { delta, changed, repeated, minted, view })
    }

    /// Who mints for `tag` of the key at `at`, whose context is `context`.
    fn actor(
        &mut self,
        at: &RowKey,
        tag: Tag,
        context: &CausalContext,
    ) -> Result<Actor, StorageError> {
        let actor = self.epochs.actor(at.as_bytes(), tag, context);
        actor.ok_or_else(|| {
            StorageError::Io("this process has drawn every epoch: restart the node".into())
        })
    }

    /// Gives `answer` once everything that is visible now is durable: also what changed nothing
    /// rests on what it found.
    fn settle(&mut self, ticket: Ticket, answer: Answer, answers: &mut Vec<(Ticket, Answer)>) {
        if self.rows.is_dirty() {
            self.current.answers.push((ticket, answer));
        } else if self.rows.is_under_way() {
            self.under_way.answers.push((ticket, answer));
        } else {
            answers.push((ticket, answer));
        }
    }

    fn check_room(&self) -> Result<(), StorageError> {
        let bytes = self.rows.bytes();
        if bytes > self.config.pending_bytes_max {
            return Err(StorageError::Overloaded(bytes));
        }
        Ok(())
    }

    /// Changes the header row of `key` at `at`, and the census and the hash tree with it. Fails
    /// before it changes anything.
    fn put_header(&mut self, at: &RowKey, key: &Key, header: &Header) -> Result<(), StorageError> {
        let record = header.encode(at, key, self.trees.class_of(key));
        let partitions = self.config.partitions;
        let counted = |record: &[u8]| counted_key(at.as_bytes(), record, partitions);
        let looked = self.rows.get(Table::Header, at.as_bytes(), |record| {
            (counted(record), conflict_of(at, record), share(at.as_bytes(), record))
        })?;
        let (before, was_listed, share_before) = looked.unwrap_or((None, None, Share::Nothing));
        let (after, is_listed) = (counted(&record), conflict_of(at, &record));
        if was_listed != is_listed {
            self.list_conflict(was_listed, is_listed);
        }
        self.change_share(at.as_bytes(), share_before, share(at.as_bytes(), &record))?;
        if before != after {
            for (counted, added) in [(before, false), (after, true)] {
                if let Some(counted) = counted {
                    self.count(Table::Header, at.as_bytes().to_vec(), counted, added);
                }
            }
        }
        self.rows.put(Table::Header, at.as_bytes().to_vec(), Some(record));
        Ok(())
    }

    /// Changes the row that lists a key in conflict.
    fn list_conflict(&mut self, before: Option<Vec<u8>>, after: Option<Vec<u8>>) {
        for (row, value) in [(before, None), (after, Some(Vec::new()))] {
            if let Some(row) = row {
                self.rows.put(Table::Meta, row, value);
            }
        }
    }

    fn count(&mut self, table: Table, place: Vec<u8>, counted: Counted, added: bool) {
        if added {
            self.census.add(&counted)
        } else {
            self.census.remove(&counted)
        }
        self.current.counted.push(Recorded { table, place, counted, added });
    }

    /// What a place counts as now.
    fn counted_at(&self, table: Table, place: &[u8]) -> Result<Option<Counted>, StorageError> {
        if table == Table::Outbox {
            return self.pending_at(place);
        }
        let counted = |record: &[u8]| counted_key(place, record, self.config.partitions);
        Ok(self.rows.get(table, place, counted)?.flatten())
    }
}
