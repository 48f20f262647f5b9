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
    /// The life, the round, and whether that is over.
    round: (u64, u64, bool),
    /// The ownership by which replicas are to be found equal.
    by: Option<Arc<Ownership>>,
    /// By comparisons that were begun since then, in milliseconds of the monotonic clock.
    since_ms: u64,
    /// Whether all of them were.
    is_equal: bool,
}

impl Core {
    /// How this core stands, as far as it knows without its engine; has replicas compared if that is asked
    /// for. A look of another life, round or moment than the last one, or by another ownership, begins with the present:
    /// comparisons begun from then on count, whether or not they were asked for.
    pub fn look(&mut self, look: BarrierLook, now: Now, effects: &mut Vec<Effect>) -> BarrierShown {
        let (round, by) = ((look.life, look.round, look.is_over), &self.shared.ownership);
        let is_by = |ownership| Arc::ptr_eq(ownership, by);
        if self.looked.round != round || !self.looked.by.as_ref().is_some_and(is_by) {
            let (moment, by) = (self.looked.moment, Some(Arc::clone(by)));
            // A session that began in this millisecond may have begun before the look.
            let since_ms = now.monotonic_ms + 1;
            self.looked = Looked { moment, round, by, since_ms, is_equal: false };
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
            shown.is_different = !self.looked.is_equal;
        }
        shown
    }

    /// Returns how many pairs of a partition and another owner there are, and how many are equal.
    fn compare(&mut self, now: Now, effects: &mut Vec<Effect>) -> (u64, u64) {
        let since_ms = self.looked.since_ms;
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let (pairs, equal) = self.anti_entropy.compare_since(since_ms, &mut turn);
        self.looked.is_equal |= pairs == equal && now.monotonic_ms >= since_ms;
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
        let is_done = self.running.first().is_none_or(|oldest| Slot(oldest) > mark.slot);
        is_compared
            && is_done
            && !self.shared.waits_for_before(mark.ticket)
            && self.unkept.is_empty()
    }
}
