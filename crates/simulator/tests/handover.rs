//! Joining, leaving, being removed and getting another weight, while clients go on and faults befall
//! everything: nothing acknowledged is lost, reads see what they must, and in the end only owners hold
//! a copy.

use replication::{BucketPolicy, OwnershipReply, PlanChange};
use ring::{Member, Weight};
use simulator::{Family, Scenario, Sim, SimOptions};
use values::{Blob, BytesOp, Key, Operation, OrsetOp, State, Tag, View};

fn key(number: usize) -> Key {
    Key::new("default", format!("key{number}")).expect("within the bounds of a key")
}

fn put(value: &str) -> Operation {
    Operation::Bytes(BytesOp::Put(Blob::copy_from_slice(value.as_bytes())))
}

fn add(element: &str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![Blob::copy_from_slice(element.as_bytes())]))
}

fn members(view: &View) -> usize {
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(state)) => state.store.0.len(),
        _ => 0,
    }
}

fn joins(sim: &Sim, nodes: &[usize]) -> PlanChange {
    PlanChange {
        put: nodes.iter().map(|&node| sim.member(node)).collect(),
        ..PlanChange::default()
    }
}

fn leaves(sim: &Sim, nodes: &[usize]) -> PlanChange {
    let leave = nodes.iter().map(|&node| sim.member(node).node).collect();
    PlanChange { leave, ..PlanChange::default() }
}

fn settle(sim: &mut Sim) {
    sim.run_until_quiet();
    sim.unrest().expect("it comes to rest");
}

/// Nothing happens to its next process: no client, no other member.
#[test]
fn the_only_member_goes_on_with_a_plan_after_a_crash() {
    let mut sim = Sim::new(1, SimOptions { nodes: 1, ..SimOptions::default() });
    let heavier = Member { weight: Weight::new(3).expect("a weight"), ..sim.member(0) };
    let plan = PlanChange { put: vec![heavier], ..PlanChange::default() };
    sim.commit(0, plan).unwrap();
    sim.crash(0);
    sim.restart(0);
    assert!(sim.unrest().is_err(), "nothing is left to do");
    settle(&mut sim);
}

/// Three nodes become five and then three again; each key is read at every node all the while.
#[test]
fn three_nodes_become_five_and_then_three_again() {
    let mut sim = Sim::new(1, SimOptions::default());
    for number in 0..40 {
        sim.update(number % 3, &key(number), put("x")).unwrap();
    }
    for round in 0..20 {
        sim.update(round % 3, &key(100), add(&format!("element{round}"))).unwrap();
    }
    let new = [sim.add_node(), sim.add_node()];
    sim.advance(1_000);
    let plan = joins(&sim, &new);
    sim.commit(0, plan).unwrap();
    settle(&mut sim);
    let ownership = sim.ownership(0).unwrap();
    assert_eq!(ownership.members().len(), 5);
    assert!(ownership.target().ring().loads().iter().all(|&(_, load)| load >= 3));
    let all_there = |sim: &mut Sim| {
        for number in 0..40 {
            for node in 0..5 {
                let read = sim.get(node, &key(number)).unwrap();
                assert!(read.acks.is_met(), "{:?}", read.acks);
                assert_eq!(read.view.live_tags(), [Tag::BYTES], "{number} at {node}");
            }
        }
        assert_eq!(members(&sim.get(4, &key(100)).unwrap().view), 20);
    };
    all_there(&mut sim);
    // Two of the first three leave, one of them the committer.
    let plan = leaves(&sim, &[0, 1]);
    sim.commit(0, plan).unwrap();
    settle(&mut sim);
    assert_eq!(sim.ownership(0).unwrap().members().len(), 3);
    all_there(&mut sim);
}

/// Two administrators commit different plans on two sides of a cut, and the node whose plan will lose starts
/// anew before anybody knows: what it committed is not forgotten.
#[test]
fn a_plan_that_lost_is_computed_again_by_its_committer_also_after_a_restart() {
    for seed in 1..=20 {
        let mut sim = Sim::new(seed, SimOptions { nodes: 4, ..SimOptions::default() });
        let new = [sim.add_node(), sim.add_node()];
        sim.advance(1_000);
        for (a, b) in [0, 1, 4].into_iter().flat_map(|a| [2, 3, 5].map(|b| (a, b))) {
            sim.cut(a, b);
        }
        sim.advance(1_000);
        let committers = [0, 2];
        let plans = [0, 1].map(|side| {
            let change = joins(&sim, &[new[side]]);
            match sim.commit(committers[side], change) {
                Ok(OwnershipReply::Committed { plan, .. }) => plan,
                other => panic!("seed {seed}: {other:?}"),
            }
        });
        let loser = committers[usize::from(plans[1] < plans[0])];
        sim.crash(loser);
        sim.restart(loser);
        sim.heal();
        settle(&mut sim);
        let members = sim.ownership(1).unwrap().members().to_vec();
        let new = new.map(|node| sim.member(node).node);
        assert!(new.iter().all(|node| members.contains(node)), "seed {seed}: {members:?}");
    }
}

