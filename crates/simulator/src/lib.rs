//! Deterministic simulation of a whole cluster: the cores and engines that nodes run, in one
//! thread, on virtual time, under a network, disks and clocks that fail as one seed says.
//!
//! [`Sim`] is the cluster. A [`Scenario`], drawn from a seed, lets random clients loose on it under
//! random faults and hands back what they did and were told; the `invariant_` functions judge that.
//! The same scenario gives the same run: [`Sim::trace_hash`] says whether it was.

mod coverage;
mod diagram;
mod fault;
mod history;
pub mod invariants;
mod judgement;
mod ledger;
mod losses;
mod names;
mod nemesis;
mod network;
mod options;
mod random;
mod retries;
mod scenario;
mod sessions;
mod shrinking;
mod sight;
mod sim;
mod trace;
mod workload;

pub use coverage::Coverage;
pub use fault::{Fault, Rates, Strikes};
pub use history::{History, Quorum, Record, Told};
pub use judgement::judge;
pub use ledger::{Entry, Ledger, Place};
pub use losses::{Loss, Losses, Lost};
pub use network::NetworkFaults;
pub use options::{DiskFaults, SimOptions};
pub use random::Random;
pub use scenario::{Family, Reduction, RunOutcome, Scenario, Steps};
pub use sessions::{Sessions, Share};
pub use shrinking::{Shrunk, shrink};
pub use sight::Write;
pub use sim::{Outcome, Sim};
pub use trace::{Trace, TraceFilter};
pub use workload::Workload;
