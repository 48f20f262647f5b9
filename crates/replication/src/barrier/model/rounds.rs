//! What members do for rounds of the barrier over the modelled store, and what must hold in the end.

use super::*;

/// What a disk takes of what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    All,
    /// All before something is to be noted; that comes with the next step.
    Unnoted,
    /// All up to what comes after so much: it says that it refuses that, though it may have done it.
    Refusing {
        after: usize,
        is_done: bool,
    },
}

impl Model {
    /// Does what is to be done for the barrier now.
    pub(super) fn step(&mut self, node: NodeId) {
        self.step_up_to(node, Takes::All);
    }

    /// Does as much of it as the disk takes.
    pub(super) fn step_up_to(&mut self, node: NodeId, takes: Takes) {
        if !self.is_up(node) {
            return;
        }
        let owners = self.owners();
        let (members, gone) = self.lists_of(node);
        let (next, is_owner) = (self.next, owners.contains(&node));
        let member = self.members.get_mut(&node).unwrap();
        let hand = member.hand.as_mut().unwrap();
        hand.set_members(members, gone);
        let mut step = member.noting.take().map_or_else(|| hand.next(0), BarrierStep::Note);
        let (mut dropped, mut taken) = (None, 0);
        loop {
            let is_of_disk = matches!(
                step,
                BarrierStep::Enter(_) | BarrierStep::Note(_) | BarrierStep::Forget { .. }
            );
            let refused = match takes {
                Takes::Refusing { after, is_done } if is_of_disk && taken == after => Some(is_done),
                _ => None,
            };
            taken += usize::from(is_of_disk);
            if refused == Some(false) {
                hand.failed();
                break;
            }
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
                        has_to_forget: member.disk.content.is_remnant() && !member.disk.is_hidden,
                        ..BarrierShown::default()
                    };
                    hand.looked(look, shown)
                }
                BarrierStep::Enter(round) => {
                    member.disk.round = round.number;
                    member.equal.clear();
                    if refused.is_none() { hand.entered(0) } else { BarrierStep::Wait }
                }
                BarrierStep::Note(standing) if takes == Takes::Unnoted => {
                    member.noting = Some(standing);
                    break;
                }
                BarrierStep::Note(standing) => {
                    let (name, value) = hand.note_of(standing);
                    member.disk.note = Barrier::of_notes(&[(name, Some(value))]).unwrap();
                    if refused.is_none() {
                        let told = self.told.entry(node).or_default();
                        *told = standing.max(*told);
                        hand.noted();
                        member.disk.comes_over = false;
                    }
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
                        Forgetting::Show => {
                            disk.is_hidden = false;
                            disk.age = disk.age.min(disk.round);
                        }
                    }
                    if refused.is_none() { hand.forgotten() } else { BarrierStep::Wait }
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
            if refused.is_some() {
                hand.failed();
                break;
            }
        }
        if let Some((below, content)) = dropped {
            self.check_agreed(node, below);
            self.brings.retain(|_, write| !content.seen.contains(write));
            self.forgotten.extend(content.seen);
        }
    }

    /// A disk is lost, or its member removed: from then on nobody is held to have what was there.
    pub(super) fn loses(&mut self, lost: NodeId) {
        let Some(member) = self.members.get(&lost) else { return };
        let seen = &member.disk.content.seen;
        self.brings.retain(|node, write| *node != lost && !seen.contains(write));
    }

    /// Whether somebody still knows how far each is, without the disk of this one: what all have lost nobody knows.
    pub(super) fn may_lose(&self, lost: NodeId) -> bool {
        self.told.iter().all(|(node, told)| {
            let knows = |(other, member): (&NodeId, &Member)| {
                let note = member.disk.note.as_ref().filter(|_| other == node);
                let noted = note.is_some_and(|note| note.standing >= *told);
                let is_heard = member.disk.heard.standings.get(node).is_some_and(|it| it >= told);
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
            let heard =
                self.members.values().filter_map(|it| it.disk.heard.standings.get(&node)).max();
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
    pub(super) fn depart(&mut self, node: NodeId) {
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
    pub(super) fn heal(&mut self) {
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

    pub(super) fn check_healed(&self) {
        for node in self.lists().0 {
            let disk = &self.members[&node].disk;
            let back: Vec<_> = disk.content.live.intersection(&self.forgotten).collect();
            let is_owner = self.is_owner(node);
            let lacks = |write: &&u64| is_owner && !disk.content.seen.contains(write);
            let lost: Vec<_> = self.brings.values().filter(lacks).collect();
            assert!(lost.is_empty(), "{node:?} does not hold {lost:?}, which came over");
            assert!(back.is_empty(), "{node:?} holds {back:?}, which was removed and forgotten");
            assert!(
                !disk.content.is_remnant(),
                "{node:?} holds what is left of a deleted key: {:?}, {disk:?}",
                self.members[&node].hand.as_ref().map(BarrierHand::task)
            );
        }
    }
}
