//! The outbox: per (owner, key) merged deltas that the owner has not acknowledged.
//!
//! Each (owner, key) has rows, numbered from 0. A deferred delta is merged into the latest one while
//! that is short, and begins another once it is not; so keeping a delta costs one short row,
//! however much is pending. In which order rows are delivered does not matter: each is merged.
//! States that are no collections replace what they supersede, and are merged whatever their
//! length: keeping them apart would keep what is superseded too.

use std::ops::ControlFlow;

use clock::NodeId;
use sabotage::Bug;
use values::{Delta, Key, Scope, Tag, Value, View, is_collection};

use super::Engine;
use crate::census::{counted_pending, counted_pending_bytes};
use crate::log_record::RecordOut;
use crate::memtable::successor;
use crate::record::{decode_pending, encode_pending};
use crate::row_key::{RowKey, outbox_owner, outbox_row, parse_outbox, row_token};
use crate::{IndexRead, OutboxPosition, Pending, StorageError, Table, check_row_key};

/// A row this long takes no more elements. A guess: a few reads of the disk, one short message.
const ROW_BYTES: usize = 64 << 10;

/// The latest row of an owner and key.
struct Latest {
    sequence: u64,
    /// Of its record.
    bytes: usize,
    is_short: bool,
    /// What stands there, if it had to be looked at.
    pending: Option<Result<(Key, Delta), StorageError>>,
}

/// Whether a delta is of no collection: its length does not grow with the number of merges. (What
/// this build does not know may.)
fn is_whole(delta: &Delta) -> bool {
    let is_known = |tag: &Tag| Tag::KNOWN.contains(tag) || *tag == Tag::EXPIRY;
    delta.value.0.keys().all(|tag| is_known(tag) && !is_collection(*tag))
}

/// A page of the outbox ends with the row that takes it beyond so many bytes: what is delivered in
/// the background must not hold up what clients wait for. A guess.
const PAGE_BYTES: usize = 1 << 20;

impl<R: IndexRead> Engine<R> {
    /// Merges `delta` into what is pending for (owner, key). A damaged record is replaced: what it
    /// held is left to anti-entropy. Refused once as much is pending for the owner as may be.
    pub(super) fn defer(
        &mut self,
        owner: NodeId,
        key: &Key,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        self.check_room()?;
        let pending_bytes = self.census.pending_bytes(owner);
        let is_full = pending_bytes >= self.config.hint_bytes_max;
        if is_full && !sabotage::is(Bug::HintsUnbounded) {
            return Err(StorageError::HintsFull { bytes: pending_bytes });
        }
        self.keep(owner, key, delta)
    }

    /// Merges `delta` into what is pending for (owner, key), however much that is: this node has it already.
    pub(super) fn keep(
        &mut self,
        owner: NodeId,
        key: &Key,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        let at = RowKey::of(key);
        let prefix = at.outbox(owner);
        let latest = self.latest(&prefix, is_whole(delta))?;
        if latest.is_none()
            && let Some(counted) = counted_pending(&prefix, self.config.shards.shards())
        {
            self.count(counted, true);
        }
        let (sequence, replaced, merged) = match latest {
            None => (0, None, delta.clone()),
            Some(Latest { sequence, bytes, is_short, pending: Some(Ok((other, mut pending))) })
                if other == *key && (is_short || is_whole(&pending)) =>
            {
                let before = pending.clone();
                pending.merge(delta);
                if pending == before {
                    return Ok(());
                }
                (sequence, Some(bytes), pending)
            }
            Some(Latest { sequence, bytes, pending: Some(Err(_)), .. }) => {
                self.damaged += 1;
                (sequence, Some(bytes), delta.clone())
            }
            // Only a forged row has the last number there is: it is replaced.
            Some(Latest { sequence: u64::MAX, bytes, .. }) => {
                (u64::MAX, Some(bytes), delta.clone())
            }
            Some(Latest { sequence, .. }) => (sequence + 1, None, delta.clone()),
        };
        let row_key = outbox_row(&prefix, sequence);
        let record = encode_pending(&row_key, key, &merged);
        self.count_bytes(&row_key, replaced, Some(record.len()));
        self.rows.put(Table::Outbox, &row_key, Some(record));
        self.record(at.token(), &RecordOut::Defer(owner, key, delta));
        Ok(())
    }

