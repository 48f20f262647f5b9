//! The barrier: when what is left of deleted keys may be forgotten (design.md, One barrier).
//!
//! Forgetting that a write was removed is safe once the write is nowhere: in no replica, no outbox, no
//! request under way, no message. All members that are not removed go through *rounds* together, and each
//! says how far it is, for good: a member's part of the table only grows, and tables join, as a whole. In a
//! round a member
//!
//! 1. *enters*: from here on its replica tells what changes from what is older;
//! 2. is *equal*, once each of its partitions was found the same at every other owner since it entered, and
//!    it has no part in a handover. Once **all** are, a write that an older remnant covers is live at no
//!    owner, and an owner that gets it again knows that it is removed. What may still carry it are the
//!    requests that made it, deltas pending for others, and reads. Each comes from those before it only, so
//!    they end one after another:
//! 3. *confirms*, *empties*, *settles*: three times, once all have come to the stage before, it waits until
//!    what it was doing then has ended and its outbox was empty. Once **all** have confirmed, no request is
//!    left that made the write, and none of its messages is taken any more; once all have emptied, no outbox
//!    has it; once all have settled, no read that met it there is under way: the forgetting is *agreed*;
//! 4. has *hidden* its remnants (`storage::Forgetting`). Once **all** have, each drops them, and the next round
//!    may be entered.
//!
//! **Messages.** Each says how far its sender was ([`BarrierStamp`]). Once all have come to one of these three
//! stages, what was sent before its sender had is refused ([`BarrierTerms::takes`]).
//!
//! And an outbox may pass on what it holds to another: so a member that has emptied its own keeps nothing for
//! others that comes from one that has not.
//!
//! **Lives.** A member whose disk lost what it once told of itself, by a restored backup or an empty directory,
//! hears that from the others: it has to begin anew, empty, in another *life*, and from then on takes and says
//! nothing before it has. It may come to hold what others
//! have forgotten, or are about to, only by a message of a member that is not through with it. So each message
//! says by which life its sender knows the receiver, and one that is meant for another is refused: who has sent
//! it anything has the new life in its table before it says that it is further, and with the one others hear the
//! other, and wait for it. What a life says that is later than those that were waited for is taken, whatever
//! stage it is at: nobody sent it anything who was not through. A joining member is in its first life.
//!
//! **Eras.** A cluster that is restored from backups as a whole begins its rounds anew: the upper half of the
//! number of a life says how often that was. Members of different eras do not listen to one another.
//!
//! Nobody decides for others, no clock takes part, and a member that is not heard of stops the barrier for all
//! until it returns or is removed.
//!
//! Decision: docs/decisions/2026-11-26-the-barrier-goes-in-rounds.md.

mod hand;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use hand::{BarrierHand, BarrierLook, BarrierShown, BarrierStart, BarrierStep, BarrierTimes};

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::NodeId;
use sabotage::Bug;
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
    const fn at(round: u64, stage: BarrierStage) -> Self {
        Self { round, stage }
    }

    /// Where it begins of whom nothing is heard.
    const NOWHERE: Self = Self::at(0, BarrierStage::Entered);

    /// As a number that messages carry, in the same order.
    const fn number(self) -> u64 {
        self.round.saturating_mul(8).saturating_add(self.stage as u64)
    }

    /// The last time that its outbox was empty because all had confirmed.
    const fn emptied(self) -> Self {
        match self.stage {
            BarrierStage::Emptied | BarrierStage::Settled | BarrierStage::Hidden => {
                Self::at(self.round, BarrierStage::Emptied)
            }
            _ => Self::at(self.round.saturating_sub(1), BarrierStage::Emptied),
        }
    }

    /// The last round that it has settled.
    fn settled(self) -> u64 {
        if self.stage >= BarrierStage::Settled { self.round } else { self.round.saturating_sub(1) }
    }

    /// The last round in which it has hidden its remnants.
    fn hidden(self) -> u64 {
        if self.stage == BarrierStage::Hidden { self.round } else { self.round.saturating_sub(1) }
    }

    /// What was sent before its sender was here is refused once all have come to `self`: the last of the
    /// stages in which something ends.
    fn least(self) -> Self {
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
    /// The last round that was agreed on, as far as was known when this life began.
    pub since: u64,
}

/// Bits of a life below its era.
const ERA_SHIFT: u32 = 32;

/// How often the cluster had been restored as a whole when this life began.
const fn era(life: u64) -> u64 {
    life >> ERA_SHIFT
}

