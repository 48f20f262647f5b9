//! Requests whose owners know of a later tenure than the one by which they were asked.

use ring::Stage;
use values::{Blob, Causal, DotFun, Sibling};

use super::*;

/// The core's ownership with a handover to a fourth member begun in every partition.
fn joint(core: &Core) -> Ownership {
    let mut ownership = Ownership::clone(core.ownership());
    let members: Vec<Member> = (1..=4).map(|id| Member::new(NodeId(id))).collect();
    let plan = ownership.commit(&members, 3, &[]).unwrap();
    let (from, to) = (ownership.target().id(), plan.id());
    ownership.add_plan(plan);
    for partition in ownership.partition_count().iter() {
        let driver = ownership.driver(partition).unwrap();
        let tenure = ownership.next_tenure(partition, driver, Stage::Joint { from, to }).unwrap();
        ownership.add_tenures([(partition, tenure)]);
    }
    ownership
}

/// Has node 2 tell the core of an ownership, and the disk keep it.
fn tell(core: &mut Core, ownership: &Ownership) -> Vec<Effect> {
    let id = RequestId { core: 0, number: 1 };
    let whole = Some(Box::new(ownership.clone()));
    let effects = received(core, 2, id, Body::Ownership { digest: 1, tenures: vec![], whole });
    let note = effects.iter().find_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::Note { .. } } => Some(*ticket),
        _ => None,
    });
    let effects = stored(core, at(1), note.expect("what was learnt is noted"), Answer::Durable);
    assert_eq!(**core.ownership(), *ownership);
    effects
}

fn moved(core: &Core) -> Body {
    let partition = core.shared.partition(&key());
    Body::Moved { partition, tenure: core.ownership().tenure(partition) }
}

/// The merges among effects: to whom, under which id, by which tenure.
fn merges(effects: &[Effect]) -> Vec<(u64, RequestId, Sequence)> {
    let merges = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if message.body.name() == "merge" => {
            Some((to.0, message.id, message.sequence))
        }
        _ => None,
    });
    merges.collect()
}

/// The owners learnt of the tenure first, and this node before their refusals came: no other change
/// of the ownership follows, so that the write would wait for its deadline.
#[test]
fn an_owner_that_refuses_by_a_tenure_known_meanwhile_is_sent_the_write_again_once() {
    let mut core = core();
    let (ticket, sent) = increment(&mut core);
    let joint = joint(&core);
    let effects = tell(&mut core, &joint);
    assert!(merges(&effects).iter().all(|&(to, ..)| to == 4), "{effects:?}");
    let refused = moved(&core);
    for (node, id) in sent {
        let again = merges(&received(&mut core, node, id, refused.clone()));
        let [(to, id, Sequence(2))] = again[..] else { panic!("{again:?}") };
        assert_eq!(to, node);
        // Whoever refuses it still is no owner by what it knows.
        assert_eq!(merges(&received(&mut core, node, id, refused.clone())), []);
    }
    stored(&mut core, at(1), ticket, Answer::Durable);
    assert_eq!(core.under_way(), 1);
}

#[test]
fn a_write_sent_again_is_answered_once_the_second_sending_is_acknowledged() {
    let mut core = core();
    let (ticket, sent) = increment(&mut core);
    let joint = joint(&core);
    tell(&mut core, &joint);
    assert_eq!(reply(&stored(&mut core, at(1), ticket, Answer::Durable)), None);
    let (node, id) = sent[0];
    let refused = moved(&core);
    let again = merges(&received(&mut core, node, id, refused));
    let effects = received(&mut core, node, again[0].1, Body::Merged(Ok(None)));
    let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
    assert_eq!(answer.acks.answered, 2);
}

/// Of a removal in two messages an owner took the first, learnt of another tenure, and refused the
/// second. Sent both again, it holds all only once it has acknowledged both of these.
#[test]
fn acknowledgements_of_a_first_sending_are_none_of_the_second() {
    let mut core = core();
    let effects = call(&mut core, Operation::Delete(None));
    let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
    let effects = received(&mut core, to.0, message.id, Body::Shown(Ok(View::default())));
    let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
    let sibling = |counter| {
        let dot = Dot::new(Actor::new(ME, 7, 0), counter);
        (dot, Sibling { stamp: Stamp(1), value: Blob::from(vec![0; 10 << 20]) })
    };
    let siblings = [sibling(1), sibling(2)];
    let context = siblings.iter().map(|(dot, _)| *dot).collect();
    let state = Causal { store: DotFun(siblings.into()), context };
    let delta = Delta::of(Tag::BYTES, State::Bytes(state));
    let view = View::default();
    let prepared = made(delta, view);
    let first = merges(&stored(&mut core, at(1), ticket, prepared));
    assert_eq!(first.iter().filter(|(to, ..)| *to == 2).count(), 2);
    let of_2 = |sent: &[(u64, RequestId, Sequence)]| -> Vec<RequestId> {
        sent.iter().filter(|(to, ..)| *to == 2).map(|(_, id, _)| *id).collect()
    };
    let first = of_2(&first);
    let joint = joint(&core);
    tell(&mut core, &joint);
    let refused = moved(&core);
    let second = of_2(&merges(&received(&mut core, 2, first[1], refused)));
    assert_eq!(second.len(), 2);
    stored(&mut core, at(1), ticket, Answer::Durable);
    let merged = || Body::Merged(Ok(None));
    assert_eq!(reply(&received(&mut core, 2, first[0], merged())), None);
    assert_eq!(reply(&received(&mut core, 2, second[0], merged())), None);
    let effects = received(&mut core, 2, second[1], merged());
    let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
    assert_eq!(answer.acks.answered, 2);
}

/// What the peers know of this node cannot note, as when its disk refuses writes: nobody tells it of a
/// change of the ownership.
#[test]
fn a_read_that_owners_refuse_by_a_tenure_that_is_not_learnt_answers_with_what_there_is() {
    let mut core = core();
    let joint = joint(&core);
    let partition = core.shared.partition(&key());
    let refused = Body::Moved { partition, tenure: joint.tenure(partition) };
    let get = Call::Request(Request::get(key(), Scope::Whole));
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call: get }, &mut effects);
    let mut asked = Vec::new();
    for effect in std::mem::take(&mut effects) {
        match effect {
            Effect::Storage { ticket, command: Command::Read { .. } } => {
                let answer = Answer::View(View::default());
                assert_eq!(reply(&stored(&mut core, at(0), ticket, answer)), None);
            }
            Effect::Send { to, message } => asked.push((to.0, message.id)),
            other => panic!("{other:?}"),
        }
    }
    for (node, id) in asked {
        assert_eq!(reply(&received(&mut core, node, id, refused.clone())), None);
    }
    core.step(at(100), Event::Tick, &mut effects);
    assert_eq!(reply(&effects), None, "this node may be about to learn of it");
    core.step(at(101), Event::Tick, &mut effects);
    let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
    assert_eq!((answer.acks.answered, answer.acks.needed), (1, 2));
}
