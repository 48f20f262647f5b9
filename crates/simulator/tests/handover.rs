//! Joining, leaving, being removed and getting another weight, while clients go on and faults befall
//! everything: nothing acknowledged is lost, reads see what they must, and in the end only owners hold
//! a copy.
//!
//! `MERGANSER_SEED=<seed> cargo test -p simulator --test handover one_seed` runs one seed again.

use replication::{Availability, BucketPolicy, PlanChange};
use simulator::{DiskFaults, NetworkFaults, Random, Sim, SimOptions, Workload, run_history};
use values::{Blob, BytesOp, Key, Operation, OrsetOp, State, Tag, View};

fn scenario(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x4a4d_0be5);
    let (r, w) = *random.pick(&[(2, 2), (2, 2), (1, 3), (3, 1), (1, 1)]);
    let availability = if random.chance(250) { Availability::Quorum } else { Availability::Always };
    let has_faults = random.chance(600);
    let network = NetworkFaults {
        delay_min_ms: 1,
        delay_max_ms: random.between(1, 30),
        loss: if has_faults { *random.pick(&[0, 20, 100, 300]) } else { 0 },
        duplication: if has_faults { *random.pick(&[0, 50, 300]) } else { 0 },
        straggling: if has_faults { *random.pick(&[0, 50]) } else { 0 },
        straggle_ms: 3_000,
        notice_ms: random.between(1, 300),
    };
    let fails = has_faults && random.chance(200);
    let disk = DiskFaults {
        commit_min_ms: 1,
        commit_max_ms: *random.pick(&[1, 10, 200]),
        refused: if fails { 30 } else { 0 },
        misreported: if fails { 10 } else { 0 },
    };
    let options = SimOptions {
        nodes: random.between(2, 5) as usize,
        partitions: *random.pick(&[4, 16]),
        policy: BucketPolicy { n: 3, r, w, availability, ..BucketPolicy::default() },
        network,
        disk,
        skew_ms: *random.pick(&[0, 100, 10_000]),
        cover_ms: *random.pick(&[5, 100]),
        ..SimOptions::default()
    };
    let workload = Workload {
        requests: *random.pick(&[120, 300]),
        keys: random.between(1, 6) as usize,
        clients: random.between(1, 8) as usize,
        pause_ms: *random.pick(&[5, 40, 200]),
        cuts: has_faults && random.chance(600),
        crashes: has_faults && random.chance(500),
        wipes: false,
        jumps: random.chance(300),
        pauses: has_faults && random.chance(300),
        changes: true,
        deadlines: 0,
        removals: false,
        name_bytes: *random.pick(&[0, 300]),
    };
    (options, workload)
}

fn check(seed: u64) -> Sim {
    let (options, workload) = scenario(seed);
    match run_history(seed, options.clone(), &workload) {
        Ok((sim, _)) => sim,
        Err(wrong) => panic!(
            "seed {seed}: {wrong}\n{options:?}\n{workload:?}\n\
             run it again: MERGANSER_SEED={seed} cargo test -p simulator --test handover one_seed"
        ),
    }
}

#[test]
fn one_seed() {
    let seed = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok());
    check(seed.unwrap_or(1));
}

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

/// A member is killed for good and removed in the middle of it: what only it held is lost, and nothing
/// waits for it.
fn check_with_removals(seed: u64) {
    let (options, workload) = scenario(seed);
    let options = SimOptions { nodes: options.nodes.max(4), ..options };
    let workload = Workload { removals: true, ..workload };
    if let Err(wrong) = run_history(seed, options.clone(), &workload) {
        panic!("seed {seed}, with removals: {wrong}\n{options:?}\n{workload:?}");
    }
}

#[test]
fn one_seed_with_removals() {
    let seed = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok());
    check_with_removals(seed.unwrap_or(1));
}

#[test]
fn histories_of_seeds_1_to_250() {
    (1..=250).for_each(|seed| drop(check(seed)));
}

#[test]
fn histories_of_seeds_251_to_500() {
    (251..=500).for_each(|seed| drop(check(seed)));
}

#[test]
fn histories_with_removals_of_seeds_1_to_250() {
    (1..=250).for_each(check_with_removals);
}

/// The histories are of handovers: keys are sent to new owners, and dropped by former ones.
#[test]
fn histories_hand_keys_over() {
    let sims = (1..=25).map(check);
    let of = |sim: Sim| (0..sim.nodes()).filter_map(|node| sim.counters(node)).collect::<Vec<_>>();
    let counters: Vec<replication::Counters> = sims.flat_map(of).collect();
    let pulled: u64 = counters.iter().map(|counters| counters.keys_pulled).sum();
    let dropped: u64 = counters.iter().map(|counters| counters.keys_dropped).sum();
    assert!(pulled > 100 && dropped > 100, "{pulled} keys were pulled, {dropped} dropped");
}
