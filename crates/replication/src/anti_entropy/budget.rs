//! How much anti-entropy may send and receive: so many bytes a second, with a little in advance, so
//! that a bounded step may be taken at once and what is behind it waits.

/// How far what was spent may be ahead of the time, in microseconds. A guess: short beside what a
/// client waits for.
const AHEAD_US: u64 = 100_000;

/// A budget of bytes.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: u64,
    /// Until when what was spent lasts, in microseconds.
    spent_until_us: u64,
}

impl Budget {
    pub(super) const fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = if bytes_per_second == 0 { 1 } else { bytes_per_second };
        Self { bytes_per_second, spent_until_us: 0 }
    }

    pub(super) fn spend(&mut self, bytes: usize, now_ms: u64) {
        let cost = (bytes as u128 * 1_000_000 / u128::from(self.bytes_per_second)) as u64;
        let from = self.spent_until_us.max(now_ms.saturating_mul(1_000));
        self.spent_until_us = from.saturating_add(cost);
    }

    /// When something may be spent again, in milliseconds; in the past if now.
    pub(super) const fn ready_at_ms(&self) -> u64 {
        self.spent_until_us.saturating_sub(AHEAD_US).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_lasts_as_long_as_its_rate_says() {
        let mut budget = Budget::new(1_000_000);
        assert_eq!(budget.ready_at_ms(), 0);
        budget.spend(100_000, 5_000);
        assert_eq!(budget.ready_at_ms(), 5_000);
        budget.spend(900_000, 5_000);
        assert_eq!(budget.ready_at_ms(), 5_900);
        budget.spend(50_000, 7_000);
        assert_eq!(budget.ready_at_ms(), 6_950, "what was not spent is not saved up");
    }
}
