//! What the index on disk costs: a read, which every GET pays on its event loop and which must
//! stay near a microsecond; and a synced commit, whose price per row must fall with the batch,
//! since that is what group commit lives on.
//!
//! The directory lies in cargo's target directory: `/tmp` is memory on many machines, where a
//! sync costs nothing.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use storage::{IndexRead, IndexWrite, RowChange, Table};
use storage_lmdb::{LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};
use tempfile::TempDir;

/// Rows in the table that is read.
const ROWS: u64 = 200_000;
/// Bytes of a value.
const VALUE: usize = 100;

/// Spreads consecutive numbers over the table (SplitMix64's increment).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

fn open() -> (TempDir, LmdbReader, LmdbWriter) {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (reader, writer) =
        LmdbIndex::open(temp.path(), &LmdbOptions::default()).expect("a new index");
    (temp, reader, writer)
}

/// Keys as long as those of short user keys: partition, hash, bucket, key.
fn key_of(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.wrapping_mul(SPREAD).to_be_bytes());
    key
}

fn commit_rows(writer: &mut LmdbWriter, numbers: impl Iterator<Item = u64>) {
    let keys: Vec<_> = numbers.map(key_of).collect();
    let row = |key| RowChange { table: Table::Header, key, value: Some(&[7; VALUE]) };
    let batch: Vec<_> = keys.iter().map(|key| row(&key[..])).collect();
    writer.commit(&batch).expect("a batch");
}

fn filled() -> (TempDir, LmdbReader, LmdbWriter) {
    let (temp, reader, mut writer) = open();
    for start in (0..ROWS).step_by(10_000) {
        commit_rows(&mut writer, start..start + 10_000);
    }
    (temp, reader, writer)
}

fn read(c: &mut Criterion) {
    let (_temp, reader, _writer) = filled();
    let mut group = c.benchmark_group("storage/index/read");
    let mut number = 0_u64;
    let mut key = || {
        number = number.wrapping_add(7_919) % ROWS;
        key_of(number)
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("get/present", |b| {
        b.iter(|| {
            let found = reader.get(Table::Header, &key(), &mut |value| {
                black_box(value);
            });
            assert_eq!(found, Ok(true));
        });
    });
    group.bench_function("get/absent", |b| {
        b.iter(|| {
            let found = reader.get(Table::Element, &key(), &mut |value| {
                black_box(value);
            });
            assert_eq!(found, Ok(false));
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("scan/100", |b| {
        b.iter(|| {
            let mut left = 100;
            reader
                .scan(Table::Header, &key(), &mut |_, value| {
                    black_box(value);
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .expect("a scan");
        });
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let (_temp, _reader, mut writer) = filled();
    let mut group = c.benchmark_group("storage/index/commit");
    group.sample_size(20);
    let mut number = 0_u64;
    for rows in [1, 8, 64, 512] {
        group.throughput(Throughput::Elements(rows));
        group.bench_with_input(BenchmarkId::new("rows", rows), &rows, |b, &rows| {
            b.iter(|| {
                number += rows;
                let numbers = (number..number + rows).map(|at| at * 7_919 % (2 * ROWS));
                commit_rows(&mut writer, numbers);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read, commit);
criterion_main!(benches);
