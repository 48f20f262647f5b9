//! The barrier: when what is left of deleted keys may be forgotten (design.md, One barrier).
//!
//! Forgetting that a write was removed is safe once the write is nowhere: in no replica, no outbox, no
//! request under way, no message. All members that are not removed go through *rounds* together, and each
//! says how far it is, for good: a member's part of the table only grows, and tables join, as a whole. In a
//! round a member
//!
//! 1. *enters*, once its partitions were found the same at every other owner since the round before was over: what they
//!    brought each other then is as old as that round, at both. From here on its replica tells what changes from what is
//!    older;
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
//! And an outbox may pass on what it holds to another: so once all have confirmed a member keeps nothing for
//! others that comes from one that has not emptied its own.
//!
//! **Lives.** A member whose disk lost what it once told of itself, by a restored backup or an empty directory,
//! hears that from the others: it has to begin anew, empty, in another *life*, and from then on takes and says
//! nothing before it has. It may come to hold what others
//! have forgotten, or are about to, only by a message of a member that is not through with it. So each message
//! says by which life its sender knows the receiver, and one that is meant for another is refused: who has sent
//! it anything has the new life in its table before it says that it is further, and with the one others hear the
//! other, and wait for it. What a life says that is later than those that were waited for is taken, though it is at an
//! earlier stage of the round: nobody sent it anything who was not through. So it holds nothing of before the round that the
//! others have agreed on, and once one of them has hidden it *follows*: it says that it has, too. It could not be found
//! equal with those that hide what it got from one that does not yet. A joining member is in its first life.
//!
//! All of that holds of senders that know how far they are. One whose disk is lost or old, and that has not heard so, is no
//! such: a life takes nothing from those that it knew to be further when it began, and one without which others went on though
//! it did not know how far they were, begins anew. So does that of a member that came over from another ring, but with what
//! it holds, until it has gone through a round with the others: before, that may be all that there is of it. Others take nothing
//! from a life that is left out so and does not know it yet: none from below the round, once they have emptied their outboxes in that.
//!
//! **Eras.** A cluster that is restored from backups as a whole begins its rounds anew: the upper half of the
//! number of a life says how often that was. Members of different eras do not listen to one another.
//!
//! Nobody decides for others, no clock takes part, and a member that is not heard of stops the barrier for all
//! until it returns or is removed.
//!
//! Decisions: docs/decisions/2026-11-26-the-barrier-goes-in-rounds.md,
//! docs/decisions/2026-11-28-a-life-left-out-of-a-round-begins-anew.md.

mod hand;
#[cfg(test)]
mod model;
mod standing;
mod terms;
#[cfg(test)]
mod tests;

pub use hand::{BarrierHand, BarrierLook, BarrierShown, BarrierStart, BarrierStep, BarrierTimes};
pub use standing::{
    BARRIER_MEMBERS_MAX, BarrierProgress, BarrierStage, BarrierStanding, BarrierTable,
};
pub use terms::{BarrierStamp, BarrierTerms};

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::{NodeId, RingId, Round};
use sabotage::Bug;
use serde::{Deserialize, Serialize};
use storage::StorageError;
use terms::Peer;

/// The note of a member's own part.
const NOTE: &[u8] = b"barrier";

/// What a member's notes say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierNote {
    /// Its own part.
    pub standing: BarrierStanding,
    /// What all had come to, the last time that it was seen.
    passed: BarrierProgress,
    /// In which lives others were then. It stands among them itself while it may hold what nobody else does, from another
    /// ring.
    lives: BTreeMap<NodeId, u64>,
    /// Of which ring it is a member.
    ring: RingId,
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarrierTask {
    /// Nothing of its own: others are waited for, or there is nothing to forget.
    Wait,
    /// Begin the next round, if there is something to forget, as it is [entered](Self::Enter).
    Propose,
    /// Be found equal with all other owners since the round before was over, then enter this one: have the replica take
    /// note (`storage::Command::Enter`), and say so.
    Enter(u64),
    /// Others have hidden their remnants in this round, and had not heard of this life when they agreed on it. It was
    /// not left out of it, so it has nothing to hide: say that it has.
    Follow(u64),
    /// Be found equal with all other owners, by comparisons begun since the round was entered, and have no
    /// part in a handover ([`Core::transfers`](crate::Core::transfers)).
    Equal,
    /// Have ended what was under way when this task was first given, and have had an empty outbox then or
    /// later; have no part in a handover, and be equal by the present ownership. Then this stage is reached.
    Drain(BarrierStage),
    /// Hide remnants older than this round.
    Hide(u64),
    /// This member lost what it told of itself, or was left out of a round: set the directory aside and begin anew,
    /// empty, as [`Barrier::reborn`].
    BeginAnew,
    /// This member was left out of a round, and may hold what nobody else does: begin anew, with what it holds.
    GoOnAnew,
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
    /// What all had come to at some time, and in which lives members were then; before this life has waited for
    /// anybody, what others had come to without it.
    passed: BarrierProgress,
    lives: BTreeMap<NodeId, u64>,
    /// Whether its next life begins with what it holds.
    keeps: bool,
    /// Its ring, as its own disk has it, and as it was founded.
    ring: RingId,
    founds: RingId,
}

