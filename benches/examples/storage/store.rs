//! A node's storage: an engine, the log's thread and the thread that writes checkpoints, over real files.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use storage::{
    Answer, Appended, Batch, BatchId, Checkpoint, Command, Durability, Engine, EngineConfig,
    SeamError, ShardSet, Shards, Ticket, shard_positions,
};
use storage_lmdb::{DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, OpenedEngines, open_engines};
use values::{Delta, Key, Limits, Mint, Operation, RegisterOp, View};

/// As in a node.
const CHECKPOINT_BYTES: usize = 64 << 20;

type Reply = (BatchId, Result<Appended, SeamError>);

fn shards() -> Shards {
    Shards::new(PartitionCount::new(4096).expect("a power of two"), 64)
}

fn config(shards: ShardSet) -> EngineConfig {
    EngineConfig {
        node: NodeId(1),
        process: 1,
        shards,
        pending_bytes_max: 256 << 20,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    }
}

pub(crate) fn key(number: u64) -> Key {
    Key::new("default", format!("key:{number:012}")).expect("a short key")
}

/// Numbers below `bound` in no order (SplitMix64).
pub(crate) fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (word ^ (word >> 29)) % bound
}

/// The delta of a coordinator elsewhere that set a register to 100 bytes.
fn delta(number: u64) -> Delta {
    let set = RegisterOp::Set { value: Bytes::from(vec![7; 100]), at: None, replace: true };
    let actor = clock::Actor::new(NodeId(2), 2, 0);
    let mint = Mint { actor, stamp: Stamp(number), round: None };
    Operation::Register(set)
        .prepare(&View::default(), &CausalContext::default(), mint, &Limits::default())
        .expect("within the limits")
        .delta
}

pub(crate) fn merge(number: u64, stamp: u64) -> Command {
    let (key, delta, durability) = (key(number), delta(stamp), Durability::Sync);
    Command::Merge { key, delta, show: None, durability }
}

/// Opens what is in `directory` as a node with so many loops does, and nothing else. Returns how many
/// records of the log were done again, and how many keys there are.
pub(crate) fn start(directory: &Path, loops: u16) -> (u64, u64) {
    let (reader, _writer) =
        LmdbIndex::open(&directory.join("index"), &LmdbOptions::default()).expect("an index");
    let files = DiskFiles::open(directory).expect("a directory");
    let indexed = shard_positions(&reader, shards()).expect("readable");
    let engines = (0..loops)
        .map(|engine| (reader.clone(), config(ShardSet::dealt(shards(), engine, loops))))
        .collect();
    let opened = open_engines(files, 1, &indexed, engines, &mut |_| ()).expect("readable");
    (opened.found.records, opened.engines.iter().map(Engine::live_keys).sum())
}

/// A node's storage with its threads, and one engine.
pub(crate) struct Store {
    pub(crate) engine: Engine<LmdbReader>,
    pub(crate) reader: LmdbReader,
    pub(crate) batches: Sender<Batch>,
    logged: Receiver<Reply>,
    checkpoints: Sender<(Checkpoint, Sender<u64>)>,
    written: Receiver<Result<(), SeamError>>,
    trim: Sender<u64>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) answers: Vec<(Ticket, Answer)>,
    pub(crate) is_checkpointing: bool,
    pub(crate) checkpoint_count: u32,
}

impl Store {
    pub(crate) fn open(directory: &Path) -> Self {
        let (reader, mut writer) =
            LmdbIndex::open(&directory.join("index"), &LmdbOptions::default()).expect("an index");
        let files = DiskFiles::open(directory).expect("a directory");
        let indexed = shard_positions(&reader, shards()).expect("readable");
        let all = vec![(reader.clone(), config(ShardSet::all(shards())))];
        let opened =
            open_engines(files, 1, &indexed, all, &mut |_| ()).expect("what was written before");
        let OpenedEngines { mut log, mut engines, .. } = opened;
        let engine = engines.pop().expect("one was asked for");
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
        Self {
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
        }
    }

    /// Hands over what waits, and begins a checkpoint if one is due.
    pub(crate) fn turn(&mut self) {
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
    pub(crate) fn wait(&mut self) {
        let (batch, result) = self.logged.recv().expect("the log thread runs");
        self.engine.committed(batch, result, &mut self.answers);
    }

    pub(crate) fn checkpoint(&mut self) {
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
    pub(crate) fn fill(&mut self, keys: u64) {
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

    pub(crate) fn close(self) {
        let Self { batches, checkpoints, trim, threads, engine, reader, .. } = self;
        drop((batches, checkpoints, trim, engine, reader));
        for thread in threads {
            thread.join().expect("it ended");
        }
    }
}
