//! One replica's engine: commands in, answers and batches out.
//!
//! Rows (`row_key`, `record`) are read through the memtable. A command changes rows in memory at
//! once and leaves a record of what it did (`log_record`); records are taken in batches, for the
//! log, and rows go into the index now and then, in checkpoints. The answer that acknowledges a
//! command waits until the batch that carries its record, or that of what it found already there, is
//! as durable as its bucket asks. A batch that fails takes with it what it changed and what was
//! changed since, and the reads go back to what the log has. Opening an engine replays what the
//! index lacks of the log (`replay`).
//!
//! Source: design.md, Storage. Invariants: no acknowledgement before its batch is durable; data
//! enters a replica by a merge and in no other way; a dot is issued once (`epochs`); what the index
//! holds of a shard, and the records of the shard from there on, give what the memtable shows.

mod collection;
mod conflicts;
mod disk;
mod element_tree;
mod expiry;
mod forget;
mod listing;
mod look;
mod merge;
mod notes;
mod outbox;
mod rebuild;
mod remnants;
mod replay;
mod sweep;
mod trees;
mod write_out;

use self::conflicts::conflict_of;
use self::expiry::expiry_of;
use self::remnants::remnant_of;

#[cfg(test)]
mod tests;

pub(crate) use element_tree::Chunk;
pub use replay::Replay;
pub use trees::TreeCheck;
pub use write_out::WrittenRows;

use std::sync::Arc;

use clock::{Actor, CausalContext, NodeId, Stamp};
use ring::Token;
use sabotage::Bug;
use values::{
    Field, Key, Lifetime, Limits, Mint, Operation, Prepared, Scope, State, Tag, UpdateError, View,
};

use crate::census::{Census, ConflictCounts, Counted, counted_key};
use crate::epochs::Epochs;
use crate::log_record::{self, RecordOut};
use crate::memtable::{BatchId, Memtable};
use crate::record::{Age, Header, share};
use crate::row_key::RowKey;
use crate::tree::Share;
use crate::{
    Answer, Appended, Command, Durability, Forgetting, IndexRead, SeamError, Shard, ShardSet,
    StorageError, Table, Ticket,
};

/// What an engine is told when it opens.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Whose replica it is.
    pub node: NodeId,
    /// 64 random bits, drawn for this engine's start and for nothing else: that no dot is issued
    /// twice rests on them.
    pub process: u64,
    /// The shards whose rows it holds.
    pub shards: ShardSet,
    /// Once rows of so many bytes wait for a checkpoint, writes are refused as
    /// [`Overloaded`](StorageError::Overloaded).
    pub pending_bytes_max: usize,
    /// Once so many bytes are pending for one owner, [`Command::Defer`] for it is refused as
    /// [`HintsFull`](StorageError::HintsFull).
    pub hint_bytes_max: u64,
}

/// Records for the log, to be appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// To report the result under.
    pub id: BatchId,
    /// What to [append](crate::Log::append). May be empty, where only the sync is asked for.
    pub records: Vec<u8>,
    /// Whether it must be durable before the result is reported.
    pub sync: bool,
}

/// Adds to a view of some fields of a map the increments of the others that `removal` shows.
fn add_tallies(view: &mut View, removal: &View) {
    let removal = removal.value.state(Tag::MAP);
    if let (Some(State::Map(mine)), Some(State::Map(more))) =
        (view.value.0.get_mut(&Tag::MAP), removal)
    {
        for (name, field) in &more.store.0 {
            let tally = field.tally.clone();
            let only = || Field { tally, ..Field::default() };
            mine.store.0.entry(name.clone()).or_insert_with(only);
        }
    }
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
    /// What was done since the last batch was taken.
    current: Waiting,
    /// What the batch under way carries.
    under_way: Waiting,
    /// Where in the log all that was done before the batch under way ends.
    position: u64,
    /// Whether some of that may not be durable.
    is_unsynced: bool,
    out: write_out::Progress,
    sweep: sweep::Progress,
    expiry: expiry::Progress,
    trees: trees::Trees,
    disk: disk::Disk,
    damaged: u64,
    /// The round of the barrier that was entered last.
    round: u64,
    /// Up to which row a step of forgetting has come.
    forgotten: Option<(Forgetting, Vec<u8>)>,
}

/// An operation to coordinate.
struct Asked {
    operation: Operation,
    lifetime: Lifetime,
    observed: CausalContext,
    shown: Option<View>,
    stamp: Stamp,
    named: Option<Actor>,
    limits: Arc<Limits>,
}

