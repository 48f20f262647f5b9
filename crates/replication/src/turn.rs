//! What a state machine may do while it takes its turn: send, store, reply, set a timer. Everything
//! it does becomes an effect, or an entry of the tables that bring answers back to it.
//!
//! Invariant: an answer reaches its waiter at most once. A message's number is used for one ask
//! only and forgotten with the first answer, so a copy made by the network finds nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use clock::{HybridClock, NodeId, Stamp};
use ring::{Ownership, Partition, Sequence, Token};
use storage::{Command, Durability, Ticket};
use values::{Delta, Key};

use crate::{
    Body, Buckets, CallId, Classes, CoreConfig, Effect, Message, NamedBy, Now, Reply, RequestError,
    RequestId, RequestName,
    anti_entropy::Asked,
    counters::Counters,
    handover::Stands,
    journal::Journal,
    keeper,
    latency::{Latencies, Work},
    registrar::Wait,
    replica::Question,
    reported::Reported,
};

/// Questions remembered after their asker has gone on, for what their answers tell of the peer. A
/// guess: more than one loop asks within the longest delay.
const LATE_MAX: usize = 4_096;

/// For so long, in milliseconds, nothing is written that only a hint would hold after one was refused because
/// there are too many: then it is seen whether there is room again. A guess.
const FULL_MS: u64 = 1_000;

/// Names a request under way within its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u64);

/// Who waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A request under way; `part` is its own note of what it asked.
    Request { slot: Slot, part: Part },
    /// Delivery of the outbox to this owner.
    Delivery(NodeId),
    /// A delta that the disk refused, tried again.
    Unkept(u64),
    /// Delivery, for whom anything is kept, when the core begins.
    OutboxOwners,
    /// Delivery, for what is kept for the owners of now in place of one that is none any more.
    Redirected(u64),
    /// Delivery, for the deletion of what this owner acknowledged.
    Delivered(NodeId),
    /// A peer that asked under this id.
    Peer { from: NodeId, id: RequestId, question: Question },
    /// A peer that compares what both hold.
    Compared { from: NodeId, id: RequestId, asked: Asked },
    /// This job of anti-entropy.
    AntiEntropy(u64),
    /// The registrar of bucket policies.
    Registrar(Wait),
    /// The keeper of the ownership of partitions.
    Keeper(keeper::Wait),
    /// The drain, for a core of a peer that is to pass nothing on any more.
    Drain,
    /// The handover, for where a peer stands in some partitions.
    Handover,
    /// A peer that asked where this node stands, or this node itself.
    Stands { from: NodeId, id: RequestId, stands: Vec<(Partition, Stands)> },
    /// The handover of this partition, for whether something is still held of it.
    Departure(Partition),
    /// The handover of this partition, for what was dropped of it.
    Dropped(Partition),
    /// Nobody: what is merged in the background is merged, or will be by someone else.
    Nobody,
}

/// A request's note of what it asked: in which of its rounds, and about which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) round: u32,
    /// The node asked; of a deferral, the owner deferred to.
    pub(crate) node: NodeId,
    pub(crate) kind: PartKind,
}

/// What a request's command was for, where one kind of answer has several causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// The request itself, at one replica.
    Ask,
    /// Keeping a delta in the outbox.
    Defer,
}

/// Whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Request(Slot),
    Delivery(NodeId),
    Unkept,
    Registrar,
    Keeper,
    Handover,
    AntiEntropy,
    Drain,
}

/// Where a request came from, so that its reply finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Client(CallId),
    Peer {
        from: NodeId,
        id: RequestId,
    },
    /// This core itself: nobody is replied to.
    Core,
}

/// A question sent to a peer.
#[derive(Clone, Debug)]
struct Ask {
    to: NodeId,
    waiter: Waiter,
    trace: u64,
    /// What the peer is timed at, and since when.
    timed: Option<(Work, u64)>,
}

