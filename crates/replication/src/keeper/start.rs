//! By what a node that starts goes, of what its notes keep of who owns partitions.

use bytes::Bytes;
use ring::{Member, Ownership, PartitionCount, Ring};
use sabotage::Bug;
use storage::StorageError;

use super::{KeptCommits, kept_ownership, ownership_note};

/// The version of a ring that is none: before every cluster's.
const PROVISIONAL: u64 = 0;

/// By what a node goes that does not know its cluster's ring: it loses against any.
pub fn provisional_ownership(node: Member, count: PartitionCount) -> Ownership {
    let owners = vec![0; count.iter().count()];
    let ring = Ring::new(PROVISIONAL, vec![node], owners);
    Ownership::new(ring.expect("one member that owns all"))
}

/// Whether a node that goes by `ownership` does not know its cluster's ring.
pub(crate) fn is_provisional(ownership: &Ownership) -> bool {
    ownership.target().ring().version() == PROVISIONAL
}

/// What a node that starts goes by, of what its notes keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptStart {
    /// Who owns partitions, as it knew it last; `None` if it knows nothing of its cluster's ring.
    pub ownership: Option<Ownership>,
    /// The plans that were committed at it.
    pub commits: KeptCommits,
    /// Notes that are to be durable before it speaks to anybody; none if there is nothing to forget.
    pub forgets: Vec<(Bytes, Bytes)>,
}

impl KeptStart {
    /// What the `notes` of an engine keep for a node that `is_merging` if it left the ring of before and joins
    /// another: of two rings neither plans nor tenures say anything of each other, so it goes by its
    /// `provisional` ones. An error if the note is damaged: then the node has forgotten by which tenures it must
    /// not answer any more.
    pub fn of_notes(
        notes: &[(Bytes, Option<Bytes>)],
        provisional: &Ownership,
        is_merging: bool,
    ) -> Result<Self, StorageError> {
        let kept = kept_ownership(notes)?;
        if is_merging && !sabotage::is(Bug::TenuresSurviveMerge) {
            let commits = KeptCommits::default();
            let forgets = match kept {
                Some(_) => vec![ownership_note(provisional), commits.note()],
                None => Vec::new(),
            };
            return Ok(Self { ownership: None, commits, forgets });
        }
        // What it forgot others by says nothing of who owns what.
        let ownership = kept.filter(|kept| !is_provisional(kept));
        Ok(Self { ownership, commits: KeptCommits::of_notes(notes), forgets: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;
    use ring::{Member, Ownership, PartitionCount, Ring};

    use super::{KeptStart, provisional_ownership};
    use crate::{KeptCommits, ownership_note};

    #[test]
    fn of_a_ring_that_a_node_leaves_it_keeps_nothing_and_of_its_own_all() {
        let count = PartitionCount::new(8).unwrap();
        let members = [1, 2].map(|id| Member::new(NodeId(id)));
        let own = Ownership::new(Ring::place(&members, count, 3, None).unwrap().ring);
        let provisional = provisional_ownership(NodeId(1).into(), count);
        let notes = |ownership: &Ownership| {
            let note = ownership_note(ownership);
            [(note.0, Some(note.1))]
        };
        let start = |of: &Ownership, is_merging| {
            KeptStart::of_notes(&notes(of), &provisional, is_merging).unwrap()
        };
        let stays = start(&own, false);
        assert_eq!((stays.ownership, stays.forgets), (Some(own.clone()), Vec::new()));
        let goes = start(&own, true);
        let forgets = vec![ownership_note(&provisional), KeptCommits::default().note()];
        assert_eq!((goes.ownership, goes.forgets), (None, forgets));
        // Once more after a crash, and as a member that has forgotten.
        assert_eq!(start(&provisional, true).ownership, None);
        assert_eq!(start(&provisional, false).ownership, None);
        let nothing = KeptStart::of_notes(&[], &provisional, true).unwrap();
        assert_eq!(nothing.forgets, Vec::new());
        // It loses against any ring.
        let mut joined = provisional.clone();
        joined.join(&own);
        assert_eq!(joined, own);
    }
}
