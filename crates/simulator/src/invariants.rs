//! What must hold after every run: each claim a function, which returns what is wrong.
//!
//! They judge by dots. The [`Ledger`] knows what every delta minted, took away and was shown; the
//! [`History`] what clients were told; the finals what all owners of each key show together once
//! all faults are over. An update is *acknowledged* if its client was told that it was done; one
//! whose outcome is unknown may or may not show.

pub mod bounds;
pub mod expiry;
pub mod healing;
pub mod minting;
pub mod reads;
pub mod removals;
pub mod replicas;
pub mod sums;
pub mod survival;
pub mod trees;

use std::collections::{BTreeMap, BTreeSet};

use values::{Key, Operation, View};

use crate::ledger::{Entry, Ledger, Place, named::removes};
use crate::sim::events::WALL_START_MS;
use crate::{History, Record};

/// What a run ended with, by key.
pub type Finals = BTreeMap<Key, View>;

/// A run to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What clients did and were told.
    pub history: &'a History,
    /// Every delta made.
    pub ledger: &'a Ledger,
    /// What it ended with.
    pub finals: &'a Finals,
    /// Whether what is left of deleted keys is forgotten.
    pub forgets: bool,
}

impl<'a> Run<'a> {
    /// What a right wall clock showed at a time of the run.
    const fn wall_ms(self, at_ms: u64) -> u64 {
        WALL_START_MS + at_ms
    }

    /// Updates that were done.
    pub(crate) fn done(self) -> impl Iterator<Item = (&'a Record, &'a Operation)> {
        let done = self.history.records.iter().filter(|record| record.is_done());
        done.filter_map(|record| Some((record, record.operation.as_ref()?)))
    }

    /// Updates that were done, and that more owners had than lost them.
    fn lasting(self) -> impl Iterator<Item = (&'a Record, &'a Operation)> {
        self.done().filter(move |(record, _)| self.history.must_survive(record))
    }

    /// The deltas made for a record. Most often one; where a node passed a request on twice,
    /// several, of which the client was told of one.
    pub(crate) fn made_for(self, record: &Record) -> impl Iterator<Item = &'a Entry> + Clone {
        self.ledger.made_for(record.call)
    }

    /// What was certainly minted for a record that was done: each alone of what any delta made for
    /// it may stand for. One that says only that it had been done stands for those before it.
    fn minted_alternatives(self, record: &Record) -> Vec<Vec<Place>> {
        let made = self.made_for(record).filter(|entry| !entry.repeated);
        made.map(|entry| entry.minted.keys().copied().collect()).collect()
    }

    /// What was certainly taken away for a record that was done: what every delta made for it
    /// takes. Where it was found done, owners may have heard of that only: they have what was added, beside what it
    /// replaced, until they are compared.
    fn certainly_removed(self, record: &Record) -> BTreeSet<Place> {
        let (again, made): (Vec<&Entry>, Vec<&Entry>) =
            self.made_for(record).partition(|entry| entry.repeated);
        let removed = made.iter().map(|entry| entry.removed.clone());
        let mut removed = removed.reduce(|all, next| &all & &next).unwrap_or_default();
        if let (false, Some(operation)) = (again.is_empty(), &record.operation) {
            removed.retain(|&place| {
                let write = self.ledger.write(&record.key, place);
                write.is_some_and(|write| removes(operation, place, write))
            });
        }
        removed
    }
}
