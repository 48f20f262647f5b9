//! What a backup promises, over simulated files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::manifest::MANIFEST;
use super::*;
use crate::{
    DIRECTORY_FORMAT, DirectoryStamp, Files, IndexRead, IndexWrite, RowChange, SeamError, SimFiles,
    SimIndex, SimIndexReader, Table, Visit, log_parts,
};

fn stamp(directory: u64, node_name: &str) -> DirectoryStamp {
    DirectoryStamp {
        format: DIRECTORY_FORMAT,
        cluster: "shop".into(),
        node: clock::NodeId(1),
        node_name: node_name.into(),
        partitions: 16,
        shards: 4,
        directory,
    }
}

type Held = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn held(index: &impl IndexRead) -> Held {
    let mut all = Held::new();
    for table in Table::ALL {
        index
            .scan(table, &[], &mut |key, record| {
                all.insert((table as u8, key.to_vec()), record.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    all
}

fn take(files: &SimFiles, index: &SimIndex) -> Result<Taken, BackupError> {
    let taking = Taking::begin(files.clone(), files.clone(), &stamp(7, "n1"))?;
    taking.copy_rows(&index.reader(), 1_000, &mut |_, _| ControlFlow::Continue(()))
}

/// Changes of rows: which table, key and record; an empty one deletes.
type Changes = Vec<(u8, u8, Vec<u8>)>;

fn changes() -> impl Strategy<Value = Changes> {
    let record = prop_oneof![
        1 => Just(Vec::new()),
        4 => prop::collection::vec(any::<u8>(), 1..40),
        1 => prop::collection::vec(any::<u8>(), 200..500),
    ];
    prop::collection::vec((0..7_u8, any::<u8>(), record), 0..60)
}

fn apply(index: &SimIndex, changes: &Changes) {
    for (table, key, record) in changes {
        let value = (!record.is_empty()).then_some(record.as_slice());
        let table = Table::ALL[usize::from(*table)];
        index.writer().commit(&[RowChange { table, key: &[*key, 1], value }]).unwrap();
    }
}

proptest! {
    /// After each of several backups: what is read from it, whole or from any place on, is what the
    /// index held; and what is restored from it.
    #[test]
    fn a_backup_reads_as_the_index_that_it_is_of(
        rounds in prop::collection::vec(changes(), 1..6),
        from in (0..7_u8, prop::collection::vec(any::<u8>(), 0..3)),
    ) {
        let (files, index) = (SimFiles::new(), SimIndex::new());
        for (round, changes) in (1_u64..).zip(&rounds) {
            let before = held(&index.reader());
            apply(&index, changes);
            let now = held(&index.reader());
            let taken = take(&files, &index).unwrap();
            prop_assert_eq!((taken.manifest.number, taken.manifest.rows), (round, now.len() as u64));
            if taken.is_incremental {
                let keys = before.keys().chain(now.keys()).collect::<std::collections::BTreeSet<_>>();
                let changed = keys.iter().filter(|key| before.get(**key) != now.get(**key)).count();
                prop_assert_eq!(taken.rows_written, changed as u64);
            } else {
                prop_assert_eq!(taken.rows_written, now.len() as u64);
            }
            let backup = Backup::open(files.clone()).unwrap();
            prop_assert_eq!(backup.check(&mut |_| ()), vec![]);
            prop_assert_eq!(&held(&backup), &now);
            for (table, key) in now.keys().chain(before.keys()) {
                let mut found = None;
                let table = Table::ALL[usize::from(*table)];
                let is_there =
                    backup.get(table, key, &mut |record| found = Some(record.to_vec())).unwrap();
                prop_assert_eq!(is_there, found.is_some());
                prop_assert_eq!(found.as_ref(), now.get(&(table as u8, key.clone())));
            }
            let (table, from) = (Table::ALL[usize::from(from.0)], &from.1);
            let (mut seen, mut expected) = (Vec::new(), Vec::new());
            backup.scan(table, from, &mut |key, _| {
                seen.push(key.to_vec());
                ControlFlow::Continue(())
            }).unwrap();
            index.reader().scan(table, from, &mut |key, _| {
                expected.push(key.to_vec());
                ControlFlow::Continue(())
            }).unwrap();
            prop_assert_eq!(seen, expected);
            let (restored, mut data) = (SimIndex::new(), SimFiles::new());
            restore(&backup, &mut restored.writer(), &restored.reader(), &mut data, &mut |_| ())
                .unwrap();
            prop_assert_eq!(&held(&restored.reader()), &now);
            prop_assert_eq!(DirectoryStamp::read(&data), Ok(stamp(7, "n1")));
        }
    }

    /// A crash at any change of the files of a second backup leaves the first one whole, or the second.
    #[test]
    fn a_crash_leaves_the_backup_before_or_the_one_after(
        first in changes(), second in changes(), stop in 0_u64..40, seed in any::<u64>(),
    ) {
        let (files, index) = (SimFiles::new(), SimIndex::new());
        apply(&index, &first);
        take(&files, &index).unwrap();
        let before = held(&index.reader());
        apply(&index, &second);
        let after = held(&index.reader());
        files.stop_after(Some(stop));
        let taken = take(&files, &index);
        let mut state = seed;
        files.crash(&mut |bound| {
            state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
            (state >> 33) % bound
        });
        let backup = Backup::open(files.clone()).unwrap();
        prop_assert_eq!(backup.check(&mut |_| ()), vec![]);
        let found = held(&backup);
        prop_assert!(found == after || taken.is_err() && found == before);
        drop(backup);
        take(&files, &index).unwrap();
        prop_assert_eq!(held(&Backup::open(files).unwrap()), after);
    }

    /// A changed byte, a file cut short, gone or in another's place: found, and never a panic.
    #[test]
    fn damage_of_any_file_is_found(
        first in changes(), second in changes(),
        file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), how in 0..4,
    ) {
        let (files, index) = (SimFiles::new(), SimIndex::new());
        apply(&index, &first);
        take(&files, &index).unwrap();
        apply(&index, &second);
        take(&files, &index).unwrap();
        let names = files.list().unwrap();
        let name = file.get(&names);
        let length = files.length(name).unwrap().unwrap();
        prop_assume!(length > 0);
        let at = at.index(usize::try_from(length).unwrap());
        match how {
            0 => prop_assert!(files.corrupt(name, at)),
            1 => files.clone().truncate(name, at as u64).unwrap(),
            2 => files.clone().remove(name).unwrap(),
            _ => {
                let other = names.iter().find(|other| *other != name).unwrap();
                let bytes = files.read(other, 0, usize::MAX).unwrap();
                prop_assume!(bytes != files.read(name, 0, usize::MAX).unwrap());
                files.clone().truncate(name, 0).unwrap();
                files.clone().append(name, &bytes).unwrap();
            }
        }
        match Backup::open(files) {
            Err(BackupError::Absent) => prop_assert!(how == 2 && name == MANIFEST),
            Err(error) => prop_assert!(matches!(error, BackupError::Damaged(_) | BackupError::Files(_)), "{error}"),
            Ok(backup) => {
                prop_assert!(!backup.check(&mut |_| ()).is_empty());
                let (restored, mut data) = (SimIndex::new(), SimFiles::new());
                let (mut writer, reader) = (restored.writer(), restored.reader());
                // Files of the log and rows that hide one another may not matter to it.
                let _ = restore(&backup, &mut writer, &reader, &mut data, &mut |_| ());
            }
        }
    }
}

#[test]
fn the_manifest_is_a_text_that_people_can_read() {
    let file = |name: &str, length, digest| BackupFile { name: name.into(), length, digest };
    let manifest = Manifest {
        number: 2,
        taken_ms: 1_000,
        directory: 7,
        rows: 1,
        log_end: 40,
        files: vec![file("stamp-2", 233, 0x1ae0), file("rows-1", 51, 0x2ae0)],
    };
    let body = "# A backup of one Merganser node: the files named here. Do not change them.\n\
                format = 1\n\
                number = 2\n\
                taken_ms = 1000\n\
                directory = 7\n\
                rows = 1\n\
                log_end = 40\n\
                file = stamp-2 233 00000000000000000000000000001ae0\n\
                file = rows-1 51 00000000000000000000000000002ae0\n";
    assert_eq!(manifest.text(), crate::sealed_text::seal(body));
    let mut files = SimFiles::new();
    files.append(MANIFEST, manifest.text().as_bytes()).unwrap();
    assert_eq!(Manifest::read(&files), Ok(Some(manifest)));
}

#[test]
fn what_holds_something_else_is_not_touched() {
    let index = SimIndex::new();
    for foreign in
        ["notes.txt", "stamp", "log-00000000000000a0", "log-12345", "rows", "manifest.old"]
    {
        let mut files = SimFiles::new();
        files.append(foreign, b"mine").unwrap();
        assert_eq!(take(&files, &index), Err(BackupError::Foreign(foreign.into())));
        assert_eq!(files.list().unwrap(), [foreign]);
    }
    let files = SimFiles::new();
    take(&files, &index).unwrap();
    let before = files.change_count();
    for (other, what) in [
        (stamp(8, "n1"), "another data directory of node \"n1\", from before it was started empty"),
        (stamp(7, "n2"), "node \"n1\" of cluster \"shop\""),
    ] {
        let refused = Taking::begin(files.clone(), files.clone(), &other).map(drop);
        assert_eq!(refused, Err(BackupError::Other(what.into())));
    }
    assert_eq!(files.change_count(), before);
}

#[test]
fn changes_are_added_until_they_are_half_of_all_and_then_all_is_written() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    let all: Changes = (0..100).map(|key| (1, key, vec![key; 100])).collect();
    apply(&index, &all);
    let mut written = Vec::new();
    for round in 0..8_u8 {
        let changed: Changes = (0..20).map(|key| (1, key, vec![round; 100])).collect();
        apply(&index, &changed);
        let taken = take(&files, &index).unwrap();
        written.push((taken.rows_written, taken.is_incremental));
        assert!(files.list().unwrap().len() == taken.manifest.files.len() + 1);
    }
    let (all, some) = ((100, false), (20, true));
    assert_eq!(written, [all, some, some, some, all, some, some, some]);
}

#[test]
fn a_full_or_read_only_disk_leaves_the_backup_before() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &vec![(1, 5, vec![1; 30])]);
    take(&files, &index).unwrap();
    let before = held(&index.reader());
    apply(&index, &vec![(1, 5, vec![2; 3_000])]);
    files.full(true);
    assert_eq!(take(&files, &index), Err(BackupError::Files(SeamError::Full)));
    files.full(false);
    assert_eq!(held(&Backup::open(files.clone()).unwrap()), before);
    assert_eq!(take(&files, &index).unwrap().rows_written, 1);
}

