//! A node's configuration: what was said, layer over layer, and what follows from it, checked.
//!
//! [`Settings`] are what one layer says (flags, environment, file), everything optional;
//! [`Settings::or`] lays one over another; [`Settings::resolve`] fills in the defaults, checks, and
//! names the setting to change in every error.

mod checked;
mod member;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use replication::{Availability, RawValues};
use serde::Deserialize;
use storage::Durability;

pub use checked::{Beginning, Listeners, Member, NodeConfig, Timeouts};
pub use member::MemberSettings;

/// What one layer of configuration says. Field names are those of the TOML file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The node's name, unique in its cluster. Default `node1`.
    pub name: Option<String>,
    /// The cluster's name. Default `merganser`.
    pub cluster: Option<String>,
    /// The data directory. Has no default.
    pub data: Option<PathBuf>,
    /// Where Redis clients are answered. Default 127.0.0.1:7379.
    pub resp: Option<SocketAddr>,
    /// Where HTTP is answered. Default 127.0.0.1:7380.
    pub http: Option<SocketAddr>,
    /// Where peers and native clients are answered. Default 127.0.0.1:7381.
    pub peer: Option<SocketAddr>,
    /// Where other nodes reach this one, `HOST:PORT`. Default `peer`.
    pub advertise: Option<String>,
    /// Addresses, `HOST:PORT`, of nodes by which the cluster is found.
    pub seeds: Option<Vec<String>>,
    /// Begins a new cluster, unless the data directory is of one already. Never of a file: a start that
    /// has lost its disk must not begin another cluster by itself.
    #[serde(skip)]
    pub bootstrap: Option<bool>,
    /// What this node fails together with. Default none.
    pub zone: Option<String>,
    /// Its capacity beside that of the others. Default 1.
    pub weight: Option<u16>,
    /// The founders of a cluster: where peers reach them, their zones and weights. This one included,
    /// or not if it has neither zone nor weight.
    pub members: Option<BTreeMap<String, MemberSettings>>,
    /// The secret that all members share. A node without founders and seeds makes its own.
    pub secret: Option<String>,
    /// Partitions of the ring, for ever. Default 4,096.
    pub partitions: Option<u32>,
    /// Event loops; 0 (the default) for one per core.
    pub loops: Option<u16>,
    /// Allows listening beyond loopback, without encryption and authentication of clients.
    pub insecure_listen: Option<bool>,
    /// Time limit of a request that names none, in milliseconds. Default 2,000.
    pub timeout_ms: Option<u32>,
    /// Wait for an owner before its write is kept for it, in milliseconds. Default 100.
    pub cover_ms: Option<u32>,
    /// Replicas are compared once in so many seconds; 0 for when asked only. Default 600.
    pub anti_entropy_interval_s: Option<u32>,
    /// What comparing may send and receive, in bytes a second. Default 8 MiB.
    pub anti_entropy_bytes_per_second: Option<u64>,
    /// What rows take in memory when a checkpoint is made, in bytes. Default 64 MiB.
    pub memtable_bytes: Option<usize>,
    /// Phi from which on a member is suspected. Default 10.
    pub phi_threshold: Option<f64>,
    /// Most bytes of hints kept for one member.
    pub hint_bytes_max: Option<u64>,
    /// What is left of deleted keys is forgotten in rounds that are at least so many seconds apart; 0 for a
    /// node that begins none. Default 600.
    pub barrier_interval_s: Option<u32>,
    /// What is left of deleted keys is kept for so many seconds at least: native clients try an update again
    /// for as long. Default 60.
    pub retry_window_s: Option<u32>,
    /// How long a stop waits for what was accepted, in milliseconds. Default 5,000.
    pub stop_ms: Option<u32>,
    /// Longest value, in bytes. Default 8 MiB.
    pub value_bytes_max: Option<usize>,
    /// A put that leaves more siblings is reported. Default 25.
    pub siblings_soft: Option<usize>,
    /// A put that would leave more siblings, and more than there were, is refused. Default 100.
    pub siblings_max: Option<usize>,
    /// Most elements, items or fields of a collection. Default 100,000,000.
    pub elements_max: Option<u32>,
    /// Client connections at once. Default 10,000.
    pub connections_max: Option<usize>,
    /// Policy of buckets that nobody created, and what a creation leaves open. The same at all
    /// members.
    pub default_bucket: Option<BucketSettings>,
}

