//! Two rings that were founded apart under one name: they refuse each other and serve on, and become one with
//! nothing lost of either, whatever befalls those that go over.

use replication::{AntiEntropyConfig, PlanChange};
use simulator::{Family, Fault, Scenario, Sim, SimOptions, Strikes};
use values::{Blob, Key, Operation, OrsetOp, State, Tag};

/// Nodes 0 to 2 founded one ring, nodes 3 to 5 another.
fn rings(gossip: bool) -> Sim {
    let anti_entropy = AntiEntropyConfig { interval_ms: Some(1_000), bytes_per_second: 1 << 20 };
    let options = SimOptions {
        nodes: 6,
        apart: 3,
        barrier_ms: Some(1_000),
        gossip,
        anti_entropy,
        ..SimOptions::default()
    };
    let mut sim = Sim::new(1, options);
    sim.advance(5_000);
    sim
}

fn key() -> Key {
    Key::new("default", "set").expect("within the bounds of a key")
}

fn add(sim: &mut Sim, node: usize, element: &'static str) {
    let element = Blob::from_static(element.as_bytes());
    let answer = sim
        .update(node, &key(), Operation::Orset(OrsetOp::Add(vec![element])))
        .expect("nothing fails");
    assert!(answer.acks.is_met(), "{:?}", answer.acks);
}

fn delete(sim: &mut Sim, node: usize) {
    let answer = sim.update(node, &key(), Operation::Delete(None)).expect("nothing fails");
    assert!(answer.acks.is_met(), "{:?}", answer.acks);
}

fn members(sim: &mut Sim, node: usize) -> Vec<Blob> {
    match sim.get(node, &key()).expect("nothing fails").view.value.state(Tag::ORSET) {
        Some(State::Orset(state)) => state.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Has a node go over to the other ring, up to where its next process looks for that.
fn send_over(sim: &mut Sim, node: usize) {
    assert!(sim.go_over(node));
    while !sim.is_drained(node) {
        sim.advance(10);
    }
    sim.leave_ring(node);
}

/// Has those that went over be owners, and waits until all is at rest.
fn settle(sim: &mut Sim) {
    sim.advance(20_000);
    let put = (3..6).map(|node| sim.member(node)).collect();
    sim.commit(0, PlanChange { put, ..PlanChange::default() }).expect("nothing fails");
    sim.run_until_quiet();
    sim.unrest().expect("nothing fails");
    assert_eq!(sim.members_disagree(), None);
    assert_eq!(sim.is_in_no_life(), None);
    assert_eq!(sim.ownership(0).expect("nothing fails").members().len(), 6);
}

#[test]
fn two_rings_refuse_each_other_and_become_one_with_nothing_lost() {
    for gossip in [false, true] {
        let mut sim = rings(gossip);
        add(&mut sim, 0, "first");
        add(&mut sim, 3, "second");
        let (first, second) = (Blob::from_static(b"first"), Blob::from_static(b"second"));
        assert_eq!(members(&mut sim, 1), std::slice::from_ref(&first));
        assert_eq!(members(&mut sim, 4), std::slice::from_ref(&second));
        assert_eq!(sim.refusals() > 0, gossip);
        for node in 3..6 {
            send_over(&mut sim, node);
        }
        settle(&mut sim);
        for node in 0..6 {
            assert_eq!(members(&mut sim, node), [first.clone(), second.clone()], "at {node}");
        }
    }
}

/// Whenever it is killed on its way, it goes on by what it kept of that, and begins a life in the other ring.
/// The ring that is left had more rounds than the other one has.
#[test]
fn what_is_deleted_after_two_rings_became_one_is_forgotten_by_all() {
    let mut sim = rings(true);
    for round in 1..=5 {
        add(&mut sim, 3, "second");
        delete(&mut sim, 3);
        while sim.barrier(3).is_none_or(|(agreed, _)| agreed < round) {
            sim.advance(100);
        }
    }
    assert_eq!(sim.barrier(0), Some((0, 0)));
    for node in 3..6 {
        send_over(&mut sim, node);
    }
    settle(&mut sim);
    assert!(sim.owners(&key()).iter().any(|&owner| owner >= 3));
    add(&mut sim, 0, "first");
    delete(&mut sim, 0);
    assert!((0..6).any(|node| sim.remnants(node) != Some(0)));
    while (0..6).any(|node| sim.remnants(node) != Some(0)) {
        sim.advance(100);
        let (agreed, _) = sim.barrier(0).expect("nothing fails");
        assert!(agreed < 4, "what is left waits for as many rounds as the ring had that was left");
    }
}

#[test]
fn a_node_that_is_killed_on_its_way_goes_on_when_it_starts_again() {
    for after_ms in (0..600).step_by(40) {
        let mut sim = rings(true);
        add(&mut sim, 3, "second");
        for node in 3..5 {
            send_over(&mut sim, node);
        }
        send_over(&mut sim, 5);
        sim.advance(after_ms);
        sim.crash(5);
        sim.restart(5);
        settle(&mut sim);
        assert_eq!(members(&mut sim, 0), [Blob::from_static(b"second")], "after {after_ms} ms");
    }
}

/// One that was down while a key was deleted has it still. Those that go over before it know of the delete, and that
/// it is to come.
#[test]
fn a_ring_forgets_no_delete_before_all_that_come_over_are_there() {
    for gossip in [false, true] {
        let mut sim = rings(gossip);
        add(&mut sim, 3, "second");
        sim.run_until_quiet();
        sim.crash(5);
        delete(&mut sim, 3);
        for node in 3..5 {
            send_over(&mut sim, node);
        }
        sim.advance(20_000);
        let put = (3..5).map(|node| sim.member(node)).collect();
        sim.commit(0, PlanChange { put, ..PlanChange::default() }).expect("nothing fails");
        sim.advance(240_000);
        assert!((0..5).any(|node| sim.remnants(node) != Some(0)), "with gossip: {gossip}");
        sim.restart(5);
        sim.advance(5_000);
        send_over(&mut sim, 5);
        settle(&mut sim);
        assert_eq!(members(&mut sim, 0), [] as [Blob; 0], "with gossip: {gossip}");
        while (0..6).any(|node| sim.remnants(node) != Some(0)) {
            sim.advance(100);
        }
        assert_eq!(members(&mut sim, 0), [] as [Blob; 0], "with gossip: {gossip}");
    }
}

#[test]
fn histories_of_two_rings_of_seeds_1_to_200() {
    let mut strikes = Strikes::default();
    for seed in 1..=200 {
        strikes.add(&Scenario::drawn(Family::Rings, seed).check().strikes());
    }
    assert_eq!(strikes.of(Fault::RingsApart), 200);
    // The others become one with all faults over.
    assert!(strikes.of(Fault::Merge) > 100, "{strikes:?}");
}

#[test]
fn histories_of_two_rings_with_all_faults_of_seeds_1_to_60() {
    for seed in 1..=60 {
        Scenario::drawn(Family::AllRings, seed).check();
    }
}
