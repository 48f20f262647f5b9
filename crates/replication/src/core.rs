//! The core of a node: routes what happens to the state machines that wait for it.
//!
//! Pure: time and answers come in as [`Event`]s, everything to be done goes out as [`Effect`]s, in
//! order. Given the same events it does the same. It never blocks, and nothing that a peer may send
//! makes it panic: an answer that nobody waits for is ignored, everything asked is answered.

mod marks;
mod messages;
mod owning;
mod requests;
mod stored;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clock::NodeId;
use ring::Ownership;
use sabotage::Bug;
use values::{Key, Scope};

use crate::{
    CallId, ComparisonSummary, CoreConfig, Effect, Event, Now, Request,
    anti_entropy::AntiEntropy,
    coordinator::{Coordinator, Input},
    counters::Counters,
    delivery::Delivery,
    drain::Drain,
    forwards::Forwards,
    handover::{Flow, Handover, Part, Transfer},
    keeper::Keeper,
    numbered::Numbered,
    registrar::Registrar,
    turn::{Origin, Shared, Slot, Timer, Turn},
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
    const fn waits_for_late_answers(&self) -> bool {
        self.replied && matches!(self.coordinator, Coordinator::Get(_))
    }
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
    /// By slot.
    running: Numbered<Running>,
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
        let mut shared = Shared::new(config, ownership);
        // A handover that the process before had a part in goes on, though nothing happens to this one.
        shared.set_timer(Timer::Handover, 0);
        Self {
            registrar,
            keeper,
            anti_entropy: AntiEntropy::new(&shared.config),
            handover: Handover::default(),
            looked: marks::Looked::default(),
            drain: Drain::default(),
            is_begun: false,
            shared,
            running: Numbered::default(),
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
            Event::Request { id, request, after, is_followed } => {
                self.following((id, is_followed), request, after, now, effects);
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

    /// Requests that wait for their replies.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests under way, those included that were replied to and go on in the background; but for reads that wait for
    /// late answers, for whom nothing needs to wait.
    pub fn under_way(&self) -> usize {
        self.running.iter().filter(|(_, running)| !running.waits_for_late_answers()).count()
            + usize::from(self.registrar.as_ref().is_some_and(Registrar::is_busy))
            + usize::from(self.keeper.as_ref().is_some_and(Keeper::is_busy))
    }

    /// On whose account the last event was dealt with: [`Message::trace`](crate::Message::trace) of all that was sent.
    pub const fn trace(&self) -> u64 {
        self.shared.trace
    }

    /// The handovers that this core has a part in, by partition.
    pub fn transfers(&self) -> Vec<Transfer> {
        self.handover.transfers(&self.shared)
    }

    /// How many there are of each part; a part with none is left out.
    pub fn parts(&self) -> BTreeMap<Part, u64> {
        self.handover.parts()
    }

    /// How they go on, all of one part together: a look at each of them.
    pub fn flows(&self, now: Now) -> Vec<Flow> {
        let comparing = self.anti_entropy.comparing(&self.shared, now.monotonic_ms);
        self.handover.flows(&self.shared, &comparing, now.monotonic_ms)
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
        !sabotage::is(Bug::RequestsUnbounded)
            && (self.waiting >= requests_max || writes && self.running.len() >= 2 * requests_max)
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
        for slot in self.running.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.resume(Slot(slot), Input::LinkDown(node), now, effects);
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
