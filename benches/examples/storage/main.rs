//! The storage's figures, each beside what it is compared with in the same run and what is to be reached:
//! durable merges of 64 callers over ten checkpoints beside LMDB alone, their latency during checkpoints
//! and between them, reads of a checkpointed million beside a bare LMDB get, bytes on disk, additions to
//! and pages of sets of ten and of a million elements, and a start with a tail of 64 MiB to replay.
//!
//! `cargo run --release -p benchmarks --example storage -- [SVG] [KEYS] [CHECKPOINTS]`
//! (500,000 and 10 if not said; a few minutes, and two gibibytes in cargo's target directory).

mod figures;
mod merges;
mod million;
mod sets;
mod store;

use std::path::Path;
use std::time::Duration;

use figures::{Figure, Reach, draw, print};
use merges::{CALLERS, durable_merges, lmdb_alone};
use million::a_million;
use sets::sets;

fn percentile(values: &mut [u32], part: f64) -> u32 {
    values.sort_unstable();
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let svg = arguments.next();
    let mut number = |default: u64| match arguments.next() {
        Some(argument) => argument.parse::<u64>(),
        None => Ok(default),
    };
    let (keys, checkpoints) = (number(500_000)?, number(10)?);
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let directory = || tempfile::tempdir_in(&target);
    let limit = Duration::from_secs(10);
    let each = lmdb_alone(directory()?.path(), keys, 1, limit);
    let group = lmdb_alone(directory()?.path(), keys, CALLERS, limit);
    let merges = durable_merges(directory()?.path(), keys, checkpoints as u32);
    let million = a_million(directory()?.path());
    let sets = sets(directory()?.path());
    let tail = (merges.during_us, merges.between_us);
    let start = million.start.as_secs_f64();
    let (large, hot, small) = (sets.add_large_ns, sets.add_hot_ns, sets.add_small_ns);
    let written = (sets.written_large as u32, sets.written_small as u32);
    let pages = (sets.page_large_ns, sets.page_middle_ns);
    let (at_least, at_most) = (Reach::AtLeast, Reach::AtMost);
    let figures = [
        Figure::rate("merges, beside LMDB synced each", at_least(10.0), (merges.rate, each)),
        Figure::rate("merges, beside LMDB in groups of 64", at_least(3.0), (merges.rate, group)),
        Figure::cost(
            "p99.9 of merges during checkpoints",
            at_most(3.0),
            tail,
            ("µs", "between them"),
        ),
        Figure::cost(
            "read of a random key of a million",
            at_most(1.5),
            (million.read_ns, million.lmdb_ns),
            ("ns", "bare LMDB get"),
        ),
        Figure::cost(
            "addition to a set of a million",
            at_most(1.5),
            (large, small),
            ("ns", "to any of 100,000 sets of ten"),
        ),
        Figure::cost(
            "the same, beside one set of ten alone",
            at_most(1.5),
            (large, hot),
            ("ns", "to the one"),
        ),
        Figure::cost(
            "bytes that it appends to the log",
            at_most(1.5),
            written,
            ("bytes", "of one of ten"),
        ),
        Figure::cost(
            "page of 100 of a set of a million",
            at_most(1.5),
            pages,
            ("ns", "of a thousand"),
        ),
        Figure::of(
            "bytes on disk a key of 100 bytes",
            million.bytes_a_key as f64,
            at_most(300.0),
            format!("{} bytes", million.bytes_a_key),
        ),
        Figure::of(
            "start: a million keys, 64 MiB of log",
            start,
            at_most(2.0),
            format!("{start:.2} s"),
        ),
    ];
    print(&figures);
    if let Some(path) = svg {
        draw(&figures, Path::new(&path))?;
    }
    Ok(())
}
