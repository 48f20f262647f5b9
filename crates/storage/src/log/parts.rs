//! Which files, and how much of each, hold a stretch of the log: for whoever copies it.

use super::segment::{HEADER_BYTES, Segment, parse_name};
use crate::{Files, SeamError};

/// A part of a segment from its beginning on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// The file.
    pub name: String,
    /// The position at which it begins.
    pub start: u64,
    /// How many of its bytes.
    pub length: u64,
}

/// What holds the records of the log in `files` from position `needed` up to `end`, where the log
/// ended once: at least one segment if there is any.
pub fn log_parts(files: &impl Files, needed: u64, end: u64) -> Result<Vec<SegmentPart>, SeamError> {
    let names = files.list()?;
    let starts: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    let first = starts.partition_point(|&start| start <= needed).saturating_sub(1);
    let mut parts = Vec::new();
    for &start in starts[first.min(starts.len())..].iter().filter(|&&start| start <= end) {
        let name = Segment::at(start).name();
        let there = files.length(&name)?.unwrap_or(0);
        let length = there.min((end - start).saturating_add(HEADER_BYTES));
        parts.push(SegmentPart { name, start, length });
    }
    Ok(parts)
}
