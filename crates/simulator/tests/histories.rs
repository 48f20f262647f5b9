//! Random histories of all operations of all types, under a network that loses, delays, copies and cuts, disks that
//! fail, crashes, and clocks that are wrong. Every invariant is checked after each.
//!
//! `MERGANSER_SEED=<seed> cargo test -p simulator --test histories one_seed` runs one seed again.

use std::ops::RangeInclusive;

use replication::{Availability, BucketPolicy};
use simulator::{
    DiskFaults, NetworkFaults, Random, Sim, SimOptions, Workload, run_history, run_retries,
};

/// Everything about a run follows from its seed.
fn scenario(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0dd5_ca1e);
    let nodes = random.between(3, 5) as usize;
    let (r, w) = *random.pick(&[(2, 2), (2, 2), (2, 2), (1, 3), (3, 1), (1, 1)]);
    let availability = if random.chance(250) { Availability::Quorum } else { Availability::Always };
    let network = NetworkFaults {
        delay_min_ms: 1,
        delay_max_ms: random.between(1, 30),
        loss: *random.pick(&[0, 0, 20, 100, 300]),
        duplication: *random.pick(&[0, 50, 300]),
        straggling: *random.pick(&[0, 0, 50]),
        straggle_ms: 3_000,
        notice_ms: random.between(1, 300),
    };
    let fails = random.chance(200);
    let disk = DiskFaults {
        commit_min_ms: 1,
        commit_max_ms: *random.pick(&[1, 10, 200]),
        refused: if fails { 30 } else { 0 },
        misreported: if fails { 10 } else { 0 },
    };
    let options = SimOptions {
        nodes,
        partitions: 16,
        policy: BucketPolicy { n: 3, r, w, availability, ..BucketPolicy::default() },
        network,
        disk,
        skew_ms: *random.pick(&[0, 100, 10_000]),
        ..SimOptions::default()
    };
    let workload = Workload {
        requests: 120,
        keys: random.between(1, 4) as usize,
        clients: random.between(1, 8) as usize,
        pause_ms: *random.pick(&[5, 40, 200]),
        cuts: random.chance(700),
        crashes: random.chance(500),
        wipes: false,
        jumps: random.chance(300),
        pauses: false,
        changes: false,
        removals: false,
        name_bytes: 0,
        deadlines: 0,
    };
    (options, workload)
}

/// As [`scenario`], with more nodes than owners, of which some are paused now and then: what owners
/// miss is kept by fallbacks.
fn scenario_with_fallbacks(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0fa1_1bac);
    let (options, workload) = scenario(seed);
    let nodes = random.between(4, 5) as usize;
    let cover_ms = *random.pick(&[5, 20, 100]);
    let crashes = random.chance(500);
    let name_bytes = *random.pick(&[0, 300]);
    let workload = Workload { crashes, pauses: true, name_bytes, ..workload };
    (SimOptions { nodes, cover_ms, ..options }, workload)
}

/// As [`scenario_with_fallbacks`], with keys that have deadlines.
fn scenario_with_deadlines(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0dea_d11e);
    let (options, workload) =
        if random.chance(500) { scenario(seed) } else { scenario_with_fallbacks(seed) };
    let deadlines = *random.pick(&[100, 400]);
    (options, Workload { deadlines, ..workload })
}

/// As [`scenario`], with disks that are lost: of what they alone held nothing is promised.
fn check_with_lost_disks(seed: u64) {
    let (options, workload) = scenario(seed);
    let workload = Workload { crashes: true, wipes: true, ..workload };
    if let Err(wrong) = run_history(seed, options.clone(), &workload) {
        panic!("seed {seed}, with lost disks: {wrong}\n{options:?}\n{workload:?}");
    }
}

fn check(seed: u64) {
    check_scenario(seed, scenario(seed), "one_seed");
}

fn check_with_fallbacks(seed: u64) -> Sim {
    check_scenario(seed, scenario_with_fallbacks(seed), "one_seed_with_fallbacks")
}

fn check_with_deadlines(seed: u64) {
    check_scenario(seed, scenario_with_deadlines(seed), "one_seed_with_deadlines");
}

