//! The policies of all buckets as one replicated value, and what follows from them.
//!
//! For each name the table says a generation, whether it was dropped, and the settings of its
//! policy. Joined: the higher generation as it is; of one generation a drop wins, and otherwise of
//! each setting the later by (hybrid time, node). So a name created on two sides of a cut is one
//! bucket of one generation, and a drop covers its generation with all that was written to it.
//!
//! A name that the table does not have is generation 0 under the node's default policy: whoever
//! has not heard of a bucket's creation writes into the same bucket. Generations begin anew by a
//! creation after a drop, and in no other way. Nothing is ever taken out of the table.

mod buckets;
mod classes;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::{NodeId, Stamp};
use serde::{Deserialize, Serialize};
use values::BUCKET_BYTES_MAX;
use xxhash_rust::xxh3;

pub use self::{
    buckets::{Bucket, Buckets, Standing},
    classes::Classes,
};
use crate::{BucketCall, BucketError, BucketPolicy, Field, PolicyFields};

/// Most names that a table may come to by creations and drops at one node; merging is not bounded.
const BUCKETS_MAX: usize = 4_096;
/// What the names of the notes begin with that keep the table.
const NOTE: &[u8] = b"bucket ";

/// One setting of a policy. Ordered: the later wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// When it was made.
    pub stamp: Stamp,
    /// At which node.
    pub node: NodeId,
    /// What it says.
    pub value: u64,
}

/// What the table says of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketEntry {
    /// How often the name was created anew after a drop.
    pub generation: u64,
    /// Whether this generation was dropped. It has no settings then.
    pub dropped: bool,
    /// Settings by number of the field ([`Field`]); numbers unknown here are carried along.
    pub settings: BTreeMap<u8, Setting>,
}

impl BucketEntry {
    /// Joins another entry of the same name into this one. Returns whether it changed.
    fn join(&mut self, other: &Self) -> bool {
        match self.generation.cmp(&other.generation) {
            Ordering::Greater => false,
            Ordering::Less => {
                self.clone_from(other);
                if self.dropped {
                    self.settings.clear();
                }
                true
            }
            Ordering::Equal if self.dropped => false,
            Ordering::Equal if other.dropped => {
                self.dropped = true;
                self.settings.clear();
                true
            }
            Ordering::Equal => {
                let mut changed = false;
                for (&field, &theirs) in &other.settings {
                    if self.settings.get(&field).is_none_or(|ours| *ours < theirs) {
                        self.settings.insert(field, theirs);
                        changed = true;
                    }
                }
                changed
            }
        }
    }

    /// Whether somebody said something of this generation.
    fn is_created(&self) -> bool {
        !self.dropped && !self.settings.is_empty()
    }
}

/// The policies of all buckets: a join-semilattice.
///
/// Beside it stand the names of which this node's own record is damaged, until another member says
/// what it has of them: such a bucket is refused, since without its generation dropped data would
/// show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTable(BTreeMap<Bytes, BucketEntry>, #[serde(skip)] BTreeSet<Bytes>);

impl PolicyTable {
    /// Joins another table into this one. Returns the entries that changed, as they are now.
    pub fn join(&mut self, other: &Self) -> Self {
        let mut changed = Self::default();
        for (name, theirs) in &other.0 {
            // No name of a bucket: nobody sends it who means well.
            if !is_name(name) {
                continue;
            }
            self.1.remove(name);
            if let Some(ours) = self.0.get_mut(name) {
                if ours.join(theirs) {
                    changed.0.insert(name.clone(), ours.clone());
                }
                continue;
            }
            let mut entry = theirs.clone();
            if entry.dropped {
                entry.settings.clear();
            }
            changed.0.insert(name.clone(), entry.clone());
            self.0.insert(name.clone(), entry);
        }
        changed
    }

    /// The entries that `other` lacks or has an earlier state of.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        other.clone().join(self)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A digest: the same for equal tables only.
    pub fn digest(&self) -> u128 {
        xxh3::xxh3_128(&clock::encode(self))
    }

