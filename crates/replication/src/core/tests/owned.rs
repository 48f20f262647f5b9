//! Questions about partitions that a node does not own, and too many about handovers.

use super::*;
use crate::Compare;

/// A core among five nodes, and the partitions that it does not own.
pub(super) fn core_of_five() -> (Core, Vec<Partition>) {
    let mut core = core();
    let members: Vec<Member> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
    let ring = Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring;
    own(&mut core, ring);
    let partitions = core.shared.ownership.partition_count().iter();
    let foreign = partitions.filter(|&at| !core.shared.is_among_owners(at, 3)).collect();
    (core, foreign)
}

fn answered(effects: &[Effect]) -> &Body {
    let [Effect::Send { to: NodeId(2), message }] = effects else { panic!("{effects:?}") };
    &message.body
}

/// A node that has handed a partition over and dropped its copy lists nothing of it.
#[test]
fn a_listing_says_of_which_partitions_it_is_none() {
    let (mut core, foreign) = core_of_five();
    assert!(!foreign.is_empty() && foreign.len() < 8);
    let (first, last, bucket) = (Partition(0), Partition(7), BucketId::first("default"));
    let list = Body::List { first, last, bucket, after: None, limit: 9 };
    let effects = received(&mut core, 2, RequestId { core: 0, number: 1 }, list);
    let [Effect::Storage { ticket, command: Command::List { .. } }] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = stored(&mut core, at(1), ticket, Answer::Listed(Listing::default()));
    assert_eq!(*answered(&effects), Body::Listed { listing: Ok(Listing::default()), foreign });
}

#[test]
fn a_page_is_incomplete_where_its_owners_own_nothing_by_what_they_know() {
    for (foreign, incomplete) in [(vec![], false), (vec![Partition(3)], true)] {
        let mut core = core();
        let mut effects = Vec::new();
        let scan = ScanRequest { bucket: "default".into(), cursor: None, limit: 10 };
        core.step(at(0), Event::Call { id: CallId(1), call: Call::Scan(scan) }, &mut effects);
        let mut replies = Vec::new();
        for effect in effects {
            let event = match effect {
                Effect::Storage { ticket, command: Command::List { .. } } => {
                    Event::Storage { ticket, answer: Answer::Listed(Listing::default()) }
                }
                Effect::Send { to, message } => {
                    let listing = Ok(Listing::default());
                    let body = Body::Listed { listing, foreign: foreign.clone() };
                    Event::Received { from: to, message: Message { body, ..message } }
                }
                other => panic!("{other:?}"),
            };
            core.step(at(1), event, &mut replies);
        }
        let Some(Ok(Reply::Page(page))) = reply(&replies) else { panic!("{replies:?}") };
        assert_eq!(page.incomplete, incomplete, "{foreign:?}");
    }
}

#[test]
fn what_is_counted_as_an_owner_is_refused_by_who_is_none() {
    let (mut core, foreign) = core_of_five();
    let mut count = |number, partitions, as_owner| {
        let bucket = BucketId::first("default");
        let body = Body::Count { bucket, partitions, as_owner };
        received(&mut core, 2, RequestId { core: 0, number }, body)
    };
    let all: Vec<Partition> = (0..8).map(Partition).collect();
    let own: Vec<Partition> = all.iter().copied().filter(|at| !foreign.contains(at)).collect();
    let error = StorageError::NotOwned { partition: foreign[0].0 };
    assert_eq!(*answered(&count(1, all.clone(), true)), Body::Counted(Err(error)));
    for effects in [count(2, own, true), count(3, all, false)] {
        assert!(matches!(effects[..], [Effect::Storage { command: Command::Count { .. }, .. }]));
    }
}

/// Each costs a sync of the disk.
#[test]
fn too_many_questions_where_a_node_stands_are_left_unanswered() {
    let mut core = core();
    let mut stand = |number| {
        let body = Body::Stand { partitions: vec![Partition(1)] };
        received(&mut core, 2, RequestId { core: 0, number }, body)
    };
    // Ten requests may be under way, eight commands for each.
    for number in 0..80 {
        let effects = stand(number);
        assert!(matches!(effects[..], [Effect::Storage { command: Command::Sync, .. }]));
    }
    assert_eq!(stand(80), []);
}

/// That would be a copy of a key, of which it has none, or drops it.
#[test]
fn who_is_no_owner_is_not_told_what_an_owner_has_seen() {
    let (mut core, foreign) = core_of_five();
    let mut keys = (0..).map(|number| Key::new("default", format!("{number}")).unwrap());
    let key = keys.find(|key| foreign.contains(&core.shared.partition(key))).unwrap();
    let owner = core.shared.owners(core.shared.partition(&key), 3)[0];
    let (seen, context) = Default::default();
    let complete = Compare::Complete { key, tag: Tag::ORSET, seen, context };
    let id = RequestId { core: 0, number: 1 };
    let effects = received(&mut core, owner.0, id, Body::Compare(complete));
    let [Effect::Send { message, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(
        matches!(message.body, Body::Compared(Err(StorageError::Incomparable(_)))),
        "{message:?}"
    );
}
