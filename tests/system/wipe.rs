//! A disk that is lost: what other owners hold comes back, though nobody reads it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::agreement::{agree, json};
use super::load::Load;
use super::process::{HASTY, Process, Spec, eventually, settled};

const MEMBERS: u32 = 3_000;

/// Waits until a node found all its partitions equal with every other owner. Returns its status.
fn compared(spec: &Spec) -> Value {
    eventually("all partitions are compared", || {
        let status = json(spec, &["status"])?;
        let compared = &status["compared"];
        let all = compared["pairs"].as_u64().is_some_and(|pairs| pairs > 0);
        (all && compared["never"] == 0).then_some(status)
    })
}

fn read_repairs(spec: &Spec) -> Value {
    json(spec, &["status"]).expect("it answers")["counters"]["read_repairs"].clone()
}

/// Counts once at a node.
fn count_at(spec: &Spec) {
    let _: i64 =
        redis::cmd("INCR").arg("starts").query(&mut spec.redis()).expect("the node counts");
}

/// By how many actors of a node what `count_at` counted was counted.
fn counting_actors(spec: &Spec, node: &str) -> usize {
    let found = json(spec, &["explain", "starts"]).expect("it is there");
    let types = found["merged"].as_object().expect("types").values();
    let entries = types.flat_map(|of_type| of_type["entries"].as_array().expect("a list"));
    let of_node = format!("{node}:");
    let is_of_node = |dot: &Value| dot.as_str().is_some_and(|dot| dot.starts_with(&of_node));
    let dots = entries.flat_map(|entry| entry["dots"].as_array().expect("a list"));
    dots.filter(|dot| is_of_node(dot)).count()
}

#[test]
fn a_killed_node_whose_directory_was_wiped_has_everything_again_without_a_read_and_a_new_actor() {
    let directory = tempfile::tempdir().unwrap();
    let mut specs = Spec::cluster(directory.path(), 3);
    specs.iter_mut().for_each(|spec| spec.settings += HASTY);
    let mut nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let mut redis = specs[0].redis();
    for from in (0..MEMBERS).step_by(500) {
        let members: Vec<u32> = (from..from + 500).collect();
        let () = redis::cmd("SADD").arg("large").arg(members).query(&mut redis).unwrap();
    }
    // Through the node whose disk will be lost, and the others.
    let mut load = Load::new("load", &specs, 2);
    load.go_on(400);
    count_at(&specs[2]);
    settled(&specs);

    nodes.pop().expect("there are three").kill();
    load.go_to(&specs[..2]);
    load.go_on(400);
    load.remove_where(|number| number % 3 == 0);
    let repaired: Vec<Value> = specs[..2].iter().map(read_repairs).collect();
    std::fs::remove_dir_all(&specs[2].data).unwrap();
    let third = specs[2].start();
    settled(&specs);
    for (spec, before) in specs.iter().zip(repaired.into_iter().chain([0.into()])) {
        let status = compared(spec);
        assert_eq!(status["counters"]["read_repairs"], before, "{status}");
    }
    let listed = json(&specs[2], &["comparisons", "--count", "1"]).expect("it answers");
    let asked = json(&specs[2], &["repair"]).expect("it answers");
    assert_eq!(listed["pairs"], asked["pairs"]);
    assert!(listed["comparisons"][0]["equal_ms_ago"].is_u64(), "{listed}");

    load.go_to(&specs[2..]);
    load.go_on(400);
    load.remove_where(|number| number % 5 == 0);
    count_at(&specs[2]);
    let history = load.end();
    assert_eq!(history.failed, Vec::<String>::new());
    agree(&specs, &[&history]);
    // Not the one before, which had counted once already.
    assert_eq!(counting_actors(&specs[0], "n3"), 2);
    // With the other two gone, only what the third has itself can be read through it.
    nodes.into_iter().for_each(Process::kill);
    assert_eq!(history.fault_shown_by(&specs[2]), None);
    let mut redis = specs[2].redis();
    let members: BTreeSet<u32> = redis::cmd("SMEMBERS").arg("large").query(&mut redis).unwrap();
    assert_eq!(members, (0..MEMBERS).collect());
    let starts: u32 = redis::cmd("GET").arg("starts").query(&mut redis).unwrap();
    assert_eq!(starts, 2);
    drop(third);
}
