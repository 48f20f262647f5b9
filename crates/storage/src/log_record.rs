//! Log records: what an engine did, so that replaying it over the same rows does the same.
//!
//! ```text
//! shard (2, little-endian) ‖ clock::encode of what was done
//! ```
//!
//! What the engine does beside (sweeping, bringing damaged keys back, counting hash trees anew) follows
//! from the rows and is not recorded: replay meets the same rows and does it again. But where counting
//! found rows that are not what their header says: replay counts nothing.

use bytes::Bytes;
use clock::{NodeId, Round};
use serde::{Deserialize, Serialize};
use values::{Blob, Delta, Key};

use crate::log::frame;
use crate::{Forgetting, OutboxPosition, Shard};

/// What is written: borrowed, because an engine records what it goes on using.
#[derive(Debug, Serialize)]
pub(crate) enum RecordOut<'a> {
    /// A delta was merged into a key.
    Merge(&'a Key, &'a Delta),
    /// A delta was kept for an owner.
    Defer(NodeId, &'a Key, &'a Delta),
    /// What was pending there, with that version, was delivered.
    Delivered(&'a OutboxPosition, u128),
    /// What was pending there pends for these owners instead, or was merged. One record: a hole in a log takes all of
    /// that or nothing.
    Redirect(&'a OutboxPosition, &'a [NodeId]),
    /// Notes were kept.
    Note(&'a [(Bytes, Bytes)]),
    /// A round of the barrier was entered.
    Enter(Round),
    /// The remnant of this round with this header row was hidden, dropped, or shown.
    Remnant(Forgetting, u64, &'a [u8]),
    /// Nothing: the disk was asked whether it takes so much.
    Probe(Blob),
    /// All that was held of the key with this header row was dropped.
    Forget(&'a [u8]),
    /// The collections of the key with this header row were brought back to what is whole of them.
    Rebuild(&'a [u8]),
    /// A start met that records of the log are gone, each time from one position up to another, and the replica went on.
    LossMet(&'a [(u64, u64)]),
}

/// What is read.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum RecordIn {
    Merge(Key, Delta),
    Defer(NodeId, Key, Delta),
    Delivered(OutboxPosition, u128),
    Redirect(OutboxPosition, Vec<NodeId>),
    Note(Vec<(Bytes, Bytes)>),
    Enter(Round),
    Remnant(Forgetting, u64, Bytes),
    Probe(Blob),
    Forget(Vec<u8>),
    Rebuild(Vec<u8>),
    LossMet(Vec<(u64, u64)>),
}

/// Appends a frame with this record to `batch`.
pub(crate) fn push(batch: &mut Vec<u8>, shard: Shard, record: &RecordOut<'_>) {
    let at = frame::begin(batch);
    batch.extend_from_slice(&shard.0.to_le_bytes());
    clock::encode_into(record, batch);
    frame::end(batch, at);
}

/// The shard that a record is of, for whoever deals records to engines; `None` if it is none.
pub fn record_shard(record: &[u8]) -> Option<Shard> {
    record.first_chunk().map(|shard| Shard(u16::from_le_bytes(*shard)))
}

/// What was done; `None` if this build cannot read it.
pub(crate) fn decode(record: &[u8]) -> Option<RecordIn> {
    clock::decode(record.get(size_of::<u16>()..)?).ok()
}
