//! A plan: who is to own the partitions, and whom nobody waits for any more.

use std::fmt;

use clock::NodeId;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::Ring;

/// Names a plan. Ordered: of two, the greater is the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanId {
    /// The version of its ring: one more than that of the plan that it follows.
    pub version: u64,
    /// Of all that it says: two plans that were made of the same one, apart, differ in it.
    pub digest: u128,
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.version, self.digest >> 96)
    }
}

/// Who is to own the partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Plan {
    id: PlanId,
    ring: Ring,
    removed: Vec<NodeId>,
}

/// Field for field what a plan says.
#[derive(Serialize, Deserialize)]
struct Parts {
    ring: Ring,
    removed: Vec<NodeId>,
}

/// Why what came in is no plan. Nothing was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// Those that are gone are named twice or out of order.
    #[error("those that are gone for good must be named in order, each once")]
    RemovedOrder,
    /// A member of the ring is said to be gone.
    #[error("node {0} is to own partitions and is gone for good: it cannot be both")]
    RemovedMember(NodeId),
}

impl Plan {
    /// A plan that partitions be owned as `ring` says, and that nobody wait for those `removed`:
    /// ascending, and no members of `ring`.
    pub fn new(ring: Ring, removed: Vec<NodeId>) -> Result<Self, InvalidPlan> {
        if !removed.is_sorted_by(|a, b| a < b) {
            return Err(InvalidPlan::RemovedOrder);
        }
        let is_member = |node: &&NodeId| ring.members().binary_search(node).is_ok();
        if let Some(&node) = removed.iter().find(is_member) {
            return Err(InvalidPlan::RemovedMember(node));
        }
        let bytes = clock::encode(&(&ring, &removed));
        let digest = u128::from_be_bytes(Md5::digest(bytes).into());
        let id = PlanId { version: ring.version(), digest };
        Ok(Self { id, ring, removed })
    }

    /// Its name, which follows from all that it says.
    pub const fn id(&self) -> PlanId {
        self.id
    }

    /// Who is to own the partitions.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Nodes that own partitions still by an earlier plan, and that an administrator has said are
    /// gone for good. Ascending.
    pub fn removed(&self) -> &[NodeId] {
        &self.removed
    }
}

impl TryFrom<Parts> for Plan {
    type Error = InvalidPlan;

    fn try_from(Parts { ring, removed }: Parts) -> Result<Self, InvalidPlan> {
        Self::new(ring, removed)
    }
}

impl From<Plan> for Parts {
    fn from(Plan { ring, removed, .. }: Plan) -> Self {
        Self { ring, removed }
    }
}

#[cfg(test)]
mod tests {
    use clock::{NodeId, decode, encode};

    use super::{InvalidPlan, Plan};
    use crate::{Member, Ring};

    fn ring(version: u64) -> Ring {
        Ring::new(version, [1, 2].map(|id| Member::new(NodeId(id))).to_vec(), vec![0, 1]).unwrap()
    }

    #[test]
    fn a_plan_is_named_by_its_version_and_all_that_it_says() {
        let plan = Plan::new(ring(3), vec![NodeId(5)]).unwrap();
        assert_eq!(plan.id().version, 3);
        assert_eq!(decode::<Plan>(&encode(&plan)), Ok(plan.clone()));
        assert_ne!(Plan::new(ring(3), vec![]).unwrap().id(), plan.id());
        assert!(Plan::new(ring(4), vec![]).unwrap().id() > plan.id());
        assert_eq!(plan.id().to_string().len(), 10);
    }

    #[test]
    fn whoever_is_gone_owns_nothing() {
        let plan =
            |removed: &[u64]| Plan::new(ring(1), removed.iter().copied().map(NodeId).collect());
        assert_eq!(plan(&[2]), Err(InvalidPlan::RemovedMember(NodeId(2))));
        assert_eq!(plan(&[4, 3]), Err(InvalidPlan::RemovedOrder));
        assert_eq!(plan(&[3, 3]), Err(InvalidPlan::RemovedOrder));
    }
}
