//! Puts, gets and late deliveries at replicas that lose their memory (Riak's kv679).
//!
//! Replicas of one key take puts of raw values from clients that keep contexts. Every delta stays on its
//! way for ever, so it comes late, again, or through a hint, in whatever order. Disks are lost, put back
//! to what they were a change ago, or lose the key under a running process, noticed or not. Values and their
//! contexts are the product's, and so is the choice of the actor ([`Epochs`]).
//!
//! Claims: no dot is issued twice; no put is lost, but for one that a later put had seen.

use std::collections::{BTreeMap, BTreeSet};

use clock::{CausalContext, Dot, NodeId, Stamp};
use stateright::{Model, Property};
use storage::Epochs;
use values::{BytesOp, Delta, Limits, Mint, Operation, Tag, Value, View};

/// What keeps a dot from being issued twice; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmnesiaRules {
    /// The bits of a process are drawn anew at every start.
    pub fresh_process: bool,
    /// A loss that is noticed is a doubt about every epoch drawn.
    pub doubt_on_loss: bool,
    /// What shows a replica ahead of itself is a doubt.
    pub doubt_on_ahead: bool,
}

impl AmnesiaRules {
    /// As the product has them.
    pub const ALL: Self = Self { fresh_process: true, doubt_on_loss: true, doubt_on_ahead: true };
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Amnesia {
    /// Replicas.
    pub replicas: usize,
    /// Clients.
    pub clients: usize,
    /// Puts in all.
    pub puts: u8,
    /// Losses in all.
    pub losses: u8,
    /// What holds.
    pub rules: AmnesiaRules,
}

/// What a replica has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    value: Value,
    /// What it had before its last change.
    before: Value,
    epochs: Epochs,
}

/// What a client keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    context: CausalContext,
    /// The puts that it has seen the values of.
    seen: BTreeSet<u8>,
}

