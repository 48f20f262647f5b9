//! A disk that is lost: what other owners hold comes back, though nobody reads it.

use serde_json::Value;

use super::process::{Spec, eventually, run, settled};

const KEYS: u32 = 300;
const MEMBERS: u32 = 3_000;

fn status(spec: &Spec) -> Option<Value> {
    let node = format!("127.0.0.1:{}", spec.peer);
    serde_json::from_slice(&run(&["--node", &node, "--json", "status"]).stdout).ok()
}

/// Waits until a node found all its partitions equal with every other owner. Returns its status.
fn compared(spec: &Spec) -> Value {
    eventually("all partitions are compared", || {
        let status = status(spec)?;
        let compared = &status["compared"];
        let all = compared["pairs"].as_u64().is_some_and(|pairs| pairs > 0);
        (all && compared["never"] == 0).then_some(status)
    })
}

#[test]
fn a_node_whose_directory_was_wiped_has_every_key_again_without_a_read() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let mut nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let mut redis = specs[0].redis();
    for number in 0..KEYS {
        let () = redis::cmd("SET").arg(format!("k{number}")).arg(number).query(&mut redis).unwrap();
    }
    for from in (0..MEMBERS).step_by(500) {
        let members: Vec<u32> = (from..from + 500).collect();
        let () = redis::cmd("SADD").arg("large").arg(members).query(&mut redis).unwrap();
    }
    settled(&specs);
    assert_eq!(nodes.pop().expect("there are three").terminate("-TERM"), Some(0));
    std::fs::remove_dir_all(&specs[2].data).unwrap();
    let third = specs[2].start();
    settled(&specs);
    for spec in &specs {
        let status = compared(spec);
        assert_eq!(status["counters"]["read_repairs"], 0, "{status}");
    }
    let node = format!("127.0.0.1:{}", specs[2].peer);
    let repaired = run(&["--node", &node, "--json", "repair"]);
    assert!(repaired.status.success(), "{}", String::from_utf8_lossy(&repaired.stderr));
    let repaired: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!(
        (&repaired["equal"], &repaired["unreachable"]),
        (&repaired["pairs"], &Value::from(0))
    );
    let listed = run(&["--node", &node, "--json", "comparisons", "--count", "1"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["pairs"], repaired["pairs"]);
    assert!(listed["comparisons"][0]["equal_ms_ago"].is_u64(), "{listed}");
    // With the other two gone, only what the third has itself can be read through it.
    nodes.into_iter().for_each(super::process::Process::kill);
    let mut redis = specs[2].redis();
    for number in 0..KEYS {
        let value: Option<u32> =
            redis::cmd("GET").arg(format!("k{number}")).query(&mut redis).unwrap();
        assert_eq!(value, Some(number), "k{number}");
    }
    let mut members: Vec<u32> = redis::cmd("SMEMBERS").arg("large").query(&mut redis).unwrap();
    members.sort_unstable();
    assert_eq!(members, (0..MEMBERS).collect::<Vec<_>>());
    drop(third);
}
