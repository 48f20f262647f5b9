//! Durable merges of 64 callers over ten checkpoints, and the same with LMDB alone.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use storage::{Answer, IndexRead, IndexWrite, RowChange, Table, Ticket};
use storage_lmdb::{LmdbIndex, LmdbOptions};

use crate::percentile;
use crate::store::{Store, merge, random};

/// Callers that each wait for their acknowledgement.
pub(crate) const CALLERS: u64 = 64;

/// What was measured of merges.
pub(crate) struct Merges {
    /// A second.
    pub(crate) rate: f64,
    /// What 99.9 % took at most while a checkpoint was written, in microseconds, and while none was.
    pub(crate) during_us: u32,
    pub(crate) between_us: u32,
}

/// Merges by 64 callers, each of which waits for its acknowledgement, until enough checkpoints are
/// done.
pub(crate) fn durable_merges(directory: &Path, keys: u64, checkpoints: u32) -> Merges {
    let (mut store, _) = Store::open(directory);
    store.fill(keys);
    store.checkpoint_count = 0;
    let (mut state, mut count, mut begun) = (1, 0_u64, vec![Instant::now(); CALLERS as usize]);
    let mut free: Vec<u64> = (0..CALLERS).collect();
    let (mut during, mut between) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while store.checkpoint_count < checkpoints {
        for caller in free.drain(..) {
            count += 1;
            begun[caller as usize] = Instant::now();
            let command = merge(random(&mut state, keys), count + 1);
            store.engine.execute(Ticket(caller), command, &mut store.answers);
        }
        store.turn();
        store.wait();
        for (Ticket(caller), answer) in store.answers.drain(..) {
            assert!(matches!(answer, Answer::Merged(_)), "{answer:?}");
            let latency = begun[caller as usize].elapsed().as_micros() as u32;
            if store.is_checkpointing { &mut during } else { &mut between }.push(latency);
            free.push(caller);
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let (during_p, between_p) = (percentile(&mut during, 0.999), percentile(&mut between, 0.999));
    println!(
        "writes: {} during {checkpoints} checkpoints, {} between them",
        during.len(),
        between.len()
    );
    store.close();
    Merges { rate, during_us: during_p, between_us: between_p }
}

/// The same merges with LMDB alone, `group` of them in each commit. Returns merges a second.
pub(crate) fn lmdb_alone(directory: &Path, keys: u64, group: u64, limit: Duration) -> f64 {
    let (reader, mut writer) =
        LmdbIndex::open(directory, &LmdbOptions::default()).expect("an index");
    let row_of = |number: u64| format!("{:016x}{number:012}", random(&mut { number }, u64::MAX));
    let value = [7_u8; 150];
    let mut commit = |numbers: &[u64]| {
        let keys: Vec<String> = numbers.iter().map(|&number| row_of(number)).collect();
        let changes: Vec<_> = keys
            .iter()
            .map(|key| RowChange { table: Table::Header, key: key.as_bytes(), value: Some(&value) })
            .collect();
        // A merge reads what it changes.
        for change in &changes {
            let look = &mut |value: &[u8]| {
                black_box(value);
            };
            reader.get(Table::Header, change.key, look).expect("readable");
        }
        writer.commit(&changes).expect("the disk takes it");
    };
    for first in (0..keys).step_by(10_000) {
        commit(&(first..first + 10_000).collect::<Vec<_>>());
    }
    let (mut state, mut count, start) = (1, 0, Instant::now());
    while start.elapsed() < limit {
        let numbers: Vec<u64> = (0..group).map(|_| random(&mut state, keys)).collect();
        commit(&numbers);
        count += group;
    }
    count as f64 / start.elapsed().as_secs_f64()
}