/// A node that leaves takes no hints with it, though the one that they are for is down all the while.
#[test]
fn what_a_leaving_node_keeps_for_one_that_is_down_another_keeps() {
    let mut sim = Sim::new(1, SimOptions { nodes: 5, ..SimOptions::default() });
    let key = key(0);
    let [first, down, ..] = sim.owners(&key)[..] else { panic!("three owners") };
    sim.crash(down);
    sim.advance(1_000);
    sim.update(first, &key, add("x")).unwrap();
    sim.advance(1_000);
    let target = sim.member(down).node;
    let holders = |sim: &Sim| -> Vec<usize> {
        sim.outboxes().into_iter().filter(|(_, of)| *of == target).map(|(at, _)| at).collect()
    };
    let [holder] = holders(&sim)[..] else { panic!("{:?}", sim.outboxes()) };
    let plan = leaves(&sim, &[holder]);
    sim.commit(first, plan).unwrap();
    sim.advance(30_000);
    let [other] = holders(&sim)[..] else { panic!("{:?}", sim.outboxes()) };
    assert_ne!(other, holder);
    sim.restart(down);
    settle(&mut sim);
    assert_eq!(sim.outboxes(), []);
    assert_eq!(members(&sim.view(down, &key).expect("it is up")), 1);
}

/// A write that no owner could be reached for is merged by a fallback: not for good, also where the
/// members never became others.
#[test]
fn what_a_fallback_wrote_goes_to_the_owners_and_is_dropped() {
    let options = SimOptions { nodes: 4, ..SimOptions::default() };
    let mut sim = Sim::new(1, options);
    let key = (0..).map(key).find(|key| !sim.owners(key).contains(&3)).expect("three of four own");
    sim.isolate(3);
    sim.advance(1_000);
    sim.update(3, &key, add("x")).unwrap();
    assert_eq!(members(&sim.view(3, &key).expect("it is up")), 1);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(members(&sim.view(3, &key).expect("it is up")), 0);
    for owner in sim.owners(&key) {
        assert_eq!(members(&sim.view(owner, &key).expect("it is up")), 1, "{owner}");
    }
}

/// An owner of the keys of one bucket is a fallback for those of another with fewer owners.
#[test]
fn a_fallback_that_owns_keys_of_other_buckets_keeps_none_either() {
    let second = BucketPolicy { n: 2, ..BucketPolicy::default() };
    let mut sim = Sim::new(1, SimOptions { second: Some(second), ..SimOptions::default() });
    sim.begin();
    let named = |number: usize| Key::new("second", format!("key{number}")).unwrap();
    let key = (0..).map(named).find(|key| !sim.owners(key).contains(&2)).expect("two of three own");
    sim.isolate(2);
    sim.advance(1_000);
    sim.update(2, &key, add("x")).unwrap();
    assert_eq!(members(&sim.view(2, &key).expect("it is up")), 1);
    sim.heal();
    settle(&mut sim);
    assert_eq!(members(&sim.view(2, &key).expect("it is up")), 0);
    for owner in sim.owners(&key) {
        assert_eq!(members(&sim.view(owner, &key).expect("it is up")), 1, "{owner}");
    }
}

#[test]
fn histories_of_seeds_1_to_200() {
    (1..=200).for_each(|seed| drop(Scenario::drawn(Family::Handover, seed).check()));
}

/// A member is killed for good and removed in the middle of it: what only it held is lost, and nothing
/// waits for it.
#[test]
fn histories_with_removals_of_seeds_1_to_100() {
    (1..=100).for_each(|seed| drop(Scenario::drawn(Family::Removals, seed).check()));
}

/// Who owns what is known at different times on the two sides of many cuts.
#[test]
fn histories_of_partitions_that_go_to_and_fro_of_seeds_1_to_100() {
    (1..=100).for_each(|seed| drop(Scenario::drawn(Family::Moving, seed).check()));
}

/// The histories are of handovers: keys are sent to new owners, and dropped by former ones.
#[test]
fn histories_hand_keys_over() {
    let sims = (1..=25).map(|seed| Scenario::drawn(Family::Handover, seed).check());
    let of = |sim: Sim| (0..sim.nodes()).filter_map(|node| sim.counters(node)).collect::<Vec<_>>();
    let counters: Vec<replication::Counters> = sims.flat_map(of).collect();
    let pulled: u64 = counters.iter().map(|counters| counters.keys_pulled).sum();
    let dropped: u64 = counters.iter().map(|counters| counters.keys_dropped).sum();
    assert!(pulled > 100 && dropped > 100, "{pulled} keys were pulled, {dropped} dropped");
}
