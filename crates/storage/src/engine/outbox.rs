//! The outbox: per (owner, key) one merged delta that the owner has not acknowledged.

use std::ops::ControlFlow;

use clock::NodeId;
use values::{Delta, Key};

use super::Engine;
use crate::census::Counted;
use crate::memtable::successor;
use crate::record::{decode_pending, encode_pending};
use crate::row_key::{RowKey, outbox_owner};
use crate::{IndexRead, OutboxPosition, Pending, StorageError, Table};

impl<R: IndexRead> Engine<R> {
    /// Merges `delta` into what is pending for (owner, key). A damaged record is replaced: what it
    /// held is left to anti-entropy.
    pub(super) fn defer(
        &mut self,
        owner: NodeId,
        key: &Key,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        self.check_room()?;
        let row_key = RowKey::of(key).outbox(owner);
        let pending =
            self.rows.get(Table::Outbox, &row_key, |record| decode_pending(&row_key, record))?;
        let known = pending.is_some();
        let merged = match pending {
            Some(Ok((other, _, _))) if other != *key => {
                return Err(StorageError::Corrupt("another key with the same digest".into()));
            }
            Some(Ok((_, mut pending, _))) => {
                let before = pending.clone();
                pending.merge(delta);
                if pending == before {
                    return Ok(());
                }
                pending
            }
            Some(Err(_)) => {
                self.damaged += 1;
                delta.clone()
            }
            None => delta.clone(),
        };
        if !known {
            self.count(Table::Outbox, row_key.clone(), Counted::Pending(owner), true);
        }
        let record = encode_pending(&row_key, key, &merged);
        self.rows.put(Table::Outbox, row_key, Some(record));
        Ok(())
    }

    /// Lists what is pending for `owner`. Damaged records are passed over.
    pub(super) fn outbox(
        &self,
        owner: NodeId,
        after: Option<&OutboxPosition>,
        limit: usize,
    ) -> Result<Vec<Pending>, StorageError> {
        let prefix = owner.0.to_be_bytes();
        let from = after.map_or_else(Vec::new, |after| successor(&after.0));
        let mut listed = Vec::new();
        self.rows.scan(Table::Outbox, &prefix, &from, |row_key, record| {
            if let Ok((key, delta, version)) = decode_pending(row_key, record) {
                let position = OutboxPosition(row_key.to_vec().into());
                listed.push(Pending { position, key, delta, version });
            }
            if listed.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(listed)
    }

    /// Deletes what is pending for (owner, key) if it is still what was delivered.
    pub(super) fn delivered(
        &mut self,
        owner: NodeId,
        key: &Key,
        version: u128,
    ) -> Result<(), StorageError> {
        self.check_room()?;
        let row_key = RowKey::of(key).outbox(owner);
        let pending =
            self.rows.get(Table::Outbox, &row_key, |record| decode_pending(&row_key, record))?;
        if let Some(Ok((pending_key, _, pending_version))) = pending
            && pending_key == *key
            && pending_version == version
        {
            self.count(Table::Outbox, row_key.clone(), Counted::Pending(owner), false);
            self.rows.put(Table::Outbox, row_key, None);
        }
        Ok(())
    }

    /// What the outbox row at `place` counts as.
    pub(super) fn pending_at(&self, place: &[u8]) -> Result<Option<Counted>, StorageError> {
        let is_there = self.rows.get(Table::Outbox, place, |_| ())?.is_some();
        Ok(outbox_owner(place).filter(|_| is_there).map(Counted::Pending))
    }

    /// Owners for whom a delta of `key` is pending, in order.
    pub fn pending_owners(&self, key: &Key) -> Vec<NodeId> {
        let at = RowKey::of(key);
        let holds = |owner: &NodeId| {
            matches!(self.rows.get(Table::Outbox, &at.outbox(*owner), |_| ()), Ok(Some(())))
        };
        self.census.owners().filter(holds).collect()
    }
}
