//! The product's barrier, as the model of names sits at it: without the hand that a node has, nobody begins anew.

use std::hash::{Hash, Hasher};

use clock::NodeId;
use replication::{Barrier, BarrierStamp, BarrierStanding, BarrierTable, BarrierTask};

/// Who sent a message, and how far it was: what its messages carry, in the models, where nobody begins anew.
pub(crate) type Stamp = (usize, u64);

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Wait,
    Propose,
    Enter,
    Equal,
    Drain,
    Hide,
}

/// One member's barrier. Two are the same if they say the same of themselves and of others.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    at: usize,
    barrier: Barrier,
}

impl Seat {
    /// The seat of member `at` of so many, none of which has come to anything yet.
    pub(crate) fn of(at: usize, members: usize) -> Self {
        let mut barrier = Barrier::new(id(at), None);
        barrier.set_members((0..members).map(id), []);
        Self { at, barrier }
    }

    /// Hears what another knows.
    pub(crate) fn hear(&mut self, other: &Self) {
        self.barrier.heard(&other.barrier.table());
    }

    /// What to do now.
    pub(crate) fn task(&self) -> Task {
        match self.barrier.task() {
            BarrierTask::Wait => Task::Wait,
            BarrierTask::Propose => Task::Propose,
            BarrierTask::Enter(_) => Task::Enter,
            BarrierTask::Equal => Task::Equal,
            BarrierTask::Drain(_) => Task::Drain,
            BarrierTask::Hide(_) => Task::Hide,
            BarrierTask::Follow(_) | BarrierTask::BeginAnew | BarrierTask::GoOnAnew => {
                unreachable!("in the models nobody begins anew, and so nobody is behind")
            }
        }
    }

    /// The task is done, and noted.
    pub(crate) fn done(&mut self) {
        if let Some(after) = self.barrier.after_task() {
            self.barrier.noted(after);
        }
    }

    pub(crate) fn round(&self) -> u64 {
        self.barrier.own().progress.round
    }

    /// What its messages say.
    pub(crate) fn stamp(&self) -> Stamp {
        // To anybody: all are in their first life.
        (self.at, self.barrier.terms(true).stamp(id(self.at)).number)
    }

    /// Whether it takes a message that says so.
    pub(crate) fn takes(&self, (from, number): Stamp) -> bool {
        let stamp = BarrierStamp { number, ..BarrierStamp::default() };
        self.barrier.terms(true).takes(id(from), stamp, false)
    }

    fn parts(&self) -> (BarrierStanding, bool, BarrierTable) {
        (self.barrier.own(), self.barrier.has_note(), self.barrier.table())
    }
}

impl PartialEq for Seat {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Seat {}

impl Hash for Seat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (own, has_note, table) = self.parts();
        (own, has_note, table.standings).hash(state);
    }
}

/// The id of member `at`.
pub(crate) const fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}
