//! Coordinating a write (Dynamo §4.5, §4.6): make the delta here, merge it here, send it to the
//! owners, reply once w of them have it durable.
//!
//! A removal first observes what r replicas show ([`Observation`]), then is made like any other
//! write, once. Every owner ends up with the delta or, durably, in an outbox: an owner that cannot
//! be reached, refuses or does not acknowledge within the delay learnt of it is covered, also after
//! the reply. The next fallback is asked to keep a hint for it; where there is none, or it does not
//! say in its time that it does, this node keeps the delta itself; what its own disk refuses is
//! tried again ([`Unkept`](crate::unkept::Unkept)). Only owners count towards w. Once a delta was
//! made the outcome is never *failed*: before the disk refuses it, a read can have shown and spread
//! it, and a later increment of the same actor contains it.

mod observation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::{NodeId, Stamp};
use ring::Sequence;
use sabotage::Bug;
use storage::{Command, StorageError};
use values::{
    BytesOp, CounterOp, Delta, ExpiryOp, ManySiblings, MapOp, Minted, Operation, RegisterOp, Scope,
    Tag, UpdateError, View,
};

use self::observation::Observation;
use super::{Input, Progress, Terms};
use crate::{
    Acks, Answer, Availability, Body, BucketError, Coordinated, Effect, RequestError,
    latency::Work,
    message,
    policies::text,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
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

/// How far the keeping of the delta for an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    None,
    /// A fallback was asked, and is waited for until then.
    Asked {
        fallback: NodeId,
        until: u64,
    },
    /// This node's own outbox is to take it.
    Waiting,
    /// It is in some outbox.
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
    /// When it is covered.
    cover_at: u64,
    /// Whether nothing is to be hoped for from it: it refused, cannot be reached, or is silent.
    is_out: bool,
    /// Whether it said that the owners are others now: it is asked again once this node knows.
    is_moved: bool,
    /// Which sending of the delta this is the state of, and by which tenure that was.
    round: u32,
    sequence: Sequence,
}

impl Peer {
    const UNSENT: Self = Self {
        parts: 0,
        acked: false,
        hint: Hint::None,
        cover_at: 0,
        is_out: false,
        is_moved: false,
        round: 0,
        sequence: Sequence(0),
    };

    const fn is_settled(self) -> bool {
        self.acked || matches!(self.hint, Hint::Durable | Hint::Absent)
    }

