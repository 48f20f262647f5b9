//! What only other processes and other file systems can show: locks, kill -9, full and read-only
//! disks. Each test starts this program again as a child in one of the roles at the end.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use storage::{Files, IndexRead, IndexWrite, RowChange, SeamError, Table};
use storage_lmdb::{
    DirectoryLock, DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter, OpenError,
};

const ROLE: &str = "MERGANSER_TEST_ROLE";
const DIR: &str = "MERGANSER_TEST_DIR";

/// A map so small that it grows while the test runs.
fn small() -> LmdbOptions {
    LmdbOptions { map_size: 1 << 20, ..LmdbOptions::default() }
}

fn arguments() -> [&'static str; 4] {
    ["--exact", "child", "--ignored", "--nocapture"]
}

/// A child in `role`, and its standard output. It ends when its standard input does.
fn start(role: &str, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments())
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// Reads lines until one that starts with `prefix`; the rest of that line.
fn line(output: &mut BufReader<ChildStdout>, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended before {prefix:?}");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim().into();
        }
    }
}

fn say(text: impl std::fmt::Display) {
    let mut output = std::io::stdout();
    writeln!(output, "\n{text}").unwrap();
    output.flush().unwrap();
}

/// Commits batch `number` of the tests: one row in each of two tables, `bytes` long in the first.
fn commit(writer: &mut LmdbWriter, number: u32, bytes: usize) -> Result<(), SeamError> {
    let (key, value) = (number.to_be_bytes(), vec![number as u8; bytes.max(10)]);
    let row = |table, length| RowChange { table, key: &key, value: Some(&value[..length]) };
    writer.commit(&[row(Table::Header, bytes), row(Table::Outbox, 10)])
}

/// The numbers of the batches that are there; each must be there whole.
fn batches(reader: &LmdbReader) -> Vec<u32> {
    let numbers = |table| {
        let mut numbers = Vec::new();
        reader
            .scan(table, b"", &mut |key, value| {
                let number = u32::from_be_bytes(key.try_into().unwrap());
                assert!(value.iter().all(|byte| *byte == number as u8), "batch {number}");
                numbers.push(number);
                ControlFlow::Continue(())
            })
            .unwrap();
        numbers
    };
    let (header, outbox) = (numbers(Table::Header), numbers(Table::Outbox));
    assert_eq!(header, outbox, "a batch is in both tables or in none");
    header
}

