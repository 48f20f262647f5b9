//! An engine with its log and its index, driven by one caller: for tests, benchmarks and tools. A node
//! drives the same parts from threads of their own.

use crate::{
    Answer, Command, Engine, EngineConfig, Files, IndexRead, IndexWrite, Log, LogRecovery, Replay,
    StorageError, Ticket, shard_positions,
};

/// See the module's header.
#[derive(Debug)]
pub struct SingleEngine<F, R, W> {
    engine: Engine<R>,
    log: Log<F>,
    writer: W,
}

impl<F: Files, R: IndexRead, W: IndexWrite> SingleEngine<F, R, W> {
    /// The replica that index and log hold, and what was found in the log. `directory`: the number
    /// of the data directory.
    pub fn open(
        files: F,
        reader: R,
        writer: W,
        directory: u64,
        config: EngineConfig,
    ) -> Result<(Self, LogRecovery), StorageError> {
        let indexed = shard_positions(&reader, config.shards.shards())?;
        let mut replay = Replay::begin(reader, config)?;
        let (log, found) = Log::open(files, directory, &indexed, &mut |position, logged| {
            replay.replay(position, logged);
        })?;
        let engine = replay.finish(log.end(), log.is_synced());
        Ok((Self { engine, log, writer }, found))
    }

    /// Executes a command. Answers that wait for the log come from [`log_batch`](Self::log_batch).
    pub fn execute(
        &mut self,
        ticket: Ticket,
        command: Command,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        self.engine.execute(ticket, command, answers);
    }

    /// Appends what was done to the log, and syncs it if it is to be; `false` if there was nothing.
    pub fn log_batch(&mut self, answers: &mut Vec<(Ticket, Answer)>) -> bool {
        let Some(mut batch) = self.engine.take_batch() else { return false };
        let result = self.log.commit(&mut batch.records, batch.sync);
        self.engine.committed(batch.id, result, answers);
        true
    }

    /// Brings everything in memory into the index, and trims the log. After a failure what was
    /// begun is written again by the next call.
    pub fn checkpoint(&mut self) -> Result<(), StorageError> {
        // One that was begun before and failed, and then what was done since.
        for _ in 0..2 {
            self.engine.freeze(self.log.end());
            let Some(checkpoint) = self.engine.take_checkpoint() else { break };
            let result = checkpoint.write(&mut self.writer, &mut || ());
            self.engine.checkpointed(result.clone());
            result?;
            self.log.trim(checkpoint.position())?;
            if self.engine.pending_bytes() == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine<R> {
        &self.engine
    }

    /// The engine, to sweep and to ask the disk.
    pub const fn engine_mut(&mut self) -> &mut Engine<R> {
        &mut self.engine
    }

    /// The log.
    pub const fn log(&self) -> &Log<F> {
        &self.log
    }
}
