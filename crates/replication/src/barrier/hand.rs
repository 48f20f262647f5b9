//! A member's hand in the barrier: what is to be done next, step by step, of the task that it has.
//!
//! The shell does one step at a time and says when it is done. It looks at the node's loops when it is told
//! to, and gives engines what is to be entered, noted or forgotten; whatever it does, nothing is said of it
//! before it is on disk.

use bytes::Bytes;
use clock::{NodeId, Round};
use sabotage::Bug;
use storage::Forgetting;

use super::{Barrier, BarrierStage, BarrierStanding, BarrierTable, BarrierTask, BarrierTerms};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierStep {
    /// Nothing, until others say more or time passes.
    Wait,
    /// Look at every loop ([`Core::look`](crate::Core::look)), and tell [`BarrierHand::looked`].
    Look(BarrierLook),
    /// Have every engine enter this round (`Command::Enter`), then say [`BarrierHand::entered`].
    Enter(Round),
    /// Have every engine make durable what it has (`Command::Sync`), then have the first one note this
    /// ([`BarrierHand::note_of`]), then say [`BarrierHand::noted`].
    Note(BarrierStanding),
    /// Have every engine do this until nothing is left to do (`Command::ForgetRemnants`), then say
    /// [`BarrierHand::forgotten`].
    Forget {
        /// What is done.
        step: Forgetting,
        /// To remnants of earlier rounds, to forget them; to all, to show them.
        below: u64,
    },
    /// Set the data aside and begin anew.
    BeginAnew,
}

/// How a loop is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierLook {
    /// The member's life, in which replicas are to be found equal.
    pub life: u64,
    /// The round.
    pub round: u64,
    /// Whether it is over for all. Replicas are to be found equal since the round was first looked for, and once more since
    /// it was while it is over.
    pub is_over: bool,
    /// Another one for every task: what was under way when it was first looked for is to end.
    pub moment: u64,
    /// Whether replicas are to be compared, if they were not since then or by the present ownership.
    pub compares: bool,
}

/// What a node's loops show, or one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarrierShown {
    /// Whether something is under way that was so at the moment.
    pub is_under_way: bool,
    /// Pairs of a partition and another owner of it that are to be found equal.
    pub pairs: u64,
    /// How many of them were.
    pub equal: u64,
    /// Whether they were not, all of them together, by the ownership as it is now.
    pub is_different: bool,
    /// Partitions in whose handover it has a part.
    pub handovers: u64,
    /// Those of them that it holds and others are to own.
    pub departures: u64,
    /// Whether it keeps deltas for others.
    pub is_pending: bool,
    /// Whether there is something to be forgotten (`Engine::has_to_forget`).
    pub has_to_forget: bool,
}

/// How a member begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierStart {
    /// As its disk has it.
    AsNoted,
    /// In another life, as [`Barrier::reborn`] or [`Barrier::restored`] says: it is to be noted first.
    As(BarrierStanding),
    /// As a member that joins, empty: it takes no message before it has heard how far others are, and then begins
    /// a life there.
    Joining,
    /// The same, with what it holds of another ring: that was never theirs to forget.
    ComingOver,
    /// With doubts about what its disk has ([`Barrier::doubts`]): it takes no message and begins anew, unless there is no
    /// other member. What it holds is all there is then.
    Doubting,
}

/// When a member does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierTimes {
    /// Rounds are at least so far apart, in milliseconds; `None` if this member begins none.
    pub interval_ms: Option<u64>,
    /// No round is over sooner after it was entered, in milliseconds: clients try a request with a name again for as
    /// long, and what is left of its key, or an increment that is not folded, knows that it was done.
    pub retries_ms: u64,
}

impl BarrierShown {
    /// What two loops show together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            is_under_way: self.is_under_way || other.is_under_way,
            pairs: self.pairs + other.pairs,
            equal: self.equal + other.equal,
            is_different: self.is_different || other.is_different,
            handovers: self.handovers.saturating_add(other.handovers),
            departures: self.departures.saturating_add(other.departures),
            is_pending: self.is_pending || other.is_pending,
            has_to_forget: self.has_to_forget || other.has_to_forget,
        }
    }
}

/// What the shell is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Entering(BarrierStanding),
    /// What an earlier life has hidden is shown again, before this one is noted.
    Showing(BarrierStanding),
    /// So is what an earlier start has hidden and not said so.
    ShowingUnsaid,
    Noting(BarrierStanding),
    Hiding(BarrierStanding),
    Dropping(u64),
}

/// A member's hand in the barrier.
#[derive(Clone, Debug)]
pub struct BarrierHand {
    barrier: Barrier,
    times: BarrierTimes,
    start: BarrierStart,
    doing: Doing,
    /// The task that it had last, since when, and how many it had.
    task: BarrierTask,
    since_ms: u64,
    moment: u64,
    /// What was seen of it last.
    shown: Option<BarrierShown>,
    /// Whether the engines entered its round, which damage may have taken from them, and when.
    is_entered: bool,
    entered_ms: u64,
    /// Whether something may be hidden of which an earlier start has not said that it is.
    hides_unsaid: bool,
    /// The round whose remnants are dropped.
    dropped: u64,
}

