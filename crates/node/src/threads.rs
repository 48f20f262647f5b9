//! The threads without which a node is none: if one of them panics, the process ends.
//!
//! A node half of which is gone would go on to say that it is ready, and would hold up whoever asks it. A dead
//! one is noticed by the others, and started again by whoever watches it.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// Ends the process if it is dropped by a panic: of its thread, or of its task, which the runtime would keep
/// to itself.
pub(crate) struct Vital {
    name: String,
    end: fn(&str),
}

impl Vital {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), end: abort }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.end)(&self.name);
        }
    }
}

fn abort(name: &str) {
    tracing::error!(name, "a part of the node panicked without which it is none: the process ends");
    std::process::abort();
}

/// Starts a thread without which the node is none.
pub(crate) fn spawn(
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let vital = Vital::new(name.clone());
    std::thread::Builder::new().name(name).spawn(move || {
        let _vital = vital;
        run();
    })
}

/// Runs `future`, and the tasks of `local` while it runs. What still blocks then, as the lookup of a name
/// does, is not waited for.
pub(crate) fn run_local<T>(
    runtime: Runtime,
    local: LocalSet,
    future: impl Future<Output = T>,
) -> T {
    let output = local.block_on(&runtime, future);
    drop(local);
    runtime.shutdown_background();
    output
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::runtime::Builder;
    use tokio::task::spawn_blocking;

    use super::*;

    thread_local! {
        static ENDED: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    fn watched() -> Vital {
        let end = |name: &str| ENDED.with_borrow_mut(|ended| ended.push(name.to_owned()));
        Vital { name: "log".into(), end }
    }

    #[test]
    fn a_panic_of_a_thread_or_of_a_task_ends_the_process_and_their_end_does_not() {
        drop(watched());
        assert_eq!(ENDED.take(), Vec::<String>::new());
        let unwound = std::panic::catch_unwind(|| {
            let _vital = watched();
            panic!("on purpose");
        });
        assert!(unwound.is_err());
        assert_eq!(ENDED.take(), ["log"]);
        let runtime = Builder::new_current_thread().build().unwrap();
        let local = LocalSet::new();
        let task = local.spawn_local(async {
            let _vital = watched();
            panic!("on purpose");
        });
        let ended = run_local(runtime, local, task);
        assert!(ended.is_err_and(|error| error.is_panic()));
        assert_eq!(ENDED.take(), ["log"]);
    }

    #[test]
    fn what_blocks_is_not_waited_for() {
        let (release, held) = channel::<()>();
        let (tell, told) = channel();
        let runtime = Builder::new_current_thread().build().unwrap();
        run_local(runtime, LocalSet::new(), async {
            drop(spawn_blocking(move || {
                tell.send(()).unwrap();
                // A time limit, so that a test that fails ends.
                held.recv_timeout(std::time::Duration::from_secs(20))
            }));
            told.recv().unwrap();
        });
        // It still waits.
        release.send(()).unwrap();
    }
}
