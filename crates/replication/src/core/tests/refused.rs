//! Requests passed on to nodes that do not take them, and listings that are to go on where none ended.

use storage::{ConflictPosition, ListPosition, ROW_KEY_MAX};

use super::tails::stranger;
use super::*;
use crate::{ConflictCursor, ConflictsRequest, ScanCursor};

/// An increment by a node that is no owner, under a name that it gives.
fn increment_abroad() -> (Core, Vec<Effect>) {
    let (mut core, key) = stranger();
    let call = Call::Request(Request::update(key, Operation::Counter(CounterOp::Add(1))));
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    (core, effects)
}

/// To whom the request is passed on, and under which id.
fn passed_on(effects: &[Effect]) -> Option<(NodeId, RequestId)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { to, message } if message.body.name() == "forward" => Some((*to, message.id)),
        _ => None,
    })
}

fn answer(core: &mut Core, (from, id): (NodeId, RequestId), error: RequestError) -> Vec<Effect> {
    received(core, from.0, id, Body::Forwarded(Err(error)))
}

#[test]
fn what_some_have_no_room_for_is_passed_on_to_others_but_not_to_all() {
    let (mut core, mut effects) = increment_abroad();
    let mut asked = Vec::new();
    while let Some(to) = passed_on(&effects) {
        asked.push(to.0);
        effects = answer(&mut core, to, RequestError::Overloaded);
    }
    asked.dedup();
    assert_eq!(asked.len(), 3);
    assert_eq!(reply(&effects), Some(&Err(RequestError::Overloaded)), "nothing was done");
    assert_eq!(core.under_way(), 0);
}

/// It would be of unknown outcome, though there are others, and though the first may still say that it did it.
#[test]
fn a_second_that_refuses_what_a_first_may_have_done_ends_nothing() {
    for error in [RequestError::Overloaded, RequestError::Stopping] {
        let (mut core, effects) = increment_abroad();
        let first = passed_on(&effects).unwrap();
        let retry_at = core.next_timeout().unwrap();
        let mut effects = Vec::new();
        core.step(at(retry_at), Event::Tick, &mut effects);
        let second = passed_on(&effects).expect("the first is slow");
        let (mut effects, mut others) = (answer(&mut core, second, error.clone()), 0);
        while let Some(next) = passed_on(&effects) {
            assert!(next.0 != second.0 && next.0 != first.0);
            others += 1;
            effects = answer(&mut core, next, RequestError::Overloaded);
        }
        assert_eq!((others, reply(&effects)), (2, None));
        // What the first says is what became of it.
        let late = answer(&mut core, first, RequestError::Timeout);
        assert_eq!(reply(&late), Some(&Err(RequestError::Timeout)));
    }
}

#[test]
fn a_listing_goes_on_after_no_place_that_is_longer_than_any() {
    for (bytes, is_refused) in [(ROW_KEY_MAX, false), (ROW_KEY_MAX + 1, true)] {
        let mut core = core();
        let place = || Bytes::from(vec![7; bytes]);
        let after = Some(ListPosition(place()));
        let cursor = Some(ScanCursor { partition: 0, after: after.clone() });
        let scan = ScanRequest { bucket: "default".into(), cursor, limit: 1 };
        let cursor = ConflictCursor { node: ME, after: ConflictPosition(place()) };
        let conflicts = ConflictsRequest { cursor: Some(cursor), limit: 1 };
        for (id, call) in [(1, Call::Scan(scan)), (2, Call::Conflicts(conflicts))] {
            let mut effects = Vec::new();
            core.step(at(0), Event::Call { id: CallId(id), call }, &mut effects);
            match reply(&effects) {
                Some(Err(RequestError::Cursor(error))) => assert!(is_refused, "{error}"),
                other => assert!(other.is_none() && !is_refused, "{other:?}"),
            }
        }
        let (first, last) = (Partition(0), Partition(7));
        let list = Body::List {
            first,
            last,
            bucket: BucketId::first(Bytes::from("default")),
            after,
            limit: 1,
        };
        let conflicts = Body::Conflicts { after: Some(ConflictPosition(place())), limit: 1 };
        for (number, body) in [(1, list), (2, conflicts)] {
            let effects = received(&mut core, 2, RequestId { core: 0, number }, body);
            let is_listed = effects.iter().any(|effect| matches!(effect, Effect::Storage { .. }));
            assert_eq!(is_listed, !is_refused, "{effects:?}");
        }
    }
}
