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

/// How many plans back a plan remembers what it follows. A guess: more than are ever under way.
const HISTORY_MAX: usize = 16;

/// Who is to own the partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Plan {
    id: PlanId,
    ring: Ring,
    removed: Vec<NodeId>,
    history: Vec<u128>,
}

/// Field for field what a plan says.
#[derive(Serialize, Deserialize)]
struct Parts {
    ring: Ring,
    removed: Vec<NodeId>,
    history: Vec<u128>,
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
    /// It follows more plans than it may name.
    #[error("a plan names at most {HISTORY_MAX} that it follows")]
    History,
}

impl Plan {
    /// A plan that partitions be owned as `ring` says, and that nobody wait for those `removed`:
    /// ascending, and no members of `ring`. It follows no other.
    pub fn new(ring: Ring, removed: Vec<NodeId>) -> Result<Self, InvalidPlan> {
        Self::of(ring, removed, Vec::new())
    }

    /// The same, made of `before`: `ring` is of the version after its ring's.
    pub(super) fn after(
        before: &Self,
        ring: Ring,
        removed: Vec<NodeId>,
    ) -> Result<Self, InvalidPlan> {
        let earlier = before.history.iter().take(HISTORY_MAX - 1).copied();
        let history = std::iter::once(before.id.digest).chain(earlier).collect();
        Self::of(ring, removed, history)
    }

    fn of(ring: Ring, removed: Vec<NodeId>, history: Vec<u128>) -> Result<Self, InvalidPlan> {
        if history.len() > HISTORY_MAX {
            return Err(InvalidPlan::History);
        }
        if !removed.is_sorted_by(|a, b| a < b) {
            return Err(InvalidPlan::RemovedOrder);
        }
        let is_member = |node: &&NodeId| ring.members().binary_search(node).is_ok();
        if let Some(&node) = removed.iter().find(is_member) {
            return Err(InvalidPlan::RemovedMember(node));
        }
        let bytes = clock::encode(&(&ring, &removed, &history));
        let digest = u128::from_be_bytes(Md5::digest(bytes).into());
        let id = PlanId { version: ring.version(), digest };
        Ok(Self { id, ring, removed, history })
    }

    /// Its name, which follows from all that it says.
    pub const fn id(&self) -> PlanId {
        self.id
    }

    /// Who is to own the partitions.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Whether it was made of the plan `earlier`, or of one made of it, or is it. A plan too far back to
    /// be remembered counts as one.
    pub fn follows(&self, earlier: PlanId) -> bool {
        if earlier == self.id {
            return true;
        }
        let Some(back) = self.id.version.checked_sub(earlier.version) else { return false };
        let Some(at) = back.checked_sub(1) else { return false };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        match self.history.get(at) {
            Some(&digest) => digest == earlier.digest,
            None => self.history.len() == HISTORY_MAX,
        }
    }

    /// Nodes that own partitions still by an earlier plan, and that an administrator has said are
    /// gone for good. Ascending.
    pub fn removed(&self) -> &[NodeId] {
        &self.removed
    }
}

impl TryFrom<Parts> for Plan {
    type Error = InvalidPlan;

    fn try_from(Parts { ring, removed, history }: Parts) -> Result<Self, InvalidPlan> {
        Self::of(ring, removed, history)
    }
}

impl From<Plan> for Parts {
    fn from(Plan { ring, removed, history, .. }: Plan) -> Self {
        Self { ring, removed, history }
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
    fn a_plan_remembers_what_it_follows() {
        let mut plans = vec![Plan::new(ring(1), vec![]).unwrap()];
        for version in 2..=20 {
            let before = plans.last().unwrap();
            plans.push(Plan::after(before, ring(version), vec![]).unwrap());
        }
        let last = plans.last().unwrap();
        assert!(plans.iter().all(|plan| last.follows(plan.id())));
        // Made of the same plan, and apart.
        let other = Plan::after(&plans[16], ring(18), vec![NodeId(9)]).unwrap();
        assert!(!last.follows(other.id()) && !other.follows(last.id()));
        assert!(!plans[17].follows(other.id()));
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
