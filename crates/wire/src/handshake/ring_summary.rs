//! What two nodes must agree on before they speak: the ring, and how theirs differ if they do.
//!
//! Membership is configured, and every node places the partitions by itself. Nodes that were told
//! different members or partitions would each believe other nodes to be the owners of a key: they
//! refuse each other before a single write goes to the wrong place.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of members' names in a summary: what leaves room in a handshake's frame for a
/// [`RingDifference`] with the names of two.
const NAMES_BYTES_MAX: usize = 1024;

/// A node's ring in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSummary {
    /// Equal for equal rings: a digest over the partitions with their owners.
    pub digest: [u8; 16],
    /// The number of partitions.
    pub partitions: u32,
    /// The number of members.
    pub members: u32,
    /// The members' names, as many as fit: to say what differs, not to find out whether.
    pub names: BTreeSet<String>,
}

/// In what the rings of two nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingDifference {
    /// The name of the node that dialled.
    pub initiator: String,
    /// Its number of partitions and of members.
    pub initiator_counts: (u32, u32),
    /// Members that only it has, as far as known.
    pub initiator_only: BTreeSet<String>,
    /// The name of the node that was dialled.
    pub acceptor: String,
    /// Its number of partitions and of members.
    pub acceptor_counts: (u32, u32),
    /// Members that only it has, as far as known.
    pub acceptor_only: BTreeSet<String>,
}

impl RingSummary {
    /// The summary of a ring of `partitions` partitions with members called `names`.
    pub fn new<'a>(
        digest: [u8; 16],
        partitions: u32,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let all: BTreeSet<&str> = names.into_iter().collect();
        let members = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mut bytes = 0;
        let fitting = all.into_iter().take_while(|name| {
            bytes += name.len() + 2;
            bytes <= NAMES_BYTES_MAX
        });
        Self { digest, partitions, members, names: fitting.map(str::to_owned).collect() }
    }

    /// What is only here, if all names of the other ring are known.
    fn only_here(&self, other: &Self) -> BTreeSet<String> {
        if other.names.len() < usize::try_from(other.members).unwrap_or(usize::MAX) {
            return BTreeSet::new();
        }
        self.names.difference(&other.names).cloned().collect()
    }
}

impl RingDifference {
    /// The difference between the rings of two nodes, each given with its name; `None` if there
    /// is none.
    pub(super) fn between(
        (initiator, theirs): (&str, &RingSummary),
        (acceptor, ours): (&str, &RingSummary),
    ) -> Option<Box<Self>> {
        (theirs != ours).then(|| {
            Box::new(Self {
                initiator: initiator.to_owned(),
                initiator_counts: (theirs.partitions, theirs.members),
                initiator_only: theirs.only_here(ours),
                acceptor: acceptor.to_owned(),
                acceptor_counts: (ours.partitions, ours.members),
                acceptor_only: ours.only_here(theirs),
            })
        })
    }
}

impl fmt::Display for RingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { initiator, acceptor, initiator_only, acceptor_only, .. } = self;
        let ((their_partitions, their_members), (our_partitions, our_members)) =
            (self.initiator_counts, self.acceptor_counts);
        write!(f, "{initiator:?} and {acceptor:?} have different rings")?;
        let mut found = false;
        if their_partitions != our_partitions {
            found = true;
            write!(
                f,
                "; {initiator:?} has {their_partitions} partitions, {acceptor:?} has \
                 {our_partitions}: start one of them anew, with the other's `partitions` and an \
                 empty data directory"
            )?;
        }
        for (name, only) in [(initiator, initiator_only), (acceptor, acceptor_only)] {
            if !only.is_empty() {
                found = true;
                write!(f, "; only {name:?} has the members {only:?}")?;
            }
        }
        if their_members != our_members {
            found = true;
            write!(
                f,
                "; {initiator:?} has {their_members} members, {acceptor:?} has {our_members}"
            )?;
        }
        if !(initiator_only.is_empty() && acceptor_only.is_empty() && their_members == our_members)
        {
            write!(f, ": list the same `members` on every node")?;
        }
        if !found {
            write!(f, ": list the same `members` on every node, and run the same version")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(theirs: &RingSummary, ours: &RingSummary) -> String {
        RingDifference::between(("b", theirs), ("a", ours)).unwrap().to_string()
    }

    fn ring(digest: u8, partitions: u32, names: &[&str]) -> RingSummary {
        RingSummary::new([digest; 16], partitions, names.iter().copied())
    }

    #[test]
    fn what_differs_is_named_with_what_to_do() {
        let ours = ring(1, 64, &["a", "b", "c"]);
        assert_eq!(RingDifference::between(("b", &ours), ("a", &ours)), None);
        assert_eq!(
            said(&ring(2, 64, &["a", "b", "d"]), &ours),
            "\"b\" and \"a\" have different rings; only \"b\" has the members {\"d\"}; only \"a\" \
             has the members {\"c\"}: list the same `members` on every node"
        );
        assert_eq!(
            said(&ring(2, 128, &["a", "b", "c"]), &ours),
            "\"b\" and \"a\" have different rings; \"b\" has 128 partitions, \"a\" has 64: start \
             one of them anew, with the other's `partitions` and an empty data directory"
        );
        assert_eq!(
            said(&ring(2, 64, &["a", "b", "c"]), &ours),
            "\"b\" and \"a\" have different rings: list the same `members` on every node, and run \
             the same version"
        );
    }

    #[test]
    fn a_summary_and_a_difference_fit_in_a_handshake_whatever_the_names() {
        let long = |letter: &str| -> Vec<String> {
            (0..128).map(|number| format!("{number:03}{}", letter.repeat(252))).collect()
        };
        let (ours, theirs) = (long("a"), long("b"));
        let summary = |names: &[String]| {
            RingSummary::new([names[0].as_bytes()[9]; 16], 64, names.iter().map(String::as_str))
        };
        let (ours, theirs) = (summary(&ours), summary(&theirs));
        assert_eq!((ours.members, ours.names.len()), (128, 3));
        // Names that are not all known are not said to be missing.
        assert_eq!(
            said(&theirs, &ours),
            "\"b\" and \"a\" have different rings: list the same `members` on every node, and run \
             the same version"
        );
        let (few, names) = (&["x"; 1], ["y".repeat(255), "z".repeat(255)]);
        let one = ring(1, 64, few);
        let two = summary(&["x".repeat(255), names[0].clone(), names[1].clone()]);
        let difference = RingDifference::between((&names[0], &two), (&names[1], &one)).unwrap();
        assert_eq!(difference.initiator_only.len(), 3);
        assert!(clock::encode(&difference).len() + 1024 < crate::HANDSHAKE_BYTES_MAX);
    }
}
