use super::*;
use crate::identity::node_id;

/// The connection to the member speaks a version.
const SPOKEN: Option<u16> = Some(8);

fn queue() -> LinkQueue {
    Link::new(node_id("ducks", "b"), "b".into(), "127.0.0.1:1".into()).1
}

#[test]
fn a_link_is_down_as_soon_as_either_direction_is() {
    let queue = queue();
    let link = queue.link();
    let mut announced = Vec::new();
    link.set_incoming(1, |up| announced.push(up));
    link.set_outgoing(SPOKEN, |up| announced.push(up));
    link.set_incoming(2, |up| announced.push(up));
    link.clear_incoming(1, |up| announced.push(up));
    assert!(link.is_up());
    link.clear_incoming(2, |up| announced.push(up));
    link.set_outgoing(None, |up| announced.push(up));
    assert_eq!(announced, [true, false]);
}

/// A loop that was held up can greet on a connection that another loop has replaced, and then
/// end it.
#[test]
fn a_connection_that_was_replaced_does_not_take_the_link_down_with_it() {
    let queue = queue();
    let link = queue.link();
    link.set_outgoing(SPOKEN, |_| ());
    link.set_incoming(2, |_| ());
    link.set_incoming(1, |_| ());
    link.clear_incoming(1, |_| ());
    assert!(link.is_up());
    // Nor does it bring a link up whose later connection has ended.
    link.clear_incoming(2, |_| ());
    link.set_incoming(1, |_| ());
    assert!(!link.is_up());
}

#[test]
fn gossip_needs_only_the_nodes_own_connection() {
    let mut queue = queue();
    let link = Arc::clone(queue.link());
    assert!(!link.gossip(Bytes::from_static(b"g"), 100));
    link.set_outgoing(SPOKEN, |_| panic!("one direction is not enough"));
    assert!(link.gossip(Bytes::from_static(b"g"), 100));
    assert_eq!(queue.next_waiting().unwrap().useful_until_ms, 100 + GOSSIP_USEFUL_MS);
    assert!(queue.next_waiting().is_none());
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut queue = queue();
    let link = Arc::clone(queue.link());
    let bytes = Bytes::from(vec![0; QUEUE_BYTES_MAX + 1]);
    link.send(Chunk { bytes: bytes.clone(), useful_until_ms: 0 });
    link.send(Chunk { bytes, useful_until_ms: 0 });
    assert_eq!(link.dropped(), 1);
    assert!(queue.next_waiting().is_some() && queue.next_waiting().is_none());
}