impl BarrierHand {
    /// The hand of a member.
    pub fn new(barrier: Barrier, start: BarrierStart, times: BarrierTimes, now_ms: u64) -> Self {
        let hides_unsaid = barrier.own().progress.stage == BarrierStage::Settled;
        Self {
            barrier,
            times,
            start,
            doing: Doing::Nothing,
            task: BarrierTask::Wait,
            since_ms: now_ms,
            moment: 0,
            shown: None,
            is_entered: false,
            entered_ms: now_ms,
            hides_unsaid,
            dropped: 0,
        }
    }

    /// How far the barrier is.
    pub const fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Who the members are that are not removed, and who is gone.
    pub fn set_members(
        &mut self,
        members: impl IntoIterator<Item = NodeId>,
        gone: impl IntoIterator<Item = NodeId>,
    ) {
        self.barrier.set_members(members, gone);
    }

    /// Takes what others say. Returns whether it was news.
    pub fn heard(&mut self, table: &BarrierTable) -> bool {
        self.barrier.heard(table)
    }

    /// The task that it has, and what was seen of it last, if it is one for which loops are looked at.
    pub const fn task(&self) -> (BarrierTask, Option<BarrierShown>) {
        (self.task, self.shown)
    }

    /// What to do now. Nothing while the last step is not done.
    pub fn next(&mut self, now_ms: u64) -> BarrierStep {
        if self.doing != Doing::Nothing {
            return BarrierStep::Wait;
        }
        match self.start {
            BarrierStart::As(standing) => return self.enter(standing),
            BarrierStart::Joining | BarrierStart::ComingOver if !self.barrier.has_heard() => {
                return BarrierStep::Wait;
            }
            BarrierStart::Joining | BarrierStart::ComingOver => {
                self.barrier.keeps = self.start == BarrierStart::ComingOver;
                let standing = Barrier::reborn(self.barrier.me, &self.barrier.table);
                return self.begin(standing);
            }
            BarrierStart::Doubting if self.barrier.is_alone() => {
                self.start = BarrierStart::AsNoted;
            }
            BarrierStart::Doubting => {
                self.task = BarrierTask::BeginAnew;
                return BarrierStep::BeginAnew;
            }
            BarrierStart::AsNoted => {}
        }
        let own = self.barrier.own();
        if !self.is_entered {
            return self.enter(own);
        }
        let complete = self.barrier.complete();
        if complete > self.dropped && !self.barrier.is_behind() {
            self.doing = Doing::Dropping(complete);
            return BarrierStep::Forget { step: Forgetting::Drop, below: complete };
        }
        if std::mem::take(&mut self.hides_unsaid) {
            // A life that has begun since cannot be found equal with what is hidden, and would not know that it is.
            self.doing = Doing::ShowingUnsaid;
            return BarrierStep::Forget { step: Forgetting::Show, below: own.progress.round };
        }
        let task = self.barrier.task();
        if task != self.task {
            (self.task, self.since_ms, self.shown) = (task, now_ms, None);
            self.moment += 1;
        }
        let look = |compares: bool| BarrierLook {
            life: own.life,
            round: own.progress.round,
            is_over: matches!(task, BarrierTask::Propose | BarrierTask::Enter(_)),
            moment: self.moment,
            // While partitions move the ownership changes all the time, and with it what is to be equal.
            compares: compares && self.is_at_rest() && !sabotage::is(Bug::ForgottenUnequal),
        };
        match (task, self.barrier.after_task()) {
            (BarrierTask::BeginAnew, _) => BarrierStep::BeginAnew,
            (BarrierTask::GoOnAnew, _) => {
                self.barrier.keeps = true;
                let standing = Barrier::reborn(self.barrier.me, &self.barrier.table());
                self.begin(standing)
            }
            (BarrierTask::Follow(_), Some(after)) => self.enter(after),
            // Loops are looked at once: of comparisons begun from then on, those that are due anyway count too.
            (BarrierTask::Propose, _) if self.shown.is_some() && !self.is_time(now_ms) => {
                BarrierStep::Wait
            }
            (BarrierTask::Propose, _) => BarrierStep::Look(look(self.has_to_forget())),
            (BarrierTask::Enter(_) | BarrierTask::Equal | BarrierTask::Drain(_), _) => {
                BarrierStep::Look(look(true))
            }
            (BarrierTask::Hide(_), _)
                if now_ms < self.entered_ms.saturating_add(self.times.retries_ms) =>
            {
                BarrierStep::Wait
            }
            (BarrierTask::Hide(below), Some(after)) => {
                self.doing = Doing::Hiding(after);
                BarrierStep::Forget { step: Forgetting::Hide, below }
            }
            (BarrierTask::Wait | BarrierTask::Follow(_) | BarrierTask::Hide(_), _) => {
                BarrierStep::Wait
            }
        }
    }

    /// Whether there was something to forget when loops were looked at for the present task.
    fn has_to_forget(&self) -> bool {
        self.shown.is_some_and(|shown| shown.has_to_forget)
    }

