//! The product's hand in the barrier, as a model holds it: two are the same if they say and do the same.

use std::hash::{Hash, Hasher};

use replication::{
    Barrier, BarrierHand, BarrierLook, BarrierShown, BarrierStamp, BarrierStanding, BarrierStart,
    BarrierStep, BarrierTable, BarrierTask, BarrierTimes,
};

use crate::seat::id;

/// Rounds begin at once, and nobody tries again.
const TIMES: BarrierTimes = BarrierTimes { interval_ms: Some(0), retries_ms: 0 };

/// One member's hand. Between steps of a model it is at nothing: what it is told to do is done in one of them.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    at: usize,
    hand: BarrierHand,
    /// The moment for which what is under way was marked.
    moment: u64,
    /// Whether anything is under way, or may be: else it is of no account which task it had last.
    pub(crate) is_busy: bool,
}

impl Hand {
    /// The hand of member `at` of so many, whose disk says nothing.
    pub(crate) fn of(at: usize, members: usize) -> Self {
        Self::start(at, members, &BarrierTable::default(), BarrierStart::AsNoted)
    }

    fn start(at: usize, members: usize, heard: &BarrierTable, start: BarrierStart) -> Self {
        let mut barrier = Barrier::new(id(at), None);
        barrier.heard(heard);
        let mut hand = BarrierHand::new(barrier, start, TIMES, 0);
        hand.set_members((0..members).map(id), []);
        Self { at, hand, moment: 0, is_busy: true }
    }

    /// It is behind: it begins anew, in its next life.
    pub(crate) fn begin_anew(&mut self, members: usize) {
        let heard = self.hand.barrier().table();
        let next = Barrier::reborn(id(self.at), &heard);
        *self = Self::start(self.at, members, &heard, BarrierStart::As(next));
    }

    /// Hears what another knows.
    pub(crate) fn hear(&mut self, other: &Self) {
        self.hand.heard(&other.hand.barrier().table());
    }

    /// What is to be done now, in this order until it is nothing.
    pub(crate) fn next(&mut self) -> BarrierStep {
        self.hand.next(0)
    }

    /// What it has to do, if there is anything.
    pub(crate) fn task(&self) -> BarrierTask {
        self.hand.barrier().task()
    }

    /// Whether there is something that all have hidden and it has not dropped.
    pub(crate) fn is_to_drop(&self) -> bool {
        self.hand.barrier().complete() > self.hand.dropped()
    }

    /// Whether this look is the first one for its task.
    pub(crate) fn is_first_look(&mut self, look: BarrierLook) -> bool {
        std::mem::replace(&mut self.moment, look.moment) != look.moment
    }

    pub(crate) fn looked(&mut self, look: BarrierLook, shown: BarrierShown) -> BarrierStep {
        self.hand.looked(look, shown)
    }

    pub(crate) fn entered(&mut self) -> BarrierStep {
        self.hand.entered(0)
    }

    pub(crate) fn noted(&mut self) {
        self.hand.noted();
    }

    pub(crate) fn forgotten(&mut self) -> BarrierStep {
        self.hand.forgotten()
    }

    /// What it says of itself.
    pub(crate) fn own(&self) -> BarrierStanding {
        self.hand.barrier().own()
    }

    /// What it knows of a member.
    pub(crate) fn known(&self, at: usize) -> Option<BarrierStanding> {
        self.hand.barrier().table().standings.get(&id(at)).copied()
    }

    /// What its message to another says.
    pub(crate) fn stamp(&self, to: usize) -> BarrierStamp {
        self.hand.terms().stamp(id(to))
    }

    /// Whether it takes a message of another that says so.
    pub(crate) fn takes(&self, from: usize, stamp: BarrierStamp, is_hint: bool) -> bool {
        self.hand.terms().takes(id(from), stamp, is_hint)
    }

    /// All that what it says and does follows from. How many tasks it had is left out: it marks what is
    /// under way anew with each of them.
    fn parts(&self) -> (Vec<u8>, BarrierTable, Option<BarrierTask>, [bool; 3], u64) {
        let barrier = self.hand.barrier();
        let (_, note) = self.hand.note_of(barrier.own());
        let (table, task) = (barrier.table(), self.is_busy.then_some(self.hand.task().0));
        (
            note.to_vec(),
            table,
            task,
            [barrier.has_note(), self.hand.is_open(), self.is_busy],
            self.hand.dropped(),
        )
    }
}

impl PartialEq for Hand {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Hand {}

impl Hash for Hand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (note, table, task, is, dropped) = self.parts();
        (note, table.standings, task, is, dropped).hash(state);
    }
}
