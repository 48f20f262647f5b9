//! The census: how many live keys there are, by bucket and partition, and of how many keys deltas are
//! pending, by owner. Kept in memory, counted once when the engine opens.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clock::NodeId;
use ring::{Partition, PartitionCount};
use values::BucketId;

use crate::memtable::Memtable;
use crate::record::live_tags_unchecked;
use crate::row_key::{Parsed, RowKey, bucket_id, outbox_owner, parse_outbox};
use crate::{IndexRead, StorageError, Table};

/// One thing that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A live key.
    Key(BucketId, Partition),
    /// A key of which something is pending for this owner.
    Pending(NodeId),
}

#[derive(Debug, Default)]
pub(crate) struct Census {
    keys: BTreeMap<BucketId, BTreeMap<Partition, u64>>,
    live_keys: u64,
    pending: BTreeMap<NodeId, u64>,
}

impl Census {
    /// Counts what `rows` holds.
    pub(crate) fn of<R: IndexRead>(
        rows: &Memtable<R>,
        partitions: PartitionCount,
    ) -> Result<Self, StorageError> {
        let mut census = Self::default();
        rows.scan(Table::Header, &[], &[], |key, record| {
            if let Some(counted) = counted_key(key, record, partitions) {
                census.add(&counted);
            }
            ControlFlow::Continue(())
        })?;
        let mut last = Vec::new();
        rows.scan(Table::Outbox, &[], &[], |key, _| {
            // Rows of one owner and key stand together.
            let prefix = parse_outbox(key).map_or(key, |(prefix, _)| prefix);
            if let Some(owner) = outbox_owner(key)
                && prefix != last
            {
                census.add(&Counted::Pending(owner));
                last = prefix.to_vec();
            }
            ControlFlow::Continue(())
        })?;
        Ok(census)
    }

    pub(crate) fn add(&mut self, counted: &Counted) {
        match counted {
            Counted::Key(bucket, partition) => {
                self.live_keys += 1;
                if let Some(partitions) = self.keys.get_mut(bucket) {
                    *partitions.entry(*partition).or_default() += 1;
                } else {
                    self.keys.insert(bucket.clone(), BTreeMap::from([(*partition, 1)]));
                }
            }
            Counted::Pending(owner) => *self.pending.entry(*owner).or_default() += 1,
        }
    }

    /// Saturating, because a damaged record may have been counted wrongly.
    pub(crate) fn remove(&mut self, counted: &Counted) {
        match counted {
            Counted::Key(bucket, partition) => {
                self.live_keys = self.live_keys.saturating_sub(1);
                if let Some(partitions) = self.keys.get_mut(bucket) {
                    take_one(partitions, *partition);
                    if partitions.is_empty() {
                        self.keys.remove(bucket);
                    }
                }
            }
            Counted::Pending(owner) => take_one(&mut self.pending, *owner),
        }
    }

    pub(crate) const fn live_keys(&self) -> u64 {
        self.live_keys
    }

    pub(crate) fn keys(&self, bucket: &BucketId, partitions: &[Partition]) -> u64 {
        let Some(counts) = self.keys.get(bucket) else { return 0 };
        partitions.iter().filter_map(|partition| counts.get(partition)).sum()
    }

    pub(crate) fn pending(&self, owner: NodeId) -> u64 {
        self.pending.get(&owner).copied().unwrap_or(0)
    }

    /// Owners for whom something is pending.
    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.pending.keys().copied()
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// What a header's row counts as. The same for the same bytes, so that what was added is what is
/// removed.
pub(crate) fn counted_key(
    key: &[u8],
    record: &[u8],
    partitions: PartitionCount,
) -> Option<Counted> {
    if live_tags_unchecked(record).is_empty() {
        return None;
    }
    let (Parsed::Short(bucket, _) | Parsed::Long(bucket)) = RowKey::parse(key)?;
    Some(Counted::Key(bucket_id(bucket), RowKey::partition(key, partitions)?))
}
