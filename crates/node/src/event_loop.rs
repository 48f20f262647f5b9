//! Event loops: threads that each run a core task and the connections dealt to them.

use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::core_task::CoreTask;
use crate::threads::{self, Vital, run_local};
use crate::work::Job;

/// Starts a loop's thread. It ends when the core task does, and with it the loop's other tasks.
pub(crate) fn start(
    name: String,
    task: CoreTask,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let vital = Vital::new(name.clone());
    threads::spawn(name, move || {
        let local = LocalSet::new();
        local.spawn_local(async move {
            let _vital = vital;
            while let Some(job) = jobs.recv().await {
                job.start();
            }
        });
        run_local(runtime, local, task.run());
    })
}
