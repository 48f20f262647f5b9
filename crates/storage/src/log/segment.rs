//! Segments: the files of the log, named by the position at which each begins.
//!
//! ```text
//! "MGLOG", format (3) ‖ directory (8) ‖ start (8) ‖ where the segment before ended (8) ‖ checksum (8)
//! frames
//! ```
//!
//! Numbers are little-endian. What a segment holds ends where the next one begins: bytes beyond
//! that were cut off, and are not looked at. In the last one zeros may follow the frames, for the next
//! to be written over; they are nothing.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: u64 = 40;

const MAGIC: [u8; 8] = *b"MGLOG\0\0\x01";
const PREFIX: &str = "log-";

/// A segment that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Segment {
    /// One without records.
    pub(super) const fn at(start: u64) -> Self {
        Self { start, end: start }
    }

    /// Bytes of records.
    pub(super) const fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes of the file up to where the records end.
    pub(super) const fn file_length(&self) -> u64 {
        HEADER_BYTES + self.length()
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        format!("{PREFIX}{:016x}", self.start)
    }
}

/// Where the segment with this name begins; `None` if it names none.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let start = u64::from_str_radix(digits, 16).ok()?;
    (Segment::at(start).name() == name).then_some(start)
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) start: u64,
    /// Where the log ended when this segment was begun. Less than `start` where the end of the log
    /// had been lost, unsynced, while the index was ahead of it.
    pub(super) before: u64,
}

impl Header {
    pub(super) fn encode(&self, directory: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [directory, self.start, self.before] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header of the segment at `start` of this directory's log, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8], directory: u64, start: u64) -> Result<Self, &'static str> {
        let header = bytes.first_chunk::<{ HEADER_BYTES as usize }>().ok_or("it is cut short")?;
        let (body, checksum) = header.split_at(HEADER_BYTES as usize - 8);
        if checksum != xxh3_64(body).to_le_bytes() {
            return Err("its header is damaged");
        }
        let number = |at: usize| {
            u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes of the header"))
        };
        if body[..8] != MAGIC {
            return Err("it has another format");
        }
        if number(8) != directory {
            return Err("it belongs to another directory");
        }
        if number(16) != start {
            return Err("it has the name of another segment");
        }
        Ok(Self { start, before: number(24) })
    }

    /// Whether `bytes`, without a whole header, are what a crash can leave of the segment at `start` while it is begun:
    /// a header up to some byte, and zeros.
    pub(super) fn is_begun(bytes: &[u8], directory: u64, start: u64) -> bool {
        let filled = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let mut header = [0; HEADER_BYTES as usize];
        let Some(there) = header.get_mut(..filled) else { return false };
        there.copy_from_slice(&bytes[..filled]);
        // Where the one before ended only this says, and the checksum that it is so.
        let before = u64::from_le_bytes(header[24..32].try_into().expect("eight bytes"));
        before <= start && header[..filled] == Self { start, before }.encode(directory)[..filled]
    }
}
