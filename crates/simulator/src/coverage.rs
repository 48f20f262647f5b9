//! How much of a run was judged: a claim that few acknowledged writes had to keep says little.

use std::collections::BTreeSet;
use std::fmt;

use values::Key;

use crate::history::History;
use crate::sessions::Share;
use crate::{Ledger, Record};

/// Whether a read had to show what was acknowledged before: some of that, or there was nothing.
fn must_show(history: &History, read: &Record) -> bool {
    let is_update = |put: &&Record| put.operation.is_some() && put.key == read.key;
    let updates = history.records.iter().filter(is_update);
    let before = updates.filter(|put| put.is_met() && put.is_before(read) && read.meets(put));
    let mut are_shown = before.map(|put| history.must_meet(read, put)).peekable();
    read.meets(read) && (are_shown.peek().is_none() || are_shown.any(|is_shown| is_shown))
}

/// What claims rested on, of one run or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Acknowledged updates; broken where as many owners lost what they had of the key since as had them, so that they
    /// need not survive.
    pub updates: Share,
    /// Reads that r owners answered; broken where r + w ≤ n, or an owner lost what it had of the key since each of
    /// the updates that they would have to show.
    pub reads: Share,
    /// Keys that clients wrote; broken where a damaged record was written over, so that dots say nothing of them.
    pub keys: Share,
    /// The longest that it took after all faults were over until every partition was served, in virtual milliseconds.
    pub served_ms: u64,
}

impl Coverage {
    pub(crate) fn of(history: &History, ledger: &Ledger) -> Self {
        let mut coverage = Self { served_ms: history.served_ms, ..Self::default() };
        let is_update = |record: &&Record| record.operation.is_some() && record.is_done();
        for record in history.records.iter().filter(is_update) {
            coverage.updates.count(!history.must_survive(record) || !ledger.is_judged(&record.key));
        }
        for read in history.records.iter().filter(|it| it.operation.is_none() && it.is_met()) {
            coverage.reads.count(!must_show(history, read) || !ledger.is_judged(&read.key));
        }
        let keys: BTreeSet<&Key> = history.records.iter().map(|record| &record.key).collect();
        keys.into_iter().for_each(|key| coverage.keys.count(!ledger.is_judged(key)));
        coverage
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.updates.add(other.updates);
        self.reads.add(other.reads);
        self.keys.add(other.keys);
        self.served_ms = self.served_ms.max(other.served_ms);
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (updates, reads, keys) = (self.updates, self.reads, self.keys);
        write!(
            f,
            "{} updates acknowledged, of which {} had to survive; {} reads met, of which {} had to show what was \
             acknowledged; {} keys, of which {} were judged by dots; all partitions served within {:.1} s once faults \
             were over and members that died were removed",
            updates.all,
            updates.all - updates.broken,
            reads.all,
            reads.all - reads.broken,
            keys.all,
            keys.all - keys.broken,
            self.served_ms as f64 / 1_000.0,
        )
    }
}
