//! Which buckets a handover is of, and how much of it is done at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use clock::NodeId;
use ring::{Member, Ownership, Partition, PartitionCount, Ring, Sequence, Stage};
use storage::{Answer, Command, KeysOf, ShardSet, Shards};

use super::{
    Comparing, Departure, Drive, Handover, Part, Pull, Seen, SeenWhat, Stands, TURNS_MAX,
    WaitReason,
};
use crate::{
    BarrierLook, Body, Classes, Core, CoreConfig, Effect, Event, Now, RequestId,
    anti_entropy::{COMMANDS_WAITING_MAX, Found},
    core::tests::config,
    turn::{Shared, Turn, Waiter},
};

fn members(nodes: u64) -> Vec<Member> {
    (1..=nodes).map(|id| Member::new(NodeId(id))).collect()
}

fn cluster(nodes: u64, partitions: u32) -> Ownership {
    let count = PartitionCount::new(partitions).unwrap();
    Ownership::new(Ring::place(&members(nodes), count, 3, None).unwrap().ring)
}

/// A cluster that a fourth member joins, with the joint stage begun in every partition.
fn joint() -> Ownership {
    let mut ownership = cluster(3, 8);
    let plan = ownership.commit(&members(4), 3, &[]).unwrap();
    let (from, to) = (ownership.target().id(), plan.id());
    ownership.add_plan(plan);
    for partition in ownership.partition_count().iter() {
        let driver = ownership.driver(partition).unwrap();
        let tenure = ownership.next_tenure(partition, driver, Stage::Joint { from, to }).unwrap();
        ownership.add_tenures([(partition, tenure)]);
    }
    ownership
}

fn classes(classes: &[u8]) -> BTreeSet<u8> {
    classes.iter().copied().collect()
}

/// A partition that node 4 is to receive of buckets with n=2 and with n=3.
fn received(ownership: &Ownership) -> Partition {
    let receives = |partition: &Partition| {
        Pull::of(
            *partition,
            (Sequence(2), ownership.target().id()),
            NodeId(4),
            ownership,
            &classes(&[2]),
        )
        .is_some()
    };
    ownership.partition_count().iter().find(receives).expect("it owns something")
}

/// A bucket with another n is created after a receiver has begun, or even after it has done.
#[test]
fn a_receiver_is_ready_once_the_keys_of_every_n_were_compared() {
    let ownership = joint();
    let partition = received(&ownership);
    let goal = (Sequence(2), ownership.target().id());
    let pull_of = |of: &[u8]| {
        Pull::of(partition, goal, NodeId(4), &ownership, &classes(of)).expect("it receives")
    };
    let known = |of: &[u8]| Classes::of(&classes(of));
    let stands = |of: &[u8]| Stands { sequence: Sequence(2), ready: None, classes: known(of) };
    let mut pull = pull_of(&[3]);
    let compare = |pull: &mut Pull, by: &[u8]| {
        for node in pull.waits_for(&ownership) {
            let found =
                pull.stood(node, stands(by), known(by)).into_iter().collect::<BTreeSet<u8>>();
            for n in found {
                pull.wanted(node, n, 7);
                pull.found(&Found { peer: node, n, partition, number: 7, is_equal: true });
            }
        }
    };
    let source = *pull.waits_for(&ownership).first().unwrap();
    let early = pull.stood(source, stands(&[2, 3]), known(&[3]));
    assert_eq!(early, [], "it holds keys of buckets that this node has not heard of");
    compare(&mut pull, &[3]);
    assert!(pull.is_ready(&ownership));
    pull.extend_to(pull_of(&[2, 3]));
    assert!(!pull.is_ready(&ownership));
    pull.begin_anew();
    let sources = pull.waits_for(&ownership);
    assert_eq!(sources.len(), 2, "of two owners by n=2");
    for node in sources {
        assert_eq!(pull.stood(node, stands(&[2, 3]), known(&[2, 3])), [2]);
        pull.wanted(node, 2, 8);
        pull.found(&Found { peer: node, n: 2, partition, number: 8, is_equal: true });
    }
    assert!(pull.is_ready(&ownership));
}

