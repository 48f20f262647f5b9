//! Nodes that come and go: joining, leaving, being removed, and what is to be seen of it.

use std::sync::Arc;

use clock::NodeId;
use replication::{Call, OwnershipCall, OwnershipReply, PlanChange, Reply, RequestError, Transfer};
use ring::{Member, Ownership, Partition};
use storage::{Answer, Command, KeysOf, Ticket};

use super::{Node, Sim};

impl Sim {
    /// Starts one more node, with an empty disk. It owns nothing until a plan says so.
    pub fn add_node(&mut self) -> usize {
        self.add_node_to(0)
    }

    /// Starts one more node, which joins a ring.
    pub(crate) fn add_node_to(&mut self, ring: usize) -> usize {
        let node = self.nodes.len();
        let id = NodeId(node as u64 + 1);
        let newest = self.newest();
        self.nodes.push(Node::new(id, ring, &self.options, &mut self.random));
        self.nodes[node].messages = newest;
        self.nodes[node].joins = true;
        self.restart(node);
        node
    }

    /// Kills a node for good.
    pub fn destroy(&mut self, node: usize) {
        self.crash(node);
        self.nodes[node].is_gone = true;
    }

    /// Whether a node was killed for good.
    pub fn is_gone(&self, node: usize) -> bool {
        self.nodes[node].is_gone
    }

    /// The member that a node is.
    pub fn member(&self, node: usize) -> Member {
        Member::new(self.nodes[node].id)
    }

    /// Has a node commit a plan, and waits for its answer.
    pub fn commit(
        &mut self,
        node: usize,
        change: PlanChange,
    ) -> Result<OwnershipReply, RequestError> {
        let id = self.call(node, Call::Ownership(OwnershipCall::Commit(change)));
        match self.run_until_answered(id)? {
            Reply::Ownership(reply) => Ok(reply),
            other => unreachable!("a commit is not answered {other:?}"),
        }
    }

    /// Who owns partitions as a node knows it; `None` if it is down.
    pub fn ownership(&self, node: usize) -> Option<&Arc<Ownership>> {
        self.nodes[node].process.as_ref().map(|process| process.core.ownership())
    }

    /// Who owns partitions as the nodes that run know it: as the first of them does that knows its cluster.
    pub(super) fn any_ownership(&self) -> Option<&Arc<Ownership>> {
        let known = (0..self.nodes.len()).filter(|&node| !self.is_searching(node));
        known.into_iter().find_map(|node| self.ownership(node))
    }

    /// The same of the nodes of a ring.
    pub(super) fn any_ownership_in(&self, ring: usize) -> Option<&Arc<Ownership>> {
        let known = (0..self.nodes.len()).filter(|&node| !self.is_searching(node));
        known.filter(|&node| self.ring_of(node) == ring).find_map(|node| self.ownership(node))
    }

    /// Handovers that a node has a part in; `None` if it is down.
    pub fn transfers(&self, node: usize) -> Option<Vec<Transfer>> {
        self.nodes[node].process.as_ref().map(|process| process.core.transfers())
    }

    /// Which nodes hold deltas for which others.
    pub fn outboxes(&self) -> Vec<(usize, NodeId)> {
        let mut found = Vec::new();
        for (holder, node) in self.nodes.iter().enumerate() {
            let Some(process) = &node.process else { continue };
            let owners = self.nodes.iter().map(|owner| owner.id);
            let held = owners.filter(|&owner| process.engine.pending_for(owner) > 0);
            found.extend(held.map(|owner| (holder, owner)));
        }
        found
    }

    /// What keeps the cluster from having come to rest: nodes that know different states, handovers
    /// under way, copies that nobody is to have any more.
    pub fn unrest(&mut self) -> Result<(), String> {
        let Some(ownership) = self.any_ownership().cloned() else { return Ok(()) };
        for node in 0..self.nodes.len() {
            match self.ownership(node) {
                Some(theirs) if *theirs != ownership => {
                    return Err(format!("node {node} knows another state: {theirs:?}"));
                }
                Some(_) => {}
                None => continue,
            }
            let transfers = self.transfers(node).unwrap_or_default();
            if !ownership.is_settled() || !transfers.is_empty() {
                let target = ownership.target();
                let (members, removed) = (target.ring().members(), target.removed());
                return Err(format!(
                    "node {node} hands over still, to {members:?} without {removed:?}: {transfers:?}"
                ));
            }
            let id = self.nodes[node].id;
            for partition in ownership.partition_count().iter() {
                let ring = ownership.present(partition);
                let owns = |n: u8| ring.is_owner(partition, n.into(), id);
                if !self.classes().into_iter().any(owns) && !self.is_empty(node, partition) {
                    return Err(format!("node {node} holds a copy of {partition:?} still"));
                }
                for n in self.classes().into_iter().filter(|&n| !owns(n)) {
                    let root = self.root(node, partition, n);
                    if root.is_some_and(|root| root.count > 0) {
                        return Err(format!(
                            "node {node} holds keys of {partition:?}, n={n}, still"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_empty(&mut self, node: usize, partition: Partition) -> bool {
        let Some(process) = self.nodes[node].process.as_mut() else { return true };
        let mut answers = Vec::new();
        process.engine.execute(
            Ticket(u64::MAX),
            Command::IsEmpty { partition, keys: KeysOf::AllBuckets },
            &mut answers,
        );
        matches!(answers.pop(), Some((_, Answer::IsEmpty(true))))
    }
}
