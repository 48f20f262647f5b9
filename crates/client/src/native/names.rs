//! The names that a client gives its updates.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use replication::{NamedBy, RequestName};
use values::Key;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most keys remembered because they take no more names.
const FULL_KEYS_MAX: usize = 1024;

/// Names that nobody else gives: of a client that is called by 128 random bits.
#[derive(Debug)]
pub(super) struct Names {
    client: Bytes,
    next: AtomicU64,
    /// Digests of keys that took no more names. A name is then left out, which costs the update its
    /// retries but saves it a refusal; two keys may share a digest.
    full: Mutex<BTreeSet<u64>>,
}

impl Names {
    /// Names of a client called `random`.
    pub(super) fn new(random: u128) -> Self {
        let client = Bytes::from(format!("{random:032x}"));
        Self { client, next: AtomicU64::new(1), full: Mutex::default() }
    }

    /// A new name for an update of `key`, if that takes names still.
    pub(super) fn draw(&self, key: &Key) -> Option<RequestName> {
        if self.full.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest(key)) {
            return None;
        }
        let id = Bytes::from(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        Some(RequestName { by: NamedBy::Library, client: self.client.clone(), id })
    }

    /// Draws no more names for `key`, as long as it is remembered.
    pub(super) fn note_full(&self, key: &Key) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.len() >= FULL_KEYS_MAX {
            full.clear();
        }
        full.insert(digest(key));
    }
}

fn digest(key: &Key) -> u64 {
    xxh3_64_with_seed(key.key(), xxh3_64_with_seed(key.bucket(), 0))
}
