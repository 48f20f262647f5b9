//! Which start of a node speaks, and of which cluster it is.
//!
//! A generation counts the starts of a node. It comes from no clock: a start takes the one on its
//! disk plus one, and if the cluster remembers a later one (the disk was lost, or restored from a
//! backup) it takes that plus one. So neither a clock set back nor a lost disk makes a node that
//! its peers ignore. The nonce tells apart two processes that came to the same generation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One start of a node. Later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Counts the starts of the node, from 1.
    pub generation: u64,
    /// Random bits of the process.
    pub nonce: u64,
}

impl Incarnation {
    /// The last generation. Out of reach of any node that only starts often; it leaves room to
    /// take the place of a forged one without overflow.
    pub const GENERATION_MAX: u64 = 1 << 48;
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.generation, self.nonce)
    }
}

/// A cluster, beside its name: random bits of its bootstrap, so that two clusters bootstrapped apart
/// under one name are told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// Most clusters that may have been merged into one. A guess, far above what anyone does.
    pub const MERGED_MAX: usize = 16;
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
