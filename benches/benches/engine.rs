//! What one replica's engine costs over real files and the real index: a read of a small value, writes
//! in batches of several sizes (one synced append to the log each), an add to sets of three sizes, which
//! must cost the same whatever the set's size (at most three times as much at 100,000 elements as at 10),
//! an update without its commit, the bytes that a key takes on disk, and
//! an addition to a counter that remembers names of requests, with a name and without (at most 1.3
//! times as much with one; without the sync).
//!
//! The directory lies in cargo's target directory: `/tmp` is memory on many machines, where a
//! sync costs nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{Actor, CausalContext, NodeId, Stamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::PartitionCount;
use storage::{Answer, Command, Durability, EngineConfig, ShardSet, Shards, SingleEngine, Ticket};
use storage_lmdb::{DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};
use tempfile::TempDir;
use values::{
    CounterOp, Delta, Key, Limits, Mint, Operation, OrsetOp, RegisterOp, Scope, Value, View,
};

/// Keys of the bucket that is read and written.
const KEYS: u64 = 100_000;
/// Updates between two commits.
const UPDATES: u64 = 512;
/// Keys whose size on disk is measured.
const SIZED_KEYS: u64 = 1_000_000;
/// Adds to a set between two commits.
const ADDS: u64 = 512;

/// Counters added to at a time.
const COUNTERS: u64 = 16;

/// What rows take in memory when a checkpoint is made, as in a node.
const CHECKPOINT_BYTES: usize = 64 << 20;

/// An engine over a new directory, which commits when told to.
struct Replica {
    directory: TempDir,
    engine: SingleEngine<DiskFiles, LmdbReader, LmdbWriter>,
    answers: Vec<(Ticket, Answer)>,
    stamp: u64,
    limits: Arc<Limits>,
}

impl Replica {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let index = directory.path().join("index");
        let (reader, writer) =
            LmdbIndex::open(&index, &LmdbOptions::default()).expect("a new index");
        let files = DiskFiles::open(directory.path()).expect("a directory");
        let partitions = PartitionCount::new(4096).expect("a power of two");
        let config = EngineConfig {
            node: NodeId(1),
            process: 1,
            shards: ShardSet::all(Shards::new(partitions, 64)),
            pending_bytes_max: 1 << 30,
            hint_bytes_max: u64::MAX,
            bounds: storage::EngineBounds::default(),
        };
        let (engine, _) = SingleEngine::open(files, reader, writer, 1, config).expect("empty");
        Self { directory, engine, answers: Vec::new(), stamp: 1, limits: Arc::default() }
    }

    fn execute(&mut self, command: Command) {
        self.answers.clear();
        self.engine.execute(Ticket(0), command, &mut self.answers);
    }

    fn update(&mut self, key: Key, operation: Operation) {
        self.update_named(key, operation, None);
    }

    fn update_named(&mut self, key: Key, operation: Operation, named: Option<Actor>) {
        self.stamp += 1;
        let (observed, stamp) = (CausalContext::default(), Stamp(self.stamp));
        let limits = Arc::clone(&self.limits);
        let (shown, durability) = (Vec::new(), Durability::Sync);
        self.execute(Command::Update {
            key,
            operation,
            lifetime: values::Lifetime::Usual,
            observed,
            shown,
            stamp,
            named,
            limits,
            durability,
        });
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
        while self.engine.log_batch(&mut self.answers) {}
        if self.engine.engine().pending_bytes() > CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.engine.checkpoint().expect("the disk takes it");
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
    replica.checkpoint();
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

/// What an update costs its event loop: all but the commit. Keys stand on disk before.
fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/update, without the commit");
    let mut replica = Replica::new();
    for number in 0..KEYS {
        replica.set(number);
        if number % 4096 == 0 {
            replica.commit();
        }
    }
    replica.commit();
    let mut number = 0;
    group.throughput(Throughput::Elements(UPDATES));
    group.bench_function("registers of 100 bytes", |b| {
        b.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                let start = Instant::now();
                for _ in 0..UPDATES {
                    number = (number + 7919) % KEYS;
                    replica.set(number);
                }
                took += start.elapsed();
                replica.commit();
            }
            took
        });
    });
    group.finish();
}

/// Bytes that a key takes on disk after a checkpoint.
fn size(_: &mut Criterion) {
    let mut replica = Replica::new();
    for number in 0..SIZED_KEYS {
        replica.set(number);
        if number % 65_536 == 0 {
            replica.commit();
        }
    }
    replica.commit();
    replica.engine.checkpoint().expect("there is room");
    let index = replica.directory.path().join("index");
    let files = std::fs::read_dir(index).expect("the index is there");
    let bytes: u64 = files.filter_map(|file| file.ok()?.metadata().ok()).map(|m| m.len()).sum();
    let per_key = bytes as f64 / SIZED_KEYS as f64;
    println!(
        "engine/size: {SIZED_KEYS} registers of 100 bytes take {per_key:.1} bytes each on disk"
    );
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
        while replica.engine.engine_mut().count_chunks(4096) {
            replica.commit();
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

/// A counter that was added to under so many names, of 16 clients.
fn counter_with_names(names: u64) -> Delta {
    let (mut value, mut whole) = (Value::default(), Delta::default());
    for name in 0..names {
        let actor = Actor::named(name.wrapping_mul(0x9e37_79b9_7f4a_7c15), name as u32 % 16, 1);
        let mint = Mint { actor, stamp: Stamp(1), round: None };
        let (view, seen) = (View::of(value.clone()), CausalContext::default());
        let prepared = Operation::Counter(CounterOp::Add(1))
            .prepare(&view, &seen, mint, &Limits::default())
            .expect("within the limits");
        value.apply(&prepared.delta);
        whole.merge(&prepared.delta);
    }
    whole
}

fn add_with_a_name(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/add to a counter that remembers names");
    group.throughput(Throughput::Elements(COUNTERS));
    for names in [0_u64, 100, 1_000] {
        let before = counter_with_names(names);
        for is_named in [false, true] {
            let mut replica = Replica::new();
            let mut fresh = 0;
            let what = if is_named { "named" } else { "unnamed" };
            group.bench_function(BenchmarkId::new(what, names), |b| {
                b.iter_custom(|count| {
                    let mut took = Duration::ZERO;
                    for _ in 0..count {
                        let keys: Vec<Key> = (fresh..fresh + COUNTERS).map(numbered).collect();
                        fresh += COUNTERS;
                        for key in keys.iter().filter(|_| names > 0) {
                            let (key, delta) = (key.clone(), before.clone());
                            let durability = Durability::Sync;
                            replica.execute(Command::Merge { key, delta, show: None, durability });
                        }
                        replica.commit();
                        let began = Instant::now();
                        for key in keys {
                            let named = is_named.then(|| Actor::named(fresh, 17, 1));
                            let add = Operation::Counter(CounterOp::Add(1));
                            replica.update_named(key, add, named);
                        }
                        took += began.elapsed();
                        // A sync costs the same either way, and far more than what is compared.
                        replica.commit();
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = read, update, write, add_to_set, add_with_a_name, size
}
criterion_main!(benches);
