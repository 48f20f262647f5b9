//! The member table: a record for each node that was ever a member, joined record by record.
//!
//! Records of members that left or were removed stay, so that nobody who missed it brings them
//! back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use clock::NodeId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::record::{Record, roster_line};

/// Most records of a table that a joining node is let into. A guess: twice the thousand members that
/// everything is measured with, those that are gone included.
pub const MEMBERS_MAX: usize = 2_048;
/// Most records that a table takes from others: it bounds memory against a peer gone mad, and leaves
/// room for what several nodes let in at once.
pub const RECORDS_MAX: usize = 4 * MEMBERS_MAX;

/// Everything known of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table {
    records: BTreeMap<NodeId, Record>,
}

/// What became of a table by a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Nothing.
    Same,
    /// A node was not known before.
    New,
    /// A record grew; this is what it was.
    Grew(Box<Record>),
}

impl Table {
    /// The record of `node`.
    pub fn get(&self, node: NodeId) -> Option<&Record> {
        self.records.get(&node)
    }

    /// Every record, in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Record)> {
        self.records.iter().map(|(&node, record)| (node, record))
    }

    /// Number of records, those of members that are gone included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Joins what another node knows of `node`. The caller keeps to [`RECORDS_MAX`].
    pub(crate) fn merge(&mut self, node: NodeId, record: &Record) -> Merged {
        match self.records.entry(node) {
            Slot::Vacant(slot) => {
                slot.insert(record.clone());
                Merged::New
            }
            Slot::Occupied(mut slot) => {
                let held = slot.get_mut();
                if held.entry >= record.entry && held.ended >= record.ended {
                    return Merged::Same;
                }
                let before = Box::new(held.clone());
                held.merge(record);
                Merged::Grew(before)
            }
        }
    }

    /// Writes this node's own record, whose only writer it is.
    pub(crate) fn own_mut(&mut self, node: NodeId) -> &mut Record {
        self.records.get_mut(&node).expect("a node knows itself from its start on")
    }

    /// Two tables with the same roster have the same members in the same incarnations: then the i-th
    /// member of one is the i-th of the other.
    pub(crate) fn roster(&self) -> u128 {
        let lines: Vec<u8> =
            self.iter().flat_map(|(node, record)| roster_line(node, record)).collect();
        xxh3_128(&lines)
    }
}

impl FromIterator<(NodeId, Record)> for Table {
    fn from_iter<T: IntoIterator<Item = (NodeId, Record)>>(records: T) -> Self {
        let mut table = Self::default();
        for (node, record) in records {
            table.merge(node, &record);
        }
        table
    }
}
