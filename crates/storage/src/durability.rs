//! When a write is acknowledged.

use serde::{Deserialize, Serialize};

/// What an acknowledgement says of a write at the replica that gives it, from the safest on. A
/// policy of the bucket.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It survives the loss of power: the log was synced.
    #[default]
    Sync,
    /// It survives the end of the process; the loss of power can take the last second of writes.
    Interval,
    /// It is in memory, and will be appended to the log at once; the end of the process can take
    /// what was not.
    None,
}
