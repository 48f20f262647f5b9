//! One row for people.

use ring::Partition;
use values::{BucketId, Tag};

use super::{shown, shown_context, shown_key};
use crate::record::{
    Header, Part, decode_chunk, decode_cleared, decode_element, decode_leaf, decode_pending,
    decode_round, decode_shard,
};
use crate::row_key::{
    Parsed, RowKey, bucket_id, note_prefix, outbox_owner, parse_chunks, parse_conflict,
    parse_elements, parse_expiry, parse_outbox, parse_remnant, parse_round, parse_sweep,
};
use crate::tree::leaf_row_token;
use crate::{Shards, Table, check_row, row_token};

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowShown {
    /// The table.
    pub table: Table,
    /// The partition of its key, if it is a key's.
    pub partition: Option<Partition>,
    /// The bucket, if it is a key's.
    pub bucket: Option<BucketId>,
    /// The key, if it stands in the row's own key, as most do, and if not, if it stands in the record.
    pub key: Option<Vec<u8>>,
    /// What there is.
    pub what: String,
    /// What is wrong with it, if something is.
    pub damage: Option<String>,
}

impl RowShown {
    /// Where it is.
    pub fn place(&self) -> String {
        let mut place = format!("table {}", self.table.name());
        if let Some(partition) = self.partition {
            place += &format!(", partition {}", partition.0);
        }
        match (&self.bucket, &self.key) {
            (Some(bucket), Some(key)) => {
                place += &format!(", key {}/{}", bucket.name.escape_ascii(), shown(key));
            }
            (Some(bucket), None) => {
                place += &format!(", a long key of bucket {}", bucket.name.escape_ascii());
            }
            (None, _) => (),
        }
        if self.bucket.is_none() || self.table != Table::Header {
            place += &format!(" ({})", self.what);
        }
        place
    }
}

/// Says what the row of `table` at `row_key` is.
pub fn show_row(table: Table, row_key: &[u8], record: &[u8], shards: Shards) -> RowShown {
    let damage = check_row(table, row_key, record).err().map(|error| error.to_string());
    let token = row_token(table, row_key);
    let partition = token.map(|token| shards.partitions().partition(token));
    let mut row =
        RowShown { table, partition, bucket: None, key: None, what: String::new(), damage };
    match table {
        Table::Header => {
            row.of_key(RowKey::read(row_key));
            row.what = match Header::decode(row_key, record) {
                Ok((header, full)) => {
                    row.key = full.map(|key| key.key().to_vec()).or(row.key);
                    header_shown(&header)
                }
                Err(_) => format!("{} bytes", record.len()),
            };
        }
        Table::Element => {
            let (at, tag, part) = parsed(row_key);
            row.of_key(at);
            let value = decode_element(row_key, record, None, None);
            row.what = match value {
                Ok((full, state)) => {
                    let element = full.as_deref().unwrap_or(part);
                    format!("{tag} element {}, {} bytes of state", shown(element), state.len())
                }
                Err(_) => format!("{tag} element {}", shown(part)),
            };
        }
        Table::ElementTree => {
            let (at, tag, part) = parsed(row_key);
            row.of_key(at);
            let end = if part.is_empty() { "the end".into() } else { shown(part) };
            row.what = match decode_chunk(row_key, record) {
                Ok(chunk) => format!("{tag} chunk up to {end}: {chunk:?}"),
                Err(_) => format!("{tag} chunk up to {end}"),
            };
        }
        Table::Outbox => {
            let owner = outbox_owner(row_key).map_or_else(String::new, |owner| owner.to_string());
            let sequence = parse_outbox(row_key).map_or(0, |(_, sequence)| sequence);
            row.what = match decode_pending(row_key, record) {
                Ok((key, delta, _)) => {
                    row.bucket = Some(BucketId {
                        name: values::Blob::copy_from_slice(key.bucket()),
                        generation: key.generation(),
                    });
                    row.key = Some(key.key().to_vec());
                    format!("number {sequence} for {owner}: {}", delta_shown(&delta))
                }
                Err(_) => format!("number {sequence} for {owner}"),
            };
        }
        Table::Tree => {
            row.partition =
                leaf_row_token(row_key).map(|token| shards.partitions().partition(token));
            let class = row_key.last().copied().unwrap_or(0);
            row.what = match decode_leaf(row_key, record) {
                Ok(sum) => format!(
                    "leaf of n = {class}: {} keys, {} unsettled, {:032x}",
                    sum.count, sum.unsettled, sum.digest
                ),
                Err(_) => format!("leaf of n = {class}"),
            };
        }
        Table::Shard => {
            let number = row_key.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            row.what = match decode_shard(row_key, record) {
                Ok((position, census)) => {
                    let census = if census.is_some() { "with" } else { "without" };
                    format!("shard {number}: up to position {position}, {census} its census")
                }
                Err(_) => format!("shard {number}"),
            };
        }
        Table::Meta => row.of_meta(row_key, record),
    }
    row
}