/// What a receiver said before it heard of a bucket is not of the bucket.
#[test]
fn a_driver_waits_for_receivers_to_have_the_keys_of_every_n() {
    let ownership = joint();
    let partition = received(&ownership);
    let goal = (Sequence(2), ownership.target().id());
    let me = ownership.driver(partition).unwrap();
    let mut drive = Drive::default();
    drive.look(ownership.tenure(partition), 0);
    let mut stand = |node: u64, ready, of: &[u8]| {
        let stands = Stands { sequence: Sequence(2), ready, classes: Classes::of(&classes(of)) };
        drive.stood(NodeId(node), stands);
        drive.next(partition, me, 0, &ownership, &classes(&[2, 3])).map(|stage| {
            assert!(matches!(stage, Stage::Shifted { .. }));
        })
    };
    for node in 1..=3 {
        assert_eq!(stand(node, Some(goal), &[2, 3]), None);
    }
    assert_eq!(stand(4, Some(goal), &[3]), None);
    assert_eq!(stand(4, Some(goal), &[2, 3]), Some(()));
}

/// Nodes own a small part of a large cluster's partitions.
#[test]
fn what_is_held_of_partitions_that_are_not_owned_is_looked_at_some_at_a_time() {
    let mut config = config();
    config.shards = ShardSet::all(Shards::new(PartitionCount::new(2_048).unwrap(), 2));
    let first = cluster(10, 2_048);
    let mut second = first.clone();
    let plan = second.commit(&members(11), 3, &[]).unwrap();
    second.add_plan(plan);
    let mut core = Core::new(config, Arc::new(first));
    let mut effects = Vec::new();
    let mut looked = BTreeSet::new();
    core.step(Now::default(), Event::Ownership(Arc::new(second)), &mut effects);
    for time in 1..=20 {
        let mut tickets = Vec::new();
        for effect in effects.drain(..) {
            if let Effect::Storage { ticket, command: Command::IsEmpty { partition, .. } } = effect
            {
                assert!(looked.insert(partition));
                tickets.push(ticket);
            }
        }
        assert!(tickets.len() <= TURNS_MAX, "{}", tickets.len());
        for ticket in tickets {
            let event = Event::Storage { ticket, answer: Answer::IsEmpty(true) };
            core.step(Now::default(), event, &mut effects);
        }
        let now = Now { monotonic_ms: time * 200, wall_ms: 0 };
        core.step(now, Event::Tick, &mut effects);
    }
    assert!(looked.len() > 4 * TURNS_MAX, "all in the end: {}", looked.len());
}

fn forgets(effects: &mut Vec<Effect>) -> Vec<Partition> {
    let forgets = effects.drain(..).filter_map(|effect| match effect {
        Effect::Storage { command: Command::Forget { partition, .. }, .. } => Some(partition),
        _ => None,
    });
    forgets.collect()
}