/// A put that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Put {
    dot: Dot,
    /// The puts that its client had seen.
    seen: BTreeSet<u8>,
    delta: Delta,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AmnesiaState {
    replicas: Vec<Replica>,
    clients: Vec<Client>,
    puts: Vec<Put>,
    losses: u8,
    /// Starts of processes.
    starts: u64,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmnesiaStep {
    /// A client reads from a replica.
    Get(usize, usize),
    /// A client puts at a replica.
    Put(usize, usize),
    /// What a put made comes to a replica, for the first time or again.
    Deliver(usize, usize),
    /// A replica's disk is lost; it starts again.
    Lose(usize),
    /// A replica's disk is what it was before its last change; it starts again.
    Restore(usize),
    /// The running process finds its record of the key damaged: it is as before its last change.
    Damage(usize),
    /// The key vanishes under the running process, which does not notice.
    Vanish(usize),
}

impl Amnesia {
    fn epochs(&self, replica: usize, starts: u64) -> Epochs {
        let process = if self.rules.fresh_process { starts } else { 0 };
        Epochs::new(NodeId(replica as u64 + 1), process)
    }

    /// The rule that the engine follows for what comes in.
    fn observe(&self, replica: &mut Replica, inbound: &CausalContext) {
        if self.rules.doubt_on_ahead {
            let local = replica.value.context(Tag::BYTES).clone();
            replica.epochs.observe(&[], Tag::BYTES, &local, inbound);
        }
    }

    fn put(&self, state: &mut AmnesiaState, client: usize, at: usize) {
        let number = state.puts.len() as u8;
        let Client { context: observed, seen } = state.clients[client].clone();
        let replica = &mut state.replicas[at];
        self.observe(replica, &observed);
        let local = replica.value.context(Tag::BYTES).clone();
        let actor = replica.epochs.actor(&[], Tag::BYTES, &local);
        let actor = actor.expect("a model draws few epochs");
        let mint = Mint { actor, stamp: Stamp(u64::from(number) + 1), round: None };
        let operation = Operation::Bytes(BytesOp::Put(vec![number].into()));
        let view = View::of(replica.value.clone());
        let prepared = operation.prepare(&view, &observed, mint, &Limits::default());
        // Refused is not acknowledged.
        let Ok(prepared) = prepared else { return };
        let minted = prepared.minted.expect("a put mints");
        replica.before = replica.value.clone();
        replica.value.apply(&prepared.delta);
        let after = View::of(replica.value.clone());
        let context = after.context_of_put(&observed, &vec![number].into());
        let mut now_seen = seen.clone();
        now_seen.insert(number);
        state.clients[client] = Client { context, seen: now_seen };
        state.puts.push(Put { dot: minted.first, seen, delta: prepared.delta });
    }
}

fn shown(value: &Value) -> BTreeSet<u8> {
    let view = View::of(value.clone());
    view.siblings().iter().map(|(_, sibling)| sibling.value[0]).collect()
}

impl AmnesiaState {
    /// What is left of all puts once everything has come everywhere.
    fn survivors(&self) -> BTreeSet<u8> {
        let mut all = Value::default();
        for replica in &self.replicas {
            all.merge(&replica.value);
        }
        for put in &self.puts {
            all.apply(&put.delta);
        }
        shown(&all)
    }

    fn is_lost(&self) -> bool {
        let survivors = self.survivors();
        let mut covered = BTreeSet::new();
        for put in &self.puts {
            covered.extend(put.seen.iter().copied());
        }
        let puts = 0..self.puts.len() as u8;
        puts.into_iter().any(|put| !survivors.contains(&put) && !covered.contains(&put))
    }

    fn is_issued_twice(&self) -> bool {
        let dots: BTreeMap<Dot, ()> = self.puts.iter().map(|put| (put.dot, ())).collect();
        dots.len() < self.puts.len()
    }
}

impl Model for Amnesia {
    type State = AmnesiaState;
    type Action = AmnesiaStep;

    fn init_states(&self) -> Vec<AmnesiaState> {
        let replica = |at| {
            let (value, before) = (Value::default(), Value::default());
            Replica { value, before, epochs: self.epochs(at, at as u64) }
        };
        vec![AmnesiaState {
            replicas: (0..self.replicas).map(replica).collect(),
            clients: vec![Client::default(); self.clients],
            puts: Vec::new(),
            losses: 0,
            starts: self.replicas as u64,
        }]
    }

    fn actions(&self, state: &AmnesiaState, steps: &mut Vec<AmnesiaStep>) {
        for at in 0..self.replicas {
            for client in 0..self.clients {
                if state.puts.len() < usize::from(self.puts) {
                    steps.push(AmnesiaStep::Put(client, at));
                    steps.push(AmnesiaStep::Get(client, at));
                }
            }
            steps.extend((0..state.puts.len()).map(|put| AmnesiaStep::Deliver(put, at)));
            let has_something = state.replicas[at].value != Value::default();
            if state.losses < self.losses && has_something {
                steps.push(AmnesiaStep::Lose(at));
                steps.push(AmnesiaStep::Restore(at));
                steps.push(AmnesiaStep::Damage(at));
                steps.push(AmnesiaStep::Vanish(at));
            }
        }
    }

    fn next_state(&self, last: &AmnesiaState, step: AmnesiaStep) -> Option<AmnesiaState> {
        let mut state = last.clone();
        match step {
            AmnesiaStep::Get(client, at) => {
                let value = &state.replicas[at].value;
                let client = &mut state.clients[client];
                // A client keeps what it saw: it never presents less.
                client.context.merge(value.context(Tag::BYTES));
                client.seen.extend(shown(value));
            }
            AmnesiaStep::Put(client, at) => self.put(&mut state, client, at),
            AmnesiaStep::Deliver(put, at) => {
                let delta = state.puts[put].delta.clone();
                let replica = &mut state.replicas[at];
                self.observe(replica, delta.value.context(Tag::BYTES));
                let before = replica.value.clone();
                replica.value.apply(&delta);
                if replica.value == before {
                    return (state != *last).then_some(state);
                }
                replica.before = before;
            }
            AmnesiaStep::Lose(at) | AmnesiaStep::Restore(at) => {
                let replica = &mut state.replicas[at];
                replica.value = match step {
                    AmnesiaStep::Lose(_) => Value::default(),
                    _ => replica.before.clone(),
                };
                replica.before = replica.value.clone();
                replica.epochs = self.epochs(at, state.starts);
                state.starts += 1;
                state.losses += 1;
            }
            AmnesiaStep::Damage(at) => {
                let replica = &mut state.replicas[at];
                replica.value = replica.before.clone();
                if self.rules.doubt_on_loss {
                    replica.epochs.doubt();
                }
                state.losses += 1;
            }
            AmnesiaStep::Vanish(at) => {
                let replica = &mut state.replicas[at];
                (replica.value, replica.before) = (Value::default(), Value::default());
                state.losses += 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a dot is issued once", |_, state: &AmnesiaState| {
                !state.is_issued_twice()
            }),
            Property::always(
                "no put is lost that no later one had seen",
                |_, state: &AmnesiaState| !state.is_lost(),
            ),
            Property::sometimes("siblings", |_, state: &AmnesiaState| state.survivors().len() > 1),
            Property::sometimes("a put after a loss", |model: &Self, state: &AmnesiaState| {
                state.losses == model.losses
                    && state.puts.len() == usize::from(model.puts)
                    && state.replicas.iter().all(|replica| replica.value != Value::default())
            }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checked, is_long};

    fn model(rules: AmnesiaRules) -> Amnesia {
        Amnesia { replicas: 2, clients: 2, puts: 3, losses: 1, rules }
    }

    #[test]
    fn nothing_is_lost_by_replicas_that_lose_their_memory() {
        let wide = Amnesia { losses: 2, ..model(AmnesiaRules::ALL) };
        let checked = Checked::of(if is_long() { wide } else { model(AmnesiaRules::ALL) });
        println!("amnesia: {}", checked.told());
        assert_eq!((&checked.wrong, &checked.unseen), (&None, &vec![]), "{}", checked.told());
    }

    #[test]
    fn each_rule_left_out_issues_a_dot_twice() {
        for rules in [
            AmnesiaRules { fresh_process: false, ..AmnesiaRules::ALL },
            AmnesiaRules { doubt_on_loss: false, ..AmnesiaRules::ALL },
            AmnesiaRules { doubt_on_ahead: false, ..AmnesiaRules::ALL },
        ] {
            let checked = Checked::of(model(rules));
            println!("amnesia without a rule: {rules:?}: {}", checked.told());
            assert!(checked.wrong.is_some(), "{rules:?}: {}", checked.told());
        }
    }
}
