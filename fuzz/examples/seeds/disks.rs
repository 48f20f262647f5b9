//! What stands on disk: files of the log, records, rows, backups.

use std::ops::ControlFlow;
use std::sync::Arc;

use clock::{CausalContext, NodeId, RingId, Round, Stamp};
use merganser_fuzz::join_parts;
use ring::PartitionCount;
use storage::{
    Answer, Command, DIRECTORY_FORMAT, DirectoryStamp, Durability, EngineConfig, Files, IndexRead,
    Log, Logged, MANIFEST_FILE, MemoryEngine, ShardSet, Shards, SimDisk, SimFiles, Table, Taking,
};
use values::{Delta, Key, Lifetime, Limits};

use crate::Seeds;
use crate::typed::{WALL_MS, deltas, operations};

/// As the target `log` has it.
const DIRECTORY: u64 = 7;

fn frame(record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(record.len()).expect("it is short");
    [&length.to_le_bytes()[..], &[0; 12], record].concat()
}

pub(crate) fn logs() -> Seeds {
    let files = SimFiles::new();
    let (mut log, _) =
        Log::open(files.clone(), DIRECTORY, &[None], &mut |_, _| ()).expect("an empty disk");
    for record in [&b"one"[..], b"", b"a third, longer record"] {
        log.commit(&mut frame(record), true).expect("a disk without faults");
    }
    drop(log);
    let name = files.list().expect("it can be read").pop().expect("there is a segment");
    let whole = files.read(&name, 0, usize::MAX).expect("it can be read");
    let starts = |starts: &[u64]| -> Vec<u8> {
        starts.iter().flat_map(|start| (start << 1).to_le_bytes()).collect()
    };
    let mut damaged = whole.clone();
    damaged[60] ^= 1;
    let one = starts(&[0]);
    let two = starts(&[0, whole.len() as u64 - 40, 5]);
    Seeds::from([
        ("whole".into(), join_parts(&[&one, &whole, &[]])),
        ("torn".into(), join_parts(&[&one, &whole[..whole.len() - 7], &[]])),
        ("header".into(), join_parts(&[&one, &whole[..40], &[]])),
        ("damaged".into(), join_parts(&[&one, &damaged, &[]])),
        ("followed".into(), join_parts(&[&two, &whole, &whole])),
    ])
}

/// A replica at which everything was done once, and its disk.
fn replica() -> (MemoryEngine, SimDisk) {
    let config = EngineConfig {
        node: NodeId(1),
        process: 1,
        shards: ShardSet::all(Shards::new(PartitionCount::new(16).expect("a power of two"), 4)),
        pending_bytes_max: 1 << 30,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let disk = SimDisk::new();
    let mut engine = MemoryEngine::open(disk.clone(), config).expect("an empty disk");
    for (at, operation) in operations().into_iter().enumerate() {
        let name = format!("{:?}", operation.tag());
        let key = Key::new("default", if at % 5 == 4 { "k".repeat(600) } else { name });
        engine.execute_now(Command::Update {
            key: key.expect("it is short"),
            operation,
            lifetime: Lifetime::Usual,
            observed: CausalContext::default(),
            shown: Vec::new(),
            stamp: Stamp::from_millis(WALL_MS),
            named: None,
            limits: Arc::new(Limits::default()),
            durability: Durability::Sync,
        });
    }
    let owner = NodeId(2);
    for (_, delta, _) in deltas().into_iter().step_by(9) {
        let key = Key::new("default", "kept").expect("it is short");
        engine.execute_now(deferred(owner, key, delta));
    }
    let kept = engine.execute_now(Command::Outbox { owner, after: None, limit: 1 });
    if let [Answer::Outbox(pending)] = &kept[..] {
        let position = pending[0].position.clone();
        engine.execute_now(Command::Redirect { position, owners: vec![NodeId(3)] });
        engine.execute_now(deferred(owner, pending[0].key.clone(), pending[0].delta.clone()));
    }
    engine.execute_now(Command::Enter { round: Round { ring: RingId(7), number: 1 } });
    engine.execute_now(Command::Note { notes: vec![("ring".into(), "a ring".into())] });
    (engine, disk)
}

fn deferred(owner: NodeId, key: Key, delta: Delta) -> Command {
    Command::Defer { owner, key, delta, durability: Durability::Sync }
}

pub(crate) fn records() -> Seeds {
    let (engine, disk) = replica();
    drop(engine);
    let mut records = Vec::new();
    let visit = &mut |_, logged: Logged<'_>| records.extend(logged.record().map(<[u8]>::to_vec));
    Log::open(disk.files, 0, &[None], visit).expect("a disk without faults");
    let mut seeds = Seeds::new();
    for (at, four) in records.chunks(4).enumerate() {
        let mut parts: Vec<&[u8]> = four.iter().map(Vec::as_slice).collect();
        parts.resize(4, &[]);
        seeds.insert(format!("{at:02}"), join_parts(&parts));
    }
    seeds
}

pub(crate) fn rows() -> Seeds {
    let (_engine, disk) = replica();
    let reader = disk.index.reader();
    let mut rows = Vec::new();
    for table in Table::ALL {
        for key in disk.index.keys(table).into_iter().take(8) {
            let mut record = Vec::new();
            reader.get(table, &key, &mut |found| record = found.to_vec()).expect("it can be read");
            // Without its checksum, which the target makes.
            let body = record.get(8..).unwrap_or_default().to_vec();
            rows.push((table, key, body));
        }
    }
    let mut seeds = Seeds::new();
    for (at, two) in rows.windows(2).enumerate().step_by(2) {
        let [(table, key, body), (table_2, key_2, body_2)] = two else { continue };
        let tables = [*table as u8, *table_2 as u8];
        let parts = [&tables[..], key, body, key_2, body_2];
        seeds.insert(format!("{at:02}-{}", table.name()), join_parts(&parts));
    }
    seeds
}

pub(crate) fn backups() -> Seeds {
    let (_engine, disk) = replica();
    let stamp = DirectoryStamp {
        format: DIRECTORY_FORMAT,
        cluster: "shop".into(),
        node: NodeId(1),
        node_name: "n1".into(),
        partitions: 16,
        shards: 4,
        directory: DIRECTORY,
    };
    let files = SimFiles::new();
    let taking = Taking::begin(files.clone(), files.clone(), &stamp).expect("an empty disk");
    taking
        .copy_rows(&disk.index.reader(), 1_000, &mut |_, _| ControlFlow::Continue(()))
        .expect("a disk without faults");
    let read = |name: &str| files.read(name, 0, usize::MAX).expect("it is there");
    let names = files.list().expect("it can be read");
    let find = |kind: &str| names.iter().find(|name| name.starts_with(kind)).expect("it is there");
    let manifest = read(MANIFEST_FILE);
    let (stamp, rows) = (read(find("stamp-")), read(find("rows-")));
    // Without its checksum, which the target makes too.
    let open = |text: &[u8]| -> Vec<u8> {
        let text = str::from_utf8(text).expect("it is text");
        let end = text.rfind("checksum = ").expect("it is sealed");
        text.as_bytes()[..end].to_vec()
    };
    let name = find("rows-").as_bytes();
    Seeds::from([
        ("whole".into(), join_parts(&[&manifest, &stamp, &rows, name])),
        ("open".into(), join_parts(&[&open(&manifest), &open(&stamp), &rows, name])),
    ])
}
