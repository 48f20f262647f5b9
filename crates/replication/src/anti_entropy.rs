//! Anti-entropy: replicas are compared in the background and brought to the same (Dynamo §4.7).
//!
//! A session (`session`) compares what this node and one peer hold of the partitions of one shard that
//! both own: the sum of their hash trees' roots first, in one message, then only what differs. Keys
//! that differ are exchanged in both directions (`key`, `elements`). One session at a time goes on in
//! each core, within a budget of bytes, and slowly while much waits for the engine; the schedule says which
//! is next. Whatever fails is left to a later session: nothing is remembered between two but when a
//! partition was last found equal.
//!
//! Invariant: while a pair is due and its peer in reach, a session is under way or the timer is set.

mod answering;
mod budget;
mod elements;
mod key;
mod question;
mod schedule;
mod session;
mod wanted;

use std::collections::BTreeSet;

use clock::NodeId;
use ring::Partition;
use storage::Answer;

use crate::{
    Body, CoreConfig, RequestId,
    core::COMMANDS_PER_REQUEST,
    handover::{Comparing, WaitReason, Want},
    turn::{Shared, Timer, Turn},
};

pub(crate) use answering::Asked;
pub use question::{Compare, Compared};
pub use schedule::{Comparison, ComparisonSummary};

use budget::Budget;
use schedule::{Pair, Schedule};
use session::{Progress, Session};
pub(crate) use wanted::Found;
use wanted::Wanted;

/// While so many commands wait for the engine, one thing is begun at a time, with pauses. A guess: more
/// than wait where clients do not pipeline.
pub(crate) const COMMANDS_WAITING_MAX: usize = 256;

/// The pause, in milliseconds.
const OVERLOAD_PAUSE_MS: u64 = 100;

/// How anti-entropy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiEntropyConfig {
    /// Every two replicas of a partition are compared once in so many milliseconds, and when one of
    /// them comes back; `None`: only when asked to ([`Call::Repair`](crate::Call::Repair)).
    pub interval_ms: Option<u64>,
    /// Bytes a second that a core may send and receive for it.
    pub bytes_per_second: u64,
}

impl AntiEntropyConfig {
    /// None but what is asked for.
    pub const OFF: Self = Self { interval_ms: None, bytes_per_second: u64::MAX };
}

/// Which replicas to compare soon: those of this node with all other owners.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RepairRequest {
    /// The first partition.
    pub first: u32,
    /// The last partition, included.
    pub last: u32,
    /// Those of buckets with the same n as this one only: they share a hash tree.
    pub bucket: Option<bytes::Bytes>,
    /// What was answered as [`RepairProgress::since_ms`], to ask how far it is; `None` to begin.
    pub since_ms: Option<u64>,
}

/// How far a repair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RepairProgress {
    /// When it was begun, by this node's monotonic clock in milliseconds.
    pub since_ms: u64,
    /// Pairs of a partition and another owner of it.
    pub pairs: u64,
    /// How many of them were found equal, or brought to be, by comparisons begun since then.
    pub equal: u64,
    /// Of the others, those with an owner that is out of reach.
    pub unreachable: u64,
}

/// Comparing, and answering those who compare.
#[derive(Debug)]
pub(crate) struct AntiEntropy {
    schedule: Schedule,
    budget: Budget,
    wanted: Wanted,
    session: Option<Session>,
    next_job: u64,
    /// Sessions begun so far.
    begun: u64,
    /// Until when nothing is begun while much waits for the engine.
    paused_until_ms: u64,
}

impl AntiEntropy {
    pub(crate) fn new(config: &CoreConfig) -> Self {
        let AntiEntropyConfig { interval_ms, bytes_per_second } = config.anti_entropy;
        let (shards, seed) = (config.shards.clone(), config.incarnation);
        Self {
            schedule: Schedule::new(interval_ms, shards, seed),
            budget: Budget::new(bytes_per_second),
            wanted: Wanted::default(),
            session: None,
            next_job: 0,
            begun: 0,
            paused_until_ms: 0,
        }
    }

    pub(crate) fn link_up(&mut self, peer: NodeId, turn: &mut Turn<'_>) {
        self.schedule.refresh(turn.shared, turn.now.monotonic_ms);
        self.schedule.peer_is_back(peer, turn.now.monotonic_ms);
        self.go_on(turn);
    }

    pub(crate) fn link_down(&mut self, peer: NodeId, turn: &mut Turn<'_>) {
        if self.session.as_ref().is_some_and(|session| session.pair.peer == peer) {
            self.end(false, turn);
        }
        self.wanted.link_down(peer);
        self.go_on(turn);
    }