#[test]
fn what_wants_to_stop_is_stopped_and_the_backup_before_stays() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &vec![(1, 5, vec![1; 30]), (1, 6, vec![1; 30])]);
    take(&files, &index).unwrap();
    let taking = Taking::begin(files.clone(), files.clone(), &stamp(7, "n1")).unwrap();
    let stopped = taking.copy_rows(&index.reader(), 2_000, &mut |rows, _| match rows {
        1 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    assert_eq!(stopped, Err(BackupError::Stopped));
    assert_eq!(Backup::open(files).unwrap().manifest().taken_ms, 1_000);
}

#[test]
fn a_damaged_backup_is_not_gone_on_from() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &(0..100).map(|key| (1, key, vec![key; 100])).collect());
    take(&files, &index).unwrap();
    files.clone().truncate("rows-1", 50).unwrap();
    let taking = Taking::begin(files.clone(), files.clone(), &stamp(7, "n1")).unwrap();
    let taken =
        taking.copy_rows(&index.reader(), 2_000, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert!(matches!(taken.unreadable, Some(BackupError::Damaged(_))));
    assert_eq!((taken.rows_written, taken.is_incremental), (100, false));
    assert_eq!(Backup::open(files).unwrap().check(&mut |_| ()), []);
}

/// Only heads of blocks are read when a backup is opened: what rots within one is met half way.
#[test]
fn a_backup_with_a_bad_block_is_replaced_by_a_whole_one() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &(0..100).map(|key| (1, key, vec![key; 100])).collect());
    take(&files, &index).unwrap();
    let length = files.length("rows-1").unwrap().unwrap();
    assert!(files.corrupt("rows-1", usize::try_from(length).unwrap() - 10));
    apply(&index, &vec![(1, 0, vec![9; 100]), (1, 99, Vec::new())]);
    let taken = take(&files, &index).unwrap();
    assert!(matches!(taken.unreadable, Some(BackupError::Damaged(_))), "{:?}", taken.unreadable);
    assert_eq!((taken.rows_written, taken.is_incremental), (99, false));
    let backup = Backup::open(files).unwrap();
    assert_eq!(backup.check(&mut |_| ()), []);
    assert_eq!(held(&backup), held(&index.reader()));
}