fn parsed(row_key: &[u8]) -> (Option<RowKey>, Tag, &[u8]) {
    match parse_elements(row_key) {
        Some((at, tag, part)) => (Some(at), tag, part),
        None => (None, Tag(0), row_key),
    }
}

impl RowShown {
    fn of_key(&mut self, at: Option<RowKey>) {
        let at = at.as_ref().map(RowKey::as_bytes).and_then(RowKey::parse);
        (self.bucket, self.key) = match at {
            Some(Parsed::Short(bucket, key)) => (Some(bucket_id(bucket)), Some(key.to_vec())),
            Some(Parsed::Long(bucket)) => (Some(bucket_id(bucket)), None),
            None => (None, None),
        };
    }

    fn of_meta(&mut self, row_key: &[u8], record: &[u8]) {
        if let Some((siblings, at)) = parse_conflict(row_key) {
            self.of_key(RowKey::read(at));
            self.what = format!("in conflict, {siblings} siblings");
        } else if let Some((is_hidden, round, at)) = parse_remnant(row_key) {
            self.of_key(RowKey::read(at));
            let hidden = if is_hidden { ", hidden" } else { "" };
            self.what = format!("what is left of a deleted key, of round {round}{hidden}");
        } else if parse_round(row_key).is_some() {
            let round = decode_round(row_key, record);
            self.what =
                round.map_or_else(|_| "round".into(), |round| format!("round {}", round.number));
        } else if let Some((tag, at)) = parse_sweep(row_key) {
            self.of_key(Some(at));
            let cleared = decode_cleared(row_key, record);
            let cleared = cleared.map_or_else(|_| String::new(), |it| shown_context(&it));
            self.what = format!("{tag} to be swept of {cleared}");
        } else if let Some((tag, at)) = parse_chunks(row_key) {
            self.of_key(Some(at));
            self.what = format!("{tag} to be counted in chunks");
        } else if let Some((deadline_ms, at)) = parse_expiry(row_key) {
            self.of_key(Some(at));
            self.what = format!("expires at {deadline_ms} (milliseconds since 1970)");
        } else if let Some(name) = row_key.strip_prefix(note_prefix()) {
            self.what = format!("note {}, {} bytes", shown(name), record.len());
        } else {
            self.what = format!("a row at {}", shown(row_key));
        }
    }
}

fn header_shown(header: &Header) -> String {
    let live: Vec<Tag> = header.live_tags().collect();
    let parts: Vec<String> = header
        .tags
        .iter()
        .map(|(tag, part)| {
            let context = shown_context(part.context());
            let is_live = if live.contains(tag) { "" } else { ", nothing live" };
            match part {
                Part::Whole(_) => format!("{tag} {context}{is_live}"),
                Part::Collection(collection) => {
                    let dead = match collection.cleared.is_empty() {
                        true => String::new(),
                        false => format!(", cleared {}", shown_context(&collection.cleared)),
                    };
                    let live = collection.live;
                    format!("{tag} {context}, {live} live elements{dead}")
                }
            }
        })
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join("; ") }
}

/// The dots of each type that a delta speaks of.
pub(super) fn delta_shown(delta: &values::Delta) -> String {
    let tags = Tag::KNOWN.into_iter();
    let parts = tags
        .map(|tag| (tag, delta.value.context(tag)))
        .filter(|(_, context)| !context.is_empty())
        .map(|(tag, context)| format!("{tag} {}", shown_context(context)));
    parts.collect::<Vec<_>>().join("; ")
}

/// A key as the log names it.
pub(super) fn key_shown(key: &values::Key) -> String {
    shown_key(key)
}
