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

mod batches;
mod bounds;
mod collection;
mod conflicts;
mod disk;
mod element_tree;
mod expiry;
mod forget;
mod header_row;
mod listing;
mod look;
mod losses;
mod merge;
mod notes;
mod outbox;
mod rebuild;
mod remnants;
mod replay;
mod sealing;
mod sweep;
mod trees;
mod update;
mod write_out;

use self::batches::Waiting;
use self::update::Asked;

#[cfg(test)]
mod tests;

pub use batches::Batch;
pub use bounds::EngineBounds;
pub(crate) use element_tree::Chunk;
pub use replay::Replay;
pub use trees::TreeCheck;
pub use write_out::WrittenRows;

use clock::{NodeId, Round};
use sabotage::Bug;
use values::Scope;

use crate::census::{Census, ConflictCounts};
use crate::epochs::Epochs;
use crate::memtable::Memtable;
use crate::tree::LeafSum;
use crate::{
    Answer, Command, Durability, Forgetting, IndexRead, ShardSet, StorageError, Table, Ticket,
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
    /// How much it does at a time.
    pub bounds: EngineBounds,
}

/// One change of one row, not made yet.
#[derive(Debug)]
struct Change {
    table: Table,
    row_key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// Of an element's row: what it adds to its chunk now, and what it will, if that is known.
    counted: Option<(LeafSum, LeafSum)>,
}

impl Change {
    const fn of(table: Table, row_key: Vec<u8>, value: Option<Vec<u8>>) -> Self {
        Self { table, row_key, value, counted: None }
    }
}

/// One replica's state, over an index.
#[derive(Debug)]
pub struct Engine<R> {
    config: EngineConfig,
    rows: Memtable<R>,
    epochs: Epochs,
    census: Census,
    /// What was done since the last batch was taken.
    current: Waiting,
    /// What the batch under way carries; nothing while there is none.
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
    /// The round of the barrier that was entered last, if one was.
    round: Option<Round>,
    /// In which it is before it enters any.
    first_round: Option<Round>,
    /// In which round an increment with a name was coordinated last, or may have been before this process.
    named_in: Option<Round>,
    /// Whether what is done is in the log already.
    is_replaying: bool,
    /// Whether what is done is part of what has a record of its own.
    is_recorded: bool,
    losses: losses::Losses,
    /// Up to which row a step of forgetting has come.
    forgotten: Option<(Forgetting, Vec<u8>)>,
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
                self.outbox(owner, after.as_ref(), limit).map(|(pending, waits)| {
                    let durability = if waits { Durability::Interval } else { Durability::None };
                    self.settle(ticket, Answer::Outbox(pending), durability, answers);
                })
            }
            Command::Delivered { position, version } => {
                self.delivered(&position, version).map(|()| {
                    // Lost, it is delivered again: that is worth no sync of its own.
                    self.settle(ticket, Answer::Durable, Durability::Interval, answers);
                })
            }
            Command::Redirect { position, owners } => {
                self.redirect(&position, &owners).map(|()| {
                    // Lost, all of it is: it pends as it did.
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
}
