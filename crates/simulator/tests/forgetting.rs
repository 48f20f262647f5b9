//! What is left of deleted keys is forgotten, and nothing that was deleted comes back: from hints, from
//! paused nodes, from disks of an earlier day.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use replication::{AntiEntropyConfig, Part, PlanChange};
use simulator::{
    Family, Fault, Scenario, Sim, SimOptions,
    invariants::{
        replicas::invariant_replicas_equal_after_healing, trees::invariant_trees_are_exact,
    },
};
use values::{Blob, BytesOp, CartOp, CounterOp, Key, Operation, OrsetOp, RegisterOp};

const COMPARED: AntiEntropyConfig =
    AntiEntropyConfig { interval_ms: Some(10_000), bytes_per_second: 1 << 20 };

fn options() -> SimOptions {
    SimOptions { anti_entropy: COMPARED, barrier_ms: Some(2_000), ..SimOptions::default() }
}

fn key(number: usize) -> Key {
    Key::new("default", format!("key {number}")).expect("within the bounds of a key")
}

fn written(sim: &mut Sim, nodes: &[usize], count: usize) -> BTreeSet<Key> {
    let keys: Vec<Key> = (0..count).map(key).collect();
    for (number, key) in keys.iter().enumerate() {
        let (value, item) = (Blob::from("value"), Blob::from("item"));
        let operation = match number % 5 {
            0 => Operation::Bytes(BytesOp::Put(value)),
            1 => Operation::Register(RegisterOp::Set { value, at: None, replace: false }),
            2 => Operation::Orset(OrsetOp::Add(vec![value, item])),
            3 => Operation::Cart(CartOp::Add { item, quantity: 2 }),
            _ => Operation::Counter(CounterOp::Add(3)),
        };
        sim.update(nodes[number % nodes.len()], key, operation).expect("nothing fails");
    }
    keys.into_iter().collect()
}

fn delete(sim: &mut Sim, nodes: &[usize], keys: &BTreeSet<Key>) {
    for (number, key) in keys.iter().enumerate() {
        let node = nodes[number % nodes.len()];
        sim.update(node, key, Operation::Delete(None)).expect("nothing fails");
    }
}

fn remnants(sim: &Sim) -> Vec<u64> {
    (0..sim.nodes()).map(|node| sim.remnants(node).expect("all run")).collect()
}

fn agreed(sim: &Sim) -> u64 {
    (0..sim.nodes())
        .filter_map(|node| sim.barrier(node))
        .map(|(agreed, _)| agreed)
        .max()
        .unwrap_or(0)
}

/// Nothing is live and nothing is left, at any node.
fn all_gone(sim: &mut Sim, keys: &BTreeSet<Key>) {
    for key in keys {
        for node in 0..sim.nodes() {
            let live = sim.view(node, key).expect("all run").live_tags();
            assert_eq!(live, [], "{key:?} at node {node}");
        }
    }
    assert_eq!(remnants(sim), vec![0; sim.nodes()]);
    invariant_replicas_equal_after_healing(sim, keys, true).expect("replicas are equal");
    invariant_trees_are_exact(sim, keys, true).expect("trees are exact");
}

#[test]
fn what_is_left_of_deleted_keys_is_forgotten_by_all() {
    let mut sim = Sim::new(1, options());
    let keys = written(&mut sim, &[0, 1, 2], 50);
    delete(&mut sim, &[0, 1, 2], &keys);
    assert_eq!(remnants(&sim), [50; 3]);
    sim.advance(60_000);
    all_gone(&mut sim, &keys);
    // With nothing to forget no round is begun.
    let before = agreed(&sim);
    sim.advance(60_000);
    assert_eq!(agreed(&sim), before);
    let keys = written(&mut sim, &[0, 1, 2], 50);
    sim.advance(10_000);
    invariant_replicas_equal_after_healing(&mut sim, &keys, true).unwrap();
}

/// Node 3 is no owner of most keys: it keeps hints of the writes, and is cut off when they are deleted.
#[test]
fn a_holder_of_old_hints_stops_the_barrier_until_it_is_back() {
    let mut sim = Sim::new(2, SimOptions { nodes: 5, ..options() });
    sim.crash(0);
    sim.advance(2_000);
    let keys = written(&mut sim, &[1, 2, 3, 4], 50);
    assert!(sim.pending() > 0);
    sim.crash(3);
    sim.restart(0);
    sim.advance(30_000);
    delete(&mut sim, &[0, 1, 2, 4], &keys);
    sim.advance(120_000);
    assert_eq!(agreed(&sim), 0, "it may bring the writes back");
    sim.restart(3);
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
}

