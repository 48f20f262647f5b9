//! An engine on real files and the real index, killed at random moments while it merges, appends,
//! syncs, makes checkpoints and trims: what it acknowledged is there.
//!
//! The long form, with progress:
//! `MERGANSER_KILLS=100 cargo test --release -p storage-lmdb --test kill_nine -- --nocapture`

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use bytes::Bytes;
use clock::{CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use storage::{Answer, Command, Durability, EngineConfig, ShardSet, Shards, SingleEngine, Ticket};
use storage_lmdb::{DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};
use values::{Key, Operation, OrsetOp, Scope, State, Tag};

const DIR: &str = "MERGANSER_TEST_DIR";
const PROCESS: &str = "MERGANSER_TEST_PROCESS";
/// Batches between two checkpoints.
const CHECKPOINT_EVERY: u32 = 7;

fn open(dir: &Path, process: u64) -> SingleEngine<DiskFiles, LmdbReader, LmdbWriter> {
    let (reader, writer) = LmdbIndex::open(&dir.join("index"), &LmdbOptions::default()).unwrap();
    let config = EngineConfig {
        node: NodeId(1),
        process,
        shards: ShardSet::all(Shards::new(PartitionCount::new(64).unwrap(), 8)),
        pending_bytes_max: 64 << 20,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let files = DiskFiles::open(dir).unwrap();
    let (engine, found) = SingleEngine::open(files, reader, writer, 7, config).unwrap();
    assert_eq!(found.damage, [], "the end of a process is no damage");
    engine
}

fn key(set: u32) -> Key {
    Key::new("b", format!("set-{set}")).unwrap()
}

fn members(
    engine: &mut SingleEngine<DiskFiles, LmdbReader, LmdbWriter>,
    set: u32,
) -> BTreeSet<String> {
    let mut answers = Vec::new();
    engine.execute(Ticket(0), Command::Read { key: key(set), scope: Scope::Whole }, &mut answers);
    let Some((_, Answer::View(view))) = answers.pop() else { panic!("it can be read") };
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => {
            set.store.0.keys().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[test]
fn every_acknowledged_update_survives_kill_nine() {
    let kills = std::env::var("MERGANSER_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills: u32 = kills.unwrap_or(8);
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut acknowledged, mut state) = (BTreeSet::new(), 1_u32);
    for round in 1..=kills {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIR, temp.path())
            .env(PROCESS, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (mut left, mut line) = (1 + state % 150, String::new());
        while left > 0 {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the child ended by itself");
            left -= u32::from(note(&line, &mut acknowledged));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it acknowledged between our reading and its death counts as well.
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();
        let rest = String::from_utf8_lossy(&rest);
        for line in rest.split_inclusive('\n') {
            let _ = note(line, &mut acknowledged);
        }
        println!("killed {round} of {kills} times, {} acknowledged", acknowledged.len());
    }
    let mut engine = open(temp.path(), u64::from(kills) + 1);
    let mut found = BTreeSet::new();
    for set in 0..4 {
        found.extend(members(&mut engine, set).into_iter().map(|name| (set, name)));
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(engine.engine().live_keys(), 4);
}

/// Takes note of a whole line that acknowledges.
fn note(line: &str, acknowledged: &mut BTreeSet<(u32, String)>) -> bool {
    let words = line.strip_suffix('\n').and_then(|line| line.strip_prefix("acknowledged "));
    let Some((set, name)) = words.and_then(|words| words.split_once(' ')) else { return false };
    acknowledged.insert((set.parse().unwrap(), name.to_owned()))
}

/// The child. Started by hand it does nothing.
#[test]
#[ignore = "started by the other test, in a process of its own"]
fn child() {
    let (Some(dir), Ok(process)) = (std::env::var_os(DIR), std::env::var(PROCESS)) else { return };
    let process: u64 = process.parse().unwrap();
    let mut engine = open(Path::new(&dir), process);
    let (mut answers, mut output) = (Vec::new(), std::io::stdout());
    writeln!(output).unwrap();
    // Bounded, should the parent die before it can kill.
    for batch in 0..4_000_u32 {
        let name = |ticket: u64| format!("{process}-{batch}-{ticket}");
        for ticket in 0..4 {
            let element = Bytes::from(name(ticket));
            let command = Command::Update {
                key: key(ticket as u32),
                operation: Operation::Orset(OrsetOp::Add(vec![element])),
                lifetime: values::Lifetime::Usual,
                observed: CausalContext::default(),
                shown: Vec::new(),
                stamp: Stamp(u64::from(batch)),
                named: None,
                limits: std::sync::Arc::default(),
                durability: Durability::Sync,
            };
            engine.execute(Ticket(ticket), command, &mut answers);
        }
        while engine.log_batch(&mut answers) {}
        for (ticket, answer) in answers.drain(..) {
            if answer == Answer::Durable {
                writeln!(output, "acknowledged {} {}", ticket.0, name(ticket.0)).unwrap();
            }
        }
        output.flush().unwrap();
        if batch % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            engine.checkpoint().unwrap();
        }
    }
}
