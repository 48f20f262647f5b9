//! The folding of idempotency names, and retries and messages that come late.
//!
//! A counter is incremented by requests with names, each tried at any replica, again while its client may
//! try again, and known everywhere by the dot that its name gives it. What a try made stays on its way for
//! ever. Behind the barrier one replica, the folder, adds what the names stand for to an entry of its own,
//! which names what it absorbed; once all members have that, the names are dropped. Requests, their
//! dots and merges are the product's, and so is the barrier; the folding is the agreed rule (design: exactly
//! once), of which there is no code yet.
//!
//! Claim: at each replica, and at all of them together, each request counts at most once, and together
//! exactly once.

use std::collections::BTreeSet;

use clock::{Actor, CausalContext, Dot, Stamp};
use stateright::{Model, Property};
use values::{CounterOp, Delta, Limits, Mint, Operation, State, Tag, Value, View};

use crate::seat::{self, Seat, Task};

/// What makes the folding exact; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldingRules {
    /// Names are dropped only once all members have hidden them.
    pub all_hidden: bool,
    /// Messages of before are refused.
    pub refused: bool,
    /// Nobody tries again after the window.
    pub window: bool,
}

impl FoldingRules {
    /// As they were agreed.
    pub const ALL: Self = Self { all_hidden: true, refused: true, window: true };
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Folding {
    /// Replicas; the first one folds.
    pub replicas: usize,
    /// Requests, of one increment each.
    pub requests: u8,
    /// Rounds that are looked at.
    pub rounds: u64,
    /// What holds.
    pub rules: FoldingRules,
}

/// The folder's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Folded {
    /// The round in which the folder wrote it last.
    round: u64,
    total: u8,
    /// What of that still has an entry of its own somewhere.
    absorbed: BTreeSet<u8>,
}

