use super::*;
use crate::identity::node_id;
use crate::links::LinkQueue;
use bytes::Bytes;
use clock::{Actor, Dot, Stamp};
use membership::Incarnation;
use replication::{Body, Message, RequestId};
use ring::{Partition, Sequence};
use storage::StorageError;
use values::{Causal, Delta, DotFun, Key, Sibling, State, Tag, Value, View};
use wire::{PEER_FRAME_BYTES_MAX, PeerFrame};

fn message(budget_ms: u32) -> Message {
    let body = Body::Count {
        bucket: values::BucketId::first("b"),
        partitions: vec![Partition(1)],
        as_owner: true,
    };
    Message {
        id: RequestId { core: 0, number: 1 },
        trace: 9,
        sequence: Sequence(0),
        time: Stamp(1),
        budget_ms,
        body,
    }
}

/// The connection to the member speaks a version.
const SPOKEN: Option<u16> = Some(8);

fn outgoing() -> (Outgoing, LinkQueue) {
    let node = node_id("ducks", "b");
    let (link, queue) = Link::new(node, "b".into(), "127.0.0.1:1".into());
    let incarnation = Incarnation { generation: 1, nonce: 1 };
    let header = HeaderBase { sender: node_id("ducks", "a"), incarnation };
    let mut outgoing = Outgoing::new(header);
    outgoing.set_links(&LinkMap::from([(node, link)]));
    (outgoing, queue)
}

#[test]
fn a_turns_messages_leave_as_one_chunk_that_is_useful_as_long_as_any_of_them() {
    let (mut outgoing, mut queue) = outgoing();
    queue.link().set_outgoing(SPOKEN, |_| panic!("one direction is not enough"));
    let mut announced = Vec::new();
    queue.link().set_incoming(5, |up| announced.push(up));
    assert_eq!(announced, [true]);
    let node = queue.link().node;
    assert_eq!(outgoing.push(node, message(50), 100), None);
    assert_eq!(outgoing.push(node, message(20), 100), None);
    assert!(queue.next_waiting().is_none());
    outgoing.flush();
    let chunk = queue.next_waiting().unwrap();
    assert_eq!(chunk.useful_until_ms, 150);
    assert!(queue.next_waiting().is_none());
    assert_eq!(outgoing.push(node, message(0), 100), None);
    outgoing.flush();
    assert_eq!(queue.next_waiting().unwrap().useful_until_ms, u64::MAX);
}

#[test]
fn what_waits_for_a_member_that_is_gone_goes_with_its_link() {
    let (mut outgoing, mut queue) = outgoing();
    queue.link().set_outgoing(SPOKEN, |_| ());
    queue.link().set_incoming(1, |_| ());
    let node = queue.link().node;
    assert_eq!(outgoing.push(node, message(0), 100), None);
    outgoing.set_links(&LinkMap::new());
    outgoing.flush();
    assert_eq!(outgoing.push(node, message(0), 100), None);
    assert!(queue.next_waiting().is_none());
}

#[test]
fn nothing_is_queued_for_a_link_that_is_down() {
    let (mut outgoing, mut queue) = outgoing();
    assert_eq!(outgoing.push(queue.link().node, message(0), 100), None);
    outgoing.flush();
    assert!(queue.next_waiting().is_none());
}

/// A value that nine coordinators, cut off from one another, each wrote 8 MiB of.
fn long_value() -> Value {
    let long = Bytes::from(vec![7; 8 << 20]);
    let mut state = Causal::<DotFun<Sibling>>::default();
    for node in 1..=9 {
        let dot = Dot::new(Actor::new(NodeId(node), node, 0), 1);
        state.context.insert(dot);
        state.store.0.insert(dot, Sibling { value: long.clone(), stamp: Stamp(1) });
    }
    Value::from([(Tag::BYTES, State::Bytes(state))])
}

fn sent(queue: &mut LinkQueue) -> Option<Message> {
    let chunk = queue.next_waiting()?.bytes;
    match clock::decode(&chunk[4..]) {
        Ok(PeerFrame::Message(_, message)) => Some(message),
        other => panic!("{other:?}"),
    }
}

fn is_too_long(error: &StorageError) -> bool {
    matches!(error, StorageError::TooLong { bytes, limit: PEER_FRAME_BYTES_MAX }
        if *bytes > 72 << 20)
}

#[test]
fn an_answer_that_does_not_fit_in_a_frame_is_replaced_by_one_that_says_so() {
    let (mut outgoing, mut queue) = outgoing();
    queue.link().set_outgoing(SPOKEN, |_| ());
    queue.link().set_incoming(5, |_| ());
    let node = queue.link().node;
    let view = View::of(long_value());
    let mut answered = |body| {
        assert_eq!(outgoing.push(node, Message { body, ..message(0) }, 100), None);
        outgoing.flush();
        let answer = sent(&mut queue).expect("an answer is sent");
        assert_eq!(answer.id, message(0).id);
        answer.body
    };
    let Body::Shown(Err(error)) = answered(Body::Shown(Ok(view.clone()))) else { panic!() };
    assert!(is_too_long(&error), "{error}");
    // What was merged is merged, shown or not.
    assert_eq!(answered(Body::Merged(Ok(Some(view)))), Body::Merged(Ok(None)));
    // What fits goes through.
    assert_eq!(answered(Body::Counted(Ok(3))), Body::Counted(Ok(3)));
}

#[test]
fn a_question_that_does_not_fit_in_a_frame_is_answered_at_once_and_not_sent() {
    let (mut outgoing, mut queue) = outgoing();
    queue.link().set_outgoing(SPOKEN, |_| ());
    queue.link().set_incoming(5, |_| ());
    let node = queue.link().node;
    let (key, delta) = (Key::new("b", "k").unwrap(), Delta::whole(long_value()));
    let body = Body::Merge { key, delta, show: None };
    let answer = outgoing.push(node, Message { body, ..message(50) }, 100);
    let Some(Message { id, body: Body::Merged(Err(error)), .. }) = answer else { panic!() };
    assert_eq!(id, message(50).id);
    assert!(is_too_long(&error), "{error}");
    outgoing.flush();
    assert_eq!(sent(&mut queue), None);
}
