//! Two rings that were bootstrapped apart under one name: they refuse each other and serve on, and become one
//! by command, with nothing lost of either.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::agreement::{agree, json, member, sees};
use super::load::{Ends, History, Load, further};
use super::process::{Process, Spec, eventually, run, within};

/// Longest wait for nodes to go over to another ring.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two rings of three nodes each, begun by mistake, and what a client of each was told: both write to the same
/// sets, and count the same.
fn rings(directory: &std::path::Path) -> (Vec<Spec>, Vec<Process>, [History; 2]) {
    let mut specs = Spec::founders_and_others(directory, 1, 5);
    let seeds = [specs[0].peer, specs[3].peer];
    for (at, spec) in specs.iter_mut().enumerate() {
        spec.members = Vec::new();
        spec.bootstrap = at % 3 == 0;
        spec.seeds = if spec.bootstrap { Vec::new() } else { vec![seeds[at / 3]] };
    }
    let nodes = specs.iter().map(Spec::start).collect();
    for ring in specs.chunks(3) {
        for other in ring {
            sees(&ring[0], &other.name, "connected", |member| member["connected"] == true);
        }
        json(&ring[0], &["cluster", "commit"]).expect("it is committed");
    }
    specs.chunks(3).for_each(|ring| agree(ring, &[]));
    let mut loads =
        [Load::new("both", &specs[..3], 0), Load::new("both", &specs[3..], 0).from(14_000)];
    for (load, ring) in loads.iter_mut().zip(specs.chunks(3)) {
        load.go_on(400);
        let mut redis = ring[0].redis();
        for _ in 0..20 {
            let _: i64 = redis::cmd("INCR").arg("counted").query(&mut redis).expect("it counts");
        }
    }
    (specs, nodes, loads.map(Load::end))
}

fn counted(spec: &Spec) -> i64 {
    redis::cmd("GET").arg("counted").query(&mut spec.redis()).expect("it reads")
}

#[test]
fn two_rings_bootstrapped_apart_refuse_each_other_and_are_merged_by_command_with_nothing_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (specs, mut nodes, [first, second]) = rings(directory.path());
    // Joined as they are, the plan and tenures of the first would win, by the ids of its nodes.
    let (goes, stays) = specs.split_at(3);
    let seed = format!("127.0.0.1:{}", stays[0].peer);

    // Started again with a seed of the other one it says that they are apart, and serves on.
    assert_eq!(nodes.remove(2).terminate("-TERM"), Some(0));
    let astray = Spec { seeds: vec![stays[0].peer], ..goes[2].clone() };
    nodes.insert(2, astray.start());
    agree(goes, &[&first]);
    assert_eq!(member(&stays[0], "n3"), None);
    assert_eq!((counted(&stays[0]), counted(&goes[2])), (20, 20));

    // Nothing is left behind.
    assert_eq!(nodes.remove(1).terminate("-TERM"), Some(0));
    sees(&goes[0], "n2", "not connected", |member| member["connected"] == false);
    let by = format!("127.0.0.1:{}", goes[0].peer);
    let refused = run(&["--node", &by, "cluster", "merge", &seed]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("\"n2\" cannot be reached, and what it holds would be left behind"),
        "{said}"
    );
    nodes.insert(1, goes[1].start());
    sees(&goes[0], "n2", "connected", |member| member["connected"] == true);

    let is_over = AtomicBool::new(false);
    let progress = AtomicU32::new(0);
    let third = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        // A client that knows all nodes, of the ring that goes over first.
        let load = Load::new("both", &specs, 0).from(28_000);
        let load = scope.spawn(|| load.until(&is_over, &progress));
        let further = |count| further(&progress, count);
        further(100);
        let merged = run(&["--node", &by, "cluster", "merge", &seed]);
        assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
        // Wherever it is on its way, it goes on when it starts again.
        nodes.remove(2).kill();
        nodes.insert(2, goes[2].start());
        for spec in stays {
            for name in ["n1", "n2", "n3"] {
                within(PATIENCE, &format!("{} has {name} as one that joins", spec.name), || {
                    let found = member(spec, name)?;
                    (found["state"] == "joining" && found["connected"] == true).then_some(())
                });
            }
        }
        further(100);
        // All go by the ownership of the ring that stays: of the other one's nothing is left.
        for spec in &specs {
            within(PATIENCE, &format!("{} goes by the ring that stays", spec.name), || {
                let status = json(spec, &["status"])?;
                let members = status["members"].as_array()?.iter();
                let owners = members.filter(|member| member["partitions"] != 0);
                let owners: Vec<&str> =
                    owners.filter_map(|member| member["name"].as_str()).collect();
                let is_still = status["handover"]["partitions_moving"] == 0;
                (is_still && owners.iter().all(|name| ["n4", "n5", "n6"].contains(name)))
                    .then_some(())
            });
        }
        let report = json(&stays[0], &["cluster", "commit"]).expect("it is committed");
        assert_eq!(report["changed"], true);
        further(100);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_eq!(third.failed, Vec::<String>::new());
    agree(&specs, &[&first, &second, &third]);
    for spec in &specs {
        assert_eq!(counted(spec), 40, "at {}", spec.name);
        eventually("it owns its share", || {
            member(&stays[0], &spec.name)?["partitions"].as_u64().filter(|&count| count > 0)
        });
    }
    // It is one ring, also for those that start again as they did before.
    assert_eq!(nodes.remove(0).terminate("-TERM"), Some(0));
    nodes.insert(0, goes[0].start());
    agree(&specs, &[&first, &second, &third]);
    let again = run(&["--node", &by, "cluster", "merge", &seed]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("the two are one ring already"), "{said}");
}
