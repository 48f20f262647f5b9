//! When the next round is, and whether it goes to a seed or to somebody unreachable as well.
//!
//! The probabilities are Cassandra's (`Gossiper`, `maybeGossipToUnreachableMember` and
//! `maybeGossipToSeed`).

use crate::random::Random;

/// Longest wait between two attempts to find a seed, in milliseconds. A guess: a person who starts the seed
/// will wait so long.
const BACKOFF_MS_MAX: u64 = 30_000;

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    round_ms: u64,
    pub(crate) round_at_ms: u64,
    /// When seeds are asked by a node that reaches nobody.
    seeds_at_ms: u64,
    backoff_ms: u64,
    attempts: u32,
}

impl Schedule {
    /// The first round is at once.
    pub(crate) const fn new(now_ms: u64, round_ms: u64) -> Self {
        let (round_at_ms, seeds_at_ms) = (now_ms, now_ms);
        Self { round_ms, round_at_ms, seeds_at_ms, backoff_ms: round_ms, attempts: 0 }
    }

    /// If a round is due: how late it is, in milliseconds. The next one is a round from now, give or
    /// take a tenth, so that nodes started together do not stay in step.
    pub(crate) fn round(&mut self, now_ms: u64, random: &mut Random) -> Option<u64> {
        let late_ms = now_ms.checked_sub(self.round_at_ms)?;
        let tenth = self.round_ms / 10;
        self.round_at_ms = now_ms + self.round_ms - tenth + random.below(2 * tenth + 1);
        Some(late_ms)
    }

    /// Whether a node that reaches nobody asks its seeds now. If so, how often it has before, and
    /// in how many milliseconds it will again: in twice the time as before, give or take a quarter.
    pub(crate) fn ask_seeds(&mut self, now_ms: u64, random: &mut Random) -> Option<(u32, u64)> {
        if now_ms < self.seeds_at_ms {
            return None;
        }
        let before = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        let again_in_ms = self.backoff_ms * 3 / 4 + random.below(self.backoff_ms / 2 + 1);
        self.seeds_at_ms = now_ms + again_in_ms;
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX.max(self.round_ms));
        Some((before, again_in_ms))
    }

    /// Somebody is reachable: next time nobody is, seeds are asked at once.
    pub(crate) const fn found_somebody(&mut self) {
        (self.seeds_at_ms, self.backoff_ms, self.attempts) = (0, self.round_ms, 0);
    }
}

/// Whether a round goes to one of the unreachable as well.
pub(crate) fn to_unreachable(reachable: usize, unreachable: usize, random: &mut Random) -> bool {
    random.chance(unreachable, reachable + 1)
}

/// Whether a round that reached `a_seed` or not goes to a seed as well. There are fewer reachable members
/// than seeds where a cluster fell apart around them.
pub(crate) fn to_seed(
    seeds: usize,
    reachable: usize,
    unreachable: usize,
    a_seed: bool,
    random: &mut Random,
) -> bool {
    (!a_seed || reachable < seeds) && random.chance(seeds, reachable + unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_asked_at_once_then_ever_less_often_and_at_once_again_after_a_success() {
        let mut random = Random::new(1);
        let mut schedule = Schedule::new(0, 1_000);
        let mut asked = Vec::new();
        for now in (0..200_000).step_by(250) {
            if let Some((attempts, _)) = schedule.ask_seeds(now, &mut random) {
                assert_eq!(attempts as usize, asked.len());
                asked.push(now);
            }
        }
        for (number, pair) in asked.windows(2).enumerate() {
            let wait = (1_000_u64 << number.min(10)).min(30_000);
            let waited = pair[1] - pair[0];
            assert!((wait * 3 / 4..wait * 5 / 4 + 250).contains(&waited), "{number}: {waited}");
        }
        schedule.found_somebody();
        assert_eq!(schedule.ask_seeds(200_000, &mut random).unwrap().0, 0);
    }

    /// Cassandra's: unreachable / (reachable + 1), and seeds / members.
    #[test]
    fn chances_are_cassandras() {
        let mut random = Random::new(2);
        let mut count = |mut draw: Box<dyn FnMut(&mut Random) -> bool>| {
            (0..100_000).filter(|_| draw(&mut random)).count()
        };
        let about = |count: usize, expected: usize| count.abs_diff(expected) < 500;
        assert!(about(count(Box::new(|random| to_unreachable(9, 1, random))), 10_000));
        assert_eq!(count(Box::new(|random| to_unreachable(9, 0, random))), 0);
        assert_eq!(count(Box::new(|random| to_unreachable(0, 3, random))), 100_000);
        assert!(about(count(Box::new(|random| to_seed(3, 10, 2, false, random))), 25_000));
        assert_eq!(count(Box::new(|random| to_seed(3, 10, 2, true, random))), 0);
        assert_eq!(count(Box::new(|random| to_seed(3, 2, 0, true, random))), 100_000);
        assert_eq!(count(Box::new(|random| to_seed(0, 2, 0, false, random))), 0);
    }
}
