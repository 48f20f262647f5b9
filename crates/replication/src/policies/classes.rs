//! Which n there are among the buckets that a node knows of.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::OWNERS_MAX;

/// A set of n, each at most [`OWNERS_MAX`]: small enough for every answer about a handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(u8);

impl Classes {
    /// Those of `classes`.
    pub fn of(classes: &BTreeSet<u8>) -> Self {
        Self(classes.range(..=OWNERS_MAX).fold(0, |all, n| all | 1 << n))
    }

    /// Whether all of `others` are among them.
    pub const fn have(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of_and_no_more() {
        let of = |classes: &[u8]| Classes::of(&classes.iter().copied().collect());
        assert!(of(&[1, 3, OWNERS_MAX]).have(of(&[3])));
        assert!(of(&[3]).have(Classes::default()));
        assert!(!of(&[3]).have(of(&[2, 3])));
        assert!(!of(&[2]).have(of(&[OWNERS_MAX])));
    }
}
