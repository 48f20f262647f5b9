//! What a shell does for the barrier: every node carries its table to others, does the task that it has,
//! and refuses messages of before what was agreed.
//!
//! Any node may have its machine's disk replaced by one of an earlier day ([`Sim::restore`]).

use clock::NodeId;
use replication::{
    BarrierHand, BarrierShown, BarrierStamp, BarrierStep, BarrierTable, BarrierTerms, Now,
};
use storage::{Answer, Command, DiskSnapshot, Ticket};

use super::events::WALL_START_MS;
use super::{Happening, Sim};

/// Under which a node's barrier gives commands, one at a time. No core comes as far.
pub(super) const TICKET: Ticket = Ticket(u64::MAX - 1);

/// Every node looks after its barrier so often, in milliseconds.
const TICK_MS: u64 = 200;

/// Remnants of one command: few, so that writes fall between two.
const REMNANTS: usize = 2;

/// A node's hand in the barrier, and what its engine was given to do.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) hand: BarrierHand,
    terms: BarrierTerms,
    given: BarrierStep,
}

impl Hand {
    pub(super) fn new(hand: BarrierHand) -> Self {
        Self { terms: hand.terms(), hand, given: BarrierStep::Wait }
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
        self.nodes[node].heard = BarrierTable::default();
    }

    /// The round on which all are agreed and the one whose remnants may be dropped, as a node knows it;
    /// `None` if it is down or there is no barrier.
    pub fn barrier(&self, node: usize) -> Option<(u64, u64)> {
        let hand = self.nodes[node].process.as_ref()?.hand.as_ref()?;
        Some((hand.hand.barrier().agreed(), hand.hand.barrier().complete()))
    }

