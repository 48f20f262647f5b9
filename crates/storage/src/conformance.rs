//! What every implementation of the seams must do, and an engine over them: one suite, run against the simulated
//! doubles and against the real ones, so that what holds in simulation holds on a disk.
//!
//! Plain functions that panic with the claim that failed. They read no clock and use no threads;
//! what only threads, crashes or a full device can show, each implementation tests for itself.

mod commands;

use std::ops::ControlFlow;

pub use commands::{Pace, check_commands};

use crate::seam::{FILE_NAME_MAX, Files, IndexRead, IndexWrite, ROW_KEY_MAX, RowChange, Table};

/// Checks an index. `open` makes a new empty one at each call.
///
/// # Panics
/// When the index breaks its contract.
pub fn check_index<R: IndexRead, W: IndexWrite>(mut open: impl FnMut() -> (R, W)) {
    let checks: [fn(&R, &mut W); 10] = [
        an_empty_index_has_no_rows,
        rows_come_in_order_from_a_key,
        a_scan_stops_when_told,
        values_are_replaced_and_deleted,
        a_batch_is_applied_in_order,
        a_batch_spans_tables_that_do_not_mix,
        a_refused_batch_leaves_nothing,
        values_are_of_any_size,
        a_scan_sees_one_snapshot,
        a_read_may_be_made_inside_another,
    ];
    for check in checks {
        let (reader, mut writer) = open();
        check(&reader, &mut writer);
    }
}

/// Checks files. `open` makes a new empty directory at each call.
///
/// # Panics
/// When the files break their contract.
pub fn check_files<F: Files>(mut open: impl FnMut() -> F) {
    let checks: [fn(&mut F); 8] = [
        an_empty_directory_lists_nothing,
        appends_add_up_and_reads_stop_at_the_end,
        a_cut_file_grows_again_from_the_cut,
        a_renaming_replaces,
        a_removal_is_idempotent,
        zeros_that_wait_for_appends_are_not_shown,
        absent_files_are_errors_where_contents_matter,
        names_that_would_leave_the_directory_are_refused,
    ];
    for check in checks {
        check(&mut open());
    }
}

fn put<'a>(table: Table, key: &'a [u8], value: &'a [u8]) -> RowChange<'a> {
    RowChange { table, key, value: Some(value) }
}

fn delete(table: Table, key: &[u8]) -> RowChange<'_> {
    RowChange { table, key, value: None }
}

fn get(reader: &impl IndexRead, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut looks = Vec::new();
    let found = reader
        .get(table, key, &mut |value| looks.push(value.to_vec()))
        .expect("a read of a legal key succeeds");
    assert_eq!(looks.len(), usize::from(found), "a value is looked at once if found, else never");
    let mut each = Vec::new();
    reader
        .get_each(&[(table, key), (table, key)], &mut |at, value| each.push((at, value.to_vec())))
        .expect("so does one of several");
    let found =
        looks.first().into_iter().flat_map(|value| [(0, value.clone()), (1, value.clone())]);
    assert!(each.into_iter().eq(found), "rows are looked at in order, under their numbers");
    looks.pop()
}

