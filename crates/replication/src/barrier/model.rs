//! Rounds of the barrier over a model of a store: members that die, lose their disks, get old ones, are cut off,
//! removed, and join; and after all of that nothing that was forgotten is back, and nothing was forgotten that
//! somebody had not agreed to.
//!
//! The model has one key. A replica holds which writes it has seen, which of them are live, and how old that is,
//! as an engine does (`storage`, remnants); requests, reads, outboxes and messages are what may carry a write, and
//! everything that members do for the barrier is done by the hands that nodes have.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use storage::Forgetting;

use super::*;

/// The owners of the key are the last so many members: who joins becomes one, in the place of another.
const OWNERS: usize = 3;
const NODES: u64 = 5;

/// What is known of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    seen: BTreeSet<u64>,
    live: BTreeSet<u64>,
}

impl Content {
    fn merge(&mut self, other: &Self) {
        let stays = |mine: &Self, theirs: &Self| {
            let left = mine
                .live
                .iter()
                .filter(|dot| !theirs.seen.contains(dot) || theirs.live.contains(dot));
            left.copied().collect::<BTreeSet<u64>>()
        };
        let live = &stays(self, other) | &stays(other, self);
        self.seen.extend(&other.seen);
        self.live = live;
    }

    fn is_remnant(&self) -> bool {
        self.live.is_empty() && !self.seen.is_empty()
    }
}

/// A disk.
#[derive(Clone, Debug, Default)]
struct Disk {
    content: Content,
    /// The round in which that changed last, and whether it is hidden.
    age: u64,
    is_hidden: bool,
    round: u64,
    outbox: BTreeMap<NodeId, Content>,
    note: Option<BarrierNote>,
    /// What membership keeps of what others say.
    heard: BarrierTable,
}

impl Disk {
    fn shown(&self) -> Content {
        if self.is_hidden { Content::default() } else { self.content.clone() }
    }

    fn put(&mut self, content: Content) {
        (self.content, self.age, self.is_hidden) = (content, self.round, false);
    }

    /// As `storage`'s engine does it.
    fn merge(&mut self, delta: &Content) {
        if !self.is_hidden {
            let mut joined = self.content.clone();
            joined.merge(delta);
            if joined != self.content {
                self.put(joined);
            }
        } else if !delta.seen.is_subset(&self.content.seen) {
            self.put(delta.clone());
        } else if !delta.live.is_empty() {
            self.put(self.content.clone());
        }
    }
}

/// What a process is at.
#[derive(Clone, Debug)]
enum Work {
    /// A write that is sent to owners, or kept for them by others.
    Write(Content),
    /// A read of what some have shown so far.
    Read(Content),
}

#[derive(Clone, Debug)]
enum Body {
    Merge(Content),
    Hint(NodeId, Content),
    Ask(u64),
    Shown(u64, Content),
}

#[derive(Clone, Debug)]
struct Message {
    from: NodeId,
    to: NodeId,
    stamp: BarrierStamp,
    body: Body,
}

#[derive(Debug)]
struct Member {
    disk: Disk,
    /// `None` while it is down.
    hand: Option<BarrierHand>,
    work: BTreeMap<u64, Work>,
    /// What it was at when a moment was first looked at: those with smaller numbers.
    moment: (u64, u64),
    /// With whom it was found equal since it entered its round.
    equal: BTreeSet<NodeId>,
    is_cut: bool,
    joins: bool,
}

