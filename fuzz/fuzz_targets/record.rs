//! Records of the log, whole by their checksums, of whatever is in them: done again by an engine that
//! starts, as it does what it did before it stopped. Hints are among them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, parts};
use ring::{Partition, PartitionCount};
use storage::{
    Command, EngineConfig, IndexRead, Log, MemoryEngine, ShardSet, Shards, SimDisk, SingleEngine,
    Table, check_row, show_record,
};
use values::BucketId;

fuzz_target!(|input: &[u8]| {
    let records = parts::<4>(input);
    let disk = SimDisk::new();
    let (mut log, _) =
        Log::open(disk.files.clone(), 0, &[None], &mut |_, _| ()).expect("a disk without faults");
    for record in records {
        let _ = show_record(record);
        let length = u32::try_from(record.len()).expect("inputs are short");
        // The checks are filled in as it is appended.
        let mut frame = [&length.to_le_bytes()[..], &[0; 12], record].concat();
        log.commit(&mut frame, true).expect("a disk without faults");
    }
    drop(log);
    let rows = bounded(input.len(), || rows(&disk));
    // Everything is in the index now, and the log says nothing more.
    assert_eq!(self::rows(&disk), rows, "the second start makes other rows");
});

/// Starts an engine, checks what it holds, brings it into the index; returns how many keys are live and
/// the rows of keys.
fn rows(disk: &SimDisk) -> (u64, Vec<Vec<u8>>) {
    let config = EngineConfig {
        node: clock::NodeId(1),
        process: 1,
        shards: ShardSet::all(Shards::new(PartitionCount::new(16).expect("a power of two"), 4)),
        pending_bytes_max: 1 << 30,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let (reader, writer) = (disk.index.reader(), disk.index.writer());
    let opened = SingleEngine::open(disk.files.clone(), reader, writer, 0, config.clone());
    let (mut engine, _) = opened.expect("a disk without faults");
    while engine.engine_mut().sweep(1_000) {}
    while engine.log_batch(&mut Vec::new()) {}
    let check = engine.engine().check_trees().expect("a disk without faults");
    assert!(check.is_clean(), "{check:?}");
    engine.checkpoint().expect("a disk without faults");
    drop(engine);
    let reader = disk.index.reader();
    for table in Table::ALL {
        for key in disk.index.keys(table) {
            let mut look = |record: &[u8]| {
                let whole = check_row(table, &key, record);
                assert_eq!(whole, Ok(()), "row {key:?} of {}", table.name());
            };
            reader.get(table, &key, &mut look).expect("it can be read");
        }
    }
    let mut engine = MemoryEngine::open(disk.clone(), config).expect("a disk without faults");
    let (first, last) = (Partition(0), Partition(15));
    let bucket = BucketId::first("default");
    engine.execute_now(Command::List { first, last, bucket, after: None, limit: 10 });
    engine.execute_now(Command::OutboxOwners);
    (engine.engine().live_keys(), disk.index.keys(Table::Header))
}
