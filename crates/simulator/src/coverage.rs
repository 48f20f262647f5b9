//! How much of a run was judged: a claim that few acknowledged writes had to keep says little.

use std::collections::BTreeSet;
use std::fmt;

use values::Key;

use crate::history::History;
use crate::sessions::Share;
use crate::{Ledger, Record};

/// What claims rested on, of one run or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Acknowledged updates; broken where more disks were lost than owners had them, so that they need not survive.
    pub updates: Share,
    /// Reads that r owners answered; broken if a disk or hint had been lost by then, or r + w ≤ n, so that they need not
    /// show what w owners had.
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
            let says_nothing = !history.is_before_losses(read) || !read.meets(read);
            coverage.reads.count(says_nothing || !ledger.is_judged(&read.key));
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
