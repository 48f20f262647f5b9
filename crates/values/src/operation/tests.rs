//! What is refused when a delta is made, and when an operation counts as done.

use clock::{Dot, NodeId};

use super::*;
use crate::{DotStore as _, ELEMENT_BYTES_MAX, Value};

const A: Actor = Actor::new(NodeId(1), 10, 0);
const B: Actor = Actor::new(NodeId(2), 20, 0);
const C: Actor = Actor::new(NodeId(3), 30, 0);

fn blob(text: &str) -> Blob {
    Blob::copy_from_slice(text.as_bytes())
}

fn prepare(value: &Value, actor: Actor, operation: &Operation) -> Result<Prepared, UpdateError> {
    let limits = Limits { value_bytes: 8, siblings: 2, adds_per_item: 2, ..Limits::default() };
    let limits = Limits { elements_per_operation: 3, elements: 4, ..limits };
    let mint = Mint { actor, stamp: Stamp::from_millis(1_000), round: None };
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
    let mint = Mint { actor: A, stamp: Stamp::from_millis(1_000), round: None };
    let (view, seen) = (View::of(value.clone()), value.context(Tag::BYTES).clone());
    let limits = Limits { siblings: 2, ..Limits::default() };
    assert!(put("three").prepare(&view, &seen, mint, &limits).is_ok());
}

#[test]
fn beyond_the_limit_every_put_that_leaves_no_more_siblings_is_taken() {
    let mut merged = Value::default();
    for (node, text) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
        let mut value = Value::default();
        update(&mut value, Actor::new(NodeId(node), node, 0), &put(text));
        merged.merge(&value);
    }
    assert_eq!(prepare(&merged, A, &put("five")), Err(UpdateError::TooManySiblings(4)));
    // Equal to one that is there, it takes its place.
    assert!(prepare(&merged, A, &put("two")).is_ok());
    let limits = Limits { siblings: 2, ..Limits::default() };
    let mint = Mint { actor: A, stamp: Stamp::from_millis(1_000), round: None };
    let seen = [Dot::new(Actor::new(NodeId(1), 1, 0), 1)].into_iter().collect();
    let prepared = put("five").prepare(&View::of(merged.clone()), &seen, mint, &limits);
    merged.apply(&prepared.expect("one went").delta);
    assert_eq!(View::of(merged.clone()).siblings().len(), 4);
    // A context that covers nothing of what is there is as good as none.
    let elsewhere = [Dot::new(Actor::new(NodeId(9), 9, 0), 1)].into_iter().collect();
    let refused = put("six").prepare(&View::of(merged), &elsewhere, mint, &limits);
    assert_eq!(refused, Err(UpdateError::TooManySiblings(4)));
}

#[test]
fn more_siblings_than_the_soft_limit_are_told_of() {
    let mut value = Value::default();
    update(&mut value, A, &put("one"));
    let limits = Limits { siblings_soft: 1, siblings: 2, ..Limits::default() };
    assert_eq!(crate::ManySiblings::of(&View::of(value.clone()), &limits), None);
    update(&mut value, B, &put("two"));
    let told = crate::ManySiblings::of(&View::of(value), &limits).expect("two are more than one");
    assert_eq!((told.siblings, told.soft, told.hard), (2, 1, 2));
}

#[test]
fn an_operation_says_which_dots_it_minted() {
    let mut value = Value::default();
    let minted = |value: &Value, operation: &Operation| {
        let minted = prepare(value, A, operation).expect("accepted").minted;
        minted.map(|minted| (minted.tag, minted.first.counter, minted.last))
    };
    assert_eq!(minted(&value, &sadd(&["a", "b"])), Some((Tag::ORSET, 1, 2)));
    update(&mut value, A, &sadd(&["a", "b"]));
    assert_eq!(minted(&value, &sadd(&["c"])), Some((Tag::ORSET, 3, 3)));
    assert_eq!(minted(&value, &Operation::Orset(OrsetOp::Remove(vec![blob("a")]))), None);
    assert_eq!(minted(&value, &Operation::Delete(None)), None);
}

