//! Which names a write folds: those of increments that nobody can make again (`tally/folding.rs`).
//!
//! A schedule is a removal that is merged later. Of a sum nobody could tell what it takes from what was taken away
//! before it. So nothing is folded of which there is a schedule that takes a part, until that is gone.

use std::collections::BTreeSet;

use clock::{Actor, Round};
use sabotage::Bug;

use super::Mint;
use crate::{State, Tag, Tally, View};

/// What a write folds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folding {
    /// In which round its coordinator is.
    pub(super) round: Option<Round>,
    /// Below which the names of a counter are folded, if some are.
    counter: Option<Round>,
    register: Option<Round>,
}

/// The increments of a counter or register.
fn tally_of(view: &View, tag: Tag) -> Option<&Tally> {
    match view.value.state(tag) {
        Some(State::Counter(counter)) => Some(&counter.tally),
        Some(State::Register(register)) => Some(&register.tally),
        _ => None,
    }
}

impl Folding {
    /// What a write by `mint` folds of what is `held`.
    pub(super) fn of(held: &View, mint: Mint) -> Self {
        let below = mint.round.and_then(Round::folds_below);
        let of = |tag| {
            let (below, tally) = (below?, tally_of(held, tag)?);
            tally.names_before(below).next()?;
            let mut later = held.value.schedules().map(|(_, schedule)| &schedule.removal);
            let is_free = later.all(|removal| !removal.tally(tag).is_of_before(below));
            is_free.then_some(below)
        };
        Self { round: mint.round, counter: of(Tag::COUNTER), register: of(Tag::LWW) }
    }

    fn below(self, tag: Tag) -> Option<Round> {
        match tag {
            Tag::COUNTER => self.counter,
            Tag::LWW => self.register,
            _ => None,
        }
    }

    /// The names that are folded.
    pub(super) fn names(self, held: &View) -> BTreeSet<Actor> {
        let of = |tag| Some(tally_of(held, tag)?.names_before(self.below(tag)?));
        [Tag::COUNTER, Tag::LWW].into_iter().filter_map(of).flatten().collect()
    }

    /// Adds to the delta of an increment of what is `held` that older ones are folded.
    pub(super) fn fold(self, tag: Tag, held: &Tally, delta: &mut Tally) {
        if let Some(below) = self.below(tag) {
            let mut folded = held.clone();
            folded.fold(below);
            delta.merge(&folded.only_sums());
        }
    }

    /// Completes what a removal, now or later, resets of what is `held`.
    pub(super) fn complete(self, tag: Tag, held: &View, reset: &mut Tally) {
        let is_to_be = !reset.is_empty() && !sabotage::is(Bug::ResetLeavesFolded);
        if let (true, Some(round), Some(held)) = (is_to_be, self.round, tally_of(held, tag)) {
            reset.merge(&held.about_to_be_folded(round));
        }
    }

    /// Folds what a removal resets now.
    pub(super) fn fold_reset(self, tag: Tag, reset: &mut Tally) {
        if let Some(below) = self.below(tag).filter(|_| !reset.is_empty()) {
            reset.fold(below);
        }
    }
}
