//! Claims on what clients were shown while faults went on: where r + w > n, all that w owners had, and
//! nothing that had been taken away. Not claimed is what an owner may have lost by then.

use values::{Base, State, Tag, View};

use super::Run;
use super::expiry::may_have_expired;
use super::removals::may_come_back;
use crate::Record;
use crate::ledger::Place;
use crate::sight::{Sight, Write, sight};

/// A read that r owners answered shows every write that w owners had before it began, where r + w > n,
/// unless a delta made before the read ended took it away or a later set replaced it.
pub fn invariant_reads_see_quorum_writes(run: Run<'_>) -> Result<(), String> {
    for (read, view) in reads(run) {
        for put in before(run, read) {
            let made = run.minted_alternatives(put);
            let is_shown = |place: &Place| is_accounted_for(run, read, view, *place);
            if !made.is_empty() && !made.iter().any(|dots| dots.iter().all(is_shown)) {
                return Err(format!("{read:?} does not see {made:?} of {put:?}"));
            }
        }
    }
    Ok(())
}

/// A read that r owners answered shows nothing that a removal, which w owners had before the read
/// began, took away, but for what may come back from another ring.
pub fn invariant_reads_show_nothing_removed(run: Run<'_>) -> Result<(), String> {
    for (read, view) in reads(run) {
        for removal in before(run, read) {
            for (tag, dot) in run.certainly_removed(removal) {
                let write = run.ledger.write(&read.key, (tag, dot));
                if write.is_some_and(|write| sight(&view.value, tag, dot, write) == Sight::Live)
                    && !may_come_back(run, removal, (tag, dot))
                {
                    return Err(format!("{read:?} shows {dot:?}, gone since {removal:?}"));
                }
            }
        }
    }
    Ok(())
}

/// The answer to an update shows what it wrote, unless it was taken away meanwhile. A replica that is asked again may
/// know of it only by what took it away: a set that replaced it, or a schedule that is due. Then there is nothing to show.
pub fn invariant_answers_show_their_writes(run: Run<'_>) -> Result<(), String> {
    for (record, _) in run.done() {
        let Some(view) = record.view() else { continue };
        let made = run.minted_alternatives(record);
        let was_done = record.answer().is_some_and(|answer| answer.repeated);
        let is_shown = |place: &Place| {
            is_accounted_for(run, record, view, *place)
                || was_done && is_taken_away(run, record, *place)
        };
        if !made.is_empty() && !made.iter().any(|dots| dots.iter().all(is_shown)) {
            return Err(format!("the answer does not show {made:?}: {record:?}"));
        }
    }
    Ok(())
}

fn reads(run: Run<'_>) -> impl Iterator<Item = (&Record, &View)> {
    let reads = run.history.records.iter().filter(|record| record.operation.is_none());
    reads.filter(|read| read.is_met()).filter_map(|read| Some((read, read.view()?)))
}

/// Updates of a read's key that w owners had before it began, none of which lost them by then.
fn before<'a>(run: Run<'a>, read: &'a Record) -> impl Iterator<Item = &'a Record> {
    run.done()
        .map(|(record, _)| record)
        .filter(|record| record.key == read.key && record.is_met() && record.is_before(read))
        .filter(|record| run.history.must_meet(read, record))
}

/// Whether a write is shown, or was taken away or replaced by what was made before the answer.
pub(crate) fn is_accounted_for(run: Run<'_>, shown_to: &Record, view: &View, place: Place) -> bool {
    let ledger = run.ledger;
    let (tag, dot) = place;
    let Some(write) = ledger.write(&shown_to.key, place) else { return true };
    if matches!(write, Write::End | Write::Mark) {
        return true;
    }
    match sight(&view.value, tag, dot, write) {
        Sight::Live => true,
        Sight::Unseen if !run.forgets => false,
        // What was forgotten is not even known to be gone; it was taken away all the same.
        Sight::Unseen | Sight::Gone => {
            is_replaced(run, shown_to, view, place) || is_taken_away(run, shown_to, place)
        }
    }
}

/// Whether a delta made before the answer took a write away, or a schedule that may have been due by then.
fn is_taken_away(run: Run<'_>, shown_to: &Record, place: Place) -> bool {
    let mut made = run.ledger.of(&shown_to.key);
    made.any(|entry| entry.at_ms <= shown_to.to_ms && entry.removed.contains(&place))
        || may_have_expired(run, &shown_to.key, place, run.wall_ms(shown_to.to_ms))
}

/// Whether a set lost: against what is shown, or against a delete of which nothing is known any more (or it is that
/// delete), or against a set that was due since and of which nothing is known either.
fn is_replaced(run: Run<'_>, shown_to: &Record, view: &View, place: Place) -> bool {
    let shown = match view.value.state(Tag::LWW) {
        Some(State::Register(register)) => register.base.as_ref(),
        _ => None,
    };
    let by_ms = run.wall_ms(shown_to.to_ms);
    let shows_any = shown.is_some_and(|base| base.value.is_some());
    let is_gone = |base: &&Base| {
        base.value.is_none()
            || !shows_any && may_have_expired(run, &shown_to.key, (Tag::LWW, base.dot), by_ms)
    };
    let forgotten = run.ledger.of(&shown_to.key).filter(|entry| entry.at_ms <= shown_to.to_ms);
    let forgotten = forgotten.filter_map(|entry| entry.bases.1.as_ref());
    let forgotten = forgotten.filter(|base| run.forgets && is_gone(base));
    // A set with a name has as many stamps as replicas that it was tried at.
    let made = run.ledger.made(&shown_to.key, place);
    // Where nothing was to be deleted a name leaves its mark only.
    let stamp = |write: &&Write| match write {
        Write::Base { stamp, .. } => Some(*stamp),
        _ => None,
    };
    let is_mark = made.iter().any(|write| matches!(write, Write::Mark));
    is_mark
        || made.iter().filter_map(stamp).min().is_some_and(|stamp| {
            let made = (stamp, place.1);
            shown.into_iter().chain(forgotten).any(|later| (later.stamp, later.dot) >= made)
        })
}