impl Barrier {
    /// A member as its notes have it; `None` for a directory without one. Nothing is known of others.
    pub fn new(me: NodeId, noted: Option<BarrierNote>) -> Self {
        let has_note = noted.is_some();
        let BarrierNote { standing: own, passed, lives, ring } = noted.unwrap_or_else(|| {
            BarrierNote { passed: BarrierProgress::NOWHERE, ..BarrierNote::default() }
        });
        // So much each of them had said, whoever else has forgotten it.
        let said =
            |(&node, &life): (&NodeId, &u64)| (node, BarrierStanding { life, progress: passed });
        let others = lives.iter().filter(|(node, _)| **node != me);
        let table = BarrierTable { standings: others.map(said).collect(), ring };
        let (members, gone) = ([me].into(), BTreeSet::new());
        Self {
            me,
            own,
            has_note,
            table,
            members,
            gone,
            passed,
            lives,
            keeps: false,
            ring,
            founds: RingId::UNKNOWN,
        }
    }

    /// That of a founder of `ring`, unless it has noted or hears of which ring it is.
    #[must_use]
    pub fn founding(mut self, ring: RingId) -> Self {
        self.founds = ring;
        self
    }

    /// The round that a member is in when it starts, as its notes have it. Without any a founder of `founded` is in the one
    /// before the first, and any other in none.
    pub fn begins_in(noted: Option<&BarrierNote>, founded: Option<RingId>) -> Option<Round> {
        let of_note =
            |note: &BarrierNote| Round { ring: note.ring, number: note.standing.progress.round };
        noted.map(of_note).or_else(|| Some(Round { ring: founded?, number: 0 }))
    }

    /// The ring whose rounds these are.
    pub fn ring(&self) -> RingId {
        let known = [self.ring, self.table.ring, self.founds];
        known.into_iter().find(|ring| *ring != RingId::UNKNOWN).unwrap_or_default()
    }

    /// A member whose directory is empty, in a cluster that is as far as `table` says: its next life
    /// begins in the round that is under way. To be noted before anybody hears of it.
    ///
    /// A founder begins in the life before the first one of a member that joins. Its next one is none of these:
    /// what was sent to it before its sender had heard of it is of the life that it lost.
    pub fn reborn(me: NodeId, table: &BarrierTable) -> BarrierStanding {
        let era = table.era();
        let first = Round::first_of(era);
        let told = table.standings.get(&me).map_or(first, |standing| standing.life.max(first + 1));
        let latest = table.latest(era);
        // It has nothing to hide where others have hidden theirs.
        let is_agreed = latest.stage == BarrierStage::Hidden;
        let stage = if is_agreed { BarrierStage::Hidden } else { BarrierStage::Entered };
        let progress = BarrierProgress::at(latest.round, stage);
        BarrierStanding { life: told.max(first) + 1, progress }
    }

    /// A member that was restored from a backup together with all others, in the next era.
    pub fn restored(noted: Option<BarrierNote>) -> BarrierStanding {
        let first = Round::first_of(noted.unwrap_or_default().standing.era() + 1);
        let progress = BarrierProgress::at(first, BarrierStage::Hidden);
        BarrierStanding { life: first, progress }
    }

