//! Disks that fail: every replica catches up all the same.

use replication::{Request, RequestError};
use storage::{IndexRead, Table};
use values::Scope;

use crate::net::{A, B, C, Net, count, counted, key, put, sadd};

#[test]
fn a_coordinator_whose_own_disk_was_full_catches_up_once_there_is_room() {
    let mut net = Net::new();
    net.disk(A).full(true);
    let answer = net.ask(A, sadd("x")).unwrap();
    assert_eq!(answer.acks.answered, 2, "its own copy does not count");
    net.pass(60_000);
    net.disk(A).full(false);
    net.pass(60_000);
    net.assert_replicas_equal();
}

#[test]
fn a_hint_that_the_disk_refused_is_tried_again() {
    // What A merges fills its room, so there is none for the hint.
    let mut net = Net::with_room(450);
    net.hold(&[(A, C)]);
    net.set_commits(A, false);
    let call = net.call(A, sadd(&"x".repeat(190)));
    net.pass(150);
    net.set_commits(A, true);
    net.pass(3_000);
    net.take_reply(call).unwrap().unwrap();
    net.lose();
    net.heal();
    net.assert_replicas_equal();
}

#[test]
fn a_damaged_replica_is_repaired_by_the_reads_that_meet_it() {
    let mut net = Net::new();
    net.ask(B, put("v")).unwrap();
    net.pass(1_000);
    let mut row = Vec::new();
    net.disk(A)
        .index
        .reader()
        .scan(Table::Header, &[], &mut |key, _| {
            row = key.to_vec();
            std::ops::ControlFlow::Break(())
        })
        .unwrap();
    assert!(net.disk(A).index.corrupt(Table::Header, &row, 20));
    for node in [A, B, C] {
        net.ask(node, Request::get(key(), Scope::Whole)).unwrap();
        net.pass(3_000);
    }
    net.assert_replicas_equal();
}

#[test]
fn a_time_limit_of_zero_is_refused_and_one_of_a_millisecond_leaves_no_replica_alone() {
    let mut net = Net::new();
    let mut request = sadd("x");
    request.timeout_ms = Some(0);
    assert_eq!(net.ask(A, request.clone()), Err(RequestError::TimeLimit));
    request.timeout_ms = Some(1);
    net.hold(&[(A, B), (A, C)]);
    let answer = net.ask(A, request).unwrap();
    assert_eq!(answer.acks.answered, 1);
    net.lose();
    net.heal();
    net.assert_replicas_equal();
}

#[test]
fn a_write_that_may_still_show_is_answered_unknown() {
    let mut net = Net::new();
    net.hold(&[(A, B), (A, C), (B, A), (C, A)]);
    net.links_of(A, false);
    net.disk(A).full(true);
    let error = net.ask(A, count(1)).unwrap_err();
    net.disk(A).full(false);
    net.pass(60_000);
    // The one who can free some space must learn at the first write that there is none.
    assert_eq!(
        error.to_string(),
        "outcome unknown: 0 of 2 replicas acknowledged in time (the disk is full: free some space, \
         the node goes on by itself); the write may still become visible"
    );
    assert!(matches!(error, RequestError::Unknown { acked: 0, needed: 2, disk: Some(_) }));
    assert_eq!(counted(&net.show(A)), 1, "once there was room");
}

/// A full disk cannot forget what was delivered; that is no reason to send it ten times a second.
#[test]
fn what_the_disk_does_not_let_go_of_is_not_delivered_again_and_again() {
    let mut net = Net::new();
    net.hold(&[(A, C)]);
    net.ask_at_once(A, sadd("x"));
    net.pass(500);
    net.lose();
    net.disk(A).full(true);
    net.pass(120_000);
    let deliveries = net.core(A).counters().deliveries;
    assert!(deliveries <= 20, "delivered {deliveries} times in two minutes");
}
