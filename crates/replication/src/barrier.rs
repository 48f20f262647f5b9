//! The barrier: when what is left of deleted keys may be forgotten (design.md, One barrier).
//!
//! Forgetting that a write was removed is safe once the write is nowhere: in no replica, no outbox, no
//! request under way, no message. All members that are not removed go through *rounds* together, and each
//! says how far it is, for good: a member's part of the table only grows, and tables join. In a round a
//! member
//!
//! 1. *enters*: from here on its replica tells what changes from what is older;
//! 2. is *equal*, once each of its partitions was found the same at every other owner since it entered, and
//!    it has no part in a handover, as one that is sent a partition or holds one that it does not own.
//!    Once **all** are, a write that an older remnant covers is live in no replica: but a request, a hint
//!    or a message may still carry it;
//! 3. *confirms*, once all are equal, what it was doing then has ended and its outbox has been empty
//!    since, and if the ownership of partitions has changed meanwhile, it was found equal once more. Once
//!    **all** have, the forgetting is agreed: the write is nowhere, and messages that were sent before
//!    their sender confirmed are refused;
//! 4. has *hidden* its remnants (`storage::Forgetting`), when in addition what it was doing when it learnt
//!    of the agreement has ended, and it holds no partition that it does not own. Once **all** have, each
//!    drops them, and the next round may be entered.
//!
//! A member whose disk lost what it once told of itself, by a restored backup or an empty directory, hears
//! that from the others: it has to begin anew, empty, in another *life*, and is then behind nothing. Nobody
//! decides for others, no clock takes part, and a member that is not heard of stops the barrier for all
//! until it returns or is removed.
//!
//! Decision: docs/decisions/2026-11-26-the-barrier-goes-in-rounds.md.

mod hand;
#[cfg(test)]
mod tests;

pub use hand::{BarrierHand, BarrierLook, BarrierShown, BarrierStep};

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::NodeId;
use serde::{Deserialize, Serialize};
use storage::StorageError;

/// The note of a member's own part.
const NOTE: &[u8] = b"barrier";

/// Members that a table has room for: what peers send is no longer.
pub const BARRIER_MEMBERS_MAX: usize = 4_096;

/// How far a member is in a round. In this order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum BarrierStage {
    /// What changes from now on is not older than the round.
    Entered,
    /// Its partitions are the same at all owners.
    Equal,
    /// Nothing older is under way or pending.
    Confirmed,
    /// What is older counts as gone.
    #[default]
    Hidden,
}

/// How far a member is: the round, then the stage. At the beginning round 0 is over.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BarrierProgress {
    /// Which round.
    pub round: u64,
    /// How far in it.
    pub stage: BarrierStage,
}

impl BarrierStage {
    /// In a word, for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Equal => "equal",
            Self::Confirmed => "confirmed",
            Self::Hidden => "hidden",
        }
    }
}

impl BarrierProgress {
    const fn at(round: u64, stage: BarrierStage) -> Self {
        Self { round, stage }
    }

    /// The last round that it has confirmed.
    pub fn confirmed(self) -> u64 {
        if self.stage >= BarrierStage::Confirmed {
            self.round
        } else {
            self.round.saturating_sub(1)
        }
    }

    /// The last round in which it has hidden its remnants.
    fn hidden(self) -> u64 {
        if self.stage == BarrierStage::Hidden { self.round } else { self.round.saturating_sub(1) }
    }
}

/// What a member says of itself. A later life counts, whatever an earlier one had come to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BarrierStanding {
    /// How often it began anew, with an empty directory.
    pub life: u64,
    /// How far it is.
    pub progress: BarrierProgress,
    /// The round in which this life began. It holds nothing older.
    pub since: u64,
}

impl BarrierStanding {
    /// The round of which everything older is behind it: what it says is taken by members that have
    /// agreed on no later one.
    pub fn number(self) -> u64 {
        self.progress.confirmed().max(self.since)
    }
}

/// How far every member is, as far as it is known: a join of what each says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierTable(pub BTreeMap<NodeId, BarrierStanding>);