impl Folded {
    fn merge(&mut self, other: &Self) {
        match self.round.cmp(&other.round) {
            std::cmp::Ordering::Less => self.clone_from(other),
            std::cmp::Ordering::Equal => self.absorbed.extend(&other.absorbed),
            std::cmp::Ordering::Greater => (),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    barrier: Seat,
    value: Value,
    folded: Folded,
    /// Names that came since it entered its round.
    young: BTreeSet<u8>,
    /// Names that count as gone here.
    hidden: BTreeSet<u8>,
    equal: u8,
    dropped: u64,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoldingState {
    replicas: Vec<Replica>,
    /// What tries made, and how far their coordinators were with the barrier.
    sent: BTreeSet<(seat::Stamp, u8)>,
    /// Requests that were done somewhere.
    done: BTreeSet<u8>,
    /// Whether the time is over in which a client may try again.
    is_closed: bool,
    has_dropped: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldingStep {
    /// A request is tried at a replica.
    Try(u8, usize),
    /// The time for trying is over.
    Close,
    /// What a try made arrives, maybe again.
    Arrive(seat::Stamp, u8, usize),
    /// Two replicas compare, and are made equal.
    Compare(usize, usize),
    /// One tells another how far members are.
    Tell(usize, usize),
    /// A member does its task, and says so.
    Do(usize),
    /// A member drops what is hidden.
    Drop(usize),
}

const fn actor(request: u8) -> Actor {
    Actor::named(request as u64 + 1, 1, 1)
}

fn add(value: &Value, request: u8) -> (Delta, bool) {
    let mint = Mint { actor: actor(request), stamp: Stamp(1) };
    let add = Operation::Counter(CounterOp::Add(1));
    let view = View::of(value.clone());
    let prepared = add.prepare(&view, &CausalContext::default(), mint, &Limits::default());
    let prepared = prepared.expect("there are few names");
    (prepared.delta, prepared.repeated)
}

/// The names in `value`.
fn names(value: &Value, requests: u8) -> BTreeSet<u8> {
    let context = value.context(Tag::COUNTER);
    (0..requests).filter(|&request| context.contains(Dot::new(actor(request), 1))).collect()
}

/// `value` without some names.
fn without(value: &Value, gone: &BTreeSet<u8>, requests: u8) -> Value {
    let mut left = Value::default();
    for request in names(value, requests).difference(gone) {
        left.apply(&add(&Value::default(), *request).0);
    }
    left
}

impl Replica {
    /// What others are shown: not the names that count as gone, but that they were absorbed.
    fn shown(&self, requests: u8) -> (Value, Folded) {
        (without(&self.value, &self.hidden, requests), self.folded.clone())
    }

    fn merge(&mut self, value: &Value, folded: &Folded, requests: u8) {
        let before = names(&self.value, requests);
        self.value.merge(value);
        let came = &names(&self.value, requests) - &before;
        self.young.extend(came);
        let is_behind_us = folded.round <= self.dropped;
        if !is_behind_us {
            self.folded.merge(folded);
        }
    }

    /// What a reader is told.
    fn count(&self, requests: u8) -> u64 {
        count(&self.shown(requests), requests)
    }
}

fn count((value, folded): &(Value, Folded), requests: u8) -> u64 {
    let rest = without(value, &folded.absorbed, requests);
    let tally = match rest.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    };
    u64::from(folded.total) + u64::try_from(tally).expect("increments only")
}

impl Folding {
    fn takes(&self, replica: &Replica, stamp: seat::Stamp) -> bool {
        !self.rules.refused || replica.barrier.takes(stamp)
    }

    fn may(&self, state: &FoldingState, at: usize) -> bool {
        let replica = &state.replicas[at];
        let all = (0..self.replicas).filter(|other| *other != at);
        let is_equal = all.into_iter().all(|other| replica.equal >> other & 1 == 1);
        // What all have hidden is dropped before anything else is done.
        if replica.barrier.complete() > replica.dropped {
            return false;
        }
        match replica.barrier.task() {
            Task::Wait => false,
            Task::Propose => state.is_closed && replica.barrier.round() < self.rounds,
            Task::Enter => true,
            Task::Equal | Task::Drain => is_equal,
            // The others follow the folder.
            Task::Hide(round) => at == 0 || replica.folded.round >= round,
        }
    }

    fn do_task(&self, state: &mut FoldingState, at: usize) {
        let replica = &mut state.replicas[at];
        match replica.barrier.task() {
            Task::Propose | Task::Enter => {
                replica.young.clear();
                replica.equal = 0;
            }
            Task::Hide(round) => {
                if at == 0 {
                    let old = &names(&replica.value, self.requests) - &replica.young;
                    let old = &old - &replica.hidden;
                    replica.folded.round = round;
                    replica.folded.total += old.len() as u8;
                    replica.folded.absorbed.extend(old);
                }
                replica.hidden.extend(&replica.folded.absorbed);
            }
            _ => (),
        }
        replica.barrier.done();
    }
}

impl Model for Folding {
    type State = FoldingState;
    type Action = FoldingStep;

    fn init_states(&self) -> Vec<FoldingState> {
        let replica = |at| Replica {
            barrier: Seat::of(at, self.replicas),
            value: Value::default(),
            folded: Folded::default(),
            young: BTreeSet::new(),
            hidden: BTreeSet::new(),
            equal: 0,
            dropped: 0,
        };
        vec![FoldingState {
            replicas: (0..self.replicas).map(replica).collect(),
            sent: BTreeSet::new(),
            done: BTreeSet::new(),
            is_closed: false,
            has_dropped: false,
        }]
    }

    fn actions(&self, state: &FoldingState, steps: &mut Vec<FoldingStep>) {
        if !state.is_closed {
            steps.push(FoldingStep::Close);
        }
        for at in 0..self.replicas {
            for request in 0..self.requests {
                // Once the time is over a request may be tried again only where that rule is left out.
                let may = !state.is_closed || !self.rules.window && state.done.contains(&request);
                if may {
                    steps.push(FoldingStep::Try(request, at));
                }
            }
            let sent = state.sent.iter().filter(|((from, _), _)| *from != at);
            steps.extend(sent.map(|&(stamp, request)| FoldingStep::Arrive(stamp, request, at)));
            for other in (0..self.replicas).filter(|other| *other != at) {
                steps.push(FoldingStep::Tell(at, other));
                if at < other {
                    steps.push(FoldingStep::Compare(at, other));
                }
            }
            if self.may(state, at) {
                steps.push(FoldingStep::Do(at));
            }
            let replica = &state.replicas[at];
            let is_complete = replica.barrier.complete() > replica.dropped;
            if is_complete || !self.rules.all_hidden && !replica.hidden.is_empty() {
                steps.push(FoldingStep::Drop(at));
            }
        }
    }

    fn next_state(&self, last: &FoldingState, step: FoldingStep) -> Option<FoldingState> {
        let mut state = last.clone();
        match step {
            FoldingStep::Try(request, at) => {
                let replica = &mut state.replicas[at];
                let (delta, repeated) = add(&replica.value, request);
                if !repeated {
                    replica.merge(&delta.value, &Folded::default(), self.requests);
                    state.sent.insert((replica.barrier.stamp(), request));
                    state.done.insert(request);
                }
            }
            FoldingStep::Close => state.is_closed = true,
            FoldingStep::Arrive(number, request, at) => {
                let replica = &mut state.replicas[at];
                if !self.takes(replica, number) {
                    return None;
                }
                let value = add(&Value::default(), request).0.value;
                replica.merge(&value, &Folded::default(), self.requests);
            }
            FoldingStep::Compare(one, other) => {
                let numbers = [one, other].map(|at| state.replicas[at].barrier.stamp());
                if !self.takes(&state.replicas[one], numbers[1])
                    || !self.takes(&state.replicas[other], numbers[0])
                {
                    return None;
                }
                let shown = [one, other].map(|at| state.replicas[at].shown(self.requests));
                for (at, peer, (value, folded)) in
                    [(one, other, &shown[1]), (other, one, &shown[0])]
                {
                    let replica = &mut state.replicas[at];
                    replica.merge(value, folded, self.requests);
                    replica.equal |= 1 << peer;
                }
            }
            FoldingStep::Tell(from, to) => {
                let from = state.replicas[from].barrier.clone();
                state.replicas[to].barrier.hear(&from);
            }
            FoldingStep::Do(at) => self.do_task(&mut state, at),
            FoldingStep::Drop(at) => {
                let replica = &mut state.replicas[at];
                replica.dropped = replica.barrier.complete();
                let hidden = std::mem::take(&mut replica.hidden);
                replica.value = without(&replica.value, &hidden, self.requests);
                replica.folded.absorbed = &replica.folded.absorbed - &hidden;
                state.has_dropped |= !hidden.is_empty();
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no request counts twice", |model: &Self, state: &FoldingState| {
                let done = state.done.len() as u64;
                state.replicas.iter().all(|replica| replica.count(model.requests) <= done)
            }),
            Property::always("together each counts once", |model: &Self, state: &FoldingState| {
                let mut all = (Value::default(), Folded::default());
                for replica in &state.replicas {
                    let (value, folded) = replica.shown(model.requests);
                    all.0.merge(&value);
                    all.1.merge(&folded);
                }
                count(&all, model.requests) == state.done.len() as u64
            }),
            Property::sometimes(
                "names are dropped everywhere",
                |model: &Self, state: &FoldingState| {
                    state.has_dropped
                        && state.done.len() == usize::from(model.requests)
                        && state.replicas.iter().all(|replica| replica.value == Value::default())
                },
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checked, is_long};

    const NARROW: Folding =
        Folding { replicas: 2, requests: 2, rounds: 1, rules: FoldingRules::ALL };

    #[test]
    fn each_request_counts_once_though_its_name_is_folded() {
        let wide = Folding { requests: 3, rounds: 2, ..NARROW };
        let checked = Checked::of(if is_long() { wide } else { NARROW });
        println!("names: {}", checked.told());
        assert_eq!((&checked.wrong, &checked.unseen), (&None, &vec![]), "{}", checked.told());
    }

    #[test]
    fn each_rule_left_out_counts_a_request_twice() {
        let all = FoldingRules::ALL;
        for rules in [
            FoldingRules { all_hidden: false, ..all },
            FoldingRules { refused: false, ..all },
            FoldingRules { window: false, ..all },
        ] {
            let checked = Checked::of(Folding { rules, ..NARROW });
            println!("names without a rule: {rules:?}: {}", checked.told());
            assert!(checked.wrong.is_some(), "{rules:?}: {}", checked.told());
        }
    }
}
