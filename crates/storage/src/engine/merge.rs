//! Merging: the one way in which data enters a replica.
//!
//! A merge is computed first and made only when all of it succeeded, so that damage met half-way
//! leaves the key as it was.

use clock::CausalContext;
use sabotage::Bug;
use values::{Delta, Key, State, Tag, empty_collection, is_collection, only};

use super::header_row::{Before, Held};
use super::look::Looked;
use super::{Change, Engine};
use crate::log_record::RecordOut;
use crate::record::{Header, Part};
use crate::row_key::RowKey;
use crate::{IndexRead, StorageError};

/// What a merge makes of a key.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) header: Header,
    pub(super) header_changed: bool,
    /// What stands there now, if that is known.
    pub(super) before: Option<Before>,
    pub(super) changes: Vec<Change>,
}

/// Whether the remnant `held` knows of every write in `delta`.
fn covers(held: &Header, delta: &Delta) -> bool {
    delta.value.0.iter().all(|(tag, theirs)| {
        let Some(part) = held.tags.get(tag) else { return false };
        match part {
            Part::Whole(state) => {
                let mut joined = state.clone();
                joined.merge(theirs);
                joined == *state
            }
            Part::Collection(collection) => {
                // No context covers the tallies of a map.
                let has_tallies = match theirs {
                    State::Map(map) => map.store.0.values().any(|field| !field.tally.is_empty()),
                    _ => false,
                };
                !has_tallies && collection.context.descends(theirs.context())
            }
        }
    })
}

/// Whether a delta says of collections that something was seen, and neither brings nor touches any of it, as the
/// end of a transfer does.
pub(super) fn completes(delta: &Delta) -> bool {
    let is_context = |tag, state: &State| *state == empty_collection(tag, state.context().clone());
    let mut states = delta.value.0.iter();
    !delta.is_empty()
        && delta.touch.is_empty()
        && states.all(|(&tag, state)| is_collection(tag) && is_context(tag, state))
}

/// Whether all that is `seen` is in the context that is held, if one is.
fn has_seen(held: Option<&CausalContext>, seen: &CausalContext) -> bool {
    seen.is_empty() || held.is_some_and(|held| held.descends(seen))
}

impl<R: IndexRead> Engine<R> {
    /// Merges a delta from elsewhere. A damaged key is first brought back to what is whole of it, into which
    /// nothing is merged that rests on what was held: [`StorageError::Unseen`].
    pub(super) fn merge(&mut self, key: &Key, delta: &Delta) -> Result<(), StorageError> {
        self.check_room()?;
        self.merge_in(key, delta)
    }

