//! A load bounded in requests and time, and what it measured.

use std::cell::Cell;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Keys that a load spreads its requests over.
pub(crate) const KEYS: u64 = 100_000;
/// What is written: 100 bytes, as in the measurements of others.
pub(crate) const VALUE: [u8; 100] = [b'x'; 100];

/// How much is still to be sent: ends with the requests or the time, whichever is first.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<usize>,
    until: Instant,
}

impl Budget {
    pub(crate) fn new(requests: usize, time: Duration) -> Self {
        Self { left: Cell::new(requests), until: Instant::now() + time }
    }

    /// Takes `count` requests, or says that the load is over.
    pub(crate) fn take(&self, count: usize) -> bool {
        let left = self.left.get();
        if left < count || Instant::now() >= self.until {
            return false;
        }
        self.left.set(left - count);
        true
    }
}

/// Numbers of keys in an order of their own for each connection (SplitMix64).
#[derive(Debug)]
pub(crate) struct Keys(u64);

impl Keys {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

/// What one load measured of one system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Of batches, in milliseconds.
    pub(crate) p50_ms: f64,
    /// Of batches, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Processor time of all server processes for one request, in microseconds.
    pub(crate) cpu_us: f64,
}

impl Measured {
    pub(crate) fn of(
        latencies: &[u64],
        requests: usize,
        seconds: f64,
        cpu_seconds: f64,
    ) -> anyhow::Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for &latency in latencies {
            histogram.record(latency)?;
        }
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Ok(Self {
            rate: requests as f64 / seconds,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_us: cpu_seconds * 1e6 / requests as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_with_its_requests_or_its_time() {
        let budget = Budget::new(10, Duration::from_secs(3_600));
        assert!(budget.take(6));
        assert!(!budget.take(6));
        assert!(budget.take(4));
        assert!(!budget.take(1));
        assert!(!Budget::new(10, Duration::ZERO).take(1));
    }
}
