//! Committing: making the plan that follows the target.

use clock::NodeId;

use super::{InvalidPlan, Ownership, Plan};
use crate::{Member, PlacementError, Ring};

/// Most plans under way when another is committed. A guess: each is a ring to store and to send.
const PLANS_MAX: usize = 8;

/// The same, when somebody is removed by it who was not before: as long as a node that is gone for good
/// is waited for, partitions may follow none of the plans before. A guess: room for some of them.
const PLANS_MAX_TO_REMOVE: usize = 16;

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
    #[error(
        "members, weights and zones are those of plan {version} already, and all own what they are to"
    )]
    Unchanged {
        /// The target's version.
        version: u64,
    },
    /// So many plans were committed that partitions are owned by many still.
    #[error(
        "{plans} plans are under way: wait until partitions have followed the earlier ones, or have \
         those removed that are gone for good"
    )]
    TooManyPlans {
        /// How many.
        plans: usize,
    },
}

impl Ownership {
    /// The plan that follows the target, for `members` and with nobody waiting for those `removed`.
    /// Pure: whoever computes it of the same state gets the same plan. It is the target once it is
    /// [added](Self::add_plan), unless a greater one is. Where the members are those of the target it has them
    /// own what they are to, if one has the places of another of another weight or zone.
    pub fn commit(
        &self,
        members: &[Member],
        spread: usize,
        removed: &[NodeId],
    ) -> Result<Plan, CommitError> {
        self.commit_replacing(&[], members, spread, removed)
    }

    /// The same, where some members take the places of others: of each pair the second owns what the
    /// first one did. A pair of which the first is no member of the target any more, or stays one, or the second is
    /// one already or does not become one, is passed over.
    pub fn commit_replacing(
        &self,
        replaced: &[(NodeId, NodeId)],
        members: &[Member],
        spread: usize,
        removed: &[NodeId],
    ) -> Result<Plan, CommitError> {
        let target = self.target();
        let is_waited_for = |node: &NodeId| {
            self.members.binary_search(node).is_ok() && !target.removed().contains(node)
        };
        let removes = removed.iter().any(is_waited_for);
        if self.plans.len() >= if removes { PLANS_MAX_TO_REMOVE } else { PLANS_MAX } {
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
        let after = replaced.iter().fold(previous.clone(), |ring, &(old, new)| {
            match members.iter().find(|member| member.node == new) {
                Some(new) if !is_member(&old) => ring.replacing(old, new).unwrap_or(ring),
                _ => ring,
            }
        });
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by_key(|member| member.node);
        let ring = if !replaced.is_empty() && after.roster() == sorted {
            // They take exactly those places, whatever their weights and zones; also where they have them already.
            after.next_version()?
        } else {
            Ring::place(members, previous.partition_count(), spread, Some(&after))?.ring
        };
        // That some of the gone own nothing any more is no change.
        let is_known = |node| target.removed().binary_search(node).is_ok();
        let is_same = ring.roster() == previous.roster() && previous.moves(&ring).is_empty();
        if is_same && gone.iter().all(is_known) {
            return Err(CommitError::Unchanged { version: previous.version() });
        }
        Ok(Plan::after(target, ring, gone)?)
    }
}
