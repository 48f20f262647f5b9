//! What a state machine may do while it takes its turn: send, store, reply, set a timer. Everything
//! it does becomes an effect, or an entry of the tables that bring answers back to it.
//!
//! Invariant: an answer reaches its waiter at most once. A message's number is used for one ask
//! only and forgotten with the first answer, so a copy made by the network finds nobody.

use bytes::Bytes;
use clock::{NodeId, Stamp};
use ring::{Partition, Sequence};
use storage::{Command, Durability, Ticket};
use values::{Delta, Key};

use crate::{
    Body, CallId, Effect, Message, NamedBy, Now, Reply, RequestError, RequestId, RequestName,
    anti_entropy::Asked, handover::Stands, keeper, latency::Work, registrar::Wait,
    replica::Question,
};

mod shared;
mod timers;

pub(crate) use shared::Shared;
use shared::{Ask, timed};
use timers::Timers;

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
    /// Delivery, for a delta, by number, that is kept for these owners in place of one that is none any more.
    Redirected { number: u64, from: NodeId, owners: Vec<NodeId> },
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
    /// The departure of this number from a partition, for whether something is still held of that.
    Departure(Partition, u64),
    /// The departure of this number from a partition, for what was dropped of that.
    Dropped(Partition, u64),
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
            self.shared.asked(id.number, Ask { to, waiter, trace, timed });
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
        self.shared.tickets.insert(ticket.0, (waiter, self.shared.trace));
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
        self.shared.set_timer(timer, at_ms);
    }

    /// Sets `timer` unless it is set.
    pub(crate) fn set_timer_if_none(&mut self, timer: Timer, at_ms: u64) {
        if !self.shared.timers.is_set(timer) {
            self.set_timer(timer, at_ms);
        }
    }
}
