//! Handovers whose nodes are killed half-way, and several changes at once: nothing acknowledged is lost, and
//! in the end only owners hold a copy.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::agreement::{agree, json, rest, sees};
use super::load::{Ends, History, Load, further};
use super::process::{Process, Spec, is_long, within};

/// Longest wait for a handover to be half-way.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Founders and further nodes, whose handovers take their time.
fn slow(directory: &std::path::Path, founders: usize, others: usize) -> Vec<Spec> {
    let mut specs = Spec::founders_and_others(directory, founders, others);
    for spec in &mut specs {
        spec.settings += "anti_entropy_bytes_per_second = 300000\n";
    }
    specs
}

/// Puts long values there, so that there is something to move.
fn fill(spec: &Spec) {
    let mut redis = spec.redis();
    let value = "duck ".repeat(400);
    for number in 0..if is_long() { 4_000 } else { 800 } {
        let () = redis::cmd("SET")
            .arg(format!("fill{number}"))
            .arg(&value)
            .query(&mut redis)
            .expect("it is set");
    }
}

fn is_filled(spec: &Spec) {
    let mut redis = spec.redis();
    let value = "duck ".repeat(400);
    for number in 0..800 {
        let found: Option<String> =
            redis::cmd("GET").arg(format!("fill{number}")).query(&mut redis).expect("it reads");
        assert_eq!(found.as_deref(), Some(value.as_str()), "fill{number} at {}", spec.name);
    }
}

/// How many partitions do not follow the plan, as a node knows.
fn moving(spec: &Spec) -> Option<u64> {
    json(spec, &["status"])?["handover"]["partitions_moving"].as_u64()
}

/// Commits a plan, and waits until some partitions have followed it and some have not.
fn commit_half_way(spec: &Spec) {
    let report = json(spec, &["cluster", "commit"]).expect("it is committed");
    assert_eq!(report["changed"], true);
    let all = moving(spec).expect("it answers");
    let left =
        within(PATIENCE, "the handover is half-way", || moving(spec).filter(|&left| left < all));
    assert!(left > 0, "{left} of {all} partitions left: too fast to be interrupted");
}

fn connected(observers: &[Spec], others: &[Spec]) {
    for observer in observers {
        for other in others {
            sees(observer, &other.name, "connected", |member| member["connected"] == true);
        }
    }
}

fn in_state(spec: &Spec, name: &str, state: &str) {
    sees(spec, name, state, |member| member["state"] == *state);
}

/// Has a client of `specs` go on while `change` is done; what it was told.
fn under_load(specs: &[Spec], change: impl FnOnce(&dyn Fn(u32))) -> History {
    let is_over = AtomicBool::new(false);
    let progress = AtomicU32::new(0);
    let further = |count| further(&progress, count);
    let history = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let load = Load::new("load", specs, 0);
        let load = scope.spawn(|| load.until(&is_over, &progress));
        further(100);
        change(&further);
        further(100);
        is_over.store(true, Ordering::Relaxed);
        load.join().expect("the client ends")
    });
    println!(
        "{} done, {} tries elsewhere, the longest took {:?}",
        history.done(),
        history.elsewhere,
        history.longest
    );
    assert_eq!(history.failed, Vec::<String>::new());
    history
}

#[test]
fn a_node_that_joins_and_one_that_streams_to_it_are_killed_half_way_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let specs = slow(directory.path(), 3, 1);
    let mut nodes: Vec<Process> = specs.iter().map(Spec::start).collect();
    connected(&specs, &specs);
    fill(&specs[0]);
    let history = under_load(&specs[1..3], |further| {
        commit_half_way(&specs[1]);
        nodes.pop().expect("there are four").kill();
        further(100);
        nodes.push(specs[3].start());
        connected(&specs, &specs);
        // One that streams, and drives a third of the partitions.
        nodes.remove(0).kill();
        further(100);
        nodes.insert(0, specs[0].start());
        rest(&specs);
    });
    for spec in &specs {
        in_state(spec, &specs[3].name, "up");
    }
    agree(&specs, &[&history]);
    is_filled(&specs[3]);
}

#[test]
fn two_nodes_join_at_once_while_one_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let specs = slow(directory.path(), 3, 2);
    let mut nodes: Vec<Process> = specs.iter().map(Spec::start).collect();
    connected(&specs, &specs);
    fill(&specs[0]);
    let stay: Vec<Spec> = [0, 2, 3, 4].map(|at: usize| specs[at].clone()).to_vec();
    let history = under_load(&[specs[0].clone(), specs[2].clone()], |further| {
        json(&specs[0], &["cluster", "leave", "n2"]).expect("it leaves");
        in_state(&specs[2], "n2", "leaving");
        json(&specs[2], &["cluster", "commit"]).expect("it is committed");
        further(100);
        in_state(&specs[0], "n2", "left");
        assert_eq!(nodes.remove(1).terminate("-TERM"), Some(0));
        rest(&stay);
    });
    for name in ["n4", "n5"] {
        in_state(&specs[0], name, "up");
    }
    agree(&stay, &[&history]);
    stay.iter().for_each(is_filled);
}

#[test]
fn three_nodes_become_five_and_three_again_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::founders_and_others(directory.path(), 3, 2);
    let (founders, others) = specs.split_at(3);
    let mut nodes: Vec<Process> = founders.iter().map(Spec::start).collect();
    rest(founders);
    let history = under_load(founders, |further| {
        nodes.extend(others.iter().map(Spec::start));
        connected(&specs, &specs);
        json(&specs[0], &["cluster", "commit"]).expect("it is committed");
        rest(&specs);
        further(100);
        for other in others {
            json(&specs[0], &["cluster", "leave", &other.name]).expect("it leaves");
            in_state(&specs[1], &other.name, "leaving");
        }
        json(&specs[1], &["cluster", "commit"]).expect("it is committed");
        for other in others {
            in_state(&specs[0], &other.name, "left");
        }
        for node in nodes.drain(3..) {
            assert_eq!(node.terminate("-TERM"), Some(0));
        }
    });
    agree(founders, &[&history]);
}
