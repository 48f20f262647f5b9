//! What is kept for nodes that are no owners any more, when plans change.

use storage::{OutboxPosition, Pending};

use super::*;
use crate::provisional_ownership;

fn cluster(nodes: u64) -> Arc<Ownership> {
    let members: Vec<Member> = (1..=nodes).map(|id| Member::new(NodeId(id))).collect();
    let count = PartitionCount::new(8).unwrap();
    Arc::new(Ownership::new(Ring::place(&members, count, 3, None).unwrap().ring))
}

/// For whom the outbox is listed, from where, and under which ticket.
fn lists(effects: &[Effect]) -> Vec<(u64, Option<OutboxPosition>, Ticket)> {
    let lists = effects.iter().filter_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::Outbox { owner, after, .. } } => {
            Some((owner.0, after.clone(), *ticket))
        }
        _ => None,
    });
    lists.collect()
}

/// Which deltas are to be kept for which owners of now, and under which ticket.
fn redirects(effects: &[Effect]) -> Vec<(OutboxPosition, Vec<u64>, Ticket)> {
    let redirects = effects.iter().filter_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::Redirect { position, owners } } => {
            let mut owners: Vec<u64> = owners.iter().map(|owner| owner.0).collect();
            owners.sort_unstable();
            Some((position.clone(), owners, *ticket))
        }
        _ => None,
    });
    redirects.collect()
}

fn position(at: u8) -> OutboxPosition {
    OutboxPosition(vec![at].into())
}

/// A page of what is kept for node 4.
fn page() -> Answer {
    let pending = |at: u8| Pending {
        position: position(at),
        key: Key::new("default", vec![at]).unwrap(),
        delta: Delta::default(),
        version: at.into(),
    };
    Answer::Outbox(vec![pending(1), pending(2)])
}

/// The core after node 4, for which something is kept here, has ceased to be a member.
fn without_4() -> (Core, Vec<Effect>) {
    let mut core = core();
    let mut effects = Vec::new();
    core.step(at(0), Event::LinkDown(NodeId(3)), &mut effects);
    core.step(at(0), Event::Ownership(cluster(4)), &mut effects);
    for (_, _, ticket) in lists(&std::mem::take(&mut effects)) {
        stored(&mut core, at(0), ticket, Answer::Outbox(vec![]));
    }
    core.step(at(0), Event::Ownership(cluster(3)), &mut effects);
    (core, effects)
}

#[test]
fn what_is_kept_for_a_member_out_of_reach_is_not_looked_through_at_each_change() {
    let (_, effects) = without_4();
    let owners: Vec<u64> = lists(&effects).into_iter().map(|(owner, ..)| owner).collect();
    // Node 2 is in reach.
    assert_eq!(owners, [2, 4]);
}

/// Each page costs a sync, and an outbox may hold millions of deltas.
#[test]
fn a_page_is_kept_for_the_owners_of_now_before_the_next_is_listed() {
    let (mut core, effects) = without_4();
    let effects = stored(&mut core, at(0), lists(&effects)[1].2, page());
    assert_eq!(lists(&effects), []);
    let [first, second] = &redirects(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((&first.0, &second.0), (&position(1), &position(2)));
    assert_eq!(first.1, [1, 2, 3]);
    let mut effects = Vec::new();
    for ticket in [first.2, second.2] {
        assert_eq!(lists(&effects), []);
        effects.extend(stored(&mut core, at(5), ticket, Answer::Durable));
    }
    assert_eq!(lists(&effects), []);
    assert_eq!(core.next_timeout(), Some(105));
    effects.clear();
    core.step(at(105), Event::Tick, &mut effects);
    let [(4, Some(after), ticket)] = &lists(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*after, position(2));
    // The pass found something: another one follows, and finds nothing.
    assert_eq!(lists(&stored(&mut core, at(105), *ticket, Answer::Outbox(vec![]))), []);
    assert_eq!(core.next_timeout(), Some(205));
}

#[test]
fn a_page_that_the_disk_does_not_take_is_tried_again_later() {
    let (mut core, effects) = without_4();
    let effects = stored(&mut core, at(0), lists(&effects)[1].2, page());
    for effect in &effects {
        let Effect::Storage { ticket, .. } = effect else { panic!("{effect:?}") };
        stored(&mut core, at(0), *ticket, Answer::Failed(StorageError::Full));
    }
    let mut effects = Vec::new();
    core.step(at(100), Event::Tick, &mut effects);
    let ticket = lists(&effects)[0].2;
    assert_eq!(stored(&mut core, at(100), ticket, Answer::Outbox(vec![])), []);
    assert_eq!(core.next_timeout(), Some(1_100));
    effects.clear();
    core.step(at(1_100), Event::Tick, &mut effects);
    assert!(matches!(&lists(&effects)[..], [(4, None, _)]), "{effects:?}");
}

/// Under which ticket it is asked for whom the outbox keeps anything.
fn asked_for_whom(effects: &[Effect]) -> Option<Ticket> {
    effects.iter().find_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::OutboxOwners } => Some(*ticket),
        _ => None,
    })
}

