//! The examples by which the types are explained, as tests.

#[path = "support/replica.rs"]
mod replica;

use clock::{Actor, CausalContext, Ordering, Stamp, VersionVector};
use replica::Replica;
use values::{
    Blob, BytesOp, CartOp, CounterOp, Delta, GsetOp, MapOp, Operation, OrsetOp, RegisterOp, State,
    Tag, UpdateError, Value, View, WrongType,
};

fn blob(text: &str) -> Blob {
    Blob::copy_from_slice(text.as_bytes())
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

fn count(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

fn sadd(names: &[&str]) -> Operation {
    Operation::Orset(OrsetOp::Add(names.iter().map(|name| blob(name)).collect()))
}

fn srem(name: &str) -> Operation {
    Operation::Orset(OrsetOp::Remove(vec![blob(name)]))
}

fn siblings(value: &Value) -> Vec<String> {
    let view = View::of(value.clone());
    let texts = view.siblings().into_iter().map(|(_, sibling)| sibling.value.to_vec());
    let mut texts: Vec<_> =
        texts.map(|text| String::from_utf8(text).expect("texts were put")).collect();
    texts.sort();
    texts
}

fn vector(value: &Value) -> &VersionVector {
    let context = value.context(Tag::BYTES);
    assert_eq!(context.gap_count(), 0);
    context.vector()
}

fn counters<const N: usize>(entries: [(Actor, u64); N]) -> VersionVector {
    entries.into_iter().collect()
}

fn register(value: &Value) -> Option<Blob> {
    match value.state(Tag::LWW) {
        Some(State::Register(register)) => register.read(),
        _ => None,
    }
}

fn total(value: &Value) -> i128 {
    match value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}

fn members(value: &Value, tag: Tag) -> Vec<Blob> {
    match value.state(tag) {
        Some(State::Gset(set) | State::Orset(set)) => set.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

fn quantity(value: &Value, item: &str) -> u64 {
    match value.state(Tag::CART) {
        Some(State::Cart(cart)) => {
            cart.store.0.get(&blob(item)).map_or(0, |adds| adds.0.values().sum())
        }
        _ => 0,
    }
}

fn field(value: &Value, name: &str) -> Option<Blob> {
    match value.state(Tag::MAP) {
        Some(State::Map(map)) => map.store.0.get(&blob(name)).and_then(values::Field::read),
        _ => None,
    }
}

fn two() -> [Replica; 2] {
    [Replica::new(0xa), Replica::new(0xb)]
}

/// Each merges all that the other has.
fn exchange(a: &mut Replica, b: &mut Replica) {
    a.value.merge(&b.value);
    b.value.merge(&a.value);
    assert_eq!(a.value, b.value);
}

/// Dynamo §4.4, figure 3, with the coordinators as actors.
#[test]
fn a_put_at_a_then_updates_through_b_a_and_c_count_up_their_coordinators() {
    let [mut a, mut b, mut c] = [0xa, 0xb, 0xc].map(Replica::new);
    a.update(&put("v1"));
    assert_eq!(*vector(&a.value), counters([(a.actor, 1)]));

    let seen = a.value.context(Tag::BYTES).clone();
    b.value.merge(&a.value);
    b.put(&put("v2"), &seen).unwrap();
    assert_eq!(*vector(&b.value), counters([(a.actor, 1), (b.actor, 1)]));

    let seen = b.value.context(Tag::BYTES).clone();
    a.value.merge(&b.value);
    a.put(&put("v3"), &seen).unwrap();
    assert_eq!(*vector(&a.value), counters([(a.actor, 2), (b.actor, 1)]));

    let seen = a.value.context(Tag::BYTES).clone();
    c.value.merge(&a.value);
    c.put(&put("v4"), &seen).unwrap();
    assert_eq!(*vector(&c.value), counters([(a.actor, 2), (b.actor, 1), (c.actor, 1)]));
    assert_eq!(siblings(&c.value), ["v4"]);
}

#[test]
fn concurrent_updates_are_both_returned_and_a_put_with_the_merged_context_leaves_one() {
    let [mut a, mut b] = two();
    a.update(&put("v1"));
    let seen = a.value.context(Tag::BYTES).clone();
    b.value.merge(&a.value);
    b.put(&put("v2"), &seen).unwrap();
    let seen = b.value.context(Tag::BYTES).clone();
    a.value.merge(&b.value);

    // {A:1, B:1} at both; now A and B each take an update without hearing of the other.
    a.put(&put("left"), &seen).unwrap();
    b.put(&put("right"), &seen).unwrap();
    assert_eq!(*vector(&a.value), counters([(a.actor, 2), (b.actor, 1)]));
    assert_eq!(*vector(&b.value), counters([(a.actor, 1), (b.actor, 2)]));
    assert_eq!(vector(&a.value).compare(vector(&b.value)), Ordering::Concurrent);

    exchange(&mut a, &mut b);
    assert_eq!(siblings(&a.value), ["left", "right"]);

    let merged = a.value.context(Tag::BYTES).clone();
    a.put(&put("both"), &merged).unwrap();
    assert_eq!(siblings(&a.value), ["both"]);
    exchange(&mut a, &mut b);
    assert_eq!(siblings(&b.value), ["both"]);
    assert_eq!(*vector(&b.value), counters([(a.actor, 3), (b.actor, 2)]));
}

/// Riak's `sibling_explosion`: version vectors without dots would keep all 100 values.
#[test]
fn two_clients_that_alternate_with_stale_contexts_never_see_more_than_two_siblings() {
    let [mut a, mut b] = two();
    let mut contexts = [CausalContext::default(), CausalContext::default()];
    for number in 0..100 {
        let client = number % 2;
        let value = blob(&format!("client {client}, put {number}"));
        // Each goes on from what the answer to its own last put showed it, through either node.
        let coordinator = if number % 3 == 0 { &mut b } else { &mut a };
        let operation = Operation::Bytes(BytesOp::Put(value.clone()));
        coordinator.put(&operation, &contexts[client]).unwrap();
        let view = View::of(coordinator.value.clone());
        contexts[client] = view.context_of_put(&contexts[client], &value);
        assert!(contexts[client].gap_count() <= 2, "contexts stay small");
        exchange(&mut a, &mut b);
        assert_eq!(siblings(&a.value).len(), 2.min(number + 1), "after put {number}");
    }
    // Nothing was lost either: each client's last put is there.
    assert_eq!(siblings(&a.value), ["client 0, put 98", "client 1, put 99"]);
}

#[test]
fn clients_that_go_on_from_their_own_puts_leave_at_most_one_sibling_each() {
    const CLIENT_COUNT: usize = 7;
    let mut a = Replica::new(0xa);
    let mut contexts = vec![CausalContext::default(); CLIENT_COUNT];
    for round in 0..20 {
        for (client, context) in contexts.iter_mut().enumerate() {
            let value = blob(&format!("{client}/{round}"));
            a.put(&Operation::Bytes(BytesOp::Put(value.clone())), context).unwrap();
            *context = View::of(a.value.clone()).context_of_put(context, &value);
            assert!(siblings(&a.value).len() <= CLIENT_COUNT);
        }
    }
    assert_eq!(siblings(&a.value), ["0/19", "1/19", "2/19", "3/19", "4/19", "5/19", "6/19"]);
}

#[test]
fn a_put_does_not_supersede_a_sibling_that_its_writer_was_not_shown() {
    let mut a = Replica::new(0xa);
    a.update(&put("theirs"));
    a.update(&put("mine"));
    let after = View::of(a.value.clone());
    let context = after.context_of_put(&CausalContext::default(), &blob("mine"));
    a.put(&put("mine, again"), &context).unwrap();
    assert_eq!(siblings(&a.value), ["mine, again", "theirs"]);
}

#[test]
fn a_repeated_put_is_not_its_own_sibling() {
    let [mut a, mut b] = two();
    a.update(&put("once"));
    a.update(&put("once"));
    assert_eq!(siblings(&a.value), ["once"]);
    // Forwarded again through a replica that had not heard of the first attempt.
    b.update(&put("once"));
    exchange(&mut a, &mut b);
    assert_eq!(siblings(&b.value), ["once"]);
    let seen = b.value.context(Tag::BYTES).clone();
    b.put(&Operation::Bytes(BytesOp::Delete), &seen).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(siblings(&a.value), Vec::<String>::new());
}

#[test]
fn an_actor_that_a_client_has_seen_ahead_of_its_replica_is_not_written_under() {
    let mut a = Replica::new(0xa);
    a.update(&put("v1"));
    let forgotten = a.value.clone();
    let seen = a.value.context(Tag::BYTES).clone();
    a.put(&put("v2"), &seen).unwrap();
    let seen = a.value.context(Tag::BYTES).clone();
    a.value = forgotten;
    assert_eq!(a.put(&put("v3"), &seen), Err(UpdateError::ActorDoubted));

    // In a new epoch the put goes through, and what it supersedes stays superseded.
    a.actor.epoch.number += 1;
    a.put(&put("v3"), &seen).unwrap();
    assert_eq!(siblings(&a.value), ["v3"]);
}

/// Riak's kv679, at the level of values: what the lost epoch wrote and what the new one writes
/// never share a dot, so neither hides the other.
#[test]
fn a_replica_that_forgot_a_key_writes_under_a_new_epoch_and_loses_nothing() {
    let [mut a, mut b] = two();
    for operation in [put("first"), incr(3), count(5), sadd(&["x"])] {
        // (Types are kept apart here by hand; the state holds them all.)
        let delta = Replica { value: Value::default(), ..a.clone() }.update(&operation);
        a.value.apply(&delta);
        b.value.apply(&delta);
    }
    a.value = Value::default();
    a.actor.epoch.number += 1;
    for operation in [put("second"), incr(4), count(-1), sadd(&["y"])] {
        let delta = Replica { value: Value::default(), ..a.clone() }.update(&operation);
        a.value.apply(&delta);
        b.value.apply(&delta);
    }
    exchange(&mut a, &mut b);
    assert_eq!(siblings(&a.value), ["first", "second"]);
    assert_eq!(register(&a.value), Some(blob("7")));
    assert_eq!(total(&a.value), 4);
    assert_eq!(members(&a.value, Tag::ORSET), [blob("x"), blob("y")]);
}

#[test]
fn g_sets_x_y_and_z_y_merge_to_x_y_z() {
    let [mut a, mut b] = two();
    let gadd = |names: [&str; 2]| Operation::Gset(GsetOp::Add(names.map(blob).to_vec()));
    a.update(&gadd(["x", "y"]));
    b.update(&gadd(["z", "y"]));
    exchange(&mut a, &mut b);
    assert_eq!(members(&a.value, Tag::GSET), [blob("x"), blob("y"), blob("z")]);
}

#[test]
fn a_counter_of_plus_5_plus_3_minus_2_plus_1_at_two_replicas_is_7() {
    let [mut a, mut b] = two();
    a.update(&count(5));
    a.update(&count(3));
    b.update(&count(-2));
    b.update(&count(1));
    exchange(&mut a, &mut b);
    assert_eq!(total(&a.value), 7);
}

#[test]
fn a_counter_reset_at_a_while_b_adds_4_is_4() {
    let [mut a, mut b] = two();
    a.update(&count(5));
    b.update(&count(2));
    exchange(&mut a, &mut b);
    a.update(&Operation::Counter(CounterOp::Reset));
    b.update(&count(4));
    assert_eq!(total(&a.value), 0);
    exchange(&mut a, &mut b);
    assert_eq!(total(&a.value), 4);
}

#[test]
fn an_add_concurrent_with_a_remove_of_what_was_seen_survives() {
    let [mut a, mut b, mut c] = [0xa, 0xb, 0xc].map(Replica::new);
    let first = a.update(&sadd(&["x"]));
    b.value.apply(&first);
    let removed = b.update(&srem("x"));
    let again = c.update(&sadd(&["x"]));
    for replica in [&mut a, &mut b, &mut c] {
        for delta in [&removed, &again, &first] {
            replica.value.apply(delta);
        }
        assert_eq!(members(&replica.value, Tag::ORSET), [blob("x")]);
    }
    assert_eq!(a.value, b.value);
    assert_eq!(b.value, c.value);
}

#[test]
fn a_register_at_5_set_to_10_at_a_while_b_increments_is_11_everywhere() {
    let [mut a, mut b] = two();
    a.update(&set("5"));
    exchange(&mut a, &mut b);
    a.update(&set("10"));
    b.update(&incr(1));
    assert_eq!(register(&b.value), Some(blob("6")));
    exchange(&mut a, &mut b);
    assert_eq!(register(&a.value), Some(blob("11")));
    // A set that has seen the increments replaces them.
    b.update(&set("1"));
    exchange(&mut a, &mut b);
    assert_eq!(register(&a.value), Some(blob("1")));
}

#[test]
fn two_concurrent_increments_of_a_missing_key_give_2() {
    let [mut a, mut b] = two();
    a.update(&incr(1));
    b.update(&incr(1));
    exchange(&mut a, &mut b);
    assert_eq!(register(&a.value), Some(blob("2")));
}

#[test]
fn an_add_whose_delta_is_lost_and_then_a_put_of_another_type_both_stay() {
    let [mut a, mut b] = two();
    a.update(&sadd(&["x"])); // Never reaches B as a delta.
    let delta = b.update(&put("raw"));
    a.value.apply(&delta);
    b.value.merge(&a.value);
    assert_eq!(a.value, b.value);
    assert_eq!(siblings(&b.value), ["raw"]);
    assert_eq!(members(&b.value, Tag::ORSET), [blob("x")]);
}

#[test]
fn a_key_made_a_counter_at_a_and_a_set_at_b_is_both_and_says_so_everywhere() {
    let [mut a, mut b] = two();
    a.update(&count(5));
    b.update(&sadd(&["x"]));

    // While cut off, each refuses the other's type: the key plainly has one of its own.
    let refused = a.put(&sadd(&["y"]), &CausalContext::default());
    let wrong = WrongType { wanted: Tag::ORSET, live: vec![Tag::COUNTER] };
    assert_eq!(wrong.to_string(), "wanted orset, but the key holds counter");
    assert_eq!(refused, Err(UpdateError::WrongType(wrong)));

    exchange(&mut a, &mut b);
    for replica in [&mut a, &mut b] {
        let view = View::of(replica.value.clone());
        assert_eq!(view.live_tags(), [Tag::COUNTER, Tag::ORSET]);
        assert_eq!(total(&replica.value), 5);
        assert_eq!(members(&replica.value, Tag::ORSET), [blob("x")]);
        // Both go on being usable; a third type is refused.
        replica.update(&count(1));
        replica.update(&sadd(&["y"]));
        let wrong = WrongType { wanted: Tag::BYTES, live: vec![Tag::COUNTER, Tag::ORSET] };
        let refused = replica.put(&put("raw"), &CausalContext::default());
        assert_eq!(refused, Err(UpdateError::WrongType(wrong)));
    }
    exchange(&mut a, &mut b);
    assert_eq!(total(&b.value), 7);

    // Deleting one type resolves it.
    a.update(&Operation::Delete(Some(Tag::COUNTER)));
    exchange(&mut a, &mut b);
    assert_eq!(View::of(b.value).live_tags(), [Tag::ORSET]);
}

/// A key that is a counter of 5, a register and a set of x at both replicas.
fn in_conflict() -> [Replica; 2] {
    let [mut a, mut b] = two();
    a.update(&count(5));
    b.update(&sadd(&["x"]));
    exchange(&mut a, &mut b);
    let mut c = Replica::new(0xc);
    c.update(&set("r"));
    a.value.merge(&c.value);
    exchange(&mut a, &mut b);
    [a, b]
}

#[test]
fn resolving_removes_what_was_observed_of_the_other_types_and_nothing_else() {
    let [mut a, mut b] = in_conflict();
    let resolved = a.put(&Operation::Resolve(Tag::ORSET), &CausalContext::default()).unwrap();
    assert_eq!(resolved.changed, 2);
    assert_eq!(View::of(a.value.clone()).live_tags(), [Tag::ORSET]);
    // Of the type that is kept it does not speak at all.
    assert_eq!(
        resolved.delta.value.0.keys().copied().collect::<Vec<_>>(),
        [Tag::LWW, Tag::COUNTER]
    );

    // B has not heard of it and counts on: that survives, and is a conflict again.
    b.update(&count(3));
    exchange(&mut a, &mut b);
    for replica in [&a, &b] {
        assert_eq!(View::of(replica.value.clone()).live_tags(), [Tag::COUNTER, Tag::ORSET]);
        assert_eq!(total(&replica.value), 3);
        assert_eq!(members(&replica.value, Tag::ORSET), [blob("x")]);
        assert_eq!(register(&replica.value), None);
    }
    b.update(&Operation::Resolve(Tag::COUNTER));
    exchange(&mut a, &mut b);
    assert_eq!(View::of(a.value.clone()).live_tags(), [Tag::COUNTER]);
    assert_eq!(total(&a.value), 3);
}

#[test]
fn resolving_what_is_not_in_conflict_or_keeping_what_is_not_there_is_refused() {
    let none = CausalContext::default();
    let [mut empty, mut one] = two();
    let refused = |replica: &mut Replica, keep| {
        replica.put(&Operation::Resolve(keep), &none).expect_err("nothing to resolve").to_string()
    };
    assert_eq!(refused(&mut empty, Tag::LWW), "the key holds nothing; nothing to resolve");
    one.update(&count(1));
    assert_eq!(refused(&mut one, Tag::COUNTER), "the key holds counter; nothing to resolve");
    assert_eq!(refused(&mut one, Tag::ORSET), "the key holds counter; nothing to resolve");
    let [mut three, _] = in_conflict();
    let before = three.value.clone();
    let why = refused(&mut three, Tag::BYTES);
    assert_eq!(why, "the key holds lww and counter and orset, and no bytes: keep one of these");
    assert_eq!(three.value, before);
}

#[test]
fn a_write_after_a_read_wins_though_its_clock_is_ten_seconds_behind() {
    let [mut a, mut b] = two();
    a.wall_ms = 20_000;
    b.wall_ms = 10_000;
    a.update(&set("earlier"));
    b.value.merge(&a.value);
    b.update(&set("later"));
    exchange(&mut a, &mut b);
    assert_eq!(register(&a.value), Some(blob("later")));
}

#[test]
fn a_clients_far_future_timestamp_is_refused_and_a_replicas_is_merged() {
    let [mut a, mut b] = two();
    let future = Stamp::from_millis(a.wall_ms + 60_001);
    let from_future = |at| {
        Operation::Register(RegisterOp::Set { value: blob("future"), at: Some(at), replace: false })
    };
    let refused = a.put(&from_future(future), &CausalContext::default());
    assert_eq!(refused, Err(UpdateError::FutureStamp { ahead_ms: 60_001, limit_ms: 60_000 }));
    assert_eq!(a.value, Value::default());
    a.update(&from_future(Stamp::from_millis(a.wall_ms + 60_000)));

    b.wall_ms = u64::from(u32::MAX);
    b.update(&set("a replica's"));
    a.value.merge(&b.value);
    assert_eq!(register(&a.value), Some(blob("a replica's")));
    // And a write over it takes its stamp plus one.
    a.update(&set("after"));
    exchange(&mut a, &mut b);
    assert_eq!(register(&b.value), Some(blob("after")));
}

#[test]
fn a_set_older_than_what_it_observed_replaces_neither_base_nor_increments() {
    let mut a = Replica::new(0xa);
    a.update(&set("5"));
    a.update(&incr(3));
    let old = Stamp::from_millis(1);
    a.update(&Operation::Register(RegisterOp::Set {
        value: blob("100"),
        at: Some(old),
        replace: false,
    }));
    assert_eq!(register(&a.value), Some(blob("8")));
}

#[test]
fn redis_set_replaces_what_it_observed_of_other_types_and_nothing_else() {
    let [mut a, mut b] = two();
    a.update(&sadd(&["seen"]));
    exchange(&mut a, &mut b);
    b.update(&sadd(&["unseen"]));
    a.update(&Operation::Register(RegisterOp::Set { value: blob("v"), at: None, replace: true }));
    exchange(&mut a, &mut b);
    assert_eq!(register(&a.value), Some(blob("v")));
    assert_eq!(members(&a.value, Tag::ORSET), [blob("unseen")]);
}

#[test]
fn a_cart_keeps_a_concurrent_add_whole_beside_a_removal_and_a_set_quantity() {
    let [mut a, mut b] = two();
    let add = |quantity| Operation::Cart(CartOp::Add { item: blob("book"), quantity });
    a.update(&add(2));
    exchange(&mut a, &mut b);
    a.update(&Operation::Cart(CartOp::Remove(blob("book"))));
    b.update(&add(3));
    exchange(&mut a, &mut b);
    assert_eq!(quantity(&a.value, "book"), 3);

    a.update(&Operation::Cart(CartOp::SetQuantity { item: blob("book"), quantity: 1 }));
    b.update(&add(4));
    exchange(&mut a, &mut b);
    assert_eq!(quantity(&b.value, "book"), 5);
}

#[test]
fn a_map_cleared_while_another_replica_increments_keeps_that_increment_alone() {
    let [mut a, mut b] = two();
    let hincr = |by| Operation::Map(MapOp::Increment { field: blob("f"), by });
    a.update(&Operation::Map(MapOp::Set(vec![(blob("f"), blob("5")), (blob("g"), blob("x"))])));
    a.update(&hincr(2));
    exchange(&mut a, &mut b);
    let stale = b.clone();
    a.update(&Operation::Delete(Some(Tag::MAP)));
    b.update(&hincr(1));
    exchange(&mut a, &mut b);
    assert_eq!(field(&a.value, "f"), Some(blob("1")));
    assert_eq!(field(&a.value, "g"), None);

    // A replica that was away brings nothing back.
    a.update(&Operation::Map(MapOp::Remove(vec![blob("f")])));
    a.value.merge(&stale.value);
    assert_eq!(field(&a.value, "f"), None);
    assert_eq!(View::of(a.value).live_tags(), []);
}

/// Baquero, Almeida, Lerche (PaPoC 2016): where a counter in a map goes wrong without offsets.
#[test]
fn a_field_incremented_removed_and_incremented_again_counts_only_the_last() {
    let [mut a, mut b] = two();
    let hincr = |by| Operation::Map(MapOp::Increment { field: blob("f"), by });
    a.update(&hincr(5));
    b.value.merge(&a.value);
    a.update(&Operation::Map(MapOp::Remove(vec![blob("f")])));
    a.update(&hincr(2));
    exchange(&mut a, &mut b);
    assert_eq!(field(&b.value, "f"), Some(blob("2")));
}

#[test]
fn a_removal_that_arrives_before_what_it_removes_still_removes_it() {
    let [mut a, mut b] = two();
    let deltas = [a.update(&sadd(&["x"])), a.update(&srem("x"))];
    b.value.apply(&deltas[1]);
    b.value.apply(&deltas[0]);
    assert_eq!(members(&b.value, Tag::ORSET), Vec::<Blob>::new());

    let deltas = [a.update(&count(5)), a.update(&Operation::Counter(CounterOp::Reset))];
    b.value = Value::default();
    b.value.apply(&deltas[1]);
    assert_eq!(total(&b.value), 0);
    b.value.apply(&deltas[0]);
    assert_eq!(total(&b.value), 0);
}

#[test]
fn a_clearing_joined_with_a_later_add_clears_all_but_that_add() {
    let [mut a, mut b] = two();
    let first = a.update(&sadd(&["x", "y"]));
    b.value.apply(&first);
    let mut joined = a.update(&Operation::Delete(Some(Tag::ORSET)));
    joined.merge(&a.update(&sadd(&["y"])));
    b.value.apply(&joined);
    assert_eq!(members(&b.value, Tag::ORSET), [blob("y")]);
    assert_eq!(a.value, b.value);
}

#[test]
fn what_changes_nothing_makes_an_empty_delta() {
    let mut a = Replica::new(0xa);
    for operation in [
        srem("missing"),
        Operation::Cart(CartOp::Remove(blob("missing"))),
        Operation::Cart(CartOp::SetQuantity { item: blob("missing"), quantity: 0 }),
        Operation::Map(MapOp::Remove(vec![blob("missing")])),
        Operation::Counter(CounterOp::Reset),
        Operation::Bytes(BytesOp::Delete),
        Operation::Delete(None),
    ] {
        assert_eq!(a.update(&operation), Delta::default(), "{operation:?}");
    }
    assert_eq!(a.value, Value::default());
}