/// A batch before its result is known.
#[derive(Debug, Default)]
struct Waiting {
    records: Vec<u8>,
    /// How many bytes of records it has, also once they were taken.
    bytes: usize,
    /// Whether it must be durable for its answers to be given.
    sync: bool,
    /// Whether what is acknowledged later may rest on it: on a delivery nothing does.
    is_relied_on: bool,
    answers: Vec<(Ticket, Answer)>,
    /// Changes of the census, in order: what, and whether it is counted now or no longer is.
    counted: Vec<(Counted, bool)>,
    /// The header rows and tags that dots were minted for.
    minted: Vec<(Vec<u8>, Tag)>,
}

impl<R: IndexRead> Engine<R> {
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
            Command::Update {
                key,
                operation,
                lifetime,
                observed,
                shown,
                stamp,
                named,
                limits,
                durability,
            } => {
                let asked = Asked { operation, lifetime, observed, shown, stamp, named, limits };
                self.update(ticket, &key, &asked, durability, answers)
            }
            Command::Merge { key, delta, show, durability } => {
                self.merge(&key, &delta).and_then(|()| {
                    let view = show.map(|scope| self.read(&key, &scope)).transpose()?;
                    let at_once = sabotage::is(Bug::ReplicaAcksBeforeCommit);
                    let durability = if at_once { Durability::None } else { durability };
                    self.settle(ticket, Answer::Merged(view), durability, answers);
                    Ok(())
                })
            }
            Command::Complete { key, tag, seen, context, durability } => {
                self.complete(&key, tag, &seen, context).map(|()| {
                    self.settle(ticket, Answer::Merged(None), durability, answers);
                })
            }
            Command::Defer { owner, key, delta, durability } => {
                self.defer(owner, &key, &delta).map(|()| {
                    let at_once = sabotage::is(Bug::HintBeforeCommit);
                    let durability = if at_once { Durability::None } else { durability };
                    self.settle(ticket, Answer::Durable, durability, answers);
                })
            }
            Command::Outbox { owner, after, limit } => {
                self.outbox(owner, after.as_ref(), limit).map(|pending| {
                    answers.push((ticket, Answer::Outbox(pending)));
                })
            }
            Command::Delivered { position, version } => {
                self.delivered(&position, version).map(|()| {
                    // Lost, it is delivered again: that is worth no sync of its own.
                    self.settle(ticket, Answer::Durable, Durability::Interval, answers);
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
                self.settle(ticket, Answer::Durable, Durability::Sync, answers);
            }),
            Command::Enter { round } => self.enter_round(round).map(|()| {
                self.settle(ticket, Answer::Durable, Durability::Sync, answers);
            }),
            Command::ForgetRemnants { step, below, limit } => {
                self.forget_remnants(step, below, limit).map(|more| {
                    self.settle(
                        ticket,
                        Answer::RemnantsForgotten { more },
                        Durability::Sync,
                        answers,
                    );
                })
            }
            Command::OutboxOwners => {
                answers.push((ticket, Answer::OutboxOwners(self.census.owners().collect())));
                Ok(())
            }
            Command::Sync => {
                self.settle(ticket, Answer::Durable, Durability::Sync, answers);
                Ok(())
            }
            Command::IsEmpty { partition, keys } => {
                self.is_empty(partition, keys).map(|is_empty| {
                    answers.push((ticket, Answer::IsEmpty(is_empty)));
                })
            }
            Command::Forget { partition, keys, limit } => {
                self.forget(partition, keys, limit).map(|(keys, is_last)| {
                    let answer = Answer::Forgotten { keys, is_last };
                    // Lost, it is dropped again: that is worth no sync of its own.
                    self.settle(ticket, answer, Durability::Interval, answers);
                })
            }
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
            Command::ElementNodes { key, tag, ranges, seen } => {
                let nodes = self.check_seen(&key, tag, &seen);
                nodes.and_then(|()| self.element_nodes(&key, tag, &ranges)).map(|nodes| {
                    self.show_elements(ticket, Answer::TreeNodes(nodes), answers);
                })
            }
            Command::ElementChildren { key, tag, range, seen } => {
                let children = self.check_seen(&key, tag, &seen);
                let children = children.and_then(|()| self.element_children(&key, tag, &range));
                children.map(|children| {
                    self.show_elements(ticket, Answer::ElementChildren(children), answers);
                })
            }
            Command::ElementKeys { key, tag, range, seen, limit } => {
                let keys = self.check_seen(&key, tag, &seen);
                keys.and_then(|()| self.element_keys(&key, tag, &range, limit)).map(|keys| {
                    self.show_elements(ticket, Answer::ElementKeys(keys), answers);
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

    /// The records of what was done since the last batch, for the log. `None` if there are none,
    /// while a batch is under way (the next one gathers meanwhile, and may rest on it), and while
    /// so much waits for a checkpoint under way that acknowledgements are to wait for it too.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.rows.is_under_way() || self.must_wait() {
            return None;
        }
        if self.current.records.is_empty() && !self.current.sync {
            // What else was changed follows from what is in the log.
            self.rows.keep();
            self.current.counted.clear();
            self.current.minted.clear();
            return None;
        }
        let id = self.rows.take_batch();
        self.under_way = std::mem::take(&mut self.current);
        let records = std::mem::take(&mut self.under_way.records);
        self.under_way.bytes = records.len();
        Some(Batch { id, records, sync: self.under_way.sync })
    }

    /// The log's result for the batch under way: releases the answers that waited for it.
    ///
    /// If it failed, every write that is not in the log is answered [`Answer::Failed`] and no longer
    /// visible, and updates are refused until a batch is appended again.
    pub fn committed(
        &mut self,
        batch: BatchId,
        result: Result<Appended, SeamError>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        if !self.rows.awaits(batch) {
            return;
        }
        let done = std::mem::take(&mut self.under_way);
        let is_ignored = sabotage::is(Bug::FailureTakenForSuccess) && result.is_err();
        let unchanged = Appended { position: self.position, synced: true };
        let error = match if is_ignored { Ok(unchanged) } else { result } {
            Ok(Appended { position, synced }) => {
                self.rows.committed();
                self.position = position;
                self.is_unsynced = !synced && (self.is_unsynced || done.is_relied_on);
                self.batch_ended();
                self.disk_works();
                answers.extend(done.answers);
                return;
            }
            Err(error) => error,
        };
        let lost = std::mem::take(&mut self.current);
        self.disk_failed(&error, &done, &lost);
        let error = StorageError::from(error);
        let waiting = done.answers.into_iter().chain(lost.answers);
        answers.extend(waiting.map(|(ticket, _)| (ticket, Answer::Failed(error.clone()))));
    }

    /// Whether nothing waits for the log.
    pub fn is_settled(&self) -> bool {
        self.current.records.is_empty() && !self.current.sync && !self.rows.is_under_way()
    }

    /// Number of keys with something live.
    pub fn live_keys(&self) -> u64 {
        self.census.live_keys()
    }

    /// Number of keys in conflict.
    pub fn conflicts(&self) -> ConflictCounts {
        self.census.conflicts()
    }

    /// Whether anything is pending in the outbox.
    pub fn has_pending(&self) -> bool {
        self.census.owners().next().is_some()
    }

    /// Number of keys of which deltas are pending for `owner`.
    pub fn pending_for(&self, owner: NodeId) -> u64 {
        self.census.pending(owner)
    }

    /// Bytes on disk of what is pending for `owner`.
    pub fn pending_bytes_for(&self, owner: NodeId) -> u64 {
        self.census.pending_bytes(owner)
    }

    /// What rows take in memory that wait for a checkpoint, in bytes.
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
        durability: Durability,
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
            self.settle(ticket, Answer::Durable, durability, answers);
        }
        Ok(())
    }

