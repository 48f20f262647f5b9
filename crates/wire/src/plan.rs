//! Plans as administrators ask for them and see them.

use serde::{Deserialize, Serialize};

/// Which plan is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanCall {
    /// Members as they are now own the partitions, each its share; those that leave or are removed own none.
    Staged,
    /// One member takes the places of another, which is dead.
    Replace {
        /// The name of the dead one: a commit removes it.
        dead: String,
        /// The name of the one that takes its places.
        by: String,
    },
}

/// What a plan is to change, and what comes of it. Copies are counted for the n of the default policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The plan's version; if there is nothing to change, that of the plan there is.
    pub version: u64,
    /// Whether there is anything to change.
    pub is_changed: bool,
    /// Number of partitions, Q.
    pub partitions: u32,
    /// Owners of each, by the default policy.
    pub n: u8,
    /// What members changed since the plan before, in order of name.
    pub staged: Vec<StagedChange>,
    /// All members of the plan and of those before it that are not done, in order of name.
    pub members: Vec<PlannedMember>,
    /// About how many bytes move, by what members say that they store; `None` where one that gives has not said.
    pub bytes: Option<u64>,
    /// Partitions whose owners are in fewer zones than there are, or than there are owners: now and then.
    pub narrow: (u32, u32),
    /// What an administrator may not expect of it, in sentences.
    pub warnings: Vec<String>,
}

impl PlanReport {
    /// Copies of partitions that move.
    pub fn copies(&self) -> u64 {
        self.members.iter().map(|member| u64::from(member.gets)).sum()
    }
}

/// What a member changed since the plan before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedChange {
    /// Its name.
    pub name: String,
    /// What.
    pub change: Staged,
}

/// What is staged of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Staged {
    /// It gets its share.
    Joins,
    /// It gives up all that it owns.
    Leaves,
    /// It is gone for good: what it owned others get.
    IsRemoved,
    /// It takes the places of another, which is gone for good.
    Replaces(String),
    /// It has another weight.
    Weight {
        /// The one that it had.
        from: u16,
        /// The one that it has.
        to: u16,
    },
    /// It is in another zone.
    Zone {
        /// Where it was.
        from: Option<String>,
        /// Where it is.
        to: Option<String>,
    },
}

/// What a member owns before and after a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Its name.
    pub name: String,
    /// Its zone by the plan, or by the one before if it is not in it.
    pub zone: Option<String>,
    /// Its weight by the plan; `None` if it is not in it.
    pub weight: Option<u16>,
    /// Copies of partitions that it owns now.
    pub before: u32,
    /// Copies that it owns once the plan is followed.
    pub after: u32,
    /// Copies that it gets.
    pub gets: u32,
    /// Copies that it gives up.
    pub gives: u32,
    /// Copies that its weight is due, of which it can own one of each partition at most.
    pub fair: f64,
}

/// A plan that was committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommittedPlan {
    /// What it changes.
    pub plan: PlanReport,
    /// Nodes that have it on disk, the answering one included; 0 if there was nothing to change.
    pub known: u16,
    /// Nodes there are in it and the plans before it; 0 if there was nothing to change.
    pub members: u16,
}