/// Up to `limit` keys from `from`.
fn keys(reader: &impl IndexRead, table: Table, from: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    reader
        .scan(table, from, &mut |key, _| {
            keys.push(key.to_vec());
            if keys.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("a scan succeeds");
    keys
}

fn all(reader: &impl IndexRead, table: Table) -> Vec<Vec<u8>> {
    keys(reader, table, b"", usize::MAX)
}

fn an_empty_index_has_no_rows<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    writer.commit(&[]).expect("an empty batch is accepted");
    for table in Table::ALL {
        assert_eq!(get(reader, table, b"k"), None, "a new index is empty");
        assert!(all(reader, table).is_empty(), "a scan of an empty table ends at once");
        assert!(keys(reader, table, b"k", 9).is_empty(), "also from a key");
    }
    writer
        .commit(&[delete(Table::Header, b"never there")])
        .expect("deleting an absent row is no error");
}

fn rows_come_in_order_from_a_key<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    let longest = vec![b'b'; ROW_KEY_MAX];
    let ordered: [&[u8]; 8] = [&[0], &[0, 0], &[0, 255], b"a", b"ab", b"b", &longest, &[255]];
    let shuffled = [5, 2, 7, 0, 3, 6, 1, 4];
    let changes = shuffled.map(|at| put(Table::Element, ordered[at], ordered[at]));
    writer.commit(&changes).expect("the batch is committed");
    assert_eq!(all(reader, Table::Element), ordered, "keys compare byte by byte, shorter first");
    let from = |from: &[u8]| keys(reader, Table::Element, from, usize::MAX);
    assert_eq!(from(b"ab"), ordered[4..], "a scan includes the key it starts from");
    assert_eq!(from(b"aa"), ordered[4..], "or starts at the next one");
    assert_eq!(from(&[255, 0]), Vec::<Vec<u8>>::new(), "beyond the last key there is nothing");
    assert_eq!(from(&vec![b'b'; 2 * ROW_KEY_MAX]), ordered[7..], "a start may be of any length");
    for key in ordered {
        assert_eq!(get(reader, Table::Element, key).as_deref(), Some(key), "each key has its own");
    }

    // Enough rows for a tree of several levels.
    let many: Vec<[u8; 4]> = (0..5_000_u32).map(u32::to_be_bytes).collect();
    let changes: Vec<_> =
        (0..5_000).map(|i| put(Table::Header, &many[i * 3_001 % 5_000], &many[i])).collect();
    writer.commit(&changes).expect("the batch is committed");
    assert_eq!(all(reader, Table::Header), many, "many rows are in order as well");
    assert_eq!(
        keys(reader, Table::Header, &many[4_321], usize::MAX),
        many[4_321..],
        "and from the middle"
    );
}

fn a_scan_stops_when_told<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    writer
        .commit(&[b"a", b"b", b"c"].map(|key| put(Table::Outbox, key, b"")))
        .expect("the batch is committed");
    assert_eq!(keys(reader, Table::Outbox, b"", 1), [b"a"], "break ends a scan");
    assert_eq!(keys(reader, Table::Outbox, b"b", 2), [b"b", b"c"], "also at the last row");
}

fn values_are_replaced_and_deleted<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    for value in [&b"first"[..], b"", b"much longer than the first", b"2"] {
        writer.commit(&[put(Table::Meta, b"k", value)]).expect("the batch is committed");
        assert_eq!(get(reader, Table::Meta, b"k").as_deref(), Some(value), "the new value stands");
        assert_eq!(all(reader, Table::Meta), [b"k"], "a replaced value is one row");
    }
    writer.commit(&[delete(Table::Meta, b"k")]).expect("the batch is committed");
    assert_eq!(get(reader, Table::Meta, b"k"), None, "a deleted row is gone");
    assert!(all(reader, Table::Meta).is_empty(), "also for scans");
}

fn a_batch_is_applied_in_order<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    let table = Table::Header;
    writer
        .commit(&[
            put(table, b"a", b"1"),
            put(table, b"a", b"2"),
            delete(table, b"b"),
            put(table, b"b", b"3"),
            put(table, b"c", b"4"),
            delete(table, b"c"),
        ])
        .expect("the batch is committed");
    assert_eq!(get(reader, table, b"a").as_deref(), Some(&b"2"[..]), "the last put stands");
    assert_eq!(get(reader, table, b"b").as_deref(), Some(&b"3"[..]), "a put after a delete");
    assert_eq!(get(reader, table, b"c"), None, "a delete after a put");
}