/// Node 4 was a member of the ring that this node left, and does not come over.
#[test]
fn what_is_brought_from_another_ring_for_no_member_is_kept_for_the_owners() {
    let count = PartitionCount::new(8).unwrap();
    let ring = Ring::place(&[2, 3].map(|id| Member::new(NodeId(id))), count, 3, None).unwrap().ring;
    let mut core = Core::new(config(), Arc::new(provisional_ownership(ME.into(), count)));
    let mut effects = Vec::new();
    core.step(at(0), Event::Tick, &mut effects);
    assert_eq!(asked_for_whom(&effects), None);
    core.step(at(0), Event::Ring(ring.clone()), &mut effects);
    let ticket = asked_for_whom(&effects).expect("it is asked once the ring is known");
    let effects = stored(&mut core, at(0), ticket, Answer::OutboxOwners(vec![NodeId(4)]));
    let [(4, None, ticket)] = lists(&effects)[..] else { panic!("{effects:?}") };
    let effects = stored(&mut core, at(0), ticket, page());
    let kept: Vec<Vec<u64>> =
        redirects(&effects).into_iter().map(|(_, owners, _)| owners).collect();
    assert_eq!(kept, [[2, 3], [2, 3]]);
    // Also if it is killed before that is done.
    let mut core = Core::new(config(), Arc::new(Ownership::new(ring)));
    let mut effects = Vec::new();
    core.step(at(0), Event::Tick, &mut effects);
    assert!(asked_for_whom(&effects).is_some(), "{effects:?}");
}

/// The nodes among effects that are to keep something for another.
fn keepers(effects: &[Effect]) -> Vec<u64> {
    let keepers = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if message.body.name() == "hint" => Some(to.0),
        _ => None,
    });
    keepers.collect()
}

/// It would pass it on in its turn, and the first that left back to it, for as long as its owner is away.
#[test]
fn what_a_leaving_node_keeps_it_does_not_pass_on_to_another_that_leaves() {
    let first = cluster(5);
    let mut second = Ownership::clone(&first);
    let stay: Vec<Member> = (3..=5).map(|id| Member::new(NodeId(id))).collect();
    let plan = second.commit(&stay, 3, &[]).unwrap();
    second.add_plan(plan);
    for keeper in [None, Some(4)] {
        let mut core = core();
        let mut effects = Vec::new();
        core.step(at(0), Event::LinkDown(NodeId(3)), &mut effects);
        core.step(at(0), Event::Ownership(Arc::clone(&first)), &mut effects);
        if let Some(node) = keeper {
            core.step(at(0), Event::LinkUp(NodeId(node)), &mut effects);
        }
        for (_, _, ticket) in lists(&std::mem::take(&mut effects)) {
            stored(&mut core, at(0), ticket, Answer::Outbox(vec![]));
        }
        core.step(at(0), Event::Ownership(Arc::new(second.clone())), &mut effects);
        let listed = lists(&effects).into_iter().find(|(owner, ..)| *owner == 3);
        let (_, _, ticket) = listed.expect("this node leaves");
        let mut keys = (0..).map(|at| Key::new("default", format!("{at}")).unwrap());
        let is_it = |key: &Key| {
            let present = core.shared.owners(core.shared.partition(key), 3);
            present.contains(&NodeId(2)) && present.contains(&NodeId(3))
        };
        let key = keys.find(is_it).unwrap();
        let pending = Pending { position: position(1), key, delta: Delta::default(), version: 1 };
        let effects = stored(&mut core, at(0), ticket, Answer::Outbox(vec![pending]));
        assert_eq!(keepers(&effects), Vec::from_iter(keeper));
    }
}
