//! Whether a row is what was written: its key's form, its checksum, its encoding.

use crate::record::{
    CHECKSUM_BYTES, Header, checksum, decode_chunk, decode_cleared, decode_element, decode_leaf,
    decode_pending, decode_shard,
};
use crate::row_key::{
    RowKey, chunks_prefix, note_prefix, parse_chunks, parse_conflict, parse_elements, parse_expiry,
    parse_sweep, sweep_prefix,
};
use crate::tree::leaf_row_token;
use crate::{StorageError, Table, row_token};

fn misplaced() -> StorageError {
    StorageError::Corrupt("its key is no key of this table".into())
}

/// Whether the row of `table` at `key` is whole, or what is wrong with it. That its record is whole
/// says that it is the one that was written there last, but for rows that only mark a place, which
/// have none.
pub fn check_row(table: Table, key: &[u8], record: &[u8]) -> Result<(), StorageError> {
    let is_in_place = match table {
        Table::Header => RowKey::parse(key).is_some(),
        Table::Element | Table::ElementTree => parse_elements(key).is_some(),
        Table::Outbox => row_token(table, key).is_some(),
        Table::Tree => leaf_row_token(key).is_some(),
        Table::Shard => key.len() == 2,
        Table::Meta => return check_meta(key, record),
    };
    if !is_in_place {
        return Err(misplaced());
    }
    match table {
        Table::Header => Header::decode(key, record).map(drop),
        Table::Element => decode_element(key, record, None, None).map(drop),
        Table::Outbox => decode_pending(key, record).map(drop),
        Table::Tree => decode_leaf(key, record).map(drop),
        Table::ElementTree => decode_chunk(key, record).map(drop),
        Table::Shard => decode_shard(key, record).map(drop),
        Table::Meta => Ok(()),
    }
}

fn check_meta(key: &[u8], record: &[u8]) -> Result<(), StorageError> {
    if key.starts_with(sweep_prefix()) && parse_sweep(key).is_some() {
        return decode_cleared(key, record).map(drop);
    }
    if key.starts_with(note_prefix()) {
        let whole = record.split_first_chunk::<CHECKSUM_BYTES>();
        let is_whole = whole.is_some_and(|(sum, value)| *sum == checksum(key, value));
        return if is_whole {
            Ok(())
        } else {
            Err(StorageError::Corrupt("checksum differs".into()))
        };
    }
    let marks = parse_conflict(key).is_some_and(|(_, at)| RowKey::parse(at).is_some())
        || key.starts_with(chunks_prefix()) && parse_chunks(key).is_some()
        || parse_expiry(key).is_some();
    match (marks, record.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(StorageError::Corrupt("a mark with contents".into())),
        (false, _) => Err(misplaced()),
    }
}
