//! What is asked about the ownership of partitions and what is answered.

use clock::NodeId;
use ring::{Member, PlanId};
use serde::{Deserialize, Serialize};

/// What a plan changes of the one that it follows. Applied to another target it means the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Members that join, or get another weight or zone.
    pub put: Vec<Member>,
    /// Members that leave, and serve until others have what they own.
    pub leave: Vec<NodeId>,
    /// Members that are gone for good: nobody waits for them, and what only they held is lost.
    pub remove: Vec<NodeId>,
    /// Of those, the ones whose places another member takes, one that owned nothing before: it is among
    /// those that are put.
    pub replace: Vec<(NodeId, NodeId)>,
}

impl PlanChange {
    /// The members that it makes of `before`.
    pub fn members(&self, before: &[Member]) -> Vec<Member> {
        let goes = |node: &NodeId| {
            self.leave.contains(node)
                || self.remove.contains(node)
                || self.put.iter().any(|member| member.node == *node)
        };
        let stays = before.iter().filter(|member| !goes(&member.node));
        stays.chain(&self.put).cloned().collect()
    }
}

/// A call about the ownership of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipCall {
    /// Makes the plan that follows the target, and makes it the target.
    Commit(PlanChange),
}

/// Answers an [`OwnershipCall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipReply {
    /// The plan is durable here.
    Committed {
        /// The plan that has the change; not the first one made of it where another won.
        plan: PlanId,
        /// How often another plan, committed elsewhere at the same time, won, and this one was
        /// computed again.
        superseded: u32,
        /// Nodes that have it on their disks, this one included.
        known: u16,
        /// Nodes there are.
        members: u16,
    },
}
