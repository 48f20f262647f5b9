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

    /// The wall-clock part as RFC 3339, in UTC.
    pub fn utc(self) -> String {
        let ms = self.millis();
        let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
        let (mut year, mut day) = (1970, days);
        // 48 bits of milliseconds end in the year 10889: the loop is short.
        while day >= days_of(year) {
            day -= days_of(year);
            year += 1;
        }
        let february = days_of(year) - 337;
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        format!(
            "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            day + 1,
            of_day / 3_600_000,
            of_day / 60_000 % 60,
            of_day / 1000 % 60,
            of_day % 1000,
        )
    }
}

const fn days_of(year: u64) -> u64 {
    if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) {
        366
    } else {
        365
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_whatever_the_wall_clock_does() {
        let mut clock = HybridClock::default();
        let walls = [1_000, 1_000, 5_000, 20, 0, 5_000, 5_001, u64::MAX, 3];
        let stamps: Vec<Stamp> = walls.map(|wall_ms| clock.tick(wall_ms)).to_vec();
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
        assert_eq!(stamps[2], Stamp::from_millis(5_000));
        // Behind by five seconds: the counter goes on, the milliseconds stay.
        assert_eq!(stamps[4], Stamp(Stamp::from_millis(5_000).0 + 2));
        assert_eq!(stamps[6], Stamp::from_millis(5_001));
    }

    #[test]
    fn what_follows_a_stamp_from_a_clock_ahead_is_later() {
        let mut behind = HybridClock::default();
        let ahead = Stamp::from_millis(11_000);
        behind.observe(ahead);
        assert_eq!(behind.tick(1_000), Stamp(ahead.0 + 1));
        behind.observe(Stamp::from_millis(5));
        assert_eq!(behind.latest(), Stamp(ahead.0 + 1));
    }

    #[test]
    fn a_counter_that_runs_over_carries_into_the_milliseconds() {
        let mut clock = HybridClock::default();
        clock.observe(Stamp(Stamp::from_millis(7).0 | 0xffff));
        assert_eq!(clock.tick(7), Stamp::from_millis(8));
    }

    #[test]
    fn milliseconds_beyond_48_bits_are_the_last_there_are_and_do_not_wrap_round() {
        assert_eq!(Stamp::from_millis(1 << 48), Stamp::from_millis((1 << 48) - 1));
        assert_eq!(Stamp::from_millis(u64::MAX).millis(), (1 << 48) - 1);
        assert_eq!(Stamp(u64::MAX).next(), Stamp(u64::MAX));
    }

    #[test]
    fn times_are_of_the_calendar() {
        let shown = |ms| Stamp::from_millis(ms).utc();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(shown(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(shown(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(Stamp(u64::MAX).utc(), "10889-08-02T05:31:50.655Z");
    }

    #[test]
    fn people_read_seconds_milliseconds_and_the_counter() {
        assert_eq!(Stamp(Stamp::from_millis(12_034).0 + 5).to_string(), "12.034+5");
    }
}
