//! Claims on what is there in the end: all that was acknowledged and nobody took away, whole, and
//! nothing else.

use std::collections::BTreeSet;

use values::{Base, Key, Operation, RegisterOp, State, Tag};

use super::Run;
use super::expiry::{may_be_gone, schedules_that_cover};
use crate::ledger::Place;
use crate::sight::{Sight, Write, held, sight};

/// Every acknowledged write that no delta took away is there in the end.
pub fn invariant_no_acknowledged_write_is_lost(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        let removed: BTreeSet<Place> =
            run.ledger.of(key).flat_map(|entry| entry.removed.iter().copied()).collect();
        for (record, _) in run.lasting().filter(|(record, _)| record.key == *key) {
            let is_kept = |&(tag, dot): &Place| {
                let write = run.ledger.write(key, (tag, dot));
                removed.contains(&(tag, dot))
                    || match write {
                        None | Some(Write::Base { .. } | Write::End | Write::Mark) => true,
                        Some(write) => {
                            sight(&view.value, tag, dot, write) == Sight::Live
                                || may_be_gone(run, key, (tag, dot))
                        }
                    }
            };
            let made = run.minted_alternatives(record);
            if !made.is_empty() && !made.iter().any(|dots| dots.iter().all(is_kept)) {
                let lost = made.concat().into_iter().find(|place| !is_kept(place));
                let schedules = lost.map(|place| schedules_that_cover(run, key, place));
                return Err(format!("{key:?} lost {lost:?} of {record:?}; {schedules:?}"));
            }
        }
    }
    Ok(())
}

/// Whatever is there in the end was minted, with the element and the value or quantity that it
/// has.
pub fn invariant_nothing_comes_from_nowhere(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        for (&tag, state) in &view.value.0 {
            for (dot, shown) in held(state) {
                let mut made = run.ledger.of(key);
                if !made.any(|entry| entry.minted.get(&(tag, dot)) == Some(&shown))
                    && !is_removed_by_schedule(run, key, (tag, dot), &shown)
                {
                    let schedules = schedules_that_cover(run, key, (tag, dot));
                    return Err(format!("{key:?} shows {shown:?} under {dot:?}; {schedules:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether a deleted register stands under the stamp and dot of a write that a schedule removes.
fn is_removed_by_schedule(run: Run<'_>, key: &Key, place: Place, shown: &Write) -> bool {
    let Write::Base { stamp, value: None } = shown else { return false };
    let is_it = |write: &Write| matches!(write, Write::Base { stamp: of, .. } if of == stamp);
    run.ledger.of(key).any(|entry| entry.minted.get(&place).is_some_and(is_it))
        && may_be_gone(run, key, place)
}

/// A register shows the last of all acknowledged sets and deletes, or a later one whose outcome is
/// unknown.
pub fn invariant_the_last_set_wins(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        let shown = match view.value.state(Tag::LWW) {
            Some(State::Register(register)) => register.base.as_ref(),
            _ => None,
        };
        // Of what was deleted, or removed by a schedule, and was forgotten nothing is shown, nor of what it
        // was later than.
        let is_gone = |base: &&Base| {
            run.forgets && (base.value.is_none() || may_be_gone(run, key, (Tag::LWW, base.dot)))
        };
        let made = run.ledger.of(key).filter_map(|entry| entry.bases.1.as_ref());
        let forgotten = made.filter(is_gone).max();
        for (record, _) in run.lasting().filter(|(record, _)| record.key == *key) {
            let earliest = run.made_for(record).map(|entry| entry.bases.1.as_ref()).min();
            if earliest.flatten() > shown.max(forgotten) {
                return Err(format!("{key:?} shows {shown:?} after {record:?}"));
            }
        }
    }
    Ok(())
}

/// A set or delete of a register that was shown another one wins over it, whatever the clocks say.
pub fn invariant_later_sets_are_later(run: Run<'_>) -> Result<(), String> {
    let chooses_its_time = |operation: &Operation| {
        matches!(operation, Operation::Register(RegisterOp::Set { at: Some(_), .. }))
    };
    for entry in run.ledger.judged() {
        let (before, made) = &entry.bases;
        if made.is_some()
            && before >= made
            && !entry.repeated
            && !chooses_its_time(&entry.operation)
        {
            return Err(format!("it does not win over what it was shown: {entry:?}"));
        }
    }
    Ok(())
}

/// Every key that was written was read in the end.
pub fn invariant_all_keys_are_judged(run: Run<'_>) -> Result<(), String> {
    let written: BTreeSet<&Key> = run.history.records.iter().map(|record| &record.key).collect();
    match written.into_iter().find(|key| !run.finals.contains_key(key)) {
        Some(key) => Err(format!("{key:?} was not read")),
        None => Ok(()),
    }
}
