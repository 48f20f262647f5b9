//! Random histories of all operations of all types, under a network that loses, delays, copies and cuts, disks that
//! fail, crashes, and clocks that are wrong. Every invariant is checked after each.
//!
//! `cargo run --release -p simulator -- replay SEED --family FAMILY` runs one again and shows what
//! happened.

use std::ops::RangeInclusive;

use replication::BucketPolicy;
use simulator::{Coverage, Family, Fault, Scenario, Sessions, Share, Strikes, TraceFilter};

/// The same on every machine with the same mathematical library; others whenever the core or the simulation does something
/// else. With gossip and without.
const TRACES: [(Family, u64, u64); 5] = [
    (Family::All, 1, 0x7b74_ea8d_a8ae_1080),
    (Family::All, 2, 0xd017_6786_f937_62ef),
    (Family::Large, 3, 0xb982_0edf_f3c3_d8f9),
    (Family::Forgetting, 4, 0xbffa_28cf_ce1a_084e),
    (Family::AllRings, 5, 0x5e74_1ef8_c40e_a92c),
];

fn check_all(family: Family, seeds: RangeInclusive<u64>) {
    seeds.for_each(|seed| drop(Scenario::drawn(family, seed).check()));
}

/// Checks seeds, which together must have taken every way.
fn check_all_with_fallbacks(seeds: RangeInclusive<u64>) {
    let mut taken = [0; 3];
    for seed in seeds {
        let sim = Scenario::drawn(Family::Fallbacks, seed).check();
        for counters in (0..sim.nodes()).filter_map(|node| sim.counters(node)) {
            taken[0] += counters.hints_taken;
            taken[1] += counters.reads_hedged;
            taken[2] += counters.digests_differing;
        }
    }
    assert!(taken.iter().all(|&count| count > 100), "{taken:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| {
        let (sim, history) = Scenario::drawn(Family::Owners, seed).run().unwrap();
        (sim.trace_hash(), sim.now_ms(), sim.events(), format!("{:?}", history.records))
    };
    assert_eq!(trace(11), trace(11));
    assert_ne!(trace(11).0, trace(12).0);
}

/// Writing down what happens changes nothing, and neither does the machine: the hashes stand here.
#[test]
fn a_run_is_the_same_with_and_without_its_trace_and_on_every_machine() {
    for traced in [true, false] {
        let now = TRACES.map(|(family, seed, _)| {
            (family, seed, Scenario::drawn(family, seed).outcome(traced).trace_hash)
        });
        assert_eq!(now, TRACES);
    }
    let gossip = TRACES.map(|(family, seed, _)| Scenario::drawn(family, seed).options.gossip);
    assert!(gossip.contains(&true) && gossip.contains(&false));
}

// Two thousand seeds, in parts that run side by side.

#[test]
fn histories_of_seeds_1_to_500() {
    check_all(Family::Owners, 1..=500);
}

#[test]
fn histories_of_seeds_501_to_1000() {
    check_all(Family::Owners, 501..=1000);
}

#[test]
fn histories_of_seeds_1001_to_1500() {
    check_all(Family::Owners, 1001..=1500);
}

#[test]
fn histories_of_seeds_1501_to_2000() {
    check_all(Family::Owners, 1501..=2000);
}

#[test]
fn histories_with_lost_disks_of_seeds_1_to_400() {
    check_all(Family::LostDisks, 1..=400);
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
    check_all(Family::Deadlines, 1..=500);
}

#[test]
fn histories_with_deadlines_of_seeds_501_to_1000() {
    check_all(Family::Deadlines, 501..=1000);
}

// What is said goes to the ends of what is allowed, and deadlines are taken back out of hearing of some owner.

#[test]
fn histories_with_extremes_of_seeds_1_to_500() {
    check_all(Family::Extremes, 1..=500);
}

#[test]
fn histories_with_deadlines_taken_back_of_seeds_1_to_200() {
    check_all(Family::TakenBack, 1..=200);
}

// Increments with names, sent again and again through any node: every sum exact.

#[test]
fn increments_retried_with_names_count_once_seeds_1_to_750() {
    check_all(Family::Retries, 1..=750);
}

#[test]
fn increments_retried_with_names_count_once_seeds_751_to_1500() {
    check_all(Family::Retries, 751..=1500);
}

#[test]
fn what_is_shown_counts_once_though_names_are_folded() {
    check_all(Family::Names, 1..=300);
}

// All faults together.

#[test]
fn histories_with_all_faults_of_seeds_1_to_80_in_which_every_fault_comes() {
    let mut strikes = Strikes::default();
    for seed in 1..=80 {
        strikes.add(&Scenario::drawn(Family::All, seed).check().strikes());
    }
    // These alone have two rings,
    for seed in 1..=20 {
        strikes.add(&Scenario::drawn(Family::Rings, seed).check().strikes());
    }
    // and engines that hold little.
    for seed in 1..=20 {
        strikes.add(&Scenario::drawn(Family::Large, seed).check().strikes());
    }
    // and messages of those that died.
    for seed in 1..=20 {
        strikes.add(&Scenario::drawn(Family::LastWords, seed).check().strikes());
    }
    assert_eq!(strikes.missing(), Vec::<Fault>::new(), "{strikes:?}");
}

#[test]
fn histories_of_clusters_of_one_node_to_thirty_of_seeds_1_to_20() {
    check_all(Family::Sizes, 1..=20);
}

/// That nothing was wrong says little where little is judged.
#[test]
fn of_runs_with_all_faults_most_is_judged() {
    let mut coverage = Coverage::default();
    for seed in 1..=80 {
        coverage.add(&Scenario::drawn(Family::All, seed).outcome(false).coverage);
    }
    let judged = |share: Share| 100 * (share.all - share.broken) / share.all;
    let Coverage { updates, reads, keys, .. } = coverage;
    let per_cent = [updates, reads, keys].map(judged);
    assert!(
        per_cent[0] >= 75 && per_cent[1] >= 65 && per_cent[2] >= 90,
        "{per_cent:?}: {coverage}"
    );
}

/// The same over collections that are large for their engines.
#[test]
fn histories_with_all_faults_and_large_collections_of_seeds_1_to_60() {
    check_all(Family::Large, 1..=60);
}

// What a run tells beside whether anything is wrong.

#[test]
fn clients_see_their_own_writes_where_quorums_meet_and_not_always_elsewhere() {
    let mut sessions = Sessions::default();
    for seed in 1..=200 {
        sessions.add(&Scenario::drawn(Family::Fallbacks, seed).outcome(false).sessions);
    }
    assert_eq!(sessions.own_writes_strict.broken, 0, "{sessions}");
    let counted = [sessions.own_writes_strict, sessions.reads_strict, sessions.reads_sloppy];
    assert!(counted.iter().all(|share| share.all > 100), "{sessions}");
    assert!(sessions.own_writes_sloppy.broken > 0, "{sessions}");
}

#[test]
fn a_run_that_panics_has_a_trace_up_to_there() {
    let mut scenario = Scenario::drawn(Family::Owners, 1);
    // No bucket can be like that.
    scenario.options.second = Some(BucketPolicy { n: 2, r: 3, ..BucketPolicy::default() });
    let outcome = scenario.outcome(true);
    assert!(outcome.claim().is_some_and(|claim| claim == "panic"), "{:?}", outcome.wrong);
    assert!(outcome.trace.text(&TraceFilter::default()).contains("is called"));
}
