//! The core of a node: routes what happens to the state machines that wait for it.
//!
//! Pure: time and answers come in as [`Event`]s, everything to be done goes out as [`Effect`]s, in
//! order. Given the same events it does the same. It never blocks, and nothing that a peer may send
//! makes it panic: an answer that nobody waits for is ignored, everything asked is answered.

mod marks;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clock::NodeId;
use ring::{Ownership, Partition, Ring, Tenure};
use storage::{StorageError, Ticket};
use values::{ExpiryOp, Key, Operation, Scope};

use crate::{
    Action, Body, BucketCall, BucketReply, Call, CallId, ComparisonSummary, CoreConfig, Effect,
    Event, Message, Now, Reply, Request, RequestError,
    anti_entropy::AntiEntropy,
    coordinator::{self, Coordinator, Input, Progress, Scan},
    counters::Counters,
    delivery::Delivery,
    drain::Drain,
    forwards::Forwards,
    handover::{Handover, Stands, Transfer},
    keeper::Keeper,
    registrar::Registrar,
    replica::{self, Question},
    turn::{Origin, Shared, Slot, Timer, Turn, Waiter},
    unkept::Unkept,
};

/// Commands that peers may have waiting for the engine at once, per request that may be under way:
/// as many as one coordinator gives it in the worst case.
pub(crate) const COMMANDS_PER_REQUEST: usize = 8;

/// A request under way, and its questions to peers.
#[derive(Debug)]
struct Running {
    coordinator: Coordinator,
    asked: Vec<u64>,
    /// Whether it was replied to, and goes on in the background.
    replied: bool,
    /// Whether it waits until an earlier request has gone before it.
    is_held: bool,
    /// The later request that waits for this one.
    next: Option<Slot>,
    /// The key of what came from another node, until it is released and, if it writes, made.
    gate: Option<Key>,
    /// What it was called under, if others may have to follow it.
    call: Option<CallId>,
    trace: u64,
}

impl Running {
    /// Whether it is a write that is not made yet.
    fn is_unmade(&self) -> bool {
        matches!(&self.coordinator, Coordinator::Update(update) if !update.is_made())
    }
}

/// For so long each owner leaves what is due to those before it. A guess.
const SWEEP_TURN_MS: u64 = 5_000;

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
    /// Requests that others of the same call may have to follow.
    calls: BTreeMap<CallId, Slot>,
    /// The last write of each key that came from another node and is not made yet: what comes after
    /// it must not overtake it.
    forwarded: BTreeMap<Key, Slot>,
    delivery: Delivery,
    unkept: Unkept,
    forwards: Forwards,
    /// Keys that are to be read from all owners, so that what they lack is repaired.
    stale: Vec<Key>,
    anti_entropy: AntiEntropy,
    handover: Handover,
    /// What is looked for on the barrier's behalf.
    looked: marks::Looked,
    drain: Drain,
    /// Whether it was looked what the process before left to be delivered.
    is_begun: bool,
    /// In the first core of a node.
    registrar: Option<Registrar>,
    keeper: Option<Keeper>,
}

impl Core {
    /// A core with nothing under way and no link up.
    pub fn new(config: CoreConfig, ownership: Arc<Ownership>) -> Self {
        let registrar = (config.core == 0).then(|| Registrar::new(config.policies.clone()));
        let keeper = (config.core == 0).then(|| Keeper::new(&ownership, config.commits.clone()));
        Self {
            registrar,
            keeper,
            anti_entropy: AntiEntropy::new(&config),
            handover: Handover::default(),
            looked: marks::Looked::default(),
            drain: Drain::default(),
            is_begun: false,
            shared: Shared::new(config, ownership),
            running: BTreeMap::new(),
            next_slot: 0,
            waiting: 0,
            background: VecDeque::new(),
            calls: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            delivery: Delivery::default(),
            unkept: Unkept::default(),
            forwards: Forwards::default(),
            stale: Vec::new(),
        }
    }

