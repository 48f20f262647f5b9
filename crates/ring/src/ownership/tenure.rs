//! How one partition is owned now.
//!
//! A handover leads from one plan's owners to another's in two stages between which the two ways of
//! reading and writing that meet always see each other's writes: nobody is in the first stage while
//! another is in the third.
//!
//! | stage | reads | a write is acknowledged by w of |
//! | --- | --- | --- |
//! | steady | owners | the owners |
//! | joint | the former owners | the former and w of the new ones |
//! | shifted | the new owners | the former and w of the new ones |
//! | steady | the new owners | the new ones |

use std::fmt;

use clock::NodeId;
use serde::{Deserialize, Serialize};

use super::PlanId;

/// Position of a tenure among those of its partition. 0 is none's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

impl Sequence {
    /// That of a new cluster's partitions.
    pub const FIRST: Self = Self(1);

    /// The next one; greater than any that came about before a plan of `version` took a driver away.
    /// `None` after the last, which only forged tenures come to.
    pub fn next(self, version: u64) -> Option<Self> {
        let next = self.0.checked_add(1)?;
        let least = version.checked_mul(1 << 32)?;
        Some(Self(next.max(least)))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a partition's handover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// None is under way, or it has only begun to copy: one plan's owners have it.
    Steady {
        /// Whose.
        plan: PlanId,
    },
    /// The former owners are read; both acknowledge writes.
    Joint {
        /// The plan of the former owners.
        from: PlanId,
        /// The plan of the new owners.
        to: PlanId,
    },
    /// The new owners, which hold everything, are read; both acknowledge writes.
    Shifted {
        /// The plan of the former owners.
        from: PlanId,
        /// The plan of the new owners.
        to: PlanId,
    },
}

/// How one partition is owned. Ordered by sequence; of one sequence there is only one, unless
/// somebody forged another: then the order is some order, the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tenure {
    /// Greater with every change.
    pub sequence: Sequence,
    /// Which driver made it; no node for that of a new cluster.
    pub by: NodeId,
    /// What it says.
    pub stage: Stage,
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn a_successor_of_a_lost_driver_leaves_its_sequences_behind() {
        assert_eq!(Sequence(5).next(0), Some(Sequence(6)));
        assert_eq!(Sequence(5).next(2), Some(Sequence(2 << 32)));
        assert_eq!(Sequence(7 << 32).next(2), Some(Sequence((7 << 32) + 1)));
        assert_eq!(Sequence(u64::MAX).next(0), None);
        assert_eq!(Sequence(1).next(1 << 32), None);
    }
}
