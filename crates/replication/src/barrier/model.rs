//! Rounds of the barrier over a model of a store: members that die, lose their disks, get old ones, are cut off,
//! removed, and join, empty or with what they hold of another ring; and after all of that nothing that was forgotten
//! is back, nothing was forgotten that somebody had not agreed to, and nothing is lost that a member came over with.
//!
//! The model has one key. A replica holds which writes it has seen, which of them are live, and how old that is,
//! as an engine does (`storage`, remnants); requests, reads, outboxes and messages are what may carry a write, and
//! everything that members do for the barrier is done by the hands that nodes have.

use std::collections::{BTreeMap, BTreeSet};

use storage::Forgetting;

use super::*;

mod happenings;
mod rounds;

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
    /// What membership keeps of what others say, and those of the [`strangers`](Model::strangers) that it has met.
    heard: BarrierTable,
    met: BTreeSet<NodeId>,
    /// Whether it is of another ring still.
    comes_over: bool,
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
    /// What it has still to note, and then to say, by what it saw when it looked.
    noting: Option<BarrierStanding>,
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
    /// Those that came over and that not all have met: they own nothing yet.
    strangers: BTreeSet<NodeId>,
    /// What only these have: the write that each came over with.
    brings: BTreeMap<NodeId, u64>,
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
            noting: None,
            is_cut: false,
            joins,
        };
        self.members.insert(node, member);
        self.begin(node);
    }

    /// One comes over by a member, with a write that the ring that it left had, or with what was left of that once it
    /// was removed.
    fn come_over(&mut self, by: NodeId, is_live: bool, is_hidden: bool) {
        let Some(node) = self.unused() else { return };
        let write = self.dot();
        let live = is_live.then_some(write);
        self.brings.extend(live.map(|write| (node, write)));
        self.strangers.insert(node);
        self.add(node, true);
        let content = Content { seen: [write].into(), live: live.into_iter().collect() };
        let is_hidden = is_hidden && !is_live;
        // Rounds of another ring.
        let (age, round) = (2, 3);
        self.at(node).disk =
            Disk { content, age, is_hidden, round, comes_over: true, ..Disk::default() };
        self.begin(node);
        self.tell(by, node);
        self.step(node);
    }

    fn unused(&self) -> Option<NodeId> {
        (1..=NODES).map(NodeId).find(|node| !self.members.contains_key(node))
    }

    /// One that joins knows of no life of its own before it is noted.
    fn begin(&mut self, node: NodeId) {
        let member = &self.members[&node];
        let start = match member.disk.note {
            _ if member.disk.comes_over => BarrierStart::ComingOver,
            None if member.joins => BarrierStart::Joining,
            _ => BarrierStart::AsNoted,
        };
        self.start(node, start);
    }

    fn start(&mut self, node: NodeId, start: BarrierStart) {
        let member = self.members.get_mut(&node).unwrap();
        // What it noted of another ring, or could not say, says nothing here.
        let note = member.disk.note.clone().filter(|_| !member.disk.comes_over);
        let mut barrier = Barrier::new(node, note);
        barrier.heard(&member.disk.heard);
        let times = BarrierTimes { interval_ms: Some(0), retries_ms: 0 };
        let mut hand = BarrierHand::new(barrier, start, times, 0);
        let (members, gone) = self.lists_of(node);
        hand.set_members(members, gone);
        let member = self.members.get_mut(&node).unwrap();
        (member.moment, member.hand) = ((0, 0), Some(hand));
        member.equal.clear();
        member.noting = None;
    }

    fn lists(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let present = self.members.keys().filter(|node| !self.removed.contains(node));
        (present.copied().collect(), self.removed.iter().copied().collect())
    }

    /// The lists as a member knows them.
    fn lists_of(&self, node: NodeId) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut present, gone) = self.lists();
        present.retain(|&other| self.knows(node, other));
        (present, gone)
    }

    fn knows(&self, node: NodeId, other: NodeId) -> bool {
        let has_met = self.members.get(&node).is_some_and(|it| it.disk.met.contains(&other));
        !self.strangers.contains(&other) || has_met || node == other
    }

    fn owners(&self) -> Vec<NodeId> {
        let mut present = self.lists().0;
        present.retain(|node| !self.strangers.contains(node));
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
        if self.is_up(from) && self.members.contains_key(&to) && self.knows(from, to) {
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
        let mut met = self.members[&from].disk.met.clone();
        met.insert(from);
        let member = self.at(to);
        member.disk.met.extend(met);
        member.disk.heard.join(&table);
        member.hand.as_mut().unwrap().heard(&table);
        // One that comes over asks for it.
        self.at(from).disk.met.insert(to);
        let nodes = self.lists().0;
        let mut strangers = std::mem::take(&mut self.strangers);
        strangers.retain(|it| {
            nodes.iter().any(|node| node != it && !self.members[node].disk.met.contains(it))
        });
        self.strangers = strangers;
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
                && self.knows(node, other)
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
        if node == to || to == owner || !is_there(node) || !is_there(to) || !self.knows(node, to) {
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
}
