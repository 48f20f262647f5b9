//! What rounds of the barrier fold and forget: increments with names, tried again as long as clients may, those of earlier starts of
//! nodes, and who wrote what is there no more, among what takes increments away and puts of raw values.
//!
//! Each increment of a key adds another power of four, so that a sum says of each whether it counts, and whether it
//! counts twice.

mod elements;
mod raw;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::Actor;
use replication::{CallId, NamedBy, Request, RequestName};
use values::{
    CounterOp, Deadline, DotStore, ExpiryOp, Key, Operation, RegisterOp, State, Tag, View,
};

use crate::invariants::minting::invariant_dots_issued_once;
use crate::invariants::replicas::invariant_replicas_equal_after_healing;
use crate::invariants::trees::invariant_trees_are_exact;
use crate::judgement::read_all;
use crate::ledger::TRACER;
use crate::nemesis::{Nemesis, mend};
use crate::sight::tallies;
use crate::{Random, Scenario, Sim, Told};
use elements::Elements;
use raw::Raw;

/// Keys. The first ones never end.
const KEYS: usize = 6;
const ENDLESS: usize = 4;

/// Actors that may have written since the last round.
const WRITERS: usize = 4;

/// Increments of one key at most.
const DIGITS: u32 = 30;

/// One request.
#[derive(Debug)]
struct Sent {
    request: Request,
    key: usize,
    /// Of an increment which power of four it adds.
    digit: Option<u32>,
    first_ms: u64,
    is_done: bool,
    under_way: Option<(CallId, usize)>,
    calls: Vec<CallId>,
}

struct Run<'a> {
    sim: &'a mut Sim,
    sent: Vec<Sent>,
    /// Of each key how many increments were sent.
    digits: [u32; KEYS],
    nemesis: Nemesis,
    retries_ms: u64,
    raw: Raw,
    elements: Elements,
    /// How many actors a context keeps of which nothing is live.
    resting: usize,
}

/// Runs a scenario's faults over such requests, mends everything, lets rounds pass, and compares every sum with what was
/// sent and taken away.
pub(crate) fn run(sim: &mut Sim, scenario: &Scenario) -> Result<(), String> {
    let Scenario { seed, workload, options, .. } = scenario;
    let mut random = Random::new(seed ^ 0x0f01_d5ed);
    let mut run = Run {
        sim,
        sent: Vec::new(),
        digits: [0; KEYS],
        nemesis: Nemesis::default(),
        retries_ms: options.retries_ms,
        raw: Raw::default(),
        elements: Elements::default(),
        resting: options.actors_resting,
    };
    for number in 0..workload.requests {
        run.sim.advance(random.below(workload.pause_ms + 1));
        run.collect()?;
        run.nemesis.end_due(run.sim);
        run.nemesis.disturb(run.sim, &mut random, workload, &[]);
        if random.chance(300) {
            run.raw.step(run.sim, &mut random, number);
        }
        if random.chance(400) {
            run.elements.step(run.sim, &mut random, number);
        }
        let request = run.request(&mut random, number);
        run.sent.extend(request);
        // The new one, or one sent before: unknown, or done and sent again all the same.
        if !run.sent.is_empty() {
            let last = run.sent.len() - 1;
            let some = random.below(run.sent.len() as u64) as usize;
            let lately = last - random.below(8) as usize % run.sent.len();
            let at = *random.pick(&[last, last, lately, some]);
            run.send(at, &mut random);
        }
    }
    mend(run.sim);
    run.sim.run_until_quiet();
    run.collect()?;
    run.fold()?;
    run.judge()
}

/// The key of this number: counters and registers.
fn key(number: usize) -> Key {
    let name = if number.is_multiple_of(2) { "counter" } else { "register" };
    Key::new("default", format!("{name}{number}")).expect("short")
}

/// An increment of that key.
const fn increment(key: usize, by: i64) -> Operation {
    match key.is_multiple_of(2) {
        true => Operation::Counter(CounterOp::Add(by)),
        false => Operation::Register(RegisterOp::Increment(by)),
    }
}