/// What the time tells that a peer takes for `body`, if anything: what is sent in the background
/// is answered in its own time.
const fn timed(waiter: &Waiter, body: &Body) -> Option<Work> {
    match (waiter, body) {
        (Waiter::Request { .. }, Body::Read { .. } | Body::Digest { .. }) => Some(Work::Read),
        (Waiter::Request { .. }, Body::Merge { .. } | Body::Hint { .. }) => Some(Work::Write),
        (Waiter::Request { .. }, Body::Forward(_)) => Some(Work::Forward),
        _ => None,
    }
}

/// What all state machines of a core share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: CoreConfig,
    pub(crate) ownership: Arc<Ownership>,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) clock: HybridClock,
    pub(crate) links: BTreeSet<NodeId>,
    /// Nodes in reach that are about to stop: nothing is passed on to them, or kept there.
    pub(crate) draining: BTreeSet<NodeId>,
    pub(crate) counters: Counters,
    pub(crate) journal: Journal,
    pub(crate) reported: Reported,
    pub(crate) latencies: Latencies,
    /// Owners for which no more hints are kept, how many bytes there are, and until when that is taken for true.
    full: BTreeMap<NodeId, (u64, u64)>,
    /// Partitions that this node does not own and that were written to here.
    pub(crate) strayed: Vec<Partition>,
    asks: BTreeMap<u64, Ask>,
    /// Questions whose asker has gone on, by number.
    late: BTreeMap<u64, (NodeId, Work, u64)>,
    /// Who waits for the engine, and the trace of it.
    tickets: BTreeMap<Ticket, (Waiter, u64)>,
    timers: BTreeSet<(u64, Timer)>,
    timer_of: BTreeMap<Timer, u64>,
    next_number: u64,
    next_ticket: u64,
    /// On whose account the present event is dealt with ([`Message::trace`]).
    pub(crate) trace: u64,
    next_trace: u64,
}

impl Shared {
    pub(crate) fn new(config: CoreConfig, ownership: Arc<Ownership>) -> Self {
        Self {
            next_number: config.incarnation,
            next_ticket: 0,
            trace: 0,
            next_trace: config.incarnation.rotate_left(32) ^ u64::from(config.core),
            buckets: Arc::new(Buckets::new(
                &config.policies,
                config.default_policy,
                &config.limits,
            )),
            latencies: Latencies::new(config.cover_ms.into()),
            config,
            ownership,
            clock: HybridClock::default(),
            links: BTreeSet::new(),
            draining: BTreeSet::new(),
            counters: Counters::default(),
            journal: Journal::default(),
            reported: Reported::default(),
            full: BTreeMap::new(),
            strayed: Vec::new(),
            asks: BTreeMap::new(),
            late: BTreeMap::new(),
            tickets: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
        }
    }

    /// Whether a request can be given to `node`: it is this one, or its link is up.
    pub(crate) fn is_in_reach(&self, node: NodeId) -> bool {
        node == self.config.node || self.links.contains(&node)
    }

    /// The n of all buckets that this node knows of.
    pub(crate) fn classes(&self) -> Classes {
        Classes::of(&self.buckets.classes())
    }

    /// Costs an MD5.
    pub(crate) fn partition(&self, key: &Key) -> Partition {
        self.ownership.partition(Token::of(key.bucket(), key.key()))
    }

    /// The first `n` nodes of the preference list of a partition: those that are read.
    pub(crate) fn owners(&self, partition: Partition, n: u8) -> Vec<NodeId> {
        self.ownership.present(partition).owners(partition, usize::from(n)).collect()
    }

    /// All nodes in the order in which they would serve a partition's keys; last those that only a
    /// handover brings in.
    pub(crate) fn preference_list(&self, partition: Partition) -> Vec<NodeId> {
        let mut list = self.ownership.present(partition).preference_list(partition);
        if let Some(beside) = self.ownership.beside(partition) {
            let more = beside.preference_list(partition);
            let more = more.into_iter().filter(|node| !list.contains(node)).collect::<Vec<_>>();
            list.extend(more);
        }
        list
    }

