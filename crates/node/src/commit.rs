//! The commit thread: the one writer of the node's index.
//!
//! It takes the batches of all loops that wait and commits them in one transaction, so that all
//! share one sync of the disk (group commit); while it commits, the loops gather the next ones.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use storage::{Batch, IndexWrite, RowChange, SeamError};

use crate::routing::Routes;
use crate::work::Urgent;

/// A batch and the loop it came from.
#[derive(Debug)]
pub(crate) struct CommitJob {
    pub(crate) owner: usize,
    pub(crate) batch: Batch,
}

/// Starts the thread. It ends, and drops the writer, once every sender of jobs is dropped.
pub(crate) fn start(
    mut writer: impl IndexWrite + Send + 'static,
    name: &str,
    routes: Routes,
    jobs: Receiver<CommitJob>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("{name}-commit")).spawn(move || {
        while let Ok(first) = jobs.recv() {
            commit(&mut writer, std::iter::once(first).chain(jobs.try_iter()), &routes);
        }
    })
}

/// A queue of jobs. Unbounded, but holds at most one batch of each loop.
pub(crate) fn queue() -> (Sender<CommitJob>, Receiver<CommitJob>) {
    channel()
}

fn commit(
    writer: &mut impl IndexWrite,
    jobs: impl Iterator<Item = CommitJob>,
    routes: &Routes,
) {
    let mut changes: Vec<RowChange> = Vec::new();
    let mut parts = Vec::new();
    for CommitJob { owner, batch } in jobs {
        parts.push((owner, batch.id));
        if changes.is_empty() {
            changes = batch.changes;
        } else {
            changes.extend(batch.changes);
        }
    }
    let result = writer.commit(&changes);
    if let Err(error) = &result {
        report(error);
    }
    for (owner, batch) in parts {
        // A loop that is gone has nobody left to tell.
        let _ = routes.handle(owner).urgent.send(Urgent::Committed { batch, result: result.clone() });
    }
}

fn report(error: &SeamError) {
    tracing::error!(%error, "a batch was not committed; its writes are answered with the error");
}
