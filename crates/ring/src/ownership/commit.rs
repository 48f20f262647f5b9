//! Committing: making the plan that follows the target.

use clock::NodeId;

use super::{InvalidPlan, Ownership, Plan};
use crate::{Member, PlacementError, Ring};

/// Most plans under way when another is committed. A guess: each is a ring to store and to send.
const PLANS_MAX: usize = 8;

/// Why no plan was made. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The members cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A member that stays is said to be gone.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// There is nothing to change.
    #[error("the members are those of plan {version} already, with the same weights and zones")]
    Unchanged {
        /// The target's version.
        version: u64,
    },
    /// So many plans were committed that partitions are owned by many still.
    #[error("{plans} plans are under way: wait until partitions have followed the earlier ones")]
    TooManyPlans {
        /// How many.
        plans: usize,
    },
}

impl Ownership {
    /// The plan that follows the target, for `members` and with nobody waiting for those `removed`.
    /// Pure: whoever computes it of the same state gets the same plan. It is the target once it is
    /// [added](Self::add_plan), unless a greater one is.
    pub fn commit(
        &self,
        members: &[Member],
        spread: usize,
        removed: &[NodeId],
    ) -> Result<Plan, CommitError> {
        let target = self.target();
        if self.plans.len() >= PLANS_MAX {
            return Err(CommitError::TooManyPlans { plans: self.plans.len() });
        }
        let is_member = |node: &NodeId| members.iter().any(|member| member.node == *node);
        // Whoever was gone stays so, unless it is made a member anew.
        let before = target.removed().iter().copied().filter(|node| !is_member(node));
        let mut gone: Vec<NodeId> = before.chain(removed.iter().copied()).collect();
        gone.retain(|node| self.members.binary_search(node).is_ok());
        gone.sort_unstable();
        gone.dedup();
        let previous = target.ring();
        let placement = Ring::place(members, previous.partition_count(), spread, Some(previous))?;
        let ring = placement.ring;
        if ring.roster() == previous.roster() && gone == target.removed() {
            return Err(CommitError::Unchanged { version: previous.version() });
        }
        Ok(Plan::after(target, ring, gone)?)
    }
}