    /// When something is to be done about it, unless it acknowledges.
    const fn wakes_at(&self) -> Option<u64> {
        match self.hint {
            Hint::None => Some(self.cover_at),
            Hint::Asked { until, .. } => Some(until),
            _ => None,
        }
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
    many_siblings: Option<ManySiblings>,
    stamp: Stamp,
    delta: Delta,
    /// Messages that the delta takes.
    parts: usize,
    /// How often the delta was sent: of two sendings to one owner the acknowledgements of the first are
    /// none of the parts of the second.
    round: u32,
    /// Why this node's own disk does not have it.
    disk: Option<StorageError>,
    /// Why this node keeps it for nobody: too much is kept for an owner.
    full: Option<StorageError>,
    /// The owners but this node.
    peers: BTreeMap<NodeId, Peer>,
    /// Fallbacks that were asked to keep a hint: each for one owner, so that there are more copies.
    fallbacks: BTreeSet<NodeId>,
    /// Whether a node said that this generation of the bucket was dropped: then copies of those that
    /// have not heard of it are no quorum, since the drop takes them away.
    is_dropped: bool,
    replied: bool,
    is_held: bool,
}

impl Update {
    pub(crate) fn new(terms: Terms, operation: Operation, me: NodeId) -> Self {
        let others = terms.holders().filter(|&owner| owner != me);
        let peers = others.map(|owner| (owner, Peer::UNSENT)).collect();
        let quorum = terms.quorum;
        let needed = match &operation {
            // What w owners have acknowledged must be seen: a deadline may have been taken away.
            Operation::Expiry(ExpiryOp::Sweep) => quorum.all_acknowledged(),
            _ if sabotage::is(Bug::RemovalObservesNobody) => 0,
            operation if operation.removes_observed() => quorum.r,
            _ => 0,
        };
        Self {
            show: shows_sum(&operation).then(|| operation.scope()),
            observation: Observation::new(operation.scope(), needed),
            terms,
            operation,
            local: Local::Observing,
            view: View::default(),
            changed: 0,
            repeated: false,
            many_siblings: None,
            stamp: Stamp::default(),
            delta: Delta::default(),
            parts: 0,
            round: 0,
            disk: None,
            full: None,
            peers,
            fallbacks: BTreeSet::new(),
            is_dropped: false,
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
            if self.is_sweep() && !self.observation.is_met() {
                // It is tried again later: what is due is not shown meanwhile.
                turn.reply(self.terms.origin, Err(RequestError::Timeout));
                return Progress::Done;
            }
            self.prepare(turn);
        }
        let now = turn.now.monotonic_ms;
        if self.is_sent() {
            self.cover_late(turn);
        }
        self.conclude(now >= self.terms.deadline, turn);
        if self.replied && self.is_settled() {
            return Progress::Done;
        }
        // With none of these times left to wait for, the engine's answers are.
        let observes = (self.local == Local::Observing && !self.observation.is_over())
            .then(|| self.observation.wake_at());
        let patience = (self.is_sent() && !self.replied).then_some(self.terms.cover_at);
        let patience = patience.filter(|&at| at > now);
        let ends = (!self.replied).then_some(self.terms.deadline);
        let covers = self.peers.values().filter(|peer| self.is_sent() && !peer.acked);
        let covers = covers.filter_map(Peer::wakes_at);
        if let Some(at) = [observes, patience, ends].into_iter().flatten().chain(covers).min() {
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
            Input::Answered { body: Body::Shown(Err(StorageError::Dropped)), .. }
                if self.local == Local::Observing =>
            {
                return Err(BucketError::Dropped { bucket: text(self.terms.key.bucket()) }.into());
            }
            Input::Answered { part, body: Body::Shown(shown) } => {
                self.observation.shown(part.node, shown, &self.terms, turn);
            }
            Input::Answered { part, body: Body::Merged(merged) } => {
                self.acknowledged(part, merged, turn);
            }
            Input::Answered { part, body: Body::Hinted(hinted) } => {
                self.hinted(part.node, &hinted, turn);
            }
            Input::Answered { part, body: Body::Moved { tenure, .. } } => {
                self.moved(part, tenure.sequence, turn);
            }
            Input::Rerouted if self.terms.reroute(turn) => self.rerouted(turn),
            Input::LinkDown(node) if self.is_sent() => self.link_down(node, turn),
            Input::LinkDown(node) => self.observation.link_down(node, &self.terms, turn),
            Input::Hurry if self.is_sent() => self.hurry(turn),
            Input::Released => self.is_held = false,
            Input::Time => self.observation.time(&self.terms, turn),
            Input::Answered { .. } | Input::Hurry | Input::Rerouted => {}
        }
        Ok(())
    }

    const fn is_sweep(&self) -> bool {
        matches!(self.operation, Operation::Expiry(ExpiryOp::Sweep))
    }

    /// Whether the delta was made and given to the owners in reach.
    const fn is_sent(&self) -> bool {
        !matches!(self.local, Local::Observing | Local::Preparing)
    }

    /// Refuses a write that cannot be met, before anything is written.
    fn check_reach(&self, turn: &Turn<'_>) -> Result<(), RequestError> {
        let needed = self.terms.quorum.w;
        let reachable = self.terms.acked(|&owner| turn.shared.is_in_reach(owner));
        if self.terms.quorum.availability == Availability::Quorum && reachable < needed {
            return Err(RequestError::Unavailable { reachable, needed });
        }
        if reachable > 0 {
            return Ok(());
        }
        // Only hints would hold it.
        let full_for = |owner| turn.shared.full_for(owner, turn.now.monotonic_ms);
        let full: Option<Vec<u64>> = self.terms.holders().map(full_for).collect();
        match full.and_then(|bytes| bytes.into_iter().max()) {
            Some(bytes) => Err(RequestError::Storage(StorageError::HintsFull { bytes })),
            None => Ok(()),
        }
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        self.local = Local::Preparing;
        self.stamp = turn.stamp();
        let waiter = self.terms.waiter(0, turn.me(), PartKind::Ask);
        let command = Command::Update {
            key: self.terms.key.clone(),
            operation: self.operation.clone(),
            lifetime: self.terms.lifetime,
            observed: self.terms.observed.clone(),
            shown: self.observation.take_view(),
            stamp: self.stamp,
            named: self.terms.named,
            limits: Arc::clone(&self.terms.limits),
            durability: turn.durability(&self.terms.key),
        };
        turn.store(waiter, command);
    }

