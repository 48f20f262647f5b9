//! What removals take away: all that r replicas showed before, nothing that followed.

use replication::Request;
use values::{Operation, Scope, Tag};

use crate::net::{A, B, C, Net, blob, incr, key, read_one, register, sadd, set, srem, update};

#[test]
fn a_set_never_overwrites_a_set_that_followed_it() {
    let mut net = Net::new();
    let one = net.call(A, set("one"));
    // B shows what it holds; the delta is on its way to B and C.
    net.hold(&[(A, C)]);
    net.run_until_register(A, "one");
    net.hold(&[(A, B)]);
    let read = net.call(A, read_one());
    net.run();
    assert_eq!(register(&net.take_reply(read).unwrap().unwrap().view), Some(blob("one")));
    net.now_ms += 5;
    assert!(net.ask(B, set("two")).unwrap().acks.is_met());
    net.release();
    net.pass(5_000);
    net.take_reply(one).unwrap().unwrap();
    assert_eq!(register(&net.show(C)), Some(blob("two")));
    net.assert_replicas_equal();
}

#[test]
fn an_increment_that_followed_a_set_survives_it() {
    let mut net = Net::new();
    net.ask(A, set("5")).unwrap();
    net.pass(1_000);
    let ten = net.call(A, set("10"));
    net.hold(&[(A, C)]);
    net.run_until_register(A, "10");
    net.hold(&[(A, B)]);
    net.now_ms += 5;
    net.ask_at_once(B, incr(1));
    net.release();
    net.pass(5_000);
    net.take_reply(ten).unwrap().unwrap();
    assert_eq!(register(&net.show(C)), Some(blob("11")));
    net.assert_replicas_equal();
}

#[test]
fn a_remove_never_removes_an_add_that_followed_it() {
    let mut net = Net::new();
    net.ask(A, sadd("x")).unwrap();
    net.pass(1_000);
    let removal = net.call(A, srem("x"));
    net.hold(&[(A, C)]);
    while net.show(A).is_live(Tag::ORSET) {
        assert!(net.step(), "the removal is never made");
    }
    net.hold(&[(A, B)]);
    net.now_ms += 5;
    net.ask_at_once(B, sadd("x"));
    net.release();
    net.pass(5_000);
    net.take_reply(removal).unwrap().unwrap();
    assert!(net.show(C).is_live(Tag::ORSET), "the later add, acknowledged, is gone");
    net.assert_replicas_equal();
}

#[test]
fn a_delete_through_a_stale_owner_removes_the_collection_that_others_hold() {
    for operation in [Operation::Delete(None), Operation::Delete(Some(Tag::ORSET))] {
        let mut net = Net::new();
        net.hold(&[(B, A), (C, A)]);
        net.ask_at_once(B, sadd("x"));
        net.lose();
        assert!(!net.show(A).is_live(Tag::ORSET), "A is stale");
        let answer = net.ask_at_once(A, update(operation));
        assert_eq!((answer.changed, answer.partly_observed), (1, false));
        let read = net.ask(B, Request::get(key(), Scope::Whole)).unwrap();
        assert_eq!(read.view.live_tags(), []);
        net.heal();
        net.assert_replicas_equal();
    }
}

#[test]
fn a_set_through_a_stale_owner_replaces_the_collection_that_others_hold() {
    let mut net = Net::new();
    net.hold(&[(B, A), (C, A)]);
    net.ask_at_once(B, sadd("x"));
    net.lose();
    net.ask_at_once(A, set("one"));
    net.heal();
    assert_eq!(net.show(C).live_tags(), [Tag::LWW]);
    net.assert_replicas_equal();
}

#[test]
fn a_removal_waits_for_a_silent_replica_no_longer_than_for_another_in_its_place() {
    let mut net = Net::new();
    net.ask(B, sadd("x")).unwrap();
    net.pass(1_000);
    net.hold(&[(A, B), (B, A)]);
    let start = net.now_ms;
    let answer = net.ask(A, srem("x")).unwrap();
    assert_eq!((answer.changed, answer.partly_observed), (1, false));
    assert!(answer.acks.is_met());
    net.hold(&[(A, C), (C, A)]);
    let answer = net.ask(A, srem("x")).unwrap();
    assert_eq!((answer.changed, answer.partly_observed), (0, true));
    assert!(net.now_ms - start < 10_000);
}

/// What comes after the removal was made was not seen by it: the answer must not count it.
#[test]
fn a_removal_counts_no_replica_that_showed_what_it_holds_after_the_removal_was_made() {
    let mut net = Net::new();
    net.hold(&[(B, A), (C, A)]);
    net.ask_at_once(B, sadd("x"));
    net.lose();
    assert!(!net.show(A).is_live(Tag::ORSET), "A is stale");
    // B and C are slow to show what they hold: A goes on without them, and waits for its disk.
    net.hold(&[(B, A), (C, A)]);
    net.set_commits(A, false);
    let removal = net.call(A, set("v"));
    net.pass(250);
    assert!(net.take_reply(removal).is_none(), "no acknowledgement has come");
    net.release();
    net.run();
    net.set_commits(A, true);
    net.pass(1_000);
    let answer = net.take_reply(removal).expect("answered in time").unwrap();
    assert!(net.show(B).is_live(Tag::ORSET), "it was not among what A removed");
    assert!(answer.partly_observed, "{answer:?}");
}
