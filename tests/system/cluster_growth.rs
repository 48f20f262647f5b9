//! A member that gets partitions and gives them up again, while clients go on: nothing acknowledged is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use redis::Connection;
use serde_json::Value;

use super::process::{Process, Spec, run, settled, within};

/// Longest wait for a handover of all partitions.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: u64 = 64;
/// Writes before and while members change, at most: a bounded load.
const WRITES_MAX: u32 = 2_000;

fn json(spec: &Spec, arguments: &[&str]) -> Option<Value> {
    let address = format!("127.0.0.1:{}", spec.peer);
    let arguments = [&["--node", &address, "--json"], arguments].concat();
    let output = run(&arguments);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("it is JSON"))
}

fn member(spec: &Spec, name: &str) -> Option<Value> {
    let status = json(spec, &["status"])?;
    status["members"].as_array()?.iter().find(|member| member["name"] == name).cloned()
}

/// Waits until all partitions follow the plan, and nobody holds what it does not own.
fn nothing_moves(specs: &[Spec], version: u64) {
    for spec in specs {
        within(PATIENCE, &format!("nothing moves at {}", spec.name), || {
            let status = json(spec, &["status"])?;
            let counts = ["partitions_moving", "receiving", "driving", "departing"];
            let is_over = counts.iter().all(|name| status["handover"][*name] == 0);
            (is_over && status["ring_version"] == version).then_some(())
        });
        within(PATIENCE, &format!("{} says that nothing moves anywhere", spec.name), || {
            let moves = json(spec, &["cluster", "status"])?;
            (moves["transfers"] == serde_json::json!([])).then_some(())
        });
    }
}

/// Commits what members are now; how many copies of partitions move.
fn commit(spec: &Spec, version: u64) -> u64 {
    let tried = json(spec, &["cluster", "plan"]).expect("it can be tried");
    let report = json(spec, &["cluster", "commit"]).expect("it is committed");
    assert_eq!((&report["version"], &report["changed"]), (&version.into(), &true.into()));
    assert_eq!((&report["members"], &report["staged"]), (&tried["members"], &tried["staged"]));
    report["copies"].as_u64().expect("a count")
}

fn set(redis: &mut Connection, number: u32) -> redis::RedisResult<()> {
    let () = redis::cmd("SET").arg(format!("k{number}")).arg(number).query(redis)?;
    redis::cmd("SADD").arg(format!("s{}", number % 7)).arg(number).query(redis)
}

/// Writes through the nodes, one after the other, until told to end; what was acknowledged, and how many
/// writes were not.
fn write(specs: &[Spec], from: u32, is_over: &AtomicBool) -> (Vec<u32>, usize) {
    let mut connections: Vec<Connection> = specs.iter().map(Spec::redis).collect();
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for number in from..from + WRITES_MAX {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let at = number as usize % connections.len();
        match set(&mut connections[at], number) {
            Ok(()) => acknowledged.push(number),
            Err(_) => failed += 1,
        }
    }
    (acknowledged, failed)
}

fn assert_all_there(specs: &[Spec], acknowledged: &[u32]) {
    for spec in specs {
        let mut redis = spec.redis();
        for some in acknowledged.chunks(500) {
            let keys: Vec<String> = some.iter().map(|number| format!("k{number}")).collect();
            let found: Vec<Option<u32>> =
                redis::cmd("MGET").arg(&keys).query(&mut redis).expect("it reads");
            let lost = some.iter().zip(&found).filter(|&(number, found)| *found != Some(*number));
            assert_eq!(lost.map(|(number, _)| number).collect::<Vec<_>>(), Vec::<&u32>::new());
        }
        for set in 0..7 {
            let members: std::collections::BTreeSet<u32> =
                redis::cmd("SMEMBERS").arg(format!("s{set}")).query(&mut redis).expect("it reads");
            let wanted = acknowledged.iter().filter(|&number| number % 7 == set);
            let lost: Vec<&u32> = wanted.filter(|number| !members.contains(number)).collect();
            assert_eq!(lost, Vec::<&u32>::new(), "of s{set} at {}", spec.name);
        }
    }
}

#[test]
fn a_joined_member_gets_its_share_and_gives_it_up_again_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut specs = Spec::cluster(directory.path(), 4);
    specs.iter_mut().for_each(|spec| spec.settings = format!("partitions = {PARTITIONS}\n"));
    let mut fourth = specs.pop().unwrap();
    for spec in &mut specs {
        spec.members.pop();
    }
    (fourth.members, fourth.seeds) = (Vec::new(), vec![specs[0].peer]);
    let all: Vec<Spec> = specs.iter().chain([&fourth]).cloned().collect();

    let _founders: Vec<Process> = specs.iter().map(Spec::start).collect();
    let mut acknowledged = write(&specs, 0, &AtomicBool::new(false)).0;
    let joined = fourth.start();
    for spec in &specs {
        within(PATIENCE, "the fourth is connected", || {
            (member(spec, "n4")?["connected"] == true).then_some(())
        });
    }
    let is_over = AtomicBool::new(false);
    let (to_four, (more, failed)) = thread::scope(|scope| {
        let load = scope.spawn(|| write(&specs, WRITES_MAX, &is_over));
        let copies = commit(&specs[1], 2);
        nothing_moves(&all, 2);
        is_over.store(true, Ordering::Relaxed);
        (copies, load.join().unwrap())
    });
    println!(
        "to four: {to_four} copies move, least {}; {} writes acknowledged meanwhile, {failed} not",
        PARTITIONS * 3 / 4,
        more.len()
    );
    // The new one's share, and nothing else.
    assert_eq!(to_four, PARTITIONS * 3 / 4);
    assert!(!more.is_empty());
    assert_eq!(failed, 0);
    acknowledged.extend(more);
    let is_owner = |spec: &Spec| {
        let found = member(spec, "n4")?;
        (found["state"] == "up" && found["partitions"] == PARTITIONS / 4).then_some(())
    };
    all.iter().for_each(|spec| within(PATIENCE, "n4 is up", || is_owner(spec)));
    let again = json(&specs[0], &["cluster", "commit"]).unwrap();
    assert_eq!((&again["version"], &again["changed"]), (&2.into(), &false.into()));
    settled(&all);
    assert_all_there(&all, &acknowledged);

    json(&specs[0], &["cluster", "leave", "n4"]).expect("it leaves");
    within(PATIENCE, "n4 leaves", || {
        (member(&specs[2], "n4")?["state"] == "leaving").then_some(())
    });
    let is_over = AtomicBool::new(false);
    let (to_three, (more, failed)) = thread::scope(|scope| {
        let load = scope.spawn(|| write(&specs, 2 * WRITES_MAX, &is_over));
        let copies = commit(&specs[2], 3);
        nothing_moves(&specs, 3);
        within(PATIENCE, "n4 has left", || {
            (member(&specs[0], "n4")?["state"] == "left").then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
        (copies, load.join().unwrap())
    });
    println!(
        "to three: {to_three} copies move, least {}; {} writes acknowledged meanwhile, {failed} not",
        PARTITIONS * 3 / 4,
        more.len()
    );
    assert_eq!(to_three, PARTITIONS * 3 / 4);
    assert!(!more.is_empty());
    assert_eq!(failed, 0);
    acknowledged.extend(more);
    assert_eq!(joined.terminate("-TERM"), Some(0));
    assert_all_there(&specs, &acknowledged);
}
