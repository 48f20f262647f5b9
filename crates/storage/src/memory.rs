//! A replica in memory: an engine whose batches are committed at once to a simulated index.
//!
//! For tests that are not about the disk.

use crate::{
    Answer, Command, Engine, EngineConfig, IndexWrite, SimIndex, SimIndexReader, SimIndexWriter,
    StorageError, Ticket, TreeClasses,
};

/// An engine and the index under it.
#[derive(Debug)]
pub struct MemoryEngine {
    engine: Engine<SimIndexReader>,
    writer: SimIndexWriter,
    index: SimIndex,
}

impl MemoryEngine {
    /// An empty replica.
    pub fn new(config: EngineConfig) -> Self {
        Self::open(SimIndex::new(), config).expect("an empty index can be read")
    }

    /// The replica that `index` holds.
    pub fn open(index: SimIndex, config: EngineConfig) -> Result<Self, StorageError> {
        let engine = Engine::open(index.reader(), config)?;
        Ok(Self { engine, writer: index.writer(), index })
    }

    /// Executes a command and commits what it wrote; returns all its answers.
    pub fn execute_now(&mut self, command: Command) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.engine.execute(Ticket(0), command, &mut answers);
        self.commit(&mut answers);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Sweeps up to `rows` dead rows (see [`Engine::sweep`]) and commits that.
    pub fn sweep(&mut self, rows: usize) -> bool {
        let more = self.engine.sweep(rows);
        self.commit(&mut Vec::new());
        more
    }

    /// Counts hash trees anew (see [`Engine::recount_trees`]) and commits what that mended.
    pub fn recount_trees(&mut self, rows: usize) -> bool {
        let more = self.engine.recount_trees(rows);
        self.commit(&mut Vec::new());
        more
    }

    /// Counts elements of large collections (see [`Engine::count_chunks`]) and commits that.
    pub fn count_chunks(&mut self, rows: usize) -> bool {
        let more = self.engine.count_chunks(rows);
        self.commit(&mut Vec::new());
        more
    }

    /// See [`Engine::set_tree_classes`].
    pub fn set_tree_classes(&mut self, classes: TreeClasses) {
        self.engine.set_tree_classes(classes);
    }

    fn commit(&mut self, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some(batch) = self.engine.take_batch() {
            let result = self.writer.commit(&batch.changes);
            self.engine.committed(batch.id, result, answers);
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine<SimIndexReader> {
        &self.engine
    }

    /// The index: for faults, and to take the disk away.
    pub const fn index(&self) -> &SimIndex {
        &self.index
    }
}
