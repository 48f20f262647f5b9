//! The product's barrier, as the models sit at it: the one place that knows how it is spoken to.

use std::hash::{Hash, Hasher};

use clock::NodeId;
use replication::{Barrier, BarrierStanding, BarrierTable, BarrierTask};

/// How far a sender was: what its messages carry.
pub(crate) type Stamp = u64;

/// What a disk has of it.
pub(crate) type Note = BarrierStanding;

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Wait,
    Propose,
    Enter,
    Equal,
    Drain,
    /// What is older than this round.
    Hide(u64),
    BeginAnew,
}

/// One member's barrier. Two are the same if they say the same of themselves and of others.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    barrier: Barrier,
}

impl Seat {
    /// The seat of member `at` of `members`, with what its disk says of it.
    pub(crate) fn of(at: usize, noted: Option<Note>, members: &[bool]) -> Self {
        let mut seat = Self { barrier: Barrier::new(id(at), noted) };
        seat.set_members(members);
        seat
    }

    /// Who belongs to the cluster.
    pub(crate) fn set_members(&mut self, members: &[bool]) {
        let present = members.iter().enumerate().filter(|(_, is_member)| **is_member);
        self.barrier.set_members(present.map(|(at, _)| id(at)));
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
            BarrierTask::Drain => Task::Drain,
            BarrierTask::Hide(below) => Task::Hide(below),
            BarrierTask::BeginAnew => Task::BeginAnew,
        }
    }

    /// The task is done, and noted; what its disk then has.
    pub(crate) fn done(&mut self) -> Option<Note> {
        let after = self.barrier.after_task()?;
        self.barrier.noted(after);
        Some(after)
    }

    pub(crate) fn round(&self) -> u64 {
        self.barrier.own().progress.round
    }

    /// The round whose remnants may be dropped.
    pub(crate) fn complete(&self) -> u64 {
        self.barrier.complete()
    }

    /// What its messages say.
    pub(crate) fn stamp(&self) -> Stamp {
        self.barrier.own().number()
    }

    /// Whether it takes a message that says so.
    pub(crate) fn takes(&self, stamp: Stamp) -> bool {
        self.barrier.takes(stamp)
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
        (own, has_note, table.0).hash(state);
    }
}

/// The id of member `at`.
const fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}
