//! The rows of one table in a generation, in order, found by the topmost bits of their keys.
//!
//! Tokens are spread evenly, so the maps of the parts are small, and a row is found through fewer of their
//! nodes, each a visit to memory of its own, than in one map of all. Rows whose keys begin alike, as the
//! elements of one collection do, stand in one part: that is no worse than one map.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Slot;
use super::place::Place;

/// Topmost bits of a key that are the number of its part. A guess: some dozens of rows a part when a
/// checkpoint is due, and empty parts soon passed over.
const PART_BITS: u32 = 12;

/// A part of a table. Places borrow their keys only to be looked up.
type Part<'k> = BTreeMap<Place<'k>, Slot>;

/// The rows of a table.
#[derive(Debug, Default)]
pub(super) struct Rows<'k> {
    /// None while there are no rows.
    parts: Vec<Part<'k>>,
    length: usize,
}

const fn part_of(head: u64) -> usize {
    (head >> (u64::BITS - PART_BITS)) as usize
}

/// The last part with keys that begin with `prefix`.
fn last_part(prefix: &[u8]) -> usize {
    let mut last = [u8::MAX; size_of::<u64>()];
    let length = prefix.len().min(last.len());
    last[..length].copy_from_slice(&prefix[..length]);
    part_of(u64::from_be_bytes(last))
}

impl<'k> Rows<'k> {
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn get(&self, at: &Place<'k>) -> Option<&Slot> {
        self.parts.get(part_of(at.head()))?.get(at)
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Place<'k>, &Slot)> {
        self.parts.iter().flatten()
    }

    /// The rows whose keys begin with `prefix` and are not less than `from`, in order.
    pub(super) fn range(
        &self,
        prefix: &'k [u8],
        from: &'k [u8],
    ) -> impl Iterator<Item = (&Place<'k>, &Slot)> {
        let from = Place::of(from.max(prefix));
        let last = last_part(prefix).min(self.parts.len().saturating_sub(1));
        let parts = self.parts.get(part_of(from.head())..=last).unwrap_or_default();
        parts
            .iter()
            .flat_map(move |part| part.range((Bound::Included(from.clone()), Bound::Unbounded)))
            .take_while(move |(at, _)| at.key().starts_with(prefix))
    }
}

impl Rows<'static> {
    /// Puts a row; returns what it was before.
    pub(super) fn insert(&mut self, at: Place<'static>, slot: Slot) -> Option<Slot> {
        if self.parts.is_empty() {
            self.parts.resize_with(1 << PART_BITS, Part::new);
        }
        let before = self.parts[part_of(at.head())].insert(at, slot);
        self.length += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, at: &Place<'static>) -> Option<Slot> {
        let before = self.parts.get_mut(part_of(at.head()))?.remove(at);
        self.length -= usize::from(before.is_some());
        before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memtable::BatchId;

    /// Keys of which some begin alike, and some do not.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, 1, 0x10, 0xfe, 0xff]), 0..11)
    }

    proptest! {
        #[test]
        fn rows_are_those_of_one_map_in_its_order(
            changes in prop::collection::vec((key(), any::<Option<u8>>()), 0..60),
            prefix in prop::collection::vec(prop::sample::select(vec![0, 0x10, 0xff]), 0..3),
            from in key(),
        ) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            for (key, value) in changes {
                let at = Place::from(&key[..]);
                let (before, was) = match value {
                    Some(value) => {
                        let slot = Slot { value: Some(vec![value]), batch: BatchId(1) };
                        (rows.insert(at, slot), model.insert(key, vec![value]))
                    }
                    None => (rows.remove(&at), model.remove(&key)),
                };
                prop_assert_eq!(before.and_then(|slot| slot.value), was);
            }
            let shown = |(at, slot): (&Place<'_>, &Slot)| (at.key().to_vec(), slot.value.clone().unwrap());
            prop_assert_eq!(rows.len(), model.len());
            prop_assert!(rows.iter().map(shown).eq(model.clone()));
            for key in model.keys().chain([&from]) {
                let slot = rows.get(&Place::of(key));
                prop_assert_eq!(slot.and_then(|slot| slot.value.as_ref()), model.get(key));
            }
            let within = model.range(from.clone().max(prefix.clone())..);
            let within = within.filter(|(key, _)| key.starts_with(&prefix));
            let within = within.map(|(key, value)| (key.clone(), value.clone()));
            prop_assert!(rows.range(&prefix, &from).map(shown).eq(within));
        }
    }
}
