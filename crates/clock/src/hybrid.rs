//! Hybrid logical clock: physical time that never runs behind what was seen.
//!
//! Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (OPODIS 2014). A
//! stamp packs 48 bits of wall-clock milliseconds and 16 bits of logical counter; adding one to
//! the packed word carries from the counter into the milliseconds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The last millisecond that a stamp can hold.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// A point of hybrid time. Larger is later; a write that follows another is stamped larger.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The first stamp of wall-clock millisecond `ms` since 1970. Time that 48 bits cannot hold
    /// (after the year 10,889) is held to be the last millisecond they can: a clock or a client
    /// from the far future must not wrap round into the past.
    pub const fn from_millis(ms: u64) -> Self {
        if ms > MILLIS_MAX { Self(MILLIS_MAX << 16) } else { Self(ms << 16) }
    }

    /// Wall-clock milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The next stamp. The last of all stamps has no next one and stays itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}+{}", self.millis() / 1000, self.millis() % 1000, self.0 & 0xffff)
    }
}

/// One node's hybrid clock. Invariant: every stamp it gives is larger than every stamp it gave or
/// observed before.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// A stamp for an event now, when the wall clock shows `wall_ms`.
    pub fn tick(&mut self, wall_ms: u64) -> Stamp {
        self.last = self.last.next().max(Stamp::from_millis(wall_ms));
        self.last
    }

    /// Takes note of a stamp that came in, so that what follows is stamped later.
    pub fn observe(&mut self, seen: Stamp) {
        self.last = self.last.max(seen);
    }

    /// The latest stamp given or observed.
    pub const fn latest(&self) -> Stamp {
        self.last
    }
}
