//! What a review found: each test states what should hold and does not yet.

#[expect(dead_code, reason = "shared with the tests of replicas, which use the rest")]
#[path = "replicas/net.rs"]
mod net;

use net::{A, B, C, Net, REQUESTS_MAX, count, sadd, srem};
use replication::RequestError;
use values::{State, Tag, View};

fn counted(view: &View) -> i128 {
    match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}

/// What comes after the removal was made was not seen by it: the answer must not count it.
#[test]
fn a_removal_counts_no_replica_that_showed_what_it_holds_after_the_removal_was_made() {
    let mut net = Net::new();
    net.hold(&[(B, A), (C, A)]);
    net.ask_at_once(B, sadd("x"));
    net.lose();
    assert!(!net.show(A).is_live(Tag::ORSET), "A is stale");
    // B and C are slow to show what they hold: A goes on without them.
    net.hold(&[(B, A), (C, A)]);
    let removal = net.call(A, srem("x"));
    net.pass(250);
    assert!(net.take_reply(removal).is_none(), "no acknowledgement has come");
    net.release();
    net.pass(1_000);
    let answer = net.take_reply(removal).expect("answered in time").unwrap();
    assert!(net.show(B).is_live(Tag::ORSET), "it was not among what A removed");
    assert!(answer.partly_observed, "{answer:?}");
}

/// An error that is not `Unknown` says that nothing was done; a client then does it again.
#[test]
fn a_write_that_may_still_show_is_answered_unknown() {
    let mut net = Net::new();
    net.hold(&[(A, B), (A, C), (B, A), (C, A)]);
    net.links_of(A, false);
    net.disk(A).full(true);
    let error = net.ask(A, count(1)).unwrap_err();
    net.disk(A).full(false);
    net.pass(60_000);
    let is_unknown = matches!(error, RequestError::Unknown { .. });
    assert!(is_unknown || counted(&net.show(A)) == 0, "{error:?}, and then it counted");
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
