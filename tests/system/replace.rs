//! A node whose disk is lost for good, and another one in its place.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::agreement::{agree, json, member, rest, sees};
use super::load::{Ends, Load, further};
use super::process::{Process, Spec, run};

/// How many of the partitions each member is the first owner of, by name.
fn owned(spec: &Spec) -> Vec<(String, u64)> {
    let status = json(spec, &["status"]).expect("it answers");
    let members = status["members"].as_array().expect("a list").iter();
    let owned = members.map(|member| {
        let name = member["name"].as_str().expect("a name").to_owned();
        (name, member["partitions"].as_u64().expect("a count"))
    });
    owned.collect()
}

#[test]
fn a_node_takes_the_places_of_one_whose_disk_is_lost_and_nothing_acknowledged_is() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::founders_and_others(directory.path(), 4, 1);
    let (old, new) = (specs[3].clone(), specs[4].clone());
    let left: Vec<Spec> = specs.iter().filter(|spec| spec.name != old.name).cloned().collect();
    let mut nodes: Vec<Process> = specs[..4].iter().map(Spec::start).collect();
    rest(&specs[..4]);
    let before = owned(&specs[0]);
    let is_over = AtomicBool::new(false);
    let progress = AtomicU32::new(0);
    let further = |count| further(&progress, count);
    let history = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let load = Load::new("load", &specs[..3], 0);
        let load = scope.spawn(|| load.until(&is_over, &progress));
        further(400);
        nodes.pop().expect("there are four").kill();
        std::fs::remove_dir_all(&old.data).unwrap();
        // It leaves hints behind.
        further(400);
        nodes.push(new.start());
        for spec in &left {
            sees(spec, &new.name, "connected", |member| member["connected"] == true);
        }
        let by = format!("127.0.0.1:{}", specs[1].peer);
        let alive = run(&["--node", &by, "cluster", "replace", "n1", &new.name]);
        assert!(!alive.status.success(), "n1 is alive");
        sees(&specs[1], &old.name, "suspected", |member| member["suspected"] == true);
        let tried = json(&specs[1], &["cluster", "plan", "--replace", &old.name, &new.name]);
        assert_eq!(member(&specs[1], &old.name).unwrap()["state"], "up");
        let report = json(&specs[1], &["cluster", "replace", &old.name, &new.name]);
        let report = report.expect("it is replaced");
        assert_eq!((&report["version"], &report["changed"]), (&2.into(), &true.into()));
        assert_eq!(report["members"], tried.expect("it can be tried")["members"]);
        assert_eq!(
            report["warnings"],
            serde_json::json!([]),
            "it has the zone and weight of the old one"
        );
        // Only the new one gets anything.
        let moves = report["members"].as_array().unwrap();
        let gets: Vec<_> = moves.iter().filter(|moves| moves["gets"] != 0).collect();
        assert_eq!(gets.len(), 1, "{moves:?}");
        assert_eq!(gets[0]["name"], *new.name);
        further(400);
        rest(&left);
        further(100);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    println!(
        "{} done, {} tries elsewhere, the longest took {:?}",
        history.done(),
        history.elsewhere,
        history.longest
    );
    assert_eq!(history.failed, Vec::<String>::new());
    agree(&left, &[&history]);
    // The new one owns what the old one did, the others what they owned before.
    let after = owned(&specs[0]);
    let of = |owned: &[(String, u64)], name: &str| {
        owned.iter().find(|(of, _)| of == name).map_or(0, |(_, count)| *count)
    };
    for spec in &specs[..3] {
        assert_eq!(of(&after, &spec.name), of(&before, &spec.name), "{}", spec.name);
    }
    assert_eq!((of(&after, &new.name), of(&after, &old.name)), (of(&before, &old.name), 0));
    let again = json(&specs[0], &["cluster", "commit"]).unwrap();
    assert_eq!((&again["version"], &again["changed"]), (&2.into(), &false.into()));
    assert_eq!(member(&specs[0], &old.name).unwrap()["state"], "removed");
}