#[test]
fn copies_are_dropped_one_partition_at_a_time_and_not_while_much_waits() {
    let ownership = Arc::new(cluster(5, 8));
    let mut shared = Shared::new(config(), Arc::clone(&ownership));
    let mut handover = Handover::default();
    for (partition, number) in [1, 4, 6].map(Partition).into_iter().zip(1..) {
        let mut departure = Departure::of(
            number,
            partition,
            Sequence(1),
            &ownership,
            (KeysOf::AllBuckets, classes(&[3])),
        );
        departure.begin_to_drop();
        handover.departures.insert(partition, departure);
    }
    let mut effects = Vec::new();
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.drop_next(&mut turn);
    handover.drop_next(&mut turn);
    handover.time(&mut turn);
    assert_eq!(forgets(&mut effects), [Partition(1)]);
    let some = |is_last| Answer::Forgotten { keys: 16, is_last };
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.dropped((Partition(1), 1), &some(false), &mut turn);
    assert_eq!(forgets(&mut effects), [Partition(4)], "each has its turn");
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    for _ in 0..COMMANDS_WAITING_MAX {
        turn.store(Waiter::Nobody, Command::Sync);
    }
    // Of a departure that is over.
    handover.dropped((Partition(4), 7), &some(true), &mut turn);
    assert_eq!(handover.departures.len(), 3);
    handover.dropped((Partition(4), 2), &some(true), &mut turn);
    assert_eq!(forgets(&mut effects), []);
    assert_eq!(handover.departures.len(), 2);
    assert_eq!(shared.counters.keys_dropped, 48);
    // Clients' commands are done.
    for ticket in 0..COMMANDS_WAITING_MAX as u64 {
        shared.stored(storage::Ticket(ticket), true);
    }
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.time(&mut turn);
    assert_eq!(forgets(&mut effects), [Partition(6)]);
    // Clients wait meanwhile: no more than so many at a time.
    let mut dropped = 0;
    loop {
        let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
        handover.dropped((Partition(6), 3), &some(false), &mut turn);
        dropped += 16;
        if forgets(&mut effects).is_empty() {
            break;
        }
    }
    assert_eq!(dropped, super::dropping::KEYS_BETWEEN);
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.time(&mut turn);
    assert_eq!(forgets(&mut effects).len(), 1);
}

fn asked(effects: &[Effect]) -> Vec<(NodeId, RequestId, Vec<Partition>)> {
    let asked = effects.iter().map(|effect| match effect {
        Effect::Send { to, message } => {
            let Body::Stand { partitions } = &message.body else { panic!("{message:?}") };
            (*to, message.id, partitions.clone())
        }
        other => panic!("{other:?}"),
    });
    asked.collect()
}

#[test]
fn a_node_is_asked_of_many_partitions_in_one_question_and_what_it_leaves_out_once_more() {
    let mut shared = Shared::new(config(), Arc::new(cluster(3, 8)));
    shared.links.insert(NodeId(2));
    let mut handover = Handover::default();
    let mut effects = Vec::new();
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    for at in [1, 4, 6, 4] {
        handover.questions.want(Partition(at), NodeId(2), &turn);
        handover.questions.want(Partition(at), NodeId(3), &turn);
    }
    handover.ask(&mut turn);
    handover.ask(&mut turn);
    let (node, first, partitions) = asked(&effects)[0].clone();
    assert_eq!((effects.len(), node), (1, NodeId(2)), "node 3 cannot be reached");
    assert_eq!(partitions, [1, 4, 6].map(Partition));
    effects.clear();
    // The core that was asked owns two of them, and says something of one that was not asked of.
    let stands = [4, 1, 7].map(|at| (Partition(at), Stands::default())).to_vec();
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.drives.insert(Partition(7), Drive::default());
    handover.answered(NodeId(2), first.number, stands, &mut turn);
    assert!(!handover.drives[&Partition(7)].has_heard_of(NodeId(2)));
    handover.ask(&mut turn);
    let again = asked(&effects);
    assert_eq!(again[0].2, [Partition(6)]);
    effects.clear();
    // Whoever leaves out all of them is not asked for ever.
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    handover.answered(NodeId(2), again[0].1.number, Vec::new(), &mut turn);
    handover.ask(&mut turn);
    assert_eq!(asked(&effects), []);
}

/// Every change of the ownership costs all nodes a sync, and each of their cores a look at all partitions.
#[test]
fn what_is_decided_is_decided_at_once_when_it_is_time() {
    let mut config = config();
    config.shards = ShardSet::all(Shards::new(PartitionCount::new(64).unwrap(), 2));
    let first = cluster(3, 64);
    let mut second = first.clone();
    let plan = second.commit(&members(4), 3, &[]).unwrap();
    second.add_plan(plan);
    let stays = |at: &Partition| {
        let all = |ring: &Ring| ring.owners(*at, 3).collect::<BTreeSet<_>>();
        all(second.leaving(*at)) == all(second.entering(*at))
            && second.driver(*at) == Some(config.node)
    };
    let staying = second.partition_count().iter().filter(stays).count();
    assert!(staying > 1, "{staying}");
    let mut core = Core::new(config, Arc::new(first));
    let mut effects = Vec::new();
    let notes = |effects: &mut Vec<Effect>| {
        let is_note = |effect: &Effect| {
            matches!(effect, Effect::Storage { command: Command::Note { .. }, .. })
                || matches!(effect, Effect::Tenures { .. })
        };
        effects.drain(..).filter(is_note).count()
    };
    core.step(Now::default(), Event::Ownership(Arc::new(second)), &mut effects);
    assert_eq!(notes(&mut effects), 0);
    core.step(Now { monotonic_ms: 200, wall_ms: 0 }, Event::Tick, &mut effects);
    assert_eq!(notes(&mut effects), 1);
}

