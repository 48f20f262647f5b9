//! What the registrar asks and is answered, out of order.

use bytes::Bytes;

use super::*;
use crate::{BucketCall, BucketError, PolicyFields};

fn create(core: &mut Core, id: u64, name: &'static str, n: &str) -> Vec<Effect> {
    let mut fields = PolicyFields::default();
    fields.add("n", n).unwrap();
    let call =
        Call::Buckets(BucketCall::Create { name: Bytes::from_static(name.as_bytes()), fields });
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(id), call }, &mut effects);
    effects
}

/// The ticket of the own count, and to whom questions for theirs went.
fn counts(effects: &[Effect]) -> (Ticket, Vec<(u64, RequestId)>) {
    let (mut ticket, mut asked) = (None, Vec::new());
    for effect in effects {
        match effect {
            Effect::Storage { ticket: own, command: Command::Count { .. } } => ticket = Some(*own),
            Effect::Send { to, message } if message.body.name() == "count" => {
                asked.push((to.0, message.id));
            }
            Effect::Reply { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (ticket.expect("the own replica counts too"), asked)
}

fn holds_data(bucket: &str) -> Result<Reply, RequestError> {
    Err(RequestError::Bucket(BucketError::HoldsData { bucket: bucket.into(), n: 3 }))
}

/// The answers of members to what they were asked about one bucket say nothing of the next.
#[test]
fn what_was_counted_in_one_bucket_is_not_taken_for_the_count_of_another() {
    let mut core = core();
    let (own, first) = counts(&create(&mut core, 1, "p", "1"));
    assert_eq!(create(&mut core, 2, "q", "1"), []);
    let effects = stored(&mut core, at(1), own, Answer::Count(1));
    assert_eq!(reply(&effects), Some(&holds_data("p")));
    let (own, second) = counts(&effects);
    assert_eq!(stored(&mut core, at(1), own, Answer::Count(0)), []);
    for (node, id) in first {
        assert_eq!(received(&mut core, node, id, Body::Counted(Ok(0))), []);
    }
    let (node, id) = second[0];
    assert_eq!(received(&mut core, node, id, Body::Counted(Ok(0))), []);
    let (node, id) = second[1];
    let effects = received(&mut core, node, id, Body::Counted(Ok(7)));
    assert_eq!(reply(&effects), Some(&holds_data("q")));
    assert_eq!((core.under_way(), core.next_timeout()), (0, None));
}

/// A change that the engine did not take is not made; of one that its disk did not commit nobody
/// knows whether it shows after a crash.
#[test]
fn a_change_that_was_given_to_the_disk_and_failed_is_unknown() {
    let unknown = RequestError::Unknown { acked: 0, needed: 1, disk: Some(StorageError::Full) };
    let cases = [
        (StorageError::Overloaded(9), RequestError::Storage(StorageError::Overloaded(9))),
        (StorageError::Full, unknown),
    ];
    for (failure, expected) in cases {
        let mut core = core();
        let effects = create(&mut core, 1, "p", "3");
        let [Effect::Storage { ticket, command: Command::Note { .. } }] = effects[..] else {
            panic!("{effects:?}")
        };
        let effects = stored(&mut core, at(1), ticket, Answer::Failed(failure));
        assert_eq!(reply(&effects), Some(&Err(expected)));
    }
}
