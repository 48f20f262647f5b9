//! What is shown of a data directory, whole and with damaged pages.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use clock::{CausalContext, Stamp};
use storage::{Command, Durability, EngineConfig, ShardSet, SingleEngine, Ticket};
use storage_lmdb::OpenError;
use values::{BytesOp, Key, Lifetime, Operation};

use super::*;
use crate::config::Settings;
use crate::data_directory::{DataDirectory, INDEX};
use crate::routing::LoopOwners;

/// Keys in the index, and keys in the log only.
const INDEXED: u32 = 200;
const LOGGED: u32 = 30;

/// The directory of a node that was killed.
fn fill(dir: &Path) {
    let settings = Settings { data: Some(dir.to_owned()), loops: Some(1), ..Settings::default() };
    let node = settings.resolve().unwrap();
    let DataDirectory { files, reader, writer, stamp, .. } = DataDirectory::open(&node).unwrap();
    let config = EngineConfig {
        node: node.node(),
        process: 1,
        shards: ShardSet::all(LoopOwners::new(node.partitions, 1).shards()),
        pending_bytes_max: 1 << 20,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let (mut engine, _) =
        SingleEngine::open(files, reader, writer, stamp.directory, config).unwrap();
    for number in 0..INDEXED + LOGGED {
        if number == INDEXED {
            engine.checkpoint().unwrap();
        }
        let update = Command::Update {
            key: key(number),
            operation: Operation::Bytes(BytesOp::Put(format!("value {number}").into())),
            lifetime: Lifetime::Usual,
            observed: CausalContext::default(),
            shown: Vec::new(),
            stamp: Stamp::from_millis(1),
            named: None,
            limits: std::sync::Arc::default(),
            durability: Durability::Sync,
        };
        let mut answers = Vec::new();
        engine.execute(Ticket(0), update, &mut answers);
        assert!(engine.log_batch(&mut answers));
    }
}

fn key(number: u32) -> Key {
    Key::new("b", format!("key-{number}")).unwrap()
}

type Show = fn(&Path, &DebugFilter, Lines<'_>) -> Result<(), OfflineError>;

fn shown(show: Show, dir: &Path, filter: &DebugFilter) -> Result<Vec<String>, OfflineError> {
    let mut all = Vec::new();
    let done = show(dir, filter, &mut |line| {
        all.push(line);
        ControlFlow::Continue(())
    });
    done.map(|()| all)
}

fn of_key(number: u32) -> DebugFilter {
    DebugFilter { key: Some(format!("key-{number}").into()), ..DebugFilter::default() }
}

#[test]
fn rows_records_and_trees_are_shown_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let all = DebugFilter::default();
    let headers = DebugFilter { table: Some(Table::Header), ..DebugFilter::default() };
    assert_eq!(shown(debug_rows, dir.path(), &headers).unwrap().len(), INDEXED as usize);
    assert_eq!(
        shown(debug_rows, dir.path(), &of_key(INDEXED)).unwrap().len(),
        0,
        "in the log only"
    );

    let log = shown(debug_log, dir.path(), &all).unwrap();
    let merges = log.iter().filter(|line| line.contains("merge into")).count();
    assert!(merges >= LOGGED as usize, "{log:?}");
    let [line] = shown(debug_log, dir.path(), &of_key(INDEXED + 1)).unwrap().try_into().unwrap();
    let shard = LoopOwners::new(partitions(dir.path()), 1).shards().of_token(token(INDEXED + 1));
    let place = format!("  shard {:>2}  merge into ", shard.0);
    let (position, what) = line.split_once(&place).unwrap_or_else(|| panic!("{line}"));
    assert!(position.trim().parse::<u64>().is_ok() && what.contains("key-201"), "{line}");

    let roots = shown(debug_tree, dir.path(), &all).unwrap();
    let keys = |line: &String| {
        let count = line.split_once(" keys").unwrap().0.rsplit(' ').next().unwrap();
        count.parse::<u32>().unwrap()
    };
    assert_eq!(roots.iter().map(keys).sum::<u32>(), INDEXED, "{roots:?}");
    let partition = partitions(dir.path()).partition(token(7)).0;
    let of_one = DebugFilter { partition: Some(partition), ..DebugFilter::default() };
    let leaves = shown(debug_tree, dir.path(), &of_one).unwrap();
    let root = roots.iter().find(|line| line.starts_with(&format!("partition {partition:>5},")));
    assert_eq!(leaves.iter().map(keys).sum::<u32>(), keys(root.unwrap()), "{leaves:?}");
    assert!(leaves.iter().all(|line| line.contains("leaf")), "{leaves:?}");
}

fn token(number: u32) -> ring::Token {
    ring::Token(key(number).identifier())
}

fn partitions(dir: &Path) -> ring::PartitionCount {
    Directory::open(dir).unwrap().shards.partitions()
}

/// Of such pages LMDB ends the process.
#[test]
fn a_damaged_page_is_named_and_the_log_shown_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let all = DebugFilter::default();
    let log = shown(debug_log, dir.path(), &all).unwrap();
    let data = dir.path().join(INDEX).join("data.mdb");
    let whole = fs::read(&data).unwrap();
    let mut refused = 0;
    for flip in 0..60 {
        let mut bytes = whole.clone();
        // In the head of a page behind the two with which the file begins, which any opening checks.
        let page = 2 + flip * 7 % (bytes.len() / 4_096 - 2);
        bytes[page * 4_096 + flip * 5 % 24] ^= 1 << (flip % 8);
        fs::write(&data, bytes).unwrap();
        for show in [debug_rows as Show, debug_tree] {
            let Err(error) = shown(show, dir.path(), &all) else { continue };
            assert!(matches!(error, OfflineError::Open(OpenError::Damaged { .. })), "{error}");
            let said = error.to_string();
            assert!(said.contains(" of data.mdb: ") && said.contains("restore it"), "{said}");
            refused += 1;
        }
        assert_eq!(shown(debug_log, dir.path(), &all).unwrap(), log);
    }
    assert!(refused > 20, "{refused}");
}