    /// Takes note of what happened, and appends what must now be done.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        self.shared.begin_trace();
        match event {
            Event::Call { id, call } => self.call(id, call, now, effects),
            Event::Request { id, request, after } => {
                self.following(id, request, after, now, effects);
            }
            Event::Received { from, message } => self.received(from, message, now, effects),
            Event::Storage { ticket, answer } => self.stored(ticket, answer, now, effects),
            Event::LinkUp(node) => {
                self.shared.links.insert(node);
                self.shared.draining.remove(&node);
                self.shared.latencies.relinked(node);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.link_up(node, &mut turn);
                self.anti_entropy.link_up(node, &mut turn);
                self.drain.link_up(node, &mut turn);
                if let Some(registrar) = &mut self.registrar {
                    registrar.link_up(node, &mut turn);
                }
                if let Some(keeper) = &mut self.keeper {
                    keeper.link_up(node, &mut turn);
                }
            }
            Event::Due { keys } => self.due(&keys, now, effects),
            Event::Ring(ring) => self.begin_with(ring, now, effects),
            Event::Names(names) => self.shared.config.names = names,
            Event::Suspected { node, suspected } => {
                self.shared.latencies.suspected(node, suspected);
            }
            Event::Drain => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.drain.begin(&mut turn);
                self.delivery.hurry(&mut turn);
            }
            Event::Buckets(buckets) => self.shared.buckets = buckets,
            Event::Ownership(ownership) => self.own(ownership, now, effects),
            Event::Tenures { tenures, of } => self.learn(tenures, of, now, effects),
            Event::LinkDown(node) => self.link_down(node, now, effects),
            Event::Tick => self.tick(now, effects),
        }
        for key in std::mem::take(&mut self.stale) {
            if !self.is_full(false) {
                let mut read = Request::get(key, Scope::Whole);
                read.level.r = Some(self.shared.buckets.of_key(&read.key).policy.n);
                self.request(Origin::Core, read, None, now, effects);
            }
        }
        self.hand_over(now, effects);
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Now::monotonic_ms`].
    pub fn next_timeout(&self) -> Option<u64> {
        self.shared.next_timeout()
    }

    /// What was done so far.
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// How long ago this core's partitions were found equal with other owners.
    pub fn compared(&self, now: Now) -> ComparisonSummary {
        self.anti_entropy.summary(now.monotonic_ms)
    }

    /// Requests under way, those included that were replied to and go on in the background.
    pub fn under_way(&self) -> usize {
        self.running.len()
            + usize::from(self.registrar.as_ref().is_some_and(Registrar::is_busy))
            + usize::from(self.keeper.as_ref().is_some_and(Keeper::is_busy))
    }

    /// On whose account the last event was dealt with: [`Message::trace`] of all that was sent.
    pub const fn trace(&self) -> u64 {
        self.shared.trace
    }

    /// The handovers that this core has a part in, by partition.
    pub fn transfers(&self) -> Vec<Transfer> {
        self.handover.transfers(&self.shared)
    }

    /// Who owns partitions, as this core knows it.
    pub const fn ownership(&self) -> &Arc<Ownership> {
        &self.shared.ownership
    }

    /// Whether a node in reach has all that this core's node knows of the ownership. Of the first core only;
    /// `true` for any other.
    pub fn is_ownership_known(&self) -> bool {
        self.keeper.as_ref().is_none_or(Keeper::is_known)
    }

    /// Whether nobody in reach passes anything on to this node any more, which is about to stop. Of the first
    /// core; of any other that it is about to stop.
    pub fn is_drain_known(&self) -> bool {
        self.drain.is_known()
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

    /// Takes a request that comes after another of the same call, on the same key.
    fn following(
        &mut self,
        id: CallId,
        request: Request,
        after: Option<CallId>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let after = after.and_then(|after| self.calls.get(&after).copied());
        let slot = self.request(Origin::Client(id), request, after, now, effects);
        // What comes after one that was refused comes after the one before it.
        let Some(slot) = slot.or(after) else { return };
        if let Some(running) = self.running.get_mut(&slot) {
            let before = running.call.replace(id);
            self.calls.insert(id, slot);
            before.map(|before| self.calls.remove(&before));
        }
    }

    fn call(&mut self, id: CallId, call: Call, now: Now, effects: &mut Vec<Effect>) {
        let slot = self.next_slot();
        let coordinator = match call {
            Call::Request(request) => {
                self.request(Origin::Client(id), request, None, now, effects);
                return;
            }
            _ if self.is_full(false) => {
                self.shared.counters.overloaded += 1;
                effects.push(Effect::Reply { id, reply: Err(RequestError::Overloaded) });
                return;
            }
            Call::Buckets(call) => return self.buckets(id, call, now, effects),
            Call::Ownership(call) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                let Some(keeper) = &mut self.keeper else {
                    let error = RequestError::Unsupported("plans are committed by core 0".into());
                    return turn.reply_to(id, Err(error));
                };
                return keeper.call(id, call, &mut turn);
            }
            Call::Repair(request) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                let progress = self.anti_entropy.repair(&request, &mut turn);
                return turn.reply_to(id, Ok(Reply::Repair(progress)));
            }
            Call::Comparisons => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                let found = self.anti_entropy.comparisons(&turn);
                return turn.reply_to(id, Ok(Reply::Comparisons(found)));
            }
            Call::Scan(request) => Coordinator::Scan(Box::new(Scan::new(id, request))),
            Call::Count { bucket } => Coordinator::Count(coordinator::Count::new(id, bucket)),
            Call::Conflicts(request) => {
                Coordinator::Conflicts(coordinator::Conflicts::new(id, request))
            }
            Call::Explain(key) => {
                Coordinator::Explain(Box::new(coordinator::Explain::new(id, key)))
            }
        };
        self.enter(slot, coordinator, None, now, effects);
    }

    /// Answers a question about buckets at once; a change is the registrar's.
    fn buckets(&mut self, id: CallId, call: BucketCall, now: Now, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let reply = match call {
            BucketCall::List => Ok(BucketReply::Listed(turn.shared.buckets.list())),
            BucketCall::Show { name } => {
                let bucket = turn.shared.buckets.live(&name);
                bucket.map(|bucket| BucketReply::Shown(bucket.info(&name))).map_err(Into::into)
            }
            change => match &mut self.registrar {
                Some(registrar) => return registrar.change(id, change, &mut turn),
                None => Err(RequestError::Unsupported("buckets are changed by core 0".into())),
            },
        };
        turn.reply_to(id, reply.map(Reply::Buckets));
    }

    /// Begins to remove what is due of keys: as the first of their owners, or as one of the others
    /// where those before it have had the time to do it.
    fn due(&mut self, keys: &[(Key, u64)], now: Now, effects: &mut Vec<Effect>) {
        let present_ms = Turn::new(&mut self.shared, now, effects).present().millis();
        for (key, deadline_ms) in keys {
            if self.shared.buckets.is_gone(key) || self.is_full(true) {
                continue;
            }
            let sweep = Request::update(key.clone(), Operation::Expiry(ExpiryOp::Sweep));
            let partition = self.shared.partition(key);
            let Ok(quorum) = coordinator::quorum(&sweep, partition, &self.shared) else { continue };
            let owners = self.shared.owners(partition, quorum.n);
            let place = owners.iter().position(|owner| *owner == self.shared.config.node);
            let Some(place) = place.and_then(|place| u64::try_from(place).ok()) else { continue };
            let waited_ms = present_ms.saturating_sub(*deadline_ms);
            let in_reach = owners.iter().filter(|&&owner| self.shared.is_in_reach(owner)).count();
            if waited_ms < place * SWEEP_TURN_MS
                || in_reach < usize::from(quorum.all_acknowledged())
            {
                continue;
            }
            self.request(Origin::Core, sweep, None, now, effects);
        }
    }

    /// Begins a request on a key, here or at a replica of the key, once `after` lets it pass.
    /// `None` if it was refused.
    fn request(
        &mut self,
        origin: Origin,
        request: Request,
        after: Option<Slot>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<Slot> {
        let slot = self.next_slot();
        let is_full = self.is_full(matches!(request.action, Action::Update(_)));
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let chosen = if is_full {
            turn.shared.counters.overloaded += 1;
            Err(RequestError::Overloaded)
        } else {
            coordinator::choose(slot, origin, request, &mut turn)
        };
        match chosen {
            Ok(coordinator) => {
                self.enter(slot, coordinator, after, now, effects);
                Some(slot)
            }
            Err(error) => {
                turn.reply(origin, Err(error));
                None
            }
        }
    }

    /// Enters a request, and lets it begin unless it has to follow `after`.
    fn enter(
        &mut self,
        slot: Slot,
        mut coordinator: Coordinator,
        after: Option<Slot>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.waiting += 1;
        let before = after.map(|after| self.last_behind(after));
        let before = before.and_then(|before| self.running.get_mut(&before));
        let before = before.filter(|before| {
            before.is_held || !before.coordinator.lets_pass(&coordinator, before.replied)
        });
        let is_held = before.is_some();
        if let Some(before) = before {
            before.next = Some(slot);
        }
        let begins = !is_held || coordinator.hold();
        let trace = self.shared.trace;
        let running = Running {
            coordinator,
            asked: Vec::new(),
            replied: false,
            is_held,
            next: None,
            gate: None,
            call: None,
            trace,
        };
        self.running.insert(slot, running);
        if begins {
            self.resume(slot, Input::Begin, now, effects);
        }
    }

    /// The last of those that wait for the one in `slot`, each for the one before it.
    fn last_behind(&self, mut slot: Slot) -> Slot {
        while let Some(next) = self.running.get(&slot).and_then(|running| running.next) {
            slot = next;
        }
        slot
    }

    /// The request that waits for the one in `slot`, and what it is told, if that lets it pass now.
    fn released(&mut self, slot: Slot, next: Slot) -> Option<(Slot, Input)> {
        let waiting = self.running.get(&next)?;
        if let Some(before) = self.running.get(&slot)
            && (before.is_held
                || !before.coordinator.lets_pass(&waiting.coordinator, before.replied))
        {
            return None;
        }
        if let Some(before) = self.running.get_mut(&slot) {
            before.next = None;
        }
        let waiting = self.running.get_mut(&next)?;
        waiting.is_held = false;
        let is_begun = matches!(waiting.coordinator, Coordinator::Update(_));
        Some((next, if is_begun { Input::Released } else { Input::Begin }))
    }

    /// Gives a request its turn, and forgets it when it is done.
    ///
    /// Replied to, it no longer counts against the requests that may be under way; that those in
    /// the background are bounded all the same, the oldest is told to end soon.
    fn resume(&mut self, slot: Slot, input: Input, now: Now, effects: &mut Vec<Effect>) {
        let mut next = Some((slot, input));
        let mut trace = None;
        loop {
            while let Some((slot, input)) = next {
                next = self.advance(slot, input, now, effects);
            }
            if self.background.len() <= self.shared.config.requests_max {
                self.shared.trace = trace.unwrap_or(self.shared.trace);
                return;
            }
            // What hurries is another request; the event stays this one's.
            trace = trace.or(Some(self.shared.trace));
            next = self.background.pop_front().map(|oldest| (oldest, Input::Hurry));
        }
    }

    /// Gives one request its turn. Returns the one that waited for it to go before, if it may go on.
    fn advance(
        &mut self,
        slot: Slot,
        input: Input,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<(Slot, Input)> {
        let running = self.running.get_mut(&slot)?;
        self.shared.trace = running.trace;
        let mut turn = Turn::new(&mut self.shared, now, effects);
        let progress = running.coordinator.step(slot, input, &mut turn);
        running.asked.append(&mut turn.asked);
        for owner in std::mem::take(&mut turn.deferred) {
            self.delivery.deferred(owner, &mut turn);
        }
        self.stale.append(&mut turn.stale);
        for (owner, key, delta) in std::mem::take(&mut turn.unkept) {
            self.unkept.keep(owner, key, delta, &mut turn);
        }
        if turn.replied && !running.replied {
            running.replied = true;
            self.waiting -= 1;
            self.background.push_back(slot);
        }
        let next = running.next;
        if progress == Progress::Done || !running.is_unmade() {
            let key = running.gate.take();
            if let Some(key) = key.filter(|key| self.forwarded.get(key) == Some(&slot)) {
                self.forwarded.remove(&key);
            }
        }
        if progress == Progress::Done {
            for &number in &running.asked {
                self.shared.forget_ask(number);
            }
            self.shared.clear_timer(Timer::Request(slot));
            if let Some(running) = self.running.remove(&slot) {
                self.waiting -= usize::from(!running.replied);
                if let Some(call) = running.call {
                    self.calls.remove(&call);
                }
            }
        }
        self.released(slot, next?)
    }

    fn received(&mut self, from: NodeId, message: Message, now: Now, effects: &mut Vec<Effect>) {
        let Message { id, trace, sequence, time, budget_ms, body } = message;
        if let Body::Moved { partition, tenure } = body {
            let of = Arc::clone(&self.shared.ownership);
            self.learn(vec![(partition, tenure)], of, now, effects);
        }
        self.shared.trace = trace;
        self.shared.clock.observe(time);
        match body {
            Body::Forward(request) => {
                self.forwarded(from, id, budget_ms, request, now, effects);
            }
            Body::Policies { digest, entries } => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                match &mut self.registrar {
                    Some(registrar) => registrar.told(from, id, digest, entries, &mut turn),
                    None => turn.answer(from, id, Body::PoliciesKnown(Err(StorageError::Busy))),
                }
            }
            Body::Ownership { digest, tenures, whole } => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                match &mut self.keeper {
                    Some(keeper) => keeper.told((from, id), digest, tenures, whole, &mut turn),
                    None => turn.answer(from, id, Body::OwnershipKnown(Err(StorageError::Busy))),
                }
            }
            Body::Stand { partition } => {
                let bound = self.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                // Unanswered, it is asked again.
                if turn.shared.stores_waiting() < bound {
                    self.handover.asked(from, id, partition, &mut turn);
                }
            }
            Body::Draining { .. } => {
                self.shared.draining.insert(from);
                let cores = self.shared.config.shards.engines();
                let cores = u8::try_from(cores).unwrap_or(u8::MAX);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                turn.answer(from, id, Body::DrainingKnown { cores });
            }
            Body::Hint { owner, .. }
                if self.drain.is_begun() && owner != self.shared.config.node =>
            {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                turn.answer(from, id, Body::Hinted(Err(StorageError::Busy)));
            }
            Body::Compare(compare) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.asked(from, id, compare, &mut turn);
            }
            Body::Read { .. }
            | Body::Digest { .. }
            | Body::Merge { .. }
            | Body::Hint { .. }
            | Body::List { .. }
            | Body::Count { .. }
            | Body::Explain { .. } => {
                let bound = self.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if turn.shared.stores_waiting() >= bound {
                    return replica::refuse(from, id, &body, &mut turn);
                }
                replica::ask(from, id, sequence, body, &mut turn);
            }
            Body::Forwarded(_)
            | Body::Shown(_)
            | Body::Digested(_)
            | Body::Merged(_)
            | Body::Hinted(_)
            | Body::Listed { .. }
            | Body::Counted(_)
            | Body::PoliciesKnown(_)
            | Body::OwnershipKnown(_)
            | Body::Stands { .. }
            | Body::Moved { .. }
            | Body::Compared(_)
            | Body::DrainingKnown { .. }
            | Body::Explained { .. } => match self.shared.answered(from, id, now) {
                Some(Waiter::Request { slot, part }) => {
                    self.resume(slot, Input::Answered { part, body }, now, effects);
                }
                Some(Waiter::Delivery(owner)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    match &body {
                        Body::Merged(merged) => {
                            self.delivery.merged(owner, id.number, merged, &mut turn);
                        }
                        Body::Hinted(hinted) => {
                            let kept = hinted.clone().map(|()| None);
                            self.delivery.merged(owner, id.number, &kept, &mut turn);
                        }
                        // Listed once more, it is kept for the owners of then.
                        Body::Moved { .. } => {
                            let failed = Err(StorageError::Busy);
                            self.delivery.merged(owner, id.number, &failed, &mut turn);
                        }
                        _ => {}
                    }
                }
                Some(Waiter::Registrar(wait)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Some(registrar) = &mut self.registrar {
                        registrar.answered(wait, body, &mut turn);
                    }
                }
                Some(Waiter::Keeper(wait)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Some(keeper) = &mut self.keeper {
                        keeper.answered(wait, body, &mut turn);
                    }
                }
                Some(Waiter::Handover(partition)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Body::Stands { sequence, ready, classes } = body {
                        let stands = Stands { sequence, ready, classes };
                        self.handover.stood(from, partition, stands, &mut turn);
                    }
                }
                Some(Waiter::Drain) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Body::DrainingKnown { cores } = body {
                        self.drain.answered(from, id.number, cores, &mut turn);
                    }
                }
                Some(Waiter::AntiEntropy(job)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    self.anti_entropy.answered(job, id.number, body, &mut turn);
                }
                Some(
                    Waiter::Delivered(_)
                    | Waiter::Redirected(_)
                    | Waiter::OutboxOwners
                    | Waiter::Unkept(_)
                    | Waiter::Peer { .. }
                    | Waiter::Compared { .. }
                    | Waiter::Stands { .. }
                    | Waiter::Departure(_)
                    | Waiter::Dropped(_)
                    | Waiter::Nobody,
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
        if self.drain.is_begun() {
            let refused = Err(RequestError::Stopping);
            let mut turn = Turn::new(&mut self.shared, now, effects);
            return turn.answer(from, id, Body::Forwarded(refused));
        }
        request.timeout_ms = (budget_ms > 0).then_some(budget_ms).or(request.timeout_ms);
        let key = request.key.clone();
        let after = self.forwarded.get(&key).copied();
        let origin = Origin::Peer { from, id };
        let Some(slot) = self.request(origin, request, after, now, effects) else { return };
        let running = self.running.get_mut(&slot);
        if let Some(running) = running.filter(|running| running.is_held || running.is_unmade()) {
            running.gate = Some(key.clone());
            self.forwarded.insert(key, slot);
        }
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
            Some(Waiter::OutboxOwners) => {
                let storage::Answer::OutboxOwners(owners) = answer else { return };
                let mut turn = Turn::new(&mut self.shared, now, effects);
                for owner in owners {
                    self.delivery.rerouted(owner, &mut turn);
                }
            }
            Some(Waiter::Redirected(number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.redirected(number, &answer, &mut turn);
            }
            Some(Waiter::Delivered(owner)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.delivered(owner, &answer, &mut turn);
            }
            Some(Waiter::Peer { from, id, question }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Question::Hint(owner) = question {
                    let is_kept = answer == storage::Answer::Durable;
                    turn.shared.counters.hints_taken += u64::from(is_kept);
                    // Also what a disk refused may be on it.
                    self.delivery.deferred(owner, &mut turn);
                }
                replica::answer(from, id, question, answer, &mut turn);
            }
            Some(Waiter::AntiEntropy(job)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.stored(job, answer, &mut turn);
            }
            Some(Waiter::Compared { from, id, asked }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.told(from, id, asked, answer, &mut turn);
            }
            Some(Waiter::Unkept(number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(owner) = self.unkept.stored(number, &answer, &mut turn) {
                    self.delivery.deferred(owner, &mut turn);
                }
            }
            Some(Waiter::Registrar(wait)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(registrar) = &mut self.registrar {
                    registrar.stored(wait, answer, &mut turn);
                }
            }
            Some(Waiter::Stands { from, id, partition, stands }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                let is_durable = answer == storage::Answer::Durable;
                if from == turn.me() {
                    // Failed, it stands where nothing is to be hoped for, and is asked again.
                    let stands = if is_durable { stands } else { Stands::default() };
                    self.handover.stood(from, partition, stands, &mut turn);
                } else if is_durable {
                    let Stands { sequence, ready, classes } = stands;
                    turn.answer(from, id, Body::Stands { sequence, ready, classes });
                }
            }
            Some(Waiter::Departure(partition)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.handover.looked(partition, &answer, &mut turn);
            }
            Some(Waiter::Dropped(partition)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.handover.dropped(partition, &answer, &mut turn);
            }
            Some(Waiter::Handover(_) | Waiter::Drain) => {}
            Some(Waiter::Keeper(_)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(keeper) = &mut self.keeper {
                    keeper.stored(&answer, &mut turn);
                }
                self.own_what_is_kept(now, effects);
            }
            Some(Waiter::Nobody) | None => {}
        }
    }

    /// Lets handovers and anti-entropy, which they want to compare partitions, go on.
    fn hand_over(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.is_begun, true) && !self.shared.ownership.is_first() {
            // Those who are gone for good never come for it.
            let mut turn = Turn::new(&mut self.shared, now, effects);
            turn.store(Waiter::OutboxOwners, storage::Command::OutboxOwners);
        }
        loop {
            let mut turn = Turn::new(&mut self.shared, now, effects);
            self.handover.look(&mut turn);
            for partition in std::mem::take(&mut turn.shared.strayed) {
                self.handover.strayed(partition, &mut turn);
            }
            let (wants, found) = (self.handover.take_wants(), self.anti_entropy.take_found());
            let decisions = self.handover.take_decisions();
            if wants.is_empty() && found.is_empty() && decisions.is_empty() {
                return;
            }
            for want in wants {
                self.anti_entropy.want(want, &mut turn);
            }
            for found in found {
                self.handover.found(found, &mut turn);
            }
            if !decisions.is_empty() {
                let of = Arc::clone(&self.shared.ownership);
                self.learn(decisions, of, now, effects);
            }
        }
    }

    /// Goes by what the keeper has on disk.
    fn own_what_is_kept(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let kept = self.keeper.as_ref().map(|keeper| Arc::clone(keeper.ownership()));
        if let Some(kept) = kept.filter(|kept| !Arc::ptr_eq(kept, &self.shared.ownership)) {
            self.own(kept, now, effects);
        }
    }

    /// Has tenures kept that one of this node's cores made, or was told of.
    fn learn(
        &mut self,
        tenures: Vec<(Partition, Tenure)>,
        of: Arc<Ownership>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match &mut self.keeper {
            Some(keeper) => {
                keeper.learn(tenures, &of, &mut Turn::new(&mut self.shared, now, effects));
            }
            None => effects.push(Effect::Tenures { tenures, of }),
        }
    }

    /// Takes the ring with which the cluster began, if this node did not know it.
    fn begin_with(&mut self, ring: Ring, now: Now, effects: &mut Vec<Effect>) {
        let mut ownership = Ownership::clone(&self.shared.ownership);
        if !ownership.join(&Ownership::new(ring)).is_changed() {
            return;
        }
        let ownership = Arc::new(ownership);
        if let Some(keeper) = &mut self.keeper {
            keeper.begin_with(&ownership);
        }
        self.own(ownership, now, effects);
    }

    /// Goes by another ownership from now on.
    fn own(&mut self, ownership: Arc<Ownership>, now: Now, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.shared.ownership, ownership);
        let has_other_plans = |(a, b): (&Ownership, &Ownership)| {
            !a.plans().map(ring::Plan::id).eq(b.plans().map(ring::Plan::id))
        };
        if has_other_plans((&before, &self.shared.ownership)) {
            let mut turn = Turn::new(&mut self.shared, now, effects);
            for &node in before.members() {
                self.delivery.rerouted(node, &mut turn);
            }
        }
        let is_begun = |running: &Running| {
            !running.is_held || matches!(running.coordinator, Coordinator::Update(_))
        };
        let begun = self.running.iter().filter(|(_, running)| is_begun(running));
        for slot in begun.map(|(&slot, _)| slot).collect::<Vec<_>>() {
            self.resume(slot, Input::Rerouted, now, effects);
        }
    }

    fn link_down(&mut self, node: NodeId, now: Now, effects: &mut Vec<Effect>) {
        if !self.shared.links.remove(&node) {
            return;
        }
        self.shared.draining.remove(&node);
        self.shared.latencies.relinked(node);
        let mut turn = Turn::new(&mut self.shared, now, effects);
        self.drain.link_down(node, &mut turn);
        self.delivery.link_down(node, &mut turn);
        self.anti_entropy.link_down(node, &mut turn);
        self.handover.link_down(node, &mut turn);
        if let Some(registrar) = &mut self.registrar {
            registrar.link_down(node, &mut turn);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.link_down(node, &mut turn);
        }
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
                Timer::Registrar => {
                    if let Some(registrar) = &mut self.registrar {
                        registrar.time(&mut Turn::new(&mut self.shared, now, effects));
                    }
                }
                Timer::Keeper => {
                    if let Some(keeper) = &mut self.keeper {
                        keeper.time(&mut Turn::new(&mut self.shared, now, effects));
                    }
                }
                Timer::Handover => {
                    self.handover.time(&mut Turn::new(&mut self.shared, now, effects));
                }
                Timer::AntiEntropy => {
                    self.anti_entropy.time(&mut Turn::new(&mut self.shared, now, effects));
                }
                Timer::Drain => {
                    self.drain.time(&mut Turn::new(&mut self.shared, now, effects));
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
