use std::collections::BTreeMap;

use clock::Stamp;
use replication::{Acks, RequestName};
use values::{CounterOp, Key, Operation, RegisterOp, Scope, View};

use super::*;

fn names() -> Names {
    Names::new(7)
}

fn key(name: &'static str) -> Key {
    Key::new("b", name).unwrap()
}

fn add(name: &'static str) -> Request {
    Request::update(key(name), Operation::Counter(CounterOp::Add(1)))
}

fn set(name: &'static str) -> Request {
    let set = RegisterOp::Set { value: "v".into(), at: None, replace: true };
    Request::update(key(name), Operation::Register(set))
}

fn get(name: &'static str) -> Request {
    Request::get(key(name), Scope::Headers)
}

fn named(request: Request, name: &str) -> Request {
    Request { name: Some(RequestName::parse(name.as_bytes())), ..request }
}

fn done() -> Outcome {
    Ok(Answer {
        raw: values::Tag::BYTES,
        view: View::default(),
        changed: 1,
        repeated: false,
        many_siblings: None,
        acks: Acks::default(),
        partly_observed: false,
        contexts: BTreeMap::new(),
        time: Stamp::default(),
    })
}

fn unknown() -> Outcome {
    Err(RequestError::Unknown { acked: 0, needed: 2, disk: None })
}

fn cut() -> Outcome {
    Err(RequestError::Disconnected("cut".into()))
}

fn full() -> Outcome {
    Err(UpdateError::TooManyNames { limit: 256 }.into())
}

fn sent(batch: &Batch) -> Vec<String> {
    let text = |name: &RequestName| String::from_utf8(name.id.to_vec()).unwrap();
    let name = |request: &Request| request.name.as_ref().map_or("-".into(), text);
    batch.pending().iter().map(name).collect()
}

#[test]
fn what_counts_is_named_and_nothing_else_is() {
    let names = names();
    let batch =
        Batch::new(vec![add("k"), set("l"), get("m"), named(add("n"), "c:mine")], Some(&names));
    assert_eq!(sent(&batch), ["1", "-", "-", "mine"]);
    let name = batch.pending()[0].name.clone().unwrap();
    assert_eq!(name.client, "00000000000000000000000000000007");
    assert_eq!(sent(&Batch::new(vec![add("k")], None)), ["-"]);
}

#[test]
fn a_lost_update_is_sent_again_under_its_name_and_within_its_time() {
    let names = names();
    for lost in [unknown(), cut(), Err(RequestError::Timeout)] {
        let request = Request { timeout_ms: Some(500), ..named(add("k"), "c:mine") };
        let mut batch = Batch::new(vec![request], Some(&names));
        assert_eq!(batch.patience_ms(100), Some(200));
        assert!(batch.take(vec![lost.clone()], 200, Next::Again, Some(&names)));
        assert_eq!(sent(&batch), ["mine"]);
        assert_eq!(batch.pending()[0].timeout_ms, Some(300));
        assert!(!batch.take(vec![lost.clone()], 500, Next::Again, Some(&names)));
        assert_eq!(batch.finish(), [lost]);
    }
}

#[test]
fn how_long_an_answer_may_take_is_known_where_all_have_a_time_limit() {
    let limited = |ms| Request { timeout_ms: Some(ms), ..set("k") };
    assert_eq!(Batch::new(vec![limited(500), limited(300)], None).given_ms(100), Some(400));
    assert_eq!(Batch::new(vec![limited(500)], None).given_ms(501), Some(0));
    assert_eq!(Batch::new(vec![limited(500), set("k")], None).given_ms(100), None);
}

#[test]
fn a_write_without_a_name_is_never_sent_twice() {
    let names = names();
    for (request, lost) in [(set("k"), cut()), (set("k"), unknown())] {
        let mut batch = Batch::new(vec![request], Some(&names));
        assert_eq!(batch.patience_ms(0), None);
        assert!(!batch.take(vec![lost.clone()], 1, Next::Again, Some(&names)));
        assert_eq!(batch.finish(), [lost]);
    }
    let mut batch = Batch::new(vec![add("k")], None);
    assert!(!batch.take(vec![cut()], 1, Next::Again, None));
}

#[test]
fn what_a_stopping_node_turned_away_is_sent_elsewhere_without_a_name_too() {
    let away =
        || [Err(RequestError::Stopping), Err(RequestError::Unreachable("no node there".into()))];
    for error in away() {
        let mut batch = Batch::new(vec![set("k"), get("l")], None);
        assert!(batch.take(vec![error.clone(), error], 1, Next::Again, None));
        assert_eq!(sent(&batch), ["-", "-"]);
        assert!(!batch.take(vec![done(), done()], 2, Next::Again, None));
    }
    // Of what may have been done it says nothing.
    let mut batch = Batch::new(vec![set("k")], None);
    assert!(!batch.take(vec![cut()], 1, Next::Again, None));
    for error in away() {
        let mut batch = Batch::new(vec![set("k")], None);
        assert!(!batch.take(vec![error.clone()], 1, Next::Nowhere, None));
        assert_eq!(batch.finish(), [error]);
    }
}

