//! Requests under way: begun, made to follow one another, told what they wait for, and ended.

use sabotage::Bug;
use storage::ROW_KEY_MAX;
use values::{ExpiryOp, Key, Operation};

use super::{Core, Running, SWEEP_TURN_MS};
use crate::{
    Action, BucketCall, BucketReply, Call, CallId, Effect, Now, Reply, Request, RequestError,
    coordinator::{self, Coordinator, Input, Progress, Scan},
    turn::{Origin, Slot, Timer, Turn},
};

/// The length of the place after which a listing is to go on, if it is longer than any that one gives.
fn beyond_any_place(call: &Call) -> Option<usize> {
    let place = match call {
        Call::Scan(request) => &request.cursor.as_ref()?.after.as_ref()?.0,
        Call::Conflicts(request) => &request.cursor.as_ref()?.after.0,
        _ => return None,
    };
    (place.len() > ROW_KEY_MAX).then_some(place.len())
}

impl Core {
    /// Takes a request that comes after another of the same call, on the same key, and whether others are to find it.
    pub(super) fn following(
        &mut self,
        (id, is_followed): (CallId, bool),
        request: Request,
        after: Option<CallId>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let after = after.and_then(|after| self.calls.get(&after).copied());
        let slot = self.request(Origin::Client(id), request, after, now, effects);
        if !is_followed {
            return;
        }
        // What comes after one that was refused, at once or when it began, comes after the one before it.
        let slot = slot.filter(|slot| self.running.get(slot.0).is_some());
        let Some(slot) = slot.or(after) else { return };
        if let Some(running) = self.running.get_mut(slot.0) {
            let before = running.call.replace(id);
            self.calls.insert(id, slot);
            before.map(|before| self.calls.remove(&before));
        }
    }

    pub(super) fn call(&mut self, id: CallId, call: Call, now: Now, effects: &mut Vec<Effect>) {
        if let Some(bytes) = beyond_any_place(&call) {
            let error = format!(
                "a cursor of {bytes} bytes is none of ours; send the next of the page before, unchanged"
            );
            return effects.push(Effect::Reply { id, reply: Err(RequestError::Cursor(error)) });
        }
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
    pub(super) fn buckets(
        &mut self,
        id: CallId,
        call: BucketCall,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
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
    pub(super) fn due(&mut self, keys: &[(Key, u64)], now: Now, effects: &mut Vec<Effect>) {
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
            let is_alone = in_reach < usize::from(quorum.all_acknowledged());
            if waited_ms < place * SWEEP_TURN_MS || is_alone && !sabotage::is(Bug::DueByOneView) {
                continue;
            }
            self.request(Origin::Core, sweep, None, now, effects);
        }
    }

    /// Begins a request on a key, here or at a replica of the key, once `after` lets it pass.
    /// `None` if it was refused.
    pub(super) fn request(
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
    pub(super) fn enter(
        &mut self,
        slot: Slot,
        mut coordinator: Coordinator,
        after: Option<Slot>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.waiting += 1;
        let before = after.map(|after| self.last_behind(after));
        let before = before.and_then(|before| self.running.get_mut(before.0));
        let before = before.filter(|before| {
            before.is_held || !before.coordinator.lets_pass(&coordinator, before.replied)
        });
        let is_held = before.is_some();
        if let Some(before) = before {
            before.next = Some(slot);
        }
        let begins = !is_held || coordinator.hold();
        let ends_at = coordinator.deadline().filter(|_| !begins);
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
        self.running.insert(slot.0, running);
        if let Some(at) = ends_at {
            self.shared.set_timer(Timer::Request(slot), at);
        }
        if begins {
            self.resume(slot, Input::Begin, now, effects);
        }
    }

    /// The last of those that wait for the one in `slot`, each for the one before it.
    pub(super) fn last_behind(&self, mut slot: Slot) -> Slot {
        while let Some(next) = self.running.get(slot.0).and_then(|running| running.next) {
            slot = next;
        }
        slot
    }

    /// Has what waited for the one in `slot`, which ended while it waited itself, wait for the one before it. Returns
    /// whether there is one.
    fn passes_on(&mut self, slot: Slot, next: Option<Slot>) -> bool {
        let before = self.running.iter_mut().find(|(_, before)| before.next == Some(slot));
        before.map(|(_, before)| before.next = next).is_some()
    }

    /// The request that waits for the one in `slot`, and what it is told, if that lets it pass now.
    pub(super) fn released(&mut self, slot: Slot, next: Slot) -> Option<(Slot, Input)> {
        let waiting = self.running.get(next.0)?;
        if let Some(before) = self.running.get(slot.0)
            && (before.is_held
                || !before.coordinator.lets_pass(&waiting.coordinator, before.replied))
        {
            return None;
        }
        if let Some(before) = self.running.get_mut(slot.0) {
            before.next = None;
        }
        let waiting = self.running.get_mut(next.0)?;
        waiting.is_held = false;
        let is_begun = matches!(waiting.coordinator, Coordinator::Update(_));
        Some((next, if is_begun { Input::Released } else { Input::Begin }))
    }

    /// Gives a request its turn, and forgets it when it is done.
    ///
    /// Replied to, it no longer counts against the requests that may be under way; that those in
    /// the background are bounded all the same, the oldest is told to end soon.
    pub(super) fn resume(&mut self, slot: Slot, input: Input, now: Now, effects: &mut Vec<Effect>) {
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
    pub(super) fn advance(
        &mut self,
        slot: Slot,
        input: Input,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<(Slot, Input)> {
        let running = self.running.get_mut(slot.0)?;
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
            if let Some(running) = self.running.remove(slot.0) {
                self.waiting -= usize::from(!running.replied);
                if let Some(call) = running.call {
                    self.calls.remove(&call);
                }
                if running.is_held && self.passes_on(slot, next) {
                    return None;
                }
            }
        }
        self.released(slot, next?)
    }
}
