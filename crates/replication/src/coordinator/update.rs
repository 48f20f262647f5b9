//! Coordinating a write (Dynamo §4.5, §4.6): make the delta here, merge it here, send it to the
//! owners, reply once w of them have it durable.
//!
//! A removal first observes what r replicas show ([`Observation`]), then is made like any other
//! write, once. Every owner ends up with the delta or, durably, in the outbox: an owner that cannot
//! be reached, refuses or stays silent has it deferred, also after the reply; what this node's own
//! disk refuses is tried again ([`Unkept`](crate::unkept::Unkept)). Once a delta was made the outcome is
//! never *failed*: before the disk refuses it, a read can have shown and spread it, and a later
//! increment of the same actor contains it.

mod observation;

use std::collections::BTreeMap;

use clock::NodeId;
use storage::{Command, StorageError};
use values::{BytesOp, CounterOp, Delta, MapOp, Operation, RegisterOp, Scope, View};

use self::observation::Observation;
use super::{Input, Progress, Terms};
use crate::{
    Acks, Answer, Availability, Body, RequestError, message,
    turn::{Part, PartKind, Slot, Timer, Turn},
};

/// How far this node's own copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    Observing,
    Preparing,
    Merged,
    Durable,
    Failed,
}

/// How far an owner's pending delta in the outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    None,
    Waiting,
    Durable,
    /// There is none: nothing to keep, or the disk refused it and it is tried again.
    Absent,
}

/// One of the other owners.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// Parts of the delta that it has not acknowledged.
    parts: usize,
    acked: bool,
    hint: Hint,
}

impl Peer {
    const UNSENT: Self = Self { parts: 0, acked: false, hint: Hint::None };

    const fn is_settled(self) -> bool {
        self.acked || matches!(self.hint, Hint::Durable | Hint::Absent)
    }
}

/// A write under way.
#[derive(Debug)]
pub(crate) struct Update {
    terms: Terms,
    operation: Operation,
    /// What the owners are to show after the merge, where the answer is a sum that they may hold
    /// a part of.
    show: Option<Scope>,
    observation: Observation,
    local: Local,
    view: View,
    changed: u64,
    repeated: bool,
    delta: Delta,
    /// The owners but this node.
    peers: BTreeMap<NodeId, Peer>,
    covered: bool,
    replied: bool,
    is_held: bool,
}

impl Update {
    pub(crate) fn new(terms: Terms, operation: Operation, me: NodeId) -> Self {
        let others = terms.owners.iter().filter(|&&owner| owner != me);
        let peers = others.map(|&owner| (owner, Peer::UNSENT)).collect();
        let needed = if operation.removes_observed() { terms.quorum.r } else { 0 };
        Self {
            show: shows_sum(&operation).then(|| operation.scope()),
            observation: Observation::new(operation.scope(), needed),
            terms,
            operation,
            local: Local::Observing,
            view: View::default(),
            changed: 0,
            repeated: false,
            delta: Delta::default(),
            peers,
            covered: false,
            replied: false,
            is_held: false,
        }
    }

    /// Keeps the write from being made until [`Input::Released`].
    pub(crate) const fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether the delta was made here, or the engine is about to make it.
    pub(crate) const fn is_made(&self) -> bool {
        !matches!(self.local, Local::Observing)
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        let outcome = self.take(input, turn);
        if let Err(error) = outcome {
            if !self.replied {
                turn.reply(self.terms.origin, Err(error));
            }
            return Progress::Done;
        }
        if self.local == Local::Observing && !self.is_held && self.observation.is_over() {
            self.prepare(turn);
        }
        let now = turn.now.monotonic_ms;
        if self.is_sent() && !self.covered && now >= self.terms.cover_at {
            self.cover_all(turn);
        }
        self.conclude(now >= self.terms.deadline, turn);
        if self.replied && self.is_settled() {
            return Progress::Done;
        }
        // With none of these times left to wait for, the engine's answers are.
        let observes = (self.local == Local::Observing && !self.observation.is_over())
            .then(|| self.observation.wake_at());
        let covers = (self.is_sent() && !self.covered).then_some(self.terms.cover_at);
        let ends = (!self.replied).then_some(self.terms.deadline);
        if let Some(at) = [observes, covers, ends].into_iter().flatten().min() {
            turn.set_timer(Timer::Request(slot), at);
        }
        Progress::Waiting
    }

