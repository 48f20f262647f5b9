//! Which versions of messages a build speaks, and which one two builds speak with one another.

use serde::{Deserialize, Serialize};

/// All versions from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Versions {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Versions {
    /// One version.
    pub const fn only(version: u16) -> Self {
        Self { min: version, max: version }
    }

    /// Whether `version` is among them.
    pub const fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The highest that both speak, if there is one.
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        (self.contains(highest) && other.contains(highest)).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken_whoever_asks() {
        let versions = |min, max| Versions { min, max };
        for (ours, theirs, spoken) in [
            (Versions::only(8), Versions::only(8), Some(8)),
            (versions(8, 9), Versions::only(8), Some(8)),
            (versions(8, 9), versions(9, 10), Some(9)),
            (versions(8, 9), versions(7, 12), Some(9)),
            (versions(8, 9), versions(10, 11), None),
            // None at all.
            (versions(9, 8), versions(1, 20), None),
        ] {
            assert_eq!(ours.common(theirs), spoken, "{ours:?} and {theirs:?}");
            assert_eq!(theirs.common(ours), spoken, "{theirs:?} and {ours:?}");
        }
    }
}
