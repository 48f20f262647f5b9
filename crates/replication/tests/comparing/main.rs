//! Two replicas that hold different things are compared: what is exchanged, and what it costs.

mod pair;

use std::time::Instant;

use clock::{Actor, CausalContext, Dot, NodeId, Stamp};
use pair::{A, B, Options, Pair};
use proptest::prelude::*;
use storage::{ListPosition, Table};
use values::{
    Blob, BytesOp, CartOp, CounterOp, DotStore, GsetOp, Key, MapOp, Operation, OrsetOp, Register,
    RegisterOp, State, Tag,
};

fn key(number: usize) -> Key {
    Key::new("default", format!("key:{number:08}")).expect("within the bounds of a key")
}

fn put(value: &str) -> Operation {
    Operation::Bytes(BytesOp::Put(Blob::from(value.to_owned())))
}

fn set(value: &str) -> Operation {
    let value = Blob::from(value.to_owned());
    Operation::Register(RegisterOp::Set { value, at: None, replace: false })
}

fn element(number: usize) -> Blob {
    Blob::from(format!("element {number:06}"))
}

fn add(numbers: std::ops::Range<usize>) -> Operation {
    Operation::Orset(OrsetOp::Add(numbers.map(element).collect()))
}

fn remove(number: usize) -> Operation {
    Operation::Orset(OrsetOp::Remove(vec![element(number)]))
}

