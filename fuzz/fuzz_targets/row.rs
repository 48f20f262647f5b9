//! Rows of the index, whole by their checksums, of whatever is in them: checked, shown, and under an
//! engine that reads, lists, sweeps and counts them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, parts};
use ring::{Partition, PartitionCount};
use storage::{
    Command, EngineConfig, IndexWrite, KeysOf, MemoryEngine, ROW_KEY_MAX, RowChange, ShardSet,
    Shards, SimDisk, Table, check_row, show_row,
};
use values::BucketId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fuzz_target!(|input: &[u8]| {
    let [tables, first_key, first, second_key, second] = parts::<5>(input);
    let shards = Shards::new(PartitionCount::new(16).expect("a power of two"), 4);
    let disk = SimDisk::new();
    for (at, (key, body)) in [(first_key, first), (second_key, second)].into_iter().enumerate() {
        let table = tables.get(at).and_then(|&table| Table::ALL.get(usize::from(table)));
        let Some(&table) = table else { continue };
        if !(1..=ROW_KEY_MAX).contains(&key.len()) {
            continue;
        }
        let checksum = xxh3_64_with_seed(body, xxh3_64(key)).to_be_bytes();
        let record = [&checksum[..], body].concat();
        bounded(input.len(), || {
            let _ = (check_row(table, key, &record), show_row(table, key, &record, shards));
        });
        let change = RowChange { table, key, value: Some(&record) };
        disk.index.writer().commit(&[change]).expect("a disk without faults");
    }
    let config = EngineConfig {
        node: clock::NodeId(1),
        process: 1,
        shards: ShardSet::all(shards),
        pending_bytes_max: 1 << 30,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    bounded(input.len(), || use_engine(&disk, config));
});

fn use_engine(disk: &SimDisk, config: EngineConfig) {
    let Ok(mut engine) = MemoryEngine::open(disk.clone(), config) else { return };
    engine.due(u64::MAX, 10);
    let (first, last) = (Partition(0), Partition(15));
    let bucket = BucketId::first("default");
    engine.execute_now(Command::List { first, last, bucket, after: None, limit: 10 });
    engine.execute_now(Command::Conflicts { after: None, limit: 10 });
    let owner = clock::NodeId(2);
    engine.execute_now(Command::Outbox { owner, after: None, limit: 10 });
    for _ in 0..20 {
        if !engine.recount_trees(100) {
            break;
        }
    }
    for _ in 0..20 {
        if !engine.sweep(100) {
            break;
        }
    }
    let _ = engine.engine().check_trees();
    engine.execute_now(Command::Forget {
        partition: Partition(0),
        keys: KeysOf::AllBuckets,
        limit: 10,
    });
}