impl Run<'_> {
    fn request(&mut self, random: &mut Random, number: usize) -> Option<Sent> {
        let at = random.below(KEYS as u64) as usize;
        let digit = self.digits[at];
        let kind = random.below(100);
        let mut name = None;
        let operation = match kind {
            0..=49 if digit < DIGITS => {
                self.digits[at] += 1;
                let client = Bytes::from(format!("client{}", random.below(3)));
                let id = Bytes::from(number.to_string());
                name = (random.below(5) > 0).then_some(RequestName {
                    by: NamedBy::Application,
                    client,
                    id,
                });
                increment(at, 4_i64.pow(digit))
            }
            50..=56 if at.is_multiple_of(2) => Operation::Counter(CounterOp::Reset),
            50..=56 => {
                let value = Bytes::from_static(b"0");
                Operation::Register(RegisterOp::Set { value, at: None, replace: false })
            }
            57..=59 => Operation::Delete(None),
            60..=64 if at >= ENDLESS => {
                let deadline = Deadline::In(random.between(1, 20_000));
                Operation::Expiry(ExpiryOp::Set { deadline, only_if: None })
            }
            65..=66 if at >= ENDLESS => Operation::Expiry(ExpiryOp::Persist),
            _ => return None,
        };
        let is_increment = matches!(kind, 0..=49);
        let mut request = Request::update(key(at), operation);
        request.name = name;
        Some(Sent {
            request,
            key: at,
            digit: is_increment.then_some(digit),
            first_ms: self.sim.now_ms(),
            is_done: false,
            under_way: None,
            calls: Vec::new(),
        })
    }

    /// Sends a request, for the first time or again.
    fn send(&mut self, at: usize, random: &mut Random) {
        let node = random.below(self.sim.nodes() as u64) as usize;
        let sent = &mut self.sent[at];
        let is_first = sent.calls.is_empty();
        let may_again =
            sent.request.name.is_some() && self.sim.now_ms() <= sent.first_ms + self.retries_ms;
        if sent.under_way.is_none() && (is_first || may_again) {
            if is_first {
                sent.first_ms = self.sim.now_ms();
            }
            let call = self.sim.call_traced(node, sent.request.clone());
            sent.under_way = Some((call, node));
            sent.calls.push(call);
        }
    }

    /// Takes note of what was answered.
    fn collect(&mut self) -> Result<(), String> {
        self.raw.collect(self.sim);
        self.elements.collect(self.sim);
        for sent in &mut self.sent {
            let Some((call, node)) = sent.under_way else { continue };
            let Some(outcome) = self.sim.take_answer(call) else { continue };
            sent.under_way = None;
            match Told::of(outcome) {
                Told::Done(_) => {
                    sent.is_done = true;
                    self.nemesis.last_done = Some(node);
                }
                Told::Refused(replication::RequestError::Update(error)) => {
                    return Err(format!("names_are_taken: refused: {error}: {:?}", sent.request));
                }
                Told::Refused(_) | Told::Unknown(_) => {}
            }
        }
        Ok(())
    }

    /// Lets rounds pass until nothing is left to forget or to fold, and writes to every key before and after.
    fn fold(&mut self) -> Result<(), String> {
        self.write_all(0)?;
        let running = (0..self.sim.nodes()).find(|&node| self.sim.is_up(node));
        let node = running.expect("all was mended");
        // Somebody that runs has to have named something, or no round begins.
        let mut request = Request::update(key(0), increment(0, 0));
        let (client, id) = (Bytes::from_static(b"last"), Bytes::from_static(b"last"));
        request.name = Some(RequestName { by: NamedBy::Application, client, id });
        let done = self.sim.request(node, request);
        done.map_err(|error| format!("names_are_taken: at rest: {error}"))?;
        let is_under_way = |sim: &Sim| {
            let mut nodes = (0..sim.nodes()).filter(|&node| sim.is_up(node));
            nodes.any(|node| sim.has_to_forget(node) == Some(true))
        };
        for _ in 0..1_000 {
            if !is_under_way(self.sim) {
                break;
            }
            self.sim.advance(1_000);
        }
        if is_under_way(self.sim) {
            return Err("names_are_folded: rounds do not end at rest".into());
        }
        // The last round is over for all.
        self.sim.advance(60_000);
        self.write_all(1)?;
        self.write_all(2)
    }

    /// Writes to every key. Who does not own a key sees nothing to be folded, nor who has forgotten it, where others have not.
    fn write_all(&mut self, number: usize) -> Result<(), String> {
        for number in 0..KEYS {
            let owner = self.sim.owners(&key(number))[0];
            let done = self.sim.update(owner, &key(number), increment(number, 0));
            done.map_err(|error| format!("names_are_folded: {error}"))?;
            self.sim.run_until_quiet();
        }
        self.raw.write_all(self.sim, number)?;
        self.elements.write_all(self.sim, number)
    }

    /// What removals of one key were shown: any, and those that are done.
    fn removed(&self, number: usize) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let key = key(number);
        let (mut any, mut certain) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.sim.ledger().of(&key) {
            if !matches!(entry.operation, Operation::Expiry(_)) && !entry.operation.counts() {
                any.extend(digits(entry.sum).into_keys());
            }
        }
        let removals = self.sent.iter().filter(|sent| sent.key == number && sent.digit.is_none());
        let done = removals.filter(|sent| {
            sent.is_done
                && !matches!(sent.request.action, replication::Action::Update(Operation::Expiry(_)))
        });
        for call in done.flat_map(|sent| &sent.calls) {
            let made = self.sim.ledger().made_for(*call).filter(|entry| !entry.repeated);
            let all = made.map(|entry| digits(entry.sum).into_keys().collect::<BTreeSet<u32>>());
            certain.extend(all.reduce(|one, other| &one & &other).unwrap_or_default());
        }
        (any, certain)
    }

    fn judge(&mut self) -> Result<(), String> {
        let keys: BTreeSet<Key> =
            (0..KEYS).map(key).chain(raw::keys()).chain(elements::keys()).collect();
        invariant_replicas_equal_after_healing(self.sim, &keys, true)
            .map_err(|wrong| format!("replicas_equal_after_healing: {wrong}"))?;
        invariant_trees_are_exact(self.sim, &keys, true)
            .map_err(|wrong| format!("trees_are_exact: {wrong}"))?;
        let finals = read_all(self.sim, &keys)?;
        self.raw.judge(&finals)?;
        self.elements.judge(&finals)?;
        for (key, view) in &finals {
            if let Some((tag, resting)) =
                resting(view).find(|(_, all)| *all > self.resting + WRITERS)
            {
                return Err(format!("contexts_forget: {key:?} {tag} names {resting}: {view:?}"));
            }
        }
        for number in 0..KEYS {
            let view = &finals[&key(number)];
            let shown = sum(view);
            let wrong = |what: &str| {
                Err(format!(
                    "folded_increments_count_once: {:?} shows {shown:x}: {what}",
                    key(number)
                ))
            };
            if shown < 0 {
                return wrong("less than nothing");
            }
            let counts = digits(shown);
            if let Some((digit, times)) = counts.iter().find(|(_, times)| **times > 1) {
                return wrong(&format!("digit {digit} counts {times} times"));
            }
            let (removed, certainly) = self.removed(number);
            if let Some(digit) = certainly.iter().find(|digit| counts.contains_key(digit)) {
                return wrong(&format!("digit {digit} was taken away"));
            }
            let of_key = self.sent.iter().filter(|sent| sent.key == number);
            let made = |sent: &Sent| Some((sent.digit?, sent.is_done));
            let made: BTreeMap<u32, bool> = of_key.filter_map(made).collect();
            if let Some(digit) = counts.keys().find(|digit| !made.contains_key(digit)) {
                return wrong(&format!("nobody made digit {digit}"));
            }
            let is_lost = |digit: &u32| !counts.contains_key(digit) && !removed.contains(digit);
            let mut done = made.iter().filter(|(_, is_done)| **is_done).map(|(digit, _)| digit);
            if let (true, Some(digit)) = (number < ENDLESS, done.find(|digit| is_lost(digit))) {
                return wrong(&format!("digit {digit} is lost"));
            }
            let names = names(view);
            if number < ENDLESS && names > 0 {
                return Err(format!("names_are_folded: {:?} holds {names}: {view:?}", key(number)));
            }
        }
        invariant_dots_issued_once(self.sim).map_err(|wrong| format!("dots_issued_once: {wrong}"))
    }
}