/// The round that is over when an era begins.
const fn first_round(era: u64) -> u64 {
    era << ERA_SHIFT
}

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
    is_open: bool,
    is_behind: bool,
    own: BarrierStanding,
    /// The number that messages of those have at least of which nothing is heard.
    least: u64,
    peers: BTreeMap<NodeId, Peer>,
}

/// What is asked of messages of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    /// They say at least this life, and in it this number.
    required: (u64, u64),
    /// In which life it is.
    life: u64,
}

impl BarrierTerms {
    /// Whether a message of `from` is taken; `is_hint` if it brings something to be kept for another. Such may
    /// come from an outbox, so that one that is emptied takes them from those only that are too.
    pub fn takes(&self, from: NodeId, stamp: BarrierStamp, is_hint: bool) -> bool {
        let required = self.peers.get(&from).map_or((0, self.least), |peer| peer.required);
        self.is_open
            && stamp.to_life == self.own.life
            && era(stamp.life) == era(self.own.life)
            && (stamp.life, stamp.number) >= required
            && (!is_hint || required.1 == 0 || stamp.number >= self.own.progress.emptied().number())
    }

    /// What a message to `to` says.
    pub fn stamp(&self, to: NodeId) -> BarrierStamp {
        let to_life = match self.peers.get(&to) {
            _ if self.is_behind => u64::MAX,
            Some(peer) => peer.life,
            None => 0,
        };
        BarrierStamp { life: self.own.life, number: self.own.progress.number(), to_life }
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
            let known = self.0.get(&node);
            if known.is_none_or(|known| *known < standing) {
                self.0.insert(node, standing);
                changed = true;
            }
        }
        changed
    }

    /// The latest era that somebody is in.
    fn era(&self) -> u64 {
        self.0.values().map(|standing| era(standing.life)).max().unwrap_or(0)
    }

    /// How far the furthest in an era is.
    fn latest(&self, of: u64) -> BarrierProgress {
        let in_it = self.0.values().filter(|standing| era(standing.life) == of);
        let first = BarrierProgress::at(first_round(of), BarrierStage::Hidden);
        in_it.map(|standing| standing.progress).max().unwrap_or(first).max(first)
    }
}

/// What a member's notes say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierNote {
    /// Its own part.
    pub standing: BarrierStanding,
    /// What all had come to, the last time that it was seen.
    passed: BarrierProgress,
    /// In which lives members were then.
    lives: BTreeMap<NodeId, u64>,
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
    /// Have ended what was under way when this task was first given, and have had an empty outbox then or
    /// later; have no part in a handover, and be equal by the present ownership. Then this stage is reached.
    Drain(BarrierStage),
    /// Hide remnants older than this round.
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
    members: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    /// What all had come to at some time, and in which lives members were then.
    passed: BarrierProgress,
    lives: BTreeMap<NodeId, u64>,
}

impl Barrier {
    /// A member as its notes have it; `None` for a directory without one. Nothing is known of others.
    pub fn new(me: NodeId, noted: Option<BarrierNote>) -> Self {
        let has_note = noted.is_some();
        let BarrierNote { standing: own, passed, lives } = noted.unwrap_or_else(|| BarrierNote {
            passed: BarrierProgress::NOWHERE,
            ..BarrierNote::default()
        });
        // So much each of them had said, whoever else has forgotten it.
        let said = |(&node, &life): (&NodeId, &u64)| {
            (node, BarrierStanding { life, progress: passed, since: 0 })
        };
        let table = BarrierTable(lives.iter().map(said).collect());
        let (members, gone) = ([me].into(), BTreeSet::new());
        Self { me, own, has_note, table, members, gone, passed, lives }
    }

    /// A member whose directory is empty, in a cluster that is as far as `table` says: its next life
    /// begins in the round that is under way. To be noted before anybody hears of it.
    pub fn reborn(me: NodeId, table: &BarrierTable) -> BarrierStanding {
        let era = table.era();
        let told = table.0.get(&me).map_or(0, |standing| standing.life);
        let latest = table.latest(era);
        let round = latest.round;
        // In the first there is nothing to enter.
        let is_first = round == first_round(era);
        let stage = if is_first { BarrierStage::Hidden } else { BarrierStage::Entered };
        let life = told.max(first_round(era)) + 1;
        // What others agree on later than it knows may be what it gets before it has heard of that.
        let since = latest.hidden();
        BarrierStanding { life, progress: BarrierProgress::at(round, stage), since }
    }

