//! Replicas that lost what nothing else brings them come to be equal by being compared: outboxes that
//! lose what they say they keep, disks that come back empty, crashes that lose what was not synced.

use std::ops::RangeInclusive;

use bytes::Bytes;
use replication::{AntiEntropyConfig, BucketCall, PolicyFields};
use simulator::{
    Family, Scenario, Sim, SimOptions,
    invariants::{
        replicas::invariant_replicas_equal_after_healing, trees::invariant_trees_are_exact,
    },
};
use values::{Blob, BytesOp, CartOp, Key, MapOp, Operation, OrsetOp, RegisterOp};

const COMPARED: AntiEntropyConfig =
    AntiEntropyConfig { interval_ms: Some(10_000), bytes_per_second: 1 << 20 };

/// Checks seeds, in which together keys must have gone both ways.
fn check_all(seeds: RangeInclusive<u64>) {
    let mut taken = [0; 3];
    for seed in seeds {
        let sim = Scenario::drawn(Family::Compared, seed).check();
        for counters in (0..sim.nodes()).filter_map(|node| sim.counters(node)) {
            taken[0] += counters.keys_pulled;
            taken[1] += counters.keys_pushed;
            taken[2] += counters.comparisons;
        }
    }
    assert!(taken.iter().all(|&count| count > 100), "{taken:?}");
}

#[test]
fn compared_replicas_are_equal_after_seeds_1_to_150() {
    check_all(1..=150);
}

#[test]
fn compared_replicas_are_equal_after_seeds_151_to_300() {
    check_all(151..=300);
}

fn key(number: usize) -> Key {
    Key::new("default", format!("key {number}")).expect("within the bounds of a key")
}

fn names(count: usize) -> Vec<Blob> {
    (0..count).map(|number| Blob::from(format!("element {number}"))).collect()
}

fn some_of_every_type(sim: &mut Sim, count: usize) -> std::collections::BTreeSet<Key> {
    let keys: Vec<Key> = (0..count).map(key).collect();
    for (number, key) in keys.iter().enumerate() {
        let (value, field) = (Blob::from("value"), Blob::from("field"));
        let operation = match number % 5 {
            0 => Operation::Bytes(BytesOp::Put(value)),
            1 => Operation::Register(RegisterOp::Set { value, at: None, replace: false }),
            2 => Operation::Orset(OrsetOp::Add(names(3))),
            3 => Operation::Cart(CartOp::Add { item: field, quantity: 2 }),
            _ => Operation::Map(MapOp::Set(vec![(field, value)])),
        };
        sim.update(number % 3, key, operation).expect("nothing fails");
    }
    keys.into_iter().collect()
}

#[test]
fn a_node_whose_disk_was_wiped_gets_everything_back_without_a_read() {
    let mut sim = Sim::new(1, SimOptions { anti_entropy: COMPARED, ..SimOptions::default() });
    let keys = some_of_every_type(&mut sim, 200);
    sim.crash(0);
    sim.wipe(0);
    sim.restart(0);
    sim.advance(30_000);
    invariant_replicas_equal_after_healing(&mut sim, &keys, true).unwrap();
    invariant_trees_are_exact(&mut sim, &keys, true).unwrap();
}

/// A replica that kept what was dropped and one that never got it hold the same, for whoever compares.
#[test]
fn what_is_left_of_a_dropped_bucket_makes_no_trees_differ() {
    let mut sim = Sim::new(1, SimOptions { anti_entropy: COMPARED, ..SimOptions::default() });
    let carts = |number: usize| Key::new("carts", format!("key {number}")).expect("in bounds");
    let name = Bytes::from_static(b"carts");
    let fields = PolicyFields::default();
    sim.buckets(1, BucketCall::Create { name: name.clone(), fields }).expect("nothing fails");
    let put = || Operation::Bytes(BytesOp::Put(Blob::from("value")));
    sim.isolate(0);
    sim.advance(1_000);
    let gone: std::collections::BTreeSet<Key> = (0..50).map(carts).collect();
    for key in &gone {
        sim.update(1, key, put()).expect("two of three owners are there");
    }
    sim.buckets(1, BucketCall::Drop { name }).expect("nothing fails");
    sim.heal();
    sim.advance(2_000);
    let [with, without] = [1, 0].map(|node| sim.view(node, &carts(0)).expect("it runs"));
    assert_ne!(with, without, "or there is nothing to be seen");
    // Leaves are counted anew as batches are written.
    let keys = some_of_every_type(&mut sim, 300);
    sim.advance(60_000);
    for key in gone.iter().chain(&keys) {
        let roots: Vec<_> = (0..3).map(|node| sim.tree_root(node, key)).collect();
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{key:?}: {roots:?}");
    }
    assert_eq!(sim.counters(0).map(|counters| counters.keys_pulled), Some(0));
}
