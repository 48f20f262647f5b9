//! Claims on what was taken away: exactly what was shown, all of what quorums hold, and for good.

use values::{Operation, RegisterOp};

use super::Run;
use crate::Record;
use crate::ledger::{Entry, Ledger, Place, named};
use crate::sight::{Sight, Write, sight};

/// A delta takes away nothing but what its operation names and its maker was shown before.
pub fn invariant_removals_take_only_what_they_were_shown(ledger: &Ledger) -> Result<(), String> {
    for entry in ledger.judged() {
        if let Some(taken) = entry.removed.difference(&entry.seen).next() {
            return Err(format!("{taken:?} was not shown to, or not named by, {entry:?}"));
        }
    }
    Ok(())
}

/// A removal takes away all that it names and anybody showed to its maker, also what another showed to be gone.
pub fn invariant_removals_take_all_they_were_shown(ledger: &Ledger) -> Result<(), String> {
    for entry in ledger.judged() {
        if let Some(left) = entry.left.first() {
            return Err(format!("{left:?} was shown and is left by {entry:?}"));
        }
    }
    Ok(())
}

/// With r + w > n, a removal that r owners were asked for takes away whatever w owners had before
/// it began, and have still: none of that is there in the end, if the removal must be.
pub fn invariant_removals_take_what_quorums_hold(run: Run<'_>) -> Result<(), String> {
    for (removal, operation) in run.done() {
        let is_observed = removal.answer().is_some_and(|answer| !answer.partly_observed);
        // One done already takes nothing away now.
        let is_new = removal.answer().is_some_and(|answer| !answer.repeated);
        let is_promised = operation.removes_observed() && is_observed && is_new;
        let is_kept = removal.knows_its_bucket() && run.history.must_survive(removal);
        if !(is_promised && is_kept) {
            continue;
        }
        let had = |put: &&Record| {
            let is_before = put.key == removal.key && put.is_met() && put.is_before(removal);
            is_before && run.history.must_meet(removal, put)
        };
        for put in run.history.records.iter().filter(had) {
            for place in run.minted_alternatives(put).into_iter().flatten() {
                let (Some(write), Some(view)) =
                    (run.ledger.write(&put.key, place), run.finals.get(&put.key))
                else {
                    continue;
                };
                // What is due is shown to nobody, and a removal is promised to take what it was shown.
                if run.made_for(removal).any(|entry| entry.expired.contains(&place)) {
                    continue;
                }
                let is_won = run.made_for(removal).all(|entry| entry.bases.0 < entry.bases.1);
                let is_set = matches!(operation, Operation::Register(RegisterOp::Set { .. }));
                if named::removes(operation, place, write)
                    && (is_won || !is_set)
                    && sight(&view.value, place.0, place.1, write) == Sight::Live
                {
                    return Err(format!("{place:?} of {put:?} is there after {removal:?}"));
                }
            }
        }
    }
    Ok(())
}

/// What an acknowledged delta took away is not there in the end, but for what may come back from another ring.
pub fn invariant_no_removed_dot_is_live(run: Run<'_>) -> Result<(), String> {
    for (removal, _) in run.lasting() {
        let Some(view) = run.finals.get(&removal.key) else { continue };
        for (tag, dot) in run.certainly_removed(removal) {
            let Some(write) = run.ledger.write(&removal.key, (tag, dot)) else { continue };
            if !matches!(write, Write::Base { .. })
                && sight(&view.value, tag, dot, write) == Sight::Live
                && !may_come_back(run, removal, (tag, dot))
            {
                return Err(format!("{dot:?}, {write:?}, is back after {removal:?}"));
            }
        }
    }
    Ok(())
}

/// Whether a node may have come with what was removed and forgotten: in a ring that forgets what was removed in it, of a
/// write that another ring has, nobody there can be asked about that.
pub(super) fn may_come_back(run: Run<'_>, removal: &Record, place: Place) -> bool {
    run.forgets && is_of_another_ring(run, removal, place)
}

/// Whether what is removed was written in another ring than where it is.
fn is_of_another_ring(run: Run<'_>, removal: &Record, place: Place) -> bool {
    let mut made = run.ledger.of(&removal.key).filter(|entry| entry.minted.contains_key(&place));
    let ring_of = |entry: &Entry| {
        let record = run.history.records.iter().find(|record| Some(record.call) == entry.call);
        record.map(|record| record.ring)
    };
    made.all(|entry| ring_of(entry).is_some_and(|ring| ring != removal.ring))
}
