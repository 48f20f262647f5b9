//! What one replica's engine costs over the real index: a read of a small value, writes in batches
//! of several sizes (one synced commit each), and an add to sets of three sizes, which must cost
//! the same whatever the set's size (at most three times as much at 100,000 elements as at 10).
//!
//! The directory lies in cargo's target directory: `/tmp` is memory on many machines, where a
//! sync costs nothing.

use std::hint::black_box;

use bytes::Bytes;
use clock::{CausalContext, NodeId, Stamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::PartitionCount;
use storage::{Answer, Command, Engine, EngineConfig, IndexWrite, Ticket};
use storage_lmdb::{LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};
use tempfile::TempDir;
use values::{Key, Limits, Operation, OrsetOp, RegisterOp, Scope};

/// Keys of the bucket that is read and written.
const KEYS: u64 = 100_000;
/// Adds to a set between two commits.
const ADDS: u64 = 512;

/// An engine over a new index on disk, which commits when told to.
struct Replica {
    _directory: TempDir,
    engine: Engine<LmdbReader>,
    writer: LmdbWriter,
    answers: Vec<(Ticket, Answer)>,
    stamp: u64,
}

impl Replica {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (reader, writer) =
            LmdbIndex::open(directory.path(), &LmdbOptions::default()).expect("a new index");
        let config = EngineConfig {
            node: NodeId(1),
            process: 1,
            partitions: PartitionCount::new(4096).expect("a power of two"),
            limits: Limits::default(),
            pending_bytes_max: 1 << 30,
        };
        let engine = Engine::open(reader, config).expect("an empty index opens");
        Self { _directory: directory, engine, writer, answers: Vec::new(), stamp: 1 }
    }

    fn execute(&mut self, command: Command) {
        self.answers.clear();
        self.engine.execute(Ticket(0), command, &mut self.answers);
    }

    fn update(&mut self, key: Key, operation: Operation) {
        self.stamp += 1;
        let (observed, stamp) = (CausalContext::default(), Stamp(self.stamp));
        self.execute(Command::Update { key, operation, observed, shown: None, stamp, named: None });
        assert!(matches!(self.answers[0].1, Answer::Prepared { .. }));
    }

    fn set(&mut self, number: u64) {
        let value = Bytes::from_static(&[7; 100]);
        let set = RegisterOp::Set { value, at: None, replace: true };
        self.update(numbered(number), Operation::Register(set));
    }

    fn add(&mut self, set: &str, number: u64) {
        let element = Bytes::from(format!("element {number:08}"));
        self.update(key(set.to_owned()), Operation::Orset(OrsetOp::Add(vec![element])));
    }

    fn commit(&mut self) {
        while let Some(batch) = self.engine.take_batch() {
            let result = self.writer.commit(&batch.changes);
            self.engine.committed(batch.id, result, &mut self.answers);
        }
    }
}

fn key(name: impl Into<Bytes>) -> Key {
    Key::new("default", name).expect("a short name")
}

fn numbered(number: u64) -> Key {
    key(format!("key:{number:012}"))
}

fn read(c: &mut Criterion) {
    let mut replica = Replica::new();
    for number in 0..KEYS {
        replica.set(number);
        if number % 4096 == 0 {
            replica.commit();
        }
    }
    replica.commit();
    let mut number = 0;
    c.bench_function("engine/read a register of 100 bytes", |b| {
        b.iter(|| {
            number = (number + 7919) % KEYS;
            replica.execute(Command::Read { key: numbered(number), scope: Scope::Headers });
            black_box(&replica.answers);
        });
    });
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/write and commit, synced");
    for batch in [1_u64, 8, 64, 512] {
        let mut replica = Replica::new();
        let mut number = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("registers of 100 bytes", batch), |b| {
            b.iter(|| {
                for _ in 0..batch {
                    number = (number + 7919) % KEYS;
                    replica.set(number);
                }
                replica.commit();
            });
        });
    }
    group.finish();
}

fn add_to_set(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/add to a set");
    group.throughput(Throughput::Elements(ADDS));
    for size in [10_u64, 1_000, 100_000] {
        let mut replica = Replica::new();
        for number in 0..size {
            replica.add("set", number);
            if number % 4096 == 0 {
                replica.commit();
            }
        }
        replica.commit();
        let mut number = 0;
        // Elements that are there already, so that the set keeps its size.
        group.bench_function(BenchmarkId::new("elements", size), |b| {
            b.iter(|| {
                for _ in 0..ADDS {
                    number = (number + 7919) % size;
                    replica.add("set", number);
                }
                replica.commit();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = read, write, add_to_set
}
criterion_main!(benches);
