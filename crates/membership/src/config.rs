//! What a node's gossip is told at its start, and what it leaves on disk for the next one.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use serde::{Deserialize, Serialize};

use crate::detector::DetectorConfig;
use crate::entry::{ADDRESS_BYTES_MAX, InvalidEntry, NAME_BYTES_MAX, is_text};
use crate::{About, ClusterId, Incarnation, MergeValue, Table, Values};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The name of its cluster.
    pub cluster: String,
    /// How it describes itself.
    pub about: About,
    /// Addresses of nodes to find the cluster by, `HOST:PORT`. Its own is passed over.
    pub seeds: Vec<String>,
    /// Random bits of this process.
    pub nonce: u64,
    /// Make a new cluster with this id, if the node belongs to none yet. Founders that are all told the same id
    /// are members of one cluster from the start, and find one another by their seeds.
    pub bootstrap: Option<ClusterId>,
    /// Clusters of this name that the node has left for another one: while it belongs to none it takes none of these,
    /// though their nodes may still speak to it.
    pub left: BTreeSet<ClusterId>,
    /// Who else comes over from those clusters, as far as the node knows: [`Phase::Expected`](crate::Phase::Expected)
    /// until they are here.
    pub fellows: BTreeMap<NodeId, About>,
    /// Time from one round of gossip to the next, in milliseconds, give or take a tenth. Dynamo's and
    /// Cassandra's second.
    pub round_ms: u64,
    /// How silences are judged.
    pub detector: DetectorConfig,
    /// How named values merge.
    pub merge_value: MergeValue,
}

/// Not a configuration. Nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// The cluster's name is out of bounds.
    #[error("a cluster's name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    Cluster,
    /// The node's id is no node's.
    #[error("no node has the id 0")]
    Node,
    /// The node's description is out of bounds.
    #[error(transparent)]
    About(#[from] InvalidEntry),
    /// A seed's address is out of bounds.
    #[error("a seed's address has 1 to {ADDRESS_BYTES_MAX} bytes and no control characters")]
    Seed,
    /// Neither a seed nor a bootstrap nor a cluster of before.
    #[error("nothing to start from: name seeds, or bootstrap a new cluster")]
    Lost,
    /// Times or thresholds make no sense.
    #[error(
        "a round takes 1 ms to 10 minutes; the detector's window is 2 to 1,000, its least deviation positive, and 0 < doubt < threshold"
    )]
    Timing,
}

/// What outlives the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The ids of the cluster that was found; none if none was.
    pub ids: BTreeSet<ClusterId>,
    /// Which start of the node wrote this.
    pub incarnation: Incarnation,
    /// All members, this one included.
    pub table: Table,
    /// The named values.
    pub values: Values,
}

impl Config {
    /// The usual rhythm, no seeds, no bootstrap, values of which the larger wins.
    pub fn new(node: NodeId, cluster: impl Into<String>, about: About, nonce: u64) -> Self {
        Self {
            node,
            cluster: cluster.into(),
            about,
            seeds: Vec::new(),
            nonce,
            bootstrap: None,
            left: BTreeSet::new(),
            fellows: BTreeMap::new(),
            round_ms: 1_000,
            detector: DetectorConfig::default(),
            merge_value: crate::larger_value,
        }
    }

    pub(crate) fn check(&self, snapshot: Option<&Snapshot>) -> Result<(), InvalidConfig> {
        if !is_text(&self.cluster, NAME_BYTES_MAX) {
            return Err(InvalidConfig::Cluster);
        }
        if self.node == NodeId::NAMED {
            return Err(InvalidConfig::Node);
        }
        self.about.check()?;
        self.fellows.values().try_for_each(About::check)?;
        if !self.seeds.iter().all(|seed| is_text(seed, ADDRESS_BYTES_MAX)) {
            return Err(InvalidConfig::Seed);
        }
        if !(1..=600_000).contains(&self.round_ms) || !self.detector.is_valid() {
            return Err(InvalidConfig::Timing);
        }
        let found = snapshot.is_some_and(|snapshot| !snapshot.ids.is_empty());
        let seeded = self.seeds.iter().any(|seed| seed != self.about.peer_address());
        if !found && !seeded && self.bootstrap.is_none() {
            return Err(InvalidConfig::Lost);
        }
        Ok(())
    }
}
