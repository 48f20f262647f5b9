//! What is judged after a run, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use replication::{Level, Request};
use values::{Key, Operation, Scope, View};

use crate::invariants::{
    Finals, Run, bounds, expiry, healing, minting, reads, removals, replicas, sums, survival, trees,
};
use crate::{History, Sim};

/// Judges a run that was mended and has come to rest. Reads every key, and deletes it in the end.
///
/// Returns what was wrong, if anything was; the error names the invariant.
pub fn judge(sim: &mut Sim, history: &History) -> Result<(), String> {
    let all: BTreeSet<Key> = history.records.iter().map(|record| record.key.clone()).collect();
    let (damaged, keys): (BTreeSet<Key>, BTreeSet<Key>) =
        all.iter().cloned().partition(|key| sim.is_damaged_for_good(key));
    let equal = |sim: &mut Sim, whole, when| {
        let equal = replicas::invariant_replicas_equal_after_healing(sim, &keys, whole);
        equal.map_err(|wrong| format!("replicas_equal_after_healing, {when}: {wrong}"))
    };
    // What may be why it does not come to rest is asked first.
    if let Some(wrong) = sim.rings_mixed() {
        return Err(format!("rings_refuse_each_other: {wrong}"));
    }
    if let Some(wrong) = sim.members_disagree() {
        return Err(format!("members_are_agreed: {wrong}"));
    }
    sim.unrest().map_err(|wrong| format!("comes_to_rest: {wrong}"))?;
    if let Some(node) = sim.is_in_no_life() {
        return Err(format!(
            "lives_begin_anew: node {node} goes on with the life of the ring it left"
        ));
    }
    if let Some(call) = history.unanswered {
        return Err(format!("calls_are_answered: {call:?} still waits"));
    }
    if let Some(wrong) = &history.unserved {
        return Err(format!("serves_again_after_healing: {wrong}"));
    }
    if sim.pending() != 0 {
        return Err(format!("outboxes_are_emptied: {:?}", sim.outboxes()));
    }
    // What was lost in a crash or with an outbox only comparing brings, without anybody reading.
    let are_equal = !history.lost_state || sim.compares();
    if are_equal {
        equal(sim, true, "before any read")?;
    }
    if history.has_deadlines {
        // The end of time, by every clock: each owner may remove what the one before it has not.
        let by_ms = 2 * history.slack_ms + 2 * history.life_ms + 60_000;
        for node in 0..sim.nodes() {
            sim.jump_clock(node, i64::try_from(by_ms).unwrap_or(i64::MAX));
        }
        let mut left = sim.expire_all();
        if !are_equal {
            // A read does not repair that a schedule was taken back where the replica has not seen
            // all of a collection: see View::told_last.
            left.retain(|key, nodes| nodes.len() == sim.owners(key).len());
        }
        if !left.is_empty() {
            return Err(format!("all_due_is_removed: due and not removed, at: {left:?}"));
        }
        if are_equal {
            equal(sim, true, "after all deadlines")?;
        }
    }
    trees::invariant_trees_are_exact(sim, &keys, are_equal)
        .map_err(|wrong| format!("trees_are_exact: {wrong}"))?;
    let finals = read_all(sim, &keys)?;
    equal(sim, are_equal, "after reading")?;
    minting::invariant_dots_issued_once(sim)
        .map_err(|wrong| format!("dots_issued_once: {wrong}"))?;
    bounds::invariant_queues_are_bounded(sim)
        .map_err(|wrong| format!("queues_are_bounded: {wrong}"))?;
    let forgets = sim.forgets();
    let suspicions = history.suspicions;
    let (history, finals) = judged(sim, history, finals);
    let run = Run { history: &history, ledger: sim.ledger(), finals: &finals, forgets };
    for (name, outcome) in outcomes(run) {
        outcome.map_err(|wrong| format!("{name}: {wrong}"))?;
    }
    damage_is_told(sim, &damaged).map_err(|wrong| format!("damage_is_told: {wrong}"))?;
    delete_all(sim, &all)?;
    healing::invariant_deleted_is_forgotten(sim)
        .map_err(|wrong| format!("deleted_is_forgotten: {wrong}"))?;
    healing::invariant_nobody_is_suspected_in_peace(sim, suspicions)
        .map_err(|wrong| format!("nobody_is_suspected_in_peace: {wrong}"))
}

/// Nobody is shown anything of a key whose only record is damaged; who writes or deletes it makes it whole.
fn damage_is_told(sim: &mut Sim, damaged: &BTreeSet<Key>) -> Result<(), String> {
    for (turn, key) in damaged.iter().enumerate() {
        let node = running(sim, turn);
        if let Ok(answer) = sim.request(node, Request::get(key.clone(), Scope::Whole))
            && answer.acks.is_met()
        {
            return Err(format!("{key:?} is damaged, but node {node} is shown {answer:?}"));
        }
        // Whether there was more than it shows nobody knows: the answer may say so.
        sim.update(node, key, Operation::Delete(None))
            .map_err(|error| format!("deletes_are_done: {key:?}: {error}"))?;
    }
    Ok(())
}