    fn try_update(
        &mut self,
        at: &RowKey,
        key: &Key,
        asked: &Asked,
    ) -> Result<Answer, StorageError> {
        let Asked { operation, lifetime, observed, shown, stamp, named, limits } = asked;
        let held = self.held_header(at, key)?;
        let (header, after) = if held.is_hidden() {
            // A write is later than what was deleted: another member may not have hidden that yet.
            (Header::default(), held.tombstone())
        } else {
            (held, None)
        };
        let stamp = after.map_or(*stamp, |after| after.next().max(*stamp));
        let mut view = self.show(at, key, header.clone(), &operation.scope())?;
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
        // A schedule has dots of its own, beside those of the operation.
        let schedules = matches!(lifetime, Lifetime::Ends(_)) && operation.adds();
        let scheduler = match named {
            None if schedules => {
                let held = view.value.context(Tag::EXPIRY);
                if let Some(shown) = shown {
                    let inbound = shown.value.context(Tag::EXPIRY);
                    self.epochs.observe(at.as_bytes(), Tag::EXPIRY, held, inbound);
                }
                self.actor(at, Tag::EXPIRY, held)?
            }
            _ => actor,
        };
        if let Some(shown) = shown {
            view.merge(shown);
        }
        let prepare = |view: &View, actor| {
            let mint = Mint { actor, stamp };
            operation.prepare_living((*lifetime, scheduler), view, observed, mint, limits)
        };
        let mut widened = None;
        if schedules && tag == Tag::MAP {
            // It covers the increments of fields that the operation does not name, too.
            let removal = self.show(at, key, header.clone(), &Scope::Removal)?;
            add_tallies(widened.insert(view.clone()), &removal);
        }
        let seen = widened.as_ref().unwrap_or(&view);
        let mut prepared = prepare(seen, actor);
        if named.is_none() && matches!(prepared, Err(UpdateError::ActorDoubted)) {
            // This actor can go no further with the key: one of a new epoch can.
            self.epochs.doubt();
            let actor = self.actor(at, tag, view.value.context(tag))?;
            prepared = prepare(seen, actor);
        }
        let Prepared { delta, changed, repeated, minted } = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Answer::Refused(refused)),
        };
        let merged = self.merged(at, key, header, &delta)?;
        // Within the scope this is what reading it again would show, for less.
        view.value.apply(&delta);
        view.collections = merged.header.summaries();
        self.make(at, key, merged, &delta)?;
        self.current.minted.push((at.as_bytes().to_vec(), tag));
        if schedules {
            self.current.minted.push((at.as_bytes().to_vec(), Tag::EXPIRY));
        }
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

    /// Tells of elements once they are durable: another replica that finds them equal to its own sends
    /// none, and then says that all it had seen is seen here. Lost after that, they would count as
    /// removed.
    fn show_elements(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        self.settle(ticket, answer, Durability::Sync, answers);
    }

    /// Gives `answer` once everything that is visible now is as durable as asked: also what changed
    /// nothing rests on what it found.
    fn settle(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        durability: Durability,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let sync = durability == Durability::Sync;
        let is_gathered = !self.current.records.is_empty();
        let waits = match durability {
            Durability::None => None,
            _ if sabotage::is(Bug::AckBeforeCommit) => None,
            _ if is_gathered => Some(&mut self.current),
            _ if self.rows.is_under_way() && (!sync || self.under_way.sync) => {
                Some(&mut self.under_way)
            }
            Durability::Sync if self.rows.is_under_way() || self.is_unsynced => {
                Some(&mut self.current)
            }
            _ => None,
        };
        match waits {
            Some(waiting) => {
                waiting.sync |= sync;
                waiting.answers.push((ticket, answer));
            }
            None => answers.push((ticket, answer)),
        }
    }

    /// Adds what was done to the batch being gathered.
    fn record(&mut self, token: Token, record: &RecordOut<'_>) {
        self.record_in(self.config.shards.shards().of_token(token), record);
    }

    fn record_in(&mut self, shard: Shard, record: &RecordOut<'_>) {
        self.current.is_relied_on |= !matches!(record, RecordOut::Delivered(..));
        log_record::push(&mut self.current.records, shard, record);
    }

    /// Changes the header row of `key` at `at`, and the census and the hash tree with it. Fails
    /// before it changes anything.
    fn put_header(
        &mut self,
        at: &RowKey,
        key: &Key,
        header: &mut Header,
    ) -> Result<(), StorageError> {
        header.age = Age { round: self.round, is_hidden: false };
        self.write_header(at, key, header)
    }

    /// The same, of a header that says itself how old it is.
    fn write_header(
        &mut self,
        at: &RowKey,
        key: &Key,
        header: &Header,
    ) -> Result<(), StorageError> {
        let record = header.encode(at, key, self.trees.class_of(key));
        let shards = self.config.shards.shards();
        let counted = |record: &[u8]| counted_key(at.as_bytes(), record, shards);
        let looked = self.rows.get(Table::Header, at.as_bytes(), |record| {
            let listed = [conflict_of(at, record), expiry_of(at, record), remnant_of(at, record)];
            (counted(record), listed, share(at.as_bytes(), record))
        })?;
        let (before, was_listed, share_before) =
            looked.unwrap_or((None, [None, None, None], Share::Nothing));
        let after = counted(&record);
        let is_listed = [conflict_of(at, &record), expiry_of(at, &record), remnant_of(at, &record)];
        for (was_listed, is_listed) in was_listed.into_iter().zip(is_listed) {
            if was_listed != is_listed {
                self.list_anew(was_listed, is_listed);
            }
        }
        let is_forgotten = sabotage::is(Bug::DeletedForgotten) && after.is_none();
        let share_after = if is_forgotten { Share::Nothing } else { share(at.as_bytes(), &record) };
        self.change_share(at.as_bytes(), share_before, share_after)?;
        if before != after {
            for (counted, added) in [(before, false), (after, true)] {
                if let Some(counted) = counted {
                    self.count(counted, added);
                }
            }
        }
        let record = Some(record).filter(|_| !is_forgotten);
        self.rows.put(Table::Header, at.as_bytes().to_vec(), record);
        Ok(())
    }

    /// Changes the row that lists a key in conflict, one with a deadline, or a remnant.
    fn list_anew(&mut self, before: Option<Vec<u8>>, after: Option<Vec<u8>>) {
        for (row, value) in [(before, None), (after, Some(Vec::new()))] {
            if let Some(row) = row {
                self.rows.put(Table::Meta, row, value);
            }
        }
    }

    fn count(&mut self, counted: Counted, added: bool) {
        if added {
            self.census.add(&counted)
        } else {
            self.census.remove(&counted)
        }
        self.current.counted.push((counted, added));
    }
}