/// How many actors each context of raw values, registers and collections names of which nothing is live, but for those of calls.
fn resting(view: &View) -> impl Iterator<Item = (Tag, usize)> + '_ {
    view.value.0.iter().filter_map(|(&tag, state)| {
        let live: BTreeSet<Actor> = match state {
            State::Bytes(bytes) => bytes.store.0.keys().map(|dot| dot.actor).collect(),
            State::Register(register) => {
                let counting = register.tally.entries().map(|(actor, _)| actor);
                counting.chain(register.base.iter().map(|base| base.dot.actor)).collect()
            }
            State::Orset(set) => set.store.dots().into_iter().map(|dot| dot.actor).collect(),
            State::Cart(cart) => cart.store.dots().into_iter().map(|dot| dot.actor).collect(),
            State::Map(map) => map.store.dots().into_iter().map(|dot| dot.actor).collect(),
            _ => return None,
        };
        let actors = state.context().actors().filter(|actor| actor.replica != TRACER);
        Some((tag, actors.collect::<BTreeSet<_>>().difference(&live).count()))
    })
}

/// How often each power of four is in a sum.
fn digits(sum: i128) -> BTreeMap<u32, u8> {
    let digits = (0..64).map(|digit| (digit, (sum >> (2 * digit) & 3) as u8));
    digits.filter(|(_, times)| *times > 0).collect()
}

/// What one key's increments add up to.
fn sum(view: &View) -> i128 {
    view.value.0.values().flat_map(tallies).map(|(_, tally)| tally.value()).sum()
}

/// How many increments have an entry under names that their client gave.
fn names(view: &View) -> usize {
    let entries = view.value.0.values().flat_map(tallies).flat_map(|(_, tally)| tally.entries());
    entries.filter(|(of, _)| of.is_named() && !of.is_unasked()).count()
}
