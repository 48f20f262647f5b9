//! The core of a node: routes what happens to the state machines that wait for it.
//!
//! Pure: time and answers come in as [`Event`]s, everything to be done goes out as [`Effect`]s, in
//! order. Given the same events it does the same. It never blocks, and nothing that a peer may send
//! makes it panic: an answer that nobody waits for is ignored, everything asked is answered.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use clock::NodeId;
use ring::Ring;
use storage::Ticket;
use values::Tag;

use crate::{
    Action, Body, Call, CallId, CoreConfig, Effect, Event, Message, Now, Request, RequestError,
    coordinator::{self, Coordinator, Forward, Get, Input, Progress, Scan, Terms, Update},
    counters::Counters,
    delivery::Delivery,
    forwards::Forwards,
    replica,
    turn::{Origin, Shared, Slot, Timer, Turn, Waiter},
    unkept::Unkept,
};

/// Commands that peers may have waiting for the engine at once, per request that may be under way:
/// as many as one coordinator gives it in the worst case.
const COMMANDS_PER_REQUEST: usize = 8;

/// A request under way, and its questions to peers.
#[derive(Debug)]
struct Running {
    coordinator: Coordinator,
    asked: Vec<u64>,
    /// Whether it was replied to, and goes on in the background.
    replied: bool,
    trace: u64,
}

/// Coordinators, replica and outbox delivery of one event loop of a node.
#[derive(Debug)]
pub struct Core {
    shared: Shared,
    running: BTreeMap<Slot, Running>,
    next_slot: u64,
    /// How many of `running` were not replied to.
    waiting: usize,
    /// The latest that were replied to, the oldest first; some are done.
    background: VecDeque<Slot>,
    delivery: Delivery,
    unkept: Unkept,
    forwards: Forwards,
}

impl Core {
    /// A core with nothing under way and no link up.
    pub fn new(config: CoreConfig, ring: Ring) -> Self {
        Self {
            shared: Shared::new(config, ring),
            running: BTreeMap::new(),
            next_slot: 0,
            waiting: 0,
            background: VecDeque::new(),
            delivery: Delivery::default(),
            unkept: Unkept::default(),
            forwards: Forwards::default(),
        }
    }