    /// Whether this node is an owner of `key`, by whichever plan.
    pub(crate) fn is_owner(&self, key: &Key) -> bool {
        let n = self.buckets.of_key(key).policy.n;
        self.is_among_owners(self.partition(key), usize::from(n))
    }

    /// Whether `node` is an owner of `key`, which is in `partition`, by whichever plan, or is to be
    /// one.
    pub(crate) fn is_holder(&self, node: NodeId, key: &Key, partition: Partition) -> bool {
        let n = self.buckets.of_key(key).policy.n;
        let ownership = &self.ownership;
        let rings = [Some(ownership.present(partition)), ownership.beside(partition)];
        let mut rings = rings.into_iter().chain([ownership.coming(partition)]).flatten();
        rings.any(|ring| ring.is_owner(partition, usize::from(n), node))
    }

    /// Takes note that `key`, which is in `partition`, is written to here. If this node does not own
    /// it, it is to be brought to its owners, and dropped.
    pub(crate) fn note_stray(&mut self, key: &Key, partition: Partition) {
        if !self.is_holder(self.config.node, key, partition) {
            self.strayed.push(partition);
        }
    }

    /// Takes note that no more hints are kept for `owner` here.
    pub(crate) fn note_full(&mut self, owner: NodeId, bytes: u64, now_ms: u64) {
        self.full.insert(owner, (bytes, now_ms.saturating_add(FULL_MS)));
    }

    /// How many bytes of hints there are for `owner`, if no more were kept a moment ago.
    pub(crate) fn full_for(&self, owner: NodeId, now_ms: u64) -> Option<u64> {
        self.full.get(&owner).filter(|(_, until)| now_ms < *until).map(|&(bytes, _)| bytes)
    }

    /// Whether this node is one of the first `n` owners of a partition, by whichever plan.
    pub(crate) fn is_among_owners(&self, partition: Partition, n: usize) -> bool {
        let me = self.config.node;
        self.ownership.present(partition).is_owner(partition, n, me)
            || self.ownership.beside(partition).is_some_and(|ring| ring.is_owner(partition, n, me))
    }

    /// Who waits for the answer `id` of `from`, if anyone does.
    pub(crate) fn answered(&mut self, from: NodeId, id: RequestId, now: Now) -> Option<Waiter> {
        if id.core != self.config.core {
            return None;
        }
        let Some(ask) = self.asks.get(&id.number) else {
            self.answered_late(from, id.number, now);
            return None;
        };
        if ask.to != from {
            return None;
        }
        let ask = self.asks.remove(&id.number)?;
        if let Some((work, sent_ms)) = ask.timed {
            self.latencies.answered(from, work, sent_ms, now.monotonic_ms);
        }
        self.trace = ask.trace;
        Some(ask.waiter)
    }

    /// Takes note of how long an answer took for which nobody waits any more.
    fn answered_late(&mut self, from: NodeId, number: u64, now: Now) {
        let Some(&(to, work, sent_ms)) = self.late.get(&number) else { return };
        if to == from {
            self.late.remove(&number);
            self.latencies.answered(from, work, sent_ms, now.monotonic_ms);
        }
    }

    /// Forgets a question: its answer, should it still come, finds nobody.
    pub(crate) fn forget_ask(&mut self, number: u64) {
        let Some(Ask { to, timed: Some((work, sent_ms)), .. }) = self.asks.remove(&number) else {
            return;
        };
        if self.late.len() == LATE_MAX {
            self.late.pop_first();
        }
        self.late.insert(number, (to, work, sent_ms));
    }

    /// Who waits for an answer of the engine; `is_last` if no other follows under this ticket.
    pub(crate) fn stored(&mut self, ticket: Ticket, is_last: bool) -> Option<Waiter> {
        let known =
            if is_last { self.tickets.remove(&ticket) } else { self.tickets.get(&ticket).cloned() };
        let (waiter, trace) = known?;
        self.trace = trace;
        Some(waiter)
    }