#[test]
fn backups_of_an_unchanged_index_do_not_heap_up_files() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &vec![(1, 5, vec![1; 30])]);
    let mut whole = 0;
    for _ in 0..200 {
        let taken = take(&files, &index).unwrap();
        whole += u32::from(!taken.is_incremental);
        assert!(taken.manifest.files.len() <= 67, "{}", taken.manifest.files.len());
        assert_eq!(Backup::open(files.clone()).unwrap().manifest(), &taken.manifest);
    }
    assert_eq!(whole, 4, "one in 65 is");
}

#[test]
fn a_manifest_too_long_to_be_read_is_not_written() {
    let (mut files, index) = (SimFiles::new(), SimIndex::new());
    let mut manifest = take(&files, &index).unwrap().manifest;
    let file = manifest.files[0].clone();
    manifest.files.resize(30_000, file);
    let refused = take::replace(&mut files, &manifest);
    assert!(matches!(refused, Err(SeamError::Io(_))), "{refused:?}");
    assert_eq!(Backup::open(files).unwrap().manifest().number, 1);
}

/// Shows only rows whose keys begin with less than this: so an index looks whose pages rot.
struct Short(u8, SimIndexReader);

impl IndexRead for Short {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        self.1.get(table, key, look)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        self.1.scan(table, from, &mut |key, record| {
            if key.first().is_some_and(|first| *first < self.0) {
                visit(key, record)
            } else {
                ControlFlow::Break(())
            }
        })
    }
}

