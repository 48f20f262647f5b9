//! What a header holds of one type: the state itself, or what is known of a collection without its
//! elements.

use clock::CausalContext;
use serde::{Deserialize, Serialize};
use values::{Field, State, Tag, is_collection};
use xxhash_rust::xxh3;

use super::decode;
use crate::StorageError;

/// What a header holds of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The state itself.
    Whole(State),
    /// What is known of a collection whose elements have rows of their own.
    Collection(Collection),
}

impl From<State> for Part {
    fn from(state: State) -> Self {
        Self::Whole(state)
    }
}

/// A collection without its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collection {
    /// Every dot seen.
    pub(crate) context: CausalContext,
    /// Dots that a clearing removed and that rows may still hold. Invariant: within `context`, and
    /// no live dot is in it.
    pub(crate) cleared: CausalContext,
    /// What of `cleared` is counted no more in `live` and `digest`. `None`: all of it, so they are
    /// exact. Otherwise they still count dead rows, until the sweep has come to the last of them.
    pub(crate) deducted: Option<CausalContext>,
    /// Number of live elements.
    pub(crate) live: u64,
    /// Wrapping sum of [`row_digest`] over all rows, less what is deducted.
    pub(crate) digest: u128,
    /// What would be left if every dot were cleared.
    pub(crate) tallies: Tallies,
    /// Whether its rows are counted in chunks too (`engine/element_tree`).
    pub(crate) is_chunked: bool,
}

impl Collection {
    /// Whether nothing was ever written.
    pub(super) fn is_bottom(&self) -> bool {
        *self == Self::default()
    }
}

/// Fields of a map that hold a tally. No context covers one, so a clearing leaves it: a map that
/// everything is cleared of has these, without their writes, and no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tallies {
    /// How many.
    pub(crate) fields: u64,
    /// How many have increments that were not reset.
    pub(crate) live: u64,
    /// Wrapping sum of the digests of their rows, without writes.
    pub(crate) digest: u128,
}

impl Tallies {
    /// Of one row.
    pub(crate) fn of(tag: Tag, element: &[u8], row: &[u8]) -> Result<Self, StorageError> {
        if tag != Tag::MAP {
            return Ok(Self::default());
        }
        let Field { tally, .. } = decode(row)?;
        if tally.is_empty() {
            return Ok(Self::default());
        }
        let (live, field) = (tally.is_live(), Field { tally, ..Field::default() });
        let digest = row_digest(tag, element, &clock::encode(&field));
        Ok(Self { fields: 1, live: live.into(), digest })
    }

    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_add(other.fields),
            live: self.live.saturating_add(other.live),
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    #[must_use]
    pub(crate) const fn less(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_sub(other.fields),
            live: self.live.saturating_sub(other.live),
            digest: self.digest.wrapping_sub(other.digest),
        }
    }
}

impl Part {
    pub(crate) fn bottom(tag: Tag) -> Self {
        if is_collection(tag) {
            Self::Collection(Collection::default())
        } else {
            Self::Whole(State::bottom(tag))
        }
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_bottom(&self) -> bool {
        match self {
            Self::Whole(state) => state.is_bottom(),
            Self::Collection(collection) => collection.is_bottom(),
        }
    }

    pub(crate) fn context(&self) -> &CausalContext {
        match self {
            Self::Whole(state) => state.context(),
            Self::Collection(collection) => &collection.context,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::Whole(state) => state.is_live(),
            Self::Collection(collection) => collection.live > 0,
        }
    }

    /// Whether it is what a deletion left: nothing live, and no rows.
    pub(super) fn is_remnant(&self) -> bool {
        let has_rest = match self {
            Self::Whole(State::Opaque(_)) => true,
            Self::Whole(State::Expiry(expiry)) => !expiry.store.0.is_empty(),
            Self::Whole(state) => state.is_live(),
            Self::Collection(collection) => {
                let Collection { live, digest, tallies, is_chunked, .. } = collection;
                let has_rows = *digest != 0 || *tallies != Tallies::default() || *is_chunked;
                *live > 0 || has_rows || !self.is_swept()
            }
        };
        !has_rest
    }

    /// Whether no row waits for the sweep.
    pub(crate) fn is_swept(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Collection(collection) => collection.cleared.is_empty(),
        }
    }

    /// Whether the header says all there is to say: nothing is left for the sweep to count.
    pub(super) const fn is_settled(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Collection(collection) => collection.deducted.is_none(),
        }
    }
}

/// The part of a collection's digest that one row makes. Replicas that hold the same elements
/// compute the same, whatever is still to be swept.
pub(crate) fn row_digest(tag: Tag, element: &[u8], row: &[u8]) -> u128 {
    let mut hash = xxh3::Xxh3::new();
    hash.update(&[tag.0]);
    hash.update(&(element.len() as u64).to_le_bytes());
    hash.update(element);
    hash.update(row);
    hash.digest128()
}
