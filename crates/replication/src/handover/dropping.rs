//! Dropping copies: what the engine answers to departures, and one page of keys at a time.

use std::ops::Bound;

use ring::Partition;
use storage::{Answer, Command};

use super::Handover;
use crate::{
    anti_entropy::COMMANDS_WAITING_MAX,
    turn::{Turn, Waiter},
};

/// Keys dropped at once: clients wait about a millisecond for it.
const KEYS_AT_ONCE: usize = 16;
/// Keys dropped by one core, about, between two times to look after handovers: some thousands a second. A guess.
pub(super) const KEYS_BETWEEN: u64 = 256;

impl Handover {
    /// The engine said to a departure whether there is anything of a partition. There may be another one since,
    /// from which more is to go.
    pub(crate) fn looked(
        &mut self,
        (partition, number): (Partition, u64),
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        if let Some(departure) = self.departures.get_mut(&partition)
            && departure.number() == number
            && departure.looked(answer)
        {
            self.departures.remove(&partition);
        }
        // A disk that fails at once would be asked for ever: it is asked again when it is time.
        if !matches!(answer, Answer::Failed(_)) {
            self.go_on(partition, turn);
        }
    }

    /// The engine dropped some keys of a partition, for this departure.
    pub(crate) fn dropped(
        &mut self,
        (partition, number): (Partition, u64),
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        self.dropping = None;
        if let Answer::Forgotten { keys, .. } = answer {
            turn.shared.counters.keys_dropped += keys;
            self.tally.dropped.note(*keys, turn.now.monotonic_ms);
            // To find that a partition is empty costs something, too.
            self.drops = self.drops.saturating_sub((*keys).max(1));
        }
        if let Some(departure) = self.departures.get_mut(&partition)
            && departure.number() == number
            && departure.dropped(answer)
        {
            self.departures.remove(&partition);
            self.tally.departed.note(1, turn.now.monotonic_ms);
        }
        if !matches!(answer, Answer::Failed(_)) {
            self.drop_next(turn);
        }
        self.set_timer(turn);
    }

    /// Has the engine drop some keys of the next partition of which nothing is to stay: of one partition
    /// at a time, and later where many were dropped lately or much waits for the engine.
    pub(super) fn drop_next(&mut self, turn: &mut Turn<'_>) {
        let is_busy = turn.shared.stores_waiting() >= COMMANDS_WAITING_MAX;
        if self.dropping.is_some() || self.drops == 0 || is_busy {
            return;
        }
        let after = self.departures.range((Bound::Excluded(self.dropped), Bound::Unbounded));
        let mut all = after.chain(&self.departures);
        let next = all.find(|(_, departure)| departure.is_dropping());
        let Some((&partition, departure)) = next else { return };
        let number = departure.number();
        let command = Command::Forget { partition, keys: departure.keys(), limit: KEYS_AT_ONCE };
        (self.dropping, self.dropped) = (Some(partition), partition);
        turn.store(Waiter::Dropped(partition, number), command);
    }
}
