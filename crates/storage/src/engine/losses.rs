//! Losses: where replay met that records of the log are gone, less those that an earlier start met.

use std::sync::Arc;

use bytes::Bytes;

use super::Engine;
use super::notes::{NOTES, Notes};
use crate::IndexRead;
use crate::log_record::RecordOut;

/// Losses that are told apart. A log with more is gone on with and doubted again by the next start.
const LOSSES_MAX: usize = 1_024;

/// Records are gone that stood from one position of the log up to another.
#[derive(Debug)]
struct Loss {
    from: u64,
    to: u64,
    /// What the notes were there; none if that is not known.
    notes: Arc<Notes>,
}

/// In the order of the log.
#[derive(Debug, Default)]
pub(super) struct Losses {
    met: Vec<Loss>,
    /// The first after those.
    more: Option<Loss>,
}

impl Losses {
    pub(super) fn meet(&mut self, from: u64, to: u64, notes: &Arc<Notes>) {
        let loss = Loss { from, to, notes: Arc::clone(notes) };
        if self.met.len() < LOSSES_MAX {
            self.met.push(loss);
        } else {
            self.more.get_or_insert(loss);
        }
    }

    /// An earlier start met what is gone from here up to there each, and went on.
    pub(super) fn were_met(&mut self, before: &[(u64, u64)]) {
        let was = |loss: &Loss| before.iter().any(|&(from, to)| from <= loss.from && loss.to <= to);
        self.met.retain(|loss| !was(loss));
    }

    fn first(&self) -> Option<&Notes> {
        let first = self.met.first().into_iter().chain(&self.more).min_by_key(|loss| loss.from);
        first.map(|loss| &*loss.notes)
    }
}

impl<R: IndexRead> Engine<R> {
    /// What the notes were where the log first lost something that no start before met, if replay met such a place;
    /// none if that is not known. What was done between what was noted then and what is noted now may rest
    /// on what is lost. Told by the engine that keeps notes.
    pub fn notes_before_loss(&self) -> Option<&[(Bytes, Option<Bytes>)]> {
        self.losses.first().map(Vec::as_slice)
    }

    /// Goes on without what the log lost. That it did so, and without what, is in the log before all else that it
    /// does: the next start meets what is lost from here on, wherever in the log, and no more.
    pub(super) fn go_on_after_loss(&mut self) {
        let losses = std::mem::take(&mut self.losses);
        if !losses.met.is_empty() {
            let met: Vec<_> = losses.met.iter().map(|loss| (loss.from, loss.to)).collect();
            self.record_in(NOTES, &RecordOut::LossMet(&met));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_losses_than_are_told_apart_are_told_by_every_start() {
        let notes = |n: u64| Arc::new(vec![(Bytes::from(n.to_string()), None)]);
        let start = || {
            let mut losses = Losses::default();
            (0..LOSSES_MAX as u64 + 2).for_each(|n| losses.meet(10 * n, 10 * n + 5, &notes(n)));
            losses
        };
        assert_eq!(start().first(), Some(&*notes(0)));
        let met: Vec<_> = start().met.iter().map(|loss| (loss.from, loss.to)).collect();
        let mut again = start();
        again.were_met(&met);
        assert_eq!(again.first(), Some(&*notes(LOSSES_MAX as u64)));
        again.meet(1 << 30, 1 << 31, &notes(7));
        assert_eq!(again.first(), Some(&*notes(LOSSES_MAX as u64)), "the earlier one");
    }
}
