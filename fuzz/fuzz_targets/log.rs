//! Files of the log: two segments of whatever is in them. What is whole is read, the same at every
//! start, and what is appended after it is found behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, parts};
use storage::{Files, Log, LogRecovery, Logged, SimFiles};

/// The data directory that the seeds are of.
const DIRECTORY: u64 = 7;

fuzz_target!(|input: &[u8]| {
    let [starts, first, second] = parts::<3>(input);
    let mut files = SimFiles::new();
    let start = |at: usize| starts.get(at * 8..at * 8 + 8).and_then(|it| it.try_into().ok());
    for (at, bytes) in [first, second].into_iter().enumerate() {
        if let Some(start) = start(at).map(u64::from_le_bytes) {
            // Beyond, a position would go round.
            let start = start >> 1;
            files.append(&format!("log-{start:016x}"), bytes).expect("a disk without faults");
        }
    }
    let indexed = start(2).map(u64::from_le_bytes).map(|position| position >> 1);
    let (mut log, found, records) = bounded(input.len(), || open(&files, indexed));
    for (_, record) in &records {
        assert!(record.len() <= input.len());
    }
    let mut batch = Vec::new();
    batch.extend_from_slice(&6_u32.to_le_bytes());
    batch.extend_from_slice(&[0; 12]);
    batch.extend_from_slice(b"behind");
    let end = log.end();
    let appended = log.commit(&mut batch, true).expect("a disk without faults");
    assert!(appended.synced && appended.position > end, "{appended:?} after {end}");
    drop(log);

    let (_, again, records_again) = open(&files, indexed);
    assert_eq!(again.torn_bytes, 0, "what was cut off is torn again: {found:?}, {again:?}");
    let (last, before) = records_again.split_last().expect("what was appended is there");
    assert_eq!(last, &(end, b"behind".to_vec()));
    assert_eq!(before, records, "other records at the second start: {found:?}, {again:?}");
});

type Opened = (Log<SimFiles>, LogRecovery, Vec<(u64, Vec<u8>)>);

fn open(files: &SimFiles, indexed: Option<u64>) -> Opened {
    let mut records = Vec::new();
    let mut visit = |position, logged: Logged<'_>| {
        records.extend(logged.record().map(|record| (position, record.to_vec())))
    };
    let opened = Log::open(files.clone(), DIRECTORY, &[indexed], &mut visit);
    let (log, found) = opened.expect("a disk without faults");
    (log, found, records)
}
