//! The folding of idempotency names, and retries, resets and messages that come late.
//!
//! A counter is incremented by requests with names, each tried at any replica, again while its client may
//! try again, and known everywhere by the entry that its name gives it. An entry says in which round of the
//! barrier its replica was when it was made, the later one where that was twice. Once a replica has
//! entered a round, it may at any time *fold* the entries that were made some rounds ago: they become a
//! part of one sum, the same at every replica, since by then all have the same of them. The sum says below which
//! round it has all; states are joined after both are folded as far as either is. What a try or a reset made
//! stays on its way for ever. The barrier is the product's; the folding is the agreed rule (design: exactly once), which
//! `values` has for all that a tally is. (There a reset names of what was reset before only what is about to be folded, here all.)
//!
//! Claim: at each replica no request counts twice, and at all of them together each request counts exactly
//! once, unless a reset observed it.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::seat::{self, Seat, Task};

/// What makes the folding exact; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldingRules {
    /// So many rounds lie between the one that a replica is in and those of which it folds entries.
    pub lag: u64,
    /// Nobody tries again later than in the round after the one of the first try.
    pub window: bool,
}

impl FoldingRules {
    /// As they were agreed.
    pub const ALL: Self = Self { lag: 4, window: true };
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Folding {
    /// Replicas.
    pub replicas: usize,
    /// Requests, of one increment each.
    pub requests: u8,
    /// Resets.
    pub resets: u8,
    /// Rounds that are looked at.
    pub rounds: u64,
    /// What holds.
    pub rules: FoldingRules,
}

/// An increment that has an entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Entry {
    /// In which round it was made, the latest time.
    made: u64,
    is_reset: bool,
}

/// What replicas hold, and messages carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Counter {
    entries: BTreeMap<u8, Entry>,
    /// All that was made before this round is in the sum.
    below: u64,
    sum: usize,
    /// How much of it was reset.
    reset: usize,
    /// What the sum is of: known to the claims alone.
    of: BTreeSet<u8>,
}

