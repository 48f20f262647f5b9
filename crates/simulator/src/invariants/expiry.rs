//! Claims on deadlines: what a schedule covers is gone once it is due everywhere, and nothing else goes.

use std::collections::BTreeSet;

use clock::Dot;
use values::{Key, Tag};

use super::Run;
use crate::Record;
use crate::ledger::{Entry, Ledger, Place, Scheduled};
use crate::sight::{Sight, Write, covers, sight};

/// Whether a schedule that may have been due by `by_ms` covers a write: then it may be gone. A
/// schedule that was taken back counts only if it may have been due before everybody knew.
pub(super) fn may_have_expired(run: Run<'_>, key: &Key, place: Place, by_ms: u64) -> bool {
    let writes = run.ledger.made(key, place);
    let by_ms = by_ms.saturating_add(run.history.slack_ms);
    run.ledger.of(key).any(|entry| {
        entry
            .schedules
            .values()
            .any(|schedule| schedule.deadline_ms <= by_ms && covers_any(schedule, place, &writes))
    })
}

/// The same of the end of a run, when all deadlines have passed.
pub(super) fn may_be_gone(run: Run<'_>, key: &Key, place: Place) -> bool {
    let writes = run.ledger.made(key, place);
    let taken_back = taken_back(run.ledger, key);
    let by_ms = run.history.ended_ms.saturating_add(run.history.slack_ms);
    run.ledger.of(key).any(|entry| {
        entry.schedules.iter().any(|(dot, schedule)| {
            (!taken_back.contains(dot) || schedule.deadline_ms <= by_ms)
                && !is_taken_back_in_time(run, key, *dot, schedule.deadline_ms)
                && covers_any(schedule, place, &writes)
        })
    })
}

/// The schedules that cover a write, with their deadlines and when they were made, for people.
pub(super) fn schedules_that_cover(run: Run<'_>, key: &Key, place: Place) -> Vec<String> {
    let writes = run.ledger.made(key, place);
    let taken_back = taken_back(run.ledger, key);
    let of = |entry: &Entry| {
        let covering = entry.schedules.iter().filter(|(_, s)| covers_any(s, place, &writes));
        let told = covering.map(|(dot, schedule)| {
            let (deadline_ms, back) = (schedule.deadline_ms, taken_back.contains(dot));
            format!("{dot:?} due at {deadline_ms}, taken back: {back}, made at {}", entry.at_ms)
        });
        told.collect::<Vec<_>>()
    };
    run.ledger.of(key).flat_map(of).collect()
}

/// Whether a schedule covers a write as it was made anywhere: a set with a name has as many stamps as replicas
/// that it was tried at.
fn covers_any(schedule: &Scheduled, place: Place, writes: &[&Write]) -> bool {
    writes.iter().any(|write| covers(&schedule.removed, place, write))
}

/// Whether w owners had it, more than lost it, before a schedule was due by any clock, that it was taken
/// back: then nobody may remove for it.
fn is_taken_back_in_time(run: Run<'_>, key: &Key, dot: Dot, deadline_ms: u64) -> bool {
    let met = run
        .lasting()
        .filter(|(record, _)| record.key == *key && record.is_met() && run.history.stays(record));
    met.filter(|(record, _)| {
        run.wall_ms(record.to_ms).saturating_add(run.history.slack_ms) < deadline_ms
    })
    .any(|(record, _)| run.made_for(record).any(|entry| entry.taken_back.contains(&dot)))
}

/// Whether w owners had what a write added to a schedule before anybody removed for that: else it may be too late,
/// and what it wrote stays.
fn is_added_in_time(run: Run<'_>, record: &Record, dot: Dot) -> bool {
    let mut sweeps = run.ledger.of(&record.key).filter(|by| by.swept.contains(&dot));
    record.is_met() && sweeps.all(|sweep| sweep.at_ms > record.to_ms)
}

fn taken_back(ledger: &Ledger, key: &Key) -> BTreeSet<Dot> {
    ledger.of(key).flat_map(|entry| entry.taken_back.iter().copied()).collect()
}

/// At the end of all time nothing is there that an acknowledged schedule covers which must be there, unless some write
/// took that schedule back; nor what an acknowledged write found due.
pub fn invariant_nothing_outlives_its_deadline(run: Run<'_>) -> Result<(), String> {
    let promised = |record: &Record| record.is_usual_and_meets() && run.history.stays(record);
    for (record, _) in run.lasting().filter(|(record, _)| promised(record)) {
        let Some(view) = run.finals.get(&record.key) else { continue };
        let taken_back = taken_back(run.ledger, &record.key);
        // Of a request that was done twice the client was told of one.
        let mut made = run.made_for(record);
        let (Some(entry), None) = (made.next(), made.next()) else { continue };
        // Whoever has a schedule has what it was made of, but not all that was added: where one of w owners lost
        // that, others may take the schedule back without it.
        let is_spared = run.history.is_spared(&record.key, record.from_ms, u64::MAX);
        let is_made = |dot: Dot| entry.minted.contains_key(&(Tag::EXPIRY, dot));
        for (place @ (tag, dot), write) in run.ledger.writes(&record.key) {
            let covered = entry.schedules.iter().any(|(dot, schedule)| {
                !taken_back.contains(dot)
                    && (is_spared || is_made(*dot))
                    && is_added_in_time(run, record, *dot)
                    && covers(&schedule.removed, place, write)
            });
            let is_there = match write {
                Write::Base { .. } => false,
                write => sight(&view.value, tag, dot, write) == Sight::Live,
            };
            let swept = !entry.swept.is_empty() && entry.expired.contains(&place);
            if is_there && (covered || swept) {
                return Err(format!("{place:?}, {write:?}, outlives {record:?}"));
            }
        }
    }
    Ok(())
}

/// A read that r owners answered shows nothing that a schedule covers which w owners had, and which
/// was due by every clock, before the read began.
pub fn invariant_reads_show_nothing_past_its_deadline(run: Run<'_>) -> Result<(), String> {
    let reads = run.history.records.iter().filter(|record| record.operation.is_none());
    for read in reads.filter(|read| read.is_met() && read.is_usual_and_meets()) {
        let Some(view) = read.view() else { continue };
        let taken_back = taken_back(run.ledger, &read.key);
        let by_ms = run.wall_ms(read.from_ms).saturating_sub(run.history.slack_ms);
        let before = run.done().filter(|(record, _)| record.key == read.key && record.is_met());
        let before = before
            .filter(|(record, _)| record.is_before(read) && run.history.must_meet(read, record));
        for (record, _) in before {
            let mut made = run.made_for(record);
            let (Some(entry), None) = (made.next(), made.next()) else { continue };
            for (dot, schedule) in &entry.schedules {
                if schedule.deadline_ms > by_ms
                    || taken_back.contains(dot)
                    || !is_added_in_time(run, record, *dot)
                {
                    continue;
                }
                for (place @ (tag, dot), write) in run.ledger.writes(&read.key) {
                    let is_there = !matches!(write, Write::Base { .. })
                        && sight(&view.value, tag, dot, write) == Sight::Live;
                    if is_there && covers(&schedule.removed, place, write) {
                        return Err(format!("{read:?} shows {place:?}, due since {record:?}"));
                    }
                }
            }
        }
    }
    Ok(())
}
