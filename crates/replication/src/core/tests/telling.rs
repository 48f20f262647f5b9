//! What a node tells others of buckets and of the ownership of partitions.

use super::*;
use crate::{BucketCall, OwnershipCall, PlanChange, PolicyFields};

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
