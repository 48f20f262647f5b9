//! The checkpoint thread: the one writer of the node's index.
//!
//! It brings the frozen rows of the loops into the index, one loop after the other, off their way.
//! Between the transactions it rests as long as each took, so that it takes at most half of the disk
//! and of a core from what clients wait for; not so while the node stops.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{Checkpoint, IndexWrite, WrittenRows};

use crate::log_thread::LogJob;
use crate::repeats::Repeats;
use crate::routing::Routes;
use crate::threads;
use crate::work::Urgent;

/// Longest rest between two transactions. A guess: a disk so slow that it needs more is not helped
/// by waiting.
const REST_MAX: Duration = Duration::from_millis(100);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum IndexJob {
    /// To be written. Each loop has one under way at most.
    Checkpoint { owner: usize, checkpoint: Checkpoint },
    /// Rows that are in the index; dropping many takes its time.
    Drop(#[expect(dead_code, reason = "sent to be dropped")] WrittenRows),
}

/// A queue of jobs. Unbounded, but holds at most two of each loop.
pub(crate) fn queue() -> (Sender<IndexJob>, Receiver<IndexJob>) {
    channel()
}

/// Starts the thread. It ends, and drops the writer, once every sender of jobs is dropped; once that
/// of `hurry` is, it does not rest any more.
pub(crate) fn start(
    mut writer: impl IndexWrite + Send + 'static,
    name: &str,
    routes: Routes,
    jobs: Receiver<IndexJob>,
    log: Sender<LogJob>,
    hurry: Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    threads::spawn(format!("{name}-checkpoint"), move || {
        let mut errors = Repeats::default();
        for job in jobs {
            // What is dropped here is all that there is to do.
            let IndexJob::Checkpoint { owner, checkpoint } = job else { continue };
            let (begun, mut last) = (Instant::now(), Instant::now());
            let mut rested = Duration::ZERO;
            let result = checkpoint.write(&mut writer, &mut || {
                let rest = last.elapsed().min(REST_MAX);
                if hurry.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
                    rested += rest;
                }
                last = Instant::now();
            });
            match &result {
                Ok(()) => {
                    errors.end();
                    let (ms, rested_ms) = (begun.elapsed().as_millis(), rested.as_millis());
                    let rows = checkpoint.row_count();
                    tracing::debug!(rows, ms, rested_ms, "checkpoint");
                    // The log thread ends after this one.
                    let _ = log.send(LogJob::Indexed { owner, position: checkpoint.position() });
                }
                Err(error) => {
                    if let Some(times) = errors.news(error) {
                        tracing::error!(%error, times, "a checkpoint failed; it is tried again");
                    }
                }
            }
            // A loop that is gone has its rows in the log.
            let _ = routes.handle(owner).urgent.send(Urgent::Checkpointed { result });
            // The loop's share of the rows comes back as `IndexJob::Drop`; until then this one
            // is kept, so that it is not the loop that frees them.
            drop(checkpoint);
        }
    })
}
