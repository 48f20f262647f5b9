//! Frames: how a record stands in a segment.
//!
//! ```text
//! length of the record (4, little-endian) ‖ check of the length (4) ‖ checksum (8) ‖ record
//! ```
//!
//! The highest bit of the length says that all before this frame was durable when it was written.
//!
//! Both checks are seeded with the directory and with the position of the frame, so that a frame
//! that turns up elsewhere, in this log or in another's, is as damaged as a changed byte. The
//! check of the length lets a reader look for the next whole frame at every byte, after damage,
//! without hashing what a wrong length would span.
//!
//! Engines build frames without knowing their positions; [`seal`] fills the checks in.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the record.
pub(crate) const FRAME_BYTES: usize = 16;

/// Those of them that tell how long it is.
pub(crate) const LENGTH_BYTES: usize = 8;

/// All before the frame was durable when it was written.
const AFTER_SYNC: u32 = 1 << 31;

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) record: &'a [u8],
    /// Whether all before it was durable when it was written.
    pub(crate) is_after_sync: bool,
}

/// Begins a frame at the end of `batch`; returns where.
pub(crate) fn begin(batch: &mut Vec<u8>) -> usize {
    let at = batch.len();
    batch.extend_from_slice(&[0; FRAME_BYTES]);
    at
}

/// Ends the frame that began at `at`: everything after its head is its record.
pub(crate) fn end(batch: &mut [u8], at: usize) {
    let length = u32::try_from(batch.len() - at - FRAME_BYTES)
        .ok()
        .filter(|length| length & AFTER_SYNC == 0)
        .expect("a delta is bounded by limits and by what a message holds");
    batch[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The length with which `frame` begins, and whether it is marked.
fn length_of(frame: &[u8]) -> Option<(usize, bool)> {
    let length = u32::from_le_bytes(*frame.first_chunk()?);
    Some(((length & !AFTER_SYNC) as usize, length & AFTER_SYNC != 0))
}

/// The hash of a length, which is also the seed of the record's.
fn check_of(length: [u8; 4], directory: u64, position: u64) -> u64 {
    xxh3_64_with_seed(&length, directory.wrapping_add(position))
}

/// Fills in the checks of all frames in `batch`, which begins at `position`, also if it was sealed
/// before. `is_after_sync`: whether all before it is durable.
pub(crate) fn seal(batch: &mut [u8], directory: u64, mut position: u64, mut is_after_sync: bool) {
    let mut rest = batch;
    while let Some((length, _)) = length_of(rest) {
        let size = FRAME_BYTES + length;
        let (frame, after) = rest.split_at_mut(size);
        let mark = if std::mem::take(&mut is_after_sync) { AFTER_SYNC } else { 0 };
        let length = (length as u32 | mark).to_le_bytes();
        let check = check_of(length, directory, position);
        let (head, record) = frame.split_at_mut(FRAME_BYTES);
        head[..4].copy_from_slice(&length);
        head[4..8].copy_from_slice(&check.to_le_bytes()[..4]);
        head[8..].copy_from_slice(&xxh3_64_with_seed(record, check).to_le_bytes());
        position += size as u64;
        rest = after;
    }
}

/// The check of the length with which `bytes` begin, if they are a frame's that stands at `position`.
fn checked(bytes: &[u8], directory: u64, position: u64) -> Option<u64> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let check = check_of(*length, directory, position);
    (rest.first_chunk::<4>()? == check.to_le_bytes().first_chunk()?).then_some(check)
}

/// Bytes of the frame that begins `bytes` and stands at `position`, whole or not, if its length is whole.
pub(crate) fn size(bytes: &[u8], directory: u64, position: u64) -> Option<usize> {
    checked(bytes, directory, position)?;
    length_of(bytes).map(|(length, _)| FRAME_BYTES + length)
}

/// The frame with which `bytes` begin, if it is whole and stands at `position`.
pub(crate) fn read(bytes: &[u8], directory: u64, position: u64) -> Option<Frame<'_>> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let check = checked(head, directory, position)?;
    let (length, is_after_sync) = length_of(head)?;
    let record = rest.get(..length)?;
    let is_whole = head[8..] == xxh3_64_with_seed(record, check).to_le_bytes();
    is_whole.then_some(Frame { record, is_after_sync })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(records: &[&[u8]]) -> Vec<u8> {
        let mut batch = Vec::new();
        for record in records {
            let at = begin(&mut batch);
            batch.extend_from_slice(record);
            end(&mut batch, at);
        }
        batch
    }

    #[test]
    fn a_sealed_frame_is_read_at_its_place_only() {
        let mut batch = framed(&[b"one", b"", b"three"]);
        seal(&mut batch, 7, 1_000, false);
        let frame = |record| Some(Frame { record, is_after_sync: false });
        assert_eq!(read(&batch, 7, 1_000), frame(b"one"));
        assert_eq!(read(&batch[19..], 7, 1_019), frame(b""));
        assert_eq!(read(&batch[35..], 7, 1_035), frame(b"three"));
        assert_eq!(read(&batch, 7, 1_001), None, "another position");
        assert_eq!(read(&batch, 8, 1_000), None, "another directory");
        assert_eq!(read(&[0; 64], 7, 1_000), None, "zeros are no frame");
    }

    #[test]
    fn the_first_frame_says_what_was_durable_before_it_as_it_was_sealed_last() {
        let mut batch = framed(&[b"one", b"two"]);
        for is_after_sync in [true, false, true] {
            seal(&mut batch, 7, 50, is_after_sync);
            let frame = |record, is_after_sync| Some(Frame { record, is_after_sync });
            assert_eq!(read(&batch, 7, 50), frame(b"one", is_after_sync));
            assert_eq!(read(&batch[19..], 7, 69), frame(b"two", false));
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let mut batch = framed(&[b"a record of some bytes"]);
        seal(&mut batch, 7, 0, true);
        for at in 0..batch.len() {
            let mut bad = batch.clone();
            bad[at] ^= 0x10;
            assert_eq!(read(&bad, 7, 0), None, "byte {at}");
            assert_eq!(read(&batch[..at], 7, 0), None, "cut at {at}");
        }
    }

    #[test]
    fn the_format_is_this() {
        let mut batch = framed(&[b"record"]);
        seal(&mut batch, 0x0123_4567_89ab_cdef, 4_096, false);
        let shown: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "06000000b36633bda933dca0d416f55c7265636f7264");
    }
}
