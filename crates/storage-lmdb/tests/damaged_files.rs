//! A data directory whose files were truncated, changed, swapped, or are somebody else's: an error that
//! says so, or a replica that shows what is left and reports the rest; never a panic, and nothing lost
//! without a word.
//!
//! One loss cannot be told from a crash: the end of the last segment of the log, cut off or made zeros of, or a changed
//! record there that ends in zeros. What was synced there is then gone as what was not synced would be, and the start
//! says how much it cut, unless the cut lies between two records. Anything else that stands there is told as damage.
//!
//! The long form, with progress:
//! `MERGANSER_DAMAGES=3000 cargo test --release -p storage-lmdb --test damaged_files -- --nocapture`

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use clock::{CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use storage::{
    Answer, Command, Durability, EngineConfig, IndexRead, LogRecovery, ShardSet, Shards,
    SingleEngine, StorageError, Table, Ticket, check_row,
};
use storage_lmdb::{DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter, check_pages};
use values::{BytesOp, Key, Operation, OrsetOp, Scope, Value};

const DIR: &str = "MERGANSER_TEST_DIR";
const KEYS: u32 = 400;

type Engine = SingleEngine<DiskFiles, LmdbReader, LmdbWriter>;

fn open(dir: &Path, may_create: bool) -> Result<(Engine, LogRecovery), String> {
    let options = LmdbOptions { may_create, ..LmdbOptions::default() };
    let (reader, writer) =
        LmdbIndex::open(&dir.join("index"), &options).map_err(|error| error.to_string())?;
    let config = EngineConfig {
        node: NodeId(1),
        process: 1,
        shards: ShardSet::all(Shards::new(PartitionCount::new(64).unwrap(), 8)),
        pending_bytes_max: 64 << 20,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let files = DiskFiles::open(dir).map_err(|error| error.to_string())?;
    SingleEngine::open(files, reader, writer, 7, config).map_err(|error| error.to_string())
}

fn key(number: u32) -> Key {
    Key::new("b", format!("key-{number}")).unwrap()
}

fn operation(number: u32) -> Operation {
    match number % 4 {
        0 => Operation::Orset(OrsetOp::Add(
            (0..5).map(|element| format!("element-{element}").into()).collect(),
        )),
        1 if number % 16 == 1 => Operation::Bytes(BytesOp::Put(vec![7; 9_000].into())),
        _ => Operation::Bytes(BytesOp::Put(format!("value {number}").into())),
    }
}

fn write(engine: &mut Engine, number: u32) {
    let mut answers = Vec::new();
    let update = Command::Update {
        key: key(number),
        operation: operation(number),
        lifetime: values::Lifetime::Usual,
        observed: CausalContext::default(),
        shown: Vec::new(),
        stamp: Stamp::from_millis(1),
        named: None,
        limits: std::sync::Arc::default(),
        durability: Durability::Sync,
    };
    engine.execute(Ticket(0), update, &mut answers);
    assert!(engine.log_batch(&mut answers));
}

/// A replica with three quarters of its keys in the index and the rest in the log.
fn fill(dir: &Path) {
    let (mut engine, _) = open(dir, true).unwrap();
    for number in 0..KEYS {
        write(&mut engine, number);
        if number % 50 == 0 && number < KEYS * 3 / 4 {
            engine.checkpoint().unwrap();
        }
    }
}

/// What each key shows; `None` where reading it fails.
fn shown(engine: &mut Engine) -> BTreeMap<u32, Option<Value>> {
    let mut all = BTreeMap::new();
    for number in 0..KEYS {
        let mut answers = Vec::new();
        let read = Command::Read { key: key(number), scope: Scope::Whole };
        engine.execute(Ticket(0), read, &mut answers);
        let value = match answers.pop() {
            Some((_, Answer::View(view))) => Some(view.value),
            Some((_, Answer::Failed(StorageError::Corrupt(_)))) => None,
            other => panic!("{other:?}"),
        };
        all.insert(number, value);
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Files of the log, in order, and the index's file.
fn files(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("log-");
    let mut files: Vec<_> = names.filter(is_log).collect();
    files.sort();
    files.push(dir.join("index/data.mdb"));
    files
}

/// Does something to one of the files; returns what, and whether the end of the log was cut off.
fn harm(dir: &Path, random: &mut Random) -> (String, bool) {
    let files = files(dir);
    let at = random.below(files.len());
    let path = &files[at];
    let mut bytes = fs::read(path).unwrap();
    let is_last_segment = at + 2 == files.len();
    let mut is_cut = false;
    let what = match random.below(5) {
        0 | 1 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            fs::write(path, bytes).unwrap();
            // The last record looks torn if it ends in zeros.
            is_cut = is_last_segment;
            format!("bit of byte {at} changed")
        }
        2 => {
            let length = random.below(bytes.len());
            bytes.truncate(length);
            fs::write(path, bytes).unwrap();
            is_cut = is_last_segment;
            format!("cut to {length} bytes")
        }
        3 => {
            fs::write(path, b"This is a letter to somebody else.".repeat(1 + random.below(300)))
                .unwrap();
            "somebody else's".into()
        }
        _ => {
            let from = random.below(bytes.len());
            let to = (from + 1 + random.below(9_000)).min(bytes.len());
            bytes[from..to].fill(0);
            fs::write(path, bytes).unwrap();
            is_cut = is_last_segment;
            format!("bytes {from} to {to} zeroed")
        }
    };
    (format!("{}: {what}", path.file_name().unwrap().display()), is_cut)
}

#[test]
fn whatever_was_done_to_a_file_is_told_and_the_rest_is_shown() {
    let rounds = std::env::var("MERGANSER_DAMAGES").ok().and_then(|rounds| rounds.parse().ok());
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let original = temp.path().join("original");
    fill(&original);
    let expected = shown(&mut open(&original, false).unwrap().0);
    let mut random = Random(1);
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for round in 0..rounds.unwrap_or(120_u32) {
        let dir = temp.path().join("copy");
        copy(&original, &dir);
        let (what, is_cut) = harm(&dir, &mut random);
        let outcome = match check_pages(&dir.join("index"), &mut |_, _| ()) {
            Err(_) => "refused before LMDB saw it",
            Ok(_) => match open(&dir, false) {
                Err(_) => "refused",
                Ok((mut engine, found)) => {
                    let there = shown(&mut engine);
                    let lost: Vec<_> =
                        (0..KEYS).filter(|number| there[number] != expected[number]).collect();
                    let is_told = !found.damage.is_empty()
                        || (is_cut && found.torn_bytes > 0)
                        || lost.iter().all(|number| there[number].is_none())
                        || engine.engine().damaged_count() > 0
                        || !engine.engine().check_trees().unwrap().is_clean();
                    // A cut at the end is as a crash leaves it: what is left has no gap.
                    let is_tail = is_cut
                        && lost.iter().enumerate().all(|(at, number)| {
                            *number == KEYS - u32::try_from(lost.len() - at).unwrap()
                        });
                    assert!(
                        lost.is_empty() || is_told || is_tail,
                        "{round}, {what}: lost {lost:?}"
                    );
                    match (lost.is_empty(), is_told) {
                        (true, _) => "nothing was lost",
                        (false, true) => "lost and told",
                        (false, false) => "the end of the log was cut between two records",
                    }
                }
            },
        };
        *outcomes.entry(outcome).or_default() += 1;
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{outcomes:?}");
    assert!(outcomes.len() >= 3, "{outcomes:?}");
}

#[test]
fn files_in_each_others_place_and_of_another_directory_are_told() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (one, other) = (temp.path().join("one"), temp.path().join("other"));
    fill(&one);
    copy(&one, &other);
    // The index of an earlier time: the log tells that what it begins with is missing, or has all of it.
    let early = temp.path().join("early");
    {
        let (mut engine, _) = open(&early, true).unwrap();
        write(&mut engine, 0);
        engine.checkpoint().unwrap();
    }
    fs::copy(early.join("index/data.mdb"), other.join("index/data.mdb")).unwrap();
    let (mut engine, found) = open(&other, false).unwrap();
    let there = shown(&mut engine);
    drop(engine);
    let expected = shown(&mut open(&one, false).unwrap().0);
    let lost = (0..KEYS).filter(|number| there[number] != expected[number]).count();
    assert!(lost == 0 || !found.damage.is_empty(), "{lost} lost, {found:?}");
    // A segment under the name of another.
    let segment = files(&one).remove(0);
    let renamed = segment.with_file_name("log-0000000000000001");
    fs::rename(&segment, &renamed).unwrap();
    let (_, found) = open(&one, false).unwrap();
    assert!(!found.damage.is_empty());
}

/// What LMDB itself makes of changed pages, in a process of its own each time: where that one dies,
/// [`check_pages`] had found the damage. Says how often it does.
#[test]
fn where_lmdb_dies_of_a_page_the_check_has_found_it() {
    let rounds = std::env::var("MERGANSER_DAMAGES").ok().and_then(|rounds| rounds.parse().ok());
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let original = temp.path().join("original");
    fill(&original);
    let bytes = fs::read(original.join("index/data.mdb")).unwrap();
    let (mut random, mut died, mut found, mut refused) = (Random(7), 0, 0, 0);
    let rounds = rounds.unwrap_or(30_u32);
    for _ in 0..rounds {
        let dir = temp.path().join("copy");
        fs::create_dir_all(dir.join("index")).unwrap();
        let mut bytes = bytes.clone();
        // Behind the two headers, which a start checks, at the beginning of a page: LMDB's own numbers.
        let page = 2 + random.below(bytes.len() / 4_096 - 2);
        let at = page * 4_096 + random.below(48);
        bytes[at] ^= 1 << random.below(8);
        fs::write(dir.join("index/data.mdb"), bytes).unwrap();
        let is_found = check_pages(&dir.join("index"), &mut |_, _| ()).is_err();
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "reads_everything", "--ignored"])
            .env(DIR, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let has_died = child.signal().is_some();
        assert!(is_found || !has_died, "page {page}, byte {at}: not found, and {child}");
        died += u32::from(has_died);
        found += u32::from(is_found);
        refused += u32::from(!child.success() && !has_died);
        fs::remove_dir_all(&dir).unwrap();
    }
    println!(
        "of {rounds}: {found} found by the check; LMDB died of {died}; of {refused} it or a row's \
              checksum said so"
    );
}

/// The child. Started by hand it does nothing.
#[test]
#[ignore = "started by the other test, in a process of its own"]
fn reads_everything() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let options = LmdbOptions { may_create: false, ..LmdbOptions::default() };
    let (reader, _) = LmdbIndex::open(&Path::new(&dir).join("index"), &options).unwrap();
    let mut damaged = 0;
    for table in Table::ALL {
        let mut keys = Vec::new();
        reader
            .scan(table, &[], &mut |key, record| {
                damaged += u32::from(check_row(table, key, record).is_err());
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        for key in keys {
            reader.get(table, &key, &mut |_| ()).unwrap();
        }
    }
    assert_eq!(damaged, 0);
}
