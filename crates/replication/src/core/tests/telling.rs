//! What a node tells others of buckets and of the ownership of partitions.

use ring::{Plan, Stage, Tenure};

use super::*;
use crate::{BucketCall, KnownOwnership, OwnershipCall, PlanChange, PolicyFields};

/// Under which ticket a note is to be written.
fn noted(effects: &[Effect]) -> Ticket {
    let note = effects.iter().find_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::Note { .. } } => Some(*ticket),
        _ => None,
    });
    note.unwrap_or_else(|| panic!("{effects:?}"))
}

/// What node 2 is told.
fn told(effects: &[Effect]) -> Option<&Body> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { to: NodeId(2), message } => Some(&message.body),
        _ => None,
    })
}

/// Its process had what it told; the next one has nothing, if its disk was lost.
#[test]
fn a_node_that_told_something_and_started_again_is_told_it() {
    let name = Bytes::from_static(b"b");
    let mut fields = PolicyFields::default();
    fields.add("r", "1").unwrap();
    let change = PlanChange { put: vec![Member::new(NodeId(4))], ..PlanChange::default() };
    let calls = [
        Call::Buckets(BucketCall::Create { name, fields }),
        Call::Ownership(OwnershipCall::Commit(change)),
    ];
    for call in calls {
        let (mut other, mut effects) = (core(), Vec::new());
        other.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
        let effects = stored(&mut other, at(0), noted(&effects), Answer::Durable);
        let body = told(&effects).expect("the other nodes are told").clone();
        let mut core = core();
        let id = RequestId { core: 0, number: 1 };
        let mut effects = received(&mut core, 2, id, body.clone());
        let ticket = noted(&effects);
        for event in [Event::LinkDown(NodeId(2)), Event::LinkUp(NodeId(2))] {
            core.step(at(1), event, &mut effects);
        }
        let effects = stored(&mut core, at(1), ticket, Answer::Durable);
        assert_eq!(told(&effects).map(Body::name), Some(body.name()), "{effects:?}");
    }
}

/// The question of the ownership that node 2 is sent: its id, of which partitions it tells, and whether the whole.
fn question(effects: &[Effect]) -> Option<(RequestId, Vec<Partition>, bool)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { to: NodeId(2), message } => match &message.body {
            Body::Ownership { tenures, whole, .. } => {
                let partitions = tenures.iter().map(|&(partition, _)| partition).collect();
                Some((message.id, partitions, whole.is_some()))
            }
            _ => None,
        },
        _ => None,
    })
}

fn is_asked(effects: &[Effect]) -> bool {
    question(effects).is_some_and(|(_, partitions, is_whole)| partitions.is_empty() && !is_whole)
}

fn is_told_the_whole(effects: &[Effect]) -> bool {
    question(effects).is_some_and(|(_, partitions, is_whole)| partitions.is_empty() && is_whole)
}

/// Of which partitions alone node 2 is told.
fn told_of(effects: &[Effect]) -> Vec<Partition> {
    let question = question(effects).filter(|(_, _, is_whole)| !is_whole);
    question.map(|(_, partitions, _)| partitions).unwrap_or_default()
}

/// Node 2 answers what it was sent: it has all of it, and with what it had before a state of this digest.
fn answer(core: &mut Core, sent: &[Effect], digest: u128) -> Vec<Effect> {
    let (id, ..) = question(sent).unwrap_or_else(|| panic!("nothing is sent: {sent:?}"));
    let known = KnownOwnership { digest, whole: None };
    received(core, 2, id, Body::OwnershipKnown(Ok(known)))
}

/// Whether node 2, which says that it has a state of this digest, is answered with the whole.
fn shows_all(core: &mut Core, digest: u128) -> bool {
    let body = Body::Ownership { digest, tenures: Vec::new(), whole: None };
    let effects = received(core, 2, RequestId { core: 0, number: 1 }, body);
    let known = effects.iter().find_map(|effect| match effect {
        Effect::Send { to: NodeId(2), message } => match &message.body {
            Body::OwnershipKnown(Ok(known)) => Some(known.whole.is_some()),
            _ => None,
        },
        _ => None,
    });
    known.unwrap_or_else(|| panic!("it is not answered: {effects:?}"))
}

fn digest(ownership: &Ownership) -> u128 {
    xxhash_rust::xxh3::xxh3_128(&clock::encode(ownership))
}

/// The tenure with which a handover of a partition to the target begins.
fn joint(of: &Ownership, partition: Partition) -> Tenure {
    let Stage::Steady { plan: from } = of.tenure(partition).stage else { panic!("{of:?}") };
    let stage = Stage::Joint { from, to: of.target().id() };
    of.next_tenure(partition, of.driver(partition).unwrap(), stage).unwrap()
}

