use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Members, each with what is on its disk.
struct Members(BTreeMap<NodeId, Barrier>);

impl Members {
    fn new(count: u64) -> Self {
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let member = |&node: &NodeId| {
            let mut barrier = Barrier::new(node, None);
            barrier.set_members(nodes.iter().copied());
            (node, barrier)
        };
        Self(nodes.iter().map(member).collect())
    }

    fn at(&mut self, node: u64) -> &mut Barrier {
        self.0.get_mut(&NodeId(node)).unwrap()
    }

    fn tell(&mut self, from: u64, to: u64) {
        let table = self.at(from).table();
        self.at(to).heard(&table);
    }

    fn tell_all(&mut self) {
        let count = self.0.len() as u64;
        for _ in 0..2 {
            for from in 1..=count {
                (1..=count).for_each(|to| self.tell(from, to));
            }
        }
    }

    fn do_task(&mut self, node: u64) {
        let barrier = self.at(node);
        if let Some(after) = barrier.after_task() {
            barrier.noted(after);
        }
    }

    fn tasks(&mut self) -> Vec<BarrierTask> {
        self.0.values().map(Barrier::task).collect()
    }
}

#[test]
fn all_members_go_through_a_round_together() {
    let mut members = Members::new(3);
    members.tell_all();
    assert_eq!(members.tasks(), [BarrierTask::Propose; 3]);
    members.do_task(2);
    members.tell_all();
    assert_eq!(members.tasks(), [BarrierTask::Enter(1), BarrierTask::Equal, BarrierTask::Enter(1)]);
    (1..=3).filter(|node| *node != 2).for_each(|node| members.do_task(node));
    members.tell_all();
    for (task, agreed) in
        [(BarrierTask::Equal, 0), (BarrierTask::Drain, 0), (BarrierTask::Hide(1), 1)]
    {
        assert_eq!(members.tasks(), [task; 3]);
        assert_eq!((members.at(1).agreed(), members.at(1).complete()), (agreed, 0));
        // The last of them holds all up.
        members.do_task(1);
        members.do_task(3);
        members.tell_all();
        assert_eq!(members.tasks(), [BarrierTask::Wait, task, BarrierTask::Wait]);
        assert_eq!(members.at(1).waits_for(), [NodeId(2)]);
        members.do_task(2);
        members.tell_all();
    }
    assert_eq!(members.tasks(), [BarrierTask::Propose; 3]);
    assert_eq!((members.at(1).agreed(), members.at(1).complete()), (1, 1));
}

#[test]
fn a_member_that_is_not_heard_of_stops_the_barrier_until_it_is_removed() {
    let mut members = Members::new(3);
    members.tell(1, 2);
    members.tell(2, 1);
    assert_eq!(members.at(1).task(), BarrierTask::Wait);
    assert_eq!(members.at(1).waits_for(), [NodeId(3)]);
    members.at(1).set_members([NodeId(2)]);
    assert_eq!(members.at(1).task(), BarrierTask::Propose);
}

#[test]
fn what_was_said_before_its_sender_confirmed_is_refused_once_all_have() {
    let mut members = Members::new(2);
    members.tell_all();
    members.do_task(1);
    members.tell_all();
    members.do_task(2);
    members.tell_all();
    for node in [1, 2, 1, 2] {
        members.do_task(node);
        members.tell_all();
    }
    let number = |members: &mut Members, node| members.at(node).own().number();
    assert_eq!((number(&mut members, 1), members.at(1).agreed()), (1, 1));
    assert!(!members.at(1).takes(0));
    assert!(members.at(1).takes(1));
}

#[test]
fn a_disk_older_than_what_it_told_begins_anew_in_another_life() {
    let mut members = Members::new(2);
    members.tell_all();
    members.do_task(1);
    members.tell_all();
    members.do_task(2);
    let noted = members.at(2).own();
    members.tell_all();
    members.do_task(2);
    members.tell_all();
    // The disk of an earlier day.
    let mut restored = Barrier::new(NodeId(2), Some(noted));
    restored.set_members([NodeId(1)]);
    // It does not know yet.
    assert_eq!(restored.task(), BarrierTask::Equal);
    restored.heard(&members.at(1).table());
    assert_eq!(restored.task(), BarrierTask::BeginAnew);
    let reborn = Barrier::reborn(NodeId(2), &restored.table());
    let entered = BarrierProgress { round: 1, stage: BarrierStage::Entered };
    assert_eq!(reborn, BarrierStanding { life: 1, progress: entered, since: 1 });
    let mut anew = Barrier::new(NodeId(2), Some(reborn));
    anew.heard(&members.at(1).table());
    assert_eq!(anew.task(), BarrierTask::Equal);
    assert_eq!(anew.own().number(), 1, "it holds nothing older");
    members.at(1).heard(&anew.table());
    assert_eq!(members.at(1).floor(), entered);
}

