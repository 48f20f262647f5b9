//! Digests of views: what a replica shows in place of its view where another's full view is at hand
//! to compare with (one full reply and digests from the rest; full states only on difference).
//!
//! Invariant: a function of the view alone. The encoding is deterministic and begins with its own
//! version, so equal views have equal digests at every node of one version, and nodes of two
//! versions take equal views for different, which costs a full view and is never wrong.

use serde::{Deserialize, Serialize};
use values::View;
use xxhash_rust::xxh3::xxh3_128;

/// A view shorter than this, encoded, is sent itself, which saves a round trip where replicas differ.
/// Measured (`benches/benches/coordinator.rs`): up to 1 KiB a digest saves no time at either end, only
/// bytes on the way, and below this not many beside a frame's header.
pub(crate) const VIEW_BYTES_MIN: usize = 256;

/// A digest of a view: two views with the same digest are the same, as far as accidents go. It
/// guards against nothing that members do on purpose; they are trusted with the data itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewDigest(pub u128);

impl ViewDigest {
    /// The digest of `view`.
    pub fn of(view: &View) -> Self {
        Self(xxh3_128(&clock::encode(view)))
    }
}

/// Whether a digest stands for `view` where one was asked for.
pub(crate) fn is_long(view: &View) -> bool {
    clock::encoded_length(view) >= VIEW_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use clock::{Actor, CausalContext, NodeId, Stamp};
    use proptest::prelude::*;
    use values::{Blob, Limits, Mint, Operation, OrsetOp, Value, View};

    use super::{VIEW_BYTES_MIN, ViewDigest, is_long};

    /// The view of a set, written by two actors of their own in some order.
    fn view(writers: u64, names: &[u8]) -> View {
        let mut value = Value::default();
        for name in names {
            let actor = Actor::new(NodeId(2 * writers + u64::from(name % 2)), 7, 0);
            let add = Operation::Orset(OrsetOp::Add(vec![Blob::from(vec![*name])]));
            let mint = Mint { actor, stamp: Stamp(1), round: None };
            let (shown, seen) = (View::of(value.clone()), CausalContext::default());
            let prepared = add.prepare(&shown, &seen, mint, &Limits::default()).unwrap();
            value.apply(&prepared.delta);
        }
        View::of(value)
    }

    proptest! {
        #[test]
        fn equal_views_and_no_others_have_equal_digests(
            one in prop::collection::vec(0..4_u8, 0..6),
            other in prop::collection::vec(0..4_u8, 0..6),
        ) {
            let (first, second) = (view(0, &one), view(0, &other));
            prop_assert_eq!(first == second, ViewDigest::of(&first) == ViewDigest::of(&second));
            // However it came to be.
            let (one, other) = (first, view(1, &other));
            let mut merged = other.value.clone();
            merged.merge(&one.value);
            let mut turned = one.value;
            turned.merge(&other.value);
            let (merged, turned) = (View::of(merged), View::of(turned));
            prop_assert_eq!(ViewDigest::of(&merged), ViewDigest::of(&turned));
        }
    }

    #[test]
    fn a_view_is_long_from_so_many_bytes_on() {
        let mut view = View::default();
        let empty = clock::encoded_length(&view);
        // The end of a page: one byte for its presence is there already, two for its length.
        view.next = Some(Blob::from(vec![0; VIEW_BYTES_MIN - empty - 2]));
        assert_eq!((clock::encoded_length(&view), is_long(&view)), (VIEW_BYTES_MIN, true));
        view.next = Some(Blob::from(vec![0; VIEW_BYTES_MIN - empty - 3]));
        assert!(!is_long(&view));
    }
}
