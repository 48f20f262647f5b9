//! Event loops: threads that each run a core task and the connections dealt to them.

use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::core_task::CoreTask;
use crate::work::Job;

/// Starts a loop's thread. It ends when the core task does, and with it the loop's other tasks.
pub(crate) fn start(
    name: String,
    task: CoreTask,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let local = LocalSet::new();
        local.spawn_local(async move {
            while let Some(job) = jobs.recv().await {
                job.start();
            }
        });
        local.block_on(&runtime, task.run());
    })
}