    /// Each name with what is said of it.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &BucketEntry)> {
        self.0.iter()
    }

    /// The latest stamp in the table.
    pub(crate) fn latest(&self) -> Stamp {
        let settings = self.0.values().flat_map(|entry| entry.settings.values());
        settings.map(|setting| setting.stamp).max().unwrap_or_default()
    }

    /// The notes under which an engine keeps the table: one for each name.
    pub fn notes(&self) -> Vec<(Bytes, Bytes)> {
        let note = |(name, entry): (&Bytes, &BucketEntry)| {
            ([NOTE, name].concat().into(), clock::encode(entry).into())
        };
        self.0.iter().map(note).collect()
    }

    /// The table that an engine's notes keep; a note without a value is damaged. What is none of the
    /// table's notes is passed over.
    pub fn of_notes(notes: &[(Bytes, Option<Bytes>)]) -> Self {
        let mut table = Self::default();
        for (name, value) in notes {
            let Some(bucket) = name.strip_prefix(NOTE) else { continue };
            let bucket = Bytes::copy_from_slice(bucket);
            match value.as_ref().and_then(|value| clock::decode(value).ok()) {
                Some(entry) => drop(table.join(&Self::saying(bucket, entry))),
                None if is_name(&bucket) => drop(table.1.insert(bucket)),
                None => {}
            }
        }
        table
    }

    /// The names of which this node's own record is damaged.
    pub(crate) const fn damaged(&self) -> &BTreeSet<Bytes> {
        &self.1
    }

    /// What a call changes of it at a node with this default policy, and when that is asked there:
    /// to be joined. Nothing of a call that changes nothing.
    pub fn change(
        &self,
        call: &BucketCall,
        default: BucketPolicy,
        at: (Stamp, NodeId),
    ) -> Result<Self, BucketError> {
        if let Some(name) = call.changes().filter(|name| self.1.contains(*name)) {
            return Err(BucketError::Damaged { bucket: text(name) });
        }
        match call {
            BucketCall::Create { name, fields } => self.create(name, fields, default, at),
            BucketCall::Set { name, fields } => self.set(name, fields, default, at),
            BucketCall::Drop { name } => self.drop_bucket(name),
            BucketCall::Show { .. } | BucketCall::List => Ok(Self::default()),
        }
    }

    /// What creating `name` changes: every field is said, so that the bucket's policy does not rest
    /// on what a node's configuration says.
    fn create(
        &self,
        name: &Bytes,
        fields: &PolicyFields,
        default: BucketPolicy,
        at: (Stamp, NodeId),
    ) -> Result<Self, BucketError> {
        let before = self.0.get(name);
        if before.is_some_and(BucketEntry::is_created) {
            return Err(BucketError::Exists { bucket: text(name) });
        }
        if before.is_none() && self.0.len() >= BUCKETS_MAX {
            return Err(BucketError::TooMany { limit: BUCKETS_MAX });
        }
        let policy = default.with(fields).map_err(BucketError::Policy)?;
        let generation = match before {
            None => 0,
            Some(entry) if !entry.dropped => entry.generation,
            Some(entry) => entry
                .generation
                .checked_add(1)
                .ok_or(BucketError::TooMany { limit: BUCKETS_MAX })?,
        };
        let said = Field::ALL.map(|field| (field, policy.value(field)));
        Ok(Self::setting(name, generation, said.into_iter(), at))
    }

    /// What setting fields of `name` changes.
    fn set(
        &self,
        name: &Bytes,
        fields: &PolicyFields,
        default: BucketPolicy,
        at: (Stamp, NodeId),
    ) -> Result<Self, BucketError> {
        let entry = self.0.get(name);
        if entry.is_some_and(|entry| entry.dropped) {
            return Err(BucketError::Dropped { bucket: text(name) });
        }
        let Some(entry) = entry.filter(|entry| entry.is_created()) else {
            return Err(BucketError::NotCreated { bucket: text(name) });
        };
        if fields.is_empty() {
            let names = Field::ALL.map(Field::name).join(", ");
            let why = format!("nothing to set: give one or more of {names}, as in r=1");
            return Err(BucketError::Policy(crate::PolicyError(why)));
        }
        let before = entry.policy(default).0;
        let after = before.with(fields).map_err(BucketError::Policy)?;
        // Also what only followed n down, or was clamped, so that it is read so everywhere.
        let said = Field::ALL.into_iter().filter(|&field| {
            fields.value(field).is_some()
                || entry.settings.get(&u8::from(field)).map(|setting| setting.value)
                    != Some(after.value(field))
        });
        let said = said.map(|field| (field, after.value(field)));
        Ok(Self::setting(name, entry.generation, said, at))
    }

    /// What dropping `name` changes: its present generation is no more.
    fn drop_bucket(&self, name: &Bytes) -> Result<Self, BucketError> {
        let entry = self.0.get(name);
        if entry.is_some_and(|entry| entry.dropped) {
            return Err(BucketError::Dropped { bucket: text(name) });
        }
        if entry.is_none() && self.0.len() >= BUCKETS_MAX {
            return Err(BucketError::TooMany { limit: BUCKETS_MAX });
        }
        let generation = entry.map_or(0, |entry| entry.generation);
        let entry = BucketEntry { generation, dropped: true, settings: BTreeMap::new() };
        Ok(Self::saying(name.clone(), entry))
    }

    fn setting(
        name: &Bytes,
        generation: u64,
        said: impl Iterator<Item = (Field, u64)>,
        (stamp, node): (Stamp, NodeId),
    ) -> Self {
        let setting = |(field, value)| (u8::from(field), Setting { stamp, node, value });
        let settings = said.map(setting).collect();
        let entry = BucketEntry { generation, dropped: false, settings };
        Self::saying(name.clone(), entry)
    }

    fn saying(name: Bytes, entry: BucketEntry) -> Self {
        Self([(name, entry)].into(), BTreeSet::new())
    }
}

impl BucketEntry {
    /// The policy that the settings make over `default`, and what of them could not be taken as it
    /// is.
    pub(crate) fn policy(&self, default: BucketPolicy) -> (BucketPolicy, Vec<String>) {
        default.clamped(self.settings.iter().map(|(&number, setting)| (number, setting.value)))
    }
}

/// Whether a bucket may have it.
fn is_name(name: &[u8]) -> bool {
    (1..=BUCKET_BYTES_MAX).contains(&name.len())
}

/// A name as errors say it.
pub(crate) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