    /// Takes the engine's answer on this node's own copy.
    fn stored(&mut self, answer: storage::Answer, turn: &mut Turn<'_>) -> Result<(), RequestError> {
        use storage::Answer as Stored;
        match answer {
            Stored::Prepared { delta, changed, repeated, minted, view } => {
                self.local = Local::Merged;
                (self.view, self.changed, self.delta) = (view, changed, delta);
                self.repeated = repeated;
                turn.shared.counters.writes_repeated += u64::from(repeated);
                if self.delta.is_empty() && self.is_sweep() {
                    turn.stale.push(self.terms.key.clone());
                }
                self.remember(minted, turn);
                turn.shared.note_stray(&self.terms.key, self.terms.partition);
                self.report_siblings(turn);
                self.send(turn);
            }
            Stored::Durable => self.local = Local::Durable,
            Stored::Refused(error) => {
                let is_crowded = matches!(
                    error,
                    UpdateError::TooManySiblings(_) | UpdateError::SiblingsTooLong { .. }
                );
                turn.shared.counters.siblings_refused += u64::from(is_crowded);
                return Err(RequestError::Update(error));
            }
            Stored::Failed(error) if self.local == Local::Preparing => {
                return Err(RequestError::Storage(error));
            }
            // Another answer than a failure is never given to an operation; were it, the write must
            // end all the same.
            Stored::Failed(error) if sabotage::is(Bug::MadeSaidRefused) => {
                return Err(RequestError::Storage(error));
            }
            other => {
                if let Stored::Failed(error) = other {
                    self.disk = Some(error);
                }
                self.local = Local::Failed;
                self.keep(turn.me(), turn);
            }
        }
        Ok(())
    }

    /// Notes the write in the journal.
    fn remember(&self, minted: Option<Minted>, turn: &mut Turn<'_>) {
        if self.repeated || self.delta.is_empty() {
            return;
        }
        let mut write = Coordinated {
            node: turn.me(),
            minted,
            time: self.stamp,
            operation: self.operation.name().into(),
            name: self.terms.name.clone(),
            seen: Vec::new(),
            seen_more: false,
        };
        let held = self.view.value.0.iter().map(|(&tag, state)| (tag, state.context()));
        match self.operation.tag() {
            Some(Tag::BYTES) => write.note_seen([(Tag::BYTES, &self.terms.observed)]),
            Some(only) => write.note_seen(held.filter(|&(tag, _)| tag == only)),
            None => write.note_seen(held),
        }
        turn.shared.journal.record(&self.terms.key, write);
    }

    /// Notes that the put left many siblings, for its client and for the administrator.
    fn report_siblings(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.operation, Operation::Bytes(BytesOp::Put(_))) || self.repeated {
            return;
        }
        self.many_siblings = ManySiblings::of(&self.view, &self.terms.limits);
        let Some(many) = self.many_siblings else { return };
        turn.shared.counters.siblings_many += 1;
        if turn.shared.reported.is_due(&self.terms.key, turn.now.monotonic_ms) {
            let key = self.terms.key.clone();
            turn.effects.push(Effect::ManySiblings { key, many });
        }
    }

    /// Takes the engine's answer on what is kept for `owner`.
    fn deferred(&mut self, owner: NodeId, answer: &storage::Answer, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if *answer == storage::Answer::Durable || sabotage::is(Bug::RefusedHintCounts) {
            peer.hint = Hint::Durable;
        } else if let storage::Answer::Failed(full @ StorageError::HintsFull { bytes }) = answer {
            // What another owner has comes to this one when they are compared.
            peer.hint = Hint::Absent;
            turn.shared.counters.hints_refused += 1;
            turn.shared.note_full(owner, *bytes, turn.now.monotonic_ms);
            self.full = Some(full.clone());
        } else if peer.hint != Hint::Durable {
            peer.hint = Hint::Absent;
            self.keep(owner, turn);
        }
    }

