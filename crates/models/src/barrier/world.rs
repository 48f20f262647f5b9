//! Members, their disks and what they send, as the model of the barrier has them.

use std::collections::BTreeSet;

use replication::{BarrierStamp, BarrierStanding};

use super::OWNERS;
use crate::hand::Hand;

/// What is known of the write. Later is more: the join is the later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Known {
    #[default]
    Nothing,
    Live,
    /// It is a remnant.
    Removed,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub(super) known: Known,
    /// The round in which that changed last, and whether it counts as gone.
    pub(super) age: u64,
    pub(super) is_hidden: bool,
    /// The round that it entered.
    pub(super) round: u64,
    /// The last round of which what was older was dropped.
    pub(super) dropped: u64,
    /// For which owners the write is kept.
    pub(super) outbox: [bool; OWNERS],
}

impl Disk {
    pub(super) fn shown(&self) -> Known {
        if self.is_hidden { Known::Nothing } else { self.known }
    }

    pub(super) fn keeps(&self) -> bool {
        self.outbox.contains(&true)
    }

    /// Whether a reader is shown the write, as a fallback shows also what it keeps for others.
    pub(super) fn shows_reader(&self) -> bool {
        self.shown() == Known::Live || self.shown() == Known::Nothing && self.keeps()
    }

    /// As the engine does it.
    pub(super) fn merge(&mut self, delta: Known) {
        // Who still shows what it removed has missed it: then a hidden remnant is shown again.
        let is_news = if self.is_hidden { delta == Known::Live } else { delta > self.known };
        if is_news {
            self.known = self.known.max(delta);
            // Only a remnant has an age.
            let age = if self.known == Known::Removed { self.round } else { 0 };
            (self.age, self.is_hidden) = (age, false);
        }
    }

    /// A copy is dropped that is at owners.
    pub(super) fn leave(&mut self) {
        (self.known, self.is_hidden, self.age) = (Known::Nothing, false, 0);
    }
}

/// What a message brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Body {
    Merge,
    /// To be kept for this owner.
    Hint(usize),
}

/// A message that brings the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sent {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) body: Body,
    /// In which life its sender knew the receiver.
    to_life: u64,
    /// How far the sender was.
    life: u64,
    number: u64,
}

impl Sent {
    pub(super) fn stamp(self) -> BarrierStamp {
        let Self { life, number, to_life, .. } = self;
        BarrierStamp { life, number, to_life }
    }
}

/// A member. What is under way is `Some`, and `true` if it was so when its hand first looked for its task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) disk: Disk,
    pub(super) hand: Hand,
    pub(super) write: Option<bool>,
    /// A read that was shown the write.
    pub(super) read: Option<bool>,
    /// Whether it was found equal with the other owner since it entered its round.
    pub(super) equal: bool,
    /// The most that it has said of itself.
    pub(super) told: BarrierStanding,
    /// What its disk held at the beginning.
    first: (Known, [bool; OWNERS]),
}

impl Member {
    /// Whether the write is here in any way.
    pub(super) fn has(&self) -> bool {
        let is_under_way = self.write.is_some() || self.read.is_some();
        self.disk.known == Known::Live || self.disk.keeps() || is_under_way
    }

    /// Whether it shows what is left of the write though that is older than a round.
    pub(super) fn shows_older(&self, round: u64) -> bool {
        self.disk.shown() == Known::Removed && self.disk.age < round
    }

    /// Whether its disk has lost what it said of itself.
    pub(super) fn is_behind(&self) -> bool {
        self.hand.own() < self.told
    }
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BarrierState {
    pub(super) members: Vec<Member>,
    pub(super) sent: BTreeSet<Sent>,
    pub(super) losses: u8,
    pub(super) is_removed: bool,
    /// Whether anybody has dropped what was left of the write.
    pub(super) is_forgotten: bool,
    pub(super) has_begun_anew: bool,
}

impl BarrierState {
    /// The write is under way at the first; the third has a copy, or a hint for the second.
    pub(super) fn begin(members: usize, (copy, hint): (Known, bool)) -> Self {
        let member = |at| {
            let first = match at {
                0 if members > OWNERS => (Known::Removed, [false, false]),
                0 => (Known::Live, [false, false]),
                1 if members > OWNERS => (Known::Live, [false, false]),
                1 => (Known::Nothing, [false, false]),
                _ => (copy, [false, hint]),
            };
            let disk = Disk { known: first.0, outbox: first.1, ..Disk::default() };
            Member {
                disk,
                hand: Hand::of(at, members),
                write: (at == 0).then_some(false),
                read: None,
                equal: false,
                told: BarrierStanding::default(),
                first,
            }
        };
        Self {
            members: (0..members).map(member).collect(),
            sent: BTreeSet::new(),
            losses: 0,
            is_removed: members > OWNERS,
            is_forgotten: false,
            has_begun_anew: false,
        }
    }

    /// A member hears what all others know.
    pub(super) fn hear(&mut self, at: usize) {
        for other in (0..self.members.len()).filter(|other| *other != at) {
            let other = self.members[other].hand.clone();
            self.members[at].hand.hear(&other);
        }
    }

    /// A message as it would be sent now.
    pub(super) fn now(&self, from: usize, to: usize, body: Body) -> Sent {
        let BarrierStamp { life, number, to_life } = self.members[from].hand.stamp(to);
        Sent { from, to, body, to_life, life, number }
    }

    /// It is on its way from now on. An earlier one like it is taken nowhere where this one is not.
    pub(super) fn send(&mut self, sent: Sent) {
        let like = |it: &Sent| {
            (it.from, it.to, it.body, it.to_life) == (sent.from, sent.to, sent.body, sent.to_life)
        };
        let earlier = self.sent.iter().copied().find(like);
        if earlier.is_none_or(|it| it < sent) {
            earlier.map(|it| self.sent.remove(&it));
            self.sent.insert(sent);
        }
    }

    /// What members may send now of the write.
    pub(super) fn carried(&self) -> Vec<Sent> {
        let mut carried = Vec::new();
        for (from, member) in self.members.iter().enumerate() {
            let carries = member.write.is_some() || member.read.is_some();
            for to in (0..self.members.len()).filter(|to| *to != from) {
                if to < OWNERS && (carries || member.disk.outbox[to]) {
                    carried.push(self.now(from, to, Body::Merge));
                }
                if member.write.is_some() {
                    let owners = (0..OWNERS).filter(|owner| ![from, to].contains(owner));
                    carried.extend(owners.map(|owner| self.now(from, to, Body::Hint(owner))));
                }
            }
        }
        carried
    }

    /// A member's disk is lost, or as it was at the beginning, and with it what it heard of others.
    pub(super) fn lose(&mut self, at: usize, is_old: bool) {
        self.losses += 1;
        let members = self.members.len();
        let member = &mut self.members[at];
        let (known, outbox) = if is_old { member.first } else { Default::default() };
        member.disk = Disk { known, outbox, ..Disk::default() };
        member.hand = Hand::of(at, members);
        (member.write, member.read, member.equal) = (None, None, false);
    }

    /// Whether what each said of itself is known without this one's disk: what all have lost nobody knows.
    pub(super) fn may_lose(&self, lost: usize) -> bool {
        self.members.iter().enumerate().all(|(at, member)| {
            let knows = |(other, it): (usize, &Member)| {
                let known = if other == at { Some(it.hand.own()) } else { it.hand.known(at) };
                other != lost && known.is_some_and(|known| known >= member.told)
            };
            self.members.iter().enumerate().any(knows)
        })
    }
}