/// From what it departs is asked anew when the owners are others: then more is to go.
#[test]
fn a_departure_does_not_take_the_answer_to_one_before_it() {
    let ownership = Arc::new(cluster(5, 8));
    let mut shared = Shared::new(config(), Arc::clone(&ownership));
    let mut handover = Handover::default();
    let (partition, _) = departed_from(&ownership);
    let mut effects = Vec::new();
    let mut asked = |handover: &mut Handover, shared: &mut Shared| {
        handover.strayed(partition, &mut Turn::new(shared, Now::default(), &mut effects));
        match effects.drain(..).next() {
            Some(Effect::Storage { ticket, command: Command::IsEmpty { .. } }) => ticket,
            other => panic!("{other:?}"),
        }
    };
    // What is written while the engine looks, it may have missed.
    let tickets = [0; 2].map(|_| asked(&mut handover, &mut shared));
    for (ticket, is_empty) in tickets.into_iter().zip([true, false]) {
        let Some(Waiter::Departure(partition, number)) = shared.stored(ticket, true) else {
            panic!("a departure asked")
        };
        let answer = Answer::IsEmpty(is_empty);
        let mut effects = Vec::new();
        let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
        handover.looked((partition, number), &answer, &mut turn);
        assert_eq!(handover.departures.len(), 1);
    }
    assert!(!handover.departures[&partition].waits_for(&ownership).is_empty(), "it compares");
}

/// The owners of a partition that node 1 does not own.
fn departed_from(ownership: &Ownership) -> (Partition, [NodeId; 3]) {
    let all = ownership.partition_count().iter();
    let mut owned =
        all.map(|partition| (partition, owners(ownership.present(partition), partition)));
    owned.find(|(_, owners)| !owners.contains(&NodeId(1))).expect("others own something")
}

fn owners(ring: &Ring, partition: Partition) -> [NodeId; 3] {
    ring.owners(partition, 3).collect::<Vec<_>>().try_into().expect("there are as many")
}

/// A departure with keys of buckets with n=1 and with n=3, of which something is here.
fn departure(partition: Partition, ownership: &Ownership, turn: &mut Turn<'_>) -> Departure {
    let sequence = ownership.sequence(partition);
    let given_up = (KeysOf::AllBuckets, classes(&[1, 3]));
    let mut departure = Departure::of(1, partition, sequence, ownership, given_up);
    departure.go_on(ownership, turn);
    departure.looked(&Answer::IsEmpty(false));
    departure
}

/// A holder is found equal, and says that everything is durable.
fn make_sure(departure: &mut Departure, partition: Partition, peer: NodeId) {
    let stands = Stands { sequence: Sequence(u64::MAX), ..Stands::default() };
    for n in departure.stood(peer, stands) {
        departure.wanted(peer, n, 7);
        departure.found(&Found { peer, n, partition, number: 7, is_equal: true });
    }
    assert_eq!(departure.stood(peer, stands), []);
}

