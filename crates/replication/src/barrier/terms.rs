//! What messages say of how far their sender was, and which are refused.

use std::collections::BTreeMap;

use clock::{NodeId, Round};
use serde::{Deserialize, Serialize};

use super::{BarrierProgress, BarrierStage, BarrierStanding};

/// The life of whom its peer has heard nothing. That one waits for it, from when it knows it as a member: so what
/// it sends is safe to take in the first life of a member, in which nobody counted it before.
const UNHEARD: u64 = u64::MAX - 1;
/// The life of a receiver that is to refuse what is sent.
const NOBODYS: u64 = u64::MAX;

/// What every message says of how far its sender was with the barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierStamp {
    /// The sender's life.
    pub life: u64,
    /// How far it was in it, as a number.
    pub number: u64,
    /// In which life the receiver is, as the sender knows.
    pub to_life: u64,
}

impl BarrierStamp {
    /// The lesser of two of one sender to one receiver.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        if (self.life, self.number) <= (other.life, other.number) { self } else { other }
    }
}

/// What a member asks of messages, and says in its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BarrierTerms {
    /// Whether any is taken: not while it is not known in which life this member is.
    pub(super) is_open: bool,
    pub(super) is_behind: bool,
    pub(super) own: BarrierStanding,
    /// The number that messages of those have at least of which nothing is heard.
    pub(super) least: u64,
    /// The number that messages have at least of a life that was not counted, also before that life is heard of.
    pub(super) joined: u64,
    pub(super) peers: BTreeMap<NodeId, Peer>,
}

/// What is asked of messages of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// They say at least this life, and in it this number.
    pub(super) required: (u64, u64),
    /// In which life it is.
    pub(super) life: u64,
    /// Whether that life was not counted when all came to what is required of the others.
    pub(super) is_later: bool,
}

impl BarrierTerms {
    /// Whether a message of `from` is taken; `is_hint` if it brings something to be kept for another. Such may
    /// come from an outbox, so that one that is emptied takes them from those only that are too. So does one
    /// that is about to be: else it might be given some after it has looked whether its own is empty.
    pub fn takes(&self, from: NodeId, stamp: BarrierStamp, is_hint: bool) -> bool {
        let peer = self.peers.get(&from);
        let required = peer.map_or((0, self.least), |peer| peer.required);
        let is_first = self.own.life <= Round::first_of(self.own.era()) + 1;
        let own = self.own.progress;
        let is_emptying = own.stage == BarrierStage::Confirmed && self.least >= own.number();
        let emptied = match is_emptying {
            true => BarrierProgress::at(own.round, BarrierStage::Emptied),
            false => own.emptied(),
        };
        // A life that began in this round and was not counted has nothing older to be kept.
        let entered = BarrierProgress::at(own.round, BarrierStage::Entered);
        let is_new = peer.is_some_and(|it| it.is_later) && stamp.number >= entered.number();
        let known = peer.map_or(Round::first_of(self.own.era()), |peer| peer.life);
        self.is_open
            && (stamp.to_life == self.own.life || stamp.to_life == UNHEARD && is_first)
            && Round::era(stamp.life) == self.own.era()
            && (stamp.life, stamp.number) >= required
            && (stamp.life <= known || stamp.number >= self.joined)
            && (!is_hint || is_new || stamp.number >= emptied.number())
    }

    /// What a message to `to` says.
    pub fn stamp(&self, to: NodeId) -> BarrierStamp {
        let to_life = match self.peers.get(&to) {
            _ if self.is_behind => NOBODYS,
            Some(peer) => peer.life,
            None => UNHEARD,
        };
        BarrierStamp { life: self.own.life, number: self.own.progress.number(), to_life }
    }
}