#[derive(Debug, Default)]
struct Model {
    members: BTreeMap<NodeId, Member>,
    removed: BTreeSet<NodeId>,
    /// Those that are members again: they begin anew if others have gone on without them.
    readmitted: BTreeSet<NodeId>,
    messages: Vec<Message>,
    backups: BTreeMap<NodeId, Disk>,
    next: u64,
    /// The most that each has said of itself.
    told: BTreeMap<NodeId, BarrierStanding>,
    /// Writes that were removed, of which somebody has dropped what was left.
    forgotten: BTreeSet<u64>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        for node in 1..=3 {
            model.add(NodeId(node), false);
        }
        model
    }

    fn add(&mut self, node: NodeId, joins: bool) {
        let member = Member {
            disk: Disk::default(),
            hand: None,
            work: BTreeMap::new(),
            moment: (0, 0),
            equal: BTreeSet::new(),
            is_cut: false,
            joins,
        };
        self.members.insert(node, member);
        self.begin(node);
    }

    /// One that joins knows of no life of its own before it is noted.
    fn begin(&mut self, node: NodeId) {
        let member = &self.members[&node];
        let joins = member.joins && member.disk.note.is_none();
        self.start(node, if joins { BarrierStart::Joining } else { BarrierStart::AsNoted });
    }

    fn start(&mut self, node: NodeId, start: BarrierStart) {
        let member = self.members.get_mut(&node).unwrap();
        let mut barrier = Barrier::new(node, member.disk.note.clone());
        barrier.heard(&member.disk.heard);
        let times = BarrierTimes { interval_ms: Some(0), retries_ms: 0 };
        let mut hand = BarrierHand::new(barrier, start, times, 0);
        let (members, gone) = self.lists();
        hand.set_members(members, gone);
        let member = self.members.get_mut(&node).unwrap();
        (member.moment, member.hand) = ((0, 0), Some(hand));
        member.equal.clear();
    }

    fn lists(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let present = self.members.keys().filter(|node| !self.removed.contains(node));
        (present.copied().collect(), self.removed.iter().copied().collect())
    }

    fn owners(&self) -> Vec<NodeId> {
        let present = self.lists().0;
        present[present.len().saturating_sub(OWNERS)..].to_vec()
    }

    fn is_owner(&self, node: NodeId) -> bool {
        self.owners().contains(&node)
    }

    fn is_up(&self, node: NodeId) -> bool {
        let member = self.members.get(&node);
        !self.removed.contains(&node) && member.is_some_and(|it| it.hand.is_some())
    }

    fn is_open(&self, node: NodeId) -> bool {
        self.is_up(node) && self.members[&node].hand.as_ref().unwrap().is_open()
    }

    fn at(&mut self, node: NodeId) -> &mut Member {
        self.members.get_mut(&node).unwrap()
    }

    fn dot(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn stamp(&self, from: NodeId, to: NodeId) -> BarrierStamp {
        self.members[&from].hand.as_ref().unwrap().terms().stamp(to)
    }

    fn takes(&self, from: NodeId, to: NodeId, stamp: BarrierStamp) -> bool {
        self.takes_it(from, to, stamp, false)
    }

    fn takes_it(&self, from: NodeId, to: NodeId, stamp: BarrierStamp, is_hint: bool) -> bool {
        let member = &self.members[&to];
        !self.removed.contains(&from)
            && self.is_up(to)
            && member.hand.as_ref().unwrap().terms().takes(from, stamp, is_hint)
    }

    fn send(&mut self, from: NodeId, to: NodeId, body: Body) {
        if self.is_up(from) && self.members.contains_key(&to) {
            let stamp = self.stamp(from, to);
            self.messages.push(Message { from, to, stamp, body });
        }
    }

    fn tell(&mut self, from: NodeId, to: NodeId) {
        let is_cut = |node| self.members.get(&node).is_none_or(|it| it.is_cut);
        if is_cut(from) || is_cut(to) || from == to || !self.is_open(from) || !self.is_up(to) {
            return;
        }
        let table = self.members[&from].hand.as_ref().unwrap().barrier().table();
        let member = self.at(to);
        member.disk.heard.join(&table);
        member.hand.as_mut().unwrap().heard(&table);
    }

    /// A client writes, or deletes what one or two replicas show.
    fn update(&mut self, node: NodeId, deletes: bool, other: NodeId) {
        if !self.is_open(node) {
            return;
        }
        let mut delta = Content::default();
        if deletes {
            let mut shown = self.members[&node].disk.shown();
            let back = self.stamp_if_up(other, node);
            if self.is_open(other)
                && self.takes(node, other, self.stamp(node, other))
                && back.is_some_and(|back| self.takes(other, node, back))
            {
                shown.merge(&self.members[&other].disk.shown());
            }
            delta.seen = shown.live;
        }
        if !deletes {
            let dot = self.dot();
            (delta.seen, delta.live) = ([dot].into(), [dot].into());
        }
        if self.is_owner(node) {
            self.at(node).disk.merge(&delta);
        }
        let number = self.dot();
        self.at(node).work.insert(number, Work::Write(delta));
    }

    fn stamp_if_up(&self, from: NodeId, to: NodeId) -> Option<BarrierStamp> {
        self.is_up(from).then(|| self.stamp(from, to))
    }

    fn read(&mut self, node: NodeId) {
        if self.is_open(node) {
            let number = self.dot();
            self.at(node).work.insert(number, Work::Read(Content::default()));
        }
    }

    /// Something that a node is at goes on towards another.
    fn go_on(&mut self, node: NodeId, which: usize, to: NodeId, as_hint: bool) {
        let Some(member) = self.members.get(&node) else { return };
        let Some((&number, work)) = member.work.iter().nth(which % member.work.len().max(1)) else {
            return;
        };
        let owners = self.owners();
        match work.clone() {
            Work::Write(delta) if self.is_owner(to) => self.send(node, to, Body::Merge(delta)),
            Work::Write(delta) if as_hint => {
                let owner = owners[which % owners.len()];
                self.send(node, to, Body::Hint(owner, delta));
            }
            // What it could not bring to an owner it keeps itself.
            Work::Write(delta) => {
                let owner = owners[which % owners.len()];
                if owner != node {
                    self.at(node).disk.outbox.entry(owner).or_default().merge(&delta);
                }
            }
            Work::Read(_) if !as_hint => self.send(node, to, Body::Ask(number)),
            Work::Read(shown) if self.is_owner(to) => self.send(node, to, Body::Merge(shown)),
            Work::Read(_) => {}
        }
    }

    fn end(&mut self, node: NodeId, which: usize) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let number = member.work.keys().nth(which % member.work.len().max(1)).copied();
        number.and_then(|number| member.work.remove(&number));
    }

    fn arrive(&mut self, which: usize, again: bool) {
        if self.messages.is_empty() {
            return;
        }
        let at = which % self.messages.len();
        let Message { from, to, stamp, body } = match again {
            true => self.messages[at].clone(),
            false => self.messages.remove(at),
        };
        let is_hint = matches!(body, Body::Hint(..));
        if !self.members.contains_key(&to) || !self.takes_it(from, to, stamp, is_hint) {
            return;
        }
        match body {
            Body::Merge(delta) if self.is_owner(to) => self.at(to).disk.merge(&delta),
            Body::Merge(_) => {}
            Body::Hint(owner, delta) if owner != to => {
                self.at(to).disk.outbox.entry(owner).or_default().merge(&delta);
            }
            Body::Hint(_, delta) => self.at(to).disk.merge(&delta),
            Body::Ask(number) => {
                // A fallback also shows what it holds for others.
                let disk = &self.members[&to].disk;
                let mut shown = disk.shown();
                disk.outbox.values().for_each(|kept| shown.merge(kept));
                self.send(to, from, Body::Shown(number, shown));
            }
            Body::Shown(number, shown) => {
                if let Some(Work::Read(so_far)) = self.at(to).work.get_mut(&number) {
                    so_far.merge(&shown);
                }
            }
        }
    }

    /// What is kept for an owner is sent to it. It is acknowledged at once, and may arrive once more later.
    fn deliver(&mut self, node: NodeId, owner: NodeId) {
        let Some(member) = self.members.get(&node) else { return };
        if member.is_cut || self.members.get(&owner).is_none_or(|it| it.is_cut) {
            return;
        }
        let Some(kept) = member.disk.outbox.get(&owner).cloned() else { return };
        if !self.is_up(node) {
            return;
        }
        if !self.is_owner(owner) {
            // For the owners of now.
            let owners = self.owners();
            let outbox = &mut self.at(node).disk.outbox;
            outbox.remove(&owner);
            for owner in owners {
                outbox.entry(owner).or_default().merge(&kept);
            }
            if self.is_owner(node) {
                let kept = self.at(node).disk.outbox.remove(&node).unwrap_or_default();
                self.at(node).disk.merge(&kept);
            }
            return;
        }
        let stamp = self.stamp(node, owner);
        let back = self.stamp_if_up(owner, node);
        self.messages.push(Message {
            from: node,
            to: owner,
            stamp,
            body: Body::Merge(kept.clone()),
        });
        if self.takes(node, owner, stamp) && back.is_some_and(|back| self.takes(owner, node, back))
        {
            self.at(owner).disk.merge(&kept);
            self.at(node).disk.outbox.remove(&owner);
        }
    }

    /// What is kept for an owner is given to another to keep, as by a node that leaves.
    fn pass_on(&mut self, node: NodeId, owner: NodeId, to: NodeId) {
        let is_there = |it: NodeId| self.is_open(it) && !self.members[&it].is_cut;
        if node == to || to == owner || !is_there(node) || !is_there(to) {
            return;
        }
        let Some(kept) = self.members[&node].disk.outbox.get(&owner).cloned() else { return };
        let (stamp, back) = (self.stamp(node, to), self.stamp(to, node));
        let body = Body::Hint(owner, kept.clone());
        self.messages.push(Message { from: node, to, stamp, body });
        if self.takes_it(node, to, stamp, true) && self.takes(to, node, back) {
            self.at(to).disk.outbox.entry(owner).or_default().merge(&kept);
            self.at(node).disk.outbox.remove(&owner);
        }
    }

    /// Two owners compare, and make one another equal. What they push may arrive again later.
    fn compare(&mut self, one: NodeId, two: NodeId) {
        let is_cut = |node| self.members.get(&node).is_none_or(|it: &Member| it.is_cut);
        if one == two || is_cut(one) || is_cut(two) || !self.is_owner(one) || !self.is_owner(two) {
            return;
        }
        if !self.is_open(one) || !self.is_open(two) {
            return;
        }
        let (to, back) = (self.stamp(one, two), self.stamp(two, one));
        if !self.takes(one, two, to) || !self.takes(two, one, back) {
            return;
        }
        let (mine, theirs) = (self.members[&one].disk.shown(), self.members[&two].disk.shown());
        if mine != theirs {
            self.at(one).disk.merge(&theirs);
            self.at(two).disk.merge(&mine);
            self.messages.push(Message { from: one, to: two, stamp: to, body: Body::Merge(mine) });
            self.messages.push(Message {
                from: two,
                to: one,
                stamp: back,
                body: Body::Merge(theirs),
            });
        }
        if self.members[&one].disk.shown() == self.members[&two].disk.shown() {
            self.at(one).equal.insert(two);
            self.at(two).equal.insert(one);
        }
    }

    /// Does what is to be done for the barrier now.
    fn step(&mut self, node: NodeId) {
        if !self.is_up(node) {
            return;
        }
        let owners = self.owners();
        let (members, gone) = self.lists();
        let (next, is_owner) = (self.next, owners.contains(&node));
        let member = self.members.get_mut(&node).unwrap();
        let hand = member.hand.as_mut().unwrap();
        hand.set_members(members, gone);
        let mut step = hand.next(0);
        let mut dropped = None;
        loop {
            step = match step {
                BarrierStep::Wait => break,
                BarrierStep::Look(look) => {
                    if member.moment.0 != look.moment {
                        member.moment = (look.moment, next);
                    }
                    let others = owners.iter().filter(|owner| **owner != node);
                    let is_equal =
                        !is_owner || others.into_iter().all(|it| member.equal.contains(it));
                    // A copy that it does not own is on its way to those that do.
                    let is_stray = !is_owner && member.disk.content != Content::default();
                    let shown = BarrierShown {
                        is_under_way: member.work.keys().any(|&it| it <= member.moment.1),
                        is_different: look.compares && !is_equal,
                        handovers: u64::from(is_stray),
                        is_pending: !member.disk.outbox.is_empty(),
                        has_remnants: member.disk.content.is_remnant() && !member.disk.is_hidden,
                        ..BarrierShown::default()
                    };
                    hand.looked(look, shown)
                }
                BarrierStep::Enter(round) => {
                    member.disk.round = member.disk.round.max(round);
                    member.equal.clear();
                    hand.entered(0)
                }
                BarrierStep::Note(standing) => {
                    let (name, value) = hand.note_of(standing);
                    member.disk.note = Barrier::of_notes(&[(name, Some(value))]).unwrap();
                    let told = self.told.entry(node).or_default();
                    *told = standing.max(*told);
                    hand.noted();
                    BarrierStep::Wait
                }
                BarrierStep::Forget { step, below } => {
                    let disk = &mut member.disk;
                    let is_older = disk.content.is_remnant() && disk.age < below;
                    match step {
                        Forgetting::Hide => disk.is_hidden |= is_older,
                        Forgetting::Drop if is_older && disk.is_hidden => {
                            dropped = Some((below, std::mem::take(&mut disk.content)));
                            disk.is_hidden = false;
                        }
                        Forgetting::Drop => {}
                    }
                    hand.forgotten()
                }
                BarrierStep::BeginAnew => {
                    let table = hand.barrier().table();
                    let standing = Barrier::reborn(node, &table);
                    member.disk = Disk { heard: table, ..Disk::default() };
                    member.work.clear();
                    self.start(node, BarrierStart::As(standing));
                    return;
                }
            };
        }
        if let Some((below, content)) = dropped {
            self.check_agreed(node, below);
            self.forgotten.extend(content.seen);
        }
    }

    /// Whether somebody still knows how far each is, without the disk of this one: what all have lost nobody knows.
    fn may_lose(&self, lost: NodeId) -> bool {
        self.told.iter().all(|(node, told)| {
            let knows = |(other, member): (&NodeId, &Member)| {
                let note = member.disk.note.as_ref().filter(|_| other == node);
                let noted = note.is_some_and(|note| note.standing >= *told);
                let is_heard = member.disk.heard.0.get(node).is_some_and(|it| it >= told);
                *other != lost && !self.removed.contains(other) && (noted || is_heard)
            };
            self.removed.contains(node) || self.members.iter().any(knows)
        })
    }

    /// Every member that there is has hidden what it had of before this round, in the life that `by` has waited for, or
    /// is in a later one.
    fn check_agreed(&self, by: NodeId, below: u64) {
        let counted = &self.members[&by].hand.as_ref().unwrap().barrier().lives;
        for node in self.lists().0.into_iter().filter(|node| !self.readmitted.contains(node)) {
            let note = self.members[&node].disk.note.clone().unwrap_or_default();
            let heard = self.members.values().filter_map(|it| it.disk.heard.0.get(&node)).max();
            let standing = heard.copied().unwrap_or_default().max(note.standing);
            let hidden = BarrierProgress::at(below, BarrierStage::Hidden);
            let is_later = standing.life > counted.get(&node).copied().unwrap_or(0);
            assert!(
                standing.progress >= hidden || is_later || standing == BarrierStanding::default(),
                "{node:?} is at {standing:?}, and before round {below} it is forgotten by {by:?}"
            );
        }
    }

    /// A former owner makes sure that all owners hold what it has, and drops its copy.
    fn depart(&mut self, node: NodeId) {
        let owners = self.owners();
        if owners.contains(&node) || !self.is_open(node) || self.members[&node].is_cut {
            return;
        }
        let is_known = |owner: &NodeId| {
            let back = self.stamp_if_up(*owner, node);
            !self.members[owner].is_cut
                && self.is_open(*owner)
                && self.takes(node, *owner, self.stamp(node, *owner))
                && back.is_some_and(|back| self.takes(*owner, node, back))
        };
        if owners.iter().all(is_known) {
            let shown = self.members[&node].disk.shown();
            for owner in owners {
                self.at(owner).disk.merge(&shown);
            }
            let disk = &mut self.at(node).disk;
            (disk.content, disk.is_hidden) = (Content::default(), false);
        }
    }

    /// Everything works again, and goes on until nothing changes any more.
    fn heal(&mut self) {
        self.members.values_mut().for_each(|member| member.is_cut = false);
        let nodes: Vec<NodeId> = self.lists().0;
        for node in &nodes {
            if self.members[node].hand.is_none() {
                self.begin(*node);
            }
        }
        for _ in 0..60 {
            while !self.messages.is_empty() {
                self.arrive(0, false);
            }
            for &one in &nodes {
                self.members.get_mut(&one).unwrap().work.clear();
                for two in (1..=NODES).map(NodeId) {
                    self.tell(one, two);
                    self.deliver(one, two);
                    self.compare(one, two);
                }
                self.depart(one);
                self.step(one);
            }
        }
    }

    fn check_healed(&self) {
        for node in self.lists().0 {
            let disk = &self.members[&node].disk;
            let back: Vec<_> = disk.content.live.intersection(&self.forgotten).collect();
            assert!(back.is_empty(), "{node:?} holds {back:?}, which was removed and forgotten");
            assert!(
                !disk.content.is_remnant(),
                "{node:?} holds what is left of a deleted key: {:?}, {disk:?}",
                self.members[&node].hand.as_ref().map(BarrierHand::task)
            );
        }
    }
}