fn a_batch_spans_tables_that_do_not_mix<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    let named = |table: Table| [table as u8];
    let values = Table::ALL.map(named);
    let changes = Table::ALL.map(|table| put(table, b"same key", &values[table as usize]));
    writer.commit(&changes).expect("the batch is committed");
    for table in Table::ALL {
        assert_eq!(
            get(reader, table, b"same key").as_deref(),
            Some(&named(table)[..]),
            "each table has its own row of that key"
        );
    }
    writer.commit(&[delete(Table::Element, b"same key")]).expect("the batch is committed");
    for table in Table::ALL {
        let rows = all(reader, table).len();
        assert_eq!(rows, usize::from(table != Table::Element), "a delete is of one table");
    }
}

fn a_refused_batch_leaves_nothing<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    writer.commit(&[put(Table::Header, b"kept", b"old")]).expect("the batch is committed");
    for length in [0, ROW_KEY_MAX + 1, 100_000] {
        let bad = vec![b'x'; length];
        let batch = [
            put(Table::Header, b"kept", b"new"),
            put(Table::Outbox, b"fresh", b"new"),
            put(Table::Element, &bad, b"refused"),
        ];
        let says = format!("key of {length} bytes");
        let refusal = writer.commit(&batch).expect_err("an illegal key is refused").to_string();
        assert!(refusal.contains(&says), "{refusal:?} does not say {says:?}");
        writer.commit(&[delete(Table::Element, &bad)]).expect_err("also in a delete");
        reader
            .get(Table::Element, &bad, &mut |_| panic!("an illegal key has no value"))
            .expect_err("an illegal key is refused in a get");
        assert_eq!(
            get(reader, Table::Header, b"kept").as_deref(),
            Some(&b"old"[..]),
            "nothing of a refused batch is applied"
        );
        assert_eq!(get(reader, Table::Outbox, b"fresh"), None, "in no table");
    }
}

fn values_are_of_any_size<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    // Around the sizes at which a page of LMDB overflows, up to a megabyte.
    let sizes = [0, 1, 511, 2_000, 2_039, 2_040, 4_079, 4_080, 4_096, 65_536, 1 << 20];
    let value = |size: usize| -> Vec<u8> { (0..size).map(|i| (i * 31 % 251) as u8).collect() };
    for size in sizes {
        let (key, value) = ((size as u32).to_be_bytes(), value(size));
        writer.commit(&[put(Table::Element, &key, &value)]).expect("the batch is committed");
    }
    for size in sizes {
        let key = (size as u32).to_be_bytes();
        let found = get(reader, Table::Element, &key);
        assert!(found.is_some_and(|found| found == value(size)), "{size} bytes come back");
    }
    let mut lengths = Vec::new();
    reader
        .scan(Table::Element, b"", &mut |_, value| {
            lengths.push(value.len());
            ControlFlow::Continue(())
        })
        .expect("a scan succeeds");
    assert_eq!(lengths, sizes, "a scan sees every value whole");
}

fn a_scan_sees_one_snapshot<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    let table = Table::Header;
    let keys: Vec<[u8; 2]> = (0..400_u16).map(u16::to_be_bytes).collect();
    let every =
        |value: &'static [u8]| keys.iter().map(|key| put(table, key, value)).collect::<Vec<_>>();
    writer.commit(&every(b"old")).expect("the batch is committed");
    let mut seen = 0;
    reader
        .scan(table, b"", &mut |_, value| {
            assert_eq!(value, b"old", "a scan sees nothing of a commit made after it began");
            if seen == 10 {
                writer.commit(&every(b"new")).expect("a commit beside a scan succeeds");
                writer.commit(&[delete(table, &keys[300])]).expect("so does a second one");
            }
            seen += 1;
            ControlFlow::Continue(())
        })
        .expect("a scan succeeds");
    assert_eq!(seen, 400, "a row deleted after the scan began is still in its snapshot");
    assert_eq!(get(reader, table, &keys[300]), None, "a read after the commit sees it");
    assert_eq!(get(reader, table, &keys[0]).as_deref(), Some(&b"new"[..]), "and its values");
}