    /// Takes note of what happened. An error ends the write; nothing was written then.
    fn take(&mut self, input: Input, turn: &mut Turn<'_>) -> Result<(), RequestError> {
        match input {
            Input::Begin => {
                turn.shared.counters.writes += 1;
                self.check_reach(turn)?;
                self.observation.begin(&self.terms, turn);
            }
            Input::Stored { part, answer } if part.kind == PartKind::Defer => {
                self.deferred(part.node, &answer, turn);
            }
            Input::Stored { answer, .. } => return self.stored(answer, turn),
            Input::Answered { part, body: Body::Shown(shown) } => {
                self.observation.shown(part.node, shown, &self.terms, turn);
            }
            Input::Answered { part, body: Body::Merged(merged) } => {
                self.acknowledged(part, merged, turn);
            }
            Input::LinkDown(node) if self.is_sent() => self.cover(node, turn),
            Input::LinkDown(node) => self.observation.link_down(node, &self.terms, turn),
            Input::Hurry if self.is_sent() => self.cover_all(turn),
            Input::Released => self.is_held = false,
            Input::Time => self.observation.time(&self.terms, turn),
            Input::Answered { .. } | Input::Hurry => {}
        }
        Ok(())
    }

    /// Whether the delta was made and given to the owners in reach.
    const fn is_sent(&self) -> bool {
        !matches!(self.local, Local::Observing | Local::Preparing)
    }

    /// Refuses a write that cannot be met, before anything is written.
    fn check_reach(&self, turn: &Turn<'_>) -> Result<(), RequestError> {
        let in_reach =
            self.terms.owners.iter().filter(|&&owner| turn.shared.is_in_reach(owner)).count();
        let needed = self.terms.quorum.w;
        let reachable = u8::try_from(in_reach).unwrap_or(u8::MAX);
        if self.terms.quorum.availability == Availability::Quorum && reachable < needed {
            return Err(RequestError::Unavailable { reachable, needed });
        }
        Ok(())
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        self.local = Local::Preparing;
        let stamp = turn.stamp();
        let waiter = self.terms.waiter(0, turn.me(), PartKind::Ask);
        let command = Command::Update {
            key: self.terms.key.clone(),
            operation: self.operation.clone(),
            observed: self.terms.observed.clone(),
            shown: self.observation.take_view(),
            stamp,
            named: self.terms.named,
            durability: turn.durability(&self.terms.key),
        };
        turn.store(waiter, command);
    }

    /// Takes the engine's answer on this node's own copy.
    fn stored(&mut self, answer: storage::Answer, turn: &mut Turn<'_>) -> Result<(), RequestError> {
        use storage::Answer as Stored;
        match answer {
            Stored::Prepared { delta, changed, repeated, view } => {
                self.local = Local::Merged;
                (self.view, self.changed, self.delta) = (view, changed, delta);
                self.repeated = repeated;
                turn.shared.counters.writes_repeated += u64::from(repeated);
                self.send(turn);
            }
            Stored::Durable => self.local = Local::Durable,
            Stored::Refused(error) => return Err(RequestError::Update(error)),
            Stored::Failed(error) if self.local == Local::Preparing => {
                return Err(RequestError::Storage(error));
            }
            // Another answer is never given to an operation; were it, the write must end all the
            // same.
            _ => {
                self.local = Local::Failed;
                self.keep(turn.me(), turn);
            }
        }
        Ok(())
    }

    /// Takes the engine's answer on what is kept for `owner`.
    fn deferred(&mut self, owner: NodeId, answer: &storage::Answer, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if *answer == storage::Answer::Durable {
            peer.hint = Hint::Durable;
        } else {
            peer.hint = Hint::Absent;
            self.keep(owner, turn);
        }
    }

    /// Has the delta tried again that the disk refused, for this node itself or in the outbox.
    fn keep(&self, owner: NodeId, turn: &mut Turn<'_>) {
        turn.unkept.push((owner, self.terms.key.clone(), self.delta.clone()));
    }

