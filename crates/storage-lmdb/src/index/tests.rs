use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use storage::conformance;
use tempfile::TempDir;

use super::*;

fn small() -> LmdbOptions {
    LmdbOptions { map_size: MIB, ..LmdbOptions::default() }
}

fn put<'a>(table: Table, key: &'a [u8], value: &'a [u8]) -> RowChange<'a> {
    RowChange { table, key, value: Some(value) }
}

fn get(reader: &LmdbReader, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    reader.get(Table::Header, key, &mut |value| found = Some(value.to_vec())).unwrap();
    found
}

fn rows(reader: &LmdbReader, table: Table) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, SeamError> {
    let mut rows = BTreeMap::new();
    reader.scan(table, b"", &mut |key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// SplitMix64: enough variety for a test, the same at every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[test]
fn lmdb_keeps_the_contract_of_an_index() {
    let temp = tempfile::tempdir().unwrap();
    let mut count = 0;
    conformance::check_index(|| {
        count += 1;
        LmdbIndex::open(&temp.path().join(count.to_string()), &LmdbOptions::default()).unwrap()
    });
    assert_eq!(count, 10);
}

#[test]
fn an_engine_answers_over_lmdb_as_over_memory() {
    for pace in conformance::Pace::ALL {
        let temp = tempfile::tempdir().unwrap();
        conformance::check_commands(
            |config| {
                let files = crate::DiskFiles::open(&temp.path().join("log")).unwrap();
                let index = LmdbIndex::open(&temp.path().join("index"), &LmdbOptions::default());
                let (reader, writer) = index.unwrap();
                storage::SingleEngine::open(files, reader, writer, 7, config).unwrap().0
            },
            pace,
        );
    }
}

#[test]
fn readers_are_shared_between_threads_and_the_writer_moves_to_one() {
    fn shared<T: Clone + Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<LmdbReader>();
    moved::<LmdbWriter>();
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    writer.commit(&[put(Table::Header, b"k", b"v")]).unwrap();
    drop((reader, writer));
    let (reader, _writer) = LmdbIndex::open(temp.path(), &LmdbOptions::default()).unwrap();
    assert_eq!(get(&reader, b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_second_opening_in_this_process_is_refused_until_the_last_handle_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    let again = || LmdbIndex::open(temp.path(), &small());
    assert!(matches!(again().unwrap_err(), OpenError::AlreadyOpen(_)));
    drop(writer);
    assert!(matches!(again().unwrap_err(), OpenError::AlreadyOpen(_)), "a reader is left");
    assert_eq!(get(&reader, b"k"), None);
    drop(reader);
    again().unwrap();
}

#[test]
fn the_map_grows_by_itself_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    assert_eq!(writer.map_size(), Ok(MIB));
    for at in 0..40_u8 {
        writer.commit(&[put(Table::Header, &[at], &vec![at; 200_000])]).unwrap();
    }
    // One batch that needs several doublings at once.
    let rows_of: Vec<_> = (40..80_u8).map(|at| ([at], vec![at; 500_000])).collect();
    let batch: Vec<_> = rows_of.iter().map(|(key, value)| put(Table::Header, key, value)).collect();
    writer.commit(&batch).unwrap();
    assert_eq!(writer.map_size(), Ok(32 * MIB));
    for at in 0..80_u8 {
        let length = if at < 40 { 200_000 } else { 500_000 };
        assert!(get(&reader, &[at]) == Some(vec![at; length]), "row {at}");
    }
    drop((reader, writer));
    let (reader, writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    assert!(writer.map_size().unwrap() as u64 >= 28_000_000, "never smaller than the contents");
    assert_eq!(rows(&reader, Table::Header).unwrap().len(), 80);
}

#[test]
fn a_map_at_its_limit_refuses_writes_with_a_clear_error_and_reads_on() {
    let temp = tempfile::tempdir().unwrap();
    let options = LmdbOptions { map_size: MIB, map_limit: 2 * MIB, ..LmdbOptions::default() };
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &options).unwrap();
    writer.commit(&[put(Table::Header, b"kept", b"v")]).unwrap();
    let error = writer.commit(&[put(Table::Header, b"k", &vec![0; 4 * MIB])]).unwrap_err();
    assert!(error.to_string().contains("its limit of 2097152 bytes"), "{error}");
    assert_eq!(get(&reader, b"kept").as_deref(), Some(&b"v"[..]));
    writer.commit(&[put(Table::Header, b"k", b"small")]).unwrap();
    assert_eq!(get(&reader, b"k").as_deref(), Some(&b"small"[..]));
}

#[test]
fn an_index_that_cannot_be_opened_again_to_grow_goes_on_once_it_can() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    writer.commit(&[put(Table::Header, b"kept", b"v")]).unwrap();
    let (data, away) = (temp.path().join(DATA_FILE), temp.path().join("away"));
    fs::rename(&data, &away).unwrap();
    fs::write(&data, [1; 10_000]).unwrap();
    let value = vec![0; 2 * MIB];
    let large = [put(Table::Header, b"large", &value)];
    for _ in 0..2 {
        let error = writer.commit(&large).unwrap_err();
        assert!(error.to_string().contains("nothing was applied"), "{error}");
        assert!(error.to_string().contains("is not an LMDB file"), "{error}");
        reader.get(Table::Header, b"kept", &mut |_| ()).unwrap_err();
    }
    fs::rename(&away, &data).unwrap();
    writer.commit(&large).unwrap();
    assert_eq!(get(&reader, b"kept").as_deref(), Some(&b"v"[..]));
    assert_eq!(rows(&reader, Table::Header).unwrap().len(), 2);
}

/// Readers stand inside scans, on borrowed rows, while the writer makes the map grow again and
/// again. Were the map resized under them (as lmdb-rkv's `set_map_size` does), this would not
/// fail but die of SIGBUS or SIGSEGV.
#[test]
fn readers_inside_scans_outlive_a_map_that_grows_many_times() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    for at in 0..64_u8 {
        writer.commit(&[put(Table::Meta, &[at], &[at; 3_000])]).unwrap();
    }
    let done = AtomicBool::new(false);
    let scans = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let reader = reader.clone();
            let (done, scans) = (&done, &scans);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let mut held: Option<usize> = None;
                    reader
                        .scan(Table::Meta, b"", &mut |key, value| {
                            // Let the writer run into the gate while rows are borrowed.
                            std::thread::yield_now();
                            assert!(value.iter().all(|byte| *byte == key[0]));
                            // A read inside a read must not wait for the writer that waits.
                            let nested = reader.get(Table::Meta, &[63 - key[0]], &mut |value| {
                                assert!(value.iter().all(|byte| *byte == 63 - key[0]));
                            });
                            assert_eq!(nested, Ok(true));
                            held = Some(held.map_or(1, |rows| rows + 1));
                            ControlFlow::Continue(())
                        })
                        .unwrap();
                    assert_eq!(held, Some(64));
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for at in 0..64_u8 {
            writer.commit(&[put(Table::Header, &[at], &vec![at; MIB])]).unwrap();
        }
        // Every reader has scanned at least once more after the last growth.
        let target = scans.load(Ordering::Relaxed) + 3;
        while scans.load(Ordering::Relaxed) < target {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(writer.map_size(), Ok(128 * MIB), "seven times doubled");
    assert_eq!(rows(&reader, Table::Header).unwrap().len(), 64);
}

#[test]
fn a_scan_in_another_thread_sees_one_commit_whole() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    let keys: Vec<[u8; 2]> = (0..500_u16).map(u16::to_be_bytes).collect();
    let mut write = |version: u32| {
        let value = version.to_be_bytes();
        let rows: Vec<_> = keys.iter().map(|key| put(Table::Element, key, &value)).collect();
        writer.commit(&rows).unwrap();
    };
    write(0);
    std::thread::scope(|scope| {
        let scanner = scope.spawn(|| {
            let mut last = 0;
            while last < 60 {
                let rows = rows(&reader, Table::Element).unwrap();
                let versions: Vec<u32> = rows
                    .values()
                    .map(|value| u32::from_be_bytes(value.as_slice().try_into().unwrap()))
                    .collect();
                assert_eq!(versions, vec![versions[0]; 500]);
                assert!(versions[0] >= last, "time does not run backwards");
                last = versions[0];
            }
        });
        for at in 1..=60 {
            write(at);
        }
        scanner.join().unwrap();
    });
}

#[test]
fn a_map_that_would_have_to_grow_inside_a_read_is_an_error_and_not_a_deadlock() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    writer.commit(&[put(Table::Header, b"k", b"v")]).unwrap();
    let value = vec![0; 2 * MIB];
    let large = [put(Table::Header, b"large", &value)];
    reader
        .get(Table::Header, b"k", &mut |_| {
            writer.commit(&[put(Table::Header, b"small", b"v")]).unwrap();
            let error = writer.commit(&large).unwrap_err();
            assert!(error.to_string().contains("inside a read"), "{error}");
        })
        .unwrap();
    assert_eq!(get(&reader, b"large"), None);
    writer.commit(&large).unwrap();
    assert_eq!(rows(&reader, Table::Header).unwrap().len(), 3);
}

