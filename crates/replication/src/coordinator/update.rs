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

mod hints;
mod observation;
mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::{CausalContext, NodeId, Stamp};
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
    policies::text,
    turn::{PartKind, Slot, Timer, Turn},
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
    /// Whether it showed that it durably knows the operation, which a partial delta is sent to nobody before.
    is_sure: bool,
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
        is_sure: false,
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
    /// Whether the delta says that the operation was done, and not all that it took away: it counts at nobody but those
    /// who know it, and is sent to them alone.
    is_partial: bool,
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
        Self {
            show: shows_sum(&operation).then(|| operation.scope()),
            observation: Observation::new(operation.scope(), observed_owners(&operation, &terms)),
            terms,
            operation,
            local: Local::Observing,
            view: View::default(),
            changed: 0,
            repeated: false,
            is_partial: false,
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
                let knows = shown.as_ref().is_ok_and(|view| self.knows(view));
                self.observation.shown(part, shown, knows, &self.terms, turn);
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

    /// Whether who shows this knows the operation, which has a name.
    fn knows(&self, view: &View) -> bool {
        let nothing = CausalContext::default();
        self.terms.named.is_some_and(|actor| self.operation.is_known(view, &nothing, actor))
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
            shown: self.observation.take_views(),
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
            Stored::Prepared { delta, changed, repeated, partial, is_here, minted, view } => {
                self.local = if is_here { Local::Merged } else { Local::Failed };
                (self.view, self.changed, self.delta) = (view, changed, delta);
                (self.repeated, self.is_partial) = (repeated, partial);
                turn.shared.counters.writes_repeated += u64::from(repeated);
                if self.delta.is_empty() && self.is_sweep() {
                    turn.stale.push(self.terms.key.clone());
                }
                self.remember(minted, turn);
                turn.shared.note_stray(&self.terms.key, self.terms.partition);
                self.report_siblings(turn);
                self.send(turn);
            }
            // It was not merged here.
            Stored::Durable if self.is_partial && self.local == Local::Failed => {}
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
                if !self.is_partial {
                    self.keep(turn.me(), turn);
                }
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

/// How many owners an operation must observe.
fn observed_owners(operation: &Operation, terms: &Terms) -> u8 {
    let quorum = terms.quorum;
    match operation {
        Operation::Expiry(ExpiryOp::Sweep) if sabotage::is(Bug::DueByOneView) => 0,
        // What w owners have acknowledged must be seen: a deadline may have been taken away.
        Operation::Expiry(ExpiryOp::Sweep) => quorum.all_acknowledged(),
        _ if sabotage::is(Bug::RemovalObservesNobody) || !operation.removes_observed() => 0,
        // What was done already counts at those who show that they know it.
        _ if terms.named.is_some() => quorum.r.max(quorum.w),
        _ => quorum.r,
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
