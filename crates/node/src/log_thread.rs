//! The log thread: the one writer of the node's log.
//!
//! It takes the batches of all loops that wait, appends them in one write and syncs them with one
//! sync, if any of them is to be durable (group commit); meanwhile the loops gather the next
//! ones. So the batch grows with the load by itself. What nobody waits for is synced once a second.
//!
//! It knows up to where each loop's records are in the index, trims the log behind the last of
//! them, and asks the loops for checkpoints when the log grows long all the same: an idle loop has
//! no reason of its own to make one. A backup that copies the log holds it back from trimming meanwhile.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{Batch, BatchId, Files, Log, SeamError};

use crate::repeats::Repeats;
use crate::routing::Routes;
use crate::threads;
use crate::work::Urgent;

/// Once so many bytes of records are kept, loops are asked for checkpoints. What a start replays is
/// about this at most: a second or two.
const LOG_BYTES_MAX: u64 = 96 << 20;

/// Durability `interval`: what was appended is synced after this long.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum LogJob {
    /// To be appended. Each loop has one under way at most.
    Batch {
        owner: usize,
        batch: Batch,
    },
    /// Asks a loop that is about to end for its last checkpoint.
    Last {
        owner: usize,
    },
    /// The index holds all of this loop's records before `position`.
    Indexed {
        owner: usize,
        position: u64,
    },
    /// Nothing is to be trimmed until as many releases came as holds. Told once that is so.
    Hold(SyncSender<()>),
    Release,
    /// Asks up to where the log goes, once all of that is durable.
    End(SyncSender<Result<u64, SeamError>>),
}

/// A queue of jobs. Unbounded, but holds at most one batch and one checkpoint of each loop, and what
/// one backup asks.
pub(crate) fn queue() -> (Sender<LogJob>, Receiver<LogJob>) {
    channel()
}

/// Starts the thread. It ends once every sender of jobs is dropped. `indexed`: of each loop, up to
/// where the index holds its records.
pub(crate) fn start(
    log: Log<impl Files + Send + 'static>,
    name: &str,
    routes: Routes,
    jobs: Receiver<LogJob>,
    indexed: Vec<u64>,
) -> std::io::Result<JoinHandle<()>> {
    let loops = indexed.into_iter().map(|position| Progress { position, is_asked: false });
    let loops = loops.collect();
    let writer = LogWriter {
        log,
        routes,
        loops,
        holds: 0,
        sync_at: None,
        parts: Vec::new(),
        errors: Repeats::default(),
        trim_errors: Repeats::default(),
        is_failure_told: false,
    };
    threads::spawn(format!("{name}-log"), move || writer.run(&jobs))
}

/// How far the index is with one loop's records.
#[derive(Clone, Copy, Debug)]
struct Progress {
    position: u64,
    /// Whether the loop was asked for a checkpoint and has not brought one.
    is_asked: bool,
}

struct LogWriter<F> {
    log: Log<F>,
    routes: Routes,
    loops: Vec<Progress>,
    /// How many hold the log back from trimming.
    holds: u32,
    /// When what was appended is to be synced.
    sync_at: Option<Instant>,
    /// Loops and their batches that wait for the present write.
    parts: Vec<(usize, BatchId)>,
    /// Of writes and syncs.
    errors: Repeats,
    trim_errors: Repeats,
    /// Whether the loops know that the log takes nothing more.
    is_failure_told: bool,
}

