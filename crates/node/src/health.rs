//! Whether the node is in service: what its disk lets it do, as load balancers and people are told.

use std::sync::{Mutex, PoisonError};

use storage::StorageError;
use tokio::sync::watch;

/// What the loops say of their disk. The lock is taken when that changes.
#[derive(Debug)]
pub(crate) struct Health {
    /// Why each loop cannot write, if so.
    loops: Mutex<Vec<Option<StorageError>>>,
    out_of_service: watch::Sender<Option<String>>,
}

impl Health {
    /// Of a node with so many loops, which works.
    pub(crate) fn new(loops: usize) -> Self {
        Self { loops: Mutex::new(vec![None; loops]), out_of_service: watch::Sender::new(None) }
    }

    /// Why the node is out of service, from now on; `None` while it is in service.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.out_of_service.subscribe()
    }

    /// Why a loop's writes are refused, or that they are not any more.
    ///
    /// A full disk leaves the node in service: reads go on, and writes are taken as soon as there is
    /// room. Anything else is for people to mend.
    pub(crate) fn tell(&self, loop_index: usize, trouble: Option<&StorageError>) {
        match trouble {
            None => tracing::info!(loop_index, "the disk takes writes again"),
            Some(error @ StorageError::Full) => {
                tracing::warn!(loop_index, %error, "writes are refused, reads go on");
            }
            Some(error) => tracing::error!(loop_index, %error, "the node is out of service"),
        }
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops[loop_index] = trouble.cloned();
        let reason = loops.iter().flatten().find(|error| **error != StorageError::Full);
        self.out_of_service.send_replace(reason.map(ToString::to_string));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_keeps_a_node_in_service_and_one_that_cannot_be_written_does_not() {
        let health = Health::new(2);
        let told = health.subscribe();
        health.tell(1, Some(&StorageError::Full));
        assert_eq!(*told.borrow(), None);
        let read_only = StorageError::ReadOnly("it is mounted so".into());
        health.tell(0, Some(&read_only));
        assert_eq!(*told.borrow(), Some(read_only.to_string()));
        health.tell(1, None);
        assert_eq!(*told.borrow(), Some(read_only.to_string()));
        health.tell(0, None);
        assert_eq!(*told.borrow(), None);
    }
}