/// What else happens in a round: without it the round may have to wait for it.
#[derive(Clone, Copy, Debug)]
struct Parts {
    compares: bool,
    delivers: bool,
    ends: bool,
}

#[derive(Clone, Debug)]
enum Happens {
    Tell(u64, u64),
    Step(u64),
    Write(u64),
    Delete(u64, u64),
    Read(u64),
    GoOn(u64, usize, u64, bool),
    End(u64, usize),
    Arrive(usize, bool),
    Lose(usize),
    Deliver(u64, u64),
    PassOn(u64, u64, u64),
    Compare(u64, u64),
    Crash(u64),
    Start(u64),
    Wipe(u64),
    Keep(u64),
    Restore(u64),
    Cut(u64, bool),
    Join,
    Remove(u64),
    Readmit(u64),
    Depart(u64),
    /// One loses its disk, starts again and hears at once how far others are.
    Anew(u64),
    /// All of them hear of one another and do what there is to do, a few times.
    Round(usize, Parts),
}

fn happens() -> impl Strategy<Value = Happens> {
    let node = || 1..=NODES;
    prop_oneof![
        12 => (node(), node()).prop_map(|(from, to)| Happens::Tell(from, to)),
        12 => node().prop_map(Happens::Step),
        4 => node().prop_map(Happens::Write),
        4 => (node(), node()).prop_map(|(node, other)| Happens::Delete(node, other)),
        3 => node().prop_map(Happens::Read),
        8 => (node(), 0..4_usize, node(), any::<bool>()).prop_map(|(a, b, c, d)| Happens::GoOn(a, b, c, d)),
        3 => (node(), 0..4_usize).prop_map(|(node, which)| Happens::End(node, which)),
        8 => (0..16_usize, any::<bool>()).prop_map(|(which, again)| Happens::Arrive(which, again)),
        1 => (0..16_usize).prop_map(Happens::Lose),
        4 => (node(), node()).prop_map(|(node, owner)| Happens::Deliver(node, owner)),
        3 => (node(), node(), node()).prop_map(|(node, owner, to)| Happens::PassOn(node, owner, to)),
        6 => (node(), node()).prop_map(|(one, two)| Happens::Compare(one, two)),
        1 => node().prop_map(Happens::Crash),
        2 => node().prop_map(Happens::Start),
        1 => node().prop_map(Happens::Wipe),
        1 => node().prop_map(Happens::Keep),
        1 => node().prop_map(Happens::Restore),
        1 => (node(), any::<bool>()).prop_map(|(node, is_cut)| Happens::Cut(node, is_cut)),
        1 => Just(Happens::Join),
        1 => node().prop_map(Happens::Remove),
        1 => node().prop_map(Happens::Readmit),
        2 => node().prop_map(Happens::Depart),
        2 => node().prop_map(Happens::Anew),
        8 => (0..6_usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(times, compares, delivers, ends)| {
            Happens::Round(times, Parts { compares, delivers, ends })
        }),
    ]
}

