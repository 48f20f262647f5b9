//! What every core of a node looks up: each bucket's generation, policy and limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage::TreeClasses;
use values::{Key, Limits};

use super::{PolicyTable, text};
use crate::{BucketError, BucketInfo, BucketPolicy};

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nobody created it: it goes by the node's default policy.
    Implicit,
    /// It was created.
    Created,
    /// It was dropped.
    Dropped,
}

/// A bucket as requests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its generation.
    pub generation: u64,
    /// How it stands.
    pub standing: Standing,
    /// Its policy.
    pub policy: BucketPolicy,
    /// Bounds of operations on its keys.
    pub limits: Arc<Limits>,
    /// What of its settings could not be taken as it is.
    pub doubts: Vec<String>,
}

impl Bucket {
    /// This bucket for whoever asks about the name.
    pub fn info(&self, name: &Bytes) -> BucketInfo {
        BucketInfo {
            name: name.clone(),
            generation: self.generation,
            standing: self.standing,
            policy: self.policy,
            doubts: self.doubts.clone(),
        }
    }
}

/// All buckets, as one table of policies makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    implicit: Bucket,
    named: BTreeMap<Bytes, Bucket>,
    /// Names of which this node does not know what it knew.
    damaged: BTreeSet<Bytes>,
}

impl Buckets {
    /// The buckets of `table` at a node with these defaults.
    pub fn new(table: &PolicyTable, default: BucketPolicy, limits: &Limits) -> Self {
        let implicit = Bucket {
            generation: 0,
            standing: Standing::Implicit,
            policy: default,
            limits: Arc::new(default.limits(limits)),
            doubts: Vec::new(),
        };
        let named = table.iter().map(|(name, entry)| {
            let (policy, doubts) = entry.policy(default);
            let standing = match (entry.dropped, entry.settings.is_empty()) {
                (true, _) => Standing::Dropped,
                (false, true) => Standing::Implicit,
                (false, false) => Standing::Created,
            };
            let limits = Arc::new(policy.limits(limits));
            let generation = entry.generation;
            (name.clone(), Bucket { generation, standing, policy, limits, doubts })
        });
        let named = named.collect();
        Self { implicit, named, damaged: table.damaged().clone() }
    }

    /// The bucket `name`.
    pub fn of(&self, name: &[u8]) -> &Bucket {
        self.named.get(name).unwrap_or(&self.implicit)
    }

    /// The bucket of a key whose generation is known. One of a generation that this node has not
    /// heard of goes by the default policy.
    pub fn of_key(&self, key: &Key) -> &Bucket {
        let bucket = self.of(key.bucket());
        if key.generation() > bucket.generation { &self.implicit } else { bucket }
    }

    /// The bucket `name`, unless it was dropped, or this node's record of it is damaged.
    pub fn live(&self, name: &[u8]) -> Result<&Bucket, BucketError> {
        if self.damaged.contains(name) {
            return Err(BucketError::Damaged { bucket: text(name) });
        }
        let bucket = self.of(name);
        match bucket.standing {
            Standing::Dropped => Err(BucketError::Dropped { bucket: text(name) }),
            Standing::Implicit | Standing::Created => Ok(bucket),
        }
    }

    /// Whether `key` is of a generation that was dropped.
    pub fn is_gone(&self, key: &Key) -> bool {
        let bucket = self.of(key.bucket());
        key.generation() < bucket.generation
            || key.generation() == bucket.generation && bucket.standing == Standing::Dropped
    }

    /// In which hash trees the keys of each are counted.
    pub fn tree_classes(&self) -> TreeClasses {
        let mut classes = TreeClasses::new(self.implicit.policy.n);
        for (name, bucket) in &self.named {
            let dropped = u64::from(bucket.standing == Standing::Dropped);
            let live_from = bucket.generation.saturating_add(dropped);
            classes.set(name.clone(), bucket.policy.n, live_from);
        }
        classes
    }

    /// The n of all buckets: the classes of hash trees.
    pub fn classes(&self) -> BTreeSet<u8> {
        let named = self.named.values().map(|bucket| bucket.policy.n);
        named.chain([self.implicit.policy.n]).collect()
    }

    /// Every bucket that was ever created or dropped.
    pub fn list(&self) -> Vec<BucketInfo> {
        self.named.iter().map(|(name, bucket)| bucket.info(name)).collect()
    }
}
