//! What happens in the modelled cluster: anything in any order, and what was found that way once.

use proptest::prelude::*;

use super::rounds::Takes;
use super::*;

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
    /// What it does then is not noted yet.
    Look(u64),
    /// A disk refuses the step that comes after so many, though it may have done it.
    Refused(u64, usize, bool),
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
    /// By this one, with a write or what is left of one, hidden or not.
    ComeOver(u64, bool, bool),
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
        6 => node().prop_map(Happens::Look),
        2 => (node(), 0..3_usize, any::<bool>()).prop_map(|(node, after, is_done)| Happens::Refused(node, after, is_done)),
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

/// A write and its removal go through a part of a round or all of it; then disks are lost and members join, often.
fn happens_after_a_round() -> impl Strategy<Value = Vec<Happens>> {
    let node = || 1..=NODES;
    let of_three = || 1..=3_u64;
    let in_between = move || {
        let one = prop_oneof![
            3 => of_three().prop_map(Happens::Keep),
            3 => (of_three(), 0..2_usize, node(), any::<bool>()).prop_map(|(a, b, c, d)| Happens::GoOn(a, b, c, d)),
            1 => (of_three(), of_three()).prop_map(|(one, two)| Happens::Compare(one, two)),
            1 => (0..4_usize).prop_map(|which| Happens::Arrive(which, true)),
        ];
        prop::collection::vec(one, 0..5)
    };
    let round = (0..6_usize, any::<bool>(), any::<bool>(), any::<bool>());
    let rounds = round.prop_map(|(times, compares, delivers, ends)| {
        Happens::Round(times, Parts { compares, delivers, ends })
    });
    let loss = prop_oneof![
        2 => node().prop_map(Happens::Wipe),
        3 => node().prop_map(Happens::Restore),
        2 => node().prop_map(Happens::Crash),
        3 => Just(Happens::Join),
        2 => (node(), any::<bool>()).prop_map(|(node, is_cut)| Happens::Cut(node, is_cut)),
    ];
    let then = prop_oneof![1 => loss, 4 => happens()];
    let first = (of_three(), in_between(), of_three(), in_between());
    let more = prop::collection::vec((rounds, in_between()), 3);
    (first, more, prop::collection::vec(then, 0..80)).prop_map(|(first, more, then)| {
        let (writer, written, deleter, deleted) = first;
        let mut all = vec![Happens::Write(writer)];
        all.extend(written);
        all.push(Happens::Delete(deleter, writer));
        all.extend(deleted);
        all.extend(more.into_iter().flat_map(|(round, after)| [vec![round], after].concat()));
        all.extend(then);
        all
    })
}

/// Members come over by one that may be lost or removed before it has told anybody, while the others go on.
fn happens_where_members_come_over() -> impl Strategy<Value = Vec<Happens>> {
    let of_three = || 1..=3_u64;
    let comes_over = || {
        let comes = (of_three(), any::<bool>(), any::<bool>());
        comes.prop_map(|(by, is_live, is_hidden)| Happens::ComeOver(by, is_live, is_hidden))
    };
    let loss = prop_oneof![
        of_three().prop_map(Happens::Wipe),
        of_three().prop_map(Happens::Anew),
        of_three().prop_map(Happens::Remove),
    ];
    let cut = || (4..=NODES).prop_map(|node| Happens::Cut(node, true));
    let round = || {
        let all = Parts { compares: true, delivers: true, ends: true };
        (1..4_usize).prop_map(move |times| Happens::Round(times, all))
    };
    let then = prop_oneof![
        1 => comes_over(),
        1 => loss,
        1 => cut(),
        2 => round(),
        8 => happens(),
    ];
    let first = (prop::collection::vec(happens(), 0..30), comes_over(), cut());
    (first, prop::collection::vec(then, 0..80))
        .prop_map(|((before, comes, cut), then)| [before, vec![comes, cut], then].concat())
}

fn happen(model: &mut Model, event: &Happens) {
    match *event {
        Happens::Tell(from, to) => model.tell(NodeId(from), NodeId(to)),
        Happens::Step(node) => model.step(NodeId(node)),
        Happens::Look(node) => model.step_up_to(NodeId(node), Takes::Unnoted),
        Happens::Refused(node, after, is_done) => {
            model.step_up_to(NodeId(node), Takes::Refusing { after, is_done });
        }
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
            model.loses(node);
            let Some(member) = model.members.get_mut(&node) else { return };
            // What it heard of others goes with the disk.
            member.disk = Disk { heard: BarrierTable::default(), met: BTreeSet::new(), ..disk };
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
            if let Some(node) = model.unused() {
                model.add(node, true);
            }
        }
        Happens::ComeOver(by, is_live, is_hidden) => {
            model.come_over(NodeId(by), is_live, is_hidden);
        }
        Happens::Remove(node) => {
            let node = NodeId(node);
            if model.lists().0.len() > OWNERS && model.members.contains_key(&node) {
                let is_new = model.removed.insert(node);
                // With the last that knows how far others are, all would have lost that.
                if is_new && !model.may_lose(node) {
                    model.removed.remove(&node);
                } else {
                    model.loses(node);
                }
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
        check(&events);
    }

    #[test]
    fn nothing_forgotten_comes_back_where_disks_are_lost_and_members_join_after_a_round(
        events in happens_after_a_round(),
    ) {
        check(&events);
    }

    #[test]
    fn all_is_forgotten_and_nothing_lost_where_members_come_over_with_what_they_hold(
        events in happens_where_members_come_over(),
    ) {
        check(&events);
    }
}

fn check(events: &[Happens]) {
    let mut model = Model::new();
    for event in events {
        happen(&mut model, event);
    }
    model.heal();
    model.check_healed();
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

/// It would be with one that says that it has emptied its outbox.
#[test]
fn a_hint_is_not_passed_on_to_one_that_has_looked_and_not_said_so_yet() {
    let mut model = Model::new();
    let all = [1, 2, 3];
    model.written_and_deleted(1, 1);
    // The third keeps the write for the second.
    (0..2).for_each(|_| model.all_go_further(&all));
    model.go_further(3);
    model.go_on(NodeId(1), 1, NodeId(NODES), false);
    model.end(NodeId(1), 0);
    model.pass_on(NodeId(1), NodeId(2), NodeId(3));
    model.all_go_further(&[1, 2]);
    model.tell(NodeId(2), NodeId(1));
    model.step_up_to(NodeId(1), Takes::Unnoted);
    model.pass_on(NodeId(3), NodeId(2), NodeId(1));
    model.step(NodeId(1));
    assert_eq!(model.progress(1), BarrierProgress { round: 1, stage: BarrierStage::Emptied });
    assert!(model.members[&NodeId(1)].disk.outbox.is_empty());
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
