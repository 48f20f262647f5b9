//! All that an engine does it does on its event loop, so one command looks at a bounded number of
//! rows. Counted here in what the index is asked for.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use clock::{CausalContext, NodeId, Stamp};
use ring::{Partition, PartitionCount};
use storage::{
    Answer, Command, Durability, EngineConfig, IndexRead, SeamError, ShardSet, Shards, SimDisk,
    SimFiles, SimIndexReader, SimIndexWriter, SingleEngine, Table, Ticket, Visit,
};
use values::{Blob, BucketId, Key, MapOp, Operation, OrsetOp};

/// Counts the rows that are looked at.
#[derive(Debug)]
struct Counting {
    reader: SimIndexReader,
    rows: Rc<Cell<u64>>,
}

impl IndexRead for Counting {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        self.rows.set(self.rows.get() + 1);
        self.reader.get(table, key, look)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        self.reader.scan(table, from, &mut |key, value| -> ControlFlow<()> {
            self.rows.set(self.rows.get() + 1);
            visit(key, value)
        })
    }
}

struct Replica {
    engine: SingleEngine<SimFiles, Counting, SimIndexWriter>,
    rows: Rc<Cell<u64>>,
}

impl Replica {
    fn new(node: u64) -> Self {
        let (disk, rows) = (SimDisk::new(), Rc::new(Cell::new(0)));
        let partitions = PartitionCount::new(16).expect("a power of two");
        let config = EngineConfig {
            node: NodeId(node),
            process: node,
            shards: ShardSet::all(Shards::new(partitions, 4)),
            pending_bytes_max: 1 << 30,
            hint_bytes_max: u64::MAX,
            bounds: storage::EngineBounds::default(),
        };
        let reader = Counting { reader: disk.index.reader(), rows: Rc::clone(&rows) };
        let (engine, _) = SingleEngine::open(disk.files, reader, disk.index.writer(), 0, config)
            .expect("an empty disk");
        Self { engine, rows }
    }

    /// The answers to a command, and how many rows it took to find them.
    fn give(&mut self, command: Command) -> (Vec<Answer>, u64) {
        let mut answers = Vec::new();
        self.rows.set(0);
        self.engine.execute(Ticket(0), command, &mut answers);
        let rows = self.rows.get();
        self.engine.log_batch(&mut answers);
        self.engine.checkpoint().expect("a disk that works");
        (answers.into_iter().map(|(_, answer)| answer).collect(), rows)
    }

    fn update(&mut self, key: &Key, operation: Operation) -> (values::Delta, u64) {
        let (observed, stamp) = (CausalContext::default(), Stamp::from_millis(1));
        let command = Command::Update {
            key: key.clone(),
            operation,
            lifetime: values::Lifetime::Usual,
            observed,
            shown: Vec::new(),
            stamp,
            named: None,
            limits: std::sync::Arc::default(),
            durability: Durability::Sync,
        };
        let (answers, rows) = self.give(command);
        match answers.into_iter().next() {
            Some(Answer::Prepared { delta, .. }) => (delta, rows),
            other => panic!("{other:?}"),
        }
    }

    fn merge(&mut self, key: &Key, delta: &values::Delta) -> u64 {
        let (key, delta, durability) = (key.clone(), delta.clone(), Durability::Sync);
        self.give(Command::Merge { key, delta, show: None, durability }).1
    }
}

fn key(bucket: &'static str, name: String) -> Key {
    Key::new(bucket, name).expect("within the bounds of a key")
}

fn names(count: u32) -> Vec<Blob> {
    (0..count).map(|number| Blob::from(format!("e{number:06}"))).collect()
}

#[test]
fn a_page_of_keys_does_not_walk_all_keys_of_other_buckets() {
    let mut replica = Replica::new(1);
    for number in 0..5_000 {
        let add = Operation::Orset(OrsetOp::Add(vec![Blob::from("x")]));
        replica.update(&key("full", format!("k{number}")), add);
    }
    let (_, rows) = replica.give(Command::List {
        first: Partition(0),
        last: Partition(15),
        bucket: BucketId::first("empty"),
        after: None,
        limit: 10,
    });
    assert!(rows < 4_000, "{rows} rows for a page of ten keys");
}

/// design.md: removing a whole collection clears it in its header at once; rows go lazily.
#[test]
fn deleting_a_map_that_counts_nothing_does_not_walk_its_fields() {
    let mut replica = Replica::new(1);
    let key = key("b", "map".to_owned());
    let fields = names(5_000).into_iter().map(|name| (name, Blob::from("v"))).collect();
    replica.update(&key, Operation::Map(MapOp::Set(fields)));
    let (_, rows) = replica.update(&key, Operation::Delete(None));
    assert!(rows < 1_000, "{rows} rows to delete a map");
}

#[test]
fn clearing_a_set_that_holds_one_more_element_does_not_walk_it() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let key = key("b", "set".to_owned());
    let (added, _) = one.update(&key, Operation::Orset(OrsetOp::Add(names(5_000))));
    two.merge(&key, &added);
    two.update(&key, Operation::Orset(OrsetOp::Add(vec![Blob::from("one more")])));
    let (deleted, at_one) = one.update(&key, Operation::Delete(None));
    assert!(at_one < 1_000, "{at_one} rows where nothing else is there");
    let rows = two.merge(&key, &deleted);
    assert!(rows < 1_000, "{rows} rows to clear a set");
}
