//! What this node knows of a member by itself, beside the member's record: when it last lived, and
//! whether it can be reached.

use crate::detector::{Detector, DetectorConfig};
use crate::entry::VERSION_MAX;
use crate::{Entry, Fresh, Liveness, Phase, Record};
use sabotage::Bug;

/// Time-outs closer to each other than this, in milliseconds, are one piece of evidence: requests of one moment
/// fail together. A guess.
const TIMEOUTS_APART_MS: u64 = 200;
/// How long a time-out speaks against a member that has not been heard directly since, in
/// milliseconds. A guess: then it is worth trying again.
const TIMEOUTS_LAST_MS: u64 = 30_000;
/// How much phi grows by a time-out: one in ten requests to a member that lives may time out. A
/// cautious guess: by loss alone it would be one in fifty.
const TIMEOUT_PHI: f64 = 1.0;

/// What every exchange and every round looks at of a member's record. Kept beside the heartbeats: to go through the
/// records of a thousand members for it takes most of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) generation: u64,
    pub(crate) version: u64,
    pub(crate) is_over: bool,
    /// It is not here yet.
    pub(crate) is_expected: bool,
}

impl Said {
    pub(crate) fn of(record: &Record) -> Self {
        let Entry { incarnation, version, phase, .. } = record.entry;
        let is_expected = phase == Phase::Expected;
        Self { generation: incarnation.generation, version, is_over: record.is_over(), is_expected }
    }
}

/// Times are milliseconds of this node's clock; signed, because what others saw may be older than
/// that clock.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// What its record says.
    pub(crate) said: Said,
    /// The newest heartbeat known, of the incarnation in the record.
    pub(crate) beat: u64,
    /// When that heartbeat was made.
    beat_made_ms: i64,
    /// When it last gave proof of life.
    alive_ms: i64,
    /// Whether it was asked directly and has not answered since.
    pub(crate) is_asked: bool,
    timeouts: u32,
    timeout_ms: u64,
    detector: Detector,
    pub(crate) liveness: Liveness,
    /// Larger for members whose record changed here later.
    pub(crate) recency: u64,
}

impl Peer {
    /// A member whose heartbeat `beat`, of the start in its record, was made `age_ms` ago. It has the benefit
    /// of the doubt.
    pub(crate) fn new(
        now_ms: u64,
        record: &Record,
        beat: u64,
        age_ms: u64,
        config: &DetectorConfig,
    ) -> Self {
        let made_ms = made(now_ms, age_ms);
        Self {
            said: Said::of(record),
            beat,
            beat_made_ms: made_ms,
            alive_ms: made_ms,
            is_asked: false,
            timeouts: 0,
            timeout_ms: 0,
            detector: Detector::new(config),
            liveness: Liveness::Reachable,
            recency: 0,
        }
    }

    /// The member started anew: what its earlier start was used to says nothing.
    pub(crate) fn restart(
        &mut self,
        now_ms: u64,
        record: &Record,
        beat: u64,
        age_ms: u64,
        config: &DetectorConfig,
    ) {
        let (liveness, recency) = (self.liveness, self.recency);
        *self = Self { liveness, recency, ..Self::new(now_ms, record, beat, age_ms, config) };
    }

    /// Somebody knows of a heartbeat: one of another start says nothing.
    pub(crate) fn heard_of_start(&mut self, now_ms: u64, fresh: Fresh, config: &DetectorConfig) {
        if fresh.generation == self.said.generation {
            self.heard_of(now_ms, fresh.beat, fresh.age_ms, config);
        }
    }

    /// Somebody knows of heartbeat `beat`, made `age_ms` ago. An old one says nothing, however young
    /// it is said to be: it may have gone in circles.
    pub(crate) fn heard_of(
        &mut self,
        now_ms: u64,
        beat: u64,
        age_ms: u64,
        config: &DetectorConfig,
    ) {
        if beat <= self.beat {
            return;
        }
        // A silence that was a suspicion is nothing to get used to.
        if self.liveness == Liveness::Reachable {
            let silence = (now_ms as i64).saturating_sub(self.beat_made_ms).max(0);
            self.detector.note(silence as u64, config);
        }
        self.beat = beat;
        self.beat_made_ms = self.beat_made_ms.max(made(now_ms, age_ms));
        self.alive_ms = self.alive_ms.max(self.beat_made_ms);
    }

    /// This node itself lives now.
    pub(crate) fn beat_now(&mut self, now_ms: u64) {
        self.beat = self.beat.saturating_add(1).min(VERSION_MAX);
        (self.beat_made_ms, self.alive_ms) = (now_ms as i64, now_ms as i64);
    }

