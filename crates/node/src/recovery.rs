//! Opening a node's storage: every loop's engine, from what the index holds and what the log holds
//! beyond it.
//!
//! The log is read once; each record goes to the engine that has its shard. With several loops
//! each engine replays in a thread of its own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use storage::{
    Engine, EngineConfig, Log, LogRecovery, Replay, StorageError, record_shard, shard_positions,
};
use storage_lmdb::DiskFiles;

use crate::data_directory::DataDirectory;
use crate::routing::LoopOwners;
use crate::shard_reader::ShardReader;
use crate::start_error::StartError;

/// Records handed to an engine's thread at once, in bytes: enough that handing over costs nothing
/// beside replaying.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that wait for one engine.
const CHUNKS_MAX: usize = 4;

/// A start that takes longer than this says how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A node's storage, ready to serve.
pub(crate) struct Recovered {
    pub(crate) log: Log<DiskFiles>,
    /// The engine of each loop, and up to where the index holds its records.
    pub(crate) engines: Vec<(Engine<ShardReader>, u64)>,
    pub(crate) writer: storage_lmdb::LmdbWriter,
    pub(crate) found: LogRecovery,
}

/// Some records and their positions.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Position of each, and where in `bytes` it ends.
    records: Vec<(u64, usize)>,
}

impl Chunk {
    fn push(&mut self, position: u64, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.records.push((position, self.bytes.len()));
    }
}

/// Opens the storage in `directory`; `config` makes the configuration of one loop's engine.
pub(crate) fn recover(
    directory: DataDirectory,
    owners: LoopOwners,
    config: impl Fn(usize) -> EngineConfig,
) -> Result<Recovered, StartError> {
    let DataDirectory { files, reader, writer, stamp, .. } = directory;
    let begun = Instant::now();
    let indexed = shard_positions(&reader, owners.shards()).map_err(StorageError::from)?;
    let (mut log, mut found) = (None, LogRecovery::default());
    let loops = 0..owners.count();
    let engines = std::thread::scope(|scope| {
        let mut senders: Vec<(SyncSender<Chunk>, Chunk)> = Vec::new();
        let mut threads = Vec::new();
        for loop_index in loops.clone() {
            let reader = ShardReader::new(reader.clone(), owners, loop_index);
            let (sender, chunks) = sync_channel(CHUNKS_MAX);
            let config = config(loop_index);
            senders.push((sender, Chunk::default()));
            threads.push(scope.spawn(move || replay(reader, config, &chunks)));
        }
        let mut progress = Progress { begun, told: begun, records: 0, bytes: 0 };
        let opened = Log::open(files, stamp.directory, &indexed, &mut |position, record| {
            let Some(shard) = record_shard(record) else { return };
            let (sender, chunk) = &mut senders[owners.of_shard(shard)];
            chunk.push(position, record);
            if chunk.bytes.len() >= CHUNK_BYTES {
                // An engine that could not be opened takes none, and says so below.
                let _ = sender.send(std::mem::take(chunk));
            }
            progress.passed(record.len());
        });
        for (sender, chunk) in senders {
            let _ = sender.send(chunk);
        }
        let replays: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("replay does not panic"))
            .collect();
        let (opened, seen) = opened.map_err(StorageError::from)?;
        let end = opened.end();
        (log, found) = (Some(opened), seen);
        replays
            .into_iter()
            .map(|replay| Ok(replay?.finish(end)))
            .collect::<Result<Vec<_>, StorageError>>()
    })?;
    let log = log.expect("it was opened, or an error returned");
    report(&found, begun.elapsed());
    let position = |loop_index: usize| {
        let set = owners.set(loop_index);
        let positions = set.iter().map(|shard| indexed[usize::from(shard.0)]);
        positions.map(|position| position.unwrap_or(0)).min().unwrap_or(0)
    };
    let engines = engines.into_iter().zip(loops.map(position)).collect();
    Ok(Recovered { log, engines, writer, found })
}

/// Opens one engine and gives it its records.
fn replay(
    reader: ShardReader,
    config: EngineConfig,
    chunks: &Receiver<Chunk>,
) -> Result<Replay<ShardReader>, StorageError> {
    let mut replay = Replay::begin(reader, config)?;
    for Chunk { bytes, records } in chunks {
        let mut from = 0;
        for (position, to) in records {
            replay.replay(position, &bytes[from..to]);
            from = to;
        }
    }
    Ok(replay)
}

/// How far the log was read.
struct Progress {
    begun: Instant,
    told: Instant,
    records: u64,
    bytes: usize,
}

impl Progress {
    fn passed(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
        if self.records.is_multiple_of(4_096) && self.told.elapsed() > PROGRESS_AFTER {
            self.told = Instant::now();
            let (records, bytes, ms) = (self.records, self.bytes, self.begun.elapsed().as_millis());
            tracing::info!(records, bytes, ms, "replaying the log");
        }
    }
}

fn report(found: &LogRecovery, took: Duration) {
    let LogRecovery { records, bytes, torn_bytes, damage } = found;
    let per_second = (*records as f64 / took.as_secs_f64().max(1e-6)) as u64;
    tracing::info!(records, bytes, torn_bytes, ms = took.as_millis(), per_second, "log replayed");
    for damage in damage {
        tracing::error!(%damage, "the log is damaged: what it lost is repaired from other replicas");
    }
}