#[test]
fn a_paused_node_with_a_request_under_way_stops_the_barrier() {
    let mut sim = Sim::new(3, options());
    let keys = written(&mut sim, &[0, 1, 2], 20);
    sim.pause(2);
    delete(&mut sim, &[0, 1], &keys);
    sim.advance(120_000);
    assert_eq!(agreed(&sim), 0);
    sim.resume(2);
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
}

/// Its hints are lost, and nothing is compared but for the barrier.
#[test]
fn an_owner_that_missed_a_deletion_has_it_before_it_is_forgotten() {
    let anti_entropy = AntiEntropyConfig::OFF;
    let mut sim = Sim::new(6, SimOptions { hints_lost: 1_000, anti_entropy, ..options() });
    let keys = written(&mut sim, &[0, 1, 2], 100);
    sim.advance(5_000);
    sim.crash(2);
    sim.advance(2_000);
    delete(&mut sim, &[0, 1], &keys);
    sim.restart(2);
    sim.advance(600_000);
    all_gone(&mut sim, &keys);
}

/// Its holder and its target do not reach one another; all others reach both.
#[test]
fn a_hint_that_cannot_be_delivered_stops_the_barrier() {
    let mut sim = Sim::new(7, SimOptions { nodes: 5, ..options() });
    sim.crash(0);
    sim.advance(2_000);
    let keys = written(&mut sim, &[1, 2, 3, 4], 50);
    assert!(sim.pending() > 0);
    sim.cut(0, 3);
    sim.restart(0);
    sim.advance(10_000);
    delete(&mut sim, &[1, 2, 4], &keys);
    sim.advance(120_000);
    assert_eq!(agreed(&sim), 0);
    sim.heal();
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
}

/// A former owner has what was written, and does not reach two of the new ones, so that it cannot drop it;
/// all others reach one another, and it hears of the barrier.
#[test]
fn a_former_owner_with_its_copy_stops_the_barrier() {
    let mut sim = Sim::new(8, SimOptions { nodes: 3, ..options() });
    let keys = written(&mut sim, &[0, 1, 2], 50);
    let new = [sim.add_node(), sim.add_node()];
    sim.advance(1_000);
    let put = new.iter().map(|&node| sim.member(node)).collect();
    sim.commit(0, PlanChange { put, ..PlanChange::default() }).expect("nothing fails");
    sim.advance(30_000);
    sim.unrest().expect("all is handed over");
    let leave = vec![sim.member(2).node];
    sim.commit(0, PlanChange { leave, ..PlanChange::default() }).expect("nothing fails");
    let mut departs = false;
    while !departs {
        sim.advance(1);
        let transfers = sim.transfers(2).expect("it runs");
        departs = transfers.iter().any(|transfer| transfer.part == Part::Departing);
    }
    new.iter().for_each(|&node| sim.cut(2, node));
    sim.advance(30_000);
    assert!(!sim.transfers(2).expect("it runs").is_empty());
    delete(&mut sim, &[0, 1, 3, 4], &keys);
    let before = agreed(&sim);
    sim.advance(120_000);
    assert_eq!(agreed(&sim), before, "it may bring the writes back");
    sim.heal();
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
}

#[test]
fn a_disk_of_an_earlier_day_brings_nothing_back_that_was_forgotten() {
    for is_entered in [false, true] {
        let mut sim = Sim::new(4, options());
        if is_entered {
            let first = (100..110).map(key).collect();
            delete(&mut sim, &[0], &first);
            sim.update(0, &key(100), Operation::Counter(CounterOp::Add(1))).unwrap();
            delete(&mut sim, &[0], &first);
            sim.advance(60_000);
            assert!(agreed(&sim) > 0);
        }
        let keys = written(&mut sim, &[0, 1, 2], 50);
        sim.advance(2_000);
        let image = sim.disk_image(1);
        delete(&mut sim, &[0, 1, 2], &keys);
        let kept: BTreeSet<Key> = [key(1_000)].into();
        sim.update(0, &key(1_000), Operation::Counter(CounterOp::Add(7))).unwrap();
        sim.advance(60_000);
        all_gone_but(&mut sim, &keys, 0);
        sim.crash(1);
        sim.restore(1, &image);
        sim.restart(1);
        sim.advance(120_000);
        assert_eq!(sim.begun_anew(), 1);
        all_gone_but(&mut sim, &keys, 0);
        invariant_replicas_equal_after_healing(&mut sim, &kept, true).unwrap();
    }
}

