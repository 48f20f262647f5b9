//! What a write folds: increments of actors that write no more (`tally/folding.rs`), those of requests with names and of starts
//! of nodes that were sealed (`sealing.rs`).
//!
//! A schedule is a removal that is merged later. Of a sum nobody could tell what it takes from what was taken away
//! before it. So nothing is folded of which there is a schedule that takes a part, until that is gone.

use std::collections::BTreeSet;

use clock::{Actor, CausalContext, Round};
use sabotage::Bug;

use super::Mint;
use crate::{State, Tag, Tally, View};

/// What a write folds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folding {
    /// In which round its coordinator is.
    pub(super) round: Option<Round>,
    /// Below which a raw value's actors are forgotten.
    bytes: Option<Round>,
    /// Below which a counter's increments may be folded, and its actors forgotten.
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
            let mut later = held.value.schedules().map(|(_, schedule)| &schedule.removal);
            let is_free = later.all(|removal| !removal.tally(tag).is_of_folded(tally, below));
            is_free.then_some(below)
        };
        let (counter, register) = (of(Tag::COUNTER), of(Tag::LWW));
        Self { round: mint.round, bytes: below, counter, register }
    }

    /// Below which what was made and sealed is old enough, if nothing keeps it.
    fn below(self, tag: Tag) -> Option<Round> {
        match tag {
            Tag::BYTES => self.bytes,
            Tag::COUNTER => self.counter,
            Tag::LWW => self.register,
            _ => None,
        }
    }

    /// Below which sealed actors of what is `held` are forgotten, if there are some.
    pub(super) fn forgets_below(self, tag: Tag, held: &CausalContext) -> Option<Round> {
        let below = self.below(tag)?;
        let is_old = held.has_sealed(|sealed| sealed.is_before(below));
        (is_old && !sabotage::is(Bug::SealsKept)).then_some(below)
    }

    /// Whose increments are folded.
    pub(super) fn actors(self, held: &View) -> BTreeSet<Actor> {
        let of = |tag| Some(tally_of(held, tag)?.actors_before(self.below(tag)?));
        [Tag::COUNTER, Tag::LWW].into_iter().filter_map(of).flatten().collect()
    }

    /// Adds to the delta of an increment of what is `held` that older ones are folded.
    pub(super) fn fold(self, tag: Tag, held: &Tally, delta: &mut Tally) {
        let Some(below) = self.below(tag) else { return };
        if held.actors_before(below).next().is_some() {
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
        let Some(below) = self.below(tag) else { return };
        if reset.actors_before(below).next().is_some() {
            reset.fold(below);
        }
    }
}