#[test]
fn a_put_that_would_leave_siblings_of_too_many_bytes_is_refused_until_they_are_reconciled() {
    let mut value = Value::default();
    update(&mut value, A, &put("12345678"));
    let limits = Limits { value_bytes: 8, siblings_bytes: 10, ..Limits::default() };
    let mint = Mint { actor: A, stamp: Stamp::from_millis(1_000), round: None };
    let (view, seen) = (View::of(value.clone()), value.context(Tag::BYTES).clone());
    let none = CausalContext::default();
    let refused = |text, limits: &Limits| put(text).prepare(&view, &none, mint, limits).err();
    let too_long = UpdateError::SiblingsTooLong { bytes: 11, limit: 10 };
    assert_eq!(refused("abc", &limits), Some(too_long));
    assert_eq!(refused("ab", &limits), None);
    assert_eq!(refused("12345678", &limits), None);
    assert!(put("abc").prepare(&view, &seen, mint, &limits).is_ok());
    // A single value of the allowed length is always allowed.
    let less = Limits { siblings_bytes: 0, ..limits };
    assert!(put("abcdefgh").prepare(&view, &seen, mint, &less).is_ok());
    let too_long = UpdateError::SiblingsTooLong { bytes: 9, limit: 8 };
    assert_eq!(refused("a", &less), Some(too_long));
}

