//! What a shell does for the barrier: every node carries its table to others, does the task that it has,
//! and refuses messages of before what was agreed.
//!
//! Any node may have its machine's disk replaced by one of an earlier day ([`Sim::restore`]).

use replication::{Barrier, BarrierStanding, BarrierTable, BarrierTask, Mark, Now};
use storage::{Answer, Command, DiskSnapshot, Forgetting, Ticket};

use super::events::WALL_START_MS;
use super::{Happening, Sim};

/// Under which a node's barrier gives commands, one at a time. No core comes as far.
pub(super) const TICKET: Ticket = Ticket(u64::MAX - 1);

/// Every node looks after its barrier so often, in milliseconds.
const TICK_MS: u64 = 200;

/// Remnants of one command: few, so that writes fall between two.
const REMNANTS: usize = 2;

/// A node's hand in the barrier.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) barrier: Barrier,
    /// Of a node that begins anew: what is to be noted.
    reborn: Option<BarrierStanding>,
    /// What it does, and the task that it does it for.
    task: BarrierTask,
    doing: Doing,
    /// The round whose remnants are dropped.
    dropped: u64,
    /// When it saw a round complete last.
    completed_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    /// Being compared, since then.
    Comparing(u64),
    /// Ending what was begun before.
    Draining(Mark),
    /// All that has ended; the outbox is to be empty.
    Drained,
    Hiding,
    Dropping(u64),
    Entering(BarrierStanding),
    Noting(BarrierStanding),
}

impl Hand {
    pub(super) fn new(barrier: Barrier, reborn: Option<BarrierStanding>, now_ms: u64) -> Self {
        Self {
            barrier,
            reborn,
            task: BarrierTask::Wait,
            doing: Doing::Nothing,
            dropped: 0,
            completed_ms: now_ms,
        }
    }
}

impl Sim {
    /// What the disk of a node holds now, for [`restore`](Self::restore).
    pub fn disk_image(&self, node: usize) -> DiskSnapshot {
        self.nodes[node].disk.snapshot()
    }

    /// Gives a node that is down the disk of an earlier day.
    ///
    /// # Panics
    /// If the node runs.
    pub fn restore(&mut self, node: usize, image: &DiskSnapshot) {
        assert!(self.nodes[node].process.is_none(), "crash the node first");
        self.nodes[node].disk.restore(image);
    }

    /// The round on which all are agreed and the one whose remnants may be dropped, as a node knows it;
    /// `None` if it is down or there is no barrier.
    pub fn barrier(&self, node: usize) -> Option<(u64, u64)> {
        let hand = self.nodes[node].process.as_ref()?.hand.as_ref()?;
        Some((hand.barrier.agreed(), hand.barrier.complete()))
    }

    /// Header rows of a node's disk and memory that are no key's with something live; `None` if it is down.
    pub fn remnants(&self, node: usize) -> Option<u64> {
        let engine = &self.nodes[node].process.as_ref()?.engine;
        let check = engine.check_trees().expect("simulated disks can be read");
        Some(check.keys - engine.live_keys())
    }

    /// Whether a node holds remnants that are still to be forgotten; `None` if it is down.
    ///
    /// # Panics
    /// If the replica cannot be read.
    pub fn has_remnants(&self, node: usize) -> Option<bool> {
        let engine = &self.nodes[node].process.as_ref()?.engine;
        Some(engine.oldest_remnant().expect("simulated disks can be read").is_some())
    }

    /// How often a node began anew with an empty disk, because it was behind the barrier.
    pub const fn begun_anew(&self) -> u64 {
        self.begun_anew
    }

    pub(super) fn enqueue_barrier(&mut self, node: usize) {
        if self.options.barrier_ms.is_some() {
            let life = self.nodes[node].life;
            self.enqueue(self.now_ms + TICK_MS, Happening::Barrier { node, life });
        }
    }

    /// The number that a node's messages carry.
    pub(super) fn barrier_number(&self, node: usize) -> u64 {
        let process = self.nodes[node].process.as_ref();
        let hand = process.and_then(|process| process.hand.as_ref());
        hand.map_or(0, |hand| hand.barrier.own().number())
    }

    /// Whether a node takes a message with this number.
    pub(super) fn takes(&self, node: usize, number: u64) -> bool {
        let process = self.nodes[node].process.as_ref();
        let hand = process.and_then(|process| process.hand.as_ref());
        hand.is_none_or(|hand| hand.barrier.takes(number))
    }

    pub(super) fn hear_barrier(&mut self, node: usize, table: &BarrierTable) {
        let process = self.nodes[node].process.as_mut();
        if let Some(hand) = process.and_then(|process| process.hand.as_mut()) {
            hand.barrier.heard(table);
        }
    }

    pub(super) fn tick_barrier(&mut self, node: usize) {
        self.enqueue_barrier(node);
        self.tell_barrier(node);
        self.do_task(node);
    }

    /// Tells another node, drawn by lot, what this one knows.
    fn tell_barrier(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(hand) = &process.hand else { return };
        let table = hand.barrier.table();
        let to = self.random.below(self.nodes.len() as u64) as usize;
        if to == node {
            return;
        }
        let to_life = self.nodes[to].life;
        for way_ms in self.network.ways(node, to) {
            let table = Box::new(table.clone());
            self.enqueue(self.now_ms + way_ms, Happening::Told { from: node, to, to_life, table });
        }
    }