impl BarrierTable {
    /// The least upper bound. Takes no more members than it has room for. Returns whether it changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (&node, &standing) in &other.0 {
            if self.0.len() >= BARRIER_MEMBERS_MAX && !self.0.contains_key(&node) {
                continue;
            }
            let known = self.0.entry(node).or_default();
            if *known < standing {
                *known = standing;
                changed = true;
            }
        }
        changed
    }

    fn latest(&self) -> BarrierProgress {
        self.0.values().map(|standing| standing.progress).max().unwrap_or_default()
    }

    /// The last round of which somebody saw that all members had confirmed it: nobody hides before.
    fn agreed(&self) -> u64 {
        self.0.values().map(|standing| standing.progress.hidden()).max().unwrap_or_default()
    }
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierTask {
    /// Nothing of its own: others are waited for, or there is nothing to forget.
    Wait,
    /// Begin the next round, if there is something to forget.
    Propose,
    /// Enter this round: have the replica take note (`storage::Command::Enter`), then say so.
    Enter(u64),
    /// Be found equal with all other owners, by comparisons begun since the round was entered, and have no
    /// part in a handover ([`Core::transfers`](crate::Core::transfers)).
    Equal,
    /// Have ended what was under way when this task was first given, and then have had an empty outbox;
    /// have no part in a handover, and be equal by the present ownership.
    Drain,
    /// Have ended what was under way when this task was first given, and then have had an empty outbox; hold
    /// nothing that others are to own, and hide remnants older than this round.
    Hide(u64),
    /// This member lost what it told of itself: set the directory aside and begin anew, empty, as
    /// [`Barrier::reborn`].
    BeginAnew,
}

/// One member's view of the barrier.
#[derive(Clone, Debug)]
pub struct Barrier {
    me: NodeId,
    /// As its own disk has it.
    own: BarrierStanding,
    /// Whether its disk says anything of it.
    has_note: bool,
    table: BarrierTable,
    members: Vec<NodeId>,
}

impl Barrier {
    /// A member as its notes have it; `None` for a directory without one. Nothing is known of others.
    pub fn new(me: NodeId, noted: Option<BarrierStanding>) -> Self {
        let own = noted.unwrap_or_default();
        let has_note = noted.is_some();
        Self { me, own, has_note, table: BarrierTable::default(), members: vec![me] }
    }

    /// A member whose directory is empty, in a cluster that is as far as `table` says: its next life
    /// begins in the round that is under way. To be noted before anybody hears of it.
    pub fn reborn(me: NodeId, table: &BarrierTable) -> BarrierStanding {
        let life = table.0.get(&me).map_or(0, |standing| standing.life + 1);
        let round = table.latest().round;
        // In round 0 there is nothing to enter.
        let stage = if round == 0 { BarrierStage::Hidden } else { BarrierStage::Entered };
        BarrierStanding { life, progress: BarrierProgress::at(round, stage), since: round }
    }

