//! What all state machines of a core share: configuration and counters, and the tables that tell whom an answer or
//! a timer is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::{HybridClock, NodeId};
use ring::{Ownership, Partition, Token};
use storage::Ticket;
use values::Key;

use super::{Timer, Timers, Waiter};
use crate::{
    Body, Buckets, Classes, CoreConfig, Now, RequestId,
    counters::Counters,
    handover::Seen,
    journal::Journal,
    latency::{Latencies, Work},
    numbered::Numbered,
    reported::Reported,
};

/// Questions remembered after their asker has gone on, for what their answers tell of the peer. A
/// guess: more than one loop asks within the longest delay.
const LATE_MAX: usize = 4_096;

/// For so long, in milliseconds, nothing is written that only a hint would hold after one was refused because
/// there are too many: then it is seen whether there is room again. A guess.
const FULL_MS: u64 = 1_000;

/// A question sent to a peer.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) to: NodeId,
    pub(super) waiter: Waiter,
    pub(super) trace: u64,
    /// What the peer is timed at, and since when.
    pub(super) timed: Option<(Work, u64)>,
}

/// What the time tells that a peer takes for `body`, if anything: what is sent in the background
/// is answered in its own time.
pub(super) const fn timed(waiter: &Waiter, body: &Body) -> Option<Work> {
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
    /// What comparisons saw of partitions in this step.
    pub(crate) seen: Vec<Seen>,
    /// Questions waited for, by how many numbers after the first one theirs is.
    asks: Numbered<Ask>,
    /// Questions whose asker has gone on, by number.
    late: BTreeMap<u64, (NodeId, Work, u64)>,
    /// Who waits for the engine, and the trace of it.
    pub(super) tickets: Numbered<(Waiter, u64)>,
    pub(super) timers: Timers,
    pub(super) next_number: u64,
    pub(super) next_ticket: u64,
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
            seen: Vec::new(),
            asks: Numbered::default(),
            late: BTreeMap::new(),
            tickets: Numbered::default(),
            timers: Timers::default(),
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

    pub(crate) fn partition(&self, key: &Key) -> Partition {
        self.ownership.partition(Token(key.identifier()))
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

    /// How many numbers after the first one of this core `number` is.
    const fn nth(&self, number: u64) -> u64 {
        number.wrapping_sub(self.config.incarnation)
    }

    /// Takes note of a question sent under `number`.
    pub(super) fn asked(&mut self, number: u64, ask: Ask) {
        self.asks.insert(self.nth(number), ask);
    }

    /// Who waits for the answer `id` of `from`, if anyone does.
    pub(crate) fn answered(&mut self, from: NodeId, id: RequestId, now: Now) -> Option<Waiter> {
        if id.core != self.config.core {
            return None;
        }
        let Some(ask) = self.asks.get(self.nth(id.number)) else {
            self.answered_late(from, id.number, now);
            return None;
        };
        if ask.to != from {
            return None;
        }
        let ask = self.asks.remove(self.nth(id.number))?;
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
        let Some(Ask { to, timed: Some((work, sent_ms)), .. }) = self.asks.remove(self.nth(number))
        else {
            return;
        };
        if self.late.len() == LATE_MAX {
            self.late.pop_first();
        }
        self.late.insert(number, (to, work, sent_ms));
    }

    /// Who waits for an answer of the engine; `is_last` if no other follows under this ticket.
    pub(crate) fn stored(&mut self, ticket: Ticket, is_last: bool) -> Option<Waiter> {
        let known = if is_last {
            self.tickets.remove(ticket.0)
        } else {
            self.tickets.get(ticket.0).cloned()
        };
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
        self.tickets.first().is_some_and(|first| first < ticket.0)
    }

    /// Commands given to the engine and not answered yet.
    pub(crate) fn stores_waiting(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// The next timer that is due, taken off the list.
    pub(crate) fn due(&mut self, now: Now) -> Option<Timer> {
        self.timers.due(now.monotonic_ms)
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, at_ms: u64) {
        self.timers.set(timer, at_ms);
    }

    pub(crate) fn clear_timer(&mut self, timer: Timer) {
        self.timers.clear(timer);
    }
}
