//! Nodes with real sockets on loopback and LMDB on disk. The only tests of the shell that use real
//! time, and only to wait for conditions.

// Helpers of tests are not within a test function, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "nodes/buckets.rs"]
mod buckets;
#[path = "nodes/cluster.rs"]
mod cluster;
#[path = "nodes/connections.rs"]
mod connections;
#[path = "nodes/joining.rs"]
mod joining;
#[path = "../../../tests/system/ports.rs"]
mod ports;
#[path = "nodes/slow_links.rs"]
mod slow_links;
#[path = "nodes/starting.rs"]
mod starting;
#[path = "nodes/strangers.rs"]
mod strangers;
#[path = "nodes/support.rs"]
mod support;
#[path = "nodes/versions.rs"]
mod versions;
