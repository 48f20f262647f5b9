//! Records: what stands in a row.
//!
//! Every record begins with the xxh3-64 of the rest, seeded with that of the row's key, so that a
//! row that turns up under another key is as damaged as a changed byte. The rest is
//! `clock::encode` of one of the types here; a header's (`header`) has an outline before it
//! (`outline`), so that counting, listing and the hash trees need not decode it.
//!
//! Invariant: the state of a settled header is a function of what was merged, the same bytes at
//! every replica; whatever depends on the replica (what waits for the sweep) stands in the local
//! part. A key of which nothing is known has an empty state. What is left of a deleted key says in its
//! local part how old it is here, and a flag that it is hidden: then it adds nothing to a tree.

mod collection;
mod header;
mod outline;

use bytes::Bytes;
use clock::{CausalContext, Round};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use values::{Blob, Delta, Key};
use xxhash_rust::xxh3;

pub(crate) use collection::{Collection, Part, Tallies, row_digest};
pub(crate) use header::{Age, Header};
pub(crate) use outline::{
    Standing, Told, age_unchecked, due_unchecked, has_more, live_tags, share, standing,
    standing_unchecked,
};

use crate::StorageError;
use crate::census::ShardCensus;
use crate::engine::Chunk;
use crate::row_key::{RowKey, is_long_element};
use crate::tree::LeafSum;

pub(crate) const CHECKSUM_BYTES: usize = 8;
/// Room for most small records.
const SMALL_BYTES: usize = 128;
/// Room for the record of a leaf, of which the digest takes up to 19 bytes.
const LEAF_BYTES: usize = 48;

#[derive(Serialize, Deserialize)]
struct ElementRecord {
    key: Option<Key>,
    element: Option<Blob>,
    row: Bytes,
}

#[derive(Serialize)]
struct PendingOut<'a>(&'a Key, &'a Delta);

#[derive(Deserialize)]
struct PendingIn(Key, Delta);

fn damaged(what: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt(what.to_string())
}

pub(crate) fn checksum(row_key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    xxh3::xxh3_64_with_seed(body, xxh3::xxh3_64(row_key)).to_be_bytes()
}

/// The record of the row at `row_key` that holds `value`.
fn seal(row_key: &[u8], value: &impl Serialize) -> Vec<u8> {
    seal_in(Vec::with_capacity(SMALL_BYTES), row_key, value)
}

/// The same, in the room of `record`, which is empty.
fn seal_in(mut record: Vec<u8>, row_key: &[u8], value: &impl Serialize) -> Vec<u8> {
    record.extend_from_slice(&[0; CHECKSUM_BYTES]);
    clock::encode_into(value, &mut record);
    seal_in_place(row_key, &mut record);
    trim(&mut record);
    record
}

/// Gives back what is left over of a record's room, where it is most of it: asked for less, allocators leave a block
/// as it is.
fn trim(record: &mut Vec<u8>) {
    if record.len() < record.capacity() / 2 {
        record.shrink_to_fit();
    }
}

/// The same of a record in which room for the checksum was left.
fn seal_in_place(row_key: &[u8], record: &mut [u8]) {
    let (sum, body) = record.split_at_mut(CHECKSUM_BYTES);
    sum.copy_from_slice(&checksum(row_key, body));
}

fn open<'a>(row_key: &[u8], record: &'a [u8]) -> Result<&'a [u8], StorageError> {
    let (stored, body) =
        record.split_first_chunk().ok_or_else(|| damaged("record shorter than its checksum"))?;
    if *stored == checksum(row_key, body) { Ok(body) } else { Err(damaged("checksum differs")) }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, StorageError> {
    clock::decode(body).map_err(damaged)
}

/// The record of the row of `element` of the collection at `at`.
pub(crate) fn encode_element(
    row_key: &[u8],
    at: &RowKey,
    key: &Key,
    element: &Blob,
    row: Vec<u8>,
) -> Vec<u8> {
    let record = ElementRecord {
        key: at.is_long().then(|| key.clone()),
        element: is_long_element(element).then(|| element.clone()),
        row: row.into(),
    };
    seal(row_key, &record)
}

/// The row in the record of an element; with the full element where the row's key is a digest.
/// Given a `key` or `element` that stand under digests, compares them.
pub(crate) fn decode_element(
    row_key: &[u8],
    record: &[u8],
    key: Option<&Key>,
    element: Option<&Blob>,
) -> Result<(Option<Blob>, Bytes), StorageError> {
    let record: ElementRecord = decode(open(row_key, record)?)?;
    if key.is_some_and(|key| record.key.as_ref().is_some_and(|other| other != key)) {
        return Err(damaged("another key with the same digest"));
    }
    if let (Some(element), Some(stored)) = (element, &record.element)
        && element != stored
    {
        return Err(damaged("another element with the same digest"));
    }
    Ok((record.element, record.row))
}

/// The record of a collection that waits to be swept. It says what was cleared once more, because
/// a header that is damaged would otherwise bring it back.
pub(crate) fn encode_cleared(row_key: &[u8], cleared: &CausalContext) -> Vec<u8> {
    seal(row_key, cleared)
}

/// What was cleared of a collection that waits to be swept.
pub(crate) fn decode_cleared(row_key: &[u8], record: &[u8]) -> Result<CausalContext, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a leaf of a hash tree.
pub(crate) fn encode_leaf(row_key: &[u8], sum: LeafSum) -> Vec<u8> {
    seal_in(Vec::with_capacity(LEAF_BYTES), row_key, &sum)
}

/// The sum in the record of a leaf.
pub(crate) fn decode_leaf(row_key: &[u8], record: &[u8]) -> Result<LeafSum, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a chunk of a collection.
pub(crate) fn encode_chunk(row_key: &[u8], chunk: &Chunk) -> Vec<u8> {
    seal(row_key, chunk)
}

/// The chunk in its record.
pub(crate) fn decode_chunk(row_key: &[u8], record: &[u8]) -> Result<Chunk, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a shard: up to which position of the log its rows go, and its census, if known.
pub(crate) fn encode_shard(row_key: &[u8], position: u64, census: Option<&ShardCensus>) -> Vec<u8> {
    seal(row_key, &(position, census))
}

/// What stands in the record of a shard.
pub(crate) fn decode_shard(
    row_key: &[u8],
    record: &[u8],
) -> Result<(u64, Option<ShardCensus>), StorageError> {
    decode(open(row_key, record)?)
}

/// The record that says which round of the barrier was entered.
pub(crate) fn encode_round(row_key: &[u8], round: Round) -> Vec<u8> {
    seal(row_key, &round)
}

/// The round in that record.
pub(crate) fn decode_round(row_key: &[u8], record: &[u8]) -> Result<Round, StorageError> {
    decode(open(row_key, record)?)
}

/// The record of a pending delta.
pub(crate) fn encode_pending(row_key: &[u8], key: &Key, delta: &Delta) -> Vec<u8> {
    seal(row_key, &PendingOut(key, delta))
}

/// A pending delta, with its version: another one for another delta.
pub(crate) fn decode_pending(
    row_key: &[u8],
    record: &[u8],
) -> Result<(Key, Delta, u128), StorageError> {
    let body = open(row_key, record)?;
    let PendingIn(key, delta) = decode(body)?;
    Ok((key, delta, xxh3::xxh3_128(body)))
}
