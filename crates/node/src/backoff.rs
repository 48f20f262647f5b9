//! How long to wait before a link is tried again.

use std::time::Duration;

use crate::identity::random_u64;

/// Design: wire, node. Short enough that a restarted peer is found at once by people's measure.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// What lasted so long was a success. A guess: several times the longest wait, and the silence after which
/// a link is down.
const SUCCESS: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 1 s, each cut by up to half at random, so that nodes which lost
/// a peer together do not knock together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// What was waited for came, and lasted so long. Begins anew if that was long enough; returns whether it
    /// was. What ends as soon as it began is no success.
    pub(crate) fn lasted(&mut self, lasted: Duration) -> bool {
        let is_success = lasted >= SUCCESS;
        if is_success {
            self.next = FIRST;
        }
        is_success
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_with(random_u64())
    }

    fn next_with(&mut self, random: u64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        let share = u32::try_from(random % 512).expect("below 512");
        wait - wait * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_vary_by_half() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..6).map(|_| backoff.next_with(0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000]);
        // A member that takes connections and drops them is not stormed.
        for _ in 0..3 {
            assert!(!backoff.lasted(Duration::from_millis(4_999)));
            assert_eq!(backoff.next_with(0).as_millis(), 1000);
        }
        assert!(backoff.lasted(Duration::from_secs(5)));
        assert_eq!(backoff.next_with(0).as_millis(), 50);
        let mut backoff = Backoff { next: LONGEST };
        assert!(backoff.next_with(511) > Duration::from_millis(500));
    }
}
