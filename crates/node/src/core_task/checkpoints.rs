//! When a loop has its rows brought into the index.
//!
//! When they take much memory; when the log thread asks, because the log has grown long; and last
//! of all when the loop is about to end, so that the next start has nothing to replay.

use std::time::Duration;

use storage::SeamError;
use tokio::time::Instant;

use super::Running;
use crate::checkpoint_thread::IndexJob;
use crate::log_thread::LogJob;

/// After a checkpoint that failed, it is tried again this much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How far the last checkpoint before the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Last {
    #[default]
    NotAsked,
    Asked,
    /// Made, or given up: then the next start replays what is missing.
    Made,
}

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// A checkpoint was asked for when the log went up to here.
    pub(super) asked: Option<u64>,
    /// When one that failed is tried again.
    pub(super) retry_at: Option<Instant>,
    pub(super) last: Last,
}

impl Running {
    /// Begins a checkpoint if one is due, and hands over what is ready of one. Called right after
    /// the batch was taken.
    pub(super) fn checkpoint(&mut self) {
        let engine = &mut self.task.engine;
        let is_due = self.checkpoints.asked.is_some()
            || engine.unfrozen_bytes() >= self.task.checkpoint_bytes;
        if is_due && engine.freeze(self.checkpoints.asked.unwrap_or(0)) {
            self.checkpoints.asked = None;
        }
        if self.checkpoints.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.checkpoints.retry_at = None;
            if let Some(checkpoint) = engine.take_checkpoint() {
                self.index(IndexJob::Checkpoint { owner: self.task.loop_index, checkpoint });
            }
        }
        if self.stopping.is_some() && self.checkpoints.last == Last::NotAsked && self.is_idle() {
            self.checkpoints.last = Last::Asked;
            self.log(LogJob::Last { owner: self.task.loop_index });
        }
    }

    pub(super) fn checkpointed(&mut self, result: Result<(), SeamError>) {
        let failed = result.is_err();
        if let Some(rows) = self.task.engine.checkpointed(result) {
            self.index(IndexJob::Drop(rows));
        }
        self.checkpoints.retry_at = failed.then(|| Instant::now() + RETRY_PAUSE);
        let is_last = self.checkpoints.asked.is_none() && self.task.engine.pending_bytes() == 0;
        if self.checkpoints.last == Last::Asked && (failed || is_last) {
            self.checkpoints.last = Last::Made;
        }
    }

    fn index(&self, job: IndexJob) {
        // The checkpoint thread outlives the loops: they hold the senders that keep it going.
        let sent = self.task.index.send(job);
        assert!(sent.is_ok(), "the checkpoint thread has died; memory would only fill");
    }
}
