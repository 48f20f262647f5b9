//! The ring that a directory's keys were placed by, as a stamp keeps it.

use std::fmt;

/// The ring by which the keys of a data directory were placed. With another one, other nodes are
/// asked for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampedRing {
    /// Equal for equal rings.
    pub digest: [u8; 16],
    /// The number of members.
    pub members: u32,
    /// The members' names in order, as many as fit: to say what differs, not to find out whether.
    pub names: Vec<String>,
}

impl StampedRing {
    /// Whether keys are where they were.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The lines of a stamp.
    pub(super) fn text(&self) -> String {
        let digest = u128::from_be_bytes(self.digest);
        let names = self.names.join("\", \"");
        format!("ring = \"{digest:032x}\"\nmembers = {}\nnames = [\"{names}\"]\n", self.members)
    }

    /// From the fields of a stamp: what is wrong with them otherwise.
    pub(super) fn parse(digest: &str, members: u32, names: &str) -> Result<Self, &'static str> {
        let digest = u128::from_str_radix(digest, 16).map_err(|_| "its ring is no number")?;
        let names = names
            .strip_prefix("[\"")
            .and_then(|names| names.strip_suffix("\"]"))
            .ok_or("its names are no list")?;
        // No name has a quote in it.
        let names = names.split("\", \"").map(str::to_owned).collect();
        Ok(Self { digest: digest.to_be_bytes(), members, names })
    }
}

/// The members, by name as far as known.
impl fmt::Display for StampedRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, names, .. } = self;
        write!(f, "{members} member{}", if *members == 1 { "" } else { "s" })?;
        let rest = usize::try_from(*members).unwrap_or(usize::MAX).saturating_sub(names.len());
        write!(f, " ({}", names.join(", "))?;
        if rest > 0 {
            write!(f, " and {rest} more")?;
        }
        f.write_str(")")
    }
}
