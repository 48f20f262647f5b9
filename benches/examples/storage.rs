//! The storage's figures, each beside what it is compared with in the same run: durable merges of 64
//! callers over ten checkpoints beside LMDB alone, their latency during checkpoints and between
//! them, reads of a checkpointed million beside a bare LMDB get, bytes on disk, and a start with a
//! tail of 64 MiB to replay.
//!
//! `cargo run --release -p benchmarks --example storage -- [KEYS] [CHECKPOINTS]`
//! (500,000 and 10 if not said; a few minutes, and a gibibyte in cargo's target directory).

use std::hint::black_box;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use storage::{
    Answer, Appended, Batch, BatchId, Checkpoint, Command, Durability, Engine, EngineConfig,
    IndexRead, IndexWrite, Log, Replay, RowChange, SeamError, ShardSet, Shards, Table, Ticket,
    shard_positions,
};
use storage_lmdb::{DiskFiles, LmdbIndex, LmdbOptions, LmdbReader};
use values::{Delta, Key, Limits, Mint, Operation, RegisterOp, Scope, View};

const CALLERS: u64 = 64;
/// As in a node.
const CHECKPOINT_BYTES: usize = 64 << 20;
/// Keys that are read and that a start finds.
const MILLION: u64 = 1_000_000;
const TAIL_BYTES: u64 = 64 << 20;

type Reply = (BatchId, Result<Appended, SeamError>);

fn config() -> EngineConfig {
    let partitions = PartitionCount::new(4096).expect("a power of two");
    EngineConfig {
        node: NodeId(1),
        process: 1,
        shards: ShardSet::all(Shards::new(partitions, 64)),
        pending_bytes_max: 256 << 20,
        hint_bytes_max: u64::MAX,
    }
}

fn key(number: u64) -> Key {
    Key::new("default", format!("key:{number:012}")).expect("a short key")
}

/// Numbers below `bound` in no order (SplitMix64).
fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (word ^ (word >> 29)) % bound
}

/// The delta of a coordinator elsewhere that set a register to 100 bytes.
fn delta(number: u64) -> Delta {
    let set = RegisterOp::Set { value: Bytes::from(vec![7; 100]), at: None, replace: true };
    let actor = clock::Actor::new(NodeId(2), 2, 0);
    let mint = Mint { actor, stamp: Stamp(number) };
    Operation::Register(set)
        .prepare(&View::default(), &CausalContext::default(), mint, &Limits::default())
        .expect("within the limits")
        .delta
}

fn merge(number: u64, stamp: u64) -> Command {
    let (key, delta, durability) = (key(number), delta(stamp), Durability::Sync);
    Command::Merge { key, delta, show: None, durability }
}

/// A node's storage with its threads, and one engine.
struct Store {
    engine: Engine<LmdbReader>,
    reader: LmdbReader,
    batches: Sender<Batch>,
    logged: Receiver<Reply>,
    checkpoints: Sender<(Checkpoint, Sender<u64>)>,
    written: Receiver<Result<(), SeamError>>,
    trim: Sender<u64>,
    threads: Vec<JoinHandle<()>>,
    answers: Vec<(Ticket, Answer)>,
    is_checkpointing: bool,
    checkpoint_count: u32,
}

impl Store {
    fn open(directory: &Path) -> (Self, u64) {
        let (reader, mut writer) =
            LmdbIndex::open(&directory.join("index"), &LmdbOptions::default()).expect("an index");
        let files = DiskFiles::open(directory).expect("a directory");
        let indexed = shard_positions(&reader, config().shards.shards()).expect("readable");
        let mut replay = Replay::begin(reader.clone(), config()).expect("readable");
        let (mut log, found) =
            Log::open(files, 1, &indexed, &mut |position, record| replay.replay(position, record))
                .expect("readable");
        let engine = replay.finish(log.end());
        let (batches, batch_jobs) = channel::<Batch>();
        let (results, logged) = channel();
        let (trim, trims) = channel::<u64>();
        let log_thread = std::thread::spawn(move || {
            for mut batch in batch_jobs {
                while let Ok(position) = trims.try_recv() {
                    log.trim(position).expect("files go");
                }
                let result = log.commit(&mut batch.records, batch.sync);
                let _ = results.send((batch.id, result));
            }
        });
        let (checkpoints, checkpoint_jobs) = channel::<(Checkpoint, Sender<u64>)>();
        let (done, written) = channel();
        let checkpoint_thread = std::thread::spawn(move || {
            for (checkpoint, trim) in checkpoint_jobs {
                let mut last = Instant::now();
                let result = checkpoint.write(&mut writer, &mut || {
                    std::thread::park_timeout(last.elapsed().min(Duration::from_millis(100)));
                    last = Instant::now();
                });
                let _ = trim.send(checkpoint.position());
                let _ = done.send(result);
            }
        });
        let store = Self {
            engine,
            reader,
            batches,
            logged,
            checkpoints,
            written,
            trim,
            threads: vec![log_thread, checkpoint_thread],
            answers: Vec::new(),
            is_checkpointing: false,
            checkpoint_count: 0,
        };
        (store, found.records)
    }

