//! What one client sees of its own: whether its reads show what it wrote before, and what they showed
//! it before.
//!
//! With r + w > n, where so many owners answered, the first is promised, and a claim
//! (`reads_see_quorum_writes`). What is counted here is how often it holds without: with fewer owners in
//! reach than r or w a request is answered by what is left, and with r + w ≤ n owners need not meet. That
//! reads never go back is not promised with any quorum: a write that only one owner has yet may be shown
//! by one read and not by the next.
//!
//! Beside these: how many acknowledged sets of registers were lost to concurrent ones, as the last of them wins.
//!
//! Source of the names: Terry et al., "Session Guarantees for Weakly Consistent Replicated Data" (1994).

use std::fmt;

use values::{Base, Operation, RegisterOp};

use crate::history::{History, Record};
use crate::invariants::{Finals, Run, reads::is_accounted_for};
use crate::sight::{Sight, sight};
use crate::{Ledger, Told};

/// How many there were, and how many of them were broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All.
    pub all: u64,
    /// Those that were broken.
    pub broken: u64,
}

impl Share {
    pub(crate) fn count(&mut self, is_broken: bool) {
        self.all += 1;
        self.broken += u64::from(is_broken);
    }

    pub(crate) const fn add(&mut self, other: Self) {
        self.all += other.all;
        self.broken += other.broken;
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_cent = 100.0 * self.broken as f64 / self.all.max(1) as f64;
        write!(f, "{} of {} broken ({per_cent:.2} %)", self.broken, self.all)
    }
}

/// Pairs of requests of one client on one key, of which the first had ended before the second began; in
/// runs without disks or hints lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// A read after a write, where r + w > n and so many owners answered.
    pub own_writes_strict: Share,
    /// The same where it is not so.
    pub own_writes_sloppy: Share,
    /// A read after the read before it, both answered by r owners of a bucket with r + w > n.
    pub reads_strict: Share,
    /// The same where it is not so.
    pub reads_sloppy: Share,
    /// A set of a register that was acknowledged; broken where one that had not seen it won.
    pub sets: Share,
}

impl Sessions {
    /// Counts those of a run.
    pub(crate) fn of(history: &History, ledger: &Ledger, forgets: bool) -> Self {
        let mut sessions = Self::default();
        if !history.lost_nothing() {
            return sessions;
        }
        let finals = Finals::new();
        let run = Run { history, ledger, finals: &finals, forgets };
        let is_read = |record: &&Record| record.operation.is_none() && record.is_done();
        for read in history.records.iter().filter(is_read) {
            if ledger.is_judged(&read.key) {
                sessions.count(run, read);
            }
        }
        let sets = run.done().filter(|(record, operation)| {
            matches!(operation, Operation::Register(RegisterOp::Set { .. }))
                && ledger.is_judged(&record.key)
        });
        for (set, _) in sets {
            let made = run.made_for(set).filter_map(|entry| entry.bases.1.as_ref());
            let has_lost = made.max().is_some_and(|made| has_lost(ledger, set, made));
            sessions.sets.count(has_lost);
        }
        sessions
    }

    fn count(&mut self, run: Run<'_>, read: &Record) {
        let Told::Done(answer) = &read.told else { return };
        let earlier = run.history.records.iter().filter(|record| {
            record.client == read.client && record.key == read.key && record.is_before(read)
        });
        let mut last_read: Option<&Record> = None;
        for record in earlier.filter(|record| record.is_done()) {
            if record.operation.is_none() {
                if last_read.is_none_or(|last| last.to_ms <= record.to_ms) {
                    last_read = Some(record);
                }
                continue;
            }
            let made: Vec<_> = run.made_for(record).collect();
            let is_shown = made.is_empty()
                || made.iter().any(|entry| {
                    entry.minted.keys().all(|&at| is_accounted_for(run, read, &answer.view, at))
                });
            let is_strict = read.is_met() && record.is_met() && read.meets(record);
            let share =
                if is_strict { &mut self.own_writes_strict } else { &mut self.own_writes_sloppy };
            share.count(!is_shown);
        }
        let Some((last, before)) = last_read.and_then(|last| Some((last, last.view()?))) else {
            return;
        };
        let is_broken = run.ledger.writes(&read.key).any(|(place @ (tag, dot), write)| {
            sight(&before.value, tag, dot, write) == Sight::Live
                && !is_accounted_for(run, read, &answer.view, place)
        });
        let is_strict = read.is_met() && last.is_met() && last.meets(read);
        let share = if is_strict { &mut self.reads_strict } else { &mut self.reads_sloppy };
        share.count(is_broken);
    }

    /// Adds another run's.
    pub const fn add(&mut self, other: &Self) {
        self.own_writes_strict.add(other.own_writes_strict);
        self.own_writes_sloppy.add(other.own_writes_sloppy);
        self.reads_strict.add(other.reads_strict);
        self.reads_sloppy.add(other.reads_sloppy);
        self.sets.add(other.sets);
    }
}

/// Whether a set or delete of the same register won over `made` without having seen it.
fn has_lost(ledger: &Ledger, set: &Record, made: &Base) -> bool {
    ledger.of(&set.key).any(|entry| {
        let (before, after) = &entry.bases;
        after.as_ref() > Some(made) && before.as_ref() < Some(made)
    })
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reads after one's own write: {} where r + w > n owners answered, {} elsewhere; \
             reads after one's own read: {} and {}; {} of {} acknowledged sets lost against one that had \
             not seen them",
            self.own_writes_strict,
            self.own_writes_sloppy,
            self.reads_strict,
            self.reads_sloppy,
            self.sets.broken,
            self.sets.all,
        )
    }
}
