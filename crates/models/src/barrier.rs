//! A write, its deletion, and the forgetting of both, with holders that come back: hints, a former owner, old disks.
//!
//! One key has one write, so that what a replica knows is nothing, the write, or that it is removed. Two
//! members own the key; the write is under way at the first. Where there is a third, it may keep an old hint for
//! the second, or be a former owner with a copy, or have nothing; then the write is removed at the first already,
//! and the second has missed that. Everything that members do for the barrier is done by the hands that
//! nodes have ([`BarrierHand`](replication::BarrierHand)); a disk merges, hides and drops as an engine does.
//! A disk may be lost, or be again what it was at the beginning.
//!
//! What is sent stays on its way for ever. Whoever carries the write sends it at every step to all whom it may go to:
//! of those that one sent to another only the latest counts, since it is taken wherever an earlier one is.
//!
//! Claims: once any member has forgotten the removal, nobody has the write, or keeps it, or is about to send it,
//! but for one that has lost its disk and not heard yet how far it was; and what one has dropped no other shows,
//! unless that has changed since.

mod bounds;
mod world;

pub use bounds::{BarrierRules, BarrierWay, Hears, Third};
use replication::{BarrierShown, BarrierStep, BarrierTask};
use stateright::{Model, Property};
use storage::Forgetting;
pub use world::BarrierState;
use world::{Body, Known, Member, Sent};

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Forgetful {
    /// Members: two owners, or these and a third.
    pub members: usize,
    /// Rounds that are looked at.
    pub rounds: u64,
    /// Disks that are lost or old, in all, once the write is removed: before there is nothing to forget.
    pub losses: u8,
    /// Whether the second owner reads.
    pub reads: bool,
    /// What a third member has, if there is one.
    pub third: Third,
    /// When members hear of one another.
    pub hears: Hears,
    /// What holds.
    pub rules: BarrierRules,
}

/// The owners.
const OWNERS: usize = 2;

impl Forgetful {
    /// Does what the hand says until it says nothing more.
    fn act(&self, state: &mut BarrierState, at: usize) {
        let Member { disk, hand, write, read, equal, told, .. } = &mut state.members[at];
        let (mut step, mut last) = (hand.next(), None);
        loop {
            step = match step {
                BarrierStep::Wait => break,
                BarrierStep::Look(look) => {
                    if hand.is_first_look(look) {
                        *write = write.map(|_| true);
                        *read = read.map(|_| true);
                    }
                    let waits = match hand.task() {
                        BarrierTask::Drain(stage) => self.waits(stage.word()),
                        _ => true,
                    };
                    let is_under_way = [*write, *read].contains(&Some(true));
                    let is_stray = at >= OWNERS && disk.known != Known::Nothing;
                    let shown = BarrierShown {
                        is_under_way: is_under_way && self.rules.ended && waits,
                        // To be equal before a round is entered is for the sake of its end, not of what is held.
                        is_different: look.compares
                            && !look.is_over
                            && at < OWNERS
                            && !*equal
                            && self.rules.equal,
                        handovers: u64::from(is_stray && self.rules.former),
                        is_pending: disk.keeps() && self.rules.emptied && waits,
                        has_to_forget: disk.known == Known::Removed && !disk.is_hidden,
                        ..BarrierShown::default()
                    };
                    // What it asks for next depends on what it was shown, and on nothing else.
                    match hand.looked(look, shown) {
                        BarrierStep::Wait if last != Some((look, shown)) => {
                            last = Some((look, shown));
                            hand.next()
                        }
                        next => next,
                    }
                }
                BarrierStep::Enter(clock::Round { number: round, .. }) => {
                    disk.round = round;
                    *equal = false;
                    hand.entered()
                }
                BarrierStep::Note(standing) => {
                    *told = standing.max(*told);
                    hand.noted();
                    BarrierStep::Wait
                }
                BarrierStep::Forget { step, below } => {
                    let is_older = disk.age < below || !self.rules.older;
                    let is_it = disk.known == Known::Removed
                        && is_older
                        && (step == Forgetting::Hide || disk.is_hidden);
                    let drops = step == Forgetting::Drop || !self.rules.hidden;
                    if step == Forgetting::Show {
                        (disk.is_hidden, disk.age) = (false, disk.age.min(disk.round));
                    } else if drops {
                        disk.dropped = below;
                    }
                    if is_it && drops {
                        (disk.known, disk.is_hidden) = (Known::Nothing, false);
                        state.is_forgotten = true;
                    } else if is_it && step == Forgetting::Hide {
                        disk.is_hidden = true;
                    }
                    hand.forgotten()
                }
                BarrierStep::BeginAnew => {
                    if self.rules.empty {
                        *disk = world::Disk::default();
                    }
                    (*write, *read) = (None, None);
                    hand.begin_anew(self.members);
                    state.has_begun_anew = true;
                    hand.next()
                }
            };
        }
    }