    /// Has the delta tried again that the disk refused, for this node itself or in the outbox.
    fn keep(&self, owner: NodeId, turn: &mut Turn<'_>) {
        turn.unkept.push((owner, self.terms.key.clone(), self.delta.clone()));
    }

    /// Sends the delta to every other owner, and to those that a handover is to make owners: what
    /// these have already, they need not be sent again when it ends.
    fn send(&mut self, turn: &mut Turn<'_>) {
        let cover_ms = u64::from(turn.shared.config.cover_ms);
        self.terms.cover_at = turn.now.monotonic_ms.saturating_add(cover_ms);
        self.send_to(self.peers.keys().copied().collect(), turn);
        let partition = self.terms.partition;
        let Some(coming) = turn.shared.ownership.coming(partition) else { return };
        let coming: Vec<NodeId> = coming.owners(partition, self.terms.quorum.n.into()).collect();
        let is_new = |node: &NodeId| {
            *node != turn.me()
                && !self.peers.contains_key(node)
                && turn.shared.links.contains(node)
                && !turn.is_silent(*node)
        };
        let coming: Vec<NodeId> = coming.into_iter().filter(is_new).collect();
        let parts = if coming.is_empty() { Vec::new() } else { self.messages() };
        for node in coming {
            for delta in &parts {
                let delta = delta.clone();
                let body = Body::Merge { key: self.terms.key.clone(), delta, show: None };
                turn.ask(node, Waiter::Nobody, turn.shared.config.timeout_ms, body);
            }
        }
    }

    /// What is sent of the delta in one message each. Only what is removed whole can name more than
    /// an operation's own size allows.
    fn messages(&self) -> Vec<Delta> {
        match self.operation.scope() {
            Scope::Removal => message::parts(self.delta.clone()),
            _ => vec![self.delta.clone()],
        }
    }

    fn send_to(&mut self, nodes: Vec<NodeId>, turn: &mut Turn<'_>) {
        if nodes.is_empty() {
            return;
        }
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        let parts = self.messages();
        self.parts = parts.len();
        self.round += 1;
        for node in nodes {
            if !turn.shared.is_in_reach(node) {
                self.give_up(node, turn);
                continue;
            }
            let (is_silent, cover_at) = (turn.is_silent(node), turn.cover_at(node, Work::Write));
            for delta in &parts {
                let (key, show) = (self.terms.key.clone(), self.show.clone());
                let body = Body::Merge { key, delta: delta.clone(), show };
                let waiter = self.terms.waiter(self.round, node, PartKind::Ask);
                turn.ask_owner(node, waiter, budget_ms, self.terms.sequence, body);
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.parts = parts.len();
                peer.is_out = is_silent;
                peer.is_moved = false;
                (peer.round, peer.sequence) = (self.round, self.terms.sequence);
                peer.cover_at = if is_silent { turn.now.monotonic_ms } else { cover_at };
            }
        }
    }

    /// The owners are others now. What some of those before have durably they have, so it counts
    /// where they are owners still; the others are sent the delta, as are those who said so.
    fn rerouted(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me();
        let holders: Vec<NodeId> = self.terms.holders().filter(|&node| node != me).collect();
        self.peers.retain(|node, _| holders.contains(node));
        for &node in &holders {
            self.peers.entry(node).or_insert(Peer { is_moved: true, ..Peer::UNSENT });
        }
        if self.is_sent() {
            let again = self.peers.iter().filter(|(_, peer)| peer.is_moved && !peer.acked);
            self.send_to(again.map(|(&node, _)| node).collect(), turn);
        } else {
            self.observation.rerouted(&self.terms, turn);
        }
    }