/// The only owner by n=1 is removed: of its keys this may be the last copy, whatever the owners by n=3 hold.
#[test]
fn a_copy_is_not_dropped_before_an_owner_by_every_n_holds_it() {
    let mut ownership = cluster(8, 8);
    let mut shared = Shared::new(config(), Arc::new(ownership.clone()));
    let mut effects = Vec::new();
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    let (partition, [first, second, third]) = departed_from(&ownership);
    let rest: Vec<Member> = members(8).into_iter().filter(|it| it.node != first).collect();
    let plan = ownership.commit(&rest, 3, &[first]).unwrap();
    ownership.add_plan(plan);
    let mut before = departure(partition, &ownership, &mut turn);
    for node in [second, third] {
        make_sure(&mut before, partition, node);
        before.go_on(&ownership, &mut turn);
    }
    assert!(before.waits_for(&ownership).is_empty() && !before.is_dropping());
    // In its place another one owns them, to which they are brought.
    let (driver, plan) = (ownership.driver(partition).unwrap(), ownership.target().id());
    let tenure = ownership.next_tenure(partition, driver, Stage::Steady { plan }).unwrap();
    ownership.add_tenures([(partition, tenure)]);
    let mut after = departure(partition, &ownership, &mut turn);
    for node in owners(ownership.present(partition), partition) {
        assert_ne!(node, NodeId(1));
        assert!(!after.is_dropping());
        make_sure(&mut after, partition, node);
        after.go_on(&ownership, &mut turn);
    }
    assert!(after.is_dropping());
}

/// Meanwhile its disk may have been lost.
#[test]
fn what_a_node_said_of_itself_is_asked_again_after_its_link_was_down() {
    let ownership = cluster(5, 8);
    let mut shared = Shared::new(config(), Arc::new(ownership.clone()));
    let mut effects = Vec::new();
    let mut turn = Turn::new(&mut shared, Now::default(), &mut effects);
    let (partition, [first, second, third]) = departed_from(&ownership);
    let mut departure = departure(partition, &ownership, &mut turn);
    let mut drive = Drive::default();
    for node in [first, second] {
        make_sure(&mut departure, partition, node);
        drive.stood(node, Stands::default());
    }
    let mut handover = Handover::default();
    handover.departures.insert(partition, departure);
    handover.drives.insert(partition, drive);
    handover.link_down(first, &mut turn);
    let drive = &handover.drives[&partition];
    assert!(!drive.has_heard_of(first) && drive.has_heard_of(second));
    let departure = handover.departures.get_mut(&partition).unwrap();
    make_sure(departure, partition, third);
    assert_eq!(departure.go_on(&ownership, &mut turn), [first].into());
    assert!(!departure.is_dropping());
    make_sure(departure, partition, first);
    departure.go_on(&ownership, &mut turn);
    assert!(departure.is_dropping());
}

/// Node 1 has left, but that of one partition, which another one drives, it may have yet to hear so.
fn left(is_over: bool) -> Ownership {
    let mut ownership = cluster(4, 8);
    let rest: Vec<Member> = members(4).into_iter().filter(|it| it.node != NodeId(1)).collect();
    let plan = ownership.commit(&rest, 3, &[]).unwrap();
    let (from, to) = (ownership.target().id(), plan.id());
    let is_followed =
        |at: &Partition| owners(ownership.present(*at), *at)[1..].contains(&NodeId(1));
    let last =
        ownership.partition_count().iter().find(is_followed).expect("it is not always first");
    ownership.add_plan(plan);
    let joint = [Stage::Joint { from, to }, Stage::Shifted { from, to }];
    for partition in ownership.partition_count().iter() {
        let is_steady = is_over || partition != last;
        let steady = is_steady.then_some(Stage::Steady { plan: to });
        for stage in joint.into_iter().chain(steady) {
            let driver = ownership.driver(partition).unwrap();
            let tenure = ownership.next_tenure(partition, driver, stage).unwrap();
            ownership.add_tenures([(partition, tenure)]);
        }
    }
    ownership
}