    /// Whether a member whose log lost some records, before which its notes were `before`, may hold again what all have
    /// forgotten since: its delete, or that a hint of it was delivered, may be among them. That holds where the member
    /// came further with the barrier than it had noted then; what it is still to do, it does anew when it starts.
    pub fn doubts(before: &[(Bytes, Option<Bytes>)], noted: Option<&BarrierNote>) -> bool {
        let standing = |note: Option<&BarrierNote>| note.map(|note| note.standing);
        let before = Self::of_notes(before).ok().flatten();
        let [before, now] = [before.as_ref(), noted].map(|it| standing(it).unwrap_or_default());
        before != now && !sabotage::is(Bug::HoleTakenForWhole)
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
        let is_same = standing.life == self.own.life;
        let (passed, lives) = match is_same {
            true => (self.passed, self.lives.clone()),
            false => self.passed_before(standing),
        };
        let note = BarrierNote { standing, passed, lives, ring: self.ring() };
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
                let left = self.table.standings.get(&node).copied().unwrap_or_default();
                if left.era() == self.own.era() && left.progress < floor {
                    let standing = BarrierStanding { progress: floor, ..left };
                    self.table.join(&BarrierTable::from([(node, standing)]));
                }
            }
            // With whom all have settled, others hold what it does.
            let keeps = self.keeps_data() && floor.stage != BarrierStage::Settled;
            let kept = keeps.then_some((self.me, self.own.life));
            self.lives =
                self.heard_of_others().map(|(&node, it)| (node, it.life)).chain(kept).collect();
        }
    }

    /// What was heard of others, also of those that are no members any more.
    fn heard_of_others(&self) -> impl Iterator<Item = (&NodeId, &BarrierStanding)> {
        self.table.standings.iter().filter(|(node, _)| **node != self.me)
    }

    /// What a life that begins as `own` knows that all had come to without it, and in which lives those were that had. It
    /// has waited for nobody.
    fn passed_before(&self, own: BarrierStanding) -> (BarrierProgress, BTreeMap<NodeId, u64>) {
        let passed = self.passed_by_others(own.era());
        let had = |it: &BarrierStanding| it.era() == own.era() && it.progress >= passed;
        let others = self.heard_of_others().filter(|(_, it)| had(it));
        let kept = self.keeps.then_some((self.me, own.life));
        (passed, others.map(|(&node, it)| (node, it.life)).chain(kept).collect())
    }

    /// What all had come to whom another one had heard of, when that one said how far it is.
    fn passed_by_others(&self, era: u64) -> BarrierProgress {
        let in_era = self.heard_of_others().filter(|(_, standing)| standing.era() == era);
        let passed = in_era.map(|(_, standing)| standing.progress.passed());
        passed.max().unwrap_or(BarrierProgress::NOWHERE)
    }

    /// What others are told: nothing of itself that is not on disk.
    pub fn table(&self) -> BarrierTable {
        let mut table = self.table.clone();
        table.join(&BarrierTable::from([(self.me, self.own)]));
        table.ring = self.ring();
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
        self.heard_of_others().next().is_some()
    }

    /// What its own part becomes once its [`task`](Self::task) is done; `None` if it has none of which
    /// something is to be said.
    pub fn after_task(&self) -> Option<BarrierStanding> {
        let round = self.own.progress.round;
        let progress = match self.task() {
            BarrierTask::Wait | BarrierTask::BeginAnew | BarrierTask::GoOnAnew => return None,
            BarrierTask::Propose => BarrierProgress::at(round + 1, BarrierStage::Entered),
            BarrierTask::Enter(round) => BarrierProgress::at(round, BarrierStage::Entered),
            BarrierTask::Equal => BarrierProgress::at(round, BarrierStage::Equal),
            BarrierTask::Drain(stage) => BarrierProgress::at(round, stage),
            BarrierTask::Follow(round) | BarrierTask::Hide(round) => {
                BarrierProgress::at(round, BarrierStage::Hidden)
            }
        };
        Some(BarrierStanding { progress, ..self.own })
    }

    /// Its own part is on disk.
    pub fn noted(&mut self, own: BarrierStanding) {
        if own.life != self.own.life {
            (self.passed, self.lives) = self.passed_before(own);
        }
        self.ring = self.ring();
        self.own = self.own.max(own);
        self.has_note = true;
        self.pass();
    }

    /// Everybody that is waited for at some time, but for this member.
    pub fn others(&self) -> impl Iterator<Item = NodeId> {
        let unheard = self.members.iter().filter(|node| !self.table.standings.contains_key(node));
        let all =
            self.table.standings.keys().filter(|node| !self.gone.contains(node)).chain(unheard);
        all.copied().filter(|node| *node != self.me)
    }

    /// Whether there is no other member.
    pub fn is_alone(&self) -> bool {
        self.others().next().is_none()
    }

    /// The least that any member has come to; one that is not heard of has come nowhere.
    pub fn floor(&self) -> BarrierProgress {
        let least = self.others().map(|node| self.known(node)).min();
        least.map_or(self.own.progress, |least| least.min(self.own.progress))
    }

    fn known(&self, node: NodeId) -> BarrierProgress {
        let known = self.table.standings.get(&node).filter(|it| it.era() == self.own.era());
        known.map_or(BarrierProgress::NOWHERE, |it| it.progress)
    }

    /// The round on which all are agreed: what is older may be forgotten.
    pub fn agreed(&self) -> u64 {
        // What was agreed once stays so, also while a member begins anew, this one included.
        self.passed.settled().max(self.own.progress.hidden()).max(self.hidden_by_others())
    }

    /// The last round in which another one has hidden its remnants.
    fn hidden_by_others(&self) -> u64 {
        let in_era = self.table.standings.values().filter(|it| it.era() == self.own.era());
        in_era.map(|standing| standing.progress.hidden()).max().unwrap_or(0)
    }

    /// The round whose remnants may be dropped: every member has hidden its own.
    pub fn complete(&self) -> u64 {
        // A round is entered only once the one before it is complete.
        let complete = self.floor().hidden().max(self.own.progress.round.saturating_sub(1));
        // What was hidden in the era before nobody has agreed on in this one.
        if complete > Round::first_of(self.own.era()) { complete } else { 0 }
    }

    /// What is asked of messages, and said in them; none is taken unless it `is_open`.
    pub fn terms(&self, is_open: bool) -> BarrierTerms {
        let least = self.passed.least().number();
        let joined = self.own.progress.max(self.passed).joined().number();
        let peer = |(&node, standing): (&NodeId, &BarrierStanding)| {
            let counted = self.lives.get(&node).copied().unwrap_or(0);
            let is_later = standing.life > counted;
            // Nobody that was not through with it sent a later life anything older, unless it was left out.
            let required = if is_later { (standing.life, joined) } else { (counted, least) };
            (node, Peer { required, life: standing.life, is_later })
        };
        let peers = self.table.standings.iter().map(peer).collect();
        // One that has to begin anew takes nothing, and is listened to by nobody.
        let is_behind = self.is_behind();
        let is_open = is_open && !is_behind;
        BarrierTerms { is_open, is_behind, own: self.own, least, joined, peers }
    }

    /// Members that have not come as far as this one: without them it does not go on.
    pub fn waits_for(&self) -> Vec<NodeId> {
        let wanted = self.own.progress;
        self.others().filter(|node| self.known(*node) < wanted).collect()
    }

    /// Whether others are members of another era: they were restored as a whole cluster, or this one was.
    pub fn is_apart(&self) -> bool {
        self.others()
            .any(|node| self.table.standings.get(&node).is_some_and(|it| it.era() > self.own.era()))
    }

    /// Whether this life is over. Where there never was another member nobody could bring anything.
    fn is_behind(&self) -> bool {
        (self.has_lost() || self.was_left_out())
            && self.has_heard()
            && !sabotage::is(Bug::OldDiskMerged)
    }

    /// Whether the disk has lost what this member told of itself, or others went on while it was removed
    /// ([`pass`](Self::pass)).
    fn has_lost(&self) -> bool {
        self.table.standings.get(&self.me).is_some_and(|told| *told > self.own)
    }

    /// Whether others were through with what requests or outboxes may carry, in a round, without this life, and it did
    /// not know that when it began: it may hold that, by a member that had lost its disk and not heard so.
    fn was_left_out(&self) -> bool {
        let is_founders = self.own.life <= Round::first_of(self.own.era());
        let through = self.passed_by_others(self.own.era()).carried();
        // Also knowing it, those that have emptied their outboxes take nothing of a life in an earlier round.
        let knew = through <= self.passed && through.round == self.own.progress.round;
        !is_founders && through > self.own.progress && !knew
    }

    /// Whether it may hold what nobody else does: it came over from another ring, and did not go through a round since.
    fn keeps_data(&self) -> bool {
        self.lives.contains_key(&self.me)
    }

    /// What to do now.
    pub fn task(&self) -> BarrierTask {
        if self.is_behind() {
            let goes_on = self.keeps_data() && !self.has_lost();
            return if goes_on { BarrierTask::GoOnAnew } else { BarrierTask::BeginAnew };
        }
        let (own, floor, hidden) = (self.own.progress, self.floor(), self.hidden_by_others());
        if hidden > own.settled() {
            return BarrierTask::Follow(hidden);
        }
        let round = own.round;
        let is_first = floor >= own;
        match own.stage {
            BarrierStage::Hidden if self.table.latest(self.own.era()).round > round => {
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
