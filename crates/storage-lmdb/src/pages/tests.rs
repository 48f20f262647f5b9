//! Real files of LMDB, whole and damaged.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use storage::{IndexRead, IndexWrite, RowChange, Table};

use super::*;
use crate::{LmdbIndex, LmdbOptions};

fn row(number: u32) -> ([u8; 4], Vec<u8>) {
    // Long ones stand in overflows.
    let length = if number.is_multiple_of(50) { 9_000 } else { 60 };
    (number.to_be_bytes(), vec![u8::try_from(number % 251).unwrap(); length])
}

/// An index that was written, changed and emptied in parts: branches, overflows, free pages.
fn filled(dir: &Path) {
    let (_, mut writer) = LmdbIndex::open(dir, &LmdbOptions::default()).unwrap();
    for batch in 0..20_u32 {
        let rows: Vec<_> = (0..200).map(|at| row(batch * 200 + at)).collect();
        let changes: Vec<_> = rows
            .iter()
            .map(|(key, value)| RowChange { table: Table::Header, key, value: Some(value) })
            .collect();
        writer.commit(&changes).unwrap();
        let gone: Vec<_> = (0..60).map(|at| row(batch * 100 + at).0).collect();
        let changes: Vec<_> =
            gone.iter().map(|key| RowChange { table: Table::Header, key, value: None }).collect();
        writer.commit(&changes).unwrap();
    }
    let note = RowChange { table: Table::Meta, key: b"note", value: Some(b"x") };
    writer.commit(&[note]).unwrap();
}

fn checked(dir: &Path) -> Result<u64, String> {
    check_pages(dir, &mut |_, _| ()).map_err(|error| error.to_string())
}

#[test]
fn every_page_of_an_index_in_use_is_looked_at_and_in_order() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(checked(temp.path()), Ok(0), "there is none");
    filled(temp.path());
    let pages = checked(temp.path()).unwrap();
    assert!(pages > 100, "{pages}");
    // Another process of LMDB's goes on from it.
    let (reader, mut writer) = LmdbIndex::open(temp.path(), &LmdbOptions::default()).unwrap();
    let (key, value) = row(7);
    writer.commit(&[RowChange { table: Table::Element, key: &key, value: Some(&value) }]).unwrap();
    let mut rows = 0;
    reader
        .scan(Table::Header, &[], &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(reader.snapshot(|all| all.row_count(Table::Header)).unwrap(), Ok(rows));
    assert_eq!(reader.snapshot(|all| all.row_count(Table::Outbox)).unwrap(), Ok(0));
    drop((reader, writer));
    checked(temp.path()).unwrap();
}

#[test]
fn a_list_of_free_pages_does_not_go_beyond_its_place() {
    let list = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
    let read = |words: &[u64]| free_list(&list(words)).map(Iterator::collect::<Vec<_>>);
    assert_eq!(read(&[2, 9, 8]), Some(vec![9, 8]));
    assert_eq!(read(&[1, 9, 8]), Some(vec![9]), "there may be room behind it");
    assert_eq!(read(&[3, 9, 8]), None);
    assert_eq!((read(&[]), read(&[u64::MAX, 9])), (None, None));
}

/// Any byte changed, any number of times: either it is found, or LMDB reads the file without harm, and
/// every row that it shows has its key in order.
#[test]
fn what_is_not_found_does_no_harm() {
    let temp = tempfile::tempdir().unwrap();
    let original = temp.path().join("original");
    filled(&original);
    let bytes = fs::read(original.join(DATA_FILE)).unwrap();
    let (mut state, mut found, mut passed) = (1_u64, 0, 0);
    let mut random = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let rounds = std::env::var("MERGANSER_FLIPS").ok().and_then(|rounds| rounds.parse().ok());
    for _ in 0..rounds.unwrap_or(400_u32) {
        let mut bytes = bytes.clone();
        for _ in 0..=random(3) {
            // Half of them where LMDB keeps its own numbers: at the beginning of a page.
            let page = random(bytes.len() / 4_096) * 4_096;
            let within = if random(2) == 0 { 64 } else { 4_096 };
            let at = page + random(within);
            bytes[at] ^= 1 << random(8);
        }
        let dir = temp.path().join("copy");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(DATA_FILE), &bytes).unwrap();
        let is_found = checked(&dir).is_err();
        if !is_found {
            let options = LmdbOptions { may_create: false, ..LmdbOptions::default() };
            let (reader, _) = LmdbIndex::open(&dir, &options).unwrap();
            for table in Table::ALL {
                let mut last = Vec::new();
                reader
                    .scan(table, &[], &mut |key, value| {
                        assert!(last.as_slice() < key);
                        last = key.to_vec();
                        std::hint::black_box(
                            value.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                        );
                        ControlFlow::Continue(())
                    })
                    .unwrap();
            }
            passed += 1;
        }
        found += u32::from(is_found);
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{found} found, {passed} in values, padding or pages that are not in use");
    assert!(found > 0 && passed > 0);
}