/// What it holds may be older than what the owners have forgotten by then, and nobody waits for it to hear that
/// its copy is to go.
#[test]
fn a_former_owner_has_a_part_in_a_handover_until_it_hears_that_it_is_over() {
    let mut core = Core::new(config(), Arc::new(cluster(4, 8)));
    let mut shows = |is_over| {
        let mut effects = Vec::new();
        core.step(Now::default(), Event::Ownership(Arc::new(left(is_over))), &mut effects);
        for effect in std::mem::take(&mut effects) {
            if let Effect::Storage { ticket, command: Command::IsEmpty { .. } } = effect {
                let event = Event::Storage { ticket, answer: Answer::IsEmpty(true) };
                core.step(Now::default(), event, &mut effects);
            }
        }
        let look = BarrierLook { life: 0, round: 1, is_over: false, moment: 1, compares: true };
        let shown = core.look(look, Now::default(), &mut effects);
        (shown.pairs, shown.handovers)
    };
    assert_eq!(shows(false), (0, 1));
    assert_eq!(shows(true), (0, 0));
}

/// Node 4 joins three others, of which it reaches one.
#[test]
fn a_flow_says_what_is_left_how_fast_it_goes_and_what_it_waits_for() {
    let before = cluster(3, 8);
    let mut after = before.clone();
    let plan = before.commit(&members(4), 3, &[]).unwrap();
    let (from, to) = (before.target().id(), plan.id());
    after.add_plan(plan);
    let partition = received(&after);
    let config = CoreConfig { node: NodeId(4), ..config() };
    let mut shared = Shared::new(config, Arc::new(before));
    shared.links.insert(NodeId(1));
    let (mut handover, mut effects) = (Handover::default(), Vec::new());
    let mut look = |handover: &mut Handover, shared: &mut Shared, ownership: &Ownership| {
        shared.ownership = Arc::new(ownership.clone());
        handover.look(&mut Turn::new(shared, Now::default(), &mut effects));
    };
    look(&mut handover, &mut shared, &after);
    let idle = Comparing { session: None, held_up: None };
    let flow = handover.flows(&shared, &idle, 0).remove(0);
    // Three copies of 8 partitions for four: 6 for each.
    assert_eq!((flow.part, flow.partitions, flow.done), (Part::Receiving, 6, 0));
    assert_eq!(flow.peers, [1, 2, 3].map(|id| (NodeId(id), (6, 0))).into());
    assert_eq!((flow.keys, flow.keys_left, flow.left_ms), (0, None, None));
    let away = [2, 3].map(|id| ((WaitReason::OutOfReach, Some(NodeId(id))), 6));
    let unheard = ((WaitReason::Unheard, Some(NodeId(1))), 6);
    assert_eq!(flow.waits, away.into_iter().chain([unheard]).collect());

    let saw = |handover: &mut Handover, what| {
        handover.saw(Seen { peer: NodeId(1), n: 3, partition, what }, 1_000);
    };
    saw(&mut handover, SeenWhat::Missing(10));
    (0..4).for_each(|_| saw(&mut handover, SeenWhat::Pulled));
    let one = BTreeSet::from([partition]);
    let compared =
        Comparing { session: Some((NodeId(1), &one)), held_up: Some(WaitReason::Budget) };
    let flow = handover.flows(&shared, &compared, 5_000).remove(0);
    // Ten are taken for as many as the five others lack.
    assert_eq!((flow.keys, flow.keys_left), (4, Some(56)));
    assert_eq!((flow.keys_per_1000_s, flow.left_ms), (1_000, Some(56_000)));
    assert_eq!(flow.peers[&NodeId(1)], (6, 4));
    assert_eq!(flow.waits[&(WaitReason::Budget, None)], 1);
    assert_eq!(flow.waits[&(WaitReason::Unheard, Some(NodeId(1)))], 5);

    for stage in [Stage::Joint { from, to }, Stage::Shifted { from, to }] {
        let driver = after.driver(partition).unwrap();
        let tenure = after.next_tenure(partition, driver, stage).unwrap();
        after.add_tenures([(partition, tenure)]);
        look(&mut handover, &mut shared, &after);
    }
    let flow = handover.flows(&shared, &idle, 5_000).remove(0);
    assert_eq!((flow.partitions, flow.done, flow.keys_left), (5, 1, Some(50)));
}
