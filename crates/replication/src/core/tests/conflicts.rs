//! Pages of the keys in conflict: a later one is of the node that gave the page before, or refused.

use storage::Conflicted;

use super::*;
use crate::ConflictList;

fn place(of: &'static str) -> ConflictPosition {
    ConflictPosition(Bytes::from_static(of.as_bytes()))
}

/// Asks a core, in which nodes 1 to 4 have names and 4 is not in reach, for what comes after a cursor.
fn asked(node: Option<u64>) -> (Core, Vec<Effect>) {
    let mut core = core();
    let names = (1..=4).map(|id| (NodeId(id), format!("name-{id}"))).collect();
    core.step(at(0), Event::Names(names), &mut Vec::new());
    let cursor = node.map(|node| ConflictCursor { node: NodeId(node), after: place("m") });
    let call = Call::Conflicts(ConflictsRequest { cursor, limit: 2 });
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    (core, effects)
}

fn page() -> ConflictPage {
    let key = Key::new("default", "x").unwrap();
    let found = Conflicted { position: place("x"), key, tags: vec![Tag::BYTES], siblings: 2 };
    ConflictPage { keys: vec![found], next: Some(place("x")) }
}

/// What is told of the page as one of the node's list.
fn list(node: u64) -> ConflictList {
    let next = Some(ConflictCursor { node: NodeId(node), after: place("x") });
    ConflictList { node: format!("name-{node}"), keys: page().keys, next }
}

/// Under which id the node was asked.
fn asked_of(effects: &[Effect], node: u64) -> RequestId {
    let [Effect::Send { to, message }] = effects else { panic!("{effects:?}") };
    assert_eq!(*to, NodeId(node));
    assert_eq!(message.body, Body::Conflicts { after: Some(place("m")), limit: 2 });
    message.id
}

fn told(effects: &[Effect]) -> &Result<Reply, RequestError> {
    reply(effects).unwrap_or_else(|| panic!("{effects:?}"))
}

#[test]
fn a_list_begins_and_goes_on_at_the_node_asked_and_says_whose_it_is() {
    for (node, from) in [(None, None), (Some(1), Some(place("m")))] {
        let (mut core, effects) = asked(node);
        let [Effect::Storage { ticket, command: Command::Conflicts { after, limit: 2 } }] =
            &effects[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!(*after, from);
        let effects = stored(&mut core, at(1), *ticket, Answer::Conflicts(page()));
        assert_eq!(*told(&effects), Ok(Reply::Conflicts(list(1))));
    }
}

#[test]
fn a_cursor_of_another_node_goes_on_in_the_list_of_that_one() {
    let (mut core, effects) = asked(Some(3));
    let id = asked_of(&effects, 3);
    let effects = received(&mut core, 3, id, Body::ConflictsListed(Ok(page())));
    assert_eq!(*told(&effects), Ok(Reply::Conflicts(list(3))));
    assert_eq!(core.under_way(), 0);
}

#[test]
fn a_node_lists_for_another_what_its_own_replica_shows() {
    let mut core = core();
    let id = RequestId { core: 0, number: 1 };
    let body = Body::Conflicts { after: Some(place("m")), limit: 5_000 };
    let effects = received(&mut core, 2, id, body);
    let [Effect::Storage { ticket, command: Command::Conflicts { limit: 1_000, .. } }] =
        effects[..]
    else {
        panic!("{effects:?}")
    };
    let effects = stored(&mut core, at(1), ticket, Answer::Conflicts(page()));
    let [Effect::Send { to: NodeId(2), message }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((message.id, &message.body), (id, &Body::ConflictsListed(Ok(page()))));
}

#[test]
fn a_cursor_of_a_node_out_of_reach_is_refused_with_the_name_of_whom_to_ask() {
    let refused = |effects: &[Effect], node: &str, why: &str| {
        let Err(RequestError::Unreachable(error)) = told(effects) else { panic!("{effects:?}") };
        for words in [&format!("ask {node:?} itself"), why] {
            assert!(error.contains(words), "{words} is not in {error}");
        }
    };
    let (core, effects) = asked(Some(4));
    refused(&effects, "name-4", "cannot reach it");
    assert_eq!(core.under_way(), 0);

    let (mut core, effects) = asked(Some(3));
    asked_of(&effects, 3);
    let mut other = Vec::new();
    core.step(at(1), Event::LinkDown(NodeId(2)), &mut other);
    assert_eq!(reply(&other), None, "it is not asked");
    let mut effects = Vec::new();
    core.step(at(1), Event::LinkDown(NodeId(3)), &mut effects);
    refused(&effects, "name-3", "lost its connection");
    assert_eq!(core.under_way(), 0);

    let (mut core, _) = asked(Some(3));
    let mut effects = Vec::new();
    core.step(at(core.next_timeout().unwrap()), Event::Tick, &mut effects);
    refused(&effects, "name-3", "did not answer");
    assert_eq!(core.under_way(), 0);
}

#[test]
fn a_cursor_of_no_member_is_refused() {
    for node in [0, 5, u64::MAX] {
        let (core, effects) = asked(Some(node));
        let Err(RequestError::Cursor(error)) = told(&effects) else { panic!("{effects:?}") };
        assert!(
            error.contains(&NodeId(node).to_string()) && error.contains("list anew"),
            "{error}"
        );
        assert_eq!(core.under_way(), 0);
    }
}

#[test]
fn what_the_other_node_cannot_list_is_said() {
    let failures = [
        (StorageError::Busy, RequestError::Overloaded),
        (StorageError::Full, RequestError::Storage(StorageError::Full)),
    ];
    for (failed, said) in failures {
        let (mut core, effects) = asked(Some(2));
        let id = asked_of(&effects, 2);
        let effects = received(&mut core, 2, id, Body::ConflictsListed(Err(failed)));
        assert_eq!(*told(&effects), Err(said));
    }
}
