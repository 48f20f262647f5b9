//! The census: how many live keys there are, by bucket and partition, how many of them are in conflict,
//! and of how many keys deltas are pending, by owner. Kept in memory, counted once when the engine
//! opens. Which keys are in conflict stands in rows of their own (`engine/conflicts.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clock::NodeId;
use ring::{Partition, PartitionCount};
use values::BucketId;

use crate::memtable::Memtable;
use crate::record::standing_unchecked;
use crate::row_key::{Parsed, RowKey, bucket_id, outbox_owner, parse_outbox};
use crate::{IndexRead, StorageError, Table};

/// One thing that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A live key.
    Key { bucket: BucketId, partition: Partition, several_types: bool, several_siblings: bool },
    /// A key of which something is pending for this owner.
    Pending(NodeId),
}

/// How many keys are in conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConflictCounts {
    /// Keys in conflict, of whichever kind.
    pub keys: u64,
    /// Keys with more than one live type.
    pub types: u64,
    /// Keys with more than one sibling.
    pub siblings: u64,
}

impl ConflictCounts {
    /// Every count, and whether a key with these properties is counted in it.
    fn each(&mut self, types: bool, siblings: bool) -> [(&mut u64, bool); 3] {
        [
            (&mut self.keys, types || siblings),
            (&mut self.types, types),
            (&mut self.siblings, siblings),
        ]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Census {
    keys: BTreeMap<BucketId, BTreeMap<Partition, u64>>,
    live_keys: u64,
    conflicts: ConflictCounts,
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
            Counted::Key { bucket, partition, several_types, several_siblings } => {
                self.live_keys += 1;
                for (count, concerns) in self.conflicts.each(*several_types, *several_siblings) {
                    *count += u64::from(concerns);
                }
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
            Counted::Key { bucket, partition, several_types, several_siblings } => {
                self.live_keys = self.live_keys.saturating_sub(1);
                for (count, concerns) in self.conflicts.each(*several_types, *several_siblings) {
                    *count = count.saturating_sub(u64::from(concerns));
                }
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

    pub(crate) const fn conflicts(&self) -> ConflictCounts {
        self.conflicts
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
    let standing = standing_unchecked(record);
    if standing.live.is_empty() {
        return None;
    }
    let (Parsed::Short(bucket, _) | Parsed::Long(bucket)) = RowKey::parse(key)?;
    Some(Counted::Key {
        bucket: bucket_id(bucket),
        partition: RowKey::partition(key, partitions)?,
        several_types: standing.live.len() > 1,
        several_siblings: standing.siblings > 1,
    })
}