    /// Whether a member waits before it says that it has come to this stage.
    fn waits(&self, stage: &str) -> bool {
        match stage {
            "emptied" => self.rules.second,
            "settled" => self.rules.third,
            _ => true,
        }
    }

    /// Whether a member has something to do for the barrier, within the bounds.
    fn may_act(&self, state: &BarrierState, at: usize) -> bool {
        let hand = &state.members[at].hand;
        let is_last = hand.own().progress.round >= self.rounds;
        hand.is_to_drop() || hand.task() != BarrierTask::Propose || !is_last
    }

    /// Whether a message that says so is taken.
    fn takes(&self, state: &BarrierState, sent: Sent) -> bool {
        let mut stamp = sent.stamp();
        let receiver = &state.members[sent.to].hand;
        if !self.rules.refused {
            stamp.number = u64::MAX;
        }
        if !self.rules.lives {
            stamp.to_life = receiver.own().life;
        }
        let is_hint = matches!(sent.body, Body::Hint(_)) && self.rules.kept;
        receiver.takes(sent.from, stamp, is_hint)
    }

    /// Whether one takes what another sends it now, and the other its answer.
    fn are_in_touch(&self, state: &BarrierState, one: usize, other: usize) -> bool {
        let (to, back) = (state.now(one, other, Body::Merge), state.now(other, one, Body::Merge));
        self.takes(state, to) && self.takes(state, back)
    }

    /// Everybody sends what it carries; what is never taken any more is of no account.
    fn send(&self, state: &mut BarrierState) {
        for sent in state.carried() {
            state.send(sent);
        }
        // What is asked of messages only grows once nobody loses any more what it asked.
        let is_over = self.losses == state.losses && !state.members.iter().any(Member::is_behind);
        if is_over {
            let all = std::mem::take(&mut state.sent);
            state.sent = all.into_iter().filter(|sent| self.takes(state, *sent)).collect();
        }
    }

    fn arrive(&self, state: &mut BarrierState, sent: Sent) {
        match sent.body {
            Body::Merge => state.members[sent.to].disk.merge(Known::Live),
            Body::Hint(owner) => state.members[sent.to].disk.outbox[owner] = true,
        }
    }
}

impl Model for Forgetful {
    type State = BarrierState;
    type Action = BarrierWay;

    fn init_states(&self) -> Vec<BarrierState> {
        let begun = |third| {
            let mut state = BarrierState::begin(self.members, third);
            for at in 0..self.members {
                self.act(&mut state, at);
            }
            // What is sent before anybody has heard of its receiver may arrive much later.
            self.send(&mut state);
            for at in 0..self.members {
                state.hear(at);
            }
            self.send(&mut state);
            state
        };
        let third = match self.third {
            Third::Empty => (Known::Nothing, false),
            Third::KeepsHint => (Known::Nothing, true),
            Third::FormerOwner => (Known::Live, false),
        };
        vec![begun(third)]
    }

    fn actions(&self, state: &BarrierState, ways: &mut Vec<BarrierWay>) {
        ways.push(BarrierWay::Compare);
        for (at, member) in state.members.iter().enumerate() {
            if self.hears == Hears::Apart {
                ways.push(BarrierWay::Hear(at));
            }
            if self.may_act(state, at) {
                ways.push(BarrierWay::Do(at));
            }
            if at < OWNERS && member.disk.shown() == Known::Live {
                ways.push(BarrierWay::Delete(at));
            }
            // Whoever is at something that nobody waits for may as well go on.
            if member.write.is_some() {
                ways.extend((member.write == Some(true)).then_some(BarrierWay::End(at, false)));
                ways.push(BarrierWay::End(at, true));
            }
            if member.read.is_some() {
                ways.extend((member.read == Some(true)).then_some(BarrierWay::EndRead(at)));
                ways.extend((at < OWNERS).then_some(BarrierWay::Repair(at)));
            }
            if at >= OWNERS && member.disk.known != Known::Nothing {
                ways.push(BarrierWay::Depart(at));
            }
            for other in 0..self.members {
                let reads = self.reads && at == 1 && member.read.is_none();
                if reads && state.members[other].disk.shows_reader() {
                    ways.push(BarrierWay::Read(at, other));
                }
                if other == at {
                    continue;
                }
                if other < OWNERS && member.disk.outbox[other] {
                    ways.push(BarrierWay::Deliver(at, other));
                    let others = (0..self.members).filter(|it| ![at, other].contains(it));
                    ways.extend(others.map(|to| BarrierWay::PassOn(at, other, to)));
                }
            }
            if state.losses < self.losses && state.is_removed && state.may_lose(at) {
                ways.extend([BarrierWay::Wipe(at), BarrierWay::Restore(at)]);
            }
        }
        ways.extend(state.sent.iter().map(|sent| BarrierWay::Arrive(*sent)));
    }