    /// Hands over what waits, and begins a checkpoint if one is due.
    fn turn(&mut self) {
        if let Some(batch) = self.engine.take_batch() {
            self.batches.send(batch).expect("the log thread runs");
        }
        if self.engine.unfrozen_bytes() > CHECKPOINT_BYTES {
            self.engine.freeze(0);
        }
        if let Some(checkpoint) = self.engine.take_checkpoint() {
            self.is_checkpointing = true;
            self.checkpoints.send((checkpoint, self.trim.clone())).expect("it runs");
        }
        if let Ok(result) = self.written.try_recv() {
            self.written(result);
        }
    }

    fn written(&mut self, result: Result<(), SeamError>) {
        result.expect("the disk takes it");
        drop(self.engine.checkpointed(Ok(())));
        self.is_checkpointing = false;
        self.checkpoint_count += 1;
    }

    /// Waits for the batch under way.
    fn wait(&mut self) {
        let (batch, result) = self.logged.recv().expect("the log thread runs");
        self.engine.committed(batch, result, &mut self.answers);
    }

    fn checkpoint(&mut self) {
        while !self.engine.is_settled() {
            self.turn();
            self.wait();
        }
        for _ in 0..2 {
            self.turn();
            self.engine.freeze(0);
            self.turn();
            if self.is_checkpointing {
                let result = self.written.recv().expect("it runs");
                self.written(result);
            }
        }
        assert_eq!(self.engine.pending_bytes(), 0);
    }

    /// `keys` written one by one, `batch` at a time.
    fn fill(&mut self, keys: u64) {
        for number in 0..keys {
            self.engine.execute(Ticket(0), merge(number, 1), &mut self.answers);
            if number % 512 == 511 {
                self.turn();
                self.wait();
                self.answers.clear();
            }
        }
        self.checkpoint();
    }

    fn close(self) {
        let Self { batches, checkpoints, trim, threads, engine, reader, .. } = self;
        drop((batches, checkpoints, trim, engine, reader));
        for thread in threads {
            thread.join().expect("it ended");
        }
    }
}

