//! Explaining a key: what every owner holds of it, side by side.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use storage::Command;
use values::{Key, View};

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, Explanation, ReplicaView, Reply,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// What one replica says.
type Told = (Result<View, String>, Vec<NodeId>);

/// An explanation under way.
#[derive(Debug)]
pub(crate) struct Explain {
    id: CallId,
    key: Key,
    owners: Vec<NodeId>,
    pending: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, Told>,
}

impl Explain {
    pub(crate) const fn new(id: CallId, key: Key) -> Self {
        Self { id, key, owners: Vec::new(), pending: BTreeSet::new(), told: BTreeMap::new() }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match input {
            Input::Begin => match turn.shared.buckets.live(self.key.bucket()) {
                Ok(bucket) => {
                    self.key = self.key.clone().in_generation(bucket.generation);
                    self.begin(slot, turn);
                }
                Err(dropped) => {
                    turn.reply_to(self.id, Err(dropped.into()));
                    return Progress::Done;
                }
            },
            Input::Answered { part, body: Body::Explained { view, pending_for } } => {
                let told = (view.map_err(|error| error.to_string()), pending_for);
                self.tell(part.node, told);
            }
            Input::Stored { part, answer: storage::Answer::Explained { view, pending_for } } => {
                self.tell(part.node, (Ok(view), pending_for));
            }
            Input::Stored { part, answer: storage::Answer::Failed(error) } => {
                self.tell(part.node, (Err(error.to_string()), Vec::new()));
            }
            Input::LinkDown(node) => self.tell(node, unreachable()),
            Input::Time => {
                for node in std::mem::take(&mut self.pending) {
                    self.told.insert(node, (Err("no answer in time".to_owned()), Vec::new()));
                }
            }
            _ => return Progress::Waiting,
        }
        if !self.pending.is_empty() {
            return Progress::Waiting;
        }
        self.reply(turn);
        Progress::Done
    }

    fn begin(&mut self, slot: Slot, turn: &mut Turn<'_>) {
        let n = turn.shared.buckets.of_key(&self.key).policy.n;
        self.owners = turn.shared.owners(&self.key, n);
        let until = deadline(None, turn);
        turn.set_timer(Timer::Request(slot), until);
        for node in self.owners.clone() {
            let part = Part { round: 0, node, kind: PartKind::Ask };
            let (waiter, key) = (Waiter::Request { slot, part }, self.key.clone());
            if node == turn.me() {
                turn.store(waiter, Command::Explain { key });
            } else if turn.shared.is_in_reach(node) {
                let budget_ms = turn.shared.config.timeout_ms;
                turn.ask(node, waiter, budget_ms, Body::Explain { key });
            } else {
                self.told.insert(node, unreachable());
                continue;
            }
            self.pending.insert(node);
        }
    }

    fn tell(&mut self, node: NodeId, told: Told) {
        if self.pending.remove(&node) {
            self.told.insert(node, told);
        }
    }

    fn reply(&mut self, turn: &mut Turn<'_>) {
        let mut merged: Option<View> = None;
        let mut replicas = Vec::new();
        for &node in &self.owners {
            let (view, pending_for) = self.told.remove(&node).unwrap_or_else(unreachable);
            if let Ok(view) = &view {
                match &mut merged {
                    Some(merged) => merged.merge(view),
                    None => merged = Some(view.clone()),
                }
            }
            replicas.push(ReplicaView { node, view, pending_for });
        }
        let partition = turn.shared.partition(&self.key);
        let explanation = Explanation {
            key: self.key.clone().in_generation(0),
            partition: partition.0,
            names: turn.shared.config.names.clone(),
            preference_list: turn.shared.ring.preference_list(partition),
            n: u8::try_from(self.owners.len()).unwrap_or(u8::MAX),
            replicas,
            merged: View::of(merged.unwrap_or_default().value),
        };
        turn.reply_to(self.id, Ok(Reply::Explanation(Box::new(explanation))));
    }
}

fn unreachable() -> Told {
    (Err("not in reach".to_owned()), Vec::new())
}
