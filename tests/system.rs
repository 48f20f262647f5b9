//! Whole-system tests: real processes of the `merganser` binary, real sockets, real disks, real
//! clients. Everything listens on loopback; only processes that a test started are signalled.
//!
//! With MERGANSER_LONG_TESTS set in the environment, scenarios are played in their long forms.

#[path = "system/agreement.rs"]
mod agreement;
#[path = "system/apart.rs"]
mod apart;
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
#[path = "system/cuts.rs"]
mod cuts;
#[path = "system/disk.rs"]
mod disk;
#[path = "system/drain.rs"]
mod drain;
#[path = "system/durability.rs"]
mod durability;
#[path = "system/faces.rs"]
mod faces;
#[path = "system/forgetting.rs"]
mod forgetting;
#[path = "system/interrupted.rs"]
mod interrupted;
#[path = "system/load.rs"]
mod load;
#[path = "system/lost_writes.rs"]
mod lost_writes;
#[path = "system/membership.rs"]
mod membership;
#[path = "system/ports.rs"]
mod ports;
#[path = "system/process.rs"]
mod process;
#[path = "system/proxy.rs"]
mod proxy;
#[path = "system/replace.rs"]
mod replace;
#[cfg(target_os = "linux")]
#[path = "system/small_disk.rs"]
mod small_disk;
#[path = "system/substitutes.rs"]
mod substitutes;
#[path = "system/wipe.rs"]
mod wipe;