fn a_read_may_be_made_inside_another<R: IndexRead, W: IndexWrite>(reader: &R, writer: &mut W) {
    writer
        .commit(&[put(Table::Header, b"h", b"x"), put(Table::Element, b"e", b"y")])
        .expect("the batch is committed");
    let mut inner = None;
    reader
        .scan(Table::Header, b"", &mut |_, _| {
            let found = reader.get(Table::Element, b"e", &mut |_| {
                inner = get(reader, Table::Header, b"h");
            });
            assert_eq!(found, Ok(true), "a get inside a scan finds its row");
            ControlFlow::Continue(())
        })
        .expect("a scan succeeds");
    assert_eq!(inner.as_deref(), Some(&b"x"[..]), "and a get inside that one too");
}

fn an_empty_directory_lists_nothing<F: Files>(files: &mut F) {
    assert_eq!(files.list(), Ok(Vec::new()), "a new directory is empty");
    assert_eq!(files.length("log"), Ok(None), "an absent file has no length");
    files.sync_directory().expect("an empty directory can be synced");
}

fn appends_add_up_and_reads_stop_at_the_end<F: Files>(files: &mut F) {
    for (name, bytes) in [("log-2", &b"abc"[..]), ("log-1", b""), ("log-2", b"defg")] {
        files.append(name, bytes).expect("an append succeeds");
    }
    assert_eq!(files.list(), Ok(vec!["log-1".into(), "log-2".into()]), "names come in order");
    assert_eq!(files.length("log-1"), Ok(Some(0)), "appending nothing creates an empty file");
    assert_eq!(files.length("log-2"), Ok(Some(7)), "appends add up");
    let expected: [(u64, usize, &[u8]); 7] = [
        (0, 7, b"abcdefg"),
        (2, 3, b"cde"),
        (5, 100, b"fg"),
        (7, 1, b""),
        (1 << 40, 10, b""),
        (u64::MAX, 1, b""),
        (0, 0, b""),
    ];
    for (offset, length, bytes) in expected {
        let read = files.read("log-2", offset, length).expect("a read of a file succeeds");
        assert_eq!(read, bytes, "{length} bytes from {offset}");
    }
    files.sync("log-2").expect("a sync succeeds");
    files.sync_directory().expect("a sync of the directory succeeds");

    let large: Vec<u8> = (0..1_usize << 20).map(|i| (i % 253) as u8).collect();
    files.append("log-2", &large).expect("an append of a megabyte succeeds");
    let tail = files.read("log-2", 7, 2 << 20).expect("a read of a megabyte succeeds");
    assert!(tail == large, "a megabyte comes back");
}

fn a_cut_file_grows_again_from_the_cut<F: Files>(files: &mut F) {
    files.append("log", b"abcdef").expect("an append succeeds");
    files.sync("log").expect("a sync succeeds");
    files.truncate("log", 4).expect("a cut succeeds");
    assert_eq!(files.length("log"), Ok(Some(4)), "a cut file has its new length");
    files.append("log", b"XY").expect("an append after a cut succeeds");
    assert_eq!(files.read("log", 0, 99).as_deref(), Ok(&b"abcdXY"[..]), "appends follow the cut");
    files.truncate("log", 7).expect_err("a cut never lengthens a file");
    files.truncate("log", 6).expect("a cut at the end changes nothing");
    files.truncate("log", 0).expect("a file may be cut to nothing");
    assert_eq!(files.length("log"), Ok(Some(0)), "and is then empty, not absent");
    files.sync("log").expect("a sync after a cut succeeds");
}