#[test]
fn a_panic_inside_a_read_leaves_the_index_usable() {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    writer.commit(&[put(Table::Header, b"k", b"v")]).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        reader.get(Table::Header, b"k", &mut |_| panic!("of the caller"))
    }));
    assert!(panicked.is_err());
    writer.commit(&[put(Table::Header, b"large", &vec![0; 2 * MIB])]).unwrap();
    assert_eq!(get(&reader, b"k").as_deref(), Some(&b"v"[..]));
}

/// Two indexes in one thread, one read inside the other: each finds its own.
#[test]
fn nested_reads_of_two_indexes_do_not_mix() {
    let temp = tempfile::tempdir().unwrap();
    let open = |name: &str| LmdbIndex::open(&temp.path().join(name), &small()).unwrap();
    let ((one, mut one_writer), (two, mut two_writer)) = (open("one"), open("two"));
    one_writer.commit(&[put(Table::Header, b"k", b"one")]).unwrap();
    two_writer.commit(&[put(Table::Header, b"k", b"two")]).unwrap();
    let mut seen = Vec::new();
    one.get(Table::Header, b"k", &mut |_| {
        two.get(Table::Header, b"k", &mut |_| {
            seen.extend([get(&one, b"k"), get(&two, b"k")]);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(seen, [Some(b"one".to_vec()), Some(b"two".to_vec())]);
}

#[test]
fn more_reads_at_once_than_lmdb_has_slots_is_an_error() {
    fn nest(reader: &LmdbReader, depth: usize) -> (usize, Option<SeamError>) {
        let mut inner = (depth, None);
        let read = reader.get(Table::Header, b"k", &mut |_| inner = nest(reader, depth + 1));
        match read {
            Ok(_) => inner,
            Err(error) => (depth, Some(error)),
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    writer.commit(&[put(Table::Header, b"k", b"v")]).unwrap();
    let (depth, error) = nest(&reader, 0);
    assert!(depth >= READERS_MIN, "{depth} reads at once");
    assert!(error.unwrap().to_string().contains("reads of the index at once"));
    assert_eq!(get(&reader, b"k").as_deref(), Some(&b"v"[..]), "it goes on afterwards");
}

/// The files of an index with rows in every table, large values among them.
fn genuine() -> (TempDir, PathBuf, Vec<u8>) {
    let temp = tempfile::tempdir().unwrap();
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
    for table in Table::ALL {
        let rows: Vec<_> =
            (0..200_u16).map(|at| (at.to_be_bytes(), vec![7; usize::from(at) * 37])).collect();
        let batch: Vec<_> = rows.iter().map(|(key, value)| put(table, key, value)).collect();
        writer.commit(&batch).unwrap();
    }
    drop((reader, writer));
    let data = temp.path().join(DATA_FILE);
    let bytes = fs::read(&data).unwrap();
    (temp, data, bytes)
}

#[test]
fn a_data_file_of_garbage_is_a_clear_error_at_opening() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join(DATA_FILE);
    let mut state = 1;
    for length in [1, 15, 100, 4_095, 4_096, 8_192, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
        fs::write(&data, &bytes).unwrap();
        let error = LmdbIndex::open(temp.path(), &small()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{length}: {error}");
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
        assert_eq!(fs::read(&data).unwrap(), bytes, "it is left as it was");
    }
    // LMDB's table of readers holds nothing that lasts: garbage there is replaced.
    fs::remove_file(&data).unwrap();
    for length in [0, 100, 65_536, 70_000] {
        let bytes: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
        fs::write(temp.path().join("lock.mdb"), bytes).unwrap();
        let (reader, mut writer) = LmdbIndex::open(temp.path(), &small()).unwrap();
        writer.commit(&[put(Table::Header, b"k", b"v")]).unwrap();
        assert_eq!(get(&reader, b"k").as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn a_header_with_any_byte_changed_is_refused_or_read_without_a_crash() {
    let (temp, data, bytes) = genuine();
    let mut state = 2;
    let (mut refused, mut opened) = (0, 0);
    for header in [0, 4_096] {
        for at in header..header + 152 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (random(&mut state) % 8);
            fs::write(&data, &bytes).unwrap();
            match LmdbIndex::open(temp.path(), &small()) {
                Err(OpenError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("byte {at}: {error}"),
                // A flipped bit that leaves a field in its range: an older state, an error, or
                // counters that are off. LMDB keeps no checksum that would tell.
                Ok((reader, _writer)) => {
                    opened += 1;
                    for table in Table::ALL {
                        let _ = rows(&reader, table);
                    }
                }
            }
        }
    }
    assert!(refused > 20 && opened > 20, "{refused} refused, {opened} opened");
}

#[test]
fn a_data_file_cut_short_is_an_error_and_never_kills_the_process() {
    let (temp, data, bytes) = genuine();
    let mut errors = 0;
    for pages in (0..bytes.len() / 4_096).step_by(7) {
        fs::write(&data, &bytes[..pages * 4_096]).unwrap();
        match LmdbIndex::open(temp.path(), &small()) {
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "{pages} pages: {error}");
                errors += 1;
            }
            Ok((reader, _writer)) => {
                let results = Table::ALL.map(|table| rows(&reader, table));
                errors += usize::from(results.iter().any(Result::is_err));
            }
        }
    }
    assert!(errors > 5, "{errors} of the cuts were noticed by LMDB itself");
}

#[test]
fn an_index_that_must_be_there_is_not_created() {
    let temp = tempfile::tempdir().unwrap();
    let options = LmdbOptions { may_create: false, ..small() };
    let refused = || LmdbIndex::open(temp.path(), &options).unwrap_err().to_string();
    assert!(refused().contains("data.mdb is missing or empty"), "{}", refused());
    fs::write(temp.path().join("data.mdb"), b"").unwrap();
    assert!(refused().contains("data.mdb is missing or empty"), "{}", refused());
    fs::remove_file(temp.path().join("data.mdb")).unwrap();
    drop(LmdbIndex::open(temp.path(), &small()).unwrap());
    LmdbIndex::open(temp.path(), &options).unwrap();
}
