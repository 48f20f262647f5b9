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
    let rate = merges.rate;
    let tail = (f64::from(merges.during_us), f64::from(merges.between_us.max(1)));
    let figure = |what, value, reach, measured| Figure { what, measured, value, reach };
    let compared = |what, reach, (ours, theirs): (u32, u32), unit: &str, with: &str| {
        let value = f64::from(ours) / f64::from(theirs.max(1));
        let measured = format!("{ours} {unit}, {with} {theirs} {unit}: {value:.2} times");
        Figure { what, measured, value, reach }
    };
    let figures = [
        figure(
            "merges, beside LMDB synced each",
            rate / each,
            Reach::AtLeast(10.0),
            format!("{rate:.0} a second, LMDB {each:.0}: {:.1} times", rate / each),
        ),
        figure(
            "merges, beside LMDB in groups of 64",
            rate / group,
            Reach::AtLeast(3.0),
            format!("{rate:.0} a second, LMDB {group:.0}: {:.1} times", rate / group),
        ),
        figure(
            "p99.9 of merges during checkpoints",
            tail.0 / tail.1,
            Reach::AtMost(3.0),
            format!("{} µs, between them {} µs: {:.2} times", tail.0, tail.1, tail.0 / tail.1),
        ),
        compared(
            "read of a random key of a million",
            Reach::AtMost(1.5),
            (million.read_ns, million.lmdb_ns),
            "ns",
            "bare LMDB get",
        ),
        compared(
            "addition to a set of a million",
            Reach::AtMost(1.5),
            (sets.add_large_ns, sets.add_small_ns),
            "ns",
            "to one of ten",
        ),
        compared(
            "bytes that it appends to the log",
            Reach::AtMost(1.5),
            (sets.written_large as u32, sets.written_small as u32),
            "bytes",
            "of one of ten",
        ),
        compared(
            "page of 100 of a set of a million",
            Reach::AtMost(1.5),
            (sets.page_large_ns, sets.page_middle_ns),
            "ns",
            "of a thousand",
        ),
        figure(
            "bytes on disk a key of 100 bytes",
            million.bytes_a_key as f64,
            Reach::AtMost(300.0),
            format!("{} bytes", million.bytes_a_key),
        ),
        figure(
            "start: a million keys, 64 MiB of log",
            million.start.as_secs_f64(),
            Reach::AtMost(2.0),
            format!("{:.2} s", million.start.as_secs_f64()),
        ),
    ];
    print(&figures);
    if let Some(path) = svg {
        draw(&figures, Path::new(&path))?;
    }
    Ok(())
}
