//! What is left of deleted keys is forgotten by all members together, and what was deleted does not come back: from
//! a node that was away, one that was paused, one with the disk of an earlier day.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, Spec, eventually, run, settled, within};

const KEYS: u32 = 40;

/// Three nodes that begin a round of the barrier as soon as there is something to forget.
struct Cluster {
    directory: tempfile::TempDir,
    specs: Vec<Spec>,
    nodes: Vec<Option<Process>>,
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let mut specs = Spec::cluster(directory.path(), 3);
        // Few partitions: all of them are handed over in one of the tests. What is under way for a node
        // that is away is to end soon: a round waits for it.
        let settings = "barrier_interval_s = 1\nloops = 2\npartitions = 64\ntimeout_ms = 5000\ncover_ms = 300\n";
        specs.iter_mut().for_each(|spec| spec.settings += settings);
        let mut cluster = Self { directory, specs, nodes: vec![None, None, None] };
        (0..3).for_each(|at| cluster.begin(at));
        settled(&cluster.specs);
        cluster
    }

    fn begin(&mut self, at: usize) {
        self.nodes[at] = Some(self.specs[at].start());
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("it runs").kill();
    }

    fn signal(&self, at: usize, signal: &str) {
        let id = self.nodes[at].as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill exists").success());
    }

    /// Has a node do the same for all keys of this test, or for others.
    fn each(&self, at: usize, command: &str, names: &str, more: &[&str]) {
        let mut redis = self.specs[at].redis();
        for number in 0..KEYS {
            let name = format!("{names}{number}");
            let () = redis::cmd(command)
                .arg(name)
                .arg(more)
                .query(&mut redis)
                .unwrap_or_else(|error| panic!("{command} at node {at}: {error}"));
        }
    }

    /// Strings, sets and counters, and deletes them.
    fn write(&self, at: usize) {
        self.each(at, "SET", "string", &["value"]);
        self.each(at, "SADD", "set", &["a", "b"]);
        self.each(at, "INCRBY", "counter", &["3"]);
    }

    fn delete(&self, at: usize) {
        ["string", "set", "counter"].iter().for_each(|names| self.each(at, "DEL", names, &[]));
    }

    /// Nothing that was deleted is there, whichever node is asked.
    fn assert_gone(&self) {
        for spec in &self.specs {
            let mut redis = spec.redis();
            for names in ["string", "set", "counter"] {
                let names: Vec<String> = (0..KEYS).map(|n| format!("{names}{n}")).collect();
                let live: u32 =
                    redis::cmd("EXISTS").arg(&names).query(&mut redis).expect("it answers");
                assert_eq!(live, 0, "{} shows {names:?}", spec.name);
            }
        }
    }

    fn status(&self, at: usize) -> Option<Value> {
        let node = format!("127.0.0.1:{}", self.specs[at].peer);
        serde_json::from_slice(&run(&["--node", &node, "--json", "status"]).stdout).ok()
    }

    /// Waits until a node says this of its barrier.
    fn barrier(&self, at: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{} says of its barrier {what}", self.specs[at].name), || {
            let barrier = self.status(at)?["barrier"].clone();
            is(&barrier).then_some(barrier)
        })
    }

    /// Waits until all nodes show so many keys, and have forgotten what was deleted. What one had forgotten may
    /// come back from another that got it later, and goes with the next round: so all are looked at twice.
    fn forgotten(&self, keys: u32) {
        let mut last = None;
        eventually("all have forgotten", || {
            let rounds: Option<Vec<u64>> = (0..3).map(|at| self.is_over(at, keys)).collect();
            let is_same = rounds.is_some() && rounds == last;
            last = rounds;
            is_same.then_some(())
        });
    }

    /// In which round a node is, if there is nothing to be forgotten there.
    fn is_over(&self, at: usize, keys: u32) -> Option<u64> {
        let status = self.status(at)?;
        let barrier = &status["barrier"];
        let is_over = barrier["stage"] == "hidden"
            && barrier["forgotten"] == barrier["round"]
            && barrier["has_remnants"] == false;
        (is_over && status["keys"] == keys).then(|| number(barrier, "round"))
    }

    /// Stops all, and looks for what their disks hold of keys.
    fn assert_rows(mut self, expected: u32) {
        for at in 0..3 {
            let ended = self.nodes[at].take().expect("it runs").terminate("-TERM");
            assert_eq!(ended, Some(0));
        }
        for spec in &self.specs {
            for table in ["header", "element"] {
                let rows = rows(&spec.data, table);
                let expected = if table == "header" { expected } else { 0 };
                assert_eq!(rows.len(), expected as usize, "{}: {rows:?}", spec.name);
            }
            let verified = run(&["verify", text(&spec.data)]);
            assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        }
    }
}