    /// An owner knows of a tenure of `sequence`, later than the one by which it was sent the delta. It is
    /// sent it again once this node goes by that one: now, if it does already. What it was sent by this
    /// node's present tenure, and says this of, it is no owner for by what it knows: it would say so
    /// again.
    fn moved(&mut self, part: Part, sequence: Sequence, turn: &mut Turn<'_>) {
        let is_sent = self.is_sent();
        let Some(peer) = self.peers.get_mut(&part.node) else { return };
        if !is_sent || part.round != peer.round || part.kind != PartKind::Ask || peer.acked {
            return;
        }
        peer.is_moved = true;
        if sequence <= self.terms.sequence && peer.sequence < self.terms.sequence {
            self.send_to(vec![part.node], turn);
        }
    }

    fn acknowledged(
        &mut self,
        part: Part,
        merged: Result<Option<View>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(peer) = self.peers.get_mut(&part.node) else { return };
        if part.round != peer.round || part.kind != PartKind::Ask {
            return;
        }
        match merged {
            Ok(shown) => {
                peer.parts = peer.parts.saturating_sub(1);
                peer.acked = peer.parts == 0;
                if let Some(shown) = shown {
                    self.view.merge(&shown);
                }
            }
            Err(StorageError::Dropped) => self.covered_by_drop(part.node),
            Err(_) => self.give_up(part.node, turn),
        }
    }

