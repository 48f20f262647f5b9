//! What membership keeps on disk for the next start, while the disk takes it and while it does not.

use std::path::PathBuf;
use std::time::Duration;

use membership::Snapshot;
use tokio::time::{Instant, sleep_until};

use crate::snapshot_file;

/// Pause before a disk that did not take a snapshot is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The snapshot on disk, and a later one that is still to get there.
#[derive(Debug)]
pub(super) struct Keeper {
    dir: PathBuf,
    /// The latest one, if the disk did not take it or was not asked yet.
    unwritten: Option<Box<Snapshot>>,
    failures: u64,
    /// When the disk is asked next.
    again_at: Instant,
}

impl Keeper {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, unwritten: None, failures: 0, again_at: Instant::now() }
    }

    /// Writes the snapshot; keeps it while the disk takes none, in place of the one before.
    pub(super) fn persist(&mut self, snapshot: Box<Snapshot>) {
        let was_behind = self.unwritten.replace(snapshot).is_some();
        // A full disk is not asked at each change.
        if !was_behind {
            self.write();
        }
    }

    /// Whether what membership has is not on disk.
    pub(super) const fn is_behind(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Waits until the disk is to be asked again; for ever while it has everything.
    pub(super) async fn is_due(&self) {
        match self.is_behind() {
            true => sleep_until(self.again_at).await,
            false => std::future::pending().await,
        }
    }

    /// Asks the disk again.
    pub(super) fn write(&mut self) {
        let Some(snapshot) = &self.unwritten else { return };
        match snapshot_file::write(&self.dir, snapshot) {
            Ok(()) => {
                self.unwritten = None;
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("membership is persisted again");
                }
            }
            Err(error) => {
                self.failures += 1;
                self.again_at = Instant::now() + DISK_PAUSE;
                let failures = self.failures;
                if failures.is_power_of_two() {
                    tracing::error!(%error, failures, "membership cannot be persisted; this node is silent");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use membership::{ClusterId, Incarnation, Table, Values};

    use super::*;

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot {
            ids: BTreeSet::from([ClusterId(7)]),
            incarnation: Incarnation { generation, nonce: 9 },
            table: Table::default(),
            values: Values::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_is_written_once_the_disk_takes_it_and_nobody_waits_meanwhile() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        let mut keeper = Keeper::new(dir.clone());
        keeper.persist(snapshot(1).into());
        assert!(!keeper.is_behind());
        // Here no file can be made.
        fs::remove_file(dir.join("members.new")).unwrap();
        fs::create_dir(dir.join("members.new")).unwrap();
        for generation in 2..=4 {
            keeper.persist(snapshot(generation).into());
            assert!(keeper.is_behind());
        }
        assert_eq!(keeper.failures, 1, "it is not asked for each");
        for failures in 2..=5 {
            let before = Instant::now();
            keeper.is_due().await;
            assert_eq!(before.elapsed(), DISK_PAUSE);
            keeper.write();
            assert_eq!(keeper.failures, failures);
        }
        assert_eq!(snapshot_file::read(&dir).unwrap(), Some(snapshot(1)));
        fs::remove_dir(dir.join("members.new")).unwrap();
        keeper.is_due().await;
        keeper.write();
        assert!(!keeper.is_behind());
        assert_eq!(snapshot_file::read(&dir).unwrap(), Some(snapshot(4)));
    }
}
