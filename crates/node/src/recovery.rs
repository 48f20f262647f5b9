//! Opening a node's storage: every loop's engine, from what the index holds and what the log holds
//! beyond it.
//!
//! The log is read once, and the loops' engines replay side by side (`storage_lmdb::open_engines`).

use std::time::{Duration, Instant};

use storage::{Engine, EngineConfig, Log, LogRecovery, StorageError, shard_positions};
use storage_lmdb::{DiskFiles, OpenedEngines, open_engines};

use crate::data_directory::DataDirectory;
use crate::routing::LoopOwners;
use crate::shard_reader::ShardReader;
use crate::start_error::StartError;

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

/// Opens the storage in `directory`; `config` makes the configuration of one loop's engine.
pub(crate) fn recover(
    directory: DataDirectory,
    owners: LoopOwners,
    config: impl Fn(usize) -> EngineConfig,
) -> Result<Recovered, StartError> {
    let DataDirectory { files, reader, writer, stamp, .. } = directory;
    let begun = Instant::now();
    let indexed = shard_positions(&reader, owners.shards()).map_err(StorageError::from)?;
    let loops = 0..owners.count();
    let readers = loops.clone().map(|loop_index| {
        (ShardReader::new(reader.clone(), owners, loop_index), config(loop_index))
    });
    let mut progress = Progress { begun, told: begun, records: 0, bytes: 0 };
    let opened = open_engines(files, stamp.directory, &indexed, readers.collect(), &mut |bytes| {
        progress.passed(bytes);
    })?;
    let OpenedEngines { log, found, engines } = opened;
    report(&found, begun.elapsed());
    let position = |loop_index: usize| {
        let set = owners.set(loop_index);
        let positions = set.iter().map(|shard| indexed[usize::from(shard.0)]);
        positions.map(|position| position.unwrap_or(0)).min().unwrap_or(0)
    };
    let engines = engines.into_iter().zip(loops.map(position)).collect();
    Ok(Recovered { log, engines, writer, found })
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