    /// The member itself spoke: nothing that timed out before speaks against it any more. Does not
    /// teach the detector, for which only heartbeats count: traffic comes and goes.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        self.alive_ms = self.alive_ms.max(now_ms as i64);
        self.is_asked = false;
        self.timeouts = 0;
    }

    /// This node itself did not run for `ms`: the silence of that time was its own.
    pub(crate) fn excuse(&mut self, ms: u64) {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        self.beat_made_ms = self.beat_made_ms.saturating_add(ms);
        self.alive_ms = self.alive_ms.saturating_add(ms);
        self.is_asked = false;
    }

    /// A request to the member timed out.
    pub(crate) fn timed_out(&mut self, now_ms: u64) {
        if self.evidence(now_ms) == 0 {
            self.timeouts = 0;
        } else if now_ms.saturating_sub(self.timeout_ms) < TIMEOUTS_APART_MS {
            return;
        }
        self.timeouts = self.timeouts.saturating_add(1);
        self.timeout_ms = now_ms;
    }

    fn evidence(&self, now_ms: u64) -> u32 {
        let lasts = now_ms.saturating_sub(self.timeout_ms) < TIMEOUTS_LAST_MS;
        if lasts { self.timeouts } else { 0 }
    }

    /// Milliseconds since the last known proof of life.
    pub(crate) fn silence_ms(&self, now_ms: u64) -> u64 {
        (now_ms as i64).saturating_sub(self.alive_ms).max(0) as u64
    }

    /// Milliseconds since the newest known heartbeat was made.
    pub(crate) fn beat_age_ms(&self, now_ms: u64) -> u64 {
        (now_ms as i64).saturating_sub(self.beat_made_ms).max(0) as u64
    }

    /// How surprising its silence is, time-outs included.
    pub(crate) fn phi(&self, now_ms: u64, config: &DetectorConfig) -> f64 {
        self.detector.phi(self.silence_ms(now_ms), config)
            + f64::from(self.evidence(now_ms)) * TIMEOUT_PHI
    }

    /// Whether nothing is to be thought of its silence, as of most members at most times.
    pub(crate) fn is_as_usual(&self, now_ms: u64, config: &DetectorConfig) -> bool {
        self.liveness == Liveness::Reachable
            && config.doubt > Detector::USUAL_PHI
            && self.evidence(now_ms) == 0
            && self.detector.is_usual(self.silence_ms(now_ms), config)
    }

    /// Judges anew; what it comes to, if that is another judgement than before. A suspicion is lifted at half of
    /// the phi that raises it, so that a sick member does not flicker.
    pub(crate) fn judge(&mut self, phi: f64, config: &DetectorConfig) -> Option<Liveness> {
        let is_late = sabotage::is(Bug::SuspectedWhenLate) && phi >= config.doubt;
        let judged = match self.liveness {
            Liveness::Reachable if phi >= config.threshold || is_late => Liveness::Suspected,
            Liveness::Suspected if phi < config.threshold / 2.0 => Liveness::Reachable,
            Liveness::Reachable | Liveness::Suspected => return None,
        };
        self.liveness = judged;
        Some(judged)
    }
}

fn made(now_ms: u64, age_ms: u64) -> i64 {
    (now_ms as i64).saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, Incarnation, Load, Phase};

    fn record() -> Record {
        let entry = Entry {
            incarnation: Incarnation { generation: 1, nonce: 1 },
            version: 1,
            joined: 1,
            phase: Phase::Up,
            about: About::new("a", "a:1"),
            load: Load::default(),
            over: None,
        };
        Record { entry, ended: 0 }
    }

    fn regular() -> (Peer, DetectorConfig) {
        let config = DetectorConfig::default();
        let mut peer = Peer::new(0, &record(), 1, 0, &config);
        (1..200).for_each(|second| peer.heard_of(second * 1_000, second + 1, 0, &config));
        (peer, config)
    }

    fn judged(peer: &mut Peer, now_ms: u64, config: &DetectorConfig) -> Option<Liveness> {
        let phi = peer.phi(now_ms, config);
        peer.judge(phi, config)
    }

    #[test]
    fn an_old_heartbeat_that_comes_late_or_in_circles_is_no_proof_of_life() {
        let (mut peer, config) = regular();
        // Made at 199 s; told again and again, each time as if it were new.
        (200..210).for_each(|second| peer.heard_of(second * 1_000, 200, 0, &config));
        assert_eq!(peer.silence_ms(209_000), 10_000);
        // A later one, that took seven seconds to get here.
        peer.heard_of(209_000, 201, 7_000, &config);
        assert_eq!(peer.silence_ms(209_000), 7_000);
    }

    #[test]
    fn time_outs_are_evidence_until_the_member_speaks() {
        let (mut peer, config) = regular();
        let quiet = peer.phi(200_000, &config);
        (0..9).for_each(|number| peer.timed_out(200_000 + number * 200));
        // Heard of through others all the while: it lives, but cannot be reached from here.
        peer.heard_of(201_600, 202, 0, &config);
        assert_eq!(judged(&mut peer, 201_600, &config), None);
        peer.timed_out(201_799);
        assert_eq!(judged(&mut peer, 201_799, &config), None, "no evidence beside the one before");
        peer.timed_out(201_800);
        assert_eq!(judged(&mut peer, 201_800, &config), Some(Liveness::Suspected));
        peer.heard(202_000);
        assert!(peer.phi(202_000, &config) < quiet);
        assert_eq!(judged(&mut peer, 202_000, &config), Some(Liveness::Reachable));
    }

    #[test]
    fn time_outs_are_forgotten_after_half_a_minute() {
        let (mut peer, config) = regular();
        peer.timed_out(200_000);
        peer.heard_of(229_999, 231, 0, &config);
        assert!(peer.phi(229_999, &config) > 1.0);
        assert!(peer.phi(230_000, &config) < 1.0);
    }

    #[test]
    fn a_silence_that_was_a_suspicion_is_not_got_used_to() {
        let (mut peer, config) = regular();
        assert_eq!(judged(&mut peer, 299_000, &config), Some(Liveness::Suspected));
        peer.heard_of(300_000, 300, 0, &config);
        assert_eq!(judged(&mut peer, 300_000, &config), Some(Liveness::Reachable));
        assert_eq!(peer.detector.distribution(&config), (1_000.0, 500.0));
    }
}
