//! A replica in memory: an engine over a simulated disk, whose every batch goes through the log into
//! the index at once.
//!
//! For tests that are not about the log.

use clock::Round;
use values::Key;

use crate::{
    Answer, Command, Engine, EngineConfig, SimDisk, SimFiles, SimIndex, SimIndexReader,
    SimIndexWriter, SingleEngine, StorageError, Ticket, TreeClasses,
};

/// An engine and the disk under it.
#[derive(Debug)]
pub struct MemoryEngine {
    single: SingleEngine<SimFiles, SimIndexReader, SimIndexWriter>,
    disk: SimDisk,
}

impl MemoryEngine {
    /// An empty replica.
    pub fn new(config: EngineConfig) -> Self {
        Self::open(SimDisk::new(), config).expect("an empty disk can be read")
    }

    /// The replica that `disk` holds.
    pub fn open(disk: SimDisk, config: EngineConfig) -> Result<Self, StorageError> {
        let SimDisk { files, index } = disk.clone();
        let (single, _) = SingleEngine::open(files, index.reader(), index.writer(), 0, config)?;
        Ok(Self { single, disk })
    }

    /// Executes a command and makes what it wrote durable; returns all its answers.
    pub fn execute_now(&mut self, command: Command) -> Vec<Answer> {
        self.execute_all([command])
    }

    /// Executes commands and makes what all of them wrote durable together; returns all answers, those
    /// that waited for that last.
    pub fn execute_all(&mut self, commands: impl IntoIterator<Item = Command>) -> Vec<Answer> {
        let mut answers = Vec::new();
        for command in commands {
            self.single.execute(Ticket(0), command, &mut answers);
        }
        self.write(&mut answers);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// As [`Engine::begin_in`].
    pub fn begin_in(&mut self, round: Round, is_noted: bool) {
        self.single.engine_mut().begin_in(round, is_noted);
    }

    /// Sweeps up to `rows` dead rows (see [`Engine::sweep`]) and writes that.
    pub fn sweep(&mut self, rows: usize) -> bool {
        let more = self.single.engine_mut().sweep(rows);
        self.write(&mut Vec::new());
        more
    }

    /// Keys with something due (see [`Engine::due`]).
    pub fn due(&mut self, now_ms: u64, limit: usize) -> Vec<(Key, u64)> {
        self.single.engine_mut().due(now_ms, limit)
    }

    /// Counts hash trees anew (see [`Engine::recount_trees`]) and writes what that mended.
    pub fn recount_trees(&mut self, rows: usize) -> bool {
        let more = self.single.engine_mut().recount_trees(rows);
        self.write(&mut Vec::new());
        more
    }

    /// Counts elements of large collections (see [`Engine::count_chunks`]) and writes that.
    pub fn count_chunks(&mut self, rows: usize) -> bool {
        let more = self.single.engine_mut().count_chunks(rows);
        self.write(&mut Vec::new());
        more
    }

    /// See [`Engine::set_tree_classes`].
    pub fn set_tree_classes(&mut self, classes: TreeClasses) {
        self.single.engine_mut().set_tree_classes(classes);
    }

    fn write(&mut self, answers: &mut Vec<(Ticket, Answer)>) {
        while self.single.log_batch(answers) {}
        if self.single.engine().pending_bytes() > 0 {
            // What it could not write it shows, and writes the next time.
            let _ = self.single.checkpoint();
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine<SimIndexReader> {
        self.single.engine()
    }

    /// The disk: for faults, and to take it away.
    pub const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The disk's index.
    pub const fn index(&self) -> &SimIndex {
        &self.disk.index
    }
}
