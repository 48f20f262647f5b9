//! Which actors a write seals, and which it forgets (`clock`, seals): those of earlier starts of nodes, and of requests with
//! names, of which nothing is live any more.
//!
//! A context keeps a few that rest; who writes where there are more seals them all. It may seal one that goes on: that one's
//! replica draws another epoch then. Increments are live as long as their key; sealed, they are folded into a sum with those
//! that have names (`folding.rs`), and by then their actor is forgotten too.

use std::collections::BTreeSet;

use clock::Actor;
use sabotage::Bug;

use super::{Limits, Mint, Seen};
use crate::{Delta, DotStore, State, Tag, Tally};

/// Adds to the delta of a write by `mint` to `tag` what it seals and forgets.
pub(super) fn follow(delta: &mut Delta, tag: Tag, seen: Seen<'_>, mint: Mint, limits: &Limits) {
    let Some(round) = mint.round else { return };
    for (tag, state) in delta.value.0.iter_mut() {
        // Who has forgotten them would take dots alone for news: a sweep's, for one.
        let held = seen.held.value.context(*tag);
        if let Some(context) = state.context_mut() {
            context.merge(&held.seals_of(context));
        }
    }
    let (Some(held), Some(written)) = (seen.held.value.state(tag), delta.value.0.get_mut(&tag))
    else {
        return;
    };
    let context = held.context();
    // A schedule is merged later, and would bring back the actors of dots that it names.
    let is_named = seen.held.value.schedules().any(|(_, it)| it.removal.has_dots(tag));
    let below = seen.folding.forgets_below(tag, context).filter(|_| !is_named);
    let mut resting = match context.open_actors().count() > limits.actors_resting {
        true => resting(held, written, mint.actor),
        false => BTreeSet::new(),
    };
    if resting.len() <= limits.actors_resting {
        resting.clear();
    }
    if resting.is_empty() && below.is_none() {
        return;
    }
    let mut news = context.sealed(&resting, round);
    if let Some(below) = below {
        news.forget_below(below);
    }
    match (held, &mut *written) {
        (State::Counter(held), State::Counter(written)) => {
            written.tally.merge(&held.tally.sealed(&resting, round));
        }
        (State::Register(held), State::Register(written)) => {
            written.tally.merge(&held.tally.sealed(&resting, round));
        }
        _ => {}
    }
    if let Some(context) = written.context_mut() {
        context.merge(&news);
    }
}

/// The actors that wrote what is `held`, or was, of whom nothing is live beside what is `written` by this one, and that nobody
/// has sealed.
fn resting(held: &State, written: &State, writer: Actor) -> BTreeSet<Actor> {
    let open = held.context().open_actors();
    let mut resting: BTreeSet<Actor> = open.filter(|&actor| actor != writer).collect();
    let mut keep = |actor: Actor| {
        if !sabotage::is(Bug::LiveSealed) {
            resting.remove(&actor);
        }
    };
    match (held, written) {
        (State::Bytes(_), State::Bytes(written)) => {
            written.store.dots().into_iter().for_each(|dot| keep(dot.actor));
        }
        (State::Register(held), State::Register(written)) => {
            let bases = held.base.iter().chain(&written.base);
            bases.for_each(|base| keep(base.dot.actor));
            names(&held.tally).for_each(&mut keep);
        }
        (State::Counter(held), State::Counter(_)) => {
            names(&held.tally).for_each(&mut keep);
        }
        // Elements have rows of their own, and whoever keeps those looks at them ([`Delta::seal`]).
        _ => resting.clear(),
    }
    resting
}

/// Of increments with names it is known already when they were made.
fn names(tally: &Tally) -> impl Iterator<Item = Actor> + '_ {
    tally.entries().map(|(actor, _)| actor).filter(|actor| actor.is_named())
}
