//! Opening engines: the log is read once, and each engine does again what the index lacks of its
//! shards, in a thread of its own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use storage::{
    Engine, EngineConfig, IndexRead, Log, LogRecovery, Logged, Replay, ShardSet, StorageError,
    record_shard,
};

use crate::DiskFiles;

/// Records handed to an engine's thread at once, in bytes: enough that handing over costs nothing
/// beside replaying.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that wait for one engine.
const CHUNKS_MAX: usize = 4;

/// A log, and the engines whose records it holds, ready to serve.
#[derive(Debug)]
pub struct OpenedEngines<R> {
    /// The log, at its end.
    pub log: Log<DiskFiles>,
    /// What opening it found.
    pub found: LogRecovery,
    /// The engines, in the order in which they were given.
    pub engines: Vec<Engine<R>>,
}

/// Some records and their positions.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Position of each, and where in `bytes` it ends, or up to where the log lost some.
    records: Vec<(u64, Result<usize, u64>)>,
}

impl Chunk {
    fn push(&mut self, position: u64, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.records.push((position, Ok(self.bytes.len())));
    }
}

/// Records on their way to one engine.
struct Sender {
    shards: ShardSet,
    chunks: SyncSender<Chunk>,
    chunk: Chunk,
}

impl Sender {
    fn send(&mut self) {
        // An engine that could not be opened takes none, and says so when its thread has ended.
        let _ = self.chunks.send(std::mem::take(&mut self.chunk));
    }
}

/// Opens the log in `files`, of the data directory with the number `directory`, and engines over what
/// their readers show. `indexed`: what [`storage::shard_positions`] says. `passed` is told the bytes of
/// each record read. On an error what the log did not need any more may have been cut off or set
/// aside, and opening it again is as good as the first time.
pub fn open_engines<R: IndexRead + Send>(
    files: DiskFiles,
    directory: u64,
    indexed: &[Option<u64>],
    engines: Vec<(R, EngineConfig)>,
    passed: &mut dyn FnMut(usize),
) -> Result<OpenedEngines<R>, StorageError> {
    std::thread::scope(|scope| {
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for (reader, config) in engines {
            let (sender, chunks) = sync_channel(CHUNKS_MAX);
            let shards = config.shards.clone();
            senders.push(Sender { shards, chunks: sender, chunk: Chunk::default() });
            threads.push(scope.spawn(move || replay(reader, config, &chunks)));
        }
        let opened = Log::open(files, directory, indexed, &mut |position, logged| {
            let record = match logged {
                Logged::Record(record) => record,
                Logged::GoneTo(to) => {
                    // Of which shard they were nobody knows.
                    let lost = (position, Err(to));
                    return senders.iter_mut().for_each(|sender| sender.chunk.records.push(lost));
                }
            };
            let Some(shard) = record_shard(record) else { return };
            if let Some(sender) = senders.iter_mut().find(|sender| sender.shards.contains(shard)) {
                sender.chunk.push(position, record);
                if sender.chunk.bytes.len() >= CHUNK_BYTES {
                    sender.send();
                }
            }
            passed(record.len());
        });
        senders.iter_mut().for_each(Sender::send);
        // Without senders the threads end.
        drop(senders);
        let replays: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("replay does not panic"))
            .collect();
        let (log, found) = opened?;
        let (end, is_synced) = (log.end(), log.is_synced());
        let engines = replays.into_iter().map(|replay| Ok(replay?.finish(end, is_synced)));
        let engines = engines.collect::<Result<Vec<_>, StorageError>>()?;
        Ok(OpenedEngines { log, found, engines })
    })
}

/// Opens one engine and gives it its records.
fn replay<R: IndexRead>(
    reader: R,
    config: EngineConfig,
    chunks: &Receiver<Chunk>,
) -> Result<Replay<R>, StorageError> {
    let mut replay = Replay::begin(reader, config)?;
    for Chunk { bytes, records } in chunks {
        let mut from = 0;
        for (position, end) in records {
            match end {
                Ok(to) => {
                    replay.replay(position, Logged::Record(&bytes[from..to]));
                    from = to;
                }
                Err(to) => replay.replay(position, Logged::GoneTo(to)),
            }
        }
    }
    Ok(replay)
}
