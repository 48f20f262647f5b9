//! A node is backed up while it serves, lost, and brought back: nothing is missing anywhere.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use super::crash::{advance, assert_all_there, write_until};
use super::process::{Process, Spec, run, settled};

/// Runs the binary to its end, with success, and returns the JSON that it printed.
fn done(arguments: &[&str]) -> Value {
    let output = run(&[&["--json"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// Runs the binary to its end, which must be a failure; returns what it said.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).expect("it is text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

#[test]
fn a_lost_node_restored_from_a_backup_taken_under_load_converges_and_no_update_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let mut nodes: Vec<Option<Process>> = specs.iter().map(|spec| Some(spec.start())).collect();
    let at = |spec: &Spec| format!("127.0.0.1:{}", spec.peer);
    let (lost, backup) = (&specs[1], directory.path().join("backup"));
    let take = || done(&["--node", &at(lost), "backup", text(&backup)]);
    let stop = AtomicBool::new(false);
    let progress: [AtomicU64; 3] = Default::default();
    let all: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = specs
            .iter()
            .zip(&progress)
            .enumerate()
            .map(|(at, (spec, progress))| {
                let stop = &stop;
                scope.spawn(move || write_until(spec, at, progress, stop))
            })
            .collect();
        let all_writers = progress.each_ref();
        advance(&all_writers, 20);
        // So that it has rows in its index, not only a log.
        assert_eq!(nodes[1].take().expect("it runs").terminate("-TERM"), Some(0));
        nodes[1] = Some(lost.start());
        advance(&all_writers, 20);
        let first = take();
        assert_eq!((&first["number"], &first["incremental"]), (&1.into(), &false.into()));
        advance(&all_writers, 20);
        let second = take();
        assert_eq!((&second["number"], &second["incremental"]), (&2.into(), &true.into()));
        for taken in [&first, &second] {
            assert!(taken["rows"].as_u64() > Some(60), "{taken}");
            assert_eq!(taken["rows_damaged"], 0, "{taken}");
        }
        // What the backup does not have.
        advance(&all_writers, 20);
        nodes[1].take().expect("it runs").kill();
        std::fs::remove_dir_all(&lost.data).unwrap();
        advance(&[&progress[0], &progress[2]], 20);
        let restored = done(&["restore", text(&backup), text(&lost.data)]);
        assert_eq!((&restored["node"], &restored["number"]), (&"n2".into(), &2.into()));
        nodes[1] = Some(lost.start());
        advance(&all_writers, 20);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    settled(&specs);
    let repaired = done(&["--node", &at(lost), "repair"]);
    assert_eq!((&repaired["equal"], &repaired["unreachable"]), (&repaired["pairs"], &0.into()));
    for written in &all {
        for spec in &specs {
            assert_all_there(spec, written);
        }
    }
    for other in [0, 2] {
        nodes[other].take().expect("it runs").kill();
        verified(&specs[other].data);
    }
    // What the others had to bring it, it has itself.
    for written in &all {
        assert_all_there(lost, written);
    }
    let running = refused(&["verify", text(&lost.data)]);
    assert!(running.contains("is in use by another process"), "{running}");
    nodes[1].take().expect("it runs").terminate("-TERM");
    verified(&lost.data);
    verified(&backup);
}

/// Nothing is wrong in a directory, and something was looked at.
fn verified(directory: &Path) {
    let found = done(&["verify", text(directory)]);
    assert_eq!(found["problems"], 0, "{found}");
    let is_something = |what: &str| {
        found["checked"][what].as_str().is_some_and(|found| !found.ends_with(" 0 live keys"))
    };
    assert!(
        is_something("the log done again") || found["checked"]["census"] != "0 live keys",
        "{found}"
    );
}

#[test]
fn backups_and_restores_that_cannot_be_are_refused_and_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let node = spec.start();
    let at = format!("127.0.0.1:{}", spec.peer);
    done(&["--node", &at, "register", "set", "k", "v"]);
    let backup = |into: &Path| run(&["--node", &at, "backup", text(into)]);
    let said = |output: std::process::Output| String::from_utf8(output.stderr).unwrap();
    let inside = spec.data.join("backup");
    assert!(said(backup(&inside)).contains("lies in the node's data directory"));
    let taken = directory.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("letter.txt"), "mine").unwrap();
    assert!(said(backup(&taken)).contains("holds \"letter.txt\", which is no file of a backup"));
    std::fs::remove_file(taken.join("letter.txt")).unwrap();
    std::fs::create_dir(taken.join("album")).unwrap();
    assert!(said(backup(&taken)).contains("holds \"album\", which is no file of a backup"));
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 1, "nothing was put there");
    let good = directory.path().join("good");
    let missing = refused(&["restore", text(&good), text(&directory.path().join("new"))]);
    assert!(missing.contains("is no directory"), "{missing}");
    assert!(backup(&good).status.success());
    let running = refused(&["restore", text(&good), text(&spec.data)]);
    assert!(running.contains("is not empty"), "{running}");
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let none = refused(&["restore", text(&empty), text(&directory.path().join("new"))]);
    assert!(none.contains("there is no finished backup in it"), "{none}");
    // A node that was started empty does not write over the backup of what it lost.
    node.kill();
    std::fs::remove_dir_all(&spec.data).unwrap();
    let node = spec.start();
    assert!(said(backup(&good)).contains("from before it was started empty"));
    node.kill();
    // The clients' contexts hold at a node that is brought back: it has its secret again.
    std::fs::remove_dir_all(&spec.data).unwrap();
    assert!(run(&["restore", text(&good), text(&spec.data)]).status.success());
    assert!(spec.data.join(".secret").exists());
    verified(&spec.data);
    let damaged = good.join("log-1-0000000000000000");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let said = run(&["verify", text(&good)]);
    assert_eq!(said.status.code(), Some(6));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("PROBLEM") && said.contains("log-1-0000000000000000"), "{said}");
    let new = directory.path().join("new");
    let refused = refused(&["restore", text(&good), text(&new)]);
    assert!(
        refused.contains("log-1-0000000000000000: its contents are not what was written"),
        "{refused}"
    );
    assert!(!new.exists(), "nothing was written");
}