    fn do_task(&mut self, node: usize) {
        let now_ms = self.now_ms;
        let interval_ms = self.options.barrier_ms.unwrap_or(u64::MAX);
        let owners: Vec<_> = self.nodes.iter().map(|owner| owner.id).collect();
        let Some(process) = &mut self.nodes[node].process else { return };
        let (core, engine) = (&mut process.core, &process.engine);
        let Some(hand) = &mut process.hand else { return };
        if matches!(hand.doing, Doing::Entering(_) | Doing::Noting(_) | Doing::Dropping(_)) {
            return;
        }
        if let Some(standing) = hand.reborn {
            hand.doing = Doing::Entering(standing);
            return self.order(node, Command::Enter { round: standing.since });
        }
        let task = hand.barrier.task();
        if task != hand.task {
            (hand.task, hand.doing) = (task, Doing::Nothing);
            hand.completed_ms = now_ms;
        }
        let after = hand.barrier.after_task();
        let is_pending = owners.iter().any(|&owner| engine.pending_for(owner) > 0);
        let drained = match hand.doing {
            Doing::Draining(mark) if core.is_over(mark) => Doing::Drained,
            Doing::Nothing => Doing::Draining(core.mark()),
            doing => doing,
        };
        let is_drained = drained == Doing::Drained && !is_pending;
        match (task, after) {
            (BarrierTask::BeginAnew, _) => {
                let table = hand.barrier.table();
                self.begin_anew(node, table);
            }
            (BarrierTask::Propose, Some(after)) => {
                let complete = hand.barrier.complete();
                if complete > hand.dropped {
                    hand.doing = Doing::Dropping(complete);
                    self.drop_remnants(node, complete);
                } else if now_ms >= hand.completed_ms.saturating_add(interval_ms)
                    && engine.oldest_remnant().is_ok_and(|oldest| oldest.is_some())
                {
                    hand.doing = Doing::Entering(after);
                    self.order(node, Command::Enter { round: after.progress.round });
                }
            }
            (BarrierTask::Enter(round), Some(after)) => {
                hand.doing = Doing::Entering(after);
                self.order(node, Command::Enter { round });
            }
            (BarrierTask::Equal, Some(after)) => self.compare(node, after),
            (BarrierTask::Drain, Some(after)) if is_drained => self.note(node, after),
            (BarrierTask::Hide(round), Some(_)) if is_drained => {
                hand.doing = Doing::Hiding;
                self.hide_remnants(node, round);
            }
            (BarrierTask::Drain | BarrierTask::Hide(_), Some(_)) if hand.doing != Doing::Hiding => {
                hand.doing = drained;
            }
            _ => {}
        }
    }

    /// Has all partitions compared since now, and says so once they are.
    fn compare(&mut self, node: usize, after: BarrierStanding) {
        let now_ms = self.now_ms;
        let wall = (WALL_START_MS + now_ms) as i64 + self.nodes[node].skew_ms;
        let now = Now { monotonic_ms: now_ms, wall_ms: wall.max(0) as u64 };
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(hand) = &mut process.hand else { return };
        let Doing::Comparing(since_ms) = hand.doing else {
            if process.core.is_between_sessions() {
                hand.doing = Doing::Comparing(now_ms + 1);
            }
            return;
        };
        let mut effects = Vec::new();
        let (pairs, equal) = process.core.compare_since(since_ms, now, &mut effects);
        self.run_effects(node, effects);
        if pairs == equal {
            self.note(node, after);
        }
    }

    fn note(&mut self, node: usize, standing: BarrierStanding) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(hand) = &mut process.hand else { return };
        hand.doing = Doing::Noting(standing);
        self.order(node, Command::Note { notes: vec![Barrier::note(standing)] });
    }

    fn hide_remnants(&mut self, node: usize, below: u64) {
        self.order(
            node,
            Command::ForgetRemnants { step: Forgetting::Hide, below, limit: REMNANTS },
        );
    }

    fn drop_remnants(&mut self, node: usize, below: u64) {
        self.order(
            node,
            Command::ForgetRemnants { step: Forgetting::Drop, below, limit: REMNANTS },
        );
    }

    fn order(&mut self, node: usize, command: Command) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let mut answers = Vec::new();
        process.engine.execute(TICKET, command, &mut answers);
        for (_, answer) in answers {
            self.barrier_stored(node, &answer);
        }
        self.start_commit(node);
    }

    /// The engine answered a command of the barrier.
    pub(super) fn barrier_stored(&mut self, node: usize, answer: &Answer) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(hand) = &mut process.hand else { return };
        let doing = std::mem::replace(&mut hand.doing, Doing::Nothing);
        match (doing, answer) {
            (Doing::Entering(standing), Answer::Durable) => self.note(node, standing),
            (Doing::Noting(standing), Answer::Durable) => {
                hand.barrier.noted(standing);
                hand.reborn = None;
            }
            (Doing::Hiding, Answer::RemnantsForgotten { more: true }) => {
                hand.doing = Doing::Hiding;
                let round = hand.barrier.own().progress.round;
                self.hide_remnants(node, round);
            }
            (Doing::Hiding, Answer::RemnantsForgotten { more: false }) => {
                if let Some(after) = hand.barrier.after_task() {
                    self.note(node, after);
                }
            }
            (Doing::Dropping(below), Answer::RemnantsForgotten { more: true }) => {
                hand.doing = Doing::Dropping(below);
                self.drop_remnants(node, below);
            }
            (Doing::Dropping(below), Answer::RemnantsForgotten { more: false }) => {
                hand.dropped = below
            }
            // The disk refused it: the task is still there.
            _ => {}
        }
    }

    /// Sets a node's data aside and starts it empty.
    fn begin_anew(&mut self, node: usize, table: BarrierTable) {
        self.begun_anew += 1;
        self.end(node);
        self.nodes[node].disk.wipe();
        self.nodes[node].reborn = Some(table);
        self.restart(node);
    }
}
