//! Clients that try again: increments with names, repeated through whichever nodes until they are
//! known to be done, and some after that.
//!
//! Invariant checked: each counts once, exactly, however often it was sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use replication::{Call, CallId, NamedBy, Request, RequestName};
use values::{Blob, CartOp, CounterOp, Key, MapOp, Operation, RegisterOp, State, Tag, View};

use crate::{
    Random, Scenario, Sim, Told,
    invariants::minting::invariant_dots_issued_once,
    judgement::read_all,
    nemesis::{Nemesis, mend},
};

/// One increment, sent under one name.
#[derive(Debug)]
struct Increment {
    request: Request,
    by: i128,
    is_done: bool,
    under_way: Option<(CallId, usize)>,
}

/// Runs a scenario's workload with increments, mends everything, repeats what is still unknown, and
/// compares every sum with what was sent.
pub(crate) fn run(sim: &mut Sim, scenario: &Scenario) -> Result<(), String> {
    let Scenario { seed, workload, .. } = scenario;
    let mut random = Random::new(seed ^ 0x0ace);
    let mut sent: Vec<Increment> = Vec::new();
    let mut nemesis = Nemesis::default();
    for number in 0..workload.requests {
        let pause_ms = random.below(workload.pause_ms + 1);
        sim.advance(pause_ms);
        collect(sim, &mut sent, &mut nemesis)?;
        nemesis.end_due(sim);
        nemesis.disturb(sim, &mut random, workload, &[]);
        if random.chance(500) {
            sent.push(increment(&mut random, number));
        }
        // The new one, or one sent before: unknown, or done and sent again all the same.
        if !sent.is_empty() {
            let at = random.below(sent.len() as u64) as usize;
            let at = if random.chance(500) { sent.len() - 1 } else { at };
            let node = random.below(sim.nodes() as u64) as usize;
            send(sim, &mut sent[at], node);
        }
    }
    mend(sim);
    collect(sim, &mut sent, &mut nemesis)?;
    for increment in &mut sent {
        increment.is_done = false;
        let node = random.below(sim.nodes() as u64) as usize;
        send(sim, increment, node);
    }
    sim.run_until_quiet();
    collect(sim, &mut sent, &mut nemesis)?;
    if let Some(increment) = sent.iter().find(|increment| !increment.is_done) {
        return Err(format!("retries_are_done: not with all faults over: {:?}", increment.request));
    }
    let keys: BTreeSet<Key> = sent.iter().map(|sent| sent.request.key.clone()).collect();
    let finals = read_all(sim, &keys)?;
    let mut wanted = BTreeMap::<&Key, i128>::new();
    for increment in &sent {
        *wanted.entry(&increment.request.key).or_default() += increment.by;
    }
    for (key, view) in &finals {
        let shown = sum(view);
        if shown != wanted[key] {
            return Err(format!(
                "named_increments_count_once: {key:?} shows {shown}, and {} was counted",
                wanted[key]
            ));
        }
    }
    invariant_dots_issued_once(sim).map_err(|wrong| format!("dots_issued_once: {wrong}"))
}

fn increment(random: &mut Random, number: usize) -> Increment {
    let by = random.between(1, 9);
    let positive = random.chance(700);
    let signed = if positive { by as i64 } else { -(by as i64) };
    let name = Blob::from_static(b"x");
    let (key, operation, by) = match random.below(4) {
        0 => ("counter", Operation::Counter(CounterOp::Add(signed)), signed),
        1 => ("register", Operation::Register(RegisterOp::Increment(signed)), signed),
        2 => ("map", Operation::Map(MapOp::Increment { field: name, by: signed }), signed),
        _ => ("cart", Operation::Cart(CartOp::Add { item: name, quantity: by }), by as i64),
    };
    let mut request = Request::update(Key::new("default", key).expect("short"), operation);
    let client = Bytes::from(format!("client{}", random.below(3)));
    request.name =
        Some(RequestName { by: NamedBy::Application, client, id: Bytes::from(number.to_string()) });
    Increment { request, by: by.into(), is_done: false, under_way: None }
}

fn send(sim: &mut Sim, increment: &mut Increment, node: usize) {
    if increment.under_way.is_none() {
        let id = sim.call(node, Call::Request(increment.request.clone()));
        increment.under_way = Some((id, node));
    }
}

/// Takes note of what was answered.
fn collect(sim: &mut Sim, sent: &mut [Increment], nemesis: &mut Nemesis) -> Result<(), String> {
    for increment in sent {
        let Some((id, node)) = increment.under_way else { continue };
        let Some(outcome) = sim.take_answer(id) else { continue };
        increment.under_way = None;
        match Told::of(outcome) {
            Told::Done(_) => {
                increment.is_done = true;
                nemesis.last_done = Some(node);
            }
            Told::Refused(replication::RequestError::Update(error)) => {
                return Err(format!("retries_are_done: refused: {error}: {:?}", increment.request));
            }
            Told::Refused(_) | Told::Unknown(_) => {}
        }
    }
    Ok(())
}

/// What one key's increments add up to.
fn sum(view: &View) -> i128 {
    let values = [Tag::COUNTER, Tag::LWW, Tag::MAP, Tag::CART].map(|tag| view.value.state(tag));
    values
        .into_iter()
        .flatten()
        .map(|state| match state {
            State::Counter(counter) => counter.tally.value(),
            State::Register(register) => register.number().unwrap_or_default(),
            State::Map(map) => map.store.0.values().filter_map(|field| field.number()).sum(),
            State::Cart(cart) => {
                let adds = cart.store.0.values().flat_map(|adds| adds.0.values());
                adds.copied().map(i128::from).sum()
            }
            _ => 0,
        })
        .sum()
}
