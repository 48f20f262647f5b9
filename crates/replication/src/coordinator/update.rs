//! Coordinating a write (Dynamo §4.5, §4.6): make the delta here, merge it here, send it to the
//! owners, reply once w of them have it durable.
//!
//! Every owner ends up with the delta or, durably, in the outbox: an owner that cannot be reached,
//! refuses or stays silent has it deferred, also after the reply. A removal acts on what r replicas
//! show ("seen before removed"): each shows what its merge left, and if anything is left that the
//! removal meant to take away, it is made again on all that was shown.

use std::collections::BTreeMap;

use clock::NodeId;
use storage::{Command, StorageError};
use values::{
    Blob, BytesOp, CounterOp, Delta, MapOp, Operation, OrsetOp, RegisterOp, Scope, UpdateError,
    View,
};

use super::{Input, Progress, Terms};
use crate::{
    Acks, Answer, Availability, Body, RequestError,
    quorum::count_owners,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// How often a removal is made at most. More is needed only while others keep writing what it
/// removes; the answer then says that it was partly observed.
const ROUNDS_MAX: u32 = 3;

/// How far this node's own copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
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
    /// There is none and will be none: the disk failed, or there is nothing to keep.
    Absent,
}

/// One of the other owners.
#[derive(Clone, Copy, Debug)]
struct Peer {
    acked: bool,
    hint: Hint,
}

impl Peer {
    const UNSENT: Self = Self { acked: false, hint: Hint::None };

    const fn is_settled(self) -> bool {
        self.acked || matches!(self.hint, Hint::Durable | Hint::Absent)
    }
}

/// A write under way.
#[derive(Debug)]
pub(crate) struct Update {
    terms: Terms,
    operation: Operation,
    show: Option<Scope>,
    round: u32,
    /// Whether no further round can be made.
    is_last_round: bool,
    local: Local,
    /// `local` of the round before.
    local_before: Local,
    failure: Option<StorageError>,
    own: View,
    changed: u64,
    /// The join of what all rounds made.
    delta: Delta,
    /// The owners but this node.
    peers: BTreeMap<NodeId, Peer>,
    shown: BTreeMap<NodeId, View>,
    is_sent: bool,
    sent_any: bool,
    covered: bool,
    replied: bool,
}

impl Update {
    pub(crate) fn new(terms: Terms, operation: Operation, me: NodeId) -> Self {
        let others = terms.owners.iter().filter(|&&owner| owner != me);
        let peers = others.map(|&owner| (owner, Peer::UNSENT)).collect();
        let shows = operation.removes_observed() || shows_sum(&operation);
        Self {
            show: shows.then(|| operation.scope()),
            terms,
            operation,
            round: 0,
            is_last_round: false,
            local: Local::Preparing,
            local_before: Local::Preparing,
            failure: None,
            own: View::default(),
            changed: 0,
            delta: Delta::default(),
            peers,
            shown: BTreeMap::new(),
            is_sent: false,
            sent_any: false,
            covered: false,
            replied: false,
        }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match input {
            Input::Begin => {
                turn.shared.counters.writes += 1;
                if let Err(error) = self.check_reach(turn) {
                    turn.reply(self.terms.origin, Err(error));
                    return Progress::Done;
                }
                self.prepare(turn);
            }
            Input::Stored { part, answer } if part.round == self.round => {
                if let Some(error) = self.stored(part, answer, turn) {
                    turn.reply(self.terms.origin, Err(error));
                    return Progress::Done;
                }
            }
            Input::Answered { part, body: Body::Merged(merged) } if part.round == self.round => {
                self.acknowledged(part.node, merged, turn);
            }
            Input::LinkDown(node) if self.is_sent => self.cover(node, turn),
            Input::Time => {}
            _ => return Progress::Waiting,
        }
        let now = turn.now.monotonic_ms;
        if self.is_sent && !self.covered && now >= self.terms.cover_at {
            self.covered = true;
            for node in self.peers.keys().copied().collect::<Vec<_>>() {
                self.cover(node, turn);
            }
        }
        self.conclude(now >= self.terms.deadline, turn);
        if self.replied && self.is_settled() {
            return Progress::Done;
        }
        let covers = (self.is_sent && !self.covered).then_some(self.terms.cover_at);
        let ends = (now < self.terms.deadline).then_some(self.terms.deadline);
        match covers.into_iter().chain(ends).min() {
            Some(at) => turn.set_timer(Timer::Request(slot), at),
            // Everything that was not acknowledged was given to the outbox.
            None => return Progress::Done,
        }
        Progress::Waiting
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
        let stamp = turn.stamp();
        let waiter = self.terms.waiter(self.round, turn.me(), PartKind::Ask);
        let command = Command::Update {
            key: self.terms.key.clone(),
            operation: self.operation.clone(),
            observed: self.terms.observed.clone(),
            stamp,
        };
        turn.store(waiter, command);
    }