    /// Whether it had no part in a handover then.
    fn is_at_rest(&self) -> bool {
        self.shown.is_none_or(|shown| shown.handovers == 0)
    }

    /// Whether a round may be begun.
    fn is_time(&self, now_ms: u64) -> bool {
        self.times
            .interval_ms
            .is_some_and(|interval| now_ms >= self.since_ms.saturating_add(interval))
    }

    /// The loops were looked at, by `look`; what to do now.
    pub fn looked(&mut self, look: BarrierLook, shown: BarrierShown) -> BarrierStep {
        if look.moment != self.moment || self.doing != Doing::Nothing {
            return BarrierStep::Wait;
        }
        self.shown = Some(shown);
        let task = self.barrier.task();
        let Some(after) = self.barrier.after_task().filter(|_| task == self.task) else {
            return BarrierStep::Wait;
        };
        let is_ignored = sabotage::is(Bug::ForgottenUnequal);
        let is_alike = (look.compares && !shown.is_different) || is_ignored;
        let is_equal = is_alike && (shown.handovers == 0 || is_ignored);
        let is_drained =
            (!shown.is_under_way && !shown.is_pending) || sabotage::is(Bug::ForgottenWithHints);
        match task {
            BarrierTask::Propose if shown.has_to_forget && is_alike => self.enter(after),
            BarrierTask::Enter(_) if is_alike => self.enter(after),
            BarrierTask::Equal if is_equal => self.note(after),
            BarrierTask::Drain(_) if is_equal && is_drained => self.note(after),
            _ => BarrierStep::Wait,
        }
    }

    /// Has a life begin: until that is noted the member takes no message.
    fn begin(&mut self, standing: BarrierStanding) -> BarrierStep {
        self.start = BarrierStart::As(standing);
        self.enter(standing)
    }

    fn enter(&mut self, standing: BarrierStanding) -> BarrierStep {
        self.doing = Doing::Entering(standing);
        BarrierStep::Enter(Round { ring: self.barrier.ring(), number: standing.progress.round })
    }

    fn note(&mut self, standing: BarrierStanding) -> BarrierStep {
        self.doing = Doing::Noting(standing);
        BarrierStep::Note(standing)
    }

    /// Every engine has entered the round; what to do now.
    pub fn entered(&mut self, now_ms: u64) -> BarrierStep {
        let Doing::Entering(standing) = self.doing else { return BarrierStep::Wait };
        self.doing = Doing::Nothing;
        self.is_entered = true;
        self.entered_ms = now_ms;
        if let BarrierStart::As(_) = self.start {
            // Who is a member now may not have agreed on what was hidden, nor had rounds of those numbers.
            self.doing = Doing::Showing(standing);
            return BarrierStep::Forget { step: Forgetting::Show, below: standing.progress.round };
        }
        let is_known = self.barrier.has_note() && standing == self.barrier.own();
        if is_known { BarrierStep::Wait } else { self.note(standing) }
    }

    /// What was to be noted is on disk: others may be told.
    pub fn noted(&mut self) {
        let Doing::Noting(standing) = self.doing else { return };
        self.doing = Doing::Nothing;
        self.start = BarrierStart::AsNoted;
        self.barrier.noted(standing);
    }

    /// Every engine has done all of a step of forgetting; what to do now.
    pub fn forgotten(&mut self) -> BarrierStep {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Dropping(below) => {
                self.dropped = below;
                BarrierStep::Wait
            }
            Doing::Showing(standing) => self.note(standing),
            // It says so whoever was heard of meanwhile: what was agreed stays so.
            Doing::Hiding(after) => self.note(after),
            Doing::ShowingUnsaid => BarrierStep::Wait,
            other => {
                self.doing = other;
                BarrierStep::Wait
            }
        }
    }

    /// A disk refused the step: it is still to be done.
    pub fn failed(&mut self) {
        self.hides_unsaid |= match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::ShowingUnsaid | Doing::Hiding(_) => true,
            Doing::Noting(standing) => standing.progress.stage == BarrierStage::Hidden,
            _ => false,
        };
    }

    /// The last round of which all that is older is dropped here.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is asked of messages, and said in them.
    pub fn terms(&self) -> BarrierTerms {
        let terms = self.barrier.terms(self.is_open());
        // Nobody is to listen to it.
        let is_behind = terms.is_behind || self.start == BarrierStart::Doubting;
        BarrierTerms { is_behind, ..terms }
    }

    /// Whether it begins anew for doubts about what its disk has, which nobody else has of it: whoever runs it sees to it
    /// that others have what it sets aside.
    pub fn is_doubting(&self) -> bool {
        self.start == BarrierStart::Doubting
    }

    /// Whether it is known in which life this member is: before, it takes no message; in the first of a
    /// process it serves nobody, in a later one it serves on.
    pub const fn is_open(&self) -> bool {
        matches!(self.start, BarrierStart::AsNoted)
    }

    /// The note of what is to be noted.
    pub fn note_of(&self, standing: BarrierStanding) -> (Bytes, Bytes) {
        self.barrier.note(standing)
    }
}
