//! What is left of deleted keys is forgotten by all members together, and what was deleted does not come back: from
//! a node that was away, one that was paused, one with the disk of an earlier day.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, Spec, eventually, run, settled, within};

const KEYS: u32 = 40;

/// Three nodes that begin a round of the barrier soon after there is something to forget, and compare more often, as
/// nodes do that nobody set otherwise: what one got later than another is of one age everywhere in the next round.
pub(super) struct Cluster {
    /// Ended before their directories are removed.
    nodes: Vec<Option<Process>>,
    pub(super) specs: Vec<Spec>,
    directory: tempfile::TempDir,
}

impl Cluster {
    pub(super) fn start() -> Self {
        Self::of(3)
    }

    fn of(nodes: usize) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let mut specs = Spec::cluster(directory.path(), nodes);
        // Few partitions: all of them are handed over in one of the tests. What is under way for a node
        // that is away is to end soon: a round waits for it.
        let settings = "barrier_interval_s = 1\nanti_entropy_interval_s = 5\nretry_window_s = 0\nloops = 2\npartitions = 64\ntimeout_ms = 5000\ncover_ms = 300\n";
        specs.iter_mut().for_each(|spec| spec.settings += settings);
        let mut cluster = Self { nodes: Vec::new(), specs, directory };
        cluster.nodes.resize_with(nodes, || None);
        (0..nodes).for_each(|at| cluster.begin(at));
        settled(&cluster.specs);
        cluster
    }

    pub(super) fn begin(&mut self, at: usize) {
        self.nodes[at] = Some(self.specs[at].start());
    }

    pub(super) fn kill(&mut self, at: usize) {
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
        self.assert_gone_at(&[0, 1, 2]);
    }

    /// The same of some nodes.
    fn assert_gone_at(&self, nodes: &[usize]) {
        for spec in nodes.iter().map(|&at| &self.specs[at]) {
            let mut redis = spec.redis();
            for names in ["string", "set", "counter"] {
                let names: Vec<String> = (0..KEYS).map(|n| format!("{names}{n}")).collect();
                let live: u32 =
                    redis::cmd("EXISTS").arg(&names).query(&mut redis).expect("it answers");
                assert_eq!(live, 0, "{} shows {names:?}", spec.name);
            }
        }
    }

    fn backup(&self, at: usize, name: &str) -> PathBuf {
        let backup = self.directory.path().join(name);
        let node = format!("127.0.0.1:{}", self.specs[at].peer);
        let taken = run(&["--node", &node, "backup", text(&backup)]);
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        backup
    }

    /// Puts a backup in the place of what a node that is down has.
    fn restore(&self, at: usize, backup: &Path, options: &[&str]) {
        let data = &self.specs[at].data;
        std::fs::remove_dir_all(data).expect("it is ours");
        let restored = run(&[&["restore", text(backup), text(data)], options].concat());
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    }

    /// Has the others go on without a node that is down, and own what it owned.
    fn remove(&self, at: usize) {
        let node = format!("127.0.0.1:{}", self.specs[0].peer);
        let name = &self.specs[at].name;
        eventually("it is removed", || {
            run(&["--node", &node, "cluster", "remove", name]).status.success().then_some(())
        });
        let committed = run(&["--node", &node, "cluster", "commit"]);
        assert!(committed.status.success(), "{}", String::from_utf8_lossy(&committed.stderr));
    }

    fn assert_removed(&self, at: usize) {
        let is_told = || (!self.status(at)?["waiting"].is_null()).then_some(());
        eventually("it knows that it was removed", is_told);
    }

    fn pending(&self, at: usize, name: &str) -> Option<u64> {
        let status = self.status(at)?;
        let members = status["members"].as_array()?;
        members.iter().find(|member| member["name"] == name)?["pending"].as_u64()
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
    pub(super) fn forgotten(&self, keys: u32) {
        self.forgotten_at(&[0, 1, 2], keys);
    }

    /// The same of some nodes.
    fn forgotten_at(&self, nodes: &[usize], keys: u32) {
        let mut last = None;
        eventually("all have forgotten", || {
            let rounds: Option<Vec<u64>> = nodes.iter().map(|&at| self.is_over(at, keys)).collect();
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
        let is_held_up = |barrier: &Value| barrier["waits_for"] == serde_json::json!(["n3"]);
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
    let waits = |barrier: &Value| barrier["waits_for"] == serde_json::json!(["n3"]);
    let barrier = cluster.barrier(1, "that it waits for n3", waits);
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
    cluster.remove(2);
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
    let backup = cluster.backup(2, "backup");
    cluster.delete(1);
    cluster.forgotten(KEYS);
    cluster.kill(2);
    let data = cluster.specs[2].data.clone();
    cluster.restore(2, &backup, &[]);
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

/// Hints of old writes are at a node that is down when these are deleted, and for one that was down before.
#[test]
fn a_holder_of_old_hints_comes_back_and_brings_nothing_back() {
    let mut cluster = Cluster::start();
    cluster.kill(2);
    cluster.write(0);
    eventually("n1 keeps hints for n3", || (cluster.pending(0, "n3")? > 0).then_some(()));
    cluster.kill(0);
    cluster.begin(2);
    eventually("n2 has nothing for n3 any more", || (cluster.pending(1, "n3")? == 0).then_some(()));
    cluster.delete(1);
    // And for n3 too, where it had been compared with n1 itself before that died: n3 has not since it started again.
    let waits = |barrier: &Value| {
        barrier["waits_for"].as_array().is_some_and(|all| all.iter().any(|name| name == "n1"))
    };
    let barrier = cluster.barrier(1, "that it waits for n1", waits);
    assert_eq!(barrier["agreed"], 0, "{barrier}");
    cluster.begin(0);
    cluster.forgotten(0);
    cluster.assert_gone();
    cluster.assert_rows(0);
}

/// It was removed, so that the others did not wait for it, and its process is started again with all that it held:
/// copies of what was deleted, and hints.
#[test]
fn a_former_owner_with_its_copy_and_old_hints_comes_back_and_brings_nothing_back() {
    let mut cluster = Cluster::of(4);
    cluster.kill(1);
    cluster.write(3);
    eventually("n4 keeps hints for n2", || (cluster.pending(3, "n2")? > 0).then_some(()));
    cluster.kill(3);
    cluster.begin(1);
    cluster.delete(0);
    cluster.remove(3);
    cluster.forgotten_at(&[0, 1, 2], 0);
    cluster.begin(3);
    cluster.assert_removed(3);
    cluster.each(0, "SET", "later", &["value"]);
    cluster.assert_gone();
    cluster.forgotten_at(&[0, 1, 2], KEYS);
}

/// A node is paused while it is at something, is removed, and goes on once what was deleted is forgotten.
#[test]
fn a_paused_node_that_was_removed_meanwhile_goes_on_and_brings_nothing_back() {
    let cluster = Cluster::of(4);
    cluster.write(3);
    settled(&cluster.specs);
    cluster.signal(3, "-STOP");
    cluster.delete(0);
    cluster.remove(3);
    cluster.forgotten_at(&[0, 1, 2], 0);
    cluster.signal(3, "-CONT");
    cluster.assert_removed(3);
    cluster.each(0, "SET", "later", &["value"]);
    cluster.assert_gone();
    cluster.forgotten_at(&[0, 1, 2], KEYS);
}

/// Backups were taken one after another, and rounds came between them.
#[test]
fn a_cluster_that_is_restored_as_a_whole_has_all_that_its_backups_have() {
    let mut cluster = Cluster::start();
    cluster.each(0, "SET", "stays", &["value"]);
    settled(&cluster.specs);
    let mut backups = vec![cluster.backup(0, "backup1")];
    cluster.write(1);
    cluster.delete(1);
    cluster.forgotten(KEYS);
    backups.push(cluster.backup(1, "backup2"));
    cluster.each(2, "SET", "string", &["again"]);
    settled(&cluster.specs);
    backups.push(cluster.backup(2, "backup3"));
    (0..3).for_each(|at| cluster.kill(at));
    for (at, backup) in backups.iter().enumerate() {
        cluster.restore(at, backup, &["--whole-cluster"]);
    }
    (0..3).for_each(|at| cluster.begin(at));
    settled(&cluster.specs);
    for at in 0..3 {
        eventually("all that the backups have is everywhere", || {
            (cluster.status(at)?["keys"] == 2 * KEYS).then_some(())
        });
        assert!(!cluster.specs[at].data.join("older-than-barrier-1").exists());
        assert!(!cluster.specs[at].data.join("restored-whole-cluster").exists());
    }
    // And it goes on to forget.
    cluster.each(0, "DEL", "string", &[]);
    cluster.forgotten(KEYS);
    cluster.assert_gone();
    cluster.assert_rows(KEYS);
}