    /// Reads a member's own part from its notes.
    pub fn of_notes<'a>(
        notes: impl IntoIterator<Item = &'a (Bytes, Option<Bytes>)>,
    ) -> Result<Option<BarrierStanding>, StorageError> {
        let mut notes = notes.into_iter();
        let Some((_, value)) = notes.find(|(name, _)| name == NOTE) else { return Ok(None) };
        let decoded = value.as_ref().and_then(|value| clock::decode(value).ok());
        let damaged = || StorageError::Corrupt("the note of how far the barrier is".into());
        decoded.map(Some).ok_or_else(damaged)
    }

    /// The note of `standing`, to be durable before [`noted`](Self::noted).
    pub fn note(standing: BarrierStanding) -> (Bytes, Bytes) {
        (Bytes::from_static(NOTE), clock::encode(&standing).into())
    }

    /// Who the members are that are not removed; this one is one of them.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = NodeId>) {
        self.members = members.into_iter().chain([self.me]).collect();
        self.members.sort_unstable();
        self.members.dedup();
    }

    /// Takes what another member knows. Returns whether that was news.
    pub fn heard(&mut self, table: &BarrierTable) -> bool {
        self.table.join(table)
    }

    /// What others are told: nothing that is not on disk.
    pub fn table(&self) -> BarrierTable {
        let mut table = self.table.clone();
        table.join(&BarrierTable([(self.me, self.own)].into()));
        table
    }

    /// This member's own part.
    pub const fn own(&self) -> BarrierStanding {
        self.own
    }

    /// Whether its disk says anything of its part.
    pub const fn has_note(&self) -> bool {
        self.has_note
    }

    /// What its own part becomes once its [`task`](Self::task) is done; `None` if it has none of which
    /// something is to be said.
    pub fn after_task(&self) -> Option<BarrierStanding> {
        let round = self.own.progress.round;
        let progress = match self.task() {
            BarrierTask::Wait | BarrierTask::BeginAnew => return None,
            BarrierTask::Propose => BarrierProgress::at(round + 1, BarrierStage::Entered),
            BarrierTask::Enter(round) => BarrierProgress::at(round, BarrierStage::Entered),
            BarrierTask::Equal => BarrierProgress::at(round, BarrierStage::Equal),
            BarrierTask::Drain => BarrierProgress::at(round, BarrierStage::Confirmed),
            BarrierTask::Hide(_) => BarrierProgress::at(round, BarrierStage::Hidden),
        };
        Some(BarrierStanding { progress, ..self.own })
    }

    /// Its own part is on disk.
    pub fn noted(&mut self, own: BarrierStanding) {
        self.own = self.own.max(own);
        self.has_note = true;
    }

    /// The least that any member has come to; one that is not heard of has come nowhere.
    pub fn floor(&self) -> BarrierProgress {
        let progress = |&node: &NodeId| {
            if node == self.me { self.own.progress } else { self.known(node).progress }
        };
        self.members.iter().map(progress).min().unwrap_or_default()
    }

    fn known(&self, node: NodeId) -> BarrierStanding {
        let nothing = BarrierStanding {
            progress: BarrierProgress::at(0, BarrierStage::Entered),
            ..BarrierStanding::default()
        };
        self.table.0.get(&node).copied().unwrap_or(nothing)
    }

    /// The round on which all are agreed: what is older may be forgotten, and what members say that have
    /// not confirmed it is refused.
    pub fn agreed(&self) -> u64 {
        // What was agreed once stays so, also while a member begins anew, this one included.
        self.floor().confirmed().max(self.own.progress.hidden()).max(self.table.agreed())
    }

    /// The round whose remnants may be dropped: every member has hidden its own.
    pub fn complete(&self) -> u64 {
        // A round is entered only once the one before it is complete.
        self.floor().hidden().max(self.own.progress.round.saturating_sub(1))
    }

    /// Whether a message is taken whose sender said that it was at `number`.
    pub fn takes(&self, number: u64) -> bool {
        number >= self.agreed()
    }

    /// Members that have not come as far as the round that is under way goes next, and so stop it.
    pub fn waits_for(&self) -> Vec<NodeId> {
        let wanted = self.own.progress;
        let is_behind = |node: &NodeId| *node != self.me && self.known(*node).progress < wanted;
        self.members.iter().copied().filter(is_behind).collect()
    }

    /// Whether the disk has lost what this member told of itself, or others have forgotten without it. Where
    /// there never was another member nobody could bring anything.
    fn is_behind(&self) -> bool {
        if self.table.0.keys().all(|node| *node == self.me) {
            return false;
        }
        let own = self.own.progress;
        let told = self.table.0.get(&self.me).is_some_and(|told| *told > self.own);
        // Nobody enters a round before every member has hidden in the one before.
        let latest = self.table.latest().round;
        let is_late = latest > own.round + u64::from(own.stage == BarrierStage::Hidden);
        // One that was removed, and is a member again.
        told || is_late || self.table.agreed() > self.own.number()
    }

    /// What to do now.
    pub fn task(&self) -> BarrierTask {
        if self.is_behind() {
            return BarrierTask::BeginAnew;
        }
        let (own, floor) = (self.own.progress, self.floor());
        let round = own.round;
        match own.stage {
            BarrierStage::Hidden if self.table.latest().round > round => {
                BarrierTask::Enter(round + 1)
            }
            BarrierStage::Hidden if floor >= own => BarrierTask::Propose,
            BarrierStage::Entered => BarrierTask::Equal,
            BarrierStage::Equal if floor >= own => BarrierTask::Drain,
            BarrierStage::Confirmed if floor >= own => BarrierTask::Hide(round),
            _ => BarrierTask::Wait,
        }
    }
}
