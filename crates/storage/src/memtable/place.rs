//! Where a row stands in a generation: its key, with the first bytes at hand.
//!
//! Nearly every row's key begins with its token, so two keys nearly always differ in their first
//! eight bytes. Compared as one number in the node of the map, they save a visit to each key's own
//! memory. A key of no more bytes has no memory of its own; a longer one is shared by the map and
//! the list of what is to be undone.

use std::cmp::Ordering;
use std::sync::Arc;

/// Bytes of a key that are at hand.
const HEAD_BYTES: usize = 8;

/// A row's key, owned by the map, or borrowed to be looked up.
#[derive(Clone, Debug)]
pub(super) struct Place<'k> {
    /// The first bytes; zeros where the key is shorter.
    head: [u8; HEAD_BYTES],
    key: Whole<'k>,
}

#[derive(Clone, Debug)]
enum Whole<'k> {
    /// So many bytes of the head.
    Short(u8),
    Owned(Arc<[u8]>),
    Borrowed(&'k [u8]),
}

impl<'k> Place<'k> {
    /// To look up `key`.
    pub(super) fn of(key: &'k [u8]) -> Self {
        Self { head: head(key), key: short(key).unwrap_or(Whole::Borrowed(key)) }
    }

    /// The row's key.
    pub(super) fn key(&self) -> &[u8] {
        match &self.key {
            Whole::Short(length) => &self.head[..usize::from(*length)],
            Whole::Owned(key) => key,
            Whole::Borrowed(key) => key,
        }
    }

    /// The first bytes as a number.
    pub(super) const fn head(&self) -> u64 {
        u64::from_be_bytes(self.head)
    }
}

impl From<&[u8]> for Place<'static> {
    fn from(key: &[u8]) -> Self {
        let whole = short(key).unwrap_or_else(|| Whole::Owned(Arc::from(key)));
        Self { head: head(key), key: whole }
    }
}

impl From<Arc<[u8]>> for Place<'static> {
    fn from(key: Arc<[u8]>) -> Self {
        Self { head: head(&key), key: short(&key).unwrap_or(Whole::Owned(key)) }
    }
}

fn head(key: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let length = key.len().min(HEAD_BYTES);
    head[..length].copy_from_slice(&key[..length]);
    head
}

fn short(key: &[u8]) -> Option<Whole<'static>> {
    if key.len() > HEAD_BYTES {
        return None;
    }
    u8::try_from(key.len()).ok().map(Whole::Short)
}

/// The order of the keys: zeros at the end of a head never put it before that of a smaller key.
impl Ord for Place<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head().cmp(&other.head()).then_with(|| self.key().cmp(other.key()))
    }
}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Place<'_> {}

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
            let places = (Place::of(&one), Place::from(&other[..]));
            prop_assert_eq!((places.0.key(), places.1.key()), (&one[..], &other[..]));
            prop_assert_eq!(places.0.cmp(&places.1), one.cmp(&other));
            prop_assert_eq!(places.0 == places.1, one == other);
            let heads = places.0.head().cmp(&places.1.head());
            prop_assert!(heads.is_eq() || heads == one.cmp(&other));
        }
    }
}