    /// A node does not keep the delta for `owner` because its bucket was dropped: the owner needs
    /// none.
    fn covered_by_drop(&mut self, owner: NodeId) {
        self.is_dropped = true;
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.is_out = true;
            if matches!(peer.hint, Hint::None | Hint::Asked { .. }) {
                peer.hint = Hint::Absent;
            }
        }
    }

    /// Covers owners whose time is over, and keeps here what fallbacks did not keep in theirs.
    fn cover_late(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        let is_late = |peer: &Peer| !peer.acked && peer.wakes_at().is_some_and(|at| at <= now_ms);
        let late = self.peers.iter().filter(|(_, peer)| is_late(peer));
        for (node, hint) in late.map(|(&node, peer)| (node, peer.hint)).collect::<Vec<_>>() {
            if hint == Hint::None {
                self.cover(node, turn);
            } else {
                self.keep_here(node, turn);
            }
        }
    }

    /// Covers an owner that will not acknowledge.
    fn give_up(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.is_out = true;
            self.cover(owner, turn);
        }
    }

    /// An owner or fallback cannot be reached any more.
    fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.give_up(node, turn);
        let asked =
            |peer: &Peer| matches!(peer.hint, Hint::Asked { fallback, .. } if fallback == node);
        let owner = self.peers.iter().find(|(_, peer)| !peer.acked && asked(peer));
        if let Some((&owner, _)) = owner {
            self.keep_here(owner, turn);
        }
    }

    /// Ends soon: what is not kept by anyone for certain is kept here.
    fn hurry(&mut self, turn: &mut Turn<'_>) {
        for owner in self.peers.keys().copied().collect::<Vec<_>>() {
            self.keep_here(owner, turn);
        }
    }

    /// Has the delta kept for an owner that has not acknowledged it: by the next fallback, else
    /// here.
    fn cover(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if peer.acked || peer.hint != Hint::None {
            return;
        }
        if self.delta.is_empty() || sabotage::is(Bug::NoHints) {
            peer.hint = Hint::Absent;
            return;
        }
        turn.shared.counters.hinted_writes += 1;
        let Some(fallback) = self.next_fallback(turn) else {
            return self.keep_here(owner, turn);
        };
        self.fallbacks.insert(fallback);
        let until = turn.cover_at(fallback, Work::Write);
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.hint = Hint::Asked { fallback, until };
        }
        let budget_ms = self.terms.budget_ms(turn).max(turn.shared.config.cover_ms);
        let waiter = self.terms.waiter(0, owner, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        turn.ask(fallback, waiter, budget_ms, Body::Hint { owner, key, delta });
    }

    /// The next node of the preference list that can keep a hint. None for what is too long for
    /// one message.
    fn next_fallback(&self, turn: &Turn<'_>) -> Option<NodeId> {
        if self.parts > 1 {
            return None;
        }
        let list = turn.shared.preference_list(self.terms.partition);
        list.into_iter().skip(self.terms.owners.len()).find(|node| {
            *node != turn.me()
                && !self.terms.beside.contains(node)
                && turn.takes_charge(*node)
                && !self.fallbacks.contains(node)
        })
    }

    /// Takes a fallback's answer on what it is to keep for `owner`.
    fn hinted(&mut self, owner: NodeId, hinted: &Result<(), StorageError>, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        match hinted {
            Ok(()) => peer.hint = Hint::Durable,
            Err(StorageError::Dropped) => self.covered_by_drop(owner),
            Err(_) if matches!(peer.hint, Hint::Asked { .. }) => self.keep_here(owner, turn),
            Err(_) => {}
        }
    }

    /// Keeps the delta in this node's own outbox for an owner that has not acknowledged it.
    fn keep_here(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if peer.acked || !matches!(peer.hint, Hint::None | Hint::Asked { .. }) {
            return;
        }
        if self.delta.is_empty() {
            peer.hint = Hint::Absent;
            return;
        }
        turn.shared.counters.hinted_writes += u64::from(peer.hint == Hint::None);
        peer.hint = Hint::Waiting;
        turn.deferred.push(owner);
        let waiter = self.terms.waiter(0, owner, PartKind::Defer);
        let (key, delta) = (self.terms.key.clone(), self.delta.clone());
        let durability = turn.durability(&key);
        turn.store(waiter, Command::Defer { owner, key, delta, durability });
    }

    /// Whether nothing more can be learnt without a late acknowledgement.
    fn is_settled(&self) -> bool {
        matches!(self.local, Local::Durable | Local::Failed)
            && self.peers.values().all(|peer| peer.is_settled())
    }

    /// Whether every owner that may still acknowledge had the longest delay for it: to be covered
    /// sooner costs it nothing, to be answered without it would cost the client its quorum.
    fn is_patience_over(&self, turn: &Turn<'_>) -> bool {
        turn.now.monotonic_ms >= self.terms.cover_at
            || self.peers.values().all(|peer| peer.acked || peer.is_out)
    }

    /// Whether this node's own copy is that of an owner, or goes to one by a hint.
    fn is_kept_for_owners(&self, me: NodeId) -> bool {
        self.full.is_none() || self.terms.holders().any(|owner| owner == me)
    }

    /// Replies, if the time has come for it.
    fn conclude(&mut self, at_deadline: bool, turn: &mut Turn<'_>) {
        let quorum = self.terms.quorum;
        if self.replied || (!self.is_sent() && !at_deadline) {
            return;
        }
        let me = turn.me();
        let holds = |node: &NodeId| {
            *node == me && self.local == Local::Durable
                || self.peers.get(node).is_some_and(|peer| peer.acked)
        };
        let acked = self.terms.acked(holds) + u8::from(sabotage::is(Bug::OneAckTooMany));
        let hinted = |peer: &&Peer| peer.hint == Hint::Durable && !peer.acked;
        let hinted = u8::try_from(self.peers.values().filter(hinted).count()).unwrap_or(u8::MAX);
        let w_met = acked >= quorum.w;
        let always = quorum.availability == Availability::Always;
        let settled = self.is_settled() && self.is_patience_over(turn) && (always || w_met);
        if !(at_deadline || settled || w_met || self.is_dropped) {
            return;
        }
        self.replied = true;
        let partly_observed = !self.observation.is_met();
        turn.shared.counters.unmet_quorums += u64::from(!w_met || partly_observed);
        let has_copy = hinted > 0
            || self.local == Local::Durable && self.is_kept_for_owners(me)
            || self.peers.values().any(|peer| peer.acked);
        if self.is_dropped || !(w_met || (always && has_copy)) {
            let disk = self.disk.take().or(self.full.take());
            let unknown = RequestError::Unknown { acked, needed: quorum.w, disk };
            return turn.reply(self.terms.origin, Err(unknown));
        }
        let put = match &self.operation {
            Operation::Bytes(BytesOp::Put(value)) => Some(value),
            _ => None,
        };
        let mut view = std::mem::take(&mut self.view);
        let contexts = self.terms.contexts(&view, put, turn);
        let time = turn.present();
        view.expire(time.millis());
        let answer = Answer {
            view,
            changed: self.changed,
            repeated: self.repeated,
            raw: self.terms.raw,
            many_siblings: self.many_siblings,
            acks: Acks { owners: quorum.n, needed: quorum.w, answered: acked, hinted },
            partly_observed,
            contexts,
            time,
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