/// What is judged by dots: keys of which the ledger knows all that was made.
fn judged(sim: &Sim, history: &History, mut finals: Finals) -> (History, Finals) {
    let is_judged = |key: &Key| sim.ledger().is_judged(key);
    let mut history = history.clone();
    history.records.retain(|record| is_judged(&record.key));
    finals.retain(|key, _| is_judged(key));
    (history, finals)
}

/// What each claim says of a run.
fn outcomes(run: Run<'_>) -> Vec<(&'static str, Result<(), String>)> {
    vec![
        ("updates_mint_what_they_say", minting::invariant_updates_mint_what_they_say(run.ledger)),
        ("answers_say_what_was_made", minting::invariant_answers_say_what_was_made(run)),
        ("requests_are_done_once", minting::invariant_requests_are_done_once(run)),
        (
            "removals_take_only_what_they_were_shown",
            removals::invariant_removals_take_only_what_they_were_shown(run.ledger),
        ),
        (
            "removals_take_all_they_were_shown",
            removals::invariant_removals_take_all_they_were_shown(run.ledger),
        ),
        ("stamps_are_near", minting::invariant_stamps_are_near(run)),
        ("sums_stay_in_range", sums::invariant_sums_stay_in_range(run.ledger)),
        ("contexts_are_bounded", bounds::invariant_contexts_are_bounded(run)),
        ("siblings_are_bounded", bounds::invariant_siblings_are_bounded(run)),
        ("later_sets_are_later", survival::invariant_later_sets_are_later(run)),
        ("all_keys_are_judged", survival::invariant_all_keys_are_judged(run)),
        ("nothing_comes_from_nowhere", survival::invariant_nothing_comes_from_nowhere(run)),
        ("sums_are_exact", sums::invariant_sums_are_exact(run)),
        ("answers_show_their_writes", reads::invariant_answers_show_their_writes(run)),
        ("reads_see_quorum_writes", reads::invariant_reads_see_quorum_writes(run)),
        ("reads_show_nothing_removed", reads::invariant_reads_show_nothing_removed(run)),
        (
            "reads_show_nothing_past_its_deadline",
            expiry::invariant_reads_show_nothing_past_its_deadline(run),
        ),
        ("no_acknowledged_write_is_lost", survival::invariant_no_acknowledged_write_is_lost(run)),
        ("no_removed_dot_is_live", removals::invariant_no_removed_dot_is_live(run)),
        ("the_last_set_wins", survival::invariant_the_last_set_wins(run)),
        (
            "removals_take_what_quorums_hold",
            removals::invariant_removals_take_what_quorums_hold(run),
        ),
        ("nothing_outlives_its_deadline", expiry::invariant_nothing_outlives_its_deadline(run)),
    ]
}

/// Reads every key from all its owners, so that what differs is repaired.
pub(crate) fn read_all(sim: &mut Sim, keys: &BTreeSet<Key>) -> Result<BTreeMap<Key, View>, String> {
    let mut finals = BTreeMap::new();
    for (turn, key) in keys.iter().enumerate() {
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.level = Level { r: Some(sim.policy_of(key).n), ..Level::default() };
        let node = running(sim, turn);
        let answer = sim
            .request(node, request)
            .map_err(|error| format!("reads_are_met: {key:?}: {error}"))?;
        if !answer.acks.is_met() {
            return Err(format!("reads_are_met: {key:?}: only {:?} after healing", answer.acks));
        }
        finals.insert(key.clone(), answer.view);
    }
    sim.run_until_quiet();
    Ok(finals)
}

/// A node that runs.
fn running(sim: &Sim, turn: usize) -> usize {
    let nodes: Vec<usize> = (0..sim.nodes()).filter(|&node| sim.is_up(node)).collect();
    nodes[turn % nodes.len()]
}

/// Deletes every key, which must then be gone from every owner.
fn delete_all(sim: &mut Sim, keys: &BTreeSet<Key>) -> Result<(), String> {
    for (turn, key) in keys.iter().enumerate() {
        let node = running(sim, turn);
        let answer = sim
            .update(node, key, Operation::Delete(None))
            .map_err(|error| format!("deletes_are_done: {key:?}: {error}"))?;
        // An owner that fell silent before is not waited for until it is heard of again: what it is to
        // have, if anything, is hinted.
        let kept = answer.acks.answered + answer.acks.hinted;
        if answer.partly_observed || answer.changed > 0 && kept < answer.acks.needed {
            return Err(format!("deletes_are_done: {key:?}: {answer:?}"));
        }
    }
    sim.run_until_quiet();
    for key in keys {
        for node in sim.owners(key) {
            let live = sim.view(node, key).map(|view| view.live_tags()).unwrap_or_default();
            if !live.is_empty() {
                return Err(format!(
                    "deletes_are_done: {key:?} was deleted, but node {node} shows {live:?}"
                ));
            }
        }
    }
    Ok(())
}