#[test]
fn an_operation_of_too_many_bytes_in_all_is_refused_before_anything_is_looked_at() {
    let most = 8 + ELEMENT_BYTES_MAX;
    let limits = Limits { value_bytes: 8, operation_bytes: 0, ..Limits::default() };
    let bytes = |byte: u8, count| Blob::from(vec![byte; count]);
    let half = [bytes(b'a', most / 2), bytes(b'b', most / 2)];
    let more = [half.to_vec(), vec![blob("c")]].concat();
    let fields: Vec<_> = more.iter().map(|name| (name.clone(), Blob::new())).collect();
    let field = (bytes(b'a', ELEMENT_BYTES_MAX), blob("12345678"));
    for fits in [
        Operation::Orset(OrsetOp::Add(half.to_vec())),
        Operation::Map(MapOp::Set(vec![field])),
        put("12345678"),
    ] {
        assert_eq!(fits.check_size(&limits), Ok(()));
    }
    let too_long = UpdateError::OperationTooLong { bytes: most + 1, limit: most };
    for refused in [
        Operation::Orset(OrsetOp::Add(more.clone())),
        Operation::Orset(OrsetOp::Remove(more.clone())),
        Operation::Gset(GsetOp::Add(more.clone())),
        Operation::Map(MapOp::Set(fields)),
        Operation::Map(MapOp::Remove(more)),
    ] {
        assert_eq!(refused.payload_bytes(), most + 1);
        assert_eq!(refused.check_size(&limits), Err(too_long.clone()));
        let mint = Mint { actor: A, stamp: Stamp::from_millis(1_000), round: None };
        let (view, none) = (View::default(), CausalContext::default());
        assert_eq!(refused.prepare(&view, &none, mint, &limits), Err(too_long.clone()));
    }
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

/// Two replicas that each add the most there is, unaware of one another, leave a sum of 65 bits.
fn beyond_64_bits(first: &[Operation], both: &Operation) -> Value {
    let mut value = Value::default();
    for operation in first {
        update(&mut value, A, operation);
    }
    let deltas = [A, B].map(|actor| prepare(&value, actor, both).unwrap().delta);
    deltas.iter().for_each(|delta| value.apply(delta));
    value
}

#[test]
fn a_sum_beyond_64_bits_can_be_brought_back_and_not_led_further_away() {
    let count = |by| Operation::Counter(CounterOp::Add(by));
    let hincr = |by| Operation::Map(MapOp::Increment { field: blob("f"), by });
    type Step = fn(i64) -> Operation;
    let kinds = [
        (vec![], count as Step),
        (vec![], incr),
        (vec![set("0")], incr),
        (vec![hset("f", "0")], hincr),
    ];
    for (first, step) in kinds {
        for (most, back) in [(i64::MAX, -1), (i64::MIN, 1)] {
            let mut value = beyond_64_bits(&first, &step(most));
            for refused in [0, -back, most] {
                assert_eq!(prepare(&value, A, &step(refused)), Err(UpdateError::Overflow));
            }
            update(&mut value, A, &step(back));
            // From one side beyond the other: in range again, or nearer at least.
            update(&mut value, B, &step(if most > 0 { i64::MIN } else { i64::MAX }));
            assert_eq!(prepare(&value, A, &step(0)).map(|done| done.delta.is_empty()), Ok(false));
        }
    }
}

#[test]
fn a_set_that_loses_against_a_later_base_leaves_other_types_alone() {
    let mut value = Value::default();
    update(&mut value, A, &set("late"));
    let other = prepare(&Value::default(), B, &sadd(&["x"])).unwrap().delta;
    value.apply(&other);
    let at = |ms| {
        let at = Some(Stamp::from_millis(ms));
        Operation::Register(RegisterOp::Set { value: blob("new"), at, replace: true })
    };
    update(&mut value, A, &at(999));
    assert_eq!(View::of(value.clone()).live_tags(), [Tag::LWW, Tag::ORSET]);
    update(&mut value, A, &at(1_001));
    assert_eq!(View::of(value).live_tags(), [Tag::LWW]);
}

#[test]
fn a_collection_takes_so_many_elements_and_goes_on_with_those_it_has() {
    let refused = |elements| Err(UpdateError::CollectionFull { elements, limit: 4 });
    let mut value = Value::default();
    update(&mut value, A, &sadd(&["a", "b"]));
    assert_eq!(prepare(&value, A, &sadd(&["c", "d", "e"])), refused(2));
    update(&mut value, A, &sadd(&["b", "c", "d"]));
    assert_eq!(prepare(&value, A, &sadd(&["d", "e"])), refused(4));
    update(&mut value, A, &sadd(&["a", "b", "c"]));
    update(&mut value, A, &Operation::Orset(OrsetOp::Remove(vec![blob("a")])));
    update(&mut value, A, &sadd(&["e"]));

    let mut map = Value::default();
    for name in ["a", "b", "c", "d"] {
        update(&mut map, A, &hset(name, "1"));
    }
    let by_one = |field| Operation::Map(MapOp::Increment { field: blob(field), by: 1 });
    update(&mut map, A, &by_one("d"));
    for operation in [by_one("e"), hset("e", "1")] {
        assert_eq!(prepare(&map, A, &operation), refused(4));
    }
    let mut cart = Value::default();
    let add = |item: &str| Operation::Cart(CartOp::Add { item: blob(item), quantity: 1 });
    for item in ["a", "b", "c", "d"] {
        update(&mut cart, A, &add(item));
    }
    update(&mut cart, A, &add("d"));
    assert_eq!(prepare(&cart, A, &add("e")), refused(4));
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

#[test]
fn raw_writes_of_a_register_take_raw_values_with_it_and_no_other_type() {
    let put_raw = Operation::Register(RegisterOp::PutRaw(blob("new")));
    let delete_raw = Operation::Register(RegisterOp::DeleteRaw);
    let live = |value: &Value| View::of(value.clone()).live_tags();
    let mut value = Value::default();
    update(&mut value, A, &put("old"));
    assert_eq!(update(&mut value, A, &put_raw), 1);
    assert_eq!(live(&value), [Tag::LWW]);
    // Raw values from elsewhere, beside the register and a set.
    for other in [put("old"), sadd(&["x"])] {
        value.apply(&prepare(&Value::default(), B, &other).unwrap().delta);
    }
    assert_eq!(live(&value), [Tag::BYTES, Tag::LWW, Tag::ORSET]);
    assert_eq!(update(&mut value, A, &delete_raw), 1);
    assert_eq!(live(&value), [Tag::ORSET]);
    let refused =
        Err(UpdateError::WrongType(WrongType { wanted: Tag::LWW, live: vec![Tag::ORSET] }));
    assert_eq!(prepare(&value, A, &put_raw), refused);
    assert_eq!(prepare(&value, A, &delete_raw), refused);
    assert_eq!(update(&mut Value::default(), A, &delete_raw), 0);
}

/// What one view shows, and another one has seen removed: by a removal that may have no other copy.
#[test]
fn a_removal_takes_what_one_shows_and_another_has_seen_removed() {
    let map = |op: MapOp| Operation::Map(op);
    let remove_field = || map(MapOp::Remove(vec![blob("f")]));
    let increment_field = || map(MapOp::Increment { field: blob("f"), by: 3 });
    let replace =
        Operation::Register(RegisterOp::Set { value: blob("1"), at: None, replace: true });
    let cases = [
        (sadd(&["x"]), Operation::Orset(OrsetOp::Remove(vec![blob("x")]))),
        (add_to_cart(2), Operation::Cart(CartOp::Remove(blob("book")))),
        (add_to_cart(2), Operation::Cart(CartOp::SetQuantity { item: blob("book"), quantity: 1 })),
        (hset("f", "1"), remove_field()),
        (increment_field(), remove_field()),
        (increment_field(), hset("f", "1")),
        (incr(3), set("1")),
        (incr(3), replace.clone()),
        (incr(3), Operation::Register(RegisterOp::DeleteRaw)),
        (put("x"), Operation::Register(RegisterOp::PutRaw(blob("1")))),
        (Operation::Counter(CounterOp::Add(3)), Operation::Counter(CounterOp::Reset)),
        (Operation::Counter(CounterOp::Add(3)), replace),
        (Operation::Counter(CounterOp::Add(3)), Operation::Delete(None)),
        (set("1"), Operation::Delete(Some(Tag::LWW))),
        (increment_field(), Operation::Delete(None)),
        (sadd(&["x"]), Operation::Delete(None)),
        (put("x"), Operation::Delete(None)),
    ];
    for (adds, removes) in cases {
        let mut stale = Value::default();
        update(&mut stale, A, &adds);
        let mut later = stale.clone();
        update(&mut later, B, &Operation::Delete(None));

        let views = [View::within(stale.clone(), &removes.scope())];
        let mut both = views[0].clone();
        both.merge(&View::within(later, &removes.scope()));
        let mint = Mint { actor: C, stamp: Stamp::from_millis(2_000), round: None };
        let nothing = CausalContext::default();
        let living = (Lifetime::Usual, C);
        let seen = (&both, &[&views[0]][..]);
        let prepared =
            removes.prepare_living(living, seen, &nothing, mint, &Limits::default()).unwrap();
        if matches!(removes, Operation::Delete(_)) {
            assert_eq!(prepared.changed, 0, "together they show nothing: {adds:?}");
        }

        // Without the one that had seen the removal.
        assert!(live(&stale).iter().any(|dot| dot.actor == A), "{adds:?}");
        stale.apply(&prepared.delta);
        let left = live(&stale);
        assert!(left.iter().all(|dot| dot.actor != A), "{removes:?} of {adds:?} leaves {left:?}");
    }
}

/// A deletion that is made anew would win over a set that its maker was not shown.
#[test]
fn a_delete_of_what_is_deleted_already_makes_no_later_deletion() {
    let mut stale = Value::default();
    update(&mut stale, A, &set("1"));
    let mut deleted = stale.clone();
    update(&mut deleted, B, &Operation::Delete(None));
    let mut later = deleted.clone();
    update(&mut later, B, &set("2"));

    let (stale, mut both) = (View::of(stale), View::of(deleted));
    both.merge(&stale);
    let (mint, limits) =
        (Mint { actor: C, stamp: Stamp::from_millis(9_000), round: None }, Limits::default());
    for removes in [Operation::Delete(None), Operation::Register(RegisterOp::DeleteRaw)] {
        let living = (Lifetime::Usual, C);
        let nothing = CausalContext::default();
        let prepared =
            removes.prepare_living(living, (&both, &[&stale]), &nothing, mint, &limits).unwrap();
        assert_eq!((prepared.changed, prepared.minted), (0, None));
        let mut stale = stale.value.clone();
        stale.apply(&prepared.delta);
        assert_eq!(live(&stale), []);
        later.apply(&prepared.delta);
        assert_eq!(live(&later).len(), 1, "what nobody was shown stays");
    }
}

/// The dots of all that is there.
fn live(value: &Value) -> Vec<Dot> {
    let of_state = |state: &State| match state {
        State::Bytes(state) => state.store.dots(),
        State::Orset(state) => state.store.dots(),
        State::Cart(state) => state.store.dots(),
        State::Map(state) => {
            let tallies = state.store.0.values().flat_map(|field| field.tally.live_dots());
            let writes = state.store.0.values().flat_map(|field| field.writes.dots());
            tallies.chain(writes).collect()
        }
        State::Counter(state) => state.tally.live_dots().collect(),
        State::Register(state) => {
            let base = state.base.iter().filter(|base| base.value.is_some()).map(|base| base.dot);
            base.chain(state.tally.live_dots()).collect()
        }
        _ => Vec::new(),
    };
    value.0.values().flat_map(of_state).collect()
}