    /// Counts that the record of an outbox row is of `after` bytes now, and was of `before`.
    fn count_bytes(&mut self, row_key: &[u8], before: Option<usize>, after: Option<usize>) {
        let shards = self.config.shards.shards();
        for (bytes, added) in [(before, false), (after, true)] {
            let counted = bytes.and_then(|bytes| counted_pending_bytes(row_key, bytes, shards));
            if let Some(counted) = counted {
                self.count(counted, added);
            }
        }
    }

    /// The latest row that begins with `prefix`; what stands there if it is short or `look` is
    /// set.
    fn latest(&self, prefix: &[u8], look: bool) -> Result<Option<Latest>, StorageError> {
        let mut latest = None;
        self.rows.scan(Table::Outbox, prefix, &[], |row_key, record| {
            let Some((_, sequence)) = parse_outbox(row_key).filter(|(rest, _)| *rest == prefix)
            else {
                return ControlFlow::Continue(());
            };
            let is_short = record.len() < ROW_BYTES;
            let decode = || decode_pending(row_key, record).map(|(key, delta, _)| (key, delta));
            let pending = (is_short || look).then(decode);
            latest = Some(Latest { sequence, bytes: record.len(), is_short, pending });
            ControlFlow::Break(())
        })?;
        Ok(latest)
    }

