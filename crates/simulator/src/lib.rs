//! Deterministic simulation of a whole cluster: the cores and engines that nodes run, in one
//! thread, on virtual time, under a network, disks and clocks that fail as one seed says.
//!
//! [`Sim`] is the cluster. [`run_history`] lets random clients loose on it and hands back what
//! they did and were told; the `invariant_` functions judge that. The same [`SimOptions`] give the
//! same run: [`Sim::trace_hash`] says whether it was.

mod history;
pub mod invariants;
mod judgement;
mod ledger;
mod network;
mod options;
mod random;
mod retries;
mod sight;
mod sim;
mod workload;

pub use history::{History, Record, Told};
pub use judgement::{judge, run_history};
pub use ledger::{Entry, Ledger, Place};
pub use network::NetworkFaults;
pub use options::{DiskFaults, SimOptions};
pub use random::Random;
pub use retries::run_retries;
pub use sight::Write;
pub use sim::{Outcome, Sim};
pub use workload::Workload;