fn percentile(latencies: &mut [u32], part: f64) -> u32 {
    latencies.sort_unstable();
    let at = (latencies.len() as f64 * part) as usize;
    latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Merges by 64 callers, each of which waits for its acknowledgement, until enough checkpoints are
/// done. Returns merges a second.
fn durable_merges(directory: &Path, keys: u64, checkpoints: u32) -> f64 {
    let (mut store, _) = Store::open(directory);
    store.fill(keys);
    store.checkpoint_count = 0;
    let (mut state, mut count, mut begun) = (1, 0_u64, vec![Instant::now(); CALLERS as usize]);
    let mut free: Vec<u64> = (0..CALLERS).collect();
    let (mut during, mut between) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while store.checkpoint_count < checkpoints {
        for caller in free.drain(..) {
            count += 1;
            begun[caller as usize] = Instant::now();
            let command = merge(random(&mut state, keys), count + 1);
            store.engine.execute(Ticket(caller), command, &mut store.answers);
        }
        store.turn();
        store.wait();
        for (Ticket(caller), answer) in store.answers.drain(..) {
            assert!(matches!(answer, Answer::Merged(_)), "{answer:?}");
            let latency = begun[caller as usize].elapsed().as_micros() as u32;
            if store.is_checkpointing { &mut during } else { &mut between }.push(latency);
            free.push(caller);
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let (during_p, between_p) = (percentile(&mut during, 0.999), percentile(&mut between, 0.999));
    println!(
        "p99.9 during checkpoints {during_p} us ({} merges), between {between_p} us ({}): {:.2} times",
        during.len(),
        between.len(),
        f64::from(during_p) / f64::from(between_p.max(1))
    );
    store.close();
    rate
}

/// The same merges with LMDB alone, `group` of them in each commit. Returns merges a second.
fn lmdb_alone(directory: &Path, keys: u64, group: u64, limit: Duration) -> f64 {
    let (reader, mut writer) =
        LmdbIndex::open(directory, &LmdbOptions::default()).expect("an index");
    let row_of = |number: u64| format!("{:016x}{number:012}", random(&mut { number }, u64::MAX));
    let value = [7_u8; 150];
    let mut commit = |numbers: &[u64]| {
        let keys: Vec<String> = numbers.iter().map(|&number| row_of(number)).collect();
        let changes: Vec<_> = keys
            .iter()
            .map(|key| RowChange { table: Table::Header, key: key.as_bytes(), value: Some(&value) })
            .collect();
        // A merge reads what it changes.
        for change in &changes {
            let look = &mut |value: &[u8]| {
                black_box(value);
            };
            reader.get(Table::Header, change.key, look).expect("readable");
        }
        writer.commit(&changes).expect("the disk takes it");
    };
    for first in (0..keys).step_by(10_000) {
        commit(&(first..first + 10_000).collect::<Vec<_>>());
    }
    let (mut state, mut count, start) = (1, 0, Instant::now());
    while start.elapsed() < limit {
        let numbers: Vec<u64> = (0..group).map(|_| random(&mut state, keys)).collect();
        commit(&numbers);
        count += group;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn reads_and_start(directory: &Path) {
    let (mut store, _) = Store::open(directory);
    store.fill(MILLION);
    let size = std::fs::metadata(directory.join("index/data.mdb")).expect("it is there").len();
    println!("a million keys with 100 bytes: {} bytes a key on disk", size / MILLION);
    let rows: Vec<Vec<u8>> = {
        let mut rows = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            rows.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        };
        store.reader.scan(Table::Header, &[], visit).expect("readable");
        rows
    };
    let (mut bare, mut engine) = (Vec::new(), Vec::new());
    const READS: u64 = 100_000;
    for round in 0..5_u64 {
        let (mut state, start) = (round, Instant::now());
        for _ in 0..READS {
            let row = &rows[random(&mut state, MILLION) as usize];
            let look = &mut |value: &[u8]| {
                black_box(value);
            };
            store.reader.get(Table::Header, row, look).expect("readable");
        }
        bare.push(start.elapsed().as_nanos() as u32 / READS as u32);
        let keys: Vec<Key> = (0..READS).map(|_| key(random(&mut state, MILLION))).collect();
        let start = Instant::now();
        for key in keys {
            let read = Command::Read { key, scope: Scope::Headers };
            store.engine.execute(Ticket(0), read, &mut store.answers);
            store.answers.clear();
        }
        engine.push(start.elapsed().as_nanos() as u32 / READS as u32);
    }
    let (bare, engine) = (percentile(&mut bare, 0.5), percentile(&mut engine, 0.5));
    println!(
        "read of a random key: {engine} ns, bare LMDB get {bare} ns: {:.2} times",
        f64::from(engine) / f64::from(bare)
    );
    // The tail: no checkpoint from here on.
    let (mut state, mut bytes, mut stamp) = (9, 0, 2);
    while bytes < TAIL_BYTES {
        for _ in 0..512 {
            stamp += 1;
            let command = merge(random(&mut state, MILLION), stamp);
            store.engine.execute(Ticket(0), command, &mut store.answers);
        }
        let batch = store.engine.take_batch().expect("there are records");
        bytes += batch.records.len() as u64;
        store.batches.send(batch).expect("it runs");
        store.wait();
        store.answers.clear();
    }
    store.close();
    let start = Instant::now();
    let (store, records) = Store::open(directory);
    let took = start.elapsed();
    println!(
        "start with a million keys and a tail of 64 MiB: {} ms, {records} records, {:.0} a second",
        took.as_millis(),
        records as f64 / took.as_secs_f64()
    );
    assert_eq!(store.engine.live_keys(), MILLION);
    store.close();
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut next = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (keys, checkpoints) = (next(500_000), next(10));
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let directory = || tempfile::tempdir_in(&target).expect("a directory");
    let limit = Duration::from_secs(10);
    let each = lmdb_alone(directory().path(), keys, 1, limit);
    let group = lmdb_alone(directory().path(), keys, CALLERS, limit);
    let rate = durable_merges(directory().path(), keys, checkpoints as u32);
    println!(
        "durable merges of {CALLERS} callers, {keys} keys, {checkpoints} checkpoints: {rate:.0} a second;\n\
         LMDB synced each {each:.0}: {:.1} times; LMDB in groups of {CALLERS} {group:.0}: {:.1} times",
        rate / each,
        rate / group
    );
    reads_and_start(directory().path());
}