/// Begins a partition's handover, and has that on disk.
fn hand_over(core: &mut Core, partition: u32) -> Vec<Effect> {
    let (of, partition) = (Arc::clone(core.ownership()), Partition(partition));
    let (tenures, mut effects) = (vec![(partition, joint(&of, partition))], Vec::new());
    core.step(at(1), Event::Tenures { tenures, of }, &mut effects);
    stored(core, at(1), noted(&effects), Answer::Durable)
}

/// A plan was committed, and node 2 is told all.
fn committed() -> (Core, Vec<Effect>) {
    let (mut core, mut effects) = (core(), Vec::new());
    let change = PlanChange { put: vec![Member::new(NodeId(4))], ..PlanChange::default() };
    let call = Call::Ownership(OwnershipCall::Commit(change));
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let effects = stored(&mut core, at(0), noted(&effects), Answer::Durable);
    assert!(is_told_the_whole(&effects), "{effects:?}");
    (core, effects)
}

/// The digest of something that node 2 has.
const OTHER: u128 = 1;

/// Likewise, and it has that and something more.
fn followed() -> Core {
    let (mut core, sent) = committed();
    assert_eq!(question(&answer(&mut core, &sent, OTHER)), None);
    core
}

fn relink(core: &mut Core) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.step(at(1), Event::LinkDown(NodeId(2)), &mut effects);
    core.step(at(1), Event::LinkUp(NodeId(2)), &mut effects);
    effects
}

fn tick(core: &mut Core, monotonic_ms: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.step(at(monotonic_ms), Event::Tick, &mut effects);
    effects
}

/// It is asked, and as it has something else and does not know what this node lacks, told the whole.
fn begins_anew(core: &mut Core, sent: &[Effect]) {
    assert!(is_asked(sent), "{sent:?}");
    assert!(shows_all(core, OTHER), "nothing is known of what it lacks");
    let sent = answer(core, sent, OTHER);
    assert!(is_told_the_whole(&sent), "{sent:?}");
    assert_eq!(question(&answer(core, &sent, OTHER)), None);
}

/// While several nodes change it none has quite what another has: each would send the whole of it each time.
#[test]
fn a_node_that_has_had_the_ownership_is_told_what_changes_and_not_the_whole_again() {
    let mut core = followed();
    for partition in [3, 4, 5] {
        let sent = hand_over(&mut core, partition);
        assert_eq!(told_of(&sent), [Partition(partition)]);
        assert_eq!(question(&answer(&mut core, &sent, OTHER)), None, "it has that");
        assert!(!shows_all(&mut core, OTHER), "it is told what it lacks");
    }
}

#[test]
fn what_changes_while_a_node_is_told_the_whole_it_is_told_next() {
    let (mut core, sent) = committed();
    for partition in [3, 4] {
        assert_eq!(question(&hand_over(&mut core, partition)), None);
    }
    let sent = answer(&mut core, &sent, OTHER);
    assert_eq!(told_of(&sent), [Partition(3), Partition(4)]);
}

/// Its disk may be another one.
#[test]
fn of_a_node_that_starts_again_nothing_is_known() {
    let mut core = followed();
    let sent = relink(&mut core);
    begins_anew(&mut core, &sent);
}

/// What it was told it has, or not.
#[test]
fn of_a_node_that_does_not_answer_or_whose_disk_refuses_nothing_is_known() {
    for refuses in [false, true] {
        let mut core = followed();
        let (id, ..) = question(&hand_over(&mut core, 3)).expect("it is told");
        if refuses {
            let refused = Body::OwnershipKnown(Err(StorageError::Busy));
            assert_eq!(question(&received(&mut core, 2, id, refused)), None, "later");
        }
        assert_eq!(question(&tick(&mut core, 1_000)), None);
        let sent = tick(&mut core, 1_001);
        let late = Body::OwnershipKnown(Ok(KnownOwnership { digest: OTHER, whole: None }));
        received(&mut core, 2, id, late);
        begins_anew(&mut core, &sent);
    }
}

/// Whatever it lacks, and why: without this it would lack it for good.
#[test]
fn of_a_node_that_has_something_else_for_long_nothing_is_known() {
    let mut core = followed();
    let sent = hand_over(&mut core, 3);
    assert_eq!(question(&answer(&mut core, &sent, OTHER)), None);
    for begins in [10_000, 20_000] {
        assert_eq!(question(&tick(&mut core, begins - 1)), None);
        let sent = tick(&mut core, begins);
        begins_anew(&mut core, &sent);
    }
    // From when it has another one, that is.
    let same = digest(core.ownership());
    assert!(!shows_all(&mut core, same));
    assert_eq!(question(&tick(&mut core, 30_000)), None);
}

