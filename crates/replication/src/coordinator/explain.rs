//! Explaining a key: what every owner holds of it, and every fallback that holds something, side by
//! side; and what they remember of its writes.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use storage::Command;
use values::{Key, View};

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, Coordinated, Explanation, ReplicaView, Reply,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// Fallbacks asked at most, the first of the list: an outbox for an owner is with one of them if no
/// owner could be reached. A guess.
const FALLBACKS_MAX: usize = 16;

/// Writes told of at most, the latest. A guess.
const WRITES_MAX: usize = 1_024;

/// What one replica says.
#[derive(Debug)]
struct Told {
    view: Result<View, String>,
    pending_for: Vec<NodeId>,
    writes: Vec<Coordinated>,
}

impl Told {
    const fn nothing(why: String) -> Self {
        Self { view: Err(why), pending_for: Vec::new(), writes: Vec::new() }
    }

    /// Whether the replica holds something of the key.
    fn holds_something(&self) -> bool {
        let shows = self.view.as_ref().is_ok_and(|view| !view.value.0.is_empty());
        shows || !self.pending_for.is_empty()
    }
}

/// An explanation under way.
#[derive(Debug)]
pub(crate) struct Explain {
    id: CallId,
    key: Key,
    n: usize,
    /// Owners and fallbacks.
    asked: Vec<NodeId>,
    pending: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, Told>,
}

impl Explain {
    pub(crate) const fn new(id: CallId, key: Key) -> Self {
        Self { id, key, n: 0, asked: Vec::new(), pending: BTreeSet::new(), told: BTreeMap::new() }
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
            Input::Answered { part, body: Body::Explained { view, pending_for, writes } } => {
                let view = view.map_err(|error| error.to_string());
                self.tell(part.node, Told { view, pending_for, writes });
            }
            Input::Stored {
                part,
                answer: storage::Answer::Explained { view, pending_for, .. },
            } => {
                let writes = turn.shared.journal.of(&self.key);
                self.tell(part.node, Told { view: Ok(view), pending_for, writes });
            }
            Input::Stored { part, answer: storage::Answer::Failed(error) } => {
                self.tell(part.node, Told::nothing(error.to_string()));
            }
            Input::LinkDown(node) => self.tell(node, unreachable()),
            Input::Time => {
                for node in std::mem::take(&mut self.pending) {
                    self.told.insert(node, Told::nothing("no answer in time".to_owned()));
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
        let list = turn.shared.preference_list(turn.shared.partition(&self.key));
        self.n = usize::from(n).min(list.len());
        self.asked = list.into_iter().take(self.n + FALLBACKS_MAX).collect();
        let until = deadline(None, turn);
        turn.set_timer(Timer::Request(slot), until);
        for node in self.asked.clone() {
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
        let (mut replicas, mut writes) = (Vec::new(), Vec::new());
        for (place, &node) in self.asked.iter().enumerate() {
            let mut told = self.told.remove(&node).unwrap_or_else(unreachable);
            writes.append(&mut told.writes);
            if place >= self.n && !told.holds_something() {
                continue;
            }
            let Told { view, pending_for, .. } = told;
            if let Ok(view) = &view {
                match &mut merged {
                    Some(merged) => merged.merge(view),
                    None => merged = Some(view.clone()),
                }
            }
            replicas.push(ReplicaView { node, view, pending_for });
        }
        writes.sort_by_key(|write| (write.time, write.node));
        let writes = writes.split_off(writes.len().saturating_sub(WRITES_MAX));
        let partition = turn.shared.partition(&self.key);
        let explanation = Explanation {
            key: self.key.clone().in_generation(0),
            partition: partition.0,
            names: turn.shared.config.names.clone(),
            preference_list: turn.shared.preference_list(partition),
            n: u8::try_from(self.n).unwrap_or(u8::MAX),
            replicas,
            merged: View::of(merged.unwrap_or_default().value),
            writes,
        };
        turn.reply_to(self.id, Ok(Reply::Explanation(Box::new(explanation))));
    }
}

fn unreachable() -> Told {
    Told::nothing("not in reach".to_owned())
}
