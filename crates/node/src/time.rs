//! The node's clocks, as its cores see them.

use std::time::{Duration, Instant};

use replication::Now;

use crate::identity::wall_ms;

/// Monotonic time since the node started, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    origin: Instant,
}

impl NodeClock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the start.
    pub(crate) fn monotonic_ms(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now(self) -> Now {
        Now { monotonic_ms: self.monotonic_ms(), wall_ms: wall_ms() }
    }

    /// The instant of a monotonic time.
    pub(crate) fn instant(self, monotonic_ms: u64) -> tokio::time::Instant {
        // A year stands for never; beyond that instants overflow on some systems.
        let ms = monotonic_ms.min(self.monotonic_ms() + 365 * 24 * 3_600_000);
        tokio::time::Instant::from_std(self.origin + Duration::from_millis(ms))
    }
}