/// The log of a node that has little to do goes over many rounds. Its delete is lost with a byte of it, and the records
/// by which it forgot the key find nothing to forget.
#[test]
fn a_hole_in_a_log_brings_nothing_back_that_was_forgotten_since() {
    let mut sim = Sim::new(9, SimOptions { checkpoints: 0, ..options() });
    let keys = written(&mut sim, &[0, 1, 2], 10);
    sim.advance(2_000);
    delete(&mut sim, &[0, 1, 2], &keys);
    let kept: BTreeSet<Key> = [key(1_000)].into();
    sim.update(0, &key(1_000), Operation::Counter(CounterOp::Add(7))).unwrap();
    sim.advance(60_000);
    all_gone(&mut sim, &keys);
    sim.crash(1);
    assert!(sim.rot_last_record(1, &key(3)));
    sim.restart(1);
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
    assert_eq!(sim.begun_anew(), 1);
    invariant_replicas_equal_after_healing(&mut sim, &kept, true).unwrap();
}

/// What is lost since the last round is brought back by the others; and that is known at the next start, whatever was
/// forgotten meanwhile.
#[test]
fn a_hole_in_a_log_of_after_the_last_round_costs_what_is_in_it() {
    let mut sim = Sim::new(9, SimOptions { checkpoints: 0, ..options() });
    let keys = written(&mut sim, &[0, 1, 2], 10);
    sim.advance(2_000);
    delete(&mut sim, &[0, 1, 2], &keys);
    sim.advance(60_000);
    all_gone(&mut sim, &keys);
    let again = written(&mut sim, &[0, 1, 2], 10);
    sim.advance(2_000);
    sim.crash(1);
    assert!(sim.rot_last_record(1, &key(3)));
    sim.restart(1);
    sim.advance(60_000);
    invariant_replicas_equal_after_healing(&mut sim, &again, true).unwrap();
    delete(&mut sim, &[0, 1, 2], &again);
    sim.advance(60_000);
    sim.crash(1);
    sim.restart(1);
    sim.advance(60_000);
    all_gone(&mut sim, &again);
    assert_eq!(sim.begun_anew(), 0);
}

fn all_gone_but(sim: &mut Sim, keys: &BTreeSet<Key>, left: u64) {
    assert_eq!(remnants(sim), vec![left; sim.nodes()]);
    all_gone(sim, keys);
}

#[test]
fn a_wiped_node_begins_anew_and_holds_nothing_up() {
    let mut sim = Sim::new(5, options());
    let keys = written(&mut sim, &[0, 1, 2], 50);
    delete(&mut sim, &[0, 1, 2], &keys);
    sim.advance(3_000);
    for node in 0..3 {
        sim.crash(node);
        sim.wipe(node);
        sim.restart(node);
        sim.advance(20_000);
    }
    delete(&mut sim, &[0], &keys);
    sim.advance(120_000);
    all_gone(&mut sim, &keys);
    assert!(sim.begun_anew() > 0);
}

/// Returns the rounds that were agreed on before all faults had ended, or after.
fn check(seed: u64) -> u64 {
    let scenario = Scenario::drawn(Family::Forgetting, seed);
    let mut sim = scenario.check();
    sim.advance(120_000);
    // But for one whose disk is not what it was.
    let rates = &scenario.workload.rates;
    let lose = [Fault::WipedDisk, Fault::OldDisk, Fault::LogRot]
        .into_iter()
        .any(|fault| rates.of(fault) > 0);
    assert!(lose || sim.begun_anew() == 0, "seed {seed}");
    for node in (0..sim.nodes()).filter(|&node| !sim.is_gone(node)) {
        assert_eq!(sim.has_remnants(node), Some(false), "seed {seed}, node {node}");
    }
    agreed(&sim)
}

fn check_all(seeds: RangeInclusive<u64>) {
    let rounds: u64 = seeds.map(check).sum();
    assert!(rounds > 50, "{rounds}");
}

#[test]
fn nothing_deleted_comes_back_over_the_barrier_seeds_1_to_50() {
    check_all(1..=50);
}

#[test]
fn nothing_deleted_comes_back_over_the_barrier_seeds_51_to_100() {
    check_all(51..=100);
}