    /// Lists what is pending for `owner`. Damaged records are deleted, for nobody else would ever take them
    /// away, and count for no page: what they held is left to anti-entropy. So it is with rows that the disk lost:
    /// where there are none, none are counted. Also returns whether the page is empty because all were damaged: then it
    /// is to be answered once that is in the log, for nobody would list again what is back if the log refuses it.
    pub(super) fn outbox(
        &mut self,
        owner: NodeId,
        after: Option<&OutboxPosition>,
        limit: usize,
    ) -> Result<(Vec<Pending>, bool), StorageError> {
        let prefix = owner.0.to_be_bytes();
        let from = after.map_or_else(Vec::new, |after| successor(&after.0));
        let (mut listed, mut damaged) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        self.rows.scan(Table::Outbox, &prefix, &from, |row_key, record| {
            let position = OutboxPosition(row_key.to_vec().into());
            match decode_pending(row_key, record) {
                Ok((key, delta, version)) => {
                    listed.push(Pending { position, key, delta, version });
                    bytes += record.len();
                }
                Err(_) => damaged.push(position),
            }
            let goes_on = listed.len() < limit && bytes < PAGE_BYTES;
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for position in &damaged {
            match self.delivered(position, 0) {
                // The next page, which there is, or the next pass meets what is left.
                Err(StorageError::Overloaded(_)) if !listed.is_empty() => break,
                done => done?,
            }
        }
        if after.is_none() && listed.is_empty() && self.census.clear_pending(owner) {
            self.damaged += 1;
        }
        let waits = listed.is_empty() && !damaged.is_empty();
        Ok((listed, waits))
    }

    /// What this replica shows of `key`, joined with what is pending of it for others. Damaged
    /// records of the outbox are passed over.
    pub(super) fn read_held(&self, key: &Key, scope: &Scope) -> Result<View, StorageError> {
        let mut view = self.read(key, scope)?;
        if self.census.owners().next().is_none() {
            return Ok(view);
        }
        let at = RowKey::of(key);
        let mut held = Value::default();
        for owner in self.census.owners() {
            let prefix = at.outbox(owner);
            self.rows.scan(Table::Outbox, &prefix, &[], |row_key, record| {
                match decode_pending(row_key, record) {
                    Ok((of, delta, _)) if of == *key => held.merge(&delta.value),
                    _ => {}
                }
                ControlFlow::Continue(())
            })?;
        }
        if held != Value::default() {
            view.merge(&View::within(held, scope));
        }
        Ok(view)
    }

    /// Has what stands at `position` pend for `owners`, or merged here, in place of whom it was kept for.
    pub(super) fn redirect(
        &mut self,
        position: &OutboxPosition,
        owners: &[NodeId],
    ) -> Result<(), StorageError> {
        self.check_room()?;
        let Some(token) = row_token(Table::Outbox, &position.0) else { return Ok(()) };
        self.is_recorded = true;
        let done = self.redirect_again(position, owners);
        self.is_recorded = false;
        // After an error some of it may be done.
        if done != Ok(false) {
            self.record(token, &RecordOut::Redirect(position, owners));
        }
        done.map(|_| ())
    }

    /// The same, whether there is room or not, and without a record. Returns whether there was anything to do.
    pub(super) fn redirect_again(
        &mut self,
        position: &OutboxPosition,
        owners: &[NodeId],
    ) -> Result<bool, StorageError> {
        let row_key = &position.0;
        let is_nothing = owners.is_empty()
            || check_row_key(row_key).is_err()
            || outbox_owner(row_key).is_none_or(|owner| owners.contains(&owner));
        if is_nothing {
            return Ok(false);
        }
        let kept =
            self.rows.get(Table::Outbox, row_key, |record| decode_pending(row_key, record))?;
        let Some(kept) = kept else { return Ok(false) };
        let version = match kept {
            Ok((key, delta, version)) => {
                // What may be refused is first.
                if owners.contains(&self.config.node) {
                    self.merge_in(&key, &delta)?;
                }
                let me = self.config.node;
                for &owner in owners.iter().filter(|&&owner| owner != me) {
                    self.keep(owner, &key, &delta)?;
                }
                version
            }
            Err(_) => 0,
        };
        self.take_away(position, version).map(|()| true)
    }

    /// Deletes the row at `position` if it is still what was delivered, or if it is damaged. The log says so
    /// of either: replay gives what is kept later for the same owner and key the same numbers.
    pub(super) fn delivered(
        &mut self,
        position: &OutboxPosition,
        version: u128,
    ) -> Result<(), StorageError> {
        self.check_room()?;
        self.take_away(position, version)
    }

    fn take_away(&mut self, position: &OutboxPosition, version: u128) -> Result<(), StorageError> {
        let row_key = &position.0;
        let (Ok(()), Some(token), Some((prefix, _))) =
            (check_row_key(row_key), row_token(Table::Outbox, row_key), parse_outbox(row_key))
        else {
            return Ok(());
        };
        let pending = self.rows.get(Table::Outbox, row_key, |record| {
            let held = decode_pending(row_key, record).map(|(_, _, version)| version);
            (held, record.len())
        })?;
        let Some((held, bytes)) = pending else { return Ok(()) };
        match held {
            Ok(held) if held != version && !sabotage::is(Bug::HintDroppedEarly) => return Ok(()),
            Ok(_) => {}
            Err(_) => self.damaged += 1,
        }
        let mut row_count = 0;
        self.rows.scan(Table::Outbox, prefix, &[], |_, _| {
            row_count += 1;
            if row_count < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if row_count == 1
            && let Some(counted) = counted_pending(prefix, self.config.shards.shards())
        {
            self.count(counted, false);
        }
        self.count_bytes(row_key, Some(bytes), None);
        self.rows.put(Table::Outbox, row_key, None);
        self.record(token, &RecordOut::Delivered(position, version));
        Ok(())
    }

    /// Whether there are outbox rows that begin with `prefix`.
    fn is_pending(&self, prefix: &[u8]) -> Result<bool, StorageError> {
        let mut is_there = false;
        self.rows.scan(Table::Outbox, prefix, &[], |_, _| {
            is_there = true;
            ControlFlow::Break(())
        })?;
        Ok(is_there)
    }

    /// Owners for whom a delta of `key` is pending, in order.
    pub fn pending_owners(&self, key: &Key) -> Vec<NodeId> {
        let at = RowKey::of(key);
        let holds = |owner: &NodeId| matches!(self.is_pending(&at.outbox(*owner)), Ok(true));
        self.census.owners().filter(holds).collect()
    }
}