    /// Sends the delta to every other owner.
    fn send(&mut self, turn: &mut Turn<'_>) {
        let cover_ms = u64::from(turn.shared.config.cover_ms);
        self.terms.cover_at = turn.now.monotonic_ms.saturating_add(cover_ms);
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        // Only what is removed whole can name more than an operation's own size allows.
        let parts = match self.operation.scope() {
            Scope::Removal => message::parts(self.delta.clone()),
            _ => vec![self.delta.clone()],
        };
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            if !turn.shared.is_in_reach(node) {
                self.cover(node, turn);
                continue;
            }
            for delta in &parts {
                let (key, show) = (self.terms.key.clone(), self.show.clone());
                let body = Body::Merge { key, delta: delta.clone(), show };
                let waiter = self.terms.waiter(0, node, PartKind::Ask);
                turn.ask(node, waiter, budget_ms, body);
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.parts = parts.len();
            }
        }
    }

    fn acknowledged(
        &mut self,
        part: Part,
        merged: Result<Option<View>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&part.node) else { return };
        match merged {
            Ok(shown) => {
                peer.parts = peer.parts.saturating_sub(1);
                peer.acked = peer.parts == 0;
                if let Some(shown) = shown {
                    self.view.merge(&shown);
                }
            }
            Err(_) => self.cover(part.node, turn),
        }
    }

    /// Keeps the delta for every owner that has not acknowledged it.
    fn cover_all(&mut self, turn: &mut Turn<'_>) {
        self.covered = true;
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            self.cover(node, turn);
        }
    }

    /// Keeps the delta for an owner that has not acknowledged it.
    fn cover(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.acked || peer.hint != Hint::None {
            return;
        }
        if self.delta.is_empty() {
            peer.hint = Hint::Absent;
            return;
        }
        peer.hint = Hint::Waiting;
        turn.shared.counters.hinted_writes += 1;
        turn.deferred.push(node);
        let waiter = self.terms.waiter(0, node, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        let durability = turn.durability(&key);
        turn.store(waiter, Command::Defer { owner: node, key, delta, durability });
    }

    /// Whether nothing more can be learnt without a late acknowledgement.
    fn is_settled(&self) -> bool {
        matches!(self.local, Local::Durable | Local::Failed)
            && self.peers.values().all(|peer| peer.is_settled())
    }

    /// Replies, if the time has come for it.
    fn conclude(&mut self, at_deadline: bool, turn: &mut Turn<'_>) {
        let quorum = self.terms.quorum;
        if self.replied || (!self.is_sent() && !at_deadline) {
            return;
        }
        let own_counts = self.terms.owners.contains(&turn.me());
        let acked = self.peers.values().filter(|peer| peer.acked).count()
            + usize::from(own_counts && self.local == Local::Durable);
        let acked = u8::try_from(acked).unwrap_or(u8::MAX);
        let hinted = |peer: &&Peer| peer.hint == Hint::Durable && !peer.acked;
        let hinted = u8::try_from(self.peers.values().filter(hinted).count()).unwrap_or(u8::MAX);
        let w_met = acked >= quorum.w;
        let always = quorum.availability == Availability::Always;
        let settled = self.is_settled() && (always || w_met);
        if !(at_deadline || settled || w_met) {
            return;
        }
        self.replied = true;
        let partly_observed = !self.observation.is_met();
        turn.shared.counters.unmet_quorums += u64::from(!w_met || partly_observed);
        let has_copy = acked > 0 || hinted > 0 || self.local == Local::Durable;
        if !(w_met || (always && has_copy)) {
            let unknown = RequestError::Unknown { acked, needed: quorum.w };
            return turn.reply(self.terms.origin, Err(unknown));
        }
        let put = match &self.operation {
            Operation::Bytes(BytesOp::Put(value)) => Some(value),
            _ => None,
        };
        let view = std::mem::take(&mut self.view);
        let contexts = self.terms.contexts(&view, put, turn);
        let answer = Answer {
            view,
            changed: self.changed,
            repeated: self.repeated,
            acks: Acks { owners: quorum.n, needed: quorum.w, answered: acked, hinted },
            partly_observed,
            contexts,
            time: turn.shared.clock.latest(),
        };
        turn.reply(self.terms.origin, Ok(answer));
    }
}

/// Whether the answer shows a sum to which other replicas may hold a part.
const fn shows_sum(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Counter(CounterOp::Add(_))
            | Operation::Register(RegisterOp::Increment(_))
            | Operation::Map(MapOp::Increment { .. })
    )
}