    /// Takes note of what happened, and appends what must now be done.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        self.shared.begin_trace();
        match event {
            Event::Call { id, call } => self.call(id, call, now, effects),
            Event::Received { from, message } => self.received(from, message, now, effects),
            Event::Storage { ticket, answer } => self.stored(ticket, answer, now, effects),
            Event::LinkUp(node) => {
                self.shared.links.insert(node);
                self.delivery.link_up(node, &mut Turn::new(&mut self.shared, now, effects));
            }
            Event::LinkDown(node) => self.link_down(node, now, effects),
            Event::Tick => self.tick(now, effects),
        }
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Now::monotonic_ms`].
    pub fn next_timeout(&self) -> Option<u64> {
        self.shared.next_timeout()
    }

    /// What was done so far.
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Requests under way, those included that were replied to and go on in the background.
    pub fn under_way(&self) -> usize {
        self.running.len()
    }

    /// On whose account the last event was dealt with: [`Message::trace`] of all that was sent.
    pub const fn trace(&self) -> u64 {
        self.shared.trace
    }

    /// The ring that keys are placed by.
    pub const fn ring(&self) -> &Ring {
        &self.shared.ring
    }

    /// Whether the link to `node` is up.
    pub fn is_in_reach(&self, node: NodeId) -> bool {
        self.shared.is_in_reach(node)
    }

    /// Whether there is no room for another request. Writes replied to stay while the own disk does
    /// not answer; then there is none for writes, while reads go on.
    fn is_full(&self, writes: bool) -> bool {
        let requests_max = self.shared.config.requests_max;
        self.waiting >= requests_max || writes && self.running.len() >= 2 * requests_max
    }

    fn call(&mut self, id: CallId, call: Call, now: Now, effects: &mut Vec<Effect>) {
        let writes =
            matches!(&call, Call::Request(request) if matches!(request.action, Action::Update(_)));
        if self.is_full(writes) {
            self.shared.counters.overloaded += 1;
            effects.push(Effect::Reply { id, reply: Err(RequestError::Overloaded) });
            return;
        }
        let slot = self.next_slot();
        let coordinator = match call {
            Call::Request(request) => {
                return self.request(slot, Origin::Client(id), request, now, effects);
            }
            Call::Scan(request) => Coordinator::Scan(Box::new(Scan::new(id, request))),
            Call::Count { bucket } => Coordinator::Count(coordinator::Count::new(id, bucket)),
            Call::Explain(key) => {
                Coordinator::Explain(Box::new(coordinator::Explain::new(id, key)))
            }
        };
        self.begin(slot, coordinator, now, effects);
    }

    /// Begins a request on a key: here, or at a replica of the key.
    fn request(
        &mut self,
        slot: Slot,
        origin: Origin,
        request: Request,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let coordinator = match coordinate(slot, origin, request, &mut turn) {
            Ok(coordinator) => coordinator,
            Err(error) => return turn.reply(origin, Err(error)),
        };
        self.begin(slot, coordinator, now, effects);
    }

    fn begin(&mut self, slot: Slot, coordinator: Coordinator, now: Now, effects: &mut Vec<Effect>) {
        self.running.insert(
            slot,
            Running { coordinator, asked: Vec::new(), replied: false, trace: self.shared.trace },
        );
        self.waiting += 1;
        self.resume(slot, Input::Begin, now, effects);
    }

    /// Gives a request its turn, and forgets it when it is done.
    ///
    /// Replied to, it no longer counts against the requests that may be under way; that those in
    /// the background are bounded all the same, the oldest is told to end soon.
    fn resume(&mut self, slot: Slot, input: Input, now: Now, effects: &mut Vec<Effect>) {
        let Some(running) = self.running.get_mut(&slot) else { return };
        self.shared.trace = running.trace;
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let progress = running.coordinator.step(slot, input, &mut turn);
        running.asked.append(&mut turn.asked);
        for owner in std::mem::take(&mut turn.deferred) {
            self.delivery.deferred(owner, &mut turn);
        }
        for (owner, key, delta) in std::mem::take(&mut turn.unkept) {
            self.unkept.keep(owner, key, delta, &mut turn);
        }
        if turn.replied && !running.replied {
            running.replied = true;
            self.waiting -= 1;
            self.background.push_back(slot);
        }
        if progress == Progress::Done {
            for &number in &running.asked {
                self.shared.forget_ask(number);
            }
            self.shared.clear_timer(Timer::Request(slot));
            if let Some(Running { replied: false, .. }) = self.running.remove(&slot) {
                self.waiting -= 1;
            }
        }
        if self.background.len() > self.shared.config.requests_max
            && let Some(oldest) = self.background.pop_front()
        {
            self.resume(oldest, Input::Hurry, now, effects);
        }
    }

    fn received(&mut self, from: NodeId, message: Message, now: Now, effects: &mut Vec<Effect>) {
        let Message { id, trace, time, budget_ms, body } = message;
        self.shared.trace = trace;
        self.shared.clock.observe(time);
        match body {
            Body::Forward(request) => {
                self.forwarded(from, id, budget_ms, request, now, effects);
            }
            Body::Read { .. }
            | Body::Merge { .. }
            | Body::List { .. }
            | Body::Count { .. }
            | Body::Explain { .. } => {
                let bound = self.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if turn.shared.stores_waiting() >= bound {
                    return replica::refuse(from, id, &body, &mut turn);
                }
                replica::ask(from, id, body, &mut turn);
            }
            Body::Forwarded(_)
            | Body::Shown(_)
            | Body::Merged(_)
            | Body::Listed(_)
            | Body::Counted(_)
            | Body::Explained { .. } => match self.shared.answered(from, id) {
                Some(Waiter::Request { slot, part }) => {
                    self.resume(slot, Input::Answered { part, body }, now, effects);
                }
                Some(Waiter::Delivery(owner)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Body::Merged(merged) = &body {
                        self.delivery.merged(owner, id.number, merged, &mut turn);
                    }
                }
                Some(
                    Waiter::Delivered(_) | Waiter::Unkept(_) | Waiter::Peer { .. } | Waiter::Nobody,
                )
                | None => {}
            },
        }
    }

    /// Coordinates a request for a node that is no replica of its key, unless it is a copy of one
    /// that was taken already.
    fn forwarded(
        &mut self,
        from: NodeId,
        id: crate::RequestId,
        budget_ms: u32,
        mut request: Request,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if !self.forwards.take(from, id) {
            self.shared.counters.forwards_repeated += 1;
            return;
        }
        let origin = Origin::Peer { from, id };
        if self.is_full(matches!(request.action, Action::Update(_))) {
            self.shared.counters.overloaded += 1;
            let mut turn = Turn::new(&mut self.shared, now, effects);
            return turn.reply(origin, Err(RequestError::Overloaded));
        }
        request.timeout_ms = (budget_ms > 0).then_some(budget_ms).or(request.timeout_ms);
        let slot = self.next_slot();
        self.request(slot, origin, request, now, effects);
    }

    fn stored(
        &mut self,
        ticket: Ticket,
        answer: storage::Answer,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_last = !matches!(answer, storage::Answer::Prepared { .. });
        match self.shared.stored(ticket, is_last) {
            Some(Waiter::Request { slot, part }) => {
                self.resume(slot, Input::Stored { part, answer }, now, effects);
            }
            Some(Waiter::Delivery(owner)) => {
                let page = match answer {
                    storage::Answer::Outbox(page) => Ok(page),
                    storage::Answer::Failed(error) => Err(error),
                    _ => return,
                };
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.listed(owner, page, &mut turn);
            }
            Some(Waiter::Delivered(owner)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.delivered(owner, &answer, &mut turn);
            }
            Some(Waiter::Peer { from, id, question }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                replica::answer(from, id, question, answer, &mut turn);
            }
            Some(Waiter::Unkept(number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(owner) = self.unkept.stored(number, &answer, &mut turn) {
                    self.delivery.deferred(owner, &mut turn);
                }
            }
            Some(Waiter::Nobody) | None => {}
        }
    }

    fn link_down(&mut self, node: NodeId, now: Now, effects: &mut Vec<Effect>) {
        if !self.shared.links.remove(&node) {
            return;
        }
        self.delivery.link_down(node, &mut Turn::new(&mut self.shared, now, effects));
        for slot in self.running.keys().copied().collect::<Vec<_>>() {
            self.resume(slot, Input::LinkDown(node), now, effects);
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.shared.due(now) {
            match timer {
                Timer::Request(slot) => self.resume(slot, Input::Time, now, effects),
                Timer::Delivery(owner) => {
                    self.delivery.time(owner, &mut Turn::new(&mut self.shared, now, effects));
                }
                Timer::Unkept => {
                    self.unkept.time(&mut Turn::new(&mut self.shared, now, effects));
                }
            }
        }
    }

    const fn next_slot(&mut self) -> Slot {
        self.next_slot = self.next_slot.wrapping_add(1);
        Slot(self.next_slot)
    }
}

/// The coordinator of a request. A read is coordinated by any node; a write by the first owner in
/// reach, or the first fallback, and by this node if it is an owner or was forwarded to.
fn coordinate(
    slot: Slot,
    origin: Origin,
    request: Request,
    turn: &mut Turn<'_>,
) -> Result<Coordinator, RequestError> {
    if request.timeout_ms == Some(0) {
        return Err(RequestError::TimeLimit);
    }
    let operation = match request.action {
        Action::Get(ref scope) => {
            let scope = scope.clone();
            let terms = Terms::of(&request, Tag::BYTES, slot, origin, turn)?;
            return Ok(Coordinator::Get(Box::new(Get::new(terms, scope))));
        }
        Action::Update(ref operation) => operation,
    };
    let me = turn.me();
    if let Origin::Client(_) = origin {
        operation.check_size(&turn.shared.config.limits)?;
        let quorum = coordinator::quorum(&request, turn.shared)?;
        let to = write_coordinator(&request, quorum.n, turn.shared);
        if to != me {
            turn.shared.counters.forwards += 1;
            let deadline = coordinator::deadline(request.timeout_ms, turn);
            let forward = Forward::new(origin, request, to, quorum.w, deadline, turn);
            return Ok(Coordinator::Forward(forward));
        }
    }
    let operation = operation.clone();
    let tag = operation.tag().unwrap_or(Tag::BYTES);
    let terms = Terms::of(&request, tag, slot, origin, turn)?;
    Ok(Coordinator::Update(Box::new(Update::new(terms, operation, me))))
}

/// Who coordinates a write that this node accepted.
fn write_coordinator(request: &Request, n: u8, shared: &Shared) -> NodeId {
    let me = shared.config.node;
    let partition = shared.partition(&request.key);
    if shared.ring.is_owner(partition, usize::from(n), me) {
        return me;
    }
    let owners = shared.ring.owners(partition, usize::from(n));
    if let Some(owner) = { owners }.find(|&owner| shared.is_in_reach(owner)) {
        return owner;
    }
    let list = shared.ring.preference_list(partition);
    list.into_iter().find(|&node| shared.is_in_reach(node)).unwrap_or(me)
}
