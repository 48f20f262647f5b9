//! Deterministic simulation of a whole cluster: the cores and engines that nodes run, in one
//! thread, on virtual time, under a network, disks and clocks that fail as one seed says.
//!
//! [`Sim`] is the cluster. [`run_history`] lets random clients loose on it and hands back what
//! they did and were told; the `invariant_` functions judge that. The same [`SimOptions`] give the
//! same run: [`Sim::trace_hash`] says whether it was.

mod history;
mod invariants;
mod network;
mod options;
mod oracle;
mod random;
mod retries;
mod sim;
mod workload;

pub use history::{History, Record, Told};
pub use invariants::{
    invariant_counters_exact, invariant_dots_issued_once, invariant_no_acknowledged_update_lost,
    invariant_no_removed_element_returns, invariant_reads_see_quorum_writes,
    invariant_replicas_equal_after_healing, invariant_trees_are_exact, shown,
};
pub use network::NetworkFaults;
pub use options::{DiskFaults, SimOptions};
pub use random::Random;
pub use retries::run_retries;
pub use sim::{Outcome, Sim};
pub use workload::{Workload, run_history};