/// Checks seeds, which together must have taken every way.
fn check_all_with_fallbacks(seeds: RangeInclusive<u64>) {
    let mut taken = [0; 3];
    for seed in seeds {
        let sim = check_with_fallbacks(seed);
        for counters in (0..sim.nodes()).filter_map(|node| sim.counters(node)) {
            taken[0] += counters.hints_taken;
            taken[1] += counters.reads_hedged;
            taken[2] += counters.digests_differing;
        }
    }
    assert!(taken.iter().all(|&count| count > 100), "{taken:?}");
}

fn check_scenario(seed: u64, (options, workload): (SimOptions, Workload), again: &str) -> Sim {
    match run_history(seed, options.clone(), &workload) {
        Ok((sim, _)) => sim,
        Err(wrong) => panic!(
            "seed {seed}: {wrong}\n{options:?}\n{workload:?}\n\
             run it again: MERGANSER_SEED={seed} cargo test -p simulator --test histories {again}"
        ),
    }
}

/// The seed that the environment names, or the first.
#[test]
fn one_seed() {
    let seed = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok());
    check(seed.unwrap_or(1));
}

#[test]
fn one_seed_with_fallbacks() {
    let seed = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok());
    check_with_fallbacks(seed.unwrap_or(1));
}

#[test]
fn one_seed_with_deadlines() {
    let seed = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok());
    check_with_deadlines(seed.unwrap_or(1));
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| {
        let (options, workload) = scenario(seed);
        let (sim, history) = run_history(seed, options, &workload).unwrap();
        (sim.trace_hash(), sim.now_ms(), sim.events(), format!("{:?}", history.records))
    };
    assert_eq!(trace(11), trace(11));
    assert_ne!(trace(11).0, trace(12).0);
}

// Two thousand seeds, in parts that run side by side.

#[test]
fn histories_of_seeds_1_to_500() {
    (1..=500).for_each(check);
}

#[test]
fn histories_of_seeds_501_to_1000() {
    (501..=1000).for_each(check);
}

#[test]
fn histories_of_seeds_1001_to_1500() {
    (1001..=1500).for_each(check);
}

#[test]
fn histories_of_seeds_1501_to_2000() {
    (1501..=2000).for_each(check);
}

#[test]
fn histories_with_lost_disks_of_seeds_1_to_400() {
    (1..=400).for_each(check_with_lost_disks);
}

// As many with fallbacks and pauses.

#[test]
fn histories_with_fallbacks_of_seeds_1_to_500() {
    check_all_with_fallbacks(1..=500);
}

#[test]
fn histories_with_fallbacks_of_seeds_501_to_1000() {
    check_all_with_fallbacks(501..=1000);
}

#[test]
fn histories_with_fallbacks_of_seeds_1001_to_1500() {
    check_all_with_fallbacks(1001..=1500);
}

#[test]
fn histories_with_fallbacks_of_seeds_1501_to_2000() {
    check_all_with_fallbacks(1501..=2000);
}

// And with deadlines.

#[test]
fn histories_with_deadlines_of_seeds_1_to_500() {
    (1..=500).for_each(check_with_deadlines);
}

#[test]
fn histories_with_deadlines_of_seeds_501_to_1000() {
    (501..=1000).for_each(check_with_deadlines);
}

/// Increments with names, sent again and again through any node: every sum exact.
fn check_retries(seed: u64, (options, workload): (SimOptions, Workload)) {
    let options = SimOptions { skew_ms: 0, ..options };
    if let Err(wrong) = run_retries(seed, options.clone(), &workload) {
        panic!("seed {seed}: {wrong}\n{options:?}\n{workload:?}");
    }
}

#[test]
fn increments_retried_with_names_count_once_seeds_1_to_500() {
    (1..=500).for_each(|seed| check_retries(seed, scenario(seed)));
}

#[test]
fn increments_retried_with_names_count_once_seeds_501_to_1000() {
    (501..=1000).for_each(|seed| check_retries(seed, scenario(seed)));
}

#[test]
fn increments_retried_with_names_count_once_with_fallbacks_seeds_1_to_500() {
    (1..=500).for_each(|seed| check_retries(seed, scenario_with_fallbacks(seed)));
}