    /// Merges a delta, whether there is room or not.
    pub(super) fn merge_in(&mut self, key: &Key, delta: &Delta) -> Result<(), StorageError> {
        let at = RowKey::of(key);
        match self.try_merge(&at, key, delta) {
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild(&at, key)?;
                if completes(delta) {
                    return Err(StorageError::Unseen);
                }
                self.try_merge(&at, key, delta)
            }
            done => done,
        }
    }

    /// Merges what another replica had seen of a collection, now that this one has all of it.
    pub(super) fn complete(
        &mut self,
        key: &Key,
        tag: Tag,
        seen: &CausalContext,
        context: CausalContext,
    ) -> Result<(), StorageError> {
        let header = self.header(&RowKey::of(key), key)?;
        let held = header.tags.get(&tag).map(Part::context);
        // What came from elsewhere meanwhile may be held here, and removed where this comes from.
        let came_from_elsewhere =
            !header.is_hidden() && held.is_some_and(|held| context.minus(seen).shares(held));
        if !is_collection(tag) || !has_seen(held, seen) || came_from_elsewhere {
            return Err(StorageError::Unseen);
        }
        self.merge(key, &Delta::of(tag, empty_collection(tag, context)))
    }

    /// Whether this replica has seen all that is `seen` of one type of a key.
    pub(super) fn check_seen(
        &self,
        key: &Key,
        tag: Tag,
        seen: &CausalContext,
    ) -> Result<(), StorageError> {
        if seen.is_empty() {
            return Ok(());
        }
        let header = self.header(&RowKey::of(key), key)?;
        match has_seen(header.tags.get(&tag).map(Part::context), seen) {
            true => Ok(()),
            false => Err(StorageError::Unseen),
        }
    }

    fn try_merge(&mut self, at: &RowKey, key: &Key, delta: &Delta) -> Result<(), StorageError> {
        let Held { header: held, before } = self.held_to_change(at, key)?;
        let header = if !held.is_hidden() {
            held
        } else if !covers(&held, delta) {
            Header::default()
        } else if delta.value.0.values().any(State::is_live) {
            // From one that does not know that it was removed, and is told once the remnant is shown again.
            return self.show_again(at, key, Held { header: held, before }, delta);
        } else {
            // From a member that does not know yet that it counts as gone.
            return Ok(());
        };
        self.observe(at, &header, delta);
        let merged = self.merged(at, key, Held { header, before }, delta, &Looked::default())?;
        self.make(at, key, merged, delta)
    }

    /// Takes note of the dots of `delta`, before it is merged into the key with this header.
    pub(super) fn observe(&mut self, at: &RowKey, header: &Header, delta: &Delta) {
        for (tag, theirs) in &delta.value.0 {
            match header.tags.get(tag) {
                Some(part) => {
                    self.epochs.observe(at.as_bytes(), *tag, part.context(), theirs.context())
                }
                None => {
                    let nothing = Default::default();
                    self.epochs.observe(at.as_bytes(), *tag, &nothing, theirs.context())
                }
            }
        }
    }

    /// What merging `delta` makes of the key with this header, of whose elements some were `looked` at.
    /// Changes nothing.
    pub(super) fn merged(
        &self,
        at: &RowKey,
        key: &Key,
        Held { mut header, before: stood }: Held,
        delta: &Delta,
        looked: &Looked,
    ) -> Result<Merged, StorageError> {
        let mut changes = Vec::new();
        let mut header_changed = false;
        for (&tag, theirs) in &delta.value.0 {
            let is_other = |held: Tag| held != tag && held != Tag::EXPIRY;
            if sabotage::is(Bug::OtherTypeDropped) && header.live_tags().any(is_other) {
                continue;
            }
            let before = header.tags.get(&tag);
            let mut part = before.cloned().unwrap_or_else(|| Part::bottom(tag));
            match &mut part {
                Part::Whole(state) => state.merge(theirs),
                Part::Collection(collection) => {
                    debug_assert!(is_collection(tag), "decoding a header checks it");
                    self.merge_collection(
                        at,
                        key,
                        tag,
                        collection,
                        theirs,
                        delta,
                        looked,
                        &mut changes,
                    )?;
                }
            }
            let unchanged = match before {
                Some(before) => *before == part,
                // What changes nothing must not leave a remnant of a key that never was.
                None => part.is_bottom(),
            };
            if !unchanged {
                header_changed = true;
                if header.tags.is_empty() {
                    header.tags = only(tag, part);
                } else {
                    header.tags.insert(tag, part);
                }
            }
        }
        Ok(Merged { header, header_changed, before: Some(stood), changes })
    }

    /// Makes the changes, and records `delta`, of which they were made, if there are any. Fails before
    /// it changes anything.
    pub(super) fn make(
        &mut self,
        at: &RowKey,
        key: &Key,
        merged: Merged,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        if !merged.header_changed && merged.changes.is_empty() {
            return Ok(());
        }
        self.apply(at, key, merged)?;
        self.record(at.token(), &RecordOut::Merge(key, delta));
        Ok(())
    }

    /// Makes a remnant that counted as gone one of the present round.
    fn show_again(
        &mut self,
        at: &RowKey,
        key: &Key,
        Held { mut header, before }: Held,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        self.put_header(at, key, &mut header, Some(before))?;
        self.record(at.token(), &RecordOut::Merge(key, delta));
        Ok(())
    }

    /// Makes changes that follow from the rows, and with them those of the hash trees. Fails before it
    /// changes anything.
    pub(super) fn apply(
        &mut self,
        at: &RowKey,
        key: &Key,
        merged: Merged,
    ) -> Result<(), StorageError> {
        let Merged { mut header, header_changed, before, changes } = merged;
        let mut rechunked = self.rechunked(at, key, &header, &changes)?;
        let mut begun_or_ended = Vec::new();
        if header_changed {
            for (&tag, part) in &mut header.tags {
                let Part::Collection(collection) = part else { continue };
                let has_chunks = self.has_chunks(collection);
                if has_chunks != collection.is_chunked {
                    collection.is_chunked = has_chunks;
                    rechunked.retain(|rechunked| rechunked.tag != tag);
                    begun_or_ended.extend(self.rechunk(at, tag, has_chunks)?);
                }
            }
            self.put_header(at, key, &mut header, before)?;
        }
        self.put_rows(changes);
        self.put_rows(begun_or_ended);
        self.put_chunks(at, key, rechunked);
        Ok(())
    }
    pub(super) fn put_rows(&mut self, changes: Vec<Change>) {
        for Change { table, row_key, value, .. } in changes {
            self.rows.put(table, &row_key, value);
        }
    }
}
