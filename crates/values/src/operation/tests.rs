//! What is refused when a delta is made, and when an operation counts as done.

use clock::{Dot, NodeId};

use super::*;
use crate::Value;

const A: Actor = Actor::new(NodeId(1), 10, 0);
const B: Actor = Actor::new(NodeId(2), 20, 0);

fn blob(text: &str) -> Blob {
    Blob::copy_from_slice(text.as_bytes())
}

fn prepare(value: &Value, actor: Actor, operation: &Operation) -> Result<Prepared, UpdateError> {
    let limits = Limits { value_bytes: 8, siblings: 2, adds_per_item: 2, ..Limits::default() };
    let limits = Limits { elements_per_operation: 3, ..limits };
    let mint = Mint { actor, stamp: Stamp::from_millis(1_000) };
    operation.prepare(&View::of(value.clone()), &CausalContext::default(), mint, &limits)
}

fn update(value: &mut Value, actor: Actor, operation: &Operation) -> u64 {
    let prepared = prepare(value, actor, operation).expect("operation is accepted");
    value.apply(&prepared.delta);
    prepared.changed
}

fn put(text: &str) -> Operation {
    Operation::Bytes(BytesOp::Put(blob(text)))
}

fn set(text: &str) -> Operation {
    Operation::Register(RegisterOp::Set { value: blob(text), at: None, replace: false })
}

fn incr(by: i64) -> Operation {
    Operation::Register(RegisterOp::Increment(by))
}

fn hset(name: &str, text: &str) -> Operation {
    Operation::Map(MapOp::Set(vec![(blob(name), blob(text))]))
}

fn sadd(names: &[&str]) -> Operation {
    Operation::Orset(OrsetOp::Add(names.iter().map(|name| blob(name)).collect()))
}

fn add_to_cart(quantity: u64) -> Operation {
    Operation::Cart(CartOp::Add { item: blob("book"), quantity })
}

#[test]
fn values_and_elements_are_bounded() {
    let none = Value::default();
    let too_long = Err(UpdateError::ValueTooLong { bytes: 9, limit: 8 });
    for operation in [put("123456789"), set("123456789"), hset("f", "123456789")] {
        assert_eq!(prepare(&none, A, &operation), too_long);
    }
    let long = "e".repeat(ELEMENT_BYTES_MAX + 1);
    let item = blob(&long);
    for operation in [
        sadd(&["a", &long]),
        hset(&long, "v"),
        Operation::Map(MapOp::Increment { field: item.clone(), by: 1 }),
        Operation::Cart(CartOp::Add { item, quantity: 1 }),
    ] {
        assert_eq!(prepare(&none, A, &operation), Err(UpdateError::ElementTooLong(65_537)));
    }
    assert_eq!(prepare(&none, A, &sadd(&[])), Err(UpdateError::ElementCount(0)));
    let four = sadd(&["a", "b", "c", "d"]);
    assert_eq!(prepare(&none, A, &four), Err(UpdateError::ElementCount(4)));
    assert_eq!(
        prepare(&none, A, &Operation::Map(MapOp::Remove(vec![]))),
        Err(UpdateError::ElementCount(0))
    );
}

#[test]
fn a_put_that_would_leave_too_many_siblings_is_refused_until_they_are_reconciled() {
    let mut value = Value::default();
    update(&mut value, A, &put("one"));
    update(&mut value, A, &put("two"));
    assert_eq!(prepare(&value, A, &put("three")), Err(UpdateError::TooManySiblings(2)));
    let mint = Mint { actor: A, stamp: Stamp::from_millis(1_000) };
    let (view, seen) = (View::of(value.clone()), value.context(Tag::BYTES).clone());
    let limits = Limits { siblings: 2, ..Limits::default() };
    assert!(put("three").prepare(&view, &seen, mint, &limits).is_ok());
}