    /// Has a partition compared with a peer, before all that is only due; what is found is told by
    /// [`take_found`](Self::take_found).
    pub(crate) fn want(&mut self, want: Want, turn: &mut Turn<'_>) {
        let Want { peer, n, partition, number, is_urgent } = want;
        let pair = Pair::of(peer, n, partition, &turn.shared.config.shards);
        self.wanted.want(pair, partition, number, is_urgent);
        if !turn.shared.links.contains(&peer) {
            self.wanted.link_down(peer);
        }
        self.go_on(turn);
    }

    /// What became of comparisons that were wanted.
    pub(crate) fn take_found(&mut self) -> Vec<Found> {
        self.wanted.take_found()
    }

    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        self.go_on(turn);
    }

    /// The engine answered a job.
    pub(crate) fn stored(&mut self, job: u64, answer: Answer, turn: &mut Turn<'_>) {
        if let Some(session) = &mut self.session {
            let progress = session.stored(job, answer, turn);
            self.went_on(progress, turn);
        }
    }

    /// A peer answered question number `question` of a job.
    pub(crate) fn answered(&mut self, job: u64, question: u64, body: Body, turn: &mut Turn<'_>) {
        if let Some(session) = &mut self.session {
            let progress = session.answered(job, question, body, turn);
            self.went_on(progress, turn);
        }
    }

    /// A peer asks.
    pub(crate) fn asked(
        &mut self,
        from: NodeId,
        id: RequestId,
        compare: Compare,
        turn: &mut Turn<'_>,
    ) {
        let busy = Body::Compared(Err(storage::StorageError::Busy));
        let bound = turn.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
        if turn.shared.stores_waiting() >= bound {
            return turn.answer(from, id, busy);
        }
        if let Some(pair) = answering::pair_of(from, &compare, turn) {
            let is_under_way = self.session.as_ref().is_some_and(|session| {
                session.pair == pair
                    && compare.partitions().iter().all(|at| session.open.contains(at))
            });
            if is_under_way && from > turn.me() {
                // Both began at once: one is enough.
                return turn.answer(from, id, busy);
            }
            self.schedule.is_done_by_peer(pair, compare.partitions(), turn.now.monotonic_ms);
        }
        answering::ask(from, id, compare, turn);
    }

    /// The engine answered what a peer asked.
    pub(crate) fn told(
        &mut self,
        from: NodeId,
        id: RequestId,
        asked: Asked,
        answer: Answer,
        turn: &mut Turn<'_>,
    ) {
        if let Some((pair, partitions)) = answering::answer(from, id, asked, answer, turn) {
            let now_ms = turn.now.monotonic_ms;
            self.schedule.refresh(turn.shared, now_ms);
            self.schedule.compared(pair, partitions, now_ms, now_ms);
            self.go_on(turn);
        }
    }

    /// Has replicas compared soon, and says how far that is.
    pub(crate) fn repair(
        &mut self,
        request: &RepairRequest,
        turn: &mut Turn<'_>,
    ) -> RepairProgress {
        let now_ms = turn.now.monotonic_ms;
        self.schedule.refresh(turn.shared, now_ms);
        let since_ms = request.since_ms.unwrap_or(now_ms).min(now_ms);
        let n = request.bucket.as_ref().map(|name| turn.shared.buckets.of(name).policy.n);
        let is_meant = |pair: Pair, partition: Partition| {
            (request.first..=request.last).contains(&partition.0) && n.is_none_or(|n| n == pair.n)
        };
        let (pairs, equal) = self.schedule.demand(since_ms, is_meant);
        let links = &turn.shared.links;
        let is_cut_off =
            |pair: Pair, partition| is_meant(pair, partition) && !links.contains(&pair.peer);
        let (cut_off, done) = self.schedule.demand(since_ms, is_cut_off);
        self.go_on(turn);
        RepairProgress { since_ms, pairs, equal, unreachable: cut_off - done }
    }

    /// What is compared at the moment.
    pub(crate) fn comparing(&self, shared: &Shared, now_ms: u64) -> Comparing<'_> {
        let is_busy = shared.stores_waiting() >= COMMANDS_WAITING_MAX;
        let is_spent = self.budget.ready_at_ms() > now_ms;
        let held_up = match (is_busy, is_spent) {
            (true, _) => Some(WaitReason::Clients),
            (_, true) => Some(WaitReason::Budget),
            _ => None,
        };
        let session = self.session.as_ref().map(|session| (session.pair.peer, &session.open));
        Comparing { session, held_up }
    }

    /// Sessions begun so far, and whether the last of them is under way.
    pub(crate) const fn sessions(&self) -> (u64, bool) {
        (self.begun, self.session.is_some())
    }

    /// Has all compared soon that no comparison begun since then found equal. Returns how many pairs of a partition
    /// and another owner of it there are, and how many of them one did.
    pub(crate) fn compare_since(&mut self, since_ms: u64, turn: &mut Turn<'_>) -> (u64, u64) {
        self.schedule.refresh(turn.shared, turn.now.monotonic_ms);
        let counted = self.schedule.demand(since_ms, |_, _| true);
        self.go_on(turn);
        counted
    }

    /// How long ago what was compared was found equal.
    pub(crate) fn summary(&self, now_ms: u64) -> ComparisonSummary {
        self.schedule.summary(now_ms)
    }

    /// When each partition was last found equal.
    pub(crate) fn comparisons(&mut self, turn: &Turn<'_>) -> Vec<Comparison> {
        self.schedule.refresh(turn.shared, turn.now.monotonic_ms);
        self.schedule.comparisons(turn.now.monotonic_ms)
    }

    fn went_on(&mut self, progress: Progress, turn: &mut Turn<'_>) {
        match progress {
            Progress::Working => {}
            Progress::Ended => self.end(true, turn),
            Progress::GivenUp => self.end(false, turn),
        }
        self.go_on(turn);
    }

    /// Takes what the session sent and received from the budget.
    fn account(&mut self, turn: &mut Turn<'_>) {
        let bytes = self.session.as_mut().map_or(0, Session::take_bytes);
        turn.shared.counters.comparison_bytes += bytes as u64;
        self.budget.spend(bytes, turn.now.monotonic_ms);
    }

    /// Ends the session under way, which was `finished` or is given up.
    fn end(&mut self, finished: bool, turn: &mut Turn<'_>) {
        self.account(turn);
        let Some(mut session) = self.session.take() else { return };
        session.forget(turn);
        self.next_job = session.next_job();
        // What it brought here may not be this node's any more.
        turn.shared.strayed.extend(session.all());
        let now_ms = turn.now.monotonic_ms;
        let equal = if finished { session.equal().collect() } else { BTreeSet::new() };
        let is_compared = finished && equal.len() == session.open.len();
        // What was written at either side while it went on it may have missed.
        self.schedule.compared(session.pair, equal.iter().copied(), session.began_ms, now_ms);
        self.wanted.ended(session.pair, &equal);
        turn.shared.counters.comparisons += u64::from(is_compared);
        turn.shared.counters.comparisons_unfinished += u64::from(!is_compared);
        // One that only made room for others has its turn when it is due, as before; and what a handover
        // wanted says nothing of the rest of the pair.
        let is_failed = !is_compared && !session.is_left_off;
        if is_failed && self.schedule.are_all(session.pair, &session.open) {
            self.schedule.failed(session.pair, now_ms);
        }
    }

    /// Begins what may be begun now, and sets the timer for what is next.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        let patience_ms = u64::from(turn.shared.config.timeout_ms);
        self.schedule.refresh(turn.shared, now_ms);
        loop {
            self.account(turn);
            let deadline_ms = self.session.as_ref().and_then(|on| on.deadline_ms(patience_ms));
            if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                self.end(false, turn);
                continue;
            }
            if turn.shared.stores_waiting() >= COMMANDS_WAITING_MAX {
                let at = self.paused_until_ms;
                if now_ms < at {
                    return turn.set_timer(Timer::AntiEntropy, at.min(deadline_ms.unwrap_or(at)));
                }
                self.paused_until_ms = now_ms.saturating_add(OVERLOAD_PAUSE_MS);
            }
            let Some(session) = &mut self.session else {
                let shared = &*turn.shared;
                let is_in_reach = |peer| shared.links.contains(&peer);
                let wanted = self.wanted.next();
                let due = || {
                    let pair = self.schedule.next(now_ms, is_in_reach)?;
                    Some((pair, self.schedule.partitions(pair)))
                };
                let Some((pair, partitions)) = wanted.or_else(due) else { break };
                self.begun += 1;
                self.session = Some(Session::new(pair, partitions, self.next_job, now_ms));
                continue;
            };
            let room_at_ms = self.wanted.is_waiting().then(|| session.long_at_ms());
            if room_at_ms.is_some_and(|at| at <= now_ms) {
                session.leave_off(turn.shared);
                self.end(true, turn);
                continue;
            }
            let ready_at_ms = self.budget.ready_at_ms().max(session.rests_until_ms());
            if ready_at_ms <= now_ms && session.begin(turn) {
                continue;
            }
            let ready = (ready_at_ms > now_ms).then_some(ready_at_ms);
            let at = [session.deadline_ms(patience_ms), ready, room_at_ms];
            let at = at.into_iter().flatten().min();
            // With neither the session would have ended.
            turn.set_timer(Timer::AntiEntropy, at.unwrap_or(now_ms + OVERLOAD_PAUSE_MS));
            return;
        }
        let shared = &*turn.shared;
        let next = self.schedule.next_due_ms(|peer| shared.links.contains(&peer));
        match next {
            Some(at) => turn.set_timer(Timer::AntiEntropy, at.max(now_ms)),
            None => turn.shared.clear_timer(Timer::AntiEntropy),
        }
    }
}
