//! How surprising a node's silence is: the phi accrual failure detector.
//!
//! Intuition: a friend on a long journey sends dated postcards. They take their time, some are lost, and
//! some are brought by acquaintances who met the friend days ago. You note, whenever a card comes,
//! how old your last news had become by then. When nothing comes, you do not ask "is the last card
//! more than a week old?" but "have I ever been without news for so long?", and the longer beyond
//! what you are used to, the more you worry. Phi is that worry on a logarithmic scale: at phi = 2
//! you would be wrong once in a hundred silences of this length, at phi = 3 once in a thousand. A letter
//! of yours that comes back unanswered adds to it.
//!
//! Source: Hayashibara, Défago, Yared, Katayama, "The φ Accrual Failure Detector" (SRDS 2004), §4:
//! intervals taken as normally distributed, mean and deviation over a window. One thing differs. Heartbeats
//! travel by gossip, so silence is measured from when the last known one was *made* and not from when it came:
//! one that is still making the rounds after its maker's death does not pass for life.

use std::f64::consts::{FRAC_1_PI, LOG10_E, TAU};

/// How the detector judges. All in milliseconds, except where said.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorConfig {
    /// Phi from which on a member is suspected. Hayashibara's figures reach to 8 to 12, Cassandra
    /// and Akka take 8; at 10 the simulated day passes without a false suspicion.
    pub threshold: f64,
    /// Phi from which on a member is asked directly, before it is suspected: once in a hundred silences.
    pub doubt: f64,
    /// Silences remembered of each member. A guess: at a heartbeat a second, about two minutes to
    /// get used to a new pace. (Hayashibara took 1,000 and a heartbeat each 100 ms: as long.)
    pub window: usize,
    /// Least standard deviation: regular heartbeats must not make a small delay a surprise. A
    /// guess: half a round.
    pub deviation_min_ms: u64,
    /// The first silence expected of a member not yet known. A guess: two rounds of gossip.
    pub first_ms: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self { threshold: 10.0, doubt: 2.0, window: 120, deviation_min_ms: 500, first_ms: 2_000 }
    }
}

impl DetectorConfig {
    /// A detector that works: everything positive, doubt before suspicion.
    pub(crate) fn is_valid(&self) -> bool {
        let ordered = 0.0 < self.doubt && self.doubt < self.threshold && self.threshold < 1e6;
        let small = self.first_ms <= 1_000_000 && self.deviation_min_ms <= 1_000_000;
        ordered && small && self.deviation_min_ms > 0 && (2..=10_000).contains(&self.window)
    }
}

/// How many silences are kept together. Who notes those of a thousand members has none of their windows at hand,
/// and this many times fewer of them to fetch.
const BLOCK: usize = 16;

/// The silences of one member.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    /// The latest silences around a ring, 0 where none is yet. Those of the block that holds the next place are not here but
    /// in `block`.
    window: Box<[u32]>,
    block: [u32; BLOCK],
    /// Where the next one goes, in place of the oldest.
    next: u32,
    count: u32,
    sum: u64,
    squares: u64,
}

impl Detector {
    /// Longest silence noted, so that sums stay exact: longer ones were suspicions and teach nothing.
    const SILENCE_MS_MAX: u64 = 3_600_000;

    /// How surprising the average silence is: half of all are longer.
    pub(crate) const AVERAGE_PHI: f64 = std::f64::consts::LOG10_2;

    /// Knows nothing yet: expects `first_ms`, give or take half of it.
    pub(crate) fn new(config: &DetectorConfig) -> Self {
        let window = vec![0; config.window].into_boxed_slice();
        let mut detector =
            Self { window, block: [0; BLOCK], next: 0, count: 0, sum: 0, squares: 0 };
        detector.note(config.first_ms / 2);
        detector.note(config.first_ms + config.first_ms / 2);
        detector
    }

    /// News came after a silence of `ms`.
    pub(crate) fn note(&mut self, ms: u64) {
        let ms = ms.min(Self::SILENCE_MS_MAX);
        let at = self.next as usize % BLOCK;
        let oldest = u64::from(std::mem::replace(&mut self.block[at], ms as u32));
        self.sum = self.sum + ms - oldest;
        self.squares = self.squares + ms * ms - oldest * oldest;
        let length = self.window.len() as u32;
        self.count = length.min(self.count + 1);
        self.next += 1;
        if at + 1 == BLOCK || self.next == length {
            self.turn_over(at + 1);
        }
    }

    /// The block is full, or the ring at its end, with `held` silences in the block: those of the next one are
    /// taken out.
    fn turn_over(&mut self, held: usize) {
        let end = self.next as usize;
        self.window[end - held..end].copy_from_slice(&self.block[..held]);
        let from = if end < self.window.len() { end } else { 0 };
        let next = &self.window[from..self.window.len().min(from + BLOCK)];
        self.block[..next.len()].copy_from_slice(next);
        self.next = from as u32;
    }

