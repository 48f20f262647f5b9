//! How a core stands, for the barrier: whether what was begun before a moment has ended, whether replicas
//! were found equal, and what is left of handovers.

use std::sync::Arc;

use ring::Ownership;
use storage::Ticket;

use crate::{
    BarrierLook, BarrierShown, Core, Effect, Now,
    turn::{Slot, Turn},
};

/// A moment of one core: what was begun before it, and what after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    slot: Slot,
    ticket: Ticket,
    sessions: u64,
}

/// What is looked for, and since when.
#[derive(Debug, Default)]
pub(super) struct Looked {
    moment: Option<(u64, Mark)>,
    /// The round, and whether it is over.
    round: (u64, bool),
    /// Since when replicas are compared, in milliseconds of the monotonic clock.
    since_ms: Option<u64>,
    /// The ownership by which all were found equal.
    equal_by: Option<Arc<Ownership>>,
}

impl Core {
    /// How this core stands, as far as it knows without its engine; has replicas compared if that is asked
    /// for. A look of another round or moment than the last one begins with the present.
    pub fn look(&mut self, look: BarrierLook, now: Now, effects: &mut Vec<Effect>) -> BarrierShown {
        let round = (look.round, look.is_over);
        if self.looked.round != round {
            self.looked = Looked { moment: self.looked.moment, round, ..Looked::default() };
        }
        let mark = match self.looked.moment {
            Some((moment, mark)) if moment == look.moment => mark,
            _ => {
                let mark = self.mark();
                self.looked.moment = Some((look.moment, mark));
                mark
            }
        };
        let handover = self.handover.counts(&self.shared);
        let (handovers, departures) = handover.unwrap_or((u64::MAX, u64::MAX));
        let mut shown = BarrierShown {
            is_under_way: !self.is_over(mark),
            handovers,
            departures,
            ..BarrierShown::default()
        };
        if look.compares {
            (shown.pairs, shown.equal) = self.compare(now, effects);
            shown.is_different = self.looked.equal_by.is_none();
        }
        shown
    }

    /// Returns how many pairs of a partition and another owner there are, and how many are equal.
    fn compare(&mut self, now: Now, effects: &mut Vec<Effect>) -> (u64, u64) {
        let ownership = Arc::clone(&self.shared.ownership);
        if self.looked.equal_by.as_ref().is_some_and(|by| !Arc::ptr_eq(by, &ownership)) {
            (self.looked.equal_by, self.looked.since_ms) = (None, None);
        }
        let since_ms = match self.looked.since_ms {
            Some(since_ms) => since_ms,
            // What is found equal from then on is compared by a session that was begun later.
            None if !self.anti_entropy.sessions().1 => {
                let since_ms = now.monotonic_ms + 1;
                self.looked.since_ms = Some(since_ms);
                since_ms
            }
            None => return (0, 0),
        };
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let (pairs, equal) = self.anti_entropy.compare_since(since_ms, &mut turn);
        if pairs == equal && now.monotonic_ms >= since_ms {
            self.looked.equal_by = Some(ownership);
        }
        (pairs, equal)
    }

    fn mark(&self) -> Mark {
        let (sessions, _) = self.anti_entropy.sessions();
        Mark { slot: Slot(self.next_slot), ticket: self.shared.next_ticket(), sessions }
    }

    /// Whether all requests, commands and comparisons begun before `mark` have ended, and nothing is kept
    /// in memory that the disk refused. What they knew then nobody here knows any more, but for what is
    /// on disk: the replica and the outbox.
    fn is_over(&self, mark: Mark) -> bool {
        let (begun, is_under_way) = self.anti_entropy.sessions();
        let is_compared = begun > mark.sessions || !is_under_way;
        let is_done = self.running.keys().next().is_none_or(|&oldest| oldest > mark.slot);
        is_compared
            && is_done
            && !self.shared.waits_for_before(mark.ticket)
            && self.unkept.is_empty()
    }
}
