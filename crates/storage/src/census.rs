//! The census: how many live keys there are, by bucket and partition, how many of them are in conflict,
//! and of how many keys deltas are pending, in how many bytes, by owner. Kept in memory; each checkpoint writes it beside
//! the rows that it counts, so that it is exact for them, and a start need not count what may be
//! millions of rows. Which keys are in conflict stands in rows of their own (`engine/conflicts.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clock::NodeId;
use ring::{Partition, Token};
use serde::{Deserialize, Serialize};
use values::BucketId;

use crate::memtable::Memtable;
use crate::record::{Standing, standing_unchecked};
use crate::row_key::{Parsed, RowKey, bucket_id, outbox_owner, parse_outbox};
use crate::{IndexRead, Shard, Shards, StorageError, Table, row_token};

/// One thing that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A live key.
    Key { bucket: BucketId, partition: Partition, several_types: bool, several_siblings: bool },
    /// A key, of this shard, of which something is pending for this owner.
    Pending(NodeId, Shard),
    /// So many bytes that are pending for this owner, of this shard.
    PendingBytes(NodeId, Shard, u64),
}

/// What is pending for one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingCounts {
    keys: u64,
    /// Of rows, their keys included.
    bytes: u64,
}

/// How many keys are in conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.types += other.types;
        self.siblings += other.siblings;
    }
}

/// What one shard adds to a census, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardCensus {
    keys: BTreeMap<BucketId, BTreeMap<u32, u64>>,
    conflicts: BTreeMap<u32, ConflictCounts>,
    pending: BTreeMap<NodeId, PendingCounts>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    keys: BTreeMap<BucketId, BTreeMap<Partition, u64>>,
    live_keys: u64,
    /// Of the partitions that have any.
    conflicts: BTreeMap<Partition, ConflictCounts>,
    pending: BTreeMap<NodeId, BTreeMap<Shard, PendingCounts>>,
}

impl Census {
    /// Counts what `rows` holds.
    pub(crate) fn of<R: IndexRead>(
        rows: &Memtable<R>,
        shards: Shards,
    ) -> Result<Self, StorageError> {
        let mut census = Self::default();
        rows.scan(Table::Header, &[], &[], |key, record| {
            let Standing { live, siblings } = standing_unchecked(record);
            if let Some(counted) = counted_key(key, live.len(), siblings, shards) {
                census.add(&counted);
            }
            ControlFlow::Continue(())
        })?;
        let mut last = Vec::new();
        rows.scan(Table::Outbox, &[], &[], |key, record| {
            // Rows of one owner and key stand together.
            let prefix = parse_outbox(key).map_or(key, |(prefix, _)| prefix);
            if let Some(counted) = counted_pending(key, shards)
                && prefix != last
            {
                census.add(&counted);
                last = prefix.to_vec();
            }
            if let Some(counted) = counted_pending_bytes(key, record.len(), shards) {
                census.add(&counted);
            }
            ControlFlow::Continue(())
        })?;
        Ok(census)
    }

    pub(crate) fn add(&mut self, counted: &Counted) {
        match counted {
            Counted::Key { bucket, partition, several_types, several_siblings } => {
                self.live_keys += 1;
                if *several_types || *several_siblings {
                    let counts = self.conflicts.entry(*partition).or_default();
                    for (count, concerns) in counts.each(*several_types, *several_siblings) {
                        *count += u64::from(concerns);
                    }
                }
                if let Some(partitions) = self.keys.get_mut(bucket) {
                    *partitions.entry(*partition).or_default() += 1;
                } else {
                    self.keys.insert(bucket.clone(), BTreeMap::from([(*partition, 1)]));
                }
            }
            Counted::Pending(owner, shard) => self.pending_mut(*owner, *shard).keys += 1,
            Counted::PendingBytes(owner, shard, bytes) => {
                self.pending_mut(*owner, *shard).bytes += bytes;
            }
        }
    }

    /// Saturating, because a damaged record may have been counted wrongly.
    pub(crate) fn remove(&mut self, counted: &Counted) {
        match counted {
            Counted::Key { bucket, partition, several_types, several_siblings } => {
                self.live_keys = self.live_keys.saturating_sub(1);
                if let Some(counts) = self.conflicts.get_mut(partition) {
                    for (count, concerns) in counts.each(*several_types, *several_siblings) {
                        *count = count.saturating_sub(u64::from(concerns));
                    }
                    if *counts == ConflictCounts::default() {
                        self.conflicts.remove(partition);
                    }
                }
                if let Some(partitions) = self.keys.get_mut(bucket) {
                    take_one(partitions, *partition);
                    if partitions.is_empty() {
                        self.keys.remove(bucket);
                    }
                }
            }
            Counted::Pending(owner, shard) => self.take_pending(*owner, *shard, 1, 0),
            Counted::PendingBytes(owner, shard, bytes) => {
                self.take_pending(*owner, *shard, 0, *bytes)
            }
        }
    }