fn number(barrier: &Value, what: &str) -> u64 {
    barrier[what].as_u64().unwrap_or_else(|| panic!("{what} of {barrier}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// The rows of a table of a stopped node.
fn rows(data: &Path, table: &str) -> Vec<String> {
    let shown = run(&["debug", "rows", text(data), "--table", table, "--limit", "100000"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8(shown.stdout).expect("it is text");
    shown.lines().filter(|line| line.starts_with("table ")).map(str::to_owned).collect()
}

#[test]
fn deleted_keys_leave_no_rows_on_any_disk() {
    let cluster = Cluster::start();
    cluster.write(0);
    cluster.each(1, "SET", "stays", &["value"]);
    cluster.delete(2);
    cluster.forgotten(KEYS);
    cluster.assert_gone();
    // What is written again is forgotten again, or stays.
    cluster.write(1);
    cluster.delete(0);
    cluster.each(1, "SET", "string", &["again"]);
    cluster.forgotten(2 * KEYS);
    cluster.assert_rows(2 * KEYS);
}

#[test]
fn a_node_that_was_killed_before_a_deletion_holds_the_barrier_up_until_it_is_back() {
    let mut cluster = Cluster::start();
    cluster.write(2);
    settled(&cluster.specs);
    cluster.kill(2);
    cluster.delete(0);
    for at in 0..2 {
        let is_held_up = |barrier: &Value| {
            barrier["stage"] == "entered" && barrier["waits_for"] == serde_json::json!(["n3"])
        };
        let barrier = cluster.barrier(at, "that it waits for n3", is_held_up);
        assert_eq!(barrier["agreed"], 0, "{barrier}");
        assert!(
            barrier["doing"].as_str().is_some_and(|it| it.starts_with("comparing")),
            "{barrier}"
        );
    }
    cluster.begin(2);
    cluster.forgotten(0);
    cluster.assert_gone();
    cluster.assert_rows(0);
}

#[test]
fn a_node_that_was_paused_holds_the_barrier_up_until_it_goes_on() {
    let cluster = Cluster::start();
    cluster.write(2);
    settled(&cluster.specs);
    cluster.signal(2, "-STOP");
    cluster.delete(0);
    let barrier = cluster.barrier(1, "that it waits for n3", |barrier| {
        barrier["stage"] == "entered" && barrier["waits_for"] == serde_json::json!(["n3"])
    });
    assert_eq!(barrier["agreed"], 0, "{barrier}");
    cluster.signal(2, "-CONT");
    cluster.forgotten(0);
    cluster.assert_gone();
    cluster.assert_rows(0);
}

#[test]
fn a_removed_member_is_not_waited_for() {
    let mut cluster = Cluster::start();
    cluster.write(2);
    settled(&cluster.specs);
    cluster.kill(2);
    cluster.delete(0);
    let waits = |barrier: &Value| barrier["waits_for"] == serde_json::json!(["n3"]);
    cluster.barrier(0, "that it waits for n3", waits);
    let node = format!("127.0.0.1:{}", cluster.specs[0].peer);
    eventually("n3 is removed", || {
        run(&["--node", &node, "cluster", "remove", "n3"]).status.success().then_some(())
    });
    let committed = run(&["--node", &node, "cluster", "commit"]);
    assert!(committed.status.success(), "{}", String::from_utf8_lossy(&committed.stderr));
    for at in 0..2 {
        within(Duration::from_secs(120), "it is forgotten without n3", || {
            let barrier = &cluster.status(at)?["barrier"];
            (number(barrier, "forgotten") > 0).then_some(())
        });
    }
}

#[test]
fn a_node_with_the_disk_of_an_earlier_day_begins_anew_and_brings_nothing_back() {
    let mut cluster = Cluster::start();
    cluster.write(0);
    cluster.each(1, "SET", "stays", &["value"]);
    settled(&cluster.specs);
    let backup = cluster.directory.path().join("backup");
    let node = format!("127.0.0.1:{}", cluster.specs[2].peer);
    let taken = run(&["--node", &node, "backup", text(&backup)]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    cluster.delete(1);
    cluster.forgotten(KEYS);
    cluster.kill(2);
    let data = cluster.specs[2].data.clone();
    std::fs::remove_dir_all(&data).expect("it is ours");
    let restored = run(&["restore", text(&backup), text(&data)]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    // More after the backup, which the node has to be brought.
    cluster.each(0, "SET", "later", &["value"]);
    cluster.begin(2);
    eventually("n3 has begun anew and holds what the others do", || {
        let aside = data.join("older-than-barrier-1").join("stamp").exists();
        let keys = cluster.status(2)?["keys"].as_u64()?;
        (aside && keys == 2 * u64::from(KEYS)).then_some(())
    });
    settled(&cluster.specs);
    cluster.assert_gone();
    let aside = rows(&data.join("older-than-barrier-1"), "header");
    assert!(!aside.is_empty(), "what was set aside can still be looked at");
    // It goes through the next round with the others.
    cluster.each(2, "DEL", "later", &[]);
    cluster.forgotten(KEYS);
    cluster.assert_gone();
    cluster.assert_rows(KEYS);
}
