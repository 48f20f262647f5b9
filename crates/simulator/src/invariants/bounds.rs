//! Claims on sizes: what a cluster keeps in memory, in outboxes and in what it tells of a key is bounded.

use std::collections::BTreeSet;

use clock::{Actor, Dot};
use values::{State, Tag};

use super::Run;
use crate::Sim;
use crate::ledger::TRACER;

/// No core has more requests under way than it may, and no outbox takes anything for an owner of whom it
/// holds as much as it may.
///
/// A core takes no request once `requests_max` wait for their replies, and no write once twice as many
/// are under way at all; of those replied to, `requests_max` go on, and the oldest of any more end soon. What
/// an outbox holds ends with the delta that takes it to its bound.
pub fn invariant_queues_are_bounded(sim: &Sim) -> Result<(), String> {
    sim.exceeded().map_or(Ok(()), |what| Err(what.to_owned()))
}

/// What is told to have been seen of a key names nobody but those who wrote it: as many actors as there
/// were writers, each in one epoch or under one name, and no more, however often clients come and go.
pub fn invariant_contexts_are_bounded(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        let writers: BTreeSet<Actor> =
            run.ledger.writes(key).map(|((_, dot), _)| dot.actor).collect();
        for (tag, state) in &view.value.0 {
            let mut actors = state.context().actors();
            if let Some(actor) =
                actors.find(|actor| actor.replica != TRACER && !writers.contains(actor))
            {
                return Err(format!("{key:?} {tag}: {actor:?} never wrote it"));
            }
        }
    }
    Ok(())
}

/// Siblings of a key are puts none of which had been shown another: no more than there were clients
/// that knew nothing of one another.
pub fn invariant_siblings_are_bounded(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        let Some(State::Bytes(bytes)) = view.value.state(Tag::BYTES) else { continue };
        let siblings: BTreeSet<Dot> = bytes.store.0.keys().copied().collect();
        for entry in run.ledger.of(key) {
            let own = |dot: &Dot| entry.minted.contains_key(&(Tag::BYTES, *dot));
            if !siblings.iter().any(own) {
                continue;
            }
            // What was due was not shown. Where a deadline was lost with the disks of all that had it,
            // a sibling that a put handed on outlives it.
            let mut shown = entry.seen.difference(&entry.expired);
            if let Some((_, dot)) =
                shown.find(|(tag, dot)| *tag == Tag::BYTES && siblings.contains(dot))
            {
                return Err(format!("{key:?}: {dot:?} stays beside what replaced it: {entry:?}"));
            }
        }
    }
    Ok(())
}