    /// Begins something new, on its own account.
    pub(crate) const fn begin_trace(&mut self) {
        self.next_trace = self.next_trace.wrapping_add(1);
        self.trace = self.next_trace;
    }

    /// The number of the next command for the engine.
    pub(crate) const fn next_ticket(&self) -> Ticket {
        Ticket(self.next_ticket)
    }

    /// Whether a command before `ticket` is not answered yet.
    pub(crate) fn waits_for_before(&self, ticket: Ticket) -> bool {
        self.tickets.range(..ticket).next().is_some()
    }

    /// Commands given to the engine and not answered yet.
    pub(crate) fn stores_waiting(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The next timer that is due, taken off the list.
    pub(crate) fn due(&mut self, now: Now) -> Option<Timer> {
        let &(at, timer) = self.timers.first()?;
        if at > now.monotonic_ms {
            return None;
        }
        self.clear_timer(timer);
        Some(timer)
    }

    pub(crate) fn clear_timer(&mut self, timer: Timer) {
        if let Some(at) = self.timer_of.remove(&timer) {
            self.timers.remove(&(at, timer));
        }
    }
}

/// One state machine's turn.
pub(crate) struct Turn<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) now: Now,
    pub(crate) effects: &'a mut Vec<Effect>,
    /// Numbers of the questions sent in this turn, so that they can be forgotten with their asker.
    pub(crate) asked: Vec<u64>,
    /// Owners for which a delta was given to the outbox in this turn.
    pub(crate) deferred: Vec<NodeId>,
    /// Deltas that the disk refused in this turn, and for whom.
    pub(crate) unkept: Vec<(NodeId, Key, Delta)>,
    /// Keys of which this node's replica shows something due that others do not.
    pub(crate) stale: Vec<Key>,
    /// Whether a request was replied to in this turn.
    pub(crate) replied: bool,
}

impl<'a> Turn<'a> {
    pub(crate) const fn new(
        shared: &'a mut Shared,
        now: Now,
        effects: &'a mut Vec<Effect>,
    ) -> Self {
        Self {
            shared,
            now,
            effects,
            asked: Vec::new(),
            deferred: Vec::new(),
            unkept: Vec::new(),
            stale: Vec::new(),
            replied: false,
        }
    }

    pub(crate) const fn me(&self) -> NodeId {
        self.shared.config.node
    }

    /// When a write of this key is acknowledged here.
    pub(crate) fn durability(&self, key: &Key) -> Durability {
        self.shared.buckets.of_key(key).policy.durability
    }

    /// Whether `node` has owed an answer for so long that nobody waits for it.
    pub(crate) fn is_silent(&self, node: NodeId) -> bool {
        self.shared.latencies.is_silent(node, self.now.monotonic_ms)
    }

    /// Whether `node` is in reach and may be given what it is to see to by itself.
    pub(crate) fn takes_charge(&self, node: NodeId) -> bool {
        self.shared.is_in_reach(node)
            && !self.shared.draining.contains(&node)
            && !self.is_silent(node)
    }

    /// Until when `node`, asked now, is waited for alone.
    pub(crate) fn cover_at(&self, node: NodeId, work: Work) -> u64 {
        self.now.monotonic_ms.saturating_add(self.shared.latencies.delay_ms(node, work))
    }

    /// A stamp later than everything that this core gave or saw.
    pub(crate) fn stamp(&mut self) -> Stamp {
        self.shared.clock.tick(self.now.wall_ms)
    }

    /// The present in hybrid time: what this core gave or saw last, and no earlier than the wall clock.
    /// By it is judged what is due.
    pub(crate) fn present(&mut self) -> Stamp {
        self.shared.clock.observe(Stamp::from_millis(self.now.wall_ms));
        self.shared.clock.latest()
    }