#[test]
fn sums_that_do_not_fit_64_bits_are_refused_and_those_that_just_do_are_not() {
    let mut value = Value::default();
    update(&mut value, A, &set("7"));
    update(&mut value, A, &incr(i64::MAX - 7));
    assert_eq!(prepare(&value, A, &incr(1)), Err(UpdateError::Overflow));
    update(&mut value, A, &incr(i64::MIN));
    assert_eq!(prepare(&value, A, &incr(i64::MIN)), Err(UpdateError::Overflow));

    let mut counter = Value::default();
    update(&mut counter, A, &Operation::Counter(CounterOp::Add(i64::MIN)));
    let down = Operation::Counter(CounterOp::Add(-1));
    assert_eq!(prepare(&counter, A, &down), Err(UpdateError::Overflow));

    let mut cart = Value::default();
    update(&mut cart, A, &add_to_cart(i64::MAX as u64));
    assert_eq!(prepare(&cart, A, &add_to_cart(1)), Err(UpdateError::Overflow));
    assert_eq!(prepare(&cart, A, &add_to_cart(u64::MAX)), Err(UpdateError::Overflow));
}

#[test]
fn increments_of_what_is_no_integer_are_refused() {
    let mut value = Value::default();
    update(&mut value, A, &set(" 1"));
    assert_eq!(prepare(&value, A, &incr(1)), Err(UpdateError::NotAnInteger));
    let mut map = Value::default();
    update(&mut map, A, &hset("f", "x"));
    let by_one = Operation::Map(MapOp::Increment { field: blob("f"), by: 1 });
    assert_eq!(prepare(&map, A, &by_one), Err(UpdateError::NotAnInteger));
}

#[test]
fn carts_take_whole_positive_quantities_and_so_many_adds_apart() {
    let mut value = Value::default();
    assert_eq!(prepare(&value, A, &add_to_cart(0)), Err(UpdateError::ZeroQuantity));
    update(&mut value, A, &add_to_cart(1));
    update(&mut value, A, &add_to_cart(2));
    assert_eq!(prepare(&value, A, &add_to_cart(1)), Err(UpdateError::TooManyAdds(2)));
    let fold = Operation::Cart(CartOp::SetQuantity { item: blob("book"), quantity: 3 });
    update(&mut value, A, &fold);
    update(&mut value, A, &add_to_cart(1));
}

#[test]
fn an_actor_without_a_counter_left_is_refused_and_does_not_wrap_round() {
    let mut value = Value::default();
    update(&mut value, A, &sadd(&["a"]));
    if let Some(State::Orset(set)) = value.0.get_mut(&Tag::ORSET) {
        set.context.insert(Dot::new(A, u64::MAX));
    }
    assert_eq!(prepare(&value, A, &sadd(&["b"])), Err(UpdateError::ActorDoubted));
    assert!(prepare(&value, B, &sadd(&["b"])).is_ok());
}

#[test]
fn a_register_under_the_last_stamp_of_all_says_so() {
    let mut value = Value::default();
    update(&mut value, A, &set("1"));
    if let Some(State::Register(register)) = value.0.get_mut(&Tag::LWW) {
        register.base.as_mut().unwrap().stamp = Stamp(u64::MAX);
    }
    assert_eq!(prepare(&value, A, &set("2")), Err(UpdateError::StampExhausted));
    assert_eq!(prepare(&value, A, &Operation::Delete(None)), Err(UpdateError::StampExhausted));
}

#[test]
fn changes_are_counted_as_redis_counts_them() {
    let mut value = Value::default();
    assert_eq!(update(&mut value, A, &sadd(&["a", "b", "a"])), 2);
    assert_eq!(update(&mut value, A, &sadd(&["b", "c"])), 1);
    let srem = Operation::Orset(OrsetOp::Remove(vec![blob("a"), blob("x"), blob("a")]));
    assert_eq!(update(&mut value, A, &srem), 1);
    assert_eq!(update(&mut value, A, &Operation::Delete(None)), 1);
    assert_eq!(update(&mut value, A, &Operation::Delete(None)), 0);

    let mut map = Value::default();
    let twice = vec![(blob("f"), blob("1")), (blob("g"), blob("2")), (blob("f"), blob("3"))];
    assert_eq!(update(&mut map, A, &Operation::Map(MapOp::Set(twice))), 2);
    assert_eq!(update(&mut map, A, &hset("f", "4")), 0);
    let hdel = Operation::Map(MapOp::Remove(vec![blob("f"), blob("x"), blob("f")]));
    assert_eq!(update(&mut map, A, &hdel), 1);
    assert_eq!(update(&mut map, A, &hdel), 0);
}