    /// Returns the error with which the request ends, if it ends.
    fn stored(
        &mut self,
        part: Part,
        answer: storage::Answer,
        turn: &mut Turn<'_>,
    ) -> Option<RequestError> {
        use storage::Answer as Stored;
        if part.kind == PartKind::Defer {
            if let Some(peer) = self.peers.get_mut(&part.node) {
                peer.hint = if answer == Stored::Durable { Hint::Durable } else { Hint::Absent };
            }
            return None;
        }
        match answer {
            Stored::Prepared { delta, changed, view } => {
                self.local = Local::Merged;
                self.own = view;
                self.changed = self.total_changed(changed);
                self.delta.merge(&delta);
                self.send(turn);
            }
            Stored::Durable => self.local = Local::Durable,
            Stored::Refused(error) => return self.refused(error, turn),
            Stored::Failed(error) if self.local == Local::Preparing && self.round == 0 => {
                return Some(RequestError::Storage(error));
            }
            Stored::Failed(error) => {
                let unsent = self.local == Local::Preparing;
                self.local = Local::Failed;
                self.failure = Some(error);
                if unsent {
                    self.is_last_round = true;
                    self.send(turn);
                }
            }
            _ => {}
        }
        None
    }

    fn refused(&mut self, error: UpdateError, turn: &mut Turn<'_>) -> Option<RequestError> {
        if self.round == 0 {
            return Some(RequestError::Update(error));
        }
        // What other replicas showed makes the operation impossible; the round before stands.
        self.is_last_round = true;
        self.local = self.local_before;
        self.send(turn);
        None
    }