impl Counter {
    fn fold(&mut self, below: u64) {
        if below <= self.below {
            return;
        }
        self.below = below;
        let (old, rest) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|(_, entry)| entry.made < below);
        self.entries = rest;
        let old: BTreeMap<u8, Entry> = old;
        self.sum += old.len();
        self.reset += old.values().filter(|entry| entry.is_reset).count();
        self.of.extend(old.keys());
    }

    fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        let below = self.below.max(other.below);
        self.fold(below);
        other.fold(below);
        self.sum = self.sum.max(other.sum);
        self.reset = self.reset.max(other.reset);
        self.of.extend(&other.of);
        for (request, theirs) in other.entries {
            let mine = self.entries.entry(request).or_insert(theirs);
            mine.made = mine.made.max(theirs.made);
            mine.is_reset |= theirs.is_reset;
        }
    }

    /// What a reader is told.
    fn count(&self) -> usize {
        let single = self.entries.values().filter(|entry| !entry.is_reset).count();
        self.sum - self.reset.min(self.sum) + single
    }

    /// What takes away all that is here. It names also what is taken away already: who has folded that would else
    /// take the rest for all that was reset.
    fn taken_away(&self) -> Self {
        let reset =
            |(&request, entry): (&u8, &Entry)| (request, Entry { is_reset: true, ..*entry });
        let entries = self.entries.iter().map(reset).collect();
        Self { entries, reset: self.sum, ..self.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    barrier: Seat,
    counter: Counter,
    equal: u8,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoldingState {
    replicas: Vec<Replica>,
    /// What tries and resets made, and how far their coordinators were with the barrier.
    sent: BTreeSet<(seat::Stamp, Counter)>,
    /// Requests that were done somewhere, and the round of the first try.
    done: BTreeMap<u8, u64>,
    /// Those that a reset has observed.
    reset: BTreeSet<u8>,
    resets: u8,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldingStep {
    /// A request is tried at a replica.
    Try(u8, usize),
    /// A client resets at a replica what that one shows.
    Reset(usize),
    /// What a try or a reset made, the so-manieth that was sent, arrives, maybe again.
    Arrive(usize, usize),
    /// Two replicas compare, and are made equal.
    Compare(usize, usize),
    /// A member does its task, and says so.
    Do(usize),
    /// A replica folds.
    Fold(usize),
}

/// Members know at once how far others are.
fn hear_at_once(replicas: &mut [Replica]) {
    let told: Vec<Seat> = replicas.iter().map(|replica| replica.barrier.clone()).collect();
    for replica in replicas {
        told.iter().for_each(|other| replica.barrier.hear(other));
    }
}

impl Folding {
    fn may(&self, state: &FoldingState, at: usize) -> bool {
        let replica = &state.replicas[at];
        let mut others = (0..self.replicas).filter(|other| *other != at);
        let is_equal = others.all(|other| replica.equal >> other & 1 == 1);
        match replica.barrier.task() {
            Task::Wait => false,
            Task::Propose => replica.barrier.round() < self.rounds,
            Task::Enter | Task::Hide => true,
            Task::Equal | Task::Drain => is_equal,
        }
    }

    /// Below which round `replica` may fold.
    fn below(&self, replica: &Replica) -> u64 {
        replica.barrier.round().saturating_sub(self.rules.lag)
    }
}

impl Model for Folding {
    type State = FoldingState;
    type Action = FoldingStep;

    fn init_states(&self) -> Vec<FoldingState> {
        let replica = |at| Replica {
            barrier: Seat::of(at, self.replicas),
            counter: Counter::default(),
            equal: 0,
        };
        let mut replicas: Vec<Replica> = (0..self.replicas).map(replica).collect();
        hear_at_once(&mut replicas);
        vec![FoldingState {
            replicas,
            sent: BTreeSet::new(),
            done: BTreeMap::new(),
            reset: BTreeSet::new(),
            resets: 0,
        }]
    }

    fn actions(&self, state: &FoldingState, steps: &mut Vec<FoldingStep>) {
        for (at, replica) in state.replicas.iter().enumerate() {
            let round = replica.barrier.round();
            for request in 0..self.requests {
                // A first try in a later round is like one in the first, with the rounds before left out.
                let first = state.done.get(&request).copied().unwrap_or(0);
                let may = match state.done.contains_key(&request) {
                    true => round <= first + 1 || !self.rules.window,
                    false => round == 0,
                };
                if may {
                    steps.push(FoldingStep::Try(request, at));
                }
            }
            if state.resets < self.resets {
                steps.push(FoldingStep::Reset(at));
            }
            let sent = state.sent.iter().enumerate();
            let sent = sent.filter(|(_, ((from, _), _))| *from != at);
            steps.extend(sent.map(|(number, _)| FoldingStep::Arrive(number, at)));
            let others = at + 1..self.replicas;
            steps.extend(others.map(|other| FoldingStep::Compare(at, other)));
            if self.may(state, at) {
                steps.push(FoldingStep::Do(at));
            }
            let old = |entry: &Entry| entry.made < self.below(replica);
            if replica.counter.entries.values().any(old) {
                steps.push(FoldingStep::Fold(at));
            }
        }
    }

    fn next_state(&self, last: &FoldingState, step: FoldingStep) -> Option<FoldingState> {
        let mut state = last.clone();
        match step {
            FoldingStep::Try(request, at) => {
                let replica = &mut state.replicas[at];
                let made = replica.barrier.round();
                if !replica.counter.entries.contains_key(&request) {
                    let entry = Entry { made, is_reset: false };
                    let delta =
                        Counter { entries: [(request, entry)].into(), ..Counter::default() };
                    replica.counter.merge(&delta);
                    state.sent.insert((replica.barrier.stamp(), delta));
                    let first = state.done.entry(request).or_insert(made);
                    *first = made.min(*first);
                }
            }
            FoldingStep::Reset(at) => {
                let replica = &mut state.replicas[at];
                state.reset.extend(&replica.counter.of);
                state.reset.extend(replica.counter.entries.keys());
                state.resets += 1;
                let delta = replica.counter.taken_away();
                replica.counter.merge(&delta);
                state.sent.insert((replica.barrier.stamp(), delta));
            }
            FoldingStep::Arrive(number, at) => {
                let (stamp, delta) = last.sent.iter().nth(number)?;
                let replica = &mut state.replicas[at];
                if !replica.barrier.takes(*stamp) {
                    return None;
                }
                replica.counter.merge(delta);
            }
            FoldingStep::Compare(one, other) => {
                let stamps = [one, other].map(|at| state.replicas[at].barrier.stamp());
                if !state.replicas[one].barrier.takes(stamps[1])
                    || !state.replicas[other].barrier.takes(stamps[0])
                {
                    return None;
                }
                for (at, peer) in [(one, other), (other, one)] {
                    let shown = last.replicas[peer].counter.clone();
                    state.replicas[at].counter.merge(&shown);
                    state.replicas[at].equal |= 1 << peer;
                }
            }
            FoldingStep::Do(at) => {
                let replica = &mut state.replicas[at];
                if matches!(replica.barrier.task(), Task::Propose | Task::Enter) {
                    replica.equal = 0;
                }
                replica.barrier.done();
                hear_at_once(&mut state.replicas);
            }
            FoldingStep::Fold(at) => {
                let below = self.below(&state.replicas[at]);
                state.replicas[at].counter.fold(below);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no request counts twice", |_, state: &FoldingState| {
                let done = state.done.len();
                state.replicas.iter().all(|replica| replica.counter.count() <= done)
            }),
            Property::always("together each counts once", |_, state: &FoldingState| {
                let mut all = Counter::default();
                state.replicas.iter().for_each(|replica| all.merge(&replica.counter));
                all.count() == state.done.len() - state.reset.len()
            }),
            Property::sometimes(
                "all names are folded everywhere",
                |model: &Self, state: &FoldingState| {
                    let is_folded = |replica: &Replica| {
                        replica.counter.entries.is_empty() && replica.counter.below > 0
                    };
                    state.done.len() == usize::from(model.requests)
                        && state.replicas.iter().all(is_folded)
                },
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checked, is_long};

    /// The last round is the first one in which something of the first one may be folded.
    const fn of(requests: u8, resets: u8, rules: FoldingRules) -> Folding {
        Folding { replicas: 2, requests, resets, rounds: rules.lag + 1, rules }
    }

    #[test]
    fn each_request_counts_once_though_its_name_is_folded() {
        let wide = if is_long() { &[(3, 0), (2, 1)][..] } else { &[] };
        for &(requests, resets) in [(2, 0), (1, 1)].iter().chain(wide) {
            let checked = Checked::of(of(requests, resets, FoldingRules::ALL));
            println!("names: {requests} requests, {resets} resets: {}", checked.told());
            assert_eq!((&checked.wrong, &checked.unseen), (&None, &vec![]), "{}", checked.told());
        }
    }

    #[test]
    fn each_rule_left_out_counts_a_request_twice() {
        let all = FoldingRules::ALL;
        for rules in [FoldingRules { lag: 1, ..all }, FoldingRules { window: false, ..all }] {
            let checked = Checked::of(of(1, 0, rules));
            println!("names without a rule: {rules:?}: {}", checked.told());
            assert!(checked.wrong.is_some(), "{rules:?}: {}", checked.told());
        }
    }
}
