//! What a loop does for its own rows, a little now and then: hash trees are counted anew, what is due is removed, a
//! disk that refuses is asked again.

use std::time::Duration;

use replication::Event;
use tokio::time::Instant;

use super::Running;

/// Keys of which what is due is removed at a time. A guess: a few milliseconds of a loop's time.
const EXPIRE_KEYS: usize = 50;

/// While more are due, after this long again: at most 1,000 keys a second and loop.
pub(super) const EXPIRE_PAUSE: Duration = Duration::from_millis(50);

/// While none is, after this long: until then a reader is not shown what is due, and it takes room.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Rows that are counted anew for the hash trees at a time. A guess: well under a millisecond of a
/// loop's time, and a million keys in about half an hour.
const RECOUNT_ROWS: usize = 500;

/// So long after the last time.
pub(super) const RECOUNT_PAUSE: Duration = Duration::from_secs(1);

/// While the disk refuses batches, it is asked again after this long.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

impl Running {
    /// Compares the hash trees with what is there, a little now and then.
    pub(super) fn recount_trees(&mut self) {
        let now = Instant::now();
        if self.recount_at <= now {
            self.task.engine.recount_trees(RECOUNT_ROWS);
            self.recount_at = now + RECOUNT_PAUSE;
        }
    }

    /// Removes what is due, a little now and then.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        if self.expire_at <= now {
            let keys = self.task.engine.due(self.now.wall_ms, EXPIRE_KEYS);
            let more = keys.len() == EXPIRE_KEYS;
            self.expire_at = now + if more { EXPIRE_PAUSE } else { EXPIRE_INTERVAL };
            if !keys.is_empty() {
                self.step(Event::Due { keys });
            }
        }
    }

    /// Asks a disk that refused a batch again, now and then, so that writes are taken as soon as
    /// there is room.
    pub(super) fn probe_disk(&mut self) {
        if self.task.engine.disk_error().is_none() {
            self.probe_at = None;
            return;
        }
        let now = Instant::now();
        if *self.probe_at.get_or_insert(now + PROBE_PAUSE) <= now {
            self.task.engine.probe();
            self.probe_at = Some(now + PROBE_PAUSE);
        }
    }

    /// Tells when the disk begins or ceases to refuse what is written.
    pub(super) fn watch_disk(&mut self) {
        let engine = &self.task.engine;
        let trouble = engine.disk_error().or(engine.checkpoint_error());
        if trouble != self.trouble.as_ref() {
            self.task.health.tell(self.task.loop_index, trouble);
            self.trouble = trouble.cloned();
        }
    }
}
