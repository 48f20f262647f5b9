//! How a simulated cluster is made, and what its disks do.

use replication::{AntiEntropyConfig, BucketPolicy};
use values::Limits;

use crate::NetworkFaults;

/// What disks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// Shortest write of a batch to the log, in milliseconds.
    pub commit_min_ms: u64,
    /// Longest write of a batch to the log, in milliseconds; of a checkpoint four times that.
    pub commit_max_ms: u64,
    /// Batches and checkpoints that fail with nothing written, in a thousand.
    pub refused: u32,
    /// Batches that are appended and whose sync fails, in a thousand: the node is then restarted.
    pub misreported: u32,
}

impl Default for DiskFaults {
    /// A disk that does what it should.
    fn default() -> Self {
        Self { commit_min_ms: 1, commit_max_ms: 1, refused: 0, misreported: 0 }
    }
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Nodes, at least 1.
    pub nodes: usize,
    /// How many of them, the last ones, found a ring of their own under the same name; 0 for one ring.
    pub apart: usize,
    /// Partitions, a power of two.
    pub partitions: u32,
    /// Policy of every bucket but the second.
    pub policy: BucketPolicy,
    /// Policy of the second bucket, which is created before clients begin; `None` for no such bucket.
    pub second: Option<BucketPolicy>,
    /// The network.
    pub network: NetworkFaults,
    /// The disks.
    pub disk: DiskFaults,
    /// How far each wall clock may be off, either way, in milliseconds.
    pub skew_ms: u64,
    /// How much faster or slower each wall clock may run, in millionths.
    pub drift_ppm: u64,
    /// [`CoreConfig::timeout_ms`](replication::CoreConfig::timeout_ms).
    pub timeout_ms: u32,
    /// [`CoreConfig::cover_ms`](replication::CoreConfig::cover_ms).
    pub cover_ms: u32,
    /// [`CoreConfig::requests_max`](replication::CoreConfig::requests_max).
    pub requests_max: usize,
    /// [`Limits::names`](values::Limits::names).
    pub names_max: usize,
    /// [`Limits::actors_resting`](values::Limits::actors_resting).
    pub actors_resting: usize,
    /// How replicas are compared in the background.
    pub anti_entropy: AntiEntropyConfig,
    /// Rounds of the barrier are at least so far apart, in milliseconds; `None` for no barrier.
    pub barrier_ms: Option<u64>,
    /// For how long clients try a request with a name again, in milliseconds: a round of the barrier is not over sooner.
    pub retries_ms: u64,
    /// Whether names of increments are folded. What is checked dot by dot cannot see into a sum.
    pub folds: bool,
    /// Whether nodes gossip about who is a member and alive. Only where replicas are compared: gossip
    /// never comes to rest.
    pub gossip: bool,
    /// Deltas for an outbox that are lost although it says that it keeps them, in a thousand.
    pub hints_lost: u32,
    /// [`EngineConfig::hint_bytes_max`](storage::EngineConfig::hint_bytes_max).
    pub hint_bytes_max: u64,
    /// [`EngineConfig::pending_bytes_max`](storage::EngineConfig::pending_bytes_max). Beyond a quarter of it a checkpoint
    /// begins, as a node has it.
    pub pending_bytes_max: usize,
    /// Whether engines have [`EngineBounds::SMALL`](storage::EngineBounds::SMALL), and segments of the log a few KiB.
    pub small_bounds: bool,
    /// Batches with which a checkpoint begins, in a thousand.
    pub checkpoints: u32,
}

impl Default for SimOptions {
    /// Three nodes, nothing fails, nothing is compared in the background.
    fn default() -> Self {
        Self {
            nodes: 3,
            apart: 0,
            partitions: 16,
            policy: BucketPolicy::default(),
            second: None,
            network: NetworkFaults::default(),
            disk: DiskFaults::default(),
            skew_ms: 0,
            drift_ppm: 0,
            timeout_ms: 2_000,
            cover_ms: 100,
            requests_max: 1_000,
            names_max: Limits::default().names,
            actors_resting: Limits::default().actors_resting,
            anti_entropy: AntiEntropyConfig::OFF,
            barrier_ms: None,
            retries_ms: 0,
            folds: false,
            gossip: false,
            hints_lost: 0,
            hint_bytes_max: u64::MAX,
            pending_bytes_max: usize::MAX,
            small_bounds: false,
            // So many that rows are met in memory, on their way and in the index.
            checkpoints: 100,
        }
    }
}