    /// Mean and standard deviation of the silences, in milliseconds.
    pub(crate) fn distribution(&self, config: &DetectorConfig) -> (f64, f64) {
        let count = f64::from(self.count);
        let mean = self.sum as f64 / count;
        let variance = (self.squares as f64 / count - mean * mean).max(0.0);
        (mean, variance.sqrt().max(config.deviation_min_ms as f64))
    }

    /// Whether a silence of `ms` is no longer than they are on the average: phi is at most
    /// [`AVERAGE_PHI`](Self::AVERAGE_PHI) then.
    pub(crate) fn is_usual(&self, ms: u64) -> bool {
        u128::from(ms) * u128::from(self.count) <= u128::from(self.sum)
    }

    /// How surprising a silence of `ms` is.
    pub(crate) fn phi(&self, ms: u64, config: &DetectorConfig) -> f64 {
        let (mean, deviation) = self.distribution(config);
        surprise((ms as f64 - mean) / deviation)
    }
}

/// -log10 of the probability that a standard normal variable exceeds `y`.
///
/// Source: Börjesson, Sundberg, "Simple Approximations of the Error Function Q(x) for
/// Communications Applications" (1979), with the constants that are exact at 0 and far out: within 1.5 %
/// in between, without underflow here.
fn surprise(y: f64) -> f64 {
    const A: f64 = FRAC_1_PI;
    const B: f64 = TAU;
    let above = y.abs();
    let divisor = (1.0 - A) * above + A * (above * above + B).sqrt();
    let log = above * above / 2.0 * LOG10_E + (divisor * TAU.sqrt()).log10();
    if y >= 0.0 { log } else { -(1.0 - 10_f64.powf(-log)).log10() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of the normal distribution, from tables.
    #[test]
    fn phi_is_the_tail_of_the_normal_distribution() {
        for (y, tail) in [
            (-2.0, 0.977_25),
            (0.0, 0.5),
            (1.0, 0.158_655),
            (2.326_3, 0.01),
            (4.753_4, 1e-6),
            (5.612, 1e-8),
            (6.361_3, 1e-10),
        ] {
            let expected: f64 = -f64::log10(tail);
            assert!((surprise(y) - expected).abs() < 0.006, "{y}: {} {expected}", surprise(y));
        }
        assert!(surprise(1e6).is_finite());
    }

    #[test]
    fn a_silence_grows_more_surprising_with_every_millisecond() {
        let config = DetectorConfig::default();
        let detector = Detector::new(&config);
        let phis: Vec<f64> = (0..60_000).map(|ms| detector.phi(ms, &config)).collect();
        assert!(phis.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    /// Heartbeats each second: suspected after the mean and 6.36 times the least deviation.
    #[test]
    fn regular_heartbeats_are_missed_after_four_seconds() {
        let config = DetectorConfig::default();
        let mut detector = Detector::new(&config);
        (0..config.window).for_each(|_| detector.note(1_000));
        assert_eq!(detector.distribution(&config), (1_000.0, 500.0));
        let suspected = (0..).find(|&ms| detector.phi(ms, &config) >= config.threshold);
        assert_eq!(suspected, Some(4_181));
    }

    #[test]
    fn it_gets_used_to_jitter_within_its_window_and_forgets_it_again() {
        let config = DetectorConfig::default();
        let mut detector = Detector::new(&config);
        for number in 0..config.window as u64 {
            detector.note(if number % 2 == 0 { 1_000 } else { 5_000 });
        }
        assert_eq!(detector.distribution(&config), (3_000.0, 2_000.0));
        assert!(detector.phi(5_000, &config) < 1.0);
        (0..config.window).for_each(|_| detector.note(1_000));
        assert!(detector.phi(5_000, &config) > config.threshold);
    }

    #[test]
    fn an_absurd_silence_is_noted_as_an_hour_and_sums_stay_exact() {
        let config = DetectorConfig { window: 2, ..DetectorConfig::default() };
        let mut detector = Detector::new(&config);
        (0..3).for_each(|_| detector.note(u64::MAX));
        assert_eq!(detector.distribution(&config).0, 3_600_000.0);
        (0..2).for_each(|_| detector.note(7));
        assert_eq!(detector.distribution(&config), (7.0, 500.0));
    }

    /// The ring of blocks beside a plain queue, for windows that blocks do and do not fill.
    #[test]
    fn a_window_holds_as_many_of_the_latest_silences_as_it_is_long() {
        for window in [2, 7, 8, 9, 16, 61, 120] {
            let config = DetectorConfig { window, ..DetectorConfig::default() };
            let mut detector = Detector::new(&config);
            let mut latest = std::collections::VecDeque::from([1_000, 3_000]);
            for number in 0..500_u64 {
                let ms = number * 7_919 % 10_007;
                detector.note(ms);
                latest.push_back(ms);
                latest.drain(..latest.len().saturating_sub(window));
                let (sum, squares): (u64, u64) =
                    latest.iter().fold((0, 0), |(sum, all), ms| (sum + ms, all + ms * ms));
                assert_eq!((detector.sum, detector.squares), (sum, squares), "{window}, {number}");
                assert_eq!(detector.count as usize, latest.len());
            }
        }
    }
}
