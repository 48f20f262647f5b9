//! What the model of the barrier may leave out, within what bounds it is looked at, and its steps.

use super::world::Sent;

/// What keeps the write from coming back; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierRules {
    /// A member says that its replica is equal once it was found so with the other owner's.
    pub equal: bool,
    /// A member that is no owner and has a copy says no more before it has brought it to owners.
    pub former: bool,
    /// What was under way has ended.
    pub ended: bool,
    /// The outbox is empty.
    pub emptied: bool,
    /// A member waits for these a second time, once all have waited once.
    pub second: bool,
    /// And a third time.
    pub third: bool,
    /// Nobody drops what not all have hidden.
    pub hidden: bool,
    /// What changed since the round was entered is not forgotten in it.
    pub older: bool,
    /// What was sent before its sender was through is refused.
    pub refused: bool,
    /// What was sent to an earlier life is refused.
    pub lives: bool,
    /// A member that has emptied its outbox keeps nothing that comes from one that has not.
    pub kept: bool,
    /// A member that is behind begins anew without what it has.
    pub empty: bool,
}

impl BarrierRules {
    /// As the product has them.
    pub const ALL: Self = Self {
        equal: true,
        former: true,
        ended: true,
        emptied: true,
        second: true,
        third: true,
        hidden: true,
        older: true,
        refused: true,
        lives: true,
        kept: true,
        empty: true,
    };
}

/// What a third member has at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Third {
    /// Nothing.
    Empty,
    /// An old hint for the second owner.
    KeepsHint,
    /// A copy of its own.
    FormerOwner,
}

/// When a member hears how far others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// At any time.
    Apart,
    /// When it does something for the barrier, and else not.
    Acting,
    /// At once.
    AtOnce,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierWay {
    /// A member hears how far others are.
    Hear(usize),
    /// A member does what there is to do for the barrier.
    Do(usize),
    /// An owner removes what it shows.
    Delete(usize),
    /// The write is over; what it could not bring to the other owner it keeps for it, or not.
    End(usize, bool),
    /// What was sent arrives, maybe again.
    Arrive(Sent),
    /// What one keeps for an owner is delivered.
    Deliver(usize, usize),
    /// What one keeps for an owner it gives to another to keep.
    PassOn(usize, usize, usize),
    /// The owners compare, and are made equal.
    Compare,
    /// A member reads, and is shown the write by another, or by itself.
    Read(usize, usize),
    /// A reader repairs its own replica.
    Repair(usize),
    /// The read is over.
    EndRead(usize),
    /// A former owner brings its copy to the owners, and drops it.
    Depart(usize),
    /// A disk is lost; its member starts again.
    Wipe(usize),
    /// A disk is as it was at the beginning; its member starts again.
    Restore(usize),
}