fn zeros_that_wait_for_appends_are_not_shown<F: Files>(files: &mut F) {
    files.append("log", b"abc").expect("an append succeeds");
    files.reserve("log", 10).expect("zeros are put after it");
    files.reserve("log", 5).expect("fewer than there are change nothing");
    let shows = |files: &F, bytes: &[u8]| {
        assert_eq!(files.length("log"), Ok(Some(bytes.len() as u64)), "they do not count");
        assert_eq!(files.read("log", 0, 99).as_deref(), Ok(bytes), "nor are they read");
        assert_eq!(files.read("log", bytes.len() as u64, 99).as_deref(), Ok(&b""[..]));
    };
    shows(files, b"abc");
    files.append("log", b"de").expect("an append over zeros succeeds");
    shows(files, b"abcde");
    files.sync("log").expect("a sync of zeros succeeds");
    files.append("log", b"0123456789").expect("so does an append that goes beyond them");
    shows(files, b"abcde0123456789");
    files.reserve("log", 10).expect("zeros are put after it again");
    files.truncate("log", 16).expect_err("a cut sees no zeros");
    files.truncate("log", 6).expect("a cut succeeds");
    shows(files, b"abcde0");
    files.reserve("log", 10).expect("a cut file takes zeros too");
    files.rename("log", "log-2").expect("a file with zeros is renamed");
    files.rename("log-2", "log").expect("a file with zeros is renamed");
    files.append("log", b"x").expect("an append succeeds");
    shows(files, b"abcde0x");
}

fn a_renaming_replaces<F: Files>(files: &mut F) {
    files.append("new", b"new").expect("an append succeeds");
    files.append("old", b"older").expect("an append succeeds");
    files.rename("new", "old").expect("a renaming over a file succeeds");
    assert_eq!(files.list(), Ok(vec!["old".into()]), "only the new name is left");
    assert_eq!(files.read("old", 0, 9).as_deref(), Ok(&b"new"[..]), "with the renamed contents");
    files.append("old", b"+").expect("an append to a renamed file succeeds");
    assert_eq!(files.read("old", 0, 9).as_deref(), Ok(&b"new+"[..]), "it goes to that file");
    files.append("new", b"again").expect("the old name can be used anew");
    assert_eq!(files.read("new", 0, 9).as_deref(), Ok(&b"again"[..]), "for another file");
    files.rename("new", "new").expect("a renaming to the same name does nothing");
    assert_eq!(files.length("new"), Ok(Some(5)), "and loses nothing");
}

fn a_removal_is_idempotent<F: Files>(files: &mut F) {
    files.append("log", b"abc").expect("an append succeeds");
    files.remove("log").expect("a removal succeeds");
    files.remove("log").expect("a removal of an absent file does nothing");
    assert_eq!(files.list(), Ok(Vec::new()), "a removed file is gone");
    files.append("log", b"d").expect("a removed name can be used anew");
    assert_eq!(files.read("log", 0, 9).as_deref(), Ok(&b"d"[..]), "for an empty file");
}

fn absent_files_are_errors_where_contents_matter<F: Files>(files: &mut F) {
    files.read("none", 0, 1).expect_err("an absent file cannot be read");
    files.truncate("none", 0).expect_err("nor cut");
    files.reserve("none", 1).expect_err("nor be followed by zeros");
    files.sync("none").expect_err("nor synced");
    files.rename("none", "other").expect_err("nor renamed");
    assert_eq!(files.list(), Ok(Vec::new()), "none of this creates a file");
}

fn names_that_would_leave_the_directory_are_refused<F: Files>(files: &mut F) {
    let long = "x".repeat(FILE_NAME_MAX + 1);
    for name in ["", ".", "..", ".hidden", "a/b", "../a", "/a", "a\0b", "ä", "a b", &long] {
        files.append(name, b"x").expect_err("an illegal name is refused");
        files.length(name).expect_err("an illegal name is refused");
        files.read(name, 0, 1).expect_err("an illegal name is refused");
        files.truncate(name, 0).expect_err("an illegal name is refused");
        files.sync(name).expect_err("an illegal name is refused");
        files.remove(name).expect_err("an illegal name is refused");
        files.append("ok", b"x").expect("a legal name is accepted");
        files.rename("ok", name).expect_err("an illegal name is refused");
        files.rename(name, "ok").expect_err("an illegal name is refused");
    }
    files.append(&long[1..], b"x").expect("the longest name is accepted");
    assert_eq!(files.list(), Ok(vec!["ok".into(), long[1..].into()]), "only legal names are left");
}
