//! How many replicas a request involves, and counting those that answered.
//!
//! Source: Dynamo §4.5: N owners, R of them answer a read, W acknowledge a write.

use clock::NodeId;

use crate::{Availability, BucketPolicy, Level, RequestError};

/// A request's n, r and w: its level over its bucket's policy, never more than there are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quorum {
    pub(crate) n: u8,
    pub(crate) r: u8,
    pub(crate) w: u8,
    pub(crate) availability: Availability,
}

impl Quorum {
    /// The quorum of a request of `level` under `policy` in a cluster of `members`.
    pub(crate) fn resolve(
        policy: BucketPolicy,
        level: Level,
        members: usize,
    ) -> Result<Self, RequestError> {
        let within = |what, asked: Option<u8>, default: u8| match asked {
            Some(asked) if asked == 0 || asked > policy.n => {
                Err(RequestError::Level { what, asked, n: policy.n })
            }
            Some(asked) => Ok(asked),
            None => Ok(default),
        };
        if let Some(asked) = level.n
            && asked != policy.n
        {
            return Err(RequestError::Level { what: 'n', asked, n: policy.n });
        }
        let r = within('r', level.r, policy.r)?;
        let w = within('w', level.w, policy.w)?;
        let most = u8::try_from(members).unwrap_or(u8::MAX);
        let n = policy.n.min(most);
        Ok(Self { n, r: r.min(most), w: w.min(most), availability: policy.availability })
    }

    /// How many owners show all that w of them have acknowledged, and no fewer than a read asks.
    pub(crate) fn all_acknowledged(self) -> u8 {
        self.r.max(self.n.saturating_sub(self.w).saturating_add(1))
    }
}

/// How many of `answered` are owners.
pub(crate) fn count_owners(owners: &[NodeId], answered: impl IntoIterator<Item = NodeId>) -> u8 {
    let count = answered.into_iter().filter(|node| owners.contains(node)).count();
    u8::try_from(count).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use clock::NodeId;
    use proptest::prelude::*;

    use super::{Quorum, count_owners};
    use crate::{BucketPolicy, Level, RequestError};

    /// Word for word what the documentation of `Level` and `BucketPolicy` says, one case at a time.
    fn naive(policy: BucketPolicy, level: Level, members: usize) -> Option<(u8, u8, u8)> {
        if level.n.is_some() && level.n != Some(policy.n) {
            return None;
        }
        let r = level.r.unwrap_or(policy.r);
        let w = level.w.unwrap_or(policy.w);
        for asked in [r, w] {
            if !(1..=policy.n).contains(&asked) {
                return None;
            }
        }
        let cap = |figure: u8| if usize::from(figure) > members { members as u8 } else { figure };
        Some((cap(policy.n), cap(r), cap(w)))
    }

    proptest! {
        #[test]
        fn resolving_a_level_agrees_with_its_naive_twin(
            n in 1..6u8, r in 1..6u8, w in 1..6u8, members in 1..8usize,
            asked_r in prop::option::of(0..8u8), asked_w in prop::option::of(0..8u8),
            asked_n in prop::option::of(0..8u8),
        ) {
            let policy = BucketPolicy { n, r: r.min(n), w: w.min(n), ..BucketPolicy::default() };
            let level = Level { r: asked_r, w: asked_w, n: asked_n };
            let resolved = Quorum::resolve(policy, level, members).ok().map(|q| (q.n, q.r, q.w));
            prop_assert_eq!(resolved, naive(policy, level, members));
        }
    }

    #[test]
    fn a_level_beyond_n_names_the_figure_that_makes_no_sense() {
        let level = Level { w: Some(4), ..Level::default() };
        assert_eq!(
            Quorum::resolve(BucketPolicy::default(), level, 3),
            Err(RequestError::Level { what: 'w', asked: 4, n: 3 })
        );
    }

    #[test]
    fn only_owners_count() {
        let owners = [NodeId(1), NodeId(2), NodeId(3)];
        assert_eq!(count_owners(&owners, [NodeId(2), NodeId(9), NodeId(3)]), 2);
    }
}
