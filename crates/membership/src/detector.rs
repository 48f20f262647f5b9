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
    /// Most silences that count of each member; once there are so many, at least half of it. A guess: at a heartbeat a
    /// second, 80 to 160 seconds to get used to a new pace. (Hayashibara took 1,000 and a heartbeat each 100 ms: as
    /// long.)
    pub window: usize,
    /// Least standard deviation: regular heartbeats must not make a small delay a surprise. A
    /// guess: half a round.
    pub deviation_min_ms: u64,
    /// The first silence expected of a member not yet known. A guess: two rounds of gossip.
    pub first_ms: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self { threshold: 10.0, doubt: 2.0, window: 160, deviation_min_ms: 500, first_ms: 2_000 }
    }
}

impl DetectorConfig {
    /// A detector that works: everything positive, doubt before suspicion.
    pub(crate) fn is_valid(&self) -> bool {
        let ordered = 0.0 < self.doubt && self.doubt < self.threshold && self.threshold < 1e6;
        let small = self.first_ms <= 1_000_000 && self.deviation_min_ms <= 1_000_000;
        ordered && small && self.deviation_min_ms > 0 && (2..=1_000).contains(&self.window)
    }
}

/// The latest silences of one member, not one by one but in two sums: half a window that is full, and the next half,
/// which takes its place once it is full. So what is older than a window is forgotten entirely, and of a thousand
/// members that a thousand nodes each watch there is little to go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detector {
    sums: [u32; 2],
    squares: [u64; 2],
    counts: [u16; 2],
}

impl Detector {
    /// Longest silence noted, so that sums stay exact: longer ones were suspicions and teach nothing.
    const SILENCE_MS_MAX: u64 = 3_600_000;

    /// More than a silence that is one deviation longer than the average surprises: one in six is longer.
    pub(crate) const USUAL_PHI: f64 = 0.81;

    /// Knows nothing yet: expects `first_ms`, give or take half of it.
    pub(crate) fn new(config: &DetectorConfig) -> Self {
        let mut detector = Self { sums: [0; 2], squares: [0; 2], counts: [0; 2] };
        detector.note(config.first_ms / 2, config);
        detector.note(config.first_ms + config.first_ms / 2, config);
        detector
    }

    /// News came after a silence of `ms`.
    pub(crate) fn note(&mut self, ms: u64, config: &DetectorConfig) {
        let ms = ms.min(Self::SILENCE_MS_MAX);
        if usize::from(self.counts[1]) >= config.window / 2 {
            (self.sums, self.squares, self.counts) =
                ([self.sums[1], 0], [self.squares[1], 0], [self.counts[1], 0]);
        }
        self.sums[1] += ms as u32;
        self.squares[1] += ms * ms;
        self.counts[1] += 1;
    }

    fn count(&self) -> u32 {
        self.counts.into_iter().map(u32::from).sum()
    }

    fn sum(&self) -> u64 {
        self.sums.into_iter().map(u64::from).sum()
    }

    /// Mean and standard deviation of the silences, in milliseconds.
    pub(crate) fn distribution(&self, config: &DetectorConfig) -> (f64, f64) {
        let count = f64::from(self.count());
        let mean = self.sum() as f64 / count;
        let squares = self.squares.into_iter().sum::<u64>() as f64;
        let variance = (squares / count - mean * mean).max(0.0);
        (mean, variance.sqrt().max(config.deviation_min_ms as f64))
    }

    /// Whether a silence of `ms` is longer than the average by no more than the least deviation: phi is less than
    /// [`USUAL_PHI`](Self::USUAL_PHI) then.
    pub(crate) fn is_usual(&self, ms: u64, config: &DetectorConfig) -> bool {
        let beyond_ms = ms.saturating_sub(config.deviation_min_ms);
        beyond_ms.saturating_mul(self.count().into()) <= self.sum()
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

    #[test]
    fn a_usual_silence_surprises_less_than_is_said() {
        let config = DetectorConfig::default();
        for silences in [[1_000, 1_000], [10, 3_000], [5_000, 60_000]] {
            let mut detector = Detector::new(&config);
            (0..config.window).for_each(|number| detector.note(silences[number % 2], &config));
            let usual = (0..60_000).filter(|&ms| detector.is_usual(ms, &config)).max();
            let usual = usual.expect("some silence is");
            assert_eq!(usual, (silences[0] + silences[1]) / 2 + config.deviation_min_ms);
            assert!(detector.phi(usual, &config) < Detector::USUAL_PHI);
        }
    }

    /// Heartbeats each second: suspected after the mean and 6.36 times the least deviation.
    #[test]
    fn regular_heartbeats_are_missed_after_four_seconds() {
        let config = DetectorConfig::default();
        let mut detector = Detector::new(&config);
        (0..config.window).for_each(|_| detector.note(1_000, &config));
        assert_eq!(detector.distribution(&config), (1_000.0, 500.0));
        let suspected = (0..).find(|&ms| detector.phi(ms, &config) >= config.threshold);
        assert_eq!(suspected, Some(4_181));
    }

    #[test]
    fn it_gets_used_to_jitter_within_its_window_and_forgets_it_again() {
        let config = DetectorConfig::default();
        let mut detector = Detector::new(&config);
        for number in 0..config.window as u64 {
            detector.note(if number % 2 == 0 { 1_000 } else { 5_000 }, &config);
        }
        assert_eq!(detector.distribution(&config), (3_000.0, 2_000.0));
        assert!(detector.phi(5_000, &config) < 1.0);
        (0..config.window).for_each(|_| detector.note(1_000, &config));
        assert!(detector.phi(5_000, &config) > config.threshold);
    }

    #[test]
    fn an_absurd_silence_is_noted_as_an_hour_and_sums_stay_exact() {
        let config = DetectorConfig { window: 2, ..DetectorConfig::default() };
        let mut detector = Detector::new(&config);
        (0..3).for_each(|_| detector.note(u64::MAX, &config));
        assert_eq!(detector.distribution(&config).0, 3_600_000.0);
        (0..2).for_each(|_| detector.note(7, &config));
        assert_eq!(detector.distribution(&config), (7.0, 500.0));
    }

    /// The two sums beside a plain queue: they are those of its latest silences, half a window to a whole one.
    #[test]
    fn what_is_older_than_a_window_is_forgotten() {
        for window in [2, 7, 8, 61, 120, 1_000] {
            let config = DetectorConfig { window, ..DetectorConfig::default() };
            let mut detector = Detector::new(&config);
            let mut all = vec![1_000, 3_000];
            for number in 0..2_500_u64 {
                let ms = number * 7_919 % 10_007;
                detector.note(ms, &config);
                all.push(ms);
                let count = detector.count() as usize;
                assert!(count <= window && count >= all.len().min(window / 2), "{window}: {count}");
                let latest = &all[all.len() - count..];
                let squares: u64 = latest.iter().map(|ms| ms * ms).sum();
                assert_eq!(detector.sum(), latest.iter().sum::<u64>(), "{window}, {number}");
                assert_eq!(detector.squares.iter().sum::<u64>(), squares, "{window}, {number}");
            }
        }
    }
}