    /// Whether a node that runs has noted in which life it is, where there is a barrier.
    pub(super) fn is_open(&self, node: usize) -> bool {
        let process = self.nodes[node].process.as_ref();
        process.and_then(|process| process.hand.as_ref()).is_none_or(|hand| hand.hand.is_open())
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

    /// Whether a node has anything for which further rounds are to begin; `None` if it is down.
    pub(crate) fn has_to_forget(&self, node: usize) -> Option<bool> {
        let engine = &self.nodes[node].process.as_ref()?.engine;
        Some(engine.has_to_forget().expect("simulated disks can be read"))
    }

    /// What a running node of a ring knows of the barrier.
    pub(super) fn any_barrier(&self, ring: usize) -> BarrierTable {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let mut running = running
            .filter(|process| process.ring == ring)
            .filter_map(|process| process.hand.as_ref());
        running.next().map(|hand| hand.hand.barrier().table()).unwrap_or_default()
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

    /// What a message of one node to another says of the barrier.
    pub(super) fn barrier_stamp(&self, node: usize, to: usize) -> BarrierStamp {
        let process = self.nodes[node].process.as_ref();
        let hand = process.and_then(|process| process.hand.as_ref());
        hand.map_or(BarrierStamp::default(), |hand| hand.terms.stamp(self.nodes[to].id))
    }

    /// Whether a node takes a message of another that says this.
    pub(super) fn takes(
        &self,
        node: usize,
        from: usize,
        stamp: BarrierStamp,
        is_hint: bool,
    ) -> bool {
        let process = self.nodes[node].process.as_ref();
        let hand = process.and_then(|process| process.hand.as_ref());
        hand.is_none_or(|hand| hand.terms.takes(self.nodes[from].id, stamp, is_hint))
    }

    /// A node keeps on its disk what it hears, as membership does what gossip says.
    pub(super) fn hear_barrier(&mut self, node: usize, table: &BarrierTable) {
        let state = &mut self.nodes[node];
        state.heard.join(table);
        let process = state.process.as_mut();
        if let Some(hand) = process.and_then(|process| process.hand.as_mut()) {
            hand.hand.heard(table);
            hand.terms = hand.hand.terms();
        }
    }

    pub(super) fn tick_barrier(&mut self, node: usize) {
        self.enqueue_barrier(node);
        // Without the others it would take itself for all there are.
        if self.is_searching(node) {
            return;
        }
        self.tell_barrier(node);
        let now_ms = self.now_ms;
        let Some((members, gone)) = self.members_known_to(node) else { return };
        let process = self.nodes[node].process.as_mut();
        if let Some(hand) = process.and_then(|process| process.hand.as_mut()) {
            hand.hand.set_members(members, gone);
            hand.terms = hand.hand.terms();
            let step = hand.hand.next(now_ms);
            self.take_step(node, step);
        }
    }

    /// The members that are not gone, and those that are, as a node knows them; `None` if it is none of them.
    fn members_known_to(&self, node: usize) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
        let states: Vec<(NodeId, bool)> = match self.gossip(node) {
            Some(gossip) => {
                let states = gossip.table().iter();
                states.map(|(member, record)| (member, record.state().is_present())).collect()
            }
            None => {
                // Those of a ring that is left are told of by the first that comes from there.
                let ring = self.ring_of(node);
                let is_of =
                    |member| [Some(ring), self.left_ring()].contains(&Some(self.ring_of(member)));
                let all = (0..self.nodes.len()).filter(|&member| is_of(member));
                all.map(|member| (self.nodes[member].id, !self.nodes[member].is_gone)).collect()
            }
        };
        let of = |is_present| {
            let all = states.iter().filter(move |(_, it)| *it == is_present);
            all.map(|&(member, _)| member).collect()
        };
        states.contains(&(self.nodes[node].id, true)).then(|| (of(true), of(false)))
    }

    /// Tells another node, drawn by lot, what this one knows.
    fn tell_barrier(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(hand) = &process.hand else { return };
        let table = hand.hand.barrier().table();
        let to = self.random.below(self.nodes.len() as u64) as usize;
        if to == node {
            return;
        }
        let (to_life, ring) = (self.nodes[to].life, self.ring_of(node));
        for at_ms in self.network.arrivals(self.now_ms, (node, to), 0) {
            let table = Box::new(table.clone());
            self.enqueue(at_ms, Happening::Told { from: node, to, to_life, ring, table });
        }
    }

    fn take_step(&mut self, node: usize, step: BarrierStep) {
        let skew_ms = self.nodes[node].skew_ms;
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(hand) = &mut process.hand else { return };
        let command = match step {
            BarrierStep::Wait => return,
            BarrierStep::Look(look) => {
                let wall = (WALL_START_MS + self.now_ms) as i64 + skew_ms;
                let now = Now { monotonic_ms: self.now_ms, wall_ms: wall.max(0) as u64 };
                let (mut effects, engine) = (Vec::new(), &process.engine);
                let shown = BarrierShown {
                    is_pending: engine.has_pending(),
                    has_to_forget: engine.has_to_forget().unwrap_or(false),
                    ..process.core.look(look, now, &mut effects)
                };
                let step = hand.hand.looked(look, shown);
                self.run_effects(node, effects);
                return self.take_step(node, step);
            }
            BarrierStep::BeginAnew => {
                let table = hand.hand.barrier().table();
                return self.begin_anew(node, table);
            }
            BarrierStep::Enter(round) => Command::Enter { round },
            BarrierStep::Note(standing) => {
                Command::Note { notes: vec![hand.hand.note_of(standing)] }
            }
            BarrierStep::Forget { step, below } => {
                Command::ForgetRemnants { step, below, limit: REMNANTS }
            }
        };
        hand.given = step;
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
        let given = std::mem::replace(&mut hand.given, BarrierStep::Wait);
        let next = match (given, answer) {
            (BarrierStep::Enter(_), Answer::Durable) => hand.hand.entered(self.now_ms),
            (BarrierStep::Note(_), Answer::Durable) => {
                hand.hand.noted();
                hand.terms = hand.hand.terms();
                self.has_begun(node);
                BarrierStep::Wait
            }
            (BarrierStep::Forget { .. }, Answer::RemnantsForgotten { more: true }) => given,
            (BarrierStep::Forget { .. }, Answer::RemnantsForgotten { more: false }) => {
                hand.hand.forgotten()
            }
            _ => {
                hand.hand.failed();
                BarrierStep::Wait
            }
        };
        self.take_step(node, next);
    }

    /// Sets a node's data aside and starts it empty.
    fn begin_anew(&mut self, node: usize, table: BarrierTable) {
        self.begun_anew += 1;
        self.note_anew(node);
        self.end(node);
        self.nodes[node].disk.wipe();
        self.nodes[node].heard = table.clone();
        self.nodes[node].reborn = Some(table);
        self.restart(node);
    }
}
