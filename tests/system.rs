//! Whole-system tests: real processes of the `merganser` binary, real sockets, real disks, real
//! clients. Everything listens on loopback; only processes that a test started are signalled.

#[path = "system/backup.rs"]
mod backup;
#[path = "system/bad_start.rs"]
mod bad_start;
#[path = "system/cluster_growth.rs"]
mod cluster_growth;
#[path = "system/conflicts.rs"]
mod conflicts;
#[path = "system/crash.rs"]
mod crash;
#[path = "system/disk.rs"]
mod disk;
#[path = "system/faces.rs"]
mod faces;
#[path = "system/membership.rs"]
mod membership;
#[path = "system/ports.rs"]
mod ports;
#[path = "system/process.rs"]
mod process;
#[path = "system/wipe.rs"]
mod wipe;
