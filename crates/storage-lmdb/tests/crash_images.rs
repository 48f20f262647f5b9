//! What a loss of power leaves of LMDB's data file, under what LMDB documents: a commit writes its pages beside those of
//! the state before and syncs them, then the page that names their roots, and syncs that. So a crash leaves any of the
//! commit's sectors without that page, or all of them with it. Each such image is opened, and shows the state before or
//! the state after, exactly.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use storage::{IndexRead, IndexWrite, RowChange, Table};
use storage_lmdb::{LmdbIndex, LmdbOptions, LmdbReader, check_pages};

const SECTOR: usize = 512;
const PAGE: usize = 4_096;

type Rows = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn options() -> LmdbOptions {
    LmdbOptions { map_size: 1 << 20, ..LmdbOptions::default() }
}

/// Some rows put, some removed, in all tables; now and then long ones, which stand in pages of their own.
fn changed(rows: &Rows, random: &mut Random) -> Rows {
    let mut rows = rows.clone();
    for _ in 0..1 + random.below(60) {
        let table = random.below(Table::ALL.len());
        let key = format!("{:04}", random.below(1_500)).into_bytes();
        match random.below(10) {
            0..3 => drop(rows.remove(&(table, key))),
            3 => drop(rows.insert((table, key), vec![7; 3_000 + random.below(20_000)])),
            _ => drop(rows.insert((table, key), vec![random.below(250) as u8; random.below(300)])),
        }
    }
    rows
}

fn shown(reader: &LmdbReader) -> Rows {
    let mut rows = Rows::new();
    for (number, table) in Table::ALL.into_iter().enumerate() {
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.insert((number, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        };
        reader.scan(table, &[], &mut visit).unwrap();
    }
    rows
}

/// What `after` has and `before` does not, by sectors; beyond the end of `before` all of it.
fn changed_sectors(before: &[u8], after: &[u8]) -> Vec<usize> {
    let sector =
        |bytes: &[u8], at: usize| bytes.get(at * SECTOR..(at + 1) * SECTOR).map(<[u8]>::to_vec);
    let all = 0..after.len() / SECTOR;
    all.filter(|&at| sector(before, at) != sector(after, at)).collect()
}

/// The file `before`, as long as `length`, with these sectors of the file `after`.
fn image(before: &[u8], after: &[u8], length: usize, sectors: &[usize]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    bytes.resize(length.max(before.len()), 0);
    for &at in sectors {
        let range = at * SECTOR..(at + 1) * SECTOR;
        if range.end <= bytes.len() {
            bytes[range.clone()].copy_from_slice(&after[range]);
        }
    }
    bytes
}

fn put(dir: &Path, bytes: &[u8]) -> PathBuf {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("data.mdb"), bytes).unwrap();
    dir.to_owned()
}

#[test]
fn each_image_that_a_crash_leaves_of_the_index_shows_a_committed_state() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (dir, copy) = (temp.path().join("index"), temp.path().join("copy"));
    let (_reader, mut writer) = LmdbIndex::open(&dir, &options()).unwrap();
    let mut random = Random(1);
    let (mut rows, mut of_both, mut swapped) = (Rows::new(), 0, 0);
    for commit in 0..40 {
        let before = fs::read(dir.join("data.mdb")).unwrap();
        let next = changed(&rows, &mut random);
        let gone = rows.keys().filter(|key| !next.contains_key(*key)).map(|key| (key, None));
        let put_now = next.iter().filter(|(key, value)| rows.get(*key) != Some(*value));
        let changes: Vec<_> =
            gone.chain(put_now.map(|(key, value)| (key, Some(&value[..])))).collect();
        let changes: Vec<_> = changes
            .iter()
            .map(|((table, key), value)| RowChange {
                table: Table::ALL[*table],
                key,
                value: *value,
            })
            .collect();
        writer.commit(&changes).unwrap();
        let after = fs::read(dir.join("data.mdb")).unwrap();
        let (roots, pages): (Vec<_>, Vec<_>) =
            changed_sectors(&before, &after).into_iter().partition(|at| at * SECTOR < 2 * PAGE);
        assert_eq!(roots.len(), 1, "one page names the roots, in its first sector");

        let mut images = vec![(image(&before, &after, after.len(), &pages), &rows)];
        for _ in 0..4 {
            let some: Vec<_> = pages.iter().copied().filter(|_| random.below(3) > 0).collect();
            let grown = (after.len() - before.len().min(after.len())) / PAGE;
            let length = before.len() + PAGE * random.below(grown + 1);
            of_both += usize::from(!some.is_empty() && some.len() < pages.len());
            images.push((image(&before, &after, length, &some), &rows));
        }
        images.push((after.clone(), &next));
        for (number, (bytes, expected)) in images.iter().enumerate() {
            let copy = put(&copy, bytes);
            check_pages(&copy, &mut |_, _| ()).unwrap();
            let (reader, mut writer) = LmdbIndex::open(&copy, &options()).unwrap();
            assert!(shown(&reader) == **expected, "commit {commit}, image {number}");
            // And it goes on from there.
            writer.commit(&changes).unwrap();
            assert!(shown(&reader) == next, "commit {commit}, image {number}, gone on");
        }
        // Were the roots written first, some of it would be seen.
        let some: Vec<_> = pages.iter().copied().filter(|at| at % 2 == 0).chain(roots).collect();
        let copy = put(&copy, &image(&before, &after, after.len(), &some));
        swapped += usize::from(check_pages(&copy, &mut |_, _| ()).is_err());
        rows = next;
    }
    assert!(of_both > 100 && swapped > 10, "{of_both} images of both, {swapped} found");
}
