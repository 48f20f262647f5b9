//! Claims on what was minted: each dot once, for one request, and for what the request says.

use std::collections::{BTreeMap, BTreeSet};

use clock::Stamp;
use values::{Limits, Operation, RegisterOp};

use super::Run;
use crate::ledger::{Entry, Ledger, Place, said};
use crate::{Sim, Told, Write};

/// A dot names one write, for ever. Only a named request, done by several replicas, mints the same
/// dots at each, for the same (a delete for the tombstones that it finds a use for).
pub fn invariant_dots_issued_once(sim: &Sim) -> Result<(), String> {
    let mut issued = BTreeMap::new();
    for entry in sim.ledger().entries() {
        for (&(tag, dot), write) in &entry.minted {
            let Some((before, said)) = issued.insert((&entry.key, tag, dot), (entry, write)) else {
                continue;
            };
            let is_same = write.unstamped() == said.unstamped() || is_deletion(&entry.operation);
            if !(dot.actor.is_named() && is_same && entry.operation == before.operation) {
                return Err(format!("{dot:?} was issued twice:\n{before:?}\n{entry:?}"));
            }
        }
    }
    Ok(())
}

/// What an operation mints is what it says: so many dots, each for its element with its value or
/// quantity.
pub fn invariant_updates_mint_what_they_say(ledger: &Ledger) -> Result<(), String> {
    for entry in ledger.judged() {
        let is_mark = |(place, write): &(&Place, &Write)| {
            // A named request that mints nothing else leaves the mark of its name.
            **write == Write::Mark && place.1.actor.is_named() && !entry.repeated
        };
        let is_end = |(_, write): &(&Place, &Write)| **write == Write::End;
        let minted: Vec<_> = entry.minted.iter().filter(|minted| !is_mark(minted)).collect();
        let (ends, minted): (Vec<_>, Vec<_>) = minted.into_iter().partition(is_end);
        // Of a request that was done, its deadline may be made where it is not known.
        if ends.len() > 1 {
            return Err(format!("it mints several schedules: {entry:?}"));
        }
        let writes: BTreeSet<Write> = minted.iter().map(|(_, write)| write.unstamped()).collect();
        let is_tombstone = |write: &Write| *write == Write::Base { stamp: Stamp(0), value: None };
        let is_said = match &entry.operation {
            _ if entry.repeated => minted.is_empty(),
            operation if is_deletion(operation) => {
                minted.len() <= 1 && writes.iter().all(is_tombstone)
            }
            // Of several elements some may be known already, and are not made again.
            operation if entry.named && said(operation).len() > 1 => {
                !writes.is_empty()
                    && writes.is_subset(&said(operation))
                    && minted.len() == writes.len()
            }
            operation => writes == said(operation) && minted.len() == writes.len(),
        };
        if !is_said {
            return Err(format!("it mints what it does not say: {entry:?}"));
        }
    }
    Ok(())
}

/// Whether an operation leaves a tombstone where there is a register, and nothing elsewhere.
const fn is_deletion(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Delete(_) | Operation::Resolve(_) | Operation::Register(RegisterOp::DeleteRaw)
    )
}

/// An acknowledged update was made; one that was refused was not.
pub fn invariant_answers_say_what_was_made(run: Run<'_>) -> Result<(), String> {
    for record in run.history.records.iter().filter(|record| record.operation.is_some()) {
        let is_made = run.made_for(record).next().is_some();
        match &record.told {
            Told::Done(_) if !is_made => return Err(format!("never made: {record:?}")),
            Told::Refused(_) if is_made => return Err(format!("made all the same: {record:?}")),
            _ => {}
        }
    }
    Ok(())
}

/// A request without a name is done at most once; of one with a name, every replica that does it
/// mints the same dots.
pub fn invariant_requests_are_done_once(run: Run<'_>) -> Result<(), String> {
    for record in &run.history.records {
        let mut made = run.made_for(record).filter(|entry| !entry.repeated);
        let Some(first) = made.next() else { continue };
        let actors = |entry: &Entry| -> BTreeSet<_> {
            entry.minted.keys().map(|(_, dot)| dot.actor).collect()
        };
        if let Some(again) = made.find(|next| !next.named || actors(next) != actors(first)) {
            return Err(format!("{record:?} was done twice:\n{first:?}\n{again:?}"));
        }
    }
    Ok(())
}

/// No set has a stamp, chosen by its client, that lies further ahead than the bound by every clock.
pub fn invariant_stamps_are_near(run: Run<'_>) -> Result<(), String> {
    let ahead_ms = Limits::default().future_ms + run.history.slack_ms;
    for entry in run.ledger.judged() {
        if let Operation::Register(RegisterOp::Set { at: Some(at), .. }) = &entry.operation
            && at.millis() > run.wall_ms(entry.at_ms) + ahead_ms
        {
            return Err(format!("it lies more than {ahead_ms} ms ahead: {entry:?}"));
        }
    }
    Ok(())
}