    /// A member that was restored from a backup together with all others, in the next era.
    pub fn restored(noted: Option<BarrierNote>) -> BarrierStanding {
        let first = first_round(era(noted.unwrap_or_default().standing.life) + 1);
        let progress = BarrierProgress::at(first, BarrierStage::Hidden);
        BarrierStanding { life: first, progress, since: first }
    }

    /// Reads a member's own part from its notes.
    pub fn of_notes<'a>(
        notes: impl IntoIterator<Item = &'a (Bytes, Option<Bytes>)>,
    ) -> Result<Option<BarrierNote>, StorageError> {
        let mut notes = notes.into_iter();
        let Some((_, value)) = notes.find(|(name, _)| name == NOTE) else { return Ok(None) };
        let decoded = value.as_ref().and_then(|value| clock::decode(value).ok());
        let damaged = || StorageError::Corrupt("the note of how far the barrier is".into());
        decoded.map(Some).ok_or_else(damaged)
    }

    /// The note of `standing`, to be durable before [`noted`](Self::noted).
    pub fn note(&self, standing: BarrierStanding) -> (Bytes, Bytes) {
        // Another life has waited for nobody.
        let is_same = standing.life == self.own.life;
        let (passed, lives) = match is_same {
            true => (self.passed, self.lives.clone()),
            false => (BarrierProgress::NOWHERE, BTreeMap::new()),
        };
        let note = BarrierNote { standing, passed, lives };
        (Bytes::from_static(NOTE), clock::encode(&note).into())
    }

    /// Who the members are that are not removed, this one among them, and who is gone. One that is in the table
    /// and of which nothing else is heard counts as a member.
    pub fn set_members(
        &mut self,
        members: impl IntoIterator<Item = NodeId>,
        gone: impl IntoIterator<Item = NodeId>,
    ) {
        self.members = members.into_iter().chain([self.me]).collect();
        self.gone = gone.into_iter().filter(|node| *node != self.me).collect();
        self.pass();
    }

    /// Takes what another member knows. Returns whether that was news.
    pub fn heard(&mut self, table: &BarrierTable) -> bool {
        let is_news = self.table.join(table);
        self.pass();
        is_news
    }

    /// Takes note of what all have come to.
    fn pass(&mut self) {
        let floor = self.floor();
        if floor > self.passed {
            self.passed = floor;
            // Who is gone had no part in it: it is behind if it returns, and hears that.
            for &node in &self.gone {
                let left = self.table.0.get(&node).copied().unwrap_or_default();
                if era(left.life) == era(self.own.life) && left.progress < floor {
                    let standing = BarrierStanding { progress: floor, ..left };
                    self.table.join(&BarrierTable([(node, standing)].into()));
                }
            }
            self.lives = self.table.0.iter().map(|(&node, it)| (node, it.life)).collect();
        }
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

    /// Whether any other member has said how far it is.
    pub fn has_heard(&self) -> bool {
        self.table.0.keys().any(|node| *node != self.me)
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
            BarrierTask::Drain(stage) => BarrierProgress::at(round, stage),
            BarrierTask::Hide(_) => BarrierProgress::at(round, BarrierStage::Hidden),
        };
        Some(BarrierStanding { progress, ..self.own })
    }

    /// Its own part is on disk.
    pub fn noted(&mut self, own: BarrierStanding) {
        if own.life != self.own.life {
            (self.passed, self.lives) = (BarrierProgress::NOWHERE, BTreeMap::new());
        }
        self.own = self.own.max(own);
        self.has_note = true;
        self.pass();
    }

    /// Everybody that is waited for, but for this member.
    fn others(&self) -> impl Iterator<Item = NodeId> {
        let unheard = self.members.iter().filter(|node| !self.table.0.contains_key(node));
        let all = self.table.0.keys().filter(|node| !self.gone.contains(node)).chain(unheard);
        all.copied().filter(|node| *node != self.me)
    }

    /// The least that any member has come to; one that is not heard of has come nowhere.
    pub fn floor(&self) -> BarrierProgress {
        let least = self.others().map(|node| self.known(node)).min();
        least.map_or(self.own.progress, |least| least.min(self.own.progress))
    }

    fn known(&self, node: NodeId) -> BarrierProgress {
        let known = self.table.0.get(&node).filter(|it| era(it.life) == era(self.own.life));
        known.map_or(BarrierProgress::NOWHERE, |it| it.progress)
    }

    /// The round on which all are agreed: what is older may be forgotten.
    pub fn agreed(&self) -> u64 {
        // What was agreed once stays so, also while a member begins anew, this one included.
        let seen = self.passed.settled().max(self.own.progress.hidden());
        let hidden = self.in_era().map(|standing| standing.progress.hidden()).max();
        seen.max(hidden.unwrap_or(0))
    }

    /// What is known of members of this one's era.
    fn in_era(&self) -> impl Iterator<Item = &BarrierStanding> {
        self.table.0.values().filter(|it| era(it.life) == era(self.own.life))
    }

    /// The round whose remnants may be dropped: every member has hidden its own.
    pub fn complete(&self) -> u64 {
        // A round is entered only once the one before it is complete.
        let complete = self.floor().hidden().max(self.own.progress.round.saturating_sub(1));
        // Nobody has said anything of those before this life.
        if complete > self.own.since { complete } else { 0 }
    }

    /// What is asked of messages, and said in them; none is taken unless it `is_open`.
    pub fn terms(&self, is_open: bool) -> BarrierTerms {
        let least = self.passed.least().number();
        let peer = |(&node, standing): (&NodeId, &BarrierStanding)| {
            let counted = self.lives.get(&node).copied().unwrap_or(0);
            let is_later = standing.life > counted;
            // Nobody that was not through with it sent a later life anything older.
            let required = if is_later { (standing.life, 0) } else { (counted, least) };
            (node, Peer { required, life: standing.life })
        };
        let peers = self.table.0.iter().map(peer).collect();
        // One that has to begin anew takes nothing, and is listened to by nobody.
        let is_behind = self.is_behind();
        BarrierTerms { is_open: is_open && !is_behind, is_behind, own: self.own, least, peers }
    }

    /// Members that have not come as far as this one, or stand where it does in a round that is under way:
    /// without them it does not go on.
    pub fn waits_for(&self) -> Vec<NodeId> {
        let wanted = self.own.progress;
        self.others().filter(|node| self.known(*node) < wanted).collect()
    }

    /// Members that stand where this one does while a round is under way: each of them has to go on.
    pub fn goes_with(&self) -> Vec<NodeId> {
        let is_over = self.own.progress.stage == BarrierStage::Hidden;
        let wanted = self.own.progress;
        self.others().filter(|node| !is_over && self.known(*node) == wanted).collect()
    }

    /// Whether others are members of another era: they were restored as a whole cluster, or this one was.
    pub fn is_apart(&self) -> bool {
        self.others()
            .any(|node| self.table.0.get(&node).is_some_and(|it| era(it.life) > era(self.own.life)))
    }

    /// Whether the disk has lost what this member told of itself, or others have forgotten without it. Where
    /// there never was another member nobody could bring anything.
    fn is_behind(&self) -> bool {
        if !self.has_heard() || sabotage::is(Bug::OldDiskMerged) {
            return false;
        }
        let own = self.own.progress;
        let told = self.table.0.get(&self.me).is_some_and(|told| *told > self.own);
        // Nobody enters a round before every member has hidden in the one before.
        let latest = self.table.latest(era(self.own.life)).round;
        let is_late = latest > own.round + u64::from(own.stage == BarrierStage::Hidden);
        // One that was removed, and is a member again.
        let is_left_out = self.in_era().any(|it| {
            let hidden = it.progress.hidden();
            hidden > self.own.since && own < BarrierProgress::at(hidden, BarrierStage::Settled)
        });
        told || is_late || is_left_out
    }

    /// What to do now.
    pub fn task(&self) -> BarrierTask {
        if self.is_behind() {
            return BarrierTask::BeginAnew;
        }
        let (own, floor) = (self.own.progress, self.floor());
        let round = own.round;
        let is_first = floor >= own;
        match own.stage {
            BarrierStage::Hidden if self.table.latest(era(self.own.life)).round > round => {
                BarrierTask::Enter(round + 1)
            }
            BarrierStage::Hidden if is_first => BarrierTask::Propose,
            BarrierStage::Entered => BarrierTask::Equal,
            BarrierStage::Equal if is_first => BarrierTask::Drain(BarrierStage::Confirmed),
            BarrierStage::Confirmed if is_first => BarrierTask::Drain(BarrierStage::Emptied),
            BarrierStage::Emptied if is_first => BarrierTask::Drain(BarrierStage::Settled),
            BarrierStage::Settled if is_first => BarrierTask::Hide(round),
            _ => BarrierTask::Wait,
        }
    }
}