/// What a configuration says of buckets without a policy of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// Owners of each key.
    pub n: Option<u8>,
    /// Replicas that must answer a read.
    pub r: Option<u8>,
    /// Owners on which a write must be durable.
    pub w: Option<u8>,
    /// What to do when w cannot be met.
    pub availability: Option<Availability>,
    /// What a raw write makes.
    pub raw: Option<RawValues>,
    /// When a replica acknowledges a write.
    pub durability: Option<Durability>,
}

/// Why a configuration is none. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not such a configuration.
    #[error("configuration {}: {source}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A setting without default is missing.
    #[error("`{setting}` is missing: {hint}")]
    Missing {
        /// Which one.
        setting: &'static str,
        /// What to say.
        hint: &'static str,
    },
    /// A setting has a value that it cannot have.
    #[error("`{setting}`: {reason}")]
    Invalid {
        /// Which one.
        setting: String,
        /// What is wrong and what to say instead.
        reason: String,
    },
}

impl Settings {
    /// Reads a TOML file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Malformed {
            path: path.into(),
            source: Box::new(source),
        })
    }

    /// These settings, and `below` wherever they say nothing: `flags.or(environment).or(file)`.
    /// Members are taken whole from the topmost layer that names any.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            name: self.name.or(below.name),
            cluster: self.cluster.or(below.cluster),
            data: self.data.or(below.data),
            resp: self.resp.or(below.resp),
            http: self.http.or(below.http),
            peer: self.peer.or(below.peer),
            advertise: self.advertise.or(below.advertise),
            seeds: self.seeds.or(below.seeds),
            bootstrap: self.bootstrap.or(below.bootstrap),
            zone: self.zone.or(below.zone),
            weight: self.weight.or(below.weight),
            members: self.members.or(below.members),
            secret: self.secret.or(below.secret),
            partitions: self.partitions.or(below.partitions),
            loops: self.loops.or(below.loops),
            insecure_listen: self.insecure_listen.or(below.insecure_listen),
            timeout_ms: self.timeout_ms.or(below.timeout_ms),
            cover_ms: self.cover_ms.or(below.cover_ms),
            anti_entropy_interval_s: self.anti_entropy_interval_s.or(below.anti_entropy_interval_s),
            anti_entropy_bytes_per_second: self
                .anti_entropy_bytes_per_second
                .or(below.anti_entropy_bytes_per_second),
            memtable_bytes: self.memtable_bytes.or(below.memtable_bytes),
            phi_threshold: self.phi_threshold.or(below.phi_threshold),
            hint_bytes_max: self.hint_bytes_max.or(below.hint_bytes_max),
            barrier_interval_s: self.barrier_interval_s.or(below.barrier_interval_s),
            retry_window_s: self.retry_window_s.or(below.retry_window_s),
            stop_ms: self.stop_ms.or(below.stop_ms),
            value_bytes_max: self.value_bytes_max.or(below.value_bytes_max),
            siblings_soft: self.siblings_soft.or(below.siblings_soft),
            siblings_max: self.siblings_max.or(below.siblings_max),
            elements_max: self.elements_max.or(below.elements_max),
            connections_max: self.connections_max.or(below.connections_max),
            default_bucket: self.default_bucket.or(below.default_bucket),
        }
    }

    /// Fills in the defaults and checks.
    pub fn resolve(self) -> Result<NodeConfig, ConfigError> {
        NodeConfig::new(self)
    }
}

#[cfg(test)]
mod tests;
