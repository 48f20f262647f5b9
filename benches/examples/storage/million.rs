//! A million keys on disk: how much they take, how long a read takes, how long a start.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use storage::{Command, IndexRead, Table, Ticket};
use values::{Key, Scope};

use crate::percentile;
use crate::store::{Store, key, merge, random};

/// Keys that are read and that a start finds.
const MILLION: u64 = 1_000_000;
const TAIL_BYTES: u64 = 64 << 20;

/// What was measured of them.
pub(crate) struct Million {
    /// On disk, after a checkpoint.
    pub(crate) bytes_a_key: u64,
    /// Of a random key, by the engine and of LMDB alone.
    pub(crate) read_ns: u32,
    pub(crate) lmdb_ns: u32,
    /// A start that finds them, and a tail to replay.
    pub(crate) start: Duration,
}

/// A million keys of 100 bytes: their size on disk, a read, and a start that finds a tail of 64 MiB to replay.
pub(crate) fn a_million(directory: &Path) -> Million {
    let (mut store, _) = Store::open(directory);
    store.fill(MILLION);
    let size = std::fs::metadata(directory.join("index/data.mdb")).expect("it is there").len();
    let bytes_a_key = size / MILLION;
    let rows: Vec<Vec<u8>> = {
        let mut rows = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            rows.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        };
        store.reader.scan(Table::Header, &[], visit).expect("readable");
        rows
    };
    let (mut bare, mut engine) = (Vec::new(), Vec::new());
    const READS: u64 = 100_000;
    for round in 0..5_u64 {
        let (mut state, start) = (round, Instant::now());
        for _ in 0..READS {
            let row = &rows[random(&mut state, MILLION) as usize];
            let look = &mut |value: &[u8]| {
                black_box(value);
            };
            store.reader.get(Table::Header, row, look).expect("readable");
        }
        bare.push(start.elapsed().as_nanos() as u32 / READS as u32);
        let keys: Vec<Key> = (0..READS).map(|_| key(random(&mut state, MILLION))).collect();
        let start = Instant::now();
        for key in keys {
            let read = Command::Read { key, scope: Scope::Headers };
            store.engine.execute(Ticket(0), read, &mut store.answers);
            store.answers.clear();
        }
        engine.push(start.elapsed().as_nanos() as u32 / READS as u32);
    }
    let (bare, engine) = (percentile(&mut bare, 0.5), percentile(&mut engine, 0.5));
    // The tail: no checkpoint from here on.
    let (mut state, mut bytes, mut stamp) = (9, 0, 2);
    while bytes < TAIL_BYTES {
        for _ in 0..512 {
            stamp += 1;
            let command = merge(random(&mut state, MILLION), stamp);
            store.engine.execute(Ticket(0), command, &mut store.answers);
        }
        let batch = store.engine.take_batch().expect("there are records");
        bytes += batch.records.len() as u64;
        store.batches.send(batch).expect("it runs");
        store.wait();
        store.answers.clear();
    }
    store.close();
    let start = Instant::now();
    let (store, records) = Store::open(directory);
    let took = start.elapsed();
    println!("start: {records} records, {:.0} a second", records as f64 / took.as_secs_f64());
    assert_eq!(store.engine.live_keys(), MILLION);
    store.close();
    Million { bytes_a_key, read_ns: engine, lmdb_ns: bare, start: took }
}
