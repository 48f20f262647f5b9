//! What an engine promises, tested through its commands.

mod acknowledgement;
mod conflicts;
mod crash;
mod damage;
mod disk;
mod dots;
mod durability;
mod element_trees;
mod expiry;
mod forget;
mod holes;
mod notes;
mod outbox;
mod remnants;
mod restored;
mod rows;
mod sealing;
mod sweep;
mod trees;
mod verified;

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use clock::{Actor, CausalContext, NodeId, RingId, Round, Stamp};
use ring::{Partition, PartitionCount, Token};
use values::{
    Blob, BucketId, BytesOp, CounterOp, Delta, Key, Lifetime, Operation, OrsetOp, RegisterOp,
    Scope, State, Tag, UpdateError, Value, View,
};

use super::*;
use crate::memtable::BatchId;
use crate::row_key::RowKey;
use crate::{
    Appended, Checkpoint, Log, MemoryEngine, SeamError, Shards, SimDisk, SimFiles, SimIndex,
    SimIndexReader, TreeNode, shard_positions,
};

fn config(node: u64, process: u64) -> EngineConfig {
    EngineConfig {
        node: NodeId(node),
        process,
        shards: ShardSet::all(shards()),
        pending_bytes_max: 1 << 20,
        hint_bytes_max: u64::MAX,
        bounds: EngineBounds::SMALL,
    }
}

fn shards() -> Shards {
    Shards::new(PartitionCount::new(16).unwrap(), 4)
}

fn key(name: &str) -> Key {
    Key::new("b", name.to_owned()).unwrap()
}

fn blob(text: &str) -> Blob {
    Blob::copy_from_slice(text.as_bytes())
}

fn add(names: &[&str]) -> Operation {
    Operation::Orset(OrsetOp::Add(names.iter().map(|name| blob(name)).collect()))
}

fn put(value: &str) -> Operation {
    Operation::Bytes(BytesOp::Put(blob(value)))
}

fn count(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

fn update(key: &Key, operation: Operation) -> Command {
    update_seeing(key, operation, CausalContext::default())
}

fn update_seeing(key: &Key, operation: Operation, observed: CausalContext) -> Command {
    let stamp = Stamp::from_millis(1);
    Command::Update {
        key: key.clone(),
        operation,
        lifetime: Lifetime::Usual,
        observed,
        shown: Vec::new(),
        stamp,
        named: None,
        limits: Arc::default(),
        durability: Durability::Sync,
    }
}

/// The same under a name that a client gave.
fn named(mut update: Command, name: u64) -> Command {
    let Command::Update { named, .. } = &mut update else { unreachable!("an update was given") };
    *named = Some(Actor::named(name, 7, 7));
    update
}

fn read(key: &Key, scope: Scope) -> Command {
    Command::Read { key: key.clone(), scope }
}

fn merge(key: &Key, delta: &Delta) -> Command {
    let (key, delta, durability) = (key.clone(), delta.clone(), Durability::Sync);
    Command::Merge { key, delta, show: None, durability }
}

fn deferred(owner: NodeId, key: &Key, delta: &Delta) -> Command {
    let (key, delta, durability) = (key.clone(), delta.clone(), Durability::Sync);
    Command::Defer { owner, key, delta, durability }
}

/// Executes an update that must succeed; returns its delta.
fn updated(engine: &mut MemoryEngine, key: &Key, operation: Operation) -> Delta {
    match engine.execute_now(update(key, operation)).as_slice() {
        [Answer::Prepared { delta, .. }, Answer::Durable] => delta.clone(),
        other => panic!("{other:?}"),
    }
}

fn viewed(engine: &mut MemoryEngine, key: &Key, scope: Scope) -> View {
    match engine.execute_now(read(key, scope)).remove(0) {
        Answer::View(view) => view,
        other => panic!("{other:?}"),
    }
}

fn whole(engine: &mut MemoryEngine, key: &Key) -> Value {
    viewed(engine, key, Scope::Whole).value
}

fn merged(engine: &mut MemoryEngine, key: &Key, delta: &Delta) {
    assert_eq!(engine.execute_now(merge(key, delta)), [Answer::Merged(None)]);
}

fn elements(value: &Value) -> BTreeSet<Blob> {
    match value.state(Tag::ORSET) {
        Some(State::Orset(set)) => set.store.0.keys().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

fn values_of(value: &Value) -> BTreeSet<Blob> {
    match value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => state.store.0.values().map(|s| s.value.clone()).collect(),
        _ => BTreeSet::new(),
    }
}

fn counted(value: &Value) -> i128 {
    match value.state(Tag::COUNTER) {
        Some(State::Counter(state)) => state.tally.value(),
        _ => 0,
    }
}

/// The roots of the hash trees of all partitions.
fn roots(engine: &mut MemoryEngine) -> Vec<TreeNode> {
    let partitions: Vec<Partition> = (0..16).map(Partition).collect();
    let mut roots = Vec::new();
    while roots.len() < 16 {
        let partitions = partitions[roots.len()..].to_vec();
        match engine.execute_now(Command::TreeRoots { n: 3, partitions }).remove(0) {
            Answer::TreeNodes(nodes) => roots.extend(nodes),
            other => panic!("{other:?}"),
        }
    }
    roots
}

fn check(engine: &MemoryEngine) -> TreeCheck {
    engine.engine().check_trees().unwrap()
}

/// An engine whose batches and checkpoints the test writes itself.
struct Stepped {
    engine: Engine<SimIndexReader>,
    log: Log<SimFiles>,
    disk: SimDisk,
    answers: Vec<(Ticket, Answer)>,
    batch: Option<Batch>,
}

impl Stepped {
    fn open(disk: &SimDisk, config: EngineConfig) -> Self {
        let reader = disk.index.reader();
        let indexed = shard_positions(&reader, config.shards.shards()).unwrap();
        let mut replay = Replay::begin(reader, config).unwrap();
        let (log, found) = Log::open(disk.files.clone(), 0, &indexed, &mut |position, logged| {
            replay.replay(position, logged);
        })
        .unwrap();
        assert_eq!(found.damage, []);
        Self {
            engine: replay.finish(log.end(), log.is_synced()),
            log,
            disk: disk.clone(),
            answers: Vec::new(),
            batch: None,
        }
    }

    fn give(&mut self, ticket: u64, command: Command) {
        self.engine.execute(Ticket(ticket), command, &mut self.answers);
    }

    /// The answers since the last call.
    fn answered(&mut self) -> Vec<(u64, Answer)> {
        self.answers.drain(..).map(|(ticket, answer)| (ticket.0, answer)).collect()
    }

    fn take(&mut self) -> bool {
        assert!(self.batch.is_none());
        self.batch = self.engine.take_batch();
        self.batch.is_some()
    }

    fn commit(&mut self) {
        let mut batch = self.batch.take().expect("a batch was taken");
        let result = self.log.commit(&mut batch.records, batch.sync);
        self.engine.committed(batch.id, result, &mut self.answers);
    }

    fn write(&mut self, checkpoint: &Checkpoint) {
        let result = checkpoint.write(&mut self.disk.index.writer(), &mut || ());
        self.engine.checkpointed(result);
    }

    fn checkpoint(&mut self) {
        assert!(!self.take());
        assert!(self.engine.freeze(0));
        let checkpoint = self.engine.take_checkpoint().expect("all of it is in the log");
        self.write(&checkpoint);
    }
}
