//! What was lost of what nodes said they hold, key by key: against which updates it counts.
//!
//! A loss counts against an update only if it may have taken a copy that its answer counted: if its node was an owner
//! of the key's partition by then, as anybody knew it, and if it came after the update began. Nothing else holds a
//! copy that is counted: what is kept for an owner is told apart, and what an owner hands over it hands to owners.

use std::collections::BTreeSet;

/// What a node lost of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which node.
    pub node: usize,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What of it.
    pub of: Lost,
    /// How many owners the key's partition had then, in the view of a node to which it had fewest: what more had once
    /// was handed over to these.
    pub owners: usize,
}

/// What it is that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// What was kept for an owner: no copy that an answer counts as an owner's.
    Hints,
    /// All that the node held.
    Disk {
        /// Whether other owners had come by then: with its disk the node also lost that it knew of them, and to whom
        /// it had promised to take nothing more.
        has_moved: bool,
    },
    /// Some row of the key is damaged. Nobody notices before it is read, and what is put aside then may be what was
    /// written meanwhile, too.
    Row,
}

impl Loss {
    /// Whether what the node was given at a time, or later, may have gone.
    const fn is_after(&self, from_ms: u64) -> bool {
        self.at_ms >= from_ms || matches!(self.of, Lost::Row)
    }

    const fn is_of_copies(&self) -> bool {
        !matches!(self.of, Lost::Hints)
    }
}

/// What was lost of one key, in order.
#[derive(Clone, Debug, Default)]
pub struct Losses(pub Vec<Loss>);

impl Losses {
    /// Whether what was written from a time on must be there in the end, if so many owners had it. What no owner had
    /// was kept for one, by anybody.
    pub fn leave(&self, copies: usize, from_ms: u64) -> bool {
        let mut after = self.0.iter().filter(|loss| loss.is_after(from_ms)).peekable();
        if after.peek().is_none() {
            return true;
        }
        let of_copies: Vec<&Loss> = after.filter(|loss| loss.is_of_copies()).collect();
        let nodes: BTreeSet<usize> = of_copies.iter().map(|loss| loss.node).collect();
        let owners = of_copies.iter().map(|loss| loss.owners).min();
        copies.min(owners.unwrap_or(usize::MAX)) > nodes.len()
    }

    /// Whether all owners that had what was written from a time on have it until another time, and none of them takes
    /// itself for an owner that it is not.
    pub fn spare(&self, from_ms: u64, to_ms: u64) -> bool {
        let is_misled = |loss: &Loss| matches!(loss.of, Lost::Disk { has_moved: true });
        self.0
            .iter()
            .filter(|loss| loss.is_of_copies() && loss.at_ms <= to_ms)
            .all(|loss| !loss.is_after(from_ms) && !is_misled(loss))
    }
}