#[test]
fn a_directory_without_a_note_that_meets_a_later_round_begins_anew() {
    let mut members = Members::new(2);
    members.tell_all();
    members.do_task(1);
    members.tell_all();
    members.do_task(2);
    members.tell_all();
    let mut third = Barrier::new(NodeId(3), None);
    third.heard(&members.at(1).table());
    // It may enter what is under way: it was a member when the round before was over.
    assert_eq!(third.task(), BarrierTask::Enter(1));
    for _ in 0..4 {
        (1..=2).for_each(|node| members.do_task(node));
        members.tell_all();
    }
    assert!(members.at(1).own().progress.round >= 2);
    third.heard(&members.at(1).table());
    assert_eq!(third.task(), BarrierTask::BeginAnew);
}

/// It was removed, the others went on, and it is a member again with its old disk.
#[test]
fn a_member_without_which_others_have_forgotten_begins_anew() {
    let mut members = Members::new(3);
    members.tell_all();
    (1..=2).for_each(|node| members.at(node).set_members([1, 2].map(NodeId)));
    for _ in 0..4 {
        (1..=2).for_each(|node| members.do_task(node));
        for (from, to) in [(1, 2), (2, 1)] {
            members.tell(from, to);
        }
    }
    let hidden = BarrierProgress { round: 1, stage: BarrierStage::Hidden };
    assert_eq!([1, 2].map(|node| members.at(node).own().progress), [hidden; 2]);
    (1..=2).for_each(|node| members.at(node).set_members([1, 2, 3].map(NodeId)));
    let number = members.at(3).own().number();
    assert!(!members.at(1).takes(number));
    assert!(members.at(3).takes(number));
    members.tell(1, 3);
    assert_eq!(members.at(3).task(), BarrierTask::BeginAnew);
    assert!(!members.at(3).takes(number), "what another says that is as far behind");
}

#[test]
fn a_note_is_read_as_it_was_written() {
    let progress = BarrierProgress { round: 7, stage: BarrierStage::Equal };
    let standing = BarrierStanding { life: 2, progress, since: 3 };
    let (name, value) = Barrier::note(standing);
    let damaged = (name.clone(), None);
    let other = (Bytes::from_static(b"another"), Some(Bytes::from_static(b"note")));
    assert_eq!(Barrier::of_notes(&[other.clone(), (name, Some(value))]), Ok(Some(standing)));
    assert_eq!(Barrier::of_notes(std::slice::from_ref(&other)), Ok(None));
    // It must not be taken for one of a node that never took part: that one would begin anew.
    assert!(Barrier::of_notes(&[other, damaged]).is_err());
}

#[derive(Clone, Debug)]
enum Happens {
    Tell(u64, u64),
    Do(u64),
    /// The process stops: what it knew of others is gone.
    Restart(u64),
    /// The disk is what it was some time ago.
    Restore(u64),
    Wipe(u64),
}

fn happens(count: u64) -> impl Strategy<Value = Happens> {
    let node = move || 1..=count;
    prop_oneof![
        8 => (node(), node()).prop_map(|(from, to)| Happens::Tell(from, to)),
        8 => node().prop_map(Happens::Do),
        1 => node().prop_map(Happens::Restart),
        1 => node().prop_map(Happens::Restore),
        1 => node().prop_map(Happens::Wipe),
    ]
}

proptest! {
    /// Whatever is told in whatever order, lost and restored: a member drops what is older than a round
    /// only if every member, in the life that it is in, went through that round or began later, empty.
    #[test]
    fn nobody_drops_what_somebody_may_bring_back(
        events in prop::collection::vec(happens(3), 1..200),
    ) {
        let mut members = Members::new(3);
        // The disks of all times, by member.
        let mut disks: BTreeMap<u64, Vec<BarrierStanding>> = BTreeMap::new();
        let mut wiped = BTreeSet::new();
        for event in events {
            match event {
                Happens::Tell(from, to) => members.tell(from, to),
                Happens::Do(node) => {
                    if members.at(node).task() == BarrierTask::BeginAnew {
                        let reborn = Barrier::reborn(NodeId(node), &members.at(node).table());
                        *members.at(node) = Barrier::new(NodeId(node), Some(reborn));
                        members.at(node).set_members((1..=3).map(NodeId));
                        wiped.remove(&node);
                    } else {
                        members.do_task(node);
                    }
                    let own = members.at(node).own();
                    disks.entry(node).or_default().push(own);
                }
                Happens::Restart(node) | Happens::Restore(node) | Happens::Wipe(node) => {
                    let own = members.at(node).own();
                    let noted = match event {
                        Happens::Restart(_) => Some(own),
                        Happens::Wipe(_) => {
                            wiped.insert(node);
                            None
                        }
                        _ => disks.get(&node).and_then(|disks| disks.get(disks.len() / 2)).copied(),
                    };
                    *members.at(node) = Barrier::new(NodeId(node), noted);
                    members.at(node).set_members((1..=3).map(NodeId));
                }
            }
            // Whoever is heard of at all is taken only with the disk that it said.
            let complete = members.0.values().map(Barrier::complete).max().unwrap_or(0);
            for (node, barrier) in &members.0 {
                let number = barrier.own().number();
                let is_refused = members.0.values().all(|other| {
                    other.complete() < complete || !other.takes(number) || number >= complete
                });
                prop_assert!(is_refused, "{node:?} at {number} is taken, {complete} is complete");
            }
        }
    }
}
