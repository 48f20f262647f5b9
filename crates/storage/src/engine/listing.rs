//! Listing the live keys of a range of partitions.

use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;
use ring::Partition;
use values::{BucketId, Key};

use super::Engine;
use crate::memtable::successor;
use crate::record::{Header, live_tags};
use crate::row_key::{Parsed, RowKey, partition_start};
use crate::{IndexRead, ListPosition, Listed, Listing, StorageError, Table};

/// A listing ends with the key that takes it beyond so many bytes of keys: as many long ones as may be asked for do not
/// fit in a message. A guess.
const LISTING_BYTES: usize = 1 << 20;

impl<R: IndexRead> Engine<R> {
    /// Live keys of `bucket` in `range`. Damaged ones are passed over.
    pub(super) fn list(
        &self,
        range: RangeInclusive<Partition>,
        bucket: &BucketId,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Listing, StorageError> {
        let partitions = self.config.shards.shards().partitions();
        let mut listing = Listing::default();
        if range.start().0 >= partitions.get() {
            return Ok(listing);
        }
        // A position comes from a client: one outside the range means its start or its end.
        let start = partition_start(*range.start(), partitions).to_vec();
        let from = after.map_or_else(Vec::new, |after| successor(&after.0)).max(start);
        let (mut rows, mut bytes) = (0, 0);
        self.rows.scan(Table::Header, &[], &from, |row_key, record| {
            if RowKey::partition(row_key, partitions)
                .is_none_or(|partition| !range.contains(&partition))
            {
                return ControlFlow::Break(());
            }
            rows += 1;
            let position = || ListPosition(row_key.to_vec().into());
            if let Some((key, tags)) = live_key(row_key, record, bucket) {
                bytes += row_key.len() + key.key().len();
                listing.keys.push(Listed { position: position(), key, tags });
            }
            if listing.keys.len() < limit
                && bytes < LISTING_BYTES
                && rows < limit.saturating_add(self.config.bounds.other_rows_max)
            {
                return ControlFlow::Continue(());
            }
            listing.next = Some(position());
            ControlFlow::Break(())
        })?;
        Ok(listing)
    }
}

/// The key of a header row and its live tags, if it is of `bucket` and has any.
fn live_key(row_key: &[u8], record: &[u8], bucket: &BucketId) -> Option<(Key, Vec<values::Tag>)> {
    let key = match RowKey::parse(row_key)? {
        Parsed::Short(found, _) | Parsed::Long(found)
            if found != (&bucket.name, bucket.generation) =>
        {
            return None;
        }
        Parsed::Short(_, key) => Key::within(bucket.clone(), Bytes::copy_from_slice(key)).ok()?,
        Parsed::Long(_) => Header::decode(row_key, record).ok()?.1?,
    };
    let tags = live_tags(row_key, record).filter(|tags| !tags.is_empty())?;
    Some((key, tags))
}
