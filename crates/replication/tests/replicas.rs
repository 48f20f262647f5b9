//! Three cores over three real engines, with a network whose ways a test holds up by hand: the
//! orders of events that a random simulation seldom finds.

// Helpers of tests are not within a test function, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "replicas/bounds.rs"]
mod bounds;
#[path = "replicas/disks.rs"]
mod disks;
#[path = "replicas/net.rs"]
mod net;
#[path = "replicas/order.rs"]
mod order;
#[path = "replicas/removals.rs"]
mod removals;
#[path = "replicas/siblings.rs"]
mod siblings;