/// The reach of issue 5: one key differing among a million costs at most 64 KiB, and under a second.
///
/// `MERGANSER_KEYS=1000000 cargo test -p replication --test comparing one_key -- --nocapture` measures it; without, 50,000 keys.
#[test]
#[expect(clippy::disallowed_methods, reason = "the time is measured, nothing depends on it")]
fn one_key_that_differs_among_many_costs_at_most_64_kib() {
    let count = std::env::var("MERGANSER_KEYS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(50_000);
    let mut pair = Pair::new(Options { partitions: 4_096, shards: 64, ..Options::default() });
    let keys: Vec<Key> = (0..count).map(key).collect();
    pair.fill(&keys, &put("a value of some thirty bytes.."));
    assert_eq!(pair.roots(A), pair.roots(B));
    pair.write(B, &key(count / 2), put("another"));
    let begun = Instant::now();
    pair.compare(A);
    let took = begun.elapsed();
    println!("{count} keys: {} bytes in {} messages, {took:?}", pair.bytes, pair.messages);
    assert!(pair.bytes <= 64 << 10, "{} bytes", pair.bytes);
    assert_eq!(pair.counters(A).keys_pulled + pair.counters(A).keys_pushed, 1);
    pair.assert_equal(&[key(count / 2)]);
}

#[test]
fn one_element_that_differs_costs_the_same_in_a_set_of_1000_and_of_100_000() {
    let cost = |elements: usize| {
        let mut pair = Pair::new(Options::default());
        for from in (0..elements).step_by(500) {
            pair.write_both(&key(0), add(from..from + 500));
        }
        pair.settle();
        pair.write(A, &key(0), add(elements..elements + 1));
        pair.write(B, &key(0), remove(elements / 3));
        (pair.bytes, pair.messages) = (0, 0);
        pair.compare(A);
        println!("{elements} elements: {} bytes in {} messages", pair.bytes, pair.messages);
        pair.assert_equal(&[key(0)]);
        pair.bytes
    };
    let (few, many) = (cost(1_000), cost(100_000));
    assert!(few.max(many) < 48 << 10, "{few} and {many} bytes");
}

#[test]
fn an_empty_replica_is_filled_and_fills() {
    for asker in [A, B] {
        let mut pair = Pair::new(Options::default());
        let keys: Vec<Key> = (0..2_000).map(key).collect();
        for (number, key) in keys.iter().enumerate() {
            let operation = match number % 4 {
                0 => put("value"),
                1 => set("value"),
                2 => add(0..5),
                _ => Operation::Counter(CounterOp::Add(7)),
            };
            pair.write(A, key, operation);
        }
        // One that is cut into many parts.
        for from in (0..3_000).step_by(500) {
            pair.write(A, &keys[2], add(from..from + 500));
        }
        pair.settle();
        pair.compare(asker);
        pair.assert_equal(&keys);
    }
}

/// Design.md: headers that differ are exchanged even when all rows agree.
#[test]
fn what_only_one_side_has_seen_is_known_at_both_in_the_end() {
    let mut pair = Pair::new(Options::default());
    pair.write_both(&key(0), add(0..3));
    let added = pair.write(A, &key(0), add(3..4));
    let removed = pair.write(A, &key(0), remove(3));
    let (before, after) = (pair.view(B, &key(0)), pair.view(A, &key(0)));
    assert_eq!(before.collections, after.collections);
    assert_ne!(before, after);
    pair.compare(B);
    pair.assert_equal(&[key(0)]);
    // What comes late is known to be gone.
    pair.merge(B, &key(0), added);
    pair.merge(B, &key(0), removed);
    pair.assert_equal(&[key(0)]);
}

/// Design.md: a replica never claims to have seen what it has not.
#[test]
fn a_comparison_that_is_broken_off_claims_nothing() {
    for steps in 0..60 {
        let mut pair = Pair::new(Options::default());
        for from in (0..3_000).step_by(500) {
            pair.write(B, &key(0), add(from..from + 500));
        }
        for from in (3_000..4_000).step_by(500) {
            pair.write(A, &key(0), add(from..from + 500));
        }
        pair.settle();
        pair.begin(A);
        pair.run(steps);
        pair.cut();
        for (one, other) in [(A, B), (B, A)] {
            let (mine, theirs) = (pair.view(one, &key(0)), pair.view(other, &key(0)));
            let dots = |view: &values::View| match view.value.state(Tag::ORSET) {
                Some(State::Orset(set)) => set.store.dots(),
                _ => Vec::new(),
            };
            let held: std::collections::BTreeSet<Dot> = dots(&mine).into_iter().collect();
            // Nothing was removed anywhere.
            let claimed = |dot: &Dot| mine.value.context(Tag::ORSET).contains(*dot);
            let lost = dots(&theirs).into_iter().find(|dot| claimed(dot) && !held.contains(dot));
            assert_eq!(lost, None, "after {steps} messages");
        }
        pair.link();
        pair.compare(A);
        pair.assert_equal(&[key(0)]);
    }
}

/// The last step is refused where the replica lost what it rests on.
#[test]
fn what_a_replica_lost_meanwhile_is_not_claimed() {
    use storage::{Answer, Command, Durability, StorageError};
    let mut pair = Pair::new(Options::default());
    pair.write(A, &key(0), add(0..2));
    let dot = |counter| Dot::new(Actor::new(NodeId(9), 9, 0), counter);
    let complete = |seen: CausalContext| Command::Complete {
        key: key(0),
        tag: Tag::ORSET,
        seen,
        context: [dot(1)].into_iter().collect(),
        durability: Durability::Sync,
    };
    let context = pair.view(A, &key(0)).value.context(Tag::ORSET).clone();
    let mut lost = context.clone();
    lost.insert(dot(7));
    let answer = pair.engine(A).execute_now(complete(lost));
    assert_eq!(answer, [Answer::Failed(StorageError::Unseen)]);
    assert_eq!(pair.view(A, &key(0)).value.context(Tag::ORSET), &context);
    let answer = pair.engine(A).execute_now(complete(context.clone()));
    assert_eq!(answer, [Answer::Merged(None)]);
    assert!(pair.view(A, &key(0)).value.context(Tag::ORSET).contains(dot(1)));
}

#[test]
fn what_is_sent_and_received_keeps_to_its_rate() {
    let mut pair = Pair::new(Options { bytes_per_second: 10_000, ..Options::default() });
    let keys: Vec<Key> = (0..300).map(key).collect();
    for key in &keys {
        pair.write(A, key, put(&"x".repeat(200)));
    }
    let begun_ms = pair.now_ms;
    pair.compare(B);
    let counted = pair.counters(B).comparison_bytes;
    let took_ms = pair.now_ms - begun_ms;
    assert!(counted > 60_000, "{counted} bytes");
    // Some keys side by side may go ahead of it.
    assert!(took_ms + 2_500 > counted / 10, "{counted} bytes in {took_ms} ms");
    pair.assert_equal(&keys);
}

#[test]
fn a_damaged_record_is_brought_back() {
    let mut pair = Pair::new(Options::default());
    let keys: Vec<Key> = (0..50).map(key).collect();
    for key in &keys {
        pair.write_both(key, set("value"));
    }
    let row = ListPosition::of(&keys[7]).0;
    assert!(pair.engine(A).index().corrupt(Table::Header, &row, 30));
    // Counting the trees anew, in the background, comes upon it.
    while pair.engine(A).recount_trees(1_000) {}
    pair.compare(A);
    pair.assert_equal(&keys);
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let blob = (0..4_u8).prop_map(|number| Blob::from(vec![b'a' + number]));
    let longer = (0..90_usize).prop_map(element);
    prop_oneof![
        blob.clone().prop_map(|value| Operation::Bytes(BytesOp::Put(value))),
        blob.clone().prop_map(|value| {
            Operation::Register(RegisterOp::Set { value, at: None, replace: true })
        }),
        (-5..5_i64).prop_map(|by| Operation::Counter(CounterOp::Add(by))),
        blob.clone().prop_map(|item| Operation::Gset(GsetOp::Add(vec![item]))),
        prop::collection::vec(longer.clone(), 1..40)
            .prop_map(|elements| Operation::Orset(OrsetOp::Add(elements))),
        longer.prop_map(|element| Operation::Orset(OrsetOp::Remove(vec![element]))),
        (blob.clone(), 1..3_u64)
            .prop_map(|(item, quantity)| Operation::Cart(CartOp::Add { item, quantity })),
        blob.clone().prop_map(|item| Operation::Cart(CartOp::Remove(item))),
        (blob.clone(), blob.clone())
            .prop_map(|(field, value)| Operation::Map(MapOp::Set(vec![(field, value)]))),
        (blob.clone(), -3..3_i64)
            .prop_map(|(field, by)| Operation::Map(MapOp::Increment { field, by })),
        blob.prop_map(|field| Operation::Map(MapOp::Remove(vec![field]))),
        Just(Operation::Delete(None)),
    ]
}

proptest! {
    /// Whatever was written at either side and reached the other or not: compared, both hold the
    /// join of both, and their trees say so.
    #[test]
    fn compared_replicas_hold_the_join_of_both(
        writes in prop::collection::vec((0..6_usize, 0..2_usize, any::<bool>(), any_operation()), 0..60),
        asker in 0..2_usize,
    ) {
        let mut pair = Pair::new(Options::default());
        for (number, side, reaches_both, operation) in writes {
            let key = Key::new("default", format!("{number}/{:?}", operation.minted_tag())).unwrap();
            let delta = pair.try_write(side, &key, operation);
            if let Some(delta) = delta.filter(|_| reaches_both) {
                pair.merge(1 - side, &key, delta);
            }
        }
        let keys: Vec<Key> = (0..6)
            .flat_map(|number| {
                Tag::KNOWN.map(|tag| Key::new("default", format!("{number}/{tag:?}")).unwrap())
            })
            .collect();
        let joins: Vec<_> = keys
            .iter()
            .map(|key| {
                let (mut join, other) = (pair.view(A, key).value, pair.view(B, key).value);
                join.merge(&other);
                join
            })
            .collect();
        pair.settle();
        pair.compare(asker);
        for (key, join) in keys.iter().zip(&joins) {
            prop_assert_eq!(&pair.view(A, key).value, join, "{:?}", key);
        }
        pair.assert_equal(&keys);
    }
}

#[test]
fn a_register_is_what_the_later_write_says_at_both() {
    let mut pair = Pair::new(Options::default());
    pair.write(A, &key(0), set("earlier"));
    pair.write(B, &key(0), set("later"));
    pair.compare(A);
    let view = pair.view(A, &key(0));
    let Some(State::Register(Register { base: Some(base), .. })) = view.value.state(Tag::LWW)
    else {
        panic!("{view:?}")
    };
    assert_eq!(base.value, Some(Blob::from("later")));
    assert!(base.stamp > Stamp::from_millis(1_000));
    pair.assert_equal(&[key(0)]);
}
