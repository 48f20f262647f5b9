//! The shell of a node: it moves bytes and time between sockets, disk and the pure core.
//!
//! [`Settings`] become a [`NodeConfig`]; [`Node::start`] assembles a node from it; a
//! [`DevCluster`] is several of them in one process. Inside, event loops own the storage shards
//! and their coordinators, one thread commits for all of them, and everything between threads goes
//! by message: no lock lies on the path of data.

mod allowance;
mod backoff;
mod backups;
mod barrier_rounds;
mod barrier_view;
mod calls;
mod checkpoint_thread;
mod client_port;
mod config;
mod core_task;
mod data_directory;
mod datastore;
mod descriptors;
mod dev;
mod dial;
mod drain;
mod endings;
mod event_loop;
mod feed;
mod gather;
mod gossip_port;
mod health;
mod identity;
mod inbound;
mod life;
mod links;
mod listen;
mod log_thread;
mod members;
mod membership_start;
mod membership_thread;
mod merging;
mod node;
mod observer;
pub mod offline;
mod outgoing;
mod places;
mod plan_report;
mod plans;
mod recovery;
mod repeats;
mod reports;
mod ring_value;
mod routing;
mod seats;
mod seeds;
mod set_aside;
mod shard_reader;
mod shared;
mod shares;
mod snapshot_file;
mod start_error;
mod switchboard;
mod threads;
mod time;
mod transfers;
mod whole_cluster;
mod work;

pub use config::{
    Beginning, BucketSettings, ConfigError, Listeners, Member, MemberSettings, NodeConfig,
    Settings, Timeouts,
};
pub use dev::{DevCluster, DevError, DevOptions};
pub use identity::node_id;
pub use node::Node;
pub use shares::unmet_shares;
pub use snapshot_file::SnapshotError;
pub use start_error::StartError;
