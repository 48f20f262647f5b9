//! What is under way is bounded, and what was replied to is in nobody's way.

use replication::{Request, RequestError};
use values::Scope;

use crate::net::{A, C, Net, REQUESTS_MAX, count, key};

#[test]
fn reads_and_writes_replied_to_leave_room_for_others_while_a_replica_is_silent() {
    let mut net = Net::new();
    net.hold(&[(A, C), (C, A)]);
    for turn in 0..REQUESTS_MAX * 5 {
        // At one moment, so that no silent replica is given up.
        let request = if turn % 2 == 0 { Request::get(key(), Scope::Headers) } else { count(1) };
        net.ask_at_once(A, request);
        assert!(net.core(A).under_way() <= REQUESTS_MAX + 1);
    }
    net.lose();
    net.heal();
    net.assert_replicas_equal();
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut net = Net::new();
    let calls: Vec<_> = (0..=REQUESTS_MAX).map(|_| net.call(A, count(1))).collect();
    let refused = calls
        .iter()
        .filter(|&&call| matches!(net.take_reply(call), Some(Err(RequestError::Overloaded))));
    assert_eq!(refused.count(), 1);
}
