//! How far members are, as each says it of itself: a value that only grows, and tables of them that join.
//!
//! Invariant: what is in a table a member could have come to ([`BarrierStanding::is_possible`]), so that there is
//! a next life and a next round after each.

use std::collections::BTreeMap;

use clock::{NodeId, RingId, Round};
use serde::{Deserialize, Serialize};

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
    /// No request is under way that was when all were equal.
    Confirmed,
    /// Nothing is pending that was when all had confirmed.
    Emptied,
    /// No read is under way that was when all had emptied.
    Settled,
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
            Self::Emptied => "emptied",
            Self::Settled => "settled",
            Self::Hidden => "hidden",
        }
    }
}

impl BarrierProgress {
    pub(super) const fn at(round: u64, stage: BarrierStage) -> Self {
        Self { round, stage }
    }

    /// Where it begins of whom nothing is heard.
    pub(super) const NOWHERE: Self = Self::at(0, BarrierStage::Entered);

    /// As a number that messages carry, in the same order.
    pub(super) const fn number(self) -> u64 {
        self.round.saturating_mul(8).saturating_add(self.stage as u64)
    }

    /// What all had come to, of whom a member had heard, that came to `self`.
    pub(super) fn passed(self) -> Self {
        let before = match self.stage {
            BarrierStage::Entered if self.round == 0 => return Self::NOWHERE,
            BarrierStage::Entered => return Self::at(self.round - 1, BarrierStage::Hidden),
            BarrierStage::Equal => BarrierStage::Entered,
            BarrierStage::Confirmed => BarrierStage::Equal,
            BarrierStage::Emptied => BarrierStage::Confirmed,
            BarrierStage::Settled => BarrierStage::Emptied,
            BarrierStage::Hidden => BarrierStage::Settled,
        };
        Self::at(self.round, before)
    }

    /// The last of the stages after which disks carry less of what is older, once all have come to `self`.
    pub(super) fn carried(self) -> Self {
        let least = self.least();
        Self::at(least.round, least.stage.min(BarrierStage::Emptied))
    }

    /// What a life has come to at least that is still to be joined by those who are at `self`: any other one is to begin
    /// anew, or says that it has hidden too.
    pub(super) fn joined(self) -> Self {
        match self.stage {
            BarrierStage::Hidden => self,
            BarrierStage::Emptied | BarrierStage::Settled => {
                Self::at(self.round, BarrierStage::Entered)
            }
            _ if self.round == 0 => Self::NOWHERE,
            _ => Self::at(self.round - 1, BarrierStage::Hidden),
        }
    }

    /// The last time that its outbox was empty because all had confirmed.
    pub(super) const fn emptied(self) -> Self {
        match self.stage {
            BarrierStage::Emptied | BarrierStage::Settled | BarrierStage::Hidden => {
                Self::at(self.round, BarrierStage::Emptied)
            }
            _ => Self::at(self.round.saturating_sub(1), BarrierStage::Emptied),
        }
    }

    /// The last round that it has settled.
    pub(super) fn settled(self) -> u64 {
        if self.stage >= BarrierStage::Settled { self.round } else { self.round.saturating_sub(1) }
    }

    /// The last round in which it has hidden its remnants.
    pub(super) fn hidden(self) -> u64 {
        if self.stage == BarrierStage::Hidden { self.round } else { self.round.saturating_sub(1) }
    }

    /// What was sent before its sender was here is refused once all have come to `self`: the last of the
    /// stages in which something ends.
    pub(super) fn least(self) -> Self {
        match self.stage {
            BarrierStage::Entered | BarrierStage::Equal if self.round == 0 => Self::NOWHERE,
            BarrierStage::Entered | BarrierStage::Equal => {
                Self::at(self.round - 1, BarrierStage::Settled)
            }
            stage => Self::at(self.round, stage.min(BarrierStage::Settled)),
        }
    }
}

/// What a member says of itself. A later life counts, whatever an earlier one had come to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BarrierStanding {
    /// The era in its upper half; in the lower one how often the member began anew in it, empty.
    pub life: u64,
    /// How far it is.
    pub progress: BarrierProgress,
}

impl BarrierStanding {
    /// How often the cluster had been restored as a whole when this life began.
    pub(super) const fn era(self) -> u64 {
        Round::era(self.life)
    }

    /// Whether a member could have come to it. What says that it came further is not taken: it is forged or rubbish,
    /// and there would be no next life or round.
    fn is_possible(self) -> bool {
        let (life, round) = (self.life, self.progress.round);
        let is_counted = |number: u64| number & (Round::first_of(1) - 1) <= COUNT_MAX;
        let era = self.era();
        era <= ERA_MAX && Round::era(round) == era && is_counted(life) && is_counted(round)
    }
}

/// The last era, and the last life and round of one, that are taken from others.
const ERA_MAX: u64 = 1 << 24;
const COUNT_MAX: u64 = 1 << 31;

/// How far every member is, as far as it is known: a join of what each says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierTable {
    /// What each says.
    pub standings: BTreeMap<NodeId, BarrierStanding>,
    /// The ring that they are members of: all of one table know it by one id, or by none yet.
    pub ring: RingId,
}

impl<T: Into<BTreeMap<NodeId, BarrierStanding>>> From<T> for BarrierTable {
    fn from(standings: T) -> Self {
        Self { standings: standings.into(), ring: RingId::UNKNOWN }
    }
}

impl BarrierTable {
    /// The least upper bound. Takes no more members than it has room for, and of each only what it could have come
    /// to. Returns whether it changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = self.ring < other.ring;
        self.ring = self.ring.max(other.ring);
        for (&node, &standing) in &other.standings {
            let known = &mut self.standings;
            let has_room = known.len() < BARRIER_MEMBERS_MAX || known.contains_key(&node);
            if !has_room || !standing.is_possible() {
                continue;
            }
            if known.get(&node).is_none_or(|known| *known < standing) {
                known.insert(node, standing);
                changed = true;
            }
        }
        changed
    }

    /// The latest era that somebody is in.
    pub(super) fn era(&self) -> u64 {
        self.standings.values().map(|standing| standing.era()).max().unwrap_or(0)
    }

    /// How far the furthest in an era is.
    pub(super) fn latest(&self, of: u64) -> BarrierProgress {
        let in_it = self.standings.values().filter(|standing| standing.era() == of);
        let first = BarrierProgress::at(Round::first_of(of), BarrierStage::Hidden);
        in_it.map(|standing| standing.progress).max().unwrap_or(first).max(first)
    }
}
