//! What the fuzz targets share: what is claimed of everything that decodes.
//!
//! * It encodes again, and decodes to the same.
//! * Decoding takes memory by what there is, not by what a count says ([`bounded`]).
//! * A state merges into nothing as into itself, and two merge the same either way round.

mod laws;
mod parts;
mod requests;
mod resp;

use std::fmt::Debug;

use peak_alloc::PeakAlloc;
use serde::{Serialize, de::DeserializeOwned};

pub use laws::{check_delta, check_join, check_value};
pub use parts::{join_parts, parts};
pub use requests::{Checking, runtime};
pub use resp::reply_length;

/// Counts what is held.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that decoding anything may take: the longest frame or command, for which there is room as soon as
/// its length is read; a mebibyte for each list within another, which serde reserves of a claimed count;
/// 65,536 partitions, which runs of a few bytes stand for.
const BYTES: usize = 24 << 20;
/// The same for each byte of the input: an element of a few bytes becomes a node of a tree, or the
/// largest variant of an enumeration, in a list that is half empty.
const BYTES_PER_BYTE: usize = 512;

/// Does something with `length` bytes of input, within memory that they may take.
pub fn bounded<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let made = work();
    let took = MEMORY.peak_usage().saturating_sub(before);
    let allowed = BYTES + BYTES_PER_BYTE * length;
    assert!(took <= allowed, "{length} bytes of input took {took} bytes of memory");
    made
}

/// What `bytes` stand for, if they are a `T`: it is encoded again, and decoded to the same.
pub fn decoded<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let (value, back) = decoded_twice::<T>(bytes)?;
    assert!(value == back, "decoded again it is another: {value:?} {back:?}");
    Some(value)
}

/// The same of what may hold a number that does not equal itself: its bytes are compared.
pub fn decoded_inexact<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    decoded_twice(bytes).map(|(value, _)| value)
}

fn decoded_twice<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<(T, T)> {
    let value: T = bounded(bytes.len(), || clock::decode(bytes)).ok()?;
    let again = clock::encode(&value);
    assert_eq!(clock::encoded_length(&value), again.len());
    let back: T = clock::decode(&again).expect("what was decoded is encoded to be decoded again");
    assert!(clock::encode(&back) == again, "encoded again it is another: {again:?}");
    Some((value, back))
}
