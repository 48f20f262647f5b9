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

#[test]
fn all_that_a_call_leads_to_at_other_nodes_has_its_trace() {
    let mut net = Net::new();
    net.call(A, count(1));
    net.call(A, Request::get(key(), Scope::Headers));
    let (mut of, mut seen) = (net.traces(), Vec::new());
    while net.step() {
        seen.extend(net.traces());
    }
    of.sort_unstable();
    of.dedup();
    assert_eq!(of.len(), 2, "a trace for each call");
    assert!(!seen.is_empty() && seen.iter().all(|trace| of.contains(trace)), "{seen:?} of {of:?}");
}

/// A disk that hangs must not let memory grow with every write that the other owners acknowledge.
#[test]
fn what_goes_on_in_the_background_is_bounded_while_the_own_disk_hangs() {
    let mut net = Net::new();
    net.set_commits(A, false);
    for _ in 0..REQUESTS_MAX * 5 {
        let call = net.call(A, count(1));
        net.run();
        // Refused or done: either is well, if at once.
        net.take_reply(call).expect("an answer at once").ok();
    }
    let under_way = net.core(A).under_way();
    assert!(under_way <= 2 * REQUESTS_MAX, "{under_way} requests are under way");
}