#[test]
fn a_second_process_is_refused_by_name_until_the_first_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().canonicalize().unwrap();
    let (mut child, mut output) = start("hold", &dir);
    line(&mut output, "held");
    let Err(error) = LmdbIndex::open(&dir, &small()) else { panic!("opened twice") };
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process ({}): stop that one first, or start with another \
             directory",
            dir.display(),
            child.id()
        )
    );
    assert!(matches!(DirectoryLock::acquire(&dir), Err(OpenError::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    let (reader, _writer) = LmdbIndex::open(&dir, &small()).unwrap();
    assert_eq!(batches(&reader), [7]);
}

#[test]
fn every_acknowledged_commit_survives_kill_nine() {
    let temp = tempfile::tempdir().unwrap();
    let mut last = None;
    for kill_after in [1, 40, 3, 90, 17, 200] {
        let (mut child, mut output) = start("write", temp.path());
        for _ in 0..kill_after {
            last = Some(line(&mut output, "acknowledged ").parse::<u32>().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it acknowledged between our reading and its death counts as well.
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        for number in rest.lines().filter_map(|line| line.strip_prefix("acknowledged ")) {
            // The last line may be cut; a cut number is a smaller one.
            last = last.max(number.parse().ok());
        }
        let last = last.unwrap();
        let (reader, _writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
        let found = batches(&reader);
        let expected: Vec<u32> = (0..found.len() as u32).collect();
        assert_eq!(found, expected, "no batch is missing before the last");
        assert!(found.len() as u32 > last, "{last} was acknowledged, {} are there", found.len());
        assert!(found.len() as u32 <= last + 2, "at most one was written and not acknowledged");
    }
    assert!(last.unwrap() >= 350);
}

/// Runs the child in `role` where `script` (of `sh`, with `$1` a directory) puts it, if this
/// machine lets us have a mount of our own.
#[cfg(target_os = "linux")]
fn mounted(role: &str, script: &str) {
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
    let Some(namespace) = namespaces.into_iter().find(|arguments| {
        let mut probe = Command::new("unshare");
        probe.args(*arguments).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
        probe.output().is_ok_and(|output| output.status.success())
    }) else {
        let reason = "this machine lets us mount nothing (unshare --mount)";
        assert!(std::env::var_os("CI").is_none(), "{reason}: run the tests where it does");
        eprintln!("SKIPPED {role}: {reason}");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-ec", &format!("{script}; shift; exec \"$@\""), "sh"])
        .arg(temp.path())
        .arg(std::env::current_exe().unwrap())
        .args(arguments())
        .env(ROLE, role)
        .env(DIR, temp.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "the child in role {role}: {status}");
    assert!(fs::read_dir(temp.path()).unwrap().next().is_none(), "it ran on its own mount");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room() {
    mounted("fill", "mount -t tmpfs -o size=6m none \"$1\"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_disk_is_named_at_opening() {
    mounted(
        "read-only",
        "mount -t tmpfs none \"$1\"; mkdir \"$1/index\"; mount -o remount,ro \"$1\"",
    );
}

/// What `ulimit -f 4096` allows of one file.
const FILE_BYTES_MAX: usize = 4_096 * 512;

/// The limit on the size of files stands in for a failing disk where nothing can be mounted.
#[test]
fn a_write_that_the_system_cuts_off_is_an_error_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes; with the signal ignored the write fails instead of killing.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(arguments())
        .env(ROLE, "limited")
        .env(DIR, temp.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "the child: {status}");
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    let mut found = batches(&reader);
    assert!(!found.is_empty());
    commit(&mut writer, 9_999, 1 << 20).unwrap();
    found.push(9_999);
    assert_eq!(batches(&reader), found);
}

/// The roles of the children. Started by hand it does nothing.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else { return };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "hold" => hold(&dir),
        "write" => write(&dir),
        "fill" => fill(&dir),
        "read-only" => read_only(&dir),
        "limited" => limited(&dir),
        _ => panic!("no role {role}"),
    }
}

fn hold(dir: &Path) {
    let (_reader, mut writer) = LmdbIndex::open(dir, &small()).unwrap();
    commit(&mut writer, 7, 10).unwrap();
    say("held");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn write(dir: &Path) {
    let (reader, mut writer) = LmdbIndex::open(dir, &small()).unwrap();
    let first = batches(&reader).len() as u32;
    // Bounded, should the parent die before it can kill.
    for number in first..first + 5_000 {
        commit(&mut writer, number, 20_000).unwrap();
        say(format_args!("acknowledged {number}"));
    }
}

fn fill(dir: &Path) {
    let mut files = DiskFiles::open(dir).unwrap();
    files.append("ballast", &vec![1; 2 << 20]).unwrap();
    let index = dir.join("index");
    let (reader, mut writer) = LmdbIndex::open(&index, &small()).unwrap();

    // Batches of several sizes, so that the disk is full in the middle of a write now and then.
    let mut stored = 0;
    for round in 0..8_u32 {
        let bytes = [300_000, 5_000, 70_000, 1_000_000][round as usize % 4];
        let refused = loop {
            match commit(&mut writer, stored, bytes) {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, SeamError::Full, "round {round}");
        assert_eq!(commit(&mut writer, stored, bytes), Err(SeamError::Full), "and again");
        assert_eq!(batches(&reader), (0..stored).collect::<Vec<_>>(), "nothing is lost");
        assert!(fs::read_dir(&index).unwrap().all(|entry| entry.unwrap().file_name() != ".probe"));
    }
    assert!(stored > 5, "{stored} batches");

    // A full disk keeps an index open, and opens it again, but makes no new one.
    let rest: Vec<u8> = vec![2; 4_096];
    let mut filled = 0;
    let refused = loop {
        match files.append("filler", &rest) {
            Ok(()) => filled += 4_096,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SeamError::Full);
    assert_eq!(files.length("filler"), Ok(Some(filled)));
    drop((reader, writer));
    let (reader, mut writer) = LmdbIndex::open(&index, &small()).unwrap();
    assert_eq!(batches(&reader), (0..stored).collect::<Vec<_>>());
    nest(&reader, 500);
    let other = dir.join("other");
    let Err(error) = LmdbIndex::open(&other, &small()) else { panic!("there is no room") };
    assert!(matches!(error, OpenError::Full(_)), "{error}");

    // There is room again: everything goes on, in the same process.
    files.remove("ballast").unwrap();
    commit(&mut writer, stored, 300_000).unwrap();
    assert_eq!(batches(&reader), (0..=stored).collect::<Vec<_>>());
    let (_, mut other) = LmdbIndex::open(&other, &small()).unwrap();
    commit(&mut other, 0, 10).unwrap();
    drop((reader, writer));
    let (reader, _writer) = LmdbIndex::open(&index, &small()).unwrap();
    assert_eq!(batches(&reader), (0..=stored).collect::<Vec<_>>());
}

/// Reads inside reads: LMDB writes each into its table of readers, through a map. Were there holes
/// in that file, a full disk would make this die of SIGBUS.
fn nest(reader: &LmdbReader, depth: u32) {
    if depth > 0 {
        let key = 0_u32.to_be_bytes();
        let found = reader.get(Table::Header, &key, &mut |_| nest(reader, depth - 1));
        assert_eq!(found, Ok(true));
    }
}

fn read_only(dir: &Path) {
    for index in [dir.join("index"), dir.join("new")] {
        let Err(error) = LmdbIndex::open(&index, &small()) else { panic!("opened") };
        let text = error.to_string();
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{text}");
        assert!(text.contains("check its owner, its mode and its mount"), "{text}");
    }
    let mut files = DiskFiles::open(dir).unwrap();
    let error = files.append("log", b"x").unwrap_err();
    assert!(matches!(error, SeamError::ReadOnly(_)), "{error}");
    assert_eq!(files.list(), Ok(Vec::new()));
}

/// An append that is cut off over zeros leaves nothing of its bytes, zeros that are cut off nothing of them.
fn limited_files(dir: &Path) {
    let mut files = DiskFiles::open(dir).unwrap();
    let contents = vec![1; FILE_BYTES_MAX - 10_000];
    files.append("log", &contents).unwrap();
    files.reserve("log", 20_000).unwrap_err();
    assert!(fs::read(dir.join("log")).unwrap() == contents);
    files.reserve("log", 9_000).unwrap();
    files.append("log", &[2; 20_000]).unwrap_err();
    assert!(fs::read(dir.join("log")).unwrap() == contents);
    files.append("log", &[3]).unwrap();
    assert_eq!(files.read("log", contents.len() as u64 - 1, 9).unwrap(), [1, 3]);
}

fn limited(dir: &Path) {
    limited_files(&dir.join("files"));
    let (reader, mut writer) = LmdbIndex::open(dir, &small()).unwrap();
    let mut stored = 0;
    loop {
        match commit(&mut writer, stored, 100_000) {
            Ok(()) => stored += 1,
            // A write cut short is an input/output error, one refused whole names the limit.
            Err(SeamError::Io(_) | SeamError::ReadOnly(_)) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(stored < 100, "there is a limit");
    }
    assert_eq!(batches(&reader), (0..stored).collect::<Vec<_>>());
    // What is given back can be used.
    let key = 0_u32.to_be_bytes();
    let delete = [Table::Header, Table::Outbox];
    writer.commit(&delete.map(|table| RowChange { table, key: &key, value: None })).unwrap();
    commit(&mut writer, 0, 10).unwrap();
    assert_eq!(batches(&reader), (0..stored).collect::<Vec<_>>());
}
