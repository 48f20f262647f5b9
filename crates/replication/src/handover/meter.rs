//! How much was done, and how fast it goes.

/// What was done before so long ago says nothing of how fast it goes now, nor twice as long ago, in milliseconds.
/// A guess: longer than a session of comparisons, short beside the time that an administrator watches.
const WINDOW_MS: u64 = 10_000;
/// Nothing is foretold by what was done in less time, in milliseconds. A guess.
const STEADY_MS: u64 = 3_000;
/// What was done in less time is taken for what was done in this, in milliseconds.
const SHORTEST_MS: u64 = 1_000;

/// Counts of the present window and of the one before it, if that was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    total: u64,
    began_ms: Option<u64>,
    count: u64,
    before: Option<u64>,
}

impl Meter {
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// So many more were done.
    pub(super) fn note(&mut self, count: u64, now_ms: u64) {
        *self = self.at(now_ms);
        self.began_ms.get_or_insert(now_ms);
        self.count += count;
        self.total += count;
    }

    /// The same, once it was watched for long enough to foretell something by it.
    pub(super) fn steady_per_1000_s(&self, now_ms: u64) -> Option<u64> {
        let Self { began_ms, before, .. } = self.at(now_ms);
        let is_steady = before.is_some() || now_ms.saturating_sub(began_ms?) >= STEADY_MS;
        Some(self.per_1000_s(now_ms)).filter(|&rate| is_steady && rate > 0)
    }

    /// How many are done in a thousand seconds, of late.
    pub(super) fn per_1000_s(&self, now_ms: u64) -> u64 {
        let Self { began_ms: Some(began_ms), count, before, .. } = self.at(now_ms) else {
            return 0;
        };
        let watched_ms = before.map_or(0, |_| WINDOW_MS) + now_ms.saturating_sub(began_ms);
        let count = count.saturating_add(before.unwrap_or(0));
        count.saturating_mul(1_000_000) / watched_ms.max(SHORTEST_MS)
    }

    /// The same, as it is to be taken now.
    fn at(self, now_ms: u64) -> Self {
        let Some(began_ms) = self.began_ms else { return self };
        match now_ms.saturating_sub(began_ms) {
            0..WINDOW_MS => self,
            passed_ms if passed_ms < 2 * WINDOW_MS => Self {
                began_ms: Some(began_ms + WINDOW_MS),
                count: 0,
                before: Some(self.count),
                ..self
            },
            _ => Self { began_ms: None, count: 0, before: None, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_seconds_and_nothing_after_a_rest() {
        let mut meter = Meter::default();
        assert_eq!(meter.per_1000_s(5_000), 0);
        meter.note(100, 5_000);
        assert_eq!(meter.per_1000_s(5_001), 100_000, "not a hundred in a millisecond");
        meter.note(100, 9_000);
        assert_eq!(meter.per_1000_s(9_000), 50_000);
        meter.note(400, 15_000);
        assert_eq!(meter.per_1000_s(15_000), 60_000, "200 in the window before, 400 in this one");
        assert_eq!(meter.per_1000_s(25_000), 40_000);
        assert_eq!(meter.per_1000_s(35_000), 0);
        meter.note(10, 60_000);
        assert_eq!(meter.per_1000_s(62_000), 5_000, "the rest before does not count");
        assert_eq!(meter.total(), 610);
        assert_eq!(meter.steady_per_1000_s(62_000), None);
        assert_eq!(meter.steady_per_1000_s(64_000), Some(2_500));
    }
}
