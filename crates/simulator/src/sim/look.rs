//! What is to be seen of a cluster, and of its replicas.

use ring::{Partition, PartitionCount};
use storage::{Command, Ticket, TreeCheck, TreeNode};
use values::{Key, View};

use super::{Sim, events};
use crate::ledger::Ledger;
use crate::{Fault, Strikes};

impl Sim {
    /// How often each fault came so far.
    pub fn strikes(&self) -> Strikes {
        let mut strikes = self.strikes.clone();
        strikes.add(&self.network.strikes);
        let drifting = self.nodes.iter().filter(|node| node.drift_ppm != 0);
        drifting.for_each(|_| strikes.count(Fault::ClockDrift));
        strikes
    }

    /// Virtual milliseconds since the start.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Calls made since the start.
    pub const fn calls(&self) -> u64 {
        self.next_call
    }

    /// Events processed since the start.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Depends on everything that happened and in which order, on every record of every log, and on what every answer
    /// shows.
    pub const fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many there were at the start.
    pub(crate) const fn nodes_at_start(&self) -> usize {
        self.options.nodes
    }

    /// How many partitions the ring has.
    pub(crate) fn partition_count(&self) -> PartitionCount {
        self.rings[0].partition_count()
    }

    /// [`SimOptions::requests_max`].
    pub(crate) const fn requests_max(&self) -> usize {
        self.options.requests_max
    }

    /// Whether replicas are compared in the background.
    pub const fn compares(&self) -> bool {
        self.options.anti_entropy.interval_ms.is_some()
    }

    /// Whether what is left of deleted keys is forgotten.
    pub const fn forgets(&self) -> bool {
        self.options.barrier_ms.is_some()
    }

    /// The numbers of the owners of `key`, in order of preference.
    pub fn owners(&self, key: &Key) -> Vec<usize> {
        let mut nodes = self.preference_list(key);
        nodes.truncate(usize::from(self.policy_of(key).n));
        nodes
    }

    /// The numbers of all nodes in the order in which they would serve `key`.
    pub fn preference_list(&self, key: &Key) -> Vec<usize> {
        let partition = self.rings[0].partition(ring::Token(key.identifier()));
        let ring =
            self.any_ownership().map_or(&self.rings[0], |ownership| ownership.present(partition));
        ring.preference_list(partition).into_iter().map(|id| self.number_of(id)).collect()
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].process.is_some()
    }

    /// What one node's own replica shows of a key; `None` if the node is down.
    ///
    /// # Panics
    /// If the replica's record of the key is damaged.
    pub fn view(&mut self, node: usize, key: &Key) -> Option<View> {
        let process = self.nodes[node].process.as_mut()?;
        let view = events::read_whole(&mut process.engine, key);
        Some(view.expect("the record is whole"))
    }

    /// Whether a key has one owner, and that one's record of it is damaged: nobody holds it who could make
    /// it whole, and reads fail until it is written.
    pub(crate) fn is_damaged_for_good(&mut self, key: &Key) -> bool {
        let [owner] = self.owners(key)[..] else { return false };
        let process = self.nodes[owner].process.as_mut();
        let is_damaged =
            process.is_some_and(|process| events::read_whole(&mut process.engine, key).is_none());
        if is_damaged {
            self.ledger.give_up(key);
        }
        is_damaged
    }

    /// What a full scan of a node's replica finds wrong with its hash trees; `None` if it is down.
    ///
    /// # Panics
    /// If the replica cannot be read.
    pub fn check_trees(&self, node: usize) -> Option<TreeCheck> {
        let process = self.nodes[node].process.as_ref()?;
        Some(process.engine.check_trees().expect("simulated disks can be read"))
    }

    /// The root of a node's hash tree over the keys of the partition of `key`; `None` if it is down.
    ///
    /// # Panics
    /// If the replica cannot be read.
    pub fn tree_root(&mut self, node: usize, key: &Key) -> Option<TreeNode> {
        let partition = self.rings[0].partition(ring::Token(key.identifier()));
        self.root(node, partition, self.policy_of(key).n)
    }

    /// The same of a partition, over the keys of buckets with this n.
    pub(super) fn root(&mut self, node: usize, partition: Partition, n: u8) -> Option<TreeNode> {
        let process = self.nodes[node].process.as_mut()?;
        let mut answers = Vec::new();
        let command = Command::TreeRoots { n, partitions: vec![partition] };
        process.engine.execute(Ticket(u64::MAX), command, &mut answers);
        match answers.pop() {
            Some((_, storage::Answer::TreeNodes(nodes))) => nodes.first().copied(),
            other => panic!("a question for a root was answered {other:?}"),
        }
    }

    /// A node's totals of what it did; `None` if it is down.
    pub fn counters(&self, node: usize) -> Option<replication::Counters> {
        self.nodes[node].process.as_ref().map(|process| *process.core.counters())
    }

    /// Keys of which the nodes that run hold deltas for others, summed over the owners.
    pub fn pending(&self) -> u64 {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running
            .map(|process| {
                self.nodes.iter().map(|owner| process.engine.pending_for(owner.id)).sum::<u64>()
            })
            .sum()
    }

    /// Every delta made so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