    /// Sends a question to be answered within `budget_ms`, whatever the ownership is.
    pub(crate) fn ask(&mut self, to: NodeId, waiter: Waiter, budget_ms: u32, body: Body) -> u64 {
        self.ask_owner(to, waiter, budget_ms, Sequence::default(), body)
    }

    /// Sends a question whose answer counts as that of an owner of its key by the tenure of
    /// `sequence`, and by no later one.
    pub(crate) fn ask_owner(
        &mut self,
        to: NodeId,
        waiter: Waiter,
        budget_ms: u32,
        sequence: Sequence,
        body: Body,
    ) -> u64 {
        let id = self.next_id();
        if waiter != Waiter::Nobody {
            let (trace, now_ms) = (self.shared.trace, self.now.monotonic_ms);
            let timed = timed(&waiter, &body).map(|work| (work, now_ms));
            if let Some((work, _)) = timed
                && self.shared.latencies.asked(to, work, now_ms)
            {
                self.effects.push(Effect::TimedOut(to));
            }
            self.shared.asks.insert(id.number, Ask { to, waiter, trace, timed });
            self.asked.push(id.number);
        }
        self.send(to, id, budget_ms, sequence, body);
        id.number
    }

    /// A name for a request that this core passes on: unique, since its numbers are.
    pub(crate) fn name(&mut self) -> RequestName {
        let RequestId { core, number } = self.next_id();
        let client = Bytes::from(format!("{:?}", self.me()));
        RequestName { by: NamedBy::Node, client, id: Bytes::from(format!("{core}.{number:x}")) }
    }

    /// Answers a peer's question.
    pub(crate) fn answer(&mut self, to: NodeId, id: RequestId, body: Body) {
        self.send(to, id, 0, Sequence::default(), body);
    }

    fn send(&mut self, to: NodeId, id: RequestId, budget_ms: u32, sequence: Sequence, body: Body) {
        let (trace, time) = (self.shared.trace, self.shared.clock.latest());
        let message = Message { id, trace, sequence, time, budget_ms, body };
        self.effects.push(Effect::Send { to, message });
    }

    fn next_id(&mut self) -> RequestId {
        let number = self.shared.next_number;
        self.shared.next_number = number.wrapping_add(1);
        RequestId { core: self.shared.config.core, number }
    }

    /// Gives the engine a command.
    pub(crate) fn store(&mut self, waiter: Waiter, command: Command) {
        let ticket = Ticket(self.shared.next_ticket);
        self.shared.next_ticket = self.shared.next_ticket.wrapping_add(1);
        self.shared.tickets.insert(ticket, (waiter, self.shared.trace));
        self.effects.push(Effect::Storage { ticket, command });
    }

    /// Replies to whoever a request came from.
    pub(crate) fn reply(&mut self, origin: Origin, result: Result<crate::Answer, RequestError>) {
        self.replied = true;
        match origin {
            Origin::Client(id) => self.reply_to(id, result.map(Reply::Answer)),
            Origin::Peer { from, id } => self.answer(from, id, Body::Forwarded(result)),
            Origin::Core => {}
        }
    }

    pub(crate) fn reply_to(&mut self, id: CallId, reply: Result<Reply, RequestError>) {
        self.replied = true;
        self.effects.push(Effect::Reply { id, reply });
    }

    /// Sets `timer` to go off at `at_ms`, instead of whenever it was set to.
    pub(crate) fn set_timer(&mut self, timer: Timer, at_ms: u64) {
        self.shared.clear_timer(timer);
        self.shared.timers.insert((at_ms, timer));
        self.shared.timer_of.insert(timer, at_ms);
    }

    /// Sets `timer` unless it is set.
    pub(crate) fn set_timer_if_none(&mut self, timer: Timer, at_ms: u64) {
        if !self.shared.timer_of.contains_key(&timer) {
            self.set_timer(timer, at_ms);
        }
    }
}