    fn next_state(&self, last: &BarrierState, way: BarrierWay) -> Option<BarrierState> {
        let mut state = last.clone();
        match way {
            BarrierWay::Hear(at) => state.hear(at),
            BarrierWay::Do(at) => {
                if self.hears == Hears::Acting {
                    state.hear(at);
                }
                self.act(&mut state, at)
            }
            BarrierWay::Delete(at) => {
                state.members[at].disk.merge(Known::Removed);
                state.is_removed = true;
            }
            BarrierWay::End(at, keeps) => {
                state.members[at].write = None;
                state.members[at].disk.outbox[1 - at] |= keeps;
            }
            BarrierWay::Arrive(sent) if !self.takes(last, sent) => return None,
            BarrierWay::Arrive(sent) => self.arrive(&mut state, sent),
            BarrierWay::Deliver(from, owner) => {
                if !self.are_in_touch(last, from, owner) {
                    return None;
                }
                state.members[owner].disk.merge(Known::Live);
                state.members[from].disk.outbox[owner] = false;
            }
            BarrierWay::PassOn(from, owner, to) => {
                let hint = last.now(from, to, Body::Hint(owner));
                if !self.are_in_touch(last, from, to) || !self.takes(last, hint) {
                    return None;
                }
                state.send(hint);
                state.members[to].disk.outbox[owner] = true;
                state.members[from].disk.outbox[owner] = false;
            }
            BarrierWay::Compare => {
                if !self.are_in_touch(last, 0, 1) {
                    return None;
                }
                let shown = [0, 1].map(|at: usize| last.members[at].disk.shown());
                for (at, other) in [(0, 1), (1, 0)] {
                    if shown[at] == Known::Live && shown[other] == Known::Nothing {
                        state.send(last.now(at, other, Body::Merge));
                    }
                    state.members[at].disk.merge(shown[other]);
                }
                let [one, other] = [0, 1].map(|at: usize| state.members[at].disk.shown());
                if one == other {
                    (0..OWNERS).for_each(|at| state.members[at].equal = true);
                }
            }
            BarrierWay::Read(at, from) => {
                if at != from && !self.are_in_touch(last, at, from) {
                    return None;
                }
                state.members[at].read = Some(false);
            }
            BarrierWay::Repair(at) => state.members[at].disk.merge(Known::Live),
            BarrierWay::EndRead(at) => state.members[at].read = None,
            BarrierWay::Depart(at) => {
                if !(0..OWNERS).all(|owner| self.are_in_touch(last, at, owner)) {
                    return None;
                }
                let shown = last.members[at].disk.shown();
                for owner in 0..OWNERS {
                    state.members[owner].disk.merge(shown);
                    if shown == Known::Live {
                        state.send(last.now(at, owner, Body::Merge));
                    }
                }
                state.members[at].disk.leave();
            }
            BarrierWay::Wipe(at) | BarrierWay::Restore(at) => {
                state.lose(at, matches!(way, BarrierWay::Restore(_)));
            }
        }
        if self.hears == Hears::AtOnce {
            (0..self.members).for_each(|at| state.hear(at));
        }
        for (at, member) in state.members.iter_mut().enumerate() {
            member.hand.is_busy = member.write.is_some() || self.reads && at == 1;
        }
        self.send(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what was forgotten is not back", |_, state: &BarrierState| {
                !state.is_forgotten || state.members.iter().all(|it| !it.has() || it.is_behind())
            }),
            Property::always("what one has dropped no other shows", |_, state: &BarrierState| {
                let on: Vec<_> = state.members.iter().filter(|it| !it.is_behind()).collect();
                let dropped = on.iter().map(|it| it.disk.dropped).max().unwrap_or(0);
                !on.iter().any(|it| it.shows_older(dropped))
            }),
            Property::sometimes("it is forgotten everywhere", |_, state: &BarrierState| {
                let is_nothing = |it: &Member| it.disk.known == Known::Nothing;
                state.is_forgotten && state.members.iter().all(is_nothing)
            }),
            Property::sometimes(
                "one that has lost its disk forgets",
                |model: &Self, state: &BarrierState| {
                    let is_on = |it: &Member| it.hand.own().progress.round == model.rounds;
                    model.losses == 0
                        || state.has_begun_anew
                            && state.is_forgotten
                            && state.members.iter().all(is_on)
                },
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