    fn pending_mut(&mut self, owner: NodeId, shard: Shard) -> &mut PendingCounts {
        self.pending.entry(owner).or_default().entry(shard).or_default()
    }

    fn take_pending(&mut self, owner: NodeId, shard: Shard, keys: u64, bytes: u64) {
        let Some(shards) = self.pending.get_mut(&owner) else { return };
        if let Some(counts) = shards.get_mut(&shard) {
            counts.keys = counts.keys.saturating_sub(keys);
            counts.bytes = counts.bytes.saturating_sub(bytes);
            // Of a damaged row as many bytes are left as it is shorter than what was counted.
            if counts.keys == 0 {
                shards.remove(&shard);
            }
        }
        if shards.is_empty() {
            self.pending.remove(&owner);
        }
    }

    /// There are no rows for `owner`. Returns whether any were counted.
    pub(crate) fn clear_pending(&mut self, owner: NodeId) -> bool {
        self.pending.remove(&owner).is_some()
    }

    pub(crate) const fn live_keys(&self) -> u64 {
        self.live_keys
    }

    pub(crate) fn conflicts(&self) -> ConflictCounts {
        let mut all = ConflictCounts::default();
        self.conflicts.values().for_each(|counts| all.add(*counts));
        all
    }

    pub(crate) fn keys(&self, bucket: &BucketId, partitions: &[Partition]) -> u64 {
        let Some(counts) = self.keys.get(bucket) else { return 0 };
        partitions.iter().filter_map(|partition| counts.get(partition)).sum()
    }

    pub(crate) fn pending(&self, owner: NodeId) -> u64 {
        self.pending_counts(owner).map(|counts| counts.keys).sum()
    }

    pub(crate) fn pending_bytes(&self, owner: NodeId) -> u64 {
        self.pending_counts(owner).map(|counts| counts.bytes).sum()
    }

    fn pending_counts(&self, owner: NodeId) -> impl Iterator<Item = &PendingCounts> {
        self.pending.get(&owner).into_iter().flat_map(BTreeMap::values)
    }

    /// What each shard adds to it.
    pub(crate) fn by_shard(&self, shards: Shards) -> Vec<ShardCensus> {
        let mut parts: Vec<_> = shards.iter().map(|_| ShardCensus::default()).collect();
        for (bucket, counts) in &self.keys {
            for (&partition, &count) in counts {
                let part = &mut parts[usize::from(shards.of_partition(partition).0)];
                part.keys.entry(bucket.clone()).or_default().insert(partition.0, count);
            }
        }
        for (&partition, &counts) in &self.conflicts {
            let part = &mut parts[usize::from(shards.of_partition(partition).0)];
            part.conflicts.insert(partition.0, counts);
        }
        for (&owner, counts) in &self.pending {
            for (shard, &counts) in counts {
                parts[usize::from(shard.0)].pending.insert(owner, counts);
            }
        }
        parts
    }

    /// Adds what was stored of a shard.
    pub(crate) fn add_shard(&mut self, shard: Shard, part: &ShardCensus) {
        for (bucket, counts) in &part.keys {
            let all = self.keys.entry(bucket.clone()).or_default();
            for (&partition, &count) in counts {
                *all.entry(Partition(partition)).or_default() += count;
                self.live_keys += count;
            }
        }
        for (&partition, &counts) in &part.conflicts {
            self.conflicts.entry(Partition(partition)).or_default().add(counts);
        }
        for (&owner, &PendingCounts { keys, bytes }) in &part.pending {
            let counts = self.pending_mut(owner, shard);
            counts.keys += keys;
            counts.bytes += bytes;
        }
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

/// What a header's row with so many live tags and siblings counts as.
pub(crate) fn counted_key(
    key: &[u8],
    live_tags: usize,
    siblings: u32,
    shards: Shards,
) -> Option<Counted> {
    if live_tags == 0 {
        return None;
    }
    let (Parsed::Short(bucket, _) | Parsed::Long(bucket)) = RowKey::parse(key)?;
    Some(Counted::Key {
        bucket: bucket_id(bucket),
        partition: RowKey::partition(key, shards.partitions())?,
        several_types: live_tags > 1,
        several_siblings: siblings > 1,
    })
}

/// What the outbox rows of one owner and key count as, given the key of one of them or what those
/// begin with.
pub(crate) fn counted_pending(key: &[u8], shards: Shards) -> Option<Counted> {
    let token: Token = row_token(Table::Outbox, key)?;
    Some(Counted::Pending(outbox_owner(key)?, shards.of_token(token)))
}

/// What the bytes of an outbox row count as, given its key and the length of its record.
pub(crate) fn counted_pending_bytes(key: &[u8], record: usize, shards: Shards) -> Option<Counted> {
    let token: Token = row_token(Table::Outbox, key)?;
    let bytes = u64::try_from(key.len() + record).unwrap_or(u64::MAX);
    Some(Counted::PendingBytes(outbox_owner(key)?, shards.of_token(token), bytes))
}
