//! What a core has under way, for the barrier: whether what was begun before a mark has ended, and
//! whether replicas were found equal since then.

use storage::Ticket;

use crate::{
    Core, Effect, Now,
    turn::{Slot, Turn},
};

/// A moment of one core: what was begun before it, and what after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    slot: Slot,
    ticket: Ticket,
    sessions: u64,
}

impl Core {
    /// This moment.
    pub fn mark(&self) -> Mark {
        let (sessions, _) = self.anti_entropy.sessions();
        Mark { slot: Slot(self.next_slot), ticket: self.shared.next_ticket(), sessions }
    }

    /// Whether all requests, commands and comparisons begun before `mark` have ended, and nothing is kept
    /// in memory that the disk refused. What they knew then nobody here knows any more, but for what is
    /// on disk: the replica and the outbox.
    pub fn is_over(&self, mark: Mark) -> bool {
        let (begun, is_under_way) = self.anti_entropy.sessions();
        let is_compared = begun > mark.sessions || !is_under_way;
        let is_done = self.running.keys().next().is_none_or(|&oldest| oldest > mark.slot);
        is_compared
            && is_done
            && !self.shared.waits_for_before(mark.ticket)
            && self.unkept.is_empty()
    }

    /// Whether no comparison is under way that was begun here.
    pub fn is_between_sessions(&self) -> bool {
        !self.anti_entropy.sessions().1
    }

    /// Has all partitions compared with their other owners that were not since `since_ms` of the monotonic
    /// clock. Returns how many pairs of a partition and another owner there are, and how many were found
    /// equal since then, by comparisons that were begun before it too: ask when there was none.
    pub fn compare_since(
        &mut self,
        since_ms: u64,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> (u64, u64) {
        let mut turn = Turn::new(&mut self.shared, now, effects);
        self.anti_entropy.compare_since(since_ms, &mut turn)
    }
}
