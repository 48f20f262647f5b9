//! Requests of one caller on one key are seen in the order given, whatever some of them must find
//! out first.

use replication::Request;
use values::{Operation, Scope, Tag};

use crate::net::{A, B, C, Net, blob, incr, key, register, sadd, set, srem, update};

fn get() -> Request {
    Request::get(key(), Scope::Whole)
}

#[test]
fn what_follows_a_set_in_a_pipeline_finds_it_done() {
    let mut net = Net::new();
    let answers = net.ask_all(A, vec![set("5"), incr(1), get(), set("7"), incr(1), incr(1), get()]);
    let shown: Vec<_> = answers.iter().map(|answer| register(&answer.view)).collect();
    let wanted = ["5", "6", "6", "7", "8", "9", "9"];
    assert_eq!(shown, wanted.map(|text| Some(blob(text))));
    net.pass(5_000);
    for node in [A, B, C] {
        assert_eq!(register(&net.show(node)), Some(blob("9")));
    }
}

#[test]
fn what_follows_a_removal_in_a_pipeline_is_not_removed_by_it() {
    let mut net = Net::new();
    net.ask(B, sadd("old")).unwrap();
    net.pass(1_000);
    let answers = net.ask_all(
        A,
        vec![update(Operation::Delete(None)), sadd("x"), srem("x"), sadd("x"), set("1"), get()],
    );
    let changed: Vec<u64> = answers.iter().map(|answer| answer.changed).collect();
    assert_eq!(changed, [1, 1, 1, 1, 1, 0]);
    assert_eq!(answers[5].view.live_tags(), [Tag::LWW]);
    net.pass(5_000);
    net.assert_replicas_equal();
}

#[test]
fn a_long_pipeline_on_one_key_waits_in_line_and_not_on_the_stack() {
    let mut net = Net::new();
    let requests: Vec<Request> = (0..90).map(|number| set(&number.to_string())).collect();
    let answers = net.ask_all(A, requests);
    assert_eq!(answers.len(), 90);
    assert_eq!(register(&net.show(B)), Some(blob("89")));
}

#[test]
fn a_pipeline_goes_on_when_one_of_it_is_refused() {
    let mut net = Net::new();
    net.ask(A, sadd("x")).unwrap();
    net.pass(1_000);
    let first = net.call_all(A, vec![srem("x"), incr(1), set("1"), incr(1)]);
    net.pass(3_000);
    let outcomes: Vec<_> =
        first.into_iter().map(|call| net.take_reply(call).expect("an answer")).collect();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    assert_eq!(register(&net.show(C)), Some(blob("2")));
}