#[test]
fn what_an_isolated_node_refused_is_sent_to_each_other_node_once_also_without_a_name() {
    let refused = || Err(RequestError::Unavailable { reachable: 1, needed: 2 });
    let mut batch = Batch::new(vec![set("k"), get("l")], None);
    assert!(batch.take(vec![refused(), refused()], 1, Next::Elsewhere, None));
    assert!(!batch.take(vec![done(), refused()], 2, Next::Again, None));
    assert_eq!(batch.finish(), [done(), refused()]);
    // Nothing is known by it of an earlier try.
    let mut batch = Batch::new(vec![named(set("k"), "c:1")], None);
    assert!(batch.take(vec![cut()], 1, Next::Elsewhere, None));
    assert!(!batch.take(vec![refused()], 2, Next::Again, None));
    assert_eq!(batch.finish(), [cut()]);
}

#[test]
fn a_key_that_takes_no_more_names_is_updated_without_one_and_then_only_once() {
    let names = names();
    let mut batch = Batch::new(vec![add("k")], Some(&names));
    assert!(batch.take(vec![full()], 1, Next::Again, Some(&names)));
    assert_eq!(sent(&batch), ["-"]);
    assert!(!batch.take(vec![cut()], 2, Next::Again, Some(&names)));
    assert_eq!(batch.finish(), [cut()]);
    // The next update of the key saves itself the refusal; other keys are named.
    assert_eq!(sent(&Batch::new(vec![add("k"), add("l")], Some(&names))), ["-", "2"]);
}

#[test]
fn a_name_is_not_given_up_once_a_try_may_have_been_done() {
    let names = names();
    let mut batch = Batch::new(vec![add("k")], Some(&names));
    assert!(batch.take(vec![cut()], 1, Next::Again, Some(&names)));
    assert!(!batch.take(vec![full()], 2, Next::Again, Some(&names)));
    assert_eq!(batch.finish(), [cut()]);
}

#[test]
fn a_name_of_the_application_is_never_given_up() {
    let names = names();
    let mut batch = Batch::new(vec![named(add("k"), "c:mine")], Some(&names));
    assert!(!batch.take(vec![full()], 1, Next::Again, Some(&names)));
    assert_eq!(batch.finish(), [full()]);
}

#[test]
fn a_refusal_behind_an_unknown_outcome_leaves_it_unknown_and_behind_nothing_stands() {
    let refused = || Err(UpdateError::Overflow.into());
    let names = names();
    for (first, last) in [
        (unknown(), unknown()),
        (Err(RequestError::Unreachable("gone".into())), refused()),
        (Err(RequestError::Stopping), refused()),
    ] {
        let mut batch = Batch::new(vec![add("k")], Some(&names));
        assert!(batch.take(vec![first], 1, Next::Again, Some(&names)));
        assert!(!batch.take(vec![refused()], 2, Next::Again, Some(&names)));
        assert_eq!(batch.finish(), [last]);
    }
}

#[test]
fn requests_on_one_key_keep_their_order() {
    let names = names();
    // The read is answered, so the named set before it must not be done after it.
    let mut batch = Batch::new(vec![named(set("k"), "c:1"), get("k"), add("l")], Some(&names));
    assert!(batch.take(vec![unknown(), done(), unknown()], 1, Next::Again, Some(&names)));
    assert_eq!(sent(&batch), ["1"]);
    // Lost together they are sent again together.
    let mut batch = Batch::new(vec![named(set("k"), "c:1"), get("k")], Some(&names));
    assert!(batch.take(vec![cut(), cut()], 1, Next::Again, Some(&names)));
    assert_eq!(sent(&batch), ["1", "-"]);
    // Additions may be done in any order, but not behind a set that came after them.
    let mut batch = Batch::new(vec![add("k"), add("k")], Some(&names));
    assert!(batch.take(vec![unknown(), done()], 1, Next::Again, Some(&names)));
    assert_eq!(sent(&Batch::new(vec![add("k"), set("k")], Some(&names))), ["-", "-"]);
}

#[test]
fn outcomes_come_back_in_the_order_of_the_requests() {
    let names = names();
    let refused = || Err(UpdateError::Overflow.into());
    let mut batch = Batch::new(vec![add("k"), set("l"), add("m")], Some(&names));
    assert!(batch.take(vec![unknown(), refused(), done()], 1, Next::Again, Some(&names)));
    assert_eq!(sent(&batch), ["2"]);
    assert!(!batch.take(vec![done()], 2, Next::Again, Some(&names)));
    assert_eq!(batch.finish(), [done(), refused(), done()]);
}
