//! What a node tells others of buckets and of the ownership of partitions.

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

/// While several nodes change it none has quite what another has: each would send the whole of it each time.
#[test]
fn a_node_that_has_had_the_ownership_is_told_what_changes_and_not_the_whole_again() {
    let (mut core, mut effects) = (core(), Vec::new());
    let change = PlanChange { put: vec![Member::new(NodeId(4))], ..PlanChange::default() };
    let call = Call::Ownership(OwnershipCall::Commit(change));
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let effects = stored(&mut core, at(0), noted(&effects), Answer::Durable);
    let sent = effects.iter().find_map(|effect| match effect {
        Effect::Send { to: NodeId(2), message } => Some(message.id),
        _ => None,
    });
    let ask = |core: &mut Core| {
        let body = Body::Ownership { digest: 1, tenures: Vec::new(), whole: None };
        let effects = received(core, 2, RequestId { core: 0, number: 1 }, body);
        match told(&effects) {
            Some(Body::OwnershipKnown(Ok(known))) => known.whole.is_some(),
            _ => panic!("{effects:?}"),
        }
    };
    assert!(ask(&mut core), "nothing is known of what it has");
    let more = Body::OwnershipKnown(Ok(KnownOwnership { digest: 1, whole: None }));
    let effects = received(&mut core, 2, sent.expect("it is told"), more);
    assert_eq!(told(&effects), None, "it has all, and tells by itself what it has beyond that");
    assert!(!ask(&mut core));
    for event in [Event::LinkDown(NodeId(2)), Event::LinkUp(NodeId(2))] {
        core.step(at(1), event, &mut Vec::new());
    }
    assert!(ask(&mut core), "its disk may be another one");
}
