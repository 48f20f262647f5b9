//! Benchmarks of the parts that every request pays for, with Criterion: what is measured stands in `benches/`,
//! one file for one part, each with a header that says in full which number matters, why, and what it is
//! compared with. And of whole clusters of processes, in `examples/`; what those share is here.
//!
//! ```text
//! cargo bench -p benchmarks                    all
//! cargo bench -p benchmarks --bench engine     one
//! ```
//!
//! | bench | what must hold |
//! | --- | --- |
//! | `clock` | contexts of three actors are compared and merged in far less than a microsecond |
//! | `values` | an update of a collection of 100,000 elements takes at most three times one of 10 |
//! | `ring` | the owners of a key are found well under 200 ns at a hundred nodes |
//! | `storage_index` | a read stays near a microsecond; a synced row grows cheaper with its batch |
//! | `engine` | adding to a set costs the same whatever its size; a name costs at most 1.3 times |
//! | `resp` | a command of a pipeline is parsed well below a microsecond |
//!
//! Figures of one machine say little on another: compare a change with the run before it, on the
//! same machine with nothing else on it.
//!
//! How the whole stands beside redis-server and etcd is a program of its own, `benches/compare`: there
//! the number that matters is the ratio of two loads in one run.

mod cluster;
mod steady;

pub use cluster::{Cluster, Failure};
pub use steady::{Outcome, Sample, Steady, histogram, key, print_phases, set};