fn happen(model: &mut Model, event: &Happens) {
    match *event {
        Happens::Tell(from, to) => model.tell(NodeId(from), NodeId(to)),
        Happens::Step(node) => model.step(NodeId(node)),
        Happens::Write(node) => model.update(NodeId(node), false, NodeId(node)),
        Happens::Delete(node, other) => model.update(NodeId(node), true, NodeId(other)),
        Happens::Read(node) => model.read(NodeId(node)),
        Happens::GoOn(node, which, to, as_hint) => {
            model.go_on(NodeId(node), which, NodeId(to), as_hint)
        }
        Happens::End(node, which) => model.end(NodeId(node), which),
        Happens::Arrive(which, again) => model.arrive(which, again),
        Happens::Lose(which) => {
            if !model.messages.is_empty() {
                model.messages.remove(which % model.messages.len());
            }
        }
        Happens::Deliver(node, owner) => model.deliver(NodeId(node), NodeId(owner)),
        Happens::PassOn(node, owner, to) => {
            model.pass_on(NodeId(node), NodeId(owner), NodeId(to));
        }
        Happens::Compare(one, two) => model.compare(NodeId(one), NodeId(two)),
        Happens::Crash(node) => {
            if let Some(member) = model.members.get_mut(&NodeId(node)) {
                member.hand = None;
                member.work.clear();
            }
        }
        Happens::Start(node) => {
            let node = NodeId(node);
            if model.members.get(&node).is_some_and(|it| it.hand.is_none()) {
                model.begin(node);
            }
        }
        Happens::Wipe(node) | Happens::Restore(node) => {
            let node = NodeId(node);
            let is_wiped = matches!(event, Happens::Wipe(_));
            let disk =
                if is_wiped { Some(Disk::default()) } else { model.backups.get(&node).cloned() };
            let Some(disk) = disk.filter(|_| model.may_lose(node)) else { return };
            let Some(member) = model.members.get_mut(&node) else { return };
            // What it heard of others goes with the disk.
            member.disk = Disk { heard: BarrierTable::default(), ..disk };
            member.work.clear();
            model.begin(node);
        }
        Happens::Keep(node) => {
            let member = model.members.get(&NodeId(node));
            let disk = member.map(|member| member.disk.clone());
            model.backups.extend(disk.map(|disk| (NodeId(node), disk)));
        }
        Happens::Cut(node, is_cut) => {
            model.members.get_mut(&NodeId(node)).into_iter().for_each(|it| it.is_cut = is_cut);
        }
        Happens::Join => {
            let next = (1..=NODES).map(NodeId).find(|node| !model.members.contains_key(node));
            if let Some(node) = next {
                model.add(node, true);
            }
        }
        Happens::Remove(node) => {
            let node = NodeId(node);
            if model.lists().0.len() > OWNERS && model.members.contains_key(&node) {
                model.removed.insert(node);
            }
        }
        Happens::Readmit(node) => {
            let node = NodeId(node);
            let is_back = model.removed.remove(&node);
            model.readmitted.extend(is_back.then_some(node));
        }
        Happens::Depart(node) => {
            if model.members.contains_key(&NodeId(node)) {
                model.depart(NodeId(node));
            }
        }
        Happens::Anew(node) => {
            happen(model, &Happens::Wipe(node));
            if model.members.contains_key(&NodeId(node)) {
                (1..=NODES).for_each(|from| model.tell(NodeId(from), NodeId(node)));
                (0..3).for_each(|_| model.step(NodeId(node)));
            }
        }
        Happens::Round(times, parts) => {
            for _ in 0..times {
                let nodes: Vec<NodeId> = model.members.keys().copied().collect();
                for &one in &nodes {
                    for &two in &nodes {
                        model.tell(one, two);
                        if parts.compares {
                            model.compare(one, two);
                        }
                        if parts.delivers {
                            model.deliver(one, two);
                        }
                    }
                    if parts.ends {
                        model.end(one, 0);
                        model.depart(one);
                    }
                    model.step(one);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_forgotten_comes_back_and_nothing_is_forgotten_that_not_all_agreed_on(
        events in prop::collection::vec(happens(), 1..250),
    ) {
        let mut model = Model::new();
        for event in &events {
            happen(&mut model, event);
        }
        model.heal();
        model.check_healed();
    }
}

impl Model {
    fn progress(&self, node: u64) -> BarrierProgress {
        self.members[&NodeId(node)].hand.as_ref().unwrap().barrier().own().progress
    }

    /// Has one member hear of all others, be compared with them, and do what there is to do, until it has come
    /// one stage further, if it can.
    fn go_further(&mut self, node: u64) {
        let before = self.progress(node);
        for _ in 0..8 {
            for other in (1..=NODES).map(NodeId) {
                self.tell(other, NodeId(node));
                self.compare(NodeId(node), other);
            }
            self.messages.clear();
            if self.progress(node) == before {
                self.step(NodeId(node));
            }
        }
    }

    fn all_go_further(&mut self, nodes: &[u64]) {
        nodes.iter().for_each(|&node| self.go_further(node));
    }

    /// A write that all owners have, and its removal; `Work::Write` is still under way at `writer`.
    fn written_and_deleted(&mut self, writer: u64, deleter: u64) {
        self.update(NodeId(writer), false, NodeId(writer));
        self.heal_owners();
        self.update(NodeId(deleter), true, NodeId(deleter));
        self.end(NodeId(deleter), usize::from(writer == deleter));
        self.heal_owners();
    }

    fn heal_owners(&mut self) {
        for one in self.owners() {
            self.owners().into_iter().for_each(|two| self.compare(one, two));
        }
        self.messages.clear();
    }
}

/// It would always be with one of whom the others believe that it has emptied its outbox.
#[test]
fn a_hint_is_not_passed_on_past_a_round() {
    let mut model = Model::new();
    let all = [1, 2, 3];
    model.written_and_deleted(1, 1);
    // The first keeps the write for the second.
    model.go_on(NodeId(1), 1, NodeId(NODES), false);
    model.end(NodeId(1), 0);
    (0..2).for_each(|_| model.all_go_further(&all));
    model.go_further(3);
    model.pass_on(NodeId(1), NodeId(2), NodeId(3));
    assert!(!model.members[&NodeId(3)].disk.outbox.is_empty(), "it has not emptied it yet");
    model.all_go_further(&[1, 2, 1]);
    assert_eq!(model.progress(1), BarrierProgress { round: 1, stage: BarrierStage::Emptied });
    model.pass_on(NodeId(3), NodeId(2), NodeId(1));
    assert!(model.members[&NodeId(1)].disk.outbox.is_empty(), "the third has not emptied its own");
    model.all_go_further(&[2, 3, 3]);
    model.pass_on(NodeId(1), NodeId(2), NodeId(3));
    (0..4).for_each(|_| model.all_go_further(&all));
    model.heal();
    model.check_healed();
}

/// What a write left in an outbox a read may have seen there, and bring to an owner later.
#[test]
fn a_read_that_met_a_write_in_an_outbox_ends_before_it_is_forgotten() {
    let mut model = Model::new();
    model.add(NodeId(4), true);
    let all = [1, 2, 3, 4];
    (0..2).for_each(|_| model.all_go_further(&all));
    assert_eq!(model.owners(), [2, 3, 4].map(NodeId));
    model.written_and_deleted(2, 3);
    // The first has nothing to propose a round for.
    (0..2).for_each(|_| model.all_go_further(&[2, 3, 4, 1]));
    assert!(all.iter().all(|&node| model.progress(node).stage == BarrierStage::Equal));
    // The first is through before it is asked to keep the write.
    model.go_further(1);
    model.go_on(NodeId(2), 1, NodeId(1), true);
    model.end(NodeId(2), 0);
    model.arrive(0, false);
    assert!(!model.members[&NodeId(1)].disk.outbox.is_empty());
    model.all_go_further(&[2, 3, 4, 4]);
    assert_eq!(model.progress(4).stage, BarrierStage::Emptied);
    model.read(NodeId(4));
    model.go_on(NodeId(4), 0, NodeId(1), false);
    (0..2).for_each(|_| model.arrive(0, false));
    model.deliver(NodeId(1), NodeId(3));
    model.messages.clear();
    (0..6).for_each(|_| model.all_go_further(&all));
    model.go_on(NodeId(4), 0, NodeId(2), true);
    model.arrive(0, false);
    model.heal();
    model.check_healed();
}
