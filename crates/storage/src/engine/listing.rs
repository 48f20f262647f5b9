//! Listing the live keys of a range of partitions.

use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;
use ring::Partition;
use values::Key;

use super::Engine;
use crate::memtable::successor;
use crate::record::{Header, live_tags};
use crate::row_key::{Parsed, RowKey, partition_start};
use crate::{IndexRead, ListPosition, Listed, StorageError, Table};

impl<R: IndexRead> Engine<R> {
    /// Live keys of `bucket` in `range`. Damaged ones are passed over.
    pub(super) fn list(
        &self,
        range: RangeInclusive<Partition>,
        bucket: &Bytes,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<Listed>, StorageError> {
        let partitions = self.config.partitions;
        let mut listed = Vec::new();
        if range.start().0 >= partitions.get() {
            return Ok(listed);
        }
        // A position comes from a client: one outside the range means its start or its end.
        let start = partition_start(*range.start(), partitions).to_vec();
        let from = after.map_or_else(Vec::new, |after| successor(&after.0)).max(start);
        self.rows.scan(Table::Header, &[], &from, |row_key, record| {
            if RowKey::partition(row_key, partitions)
                .is_none_or(|partition| !range.contains(&partition))
            {
                return ControlFlow::Break(());
            }
            if let Some((key, tags)) = live_key(row_key, record, bucket) {
                let position = ListPosition(row_key.to_vec().into());
                listed.push(Listed { position, key, tags });
            }
            if listed.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(listed)
    }
}

/// The key of a header row and its live tags, if it is of `bucket` and has any.
fn live_key(row_key: &[u8], record: &[u8], bucket: &Bytes) -> Option<(Key, Vec<values::Tag>)> {
    let key = match RowKey::parse(row_key)? {
        Parsed::Short(name, _) if name != bucket => return None,
        Parsed::Short(_, key) => Key::new(bucket.clone(), Bytes::copy_from_slice(key)).ok()?,
        Parsed::Long => {
            Header::decode(row_key, record).ok()?.1.filter(|key| key.bucket() == bucket)?
        }
    };
    let tags = live_tags(row_key, record).filter(|tags| !tags.is_empty())?;
    Some((key, tags))
}