#[test]
fn a_walk_that_ends_early_is_no_backup() {
    let (files, index) = (SimFiles::new(), SimIndex::new());
    apply(&index, &(0..100).map(|key| (1, key, vec![key; 100])).collect());
    take(&files, &index).unwrap();
    let taking = || {
        let mut taking = Taking::begin(files.clone(), files.clone(), &stamp(7, "n1")).unwrap();
        taking.expect_rows(100);
        taking
    };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let refused = taking().copy_rows(&Short(60, index.reader()), 2_000, go_on);
    assert!(matches!(refused, Err(BackupError::Data(SeamError::Corrupt(_)))), "{refused:?}");
    let backup = Backup::open(files.clone()).unwrap();
    assert_eq!(backup.check(&mut |_| ()), []);
    assert_eq!((backup.manifest().number, held(&backup)), (1, held(&index.reader())));
    assert_eq!(taking().copy_rows(&index.reader(), 2_000, go_on).unwrap().manifest.rows, 100);
}

#[test]
fn the_log_is_copied_up_to_where_it_ended_and_restored_under_its_own_names() {
    let (mut data, files, index) = (SimFiles::new(), SimFiles::new(), SimIndex::new());
    for (name, length) in [("log-0000000000000000", 140), ("log-0000000000000064", 90)] {
        data.append(name, &vec![1; length]).unwrap();
    }
    let names = |needed, end| {
        let parts = log_parts(&data, needed, end).unwrap();
        parts.into_iter().map(|part| (part.name, part.length)).collect::<Vec<_>>()
    };
    let both = [("log-0000000000000000".into(), 140), ("log-0000000000000064".into(), 60)];
    assert_eq!(names(99, 120), both);
    assert_eq!(names(100, 120), both[1..]);
    assert_eq!(names(500, 500), [("log-0000000000000064".into(), 90)]);
    assert_eq!(names(0, 99), [("log-0000000000000000".into(), 139)]);
    let mut taking = Taking::begin(files.clone(), files.clone(), &stamp(7, "n1")).unwrap();
    taking.copy_log(&data, &log_parts(&data, 0, 120).unwrap(), 120).unwrap();
    taking.keep_members(b"who else there is").unwrap();
    let taken =
        taking.copy_rows(&index.reader(), 1, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(taken.manifest.log_end, 120);
    let backup = Backup::open(files).unwrap();
    assert_eq!(backup.members().unwrap().as_deref(), Some(&b"who else there is"[..]));
    let mut restored = SimFiles::new();
    restore(&backup, &mut index.writer(), &index.reader(), &mut restored, &mut |_| ()).unwrap();
    let names = ["log-0000000000000000", "log-0000000000000064", "stamp"];
    assert_eq!(restored.list().unwrap(), names);
    assert_eq!(restored.length(names[1]).unwrap(), Some(60));
}