impl<F: Files> LogWriter<F> {
    fn run(mut self, jobs: &Receiver<LogJob>) {
        loop {
            let first = match self.sync_at {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => self.take(std::iter::once(first).chain(jobs.try_iter())),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.sync_at.is_some_and(|at| at <= Instant::now()) {
                self.sync();
            }
        }
    }

    fn take(&mut self, jobs: impl Iterator<Item = LogJob>) {
        let (mut records, mut sync, mut ending) = (Vec::new(), false, Vec::new());
        let mut asking = Vec::new();
        for job in jobs {
            match job {
                LogJob::Batch { owner, batch } => {
                    self.parts.push((owner, batch.id));
                    sync |= batch.sync;
                    if records.is_empty() {
                        records = batch.records;
                    } else {
                        records.extend(batch.records);
                    }
                }
                LogJob::Last { owner } => ending.push(owner),
                LogJob::Indexed { owner, position } => {
                    self.loops[owner] = Progress { position, is_asked: false };
                    self.trim();
                }
                LogJob::Hold(reply) => {
                    self.holds += 1;
                    // One that gave up releases it all the same.
                    let _ = reply.send(());
                }
                LogJob::Release => {
                    self.holds -= 1;
                    self.trim();
                }
                LogJob::End(reply) => asking.push(reply),
            }
        }
        if !self.parts.is_empty() {
            self.write(&mut records, sync);
        }
        for owner in ending {
            self.ask(owner);
        }
        for reply in asking {
            // Whoever gave up is told in vain.
            let _ = reply.send(self.log.sync().map(|()| self.log.end()));
        }
        self.tell_failure();
    }

    fn write(&mut self, records: &mut [u8], sync: bool) {
        let result = self.log.commit(records, sync);
        match &result {
            Ok(appended) if appended.synced => {
                self.sync_at = None;
                self.errors.end();
            }
            Ok(_) => drop(self.sync_at.get_or_insert_with(|| Instant::now() + SYNC_INTERVAL)),
            Err(error) => self.report(error),
        }
        for (owner, batch) in self.parts.drain(..) {
            // A loop that is gone has nobody left to tell.
            let told = Urgent::Committed { batch, result: result.clone() };
            let _ = self.routes.handle(owner).urgent.send(told);
        }
        self.ask_for_checkpoints();
    }

    fn sync(&mut self) {
        self.sync_at = None;
        if let Err(error) = self.log.sync() {
            self.report(&error);
        }
        self.tell_failure();
    }

    /// Tells all loops, once, that a sync failed, also those that did not wait for it: what they acknowledged without one
    /// may be lost, and they are to take no more.
    fn tell_failure(&mut self) {
        let Some(error) = self.log.failure().filter(|_| !self.is_failure_told) else { return };
        for owner in 0..self.loops.len() {
            let told = Urgent::LogFailed { error: error.clone() };
            // A loop that is gone has nobody left to tell.
            let _ = self.routes.handle(owner).urgent.send(told);
        }
        self.is_failure_told = true;
    }

    /// The position before which the index has everything.
    fn indexed(&self) -> u64 {
        self.loops.iter().map(|progress| progress.position).min().unwrap_or(0)
    }

    fn trim(&mut self) {
        if self.holds > 0 {
            return;
        }
        let indexed = self.indexed();
        match self.log.trim(indexed) {
            Ok(_) => self.trim_errors.end(),
            Err(error) => {
                if let Some(times) = self.trim_errors.news(&error) {
                    tracing::warn!(%error, times, "the log could not be trimmed; it is tried again");
                }
            }
        }
    }

    fn report(&mut self, error: &SeamError) {
        if let Some(times) = self.errors.news(error) {
            tracing::error!(%error, times, "the log was not written; what waited for it is answered with the error");
        }
    }

    fn ask_for_checkpoints(&mut self) {
        let end = self.log.end();
        if end - self.indexed().min(end) <= LOG_BYTES_MAX {
            return;
        }
        for owner in 0..self.loops.len() {
            let Progress { position, is_asked } = self.loops[owner];
            // Half of it may stay: a loop that has just made one need not make another.
            if !is_asked && end - position.min(end) > LOG_BYTES_MAX / 2 {
                self.ask(owner);
            }
        }
    }

    fn ask(&mut self, owner: usize) {
        self.loops[owner].is_asked = true;
        let ask = Urgent::Checkpoint { logged: self.log.end() };
        let _ = self.routes.handle(owner).urgent.send(ask);
    }

    /// Every loop has ended.
    fn finish(mut self) {
        self.sync();
        if self.indexed() >= self.log.end()
            && let Err(error) = self.log.finish()
        {
            tracing::warn!(%error, "the log was not emptied; the next start reads it");
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::PartitionCount;
    use storage::SimFiles;
    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;
    use crate::routing::{LoopHandle, LoopOwners};

    /// A log without records, and what its two loops are told.
    fn writer(files: &SimFiles) -> (LogWriter<SimFiles>, [UnboundedReceiver<Urgent>; 2]) {
        let (log, _) = Log::open(files.clone(), 1, &[], &mut |_, _| ()).unwrap();
        let [(one, told), (two, also_told)] = [(); 2].map(|()| mpsc::unbounded_channel());
        let handle = |urgent| LoopHandle {
            work: mpsc::channel(1).0,
            urgent,
            jobs: mpsc::unbounded_channel().0,
        };
        let owners = LoopOwners::new(PartitionCount::new(8).unwrap(), 2);
        let writer = LogWriter {
            log,
            routes: Routes::new(vec![handle(one), handle(two)], owners),
            loops: vec![Progress { position: 0, is_asked: false }; 2],
            holds: 0,
            sync_at: None,
            parts: Vec::new(),
            errors: Repeats::default(),
            trim_errors: Repeats::default(),
            is_failure_told: false,
        };
        (writer, [told, also_told])
    }

    /// One that nobody waits for to be synced.
    fn batch() -> LogJob {
        // One record of no bytes.
        let records = vec![0; 16];
        LogJob::Batch { owner: 0, batch: Batch { id: BatchId(0), records, sync: false } }
    }

    #[test]
    fn all_loops_are_told_once_that_a_sync_failed_whoever_waited_for_it() {
        let files = SimFiles::new();
        let (mut writer, [mut one, mut two]) = writer(&files);
        writer.take([batch()].into_iter());
        assert!(
            matches!(one.try_recv(), Ok(Urgent::Committed { result: Ok(it), .. }) if !it.synced)
        );
        files.fail_next_sync();
        writer.sync();
        for told in [&mut one, &mut two] {
            let Ok(Urgent::LogFailed { error }) = told.try_recv() else { panic!("it is not told") };
            assert!(error.to_string().contains("restart the node"), "{error}");
        }
        writer.take([batch()].into_iter());
        assert!(matches!(one.try_recv(), Ok(Urgent::Committed { result: Err(_), .. })));
        assert!(one.try_recv().is_err() && two.try_recv().is_err(), "once");
    }
}