/// The latest counts that is known of it, though an earlier answer comes after that.
#[test]
fn a_node_that_said_that_it_has_all_is_told_nothing_after_an_earlier_answer() {
    let mut core = followed();
    let sent = hand_over(&mut core, 3);
    let before = digest(core.ownership());
    assert_eq!(question(&hand_over(&mut core, 4)), None);
    let all = digest(core.ownership());
    assert!(!shows_all(&mut core, all));
    assert_eq!(question(&answer(&mut core, &sent, before)), None);
    assert_eq!(told_of(&hand_over(&mut core, 5)), [Partition(5)]);
}

/// Nobody would say so: it has no more to tell, and is told nothing that it lacks.
#[test]
fn a_node_has_all_once_this_one_has_what_it_said_to_have() {
    let (mut core, sent) = committed();
    core.step(at(0), Event::LinkDown(NodeId(3)), &mut Vec::new());
    let mut ahead = Ownership::clone(core.ownership());
    ahead.add_tenures([(Partition(3), joint(&ahead, Partition(3)))]);
    assert_eq!(question(&answer(&mut core, &sent, digest(&ahead))), None);
    assert!(core.is_ownership_known());
    assert_eq!(question(&hand_over(&mut core, 3)), None);
    assert_eq!(**core.ownership(), ahead);
    assert!(core.is_ownership_known());
}

#[test]
fn a_node_that_answers_with_more_than_all_is_told_nothing() {
    let mut core = followed();
    let sent = relink(&mut core);
    let mut ahead = Ownership::clone(core.ownership());
    ahead.add_tenures([(Partition(3), joint(&ahead, Partition(3)))]);
    let (id, ..) = question(&sent).expect("it is asked");
    let whole = Some(Box::new(ahead.clone()));
    let known = Body::OwnershipKnown(Ok(KnownOwnership { digest: digest(&ahead), whole }));
    let learnt = received(&mut core, 2, id, known);
    assert_eq!(question(&learnt), None);
    assert_eq!(question(&stored(&mut core, at(1), noted(&learnt), Answer::Durable)), None);
    assert_eq!(**core.ownership(), ahead);
}

/// Has a node tell the core of the whole of what it has, and the disk keep it.
fn learn(core: &mut Core, from: u64, ownership: &Ownership) -> Vec<Effect> {
    let (digest, whole) = (digest(ownership), Some(Box::new(ownership.clone())));
    let body = Body::Ownership { digest, tenures: Vec::new(), whole };
    let effects = received(core, from, RequestId { core: 0, number: 1 }, body);
    stored(core, at(1), noted(&effects), Answer::Durable)
}

/// Of two plans that were committed apart it has the one that won, and has forgotten the other: no tenure that it had
/// named that one. It passes such a tenure over, which would else be taken for known, and a handover never end.
#[test]
fn a_tenure_of_a_plan_that_a_node_does_not_have_it_is_told_again_with_the_plan() {
    let first = Ownership::new(ring());
    let [mut lesser, mut greater] = [4, 5].map(|id| {
        let members = [1, 2, 3, id].map(|id| Member::new(NodeId(id)));
        first.commit(&members, 3, &[]).unwrap()
    });
    if lesser.id() > greater.id() {
        std::mem::swap(&mut lesser, &mut greater);
    }
    let with = |plan: Plan| {
        let mut ownership = first.clone();
        ownership.add_plan(plan);
        ownership
    };
    let (won, mut lost) = (with(greater), with(lesser));
    let partition = Partition(3);
    let tenure = joint(&lost, partition);
    lost.add_tenures([(partition, tenure)]);

    // Nodes 1 and 2 follow each other.
    let mut node_1 = core();
    learn(&mut node_1, 2, &won);
    let config = CoreConfig { node: NodeId(2), ..config() };
    let mut node_2 = Core::new(config, Arc::new(first.clone()));
    node_2.step(at(0), Event::LinkUp(NodeId(1)), &mut Vec::new());
    learn(&mut node_2, 1, &won);
    let send = |effects: &[Effect], to: &mut Core, from: u64| {
        let message = effects.iter().find_map(|effect| match effect {
            Effect::Send { to, message } if to.0 + from == 3 => Some(message),
            _ => None,
        });
        let Message { id, body, .. } = message.unwrap_or_else(|| panic!("{effects:?}")).clone();
        received(to, from, id, body)
    };

    let sent = learn(&mut node_1, 3, &lost);
    assert_eq!(told_of(&sent), [partition]);
    let answered = send(&sent, &mut node_2, 1);
    assert_eq!(node_2.ownership().tenure(partition), first.tenure(partition));
    let sent = send(&answered, &mut node_1, 2);
    assert!(is_told_the_whole(&sent), "{sent:?}");
    let noted = noted(&send(&sent, &mut node_2, 1));
    let answered = stored(&mut node_2, at(1), noted, Answer::Durable);
    assert_eq!(node_2.ownership(), node_1.ownership());
    assert_eq!(node_2.ownership().tenure(partition), tenure);
    assert_eq!(question(&send(&answered, &mut node_1, 2)), None);
}
