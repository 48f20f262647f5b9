//! Digests of views: what a replica shows in place of its view where another's full view is at hand
//! to compare with (one full reply and digests from the rest; full states only on difference).
//!
//! Invariant: a function of the view alone. The encoding is deterministic and begins with its own
//! version, so equal views have equal digests at every node of one version, and nodes of two
//! versions take equal views for different, which costs a full view and is never wrong.

use serde::{Deserialize, Serialize};
use values::View;
use xxhash_rust::xxh3::xxh3_128;

/// A view shorter than this, encoded, is sent itself. Measured (`benches/benches/coordinator.rs`):
/// up to here hashing it at both ends takes longer than copying it, and it saves a round trip where
/// replicas differ.
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
