//! Where a row stands in a generation: its key, with the first bytes at hand.
//!
//! Nearly every row's key begins with its token, so two keys nearly always differ in their first
//! eight bytes. Compared as one number in the node of the map, they save a visit to each key's own
//! memory.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A row's key, owned by the map, or borrowed to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<'k> {
    /// The first bytes, big-endian; zeros where the key is shorter.
    head: u64,
    key: Cow<'k, [u8]>,
}

impl Place<'_> {
    /// The row's key.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

impl From<Vec<u8>> for Place<'static> {
    fn from(key: Vec<u8>) -> Self {
        Self { head: head(&key), key: Cow::Owned(key) }
    }
}

impl<'k> From<&'k [u8]> for Place<'k> {
    fn from(key: &'k [u8]) -> Self {
        Self { head: head(key), key: Cow::Borrowed(key) }
    }
}

/// The order of the keys: zeros at the end of a head never put it before that of a smaller key.
impl Ord for Place<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn head(key: &[u8]) -> u64 {
    let mut head = [0; size_of::<u64>()];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Place;

    proptest! {
        #[test]
        fn places_are_ordered_as_their_keys_are(
            one in prop::collection::vec(0..3u8, 0..12),
            other in prop::collection::vec(0..3u8, 0..12),
        ) {
            let places = (Place::from(&one[..]), Place::from(other.clone()));
            prop_assert_eq!(places.0.cmp(&places.1), one.cmp(&other));
            prop_assert_eq!(places.0 == places.1, one == other);
        }
    }
}