    /// Sends what was made so far to every other owner.
    fn send(&mut self, turn: &mut Turn<'_>) {
        self.is_sent = true;
        let cover_ms = u64::from(turn.shared.config.cover_ms);
        self.terms.cover_at = turn.now.monotonic_ms.saturating_add(cover_ms);
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            if !turn.shared.is_in_reach(node) {
                self.cover(node, turn);
                continue;
            }
            self.sent_any = true;
            let body = Body::Merge {
                key: self.terms.key.clone(),
                delta: self.delta.clone(),
                show: self.show.clone(),
            };
            let waiter = self.terms.waiter(self.round, node, PartKind::Ask);
            turn.ask(node, waiter, budget_ms, body);
        }
    }

    fn acknowledged(
        &mut self,
        node: NodeId,
        merged: Result<Option<View>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match merged {
            Ok(view) => {
                peer.acked = true;
                if let Some(view) = view {
                    self.shown.insert(node, view);
                }
            }
            Err(_) => self.cover(node, turn),
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
        let waiter = self.terms.waiter(self.round, node, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        turn.store(waiter, Command::Defer { owner: node, key, delta });
    }

    /// Whether nothing more can be learnt of this round without a late acknowledgement.
    fn is_settled(&self) -> bool {
        matches!(self.local, Local::Durable | Local::Failed)
            && self.peers.values().all(|peer| peer.is_settled())
    }

    /// Replies, or makes another round, if the time has come for it.
    fn conclude(&mut self, at_deadline: bool, turn: &mut Turn<'_>) {
        let quorum = self.terms.quorum;
        if self.replied || (!self.is_sent && !at_deadline) {
            return;
        }
        let own_counts = self.terms.owners.contains(&turn.me());
        let acked = self.peers.values().filter(|peer| peer.acked).count()
            + usize::from(own_counts && self.local == Local::Durable);
        let acked = u8::try_from(acked).unwrap_or(u8::MAX);
        let hinted = |peer: &&Peer| peer.hint == Hint::Durable && !peer.acked;
        let hinted = u8::try_from(self.peers.values().filter(hinted).count()).unwrap_or(u8::MAX);
        let w_met = acked >= quorum.w;
        let shows_own = own_counts && self.local != Local::Preparing;
        let views = count_owners(&self.terms.owners, self.shown.keys()) + u8::from(shows_own);
        let r_met = !self.operation.removes_observed() || views >= quorum.r;
        let always = quorum.availability == Availability::Always;
        let settled = self.is_settled() && (always || w_met);
        if !(at_deadline || settled || (w_met && r_met)) {
            return;
        }
        let has_copy = acked > 0 || hinted > 0 || self.local == Local::Durable;
        if !(w_met || (always && has_copy)) {
            return self.reply_unmet(acked, turn);
        }
        let mut merged = self.own.clone();
        for view in self.shown.values() {
            merged.merge(view);
        }
        let is_done = !self.operation.removes_observed() || self.operation.is_settled(&merged);
        if !is_done && !at_deadline && !self.is_last_round && self.round + 1 < ROUNDS_MAX {
            return self.next_round(&merged, turn);
        }
        self.replied = true;
        turn.shared.counters.unmet_quorums += u64::from(!w_met || !r_met);
        let put = match &self.operation {
            Operation::Bytes(BytesOp::Put(value)) => Some(value),
            _ => None,
        };
        let contexts = self.terms.contexts(&merged, put, turn);
        let answer = Answer {
            view: merged,
            changed: self.changed,
            acks: Acks { owners: quorum.n, needed: quorum.w, answered: acked, hinted },
            partly_observed: !r_met || !is_done,
            contexts,
            time: turn.shared.clock.latest(),
        };
        turn.reply(self.terms.origin, Ok(answer));
    }

    fn reply_unmet(&mut self, acked: u8, turn: &mut Turn<'_>) {
        self.replied = true;
        turn.shared.counters.unmet_quorums += 1;
        let error = match self.failure.take() {
            Some(error) if !self.sent_any => RequestError::Storage(error),
            _ => RequestError::Unknown { acked, needed: self.terms.quorum.w },
        };
        turn.reply(self.terms.origin, Err(error));
    }

    /// Makes the removal again, on all that was shown.
    fn next_round(&mut self, merged: &View, turn: &mut Turn<'_>) {
        turn.shared.counters.removals_repeated += 1;
        if let Some(delta) = merged.repair(&self.own) {
            let key = self.terms.key.clone();
            turn.store(Waiter::Nobody, Command::Merge { key, delta, show: None });
        }
        self.round += 1;
        self.local_before = self.local;
        self.local = Local::Preparing;
        self.is_sent = false;
        self.covered = false;
        self.peers.values_mut().for_each(|peer| *peer = Peer::UNSENT);
        self.shown.clear();
        self.prepare(turn);
    }

    /// What all rounds changed, when the last of them changed `changed`. A later round changes what
    /// an earlier one had not seen: of elements each is counted, but none twice.
    fn total_changed(&self, changed: u64) -> u64 {
        let distinct =
            |names: &[Blob]| names.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
        match &self.operation {
            Operation::Orset(OrsetOp::Remove(names)) | Operation::Map(MapOp::Remove(names)) => {
                self.changed.saturating_add(changed).min(distinct(names))
            }
            _ => self.changed.max(changed),
        }
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
