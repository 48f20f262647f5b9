//! Claims on what goes on by itself again soon after all faults are over: whatever node is asked reads and writes any
//! partition with as many owners as its bucket says, what is left of deleted keys is forgotten everywhere, and nobody is
//! suspected.

use std::collections::BTreeMap;

use replication::{Call, CallId, Reply, Request};
use ring::Token;
use values::{Key, Operation, OrsetOp, Scope};

use crate::{Outcome, Sim};

/// Everything is served again after so long without faults, in milliseconds: an owner that was cut off has been
/// heard of again, and what held up a disk is worked off.
const SERVED_WITHIN_MS: u64 = 60_000;

/// What is left of deleted keys is forgotten after so long without faults or requests, in milliseconds.
const FORGOTTEN_WITHIN_MS: u64 = 60_000;

/// So long after one attempt comes the next, in milliseconds.
const AGAIN_MS: u64 = 500;

/// Asks until all is served. The keys are of nobody else, so that nothing is repaired by reading.
///
/// Returns how long it took, in virtual milliseconds.
pub(crate) fn invariant_serves_again_after_healing(sim: &mut Sim) -> Result<u64, String> {
    let begun_ms = sim.now_ms();
    let running: Vec<usize> = (0..sim.nodes()).filter(|&node| sim.is_up(node)).collect();
    let mut waiting: Vec<(usize, Request)> = Vec::new();
    for (turn, key) in key_of_each_partition(sim).into_iter().enumerate() {
        let node = running[turn % running.len()];
        waiting.push((node, Request::get(key.clone(), Scope::Whole)));
        let add = Operation::Orset(OrsetOp::Add(vec!["served".into()]));
        waiting.push((running[(turn + 1) % running.len()], Request::update(key, add)));
    }
    loop {
        let call =
            |(node, request): &(usize, Request)| sim.call(*node, Call::Request(request.clone()));
        let calls: Vec<CallId> = waiting.iter().map(call).collect();
        let outcomes: Vec<Outcome> =
            calls.into_iter().map(|call| sim.run_until_answered(call)).collect();
        let is_served = |outcome: &Outcome| matches!(outcome, Ok(Reply::Answer(answer)) if answer.acks.is_met());
        let took_ms = sim.now_ms() - begun_ms;
        let Some(at) = outcomes.iter().position(|outcome| !is_served(outcome)) else {
            return Ok(took_ms);
        };
        if took_ms > SERVED_WITHIN_MS {
            let (asked, told) = (&waiting[at], &outcomes[at]);
            return Err(format!("after {took_ms} ms, {asked:?} is answered {told:?}"));
        }
        let mut outcomes = outcomes.iter();
        waiting.retain(|_| outcomes.next().is_some_and(|outcome| !is_served(outcome)));
        sim.advance(AGAIN_MS);
    }
}

/// Waits until no node that runs holds anything of a deleted key that it could forget, where there is a barrier and
/// replicas are compared.
pub(crate) fn invariant_deleted_is_forgotten(sim: &mut Sim) -> Result<(), String> {
    let begun_ms = sim.now_ms();
    while sim.forgets() && sim.compares() {
        let Some(node) = (0..sim.nodes()).find(|&node| sim.has_remnants(node) == Some(true)) else {
            break;
        };
        if sim.now_ms() - begun_ms > FORGOTTEN_WITHIN_MS {
            let rounds: Vec<_> = (0..sim.nodes()).map(|node| sim.barrier(node)).collect();
            return Err(format!(
                "node {node} still holds remnants; rounds agreed and over: {rounds:?}"
            ));
        }
        sim.advance(AGAIN_MS);
    }
    Ok(())
}

/// Nobody is suspected once all has come to rest, where no fault comes any more: `before` had been until then.
pub(crate) fn invariant_nobody_is_suspected_in_peace(sim: &Sim, before: u64) -> Result<(), String> {
    match sim.suspicions() - before {
        0 => Ok(()),
        more => Err(format!("{more} times, after {before} while there were faults")),
    }
}

fn key_of_each_partition(sim: &Sim) -> Vec<Key> {
    let partitions = sim.partition_count();
    let mut keys = BTreeMap::new();
    for number in 0.. {
        if keys.len() == partitions.get() as usize {
            break;
        }
        let key = Key::new("default", format!("served{number}")).expect("a short name");
        let partition = partitions.partition(Token(key.identifier()));
        keys.entry(partition).or_insert(key);
    }
    keys.into_values().collect()
}
