//! Named values that travel with the member table: policies of buckets, the assignment of partitions.
//!
//! To gossip they are bytes. Whoever publishes them says how two versions of one merge; the merge must be a join
//! and total: what it does not understand it keeps in a way that does not depend on the order.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::message::ValueLine;

/// Most named values. A guess: a few for the cluster, and one for each policy that people write.
pub const VALUES_MAX: usize = 256;
/// Longest value that may be published, in bytes. A guess: an assignment of 65,536 partitions fits.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Longest value that is taken from others, in bytes: what several published apart may merge to.
pub const VALUE_MERGED_BYTES_MAX: usize = 4 << 20;

/// Joins two versions of the value with this name: commutative, associative, idempotent, total.
pub type MergeValue = fn(name: &str, held: &[u8], other: &[u8]) -> Vec<u8>;

/// The join for values that nothing is known of: the larger in order of bytes.
pub fn larger_value(_name: &str, held: &[u8], other: &[u8]) -> Vec<u8> {
    held.max(other).to_vec()
}

/// The values that a node holds, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Bytes>", into = "BTreeMap<String, Bytes>")]
pub struct Values {
    values: BTreeMap<String, (Bytes, u128)>,
}

impl Values {
    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.values.get(name).map(|(bytes, _)| bytes)
    }

    /// All names with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.values.iter().map(|(name, (bytes, _))| (name.as_str(), bytes))
    }

    /// Whether there is room for `name`.
    pub(crate) fn has_room_for(&self, name: &str) -> bool {
        self.values.len() < VALUES_MAX || self.values.contains_key(name)
    }

    /// Merges another version in; whether that changed the value.
    pub(crate) fn merge(&mut self, name: &str, other: &Bytes, merge: MergeValue) -> bool {
        let Some((held, digest)) = self.values.get_mut(name) else {
            self.values.insert(name.to_owned(), (other.clone(), xxh3_128(other)));
            return true;
        };
        let merged = merge(name, held, other);
        if merged == *held {
            return false;
        }
        (*held, *digest) = (merged.into(), 0);
        *digest = xxh3_128(held);
        true
    }

    /// Digest of all of them.
    pub(crate) fn digest(&self) -> u128 {
        let lines = self.values.iter().flat_map(|(name, (_, digest))| {
            [&xxh3_128(name.as_bytes()).to_le_bytes()[..], &digest.to_le_bytes()[..]].concat()
        });
        xxh3_128(&lines.collect::<Vec<u8>>())
    }

    /// What to compare with another node's.
    pub(crate) fn lines(&self) -> Vec<ValueLine> {
        let line = |(name, (_, digest)): (&String, &(Bytes, u128))| ValueLine {
            name: name.clone(),
            digest: *digest,
        };
        self.values.iter().map(line).collect()
    }

    /// Names of those that the other node lacks or holds another version of, and of those that this
    /// one lacks or holds another version of.
    pub(crate) fn differences(&self, lines: &[ValueLine]) -> (Vec<String>, Vec<String>) {
        let theirs: BTreeMap<&str, u128> =
            lines.iter().map(|line| (line.name.as_str(), line.digest)).collect();
        let given = self
            .values
            .iter()
            .filter(|(name, (_, digest))| theirs.get(name.as_str()) != Some(digest));
        let wanted = lines.iter().filter(|line| {
            self.values.get(&line.name).is_none_or(|(_, digest)| *digest != line.digest)
        });
        (given.map(|(name, _)| name.clone()).collect(), wanted.map(|it| it.name.clone()).collect())
    }
}

impl From<BTreeMap<String, Bytes>> for Values {
    fn from(values: BTreeMap<String, Bytes>) -> Self {
        let digested = values.into_iter().map(|(name, bytes)| {
            let digest = xxh3_128(&bytes);
            (name, (bytes, digest))
        });
        Self { values: digested.collect() }
    }
}

impl From<Values> for BTreeMap<String, Bytes> {
    fn from(values: Values) -> Self {
        values.values.into_iter().map(|(name, (bytes, _))| (name, bytes)).collect()
    }
}
