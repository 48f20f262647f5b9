//! Operations with a name (an idempotency key): done once, however often they are tried and through
//! whichever replicas.
//!
//! A named operation mints under an actor of its own ([`Actor::named`]), so every replica that does
//! it makes the same dots, and their merge is one. Nothing else remembers the name: it is known
//! where all of those dots are in a context. It costs one entry of that, and an increment one of a tally, until it is
//! folded (`folding.rs`), or else as long as the key is there: which is why there are bounds on how many a key takes.
//!
//! What is read of a key repairs others: some of the elements that were added may be known, or the deadline alone.
//! What is missing is made then, under the same dots. What a removal took of a collection leaves nothing but a context;
//! who knows its mark has what it did, and only to those who know it is said again.
//!
//! A set of a register has the time of its latest try: tried where the first is not known, it wins
//! over what was set there before, as any set that comes then.

use std::collections::BTreeSet;

use super::{Limits, Operation, Prepared, UpdateError};
use crate::{Delta, Lifetime, Scope, State, Tag, View};
use clock::{Actor, CausalContext, Dot};
use sabotage::Bug;

/// Refuses a name that another operation has, and one more than a key takes beside those that are `folded`.
pub(super) fn check(
    view: &View,
    observed: &CausalContext,
    actor: Actor,
    folded: &BTreeSet<Actor>,
    limits: &Limits,
) -> Result<(), UpdateError> {
    let contexts = || view.value.0.values().map(State::context).chain([observed]);
    if contexts().any(|context| context.highest(actor) > 0) {
        return Ok(());
    }
    let (mut names, mut of_client, mut unasked) = (0, 0, 0);
    // One name can be in several contexts: what it did was scheduled to be removed, or it was shown
    // to the client.
    let others: BTreeSet<Actor> = contexts().flat_map(CausalContext::actors).collect();
    for other in others.into_iter().filter(|other| other.is_named()) {
        if other.epoch.process == actor.epoch.process {
            return Err(UpdateError::NameReused);
        }
        if folded.contains(&other) {
            continue;
        }
        names += 1;
        unasked += usize::from(other.is_unasked());
        of_client += usize::from(other.named_client() == actor.named_client());
    }
    let bounds = [
        (names, limits.names, true),
        (of_client, limits.names_per_client, true),
        (unasked, limits.names_unasked, actor.is_unasked()),
    ];
    for (count, limit, concerns) in bounds {
        if concerns && count >= limit && !sabotage::is(Bug::NamesUnbounded) {
            return Err(UpdateError::TooManyNames { limit });
        }
    }
    Ok(())
}

/// Whether the deadline that an operation makes beside it is known too: what is read of a key may bring one of them
/// alone.
pub(super) fn is_scheduled(
    (lifetime, scheduler): (Lifetime, Actor),
    operation: &Operation,
    view: &View,
) -> bool {
    !matches!(lifetime, Lifetime::Ends(_))
        || !operation.adds()
        || view.value.context(Tag::EXPIRY).highest(scheduler) > 0
}

/// What an operation that was done already gives to other replicas: what is here of all that it
/// speaks of, and that it was done.
pub(super) fn repeated(operation: &Operation, view: &View, actor: Actor) -> Prepared {
    let tag = operation.minted_tag();
    let partial = operation.removes_elements(view);
    let mut delta = here(operation, view);
    let own = view.value.context(tag).of_actors(|other| other == actor);
    state(&mut delta, tag).context_mut().into_iter().for_each(|context| context.merge(&own));
    delta.touch.entry(tag).or_default();
    Prepared { delta, changed: 0, repeated: true, partial, minted: None }
}

/// What is here of all that an operation speaks of: of its type, of the key's deadlines, and of every type if it
/// removes whole ones.
pub(super) fn here(operation: &Operation, view: &View) -> Delta {
    let mut delta = view.repair(&View::default()).unwrap_or_default();
    let tag = operation.minted_tag();
    let of_all = operation.scope() == Scope::Removal;
    let speaks_of = |other| of_all || other == tag || other == Tag::EXPIRY;
    delta.value.0.retain(|&other, _| speaks_of(other));
    delta.touch.retain(|&other, _| speaks_of(other));
    delta.leave_taken_back();
    delta
}

/// Has `delta` say that the operation of `actor` was done, also where it minted nothing. Returns the
/// dot that says so.
///
/// Whether a deadline's condition holds can differ from replica to replica. Where it does not, the dot
/// is not the one under which another replica makes the schedule: it would take that away.
pub(super) fn mark(delta: &mut Delta, tag: Tag, actor: Actor) -> Dot {
    let state = state(delta, tag);
    let first = Dot::new(actor, 1);
    let is_unmet = tag == Tag::EXPIRY && !state.context().contains(first);
    let dot = if is_unmet { Dot::new(actor, 2) } else { first };
    if let Some(context) = state.context_mut() {
        context.insert(dot);
    }
    // It names no element, and is not the context alone that ends a transfer.
    delta.touch.entry(tag).or_default();
    dot
}

fn state(delta: &mut Delta, tag: Tag) -> &mut State {
    delta.value.0.entry(tag).or_insert_with(|| State::bottom(tag))
}
