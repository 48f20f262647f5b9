//! Placement: which member owns which partition, as a pure function of the members, their weights
//! and zones, and of the ring before.
//!
//! Any `spread` consecutive partitions get distinct owners, so that the first n ≤ `spread` nodes
//! of a walk are simply the next n owners: replicas are then as balanced as owners are, and a
//! partition that changes hands moves exactly n replicas. That needs more members than `spread`:
//! as many take turns, and nothing can stay where one comes. So where there are no more, any
//! m − 1 of the m members' partitions are apart. The same with zones, where there are as many;
//! where there are fewer, each owns as few of `spread` as the others allow.
//!
//! The ring before is kept where it can be. Gaps left by those who went are filled, then members
//! above their quota give to those below it; see [`layout`](layout::Layout) for the steps. What a
//! fair share is, is the matter of [`shares`]; what is due so much that there is no choice, of
//! [`columns`].

mod columns;
mod layout;
mod ripple;
mod shares;
mod terms;

use std::collections::BTreeMap;

use clock::NodeId;
use layout::Layout;
use terms::Terms;

use crate::ring::MEMBERS_MAX;
use crate::{Member, PartitionCount, Ring, Zone};

/// The least spread of a cluster: the n of buckets that say nothing else.
const SPREAD_MIN: usize = 3;

/// How often a ring is placed on the terms that it makes itself, at most. A guess.
const SETTLINGS_MAX: usize = 8;

/// A ring as placed, and how far it could follow the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The ring.
    pub ring: Ring,
    /// Per member, ascending, what it was due and what it could be given.
    pub shares: Vec<Share>,
    /// What could not be given its due, zones first.
    pub limits: Vec<Limit>,
}

impl Placement {
    /// Per member, ascending, its share in copies of partitions where keys have `n` owners: none holds a
    /// partition twice, and what would exceed that falls to the others. An estimate where `n` is more than
    /// the spread, since whom a walk comes to then depends on whom it passes over.
    pub fn copies(&self, n: usize) -> Vec<Share> {
        let count = f64::from(self.ring.partition_count().get());
        let owners = n.min(self.shares.len()) as f64;
        let (mut copies, mut parts) = (owners * count, count);
        let mut all = self.shares.clone();
        all.sort_by(|a, b| b.possible.total_cmp(&a.possible));
        for share in &mut all {
            let part = share.possible;
            share.due *= owners;
            share.possible = (copies * part / parts).min(count);
            (copies, parts) = (copies - share.possible, parts - part);
        }
        all.sort_by_key(|share| share.node);
        all
    }
}

/// What one member should own. In partitions, of which a ring gives whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The member.
    pub node: NodeId,
    /// In proportion to its weight.
    pub due: f64,
    /// As far as distinct owners and zones allow: less than its due where itself or its zone is too
    /// heavy, more where others are.
    pub possible: f64,
}

/// What is too heavy beside the others to be given its due.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// A member: it can own one of any `spread` consecutive partitions.
    Member {
        /// Which one.
        node: NodeId,
        /// In proportion to its weight.
        due: f64,
        /// What it is given.
        possible: f64,
    },
    /// A zone: it can own as few of any `spread` consecutive partitions as the others allow.
    Zone {
        /// Which one; `None` for that of the members that name none.
        zone: Option<Zone>,
        /// In proportion to its members' weights.
        due: f64,
        /// What it is given.
        possible: f64,
    },
}

/// Why no ring could be placed. The ring before is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Somebody must own the partitions.
    #[error("a ring needs at least one member")]
    NoMembers,
    /// A member was named twice.
    #[error("member {0} is named twice")]
    DuplicateMember(NodeId),
    /// More members than 16-bit indices can name.
    #[error("a ring of {0} members: there may be at most {MEMBERS_MAX}")]
    TooManyMembers(usize),
    /// The ring before has another number of partitions, which is fixed for ever.
    #[error("the present ring has {present} partitions, {wanted} were asked for")]
    PartitionCountChanged {
        /// Of the ring before.
        present: u32,
        /// Of the ring asked for.
        wanted: u32,
    },
    /// The ring before has the last version that there is, which only a forged one can have.
    #[error("the present ring's version cannot be followed by another")]
    VersionExhausted,
}

impl Ring {
    /// The spread of a cluster whose keys have `n` owners, unless their bucket says otherwise.
    ///
    /// Buckets with more owners get replicas that are somewhat less even. A larger spread for their sake
    /// would have all others move much more as a cluster of few members grows.
    pub const fn spread_for(n: u8) -> usize {
        if n as usize > SPREAD_MIN { n as usize } else { SPREAD_MIN }
    }

    /// Places `partitions` on `members`, keeping what can be kept of `previous`.
    ///
    /// Pure: the same members (in any order) and the same previous ring give the same ring. Any
    /// `spread` consecutive partitions, also across the top, have distinct owners when there are
    /// more members than `spread` (and Q is not tiny), else any as many as there are other members.
    /// With no more members than `spread` zones make no difference: each replica set has all of them.
    /// Members that take every `spread`-th partition because they can hold no more may meet
    /// themselves at the top. Costs about Q·members steps when everything is new.
    pub fn place(
        members: &[Member],
        partitions: PartitionCount,
        spread: usize,
        previous: Option<&Self>,
    ) -> Result<Placement, PlacementError> {
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by_key(|member| member.node);
        check(&sorted, partitions, previous)?;
        let version = match previous {
            Some(ring) => ring.version().checked_add(1).ok_or(PlacementError::VersionExhausted)?,
            None => 1,
        };
        let mut kept = kept_owners(&sorted, partitions, previous);
        // To go by zones now would move more once there are others; the walk goes by them all the same.
        let mut placed = sorted.clone();
        if sorted.len() <= spread {
            placed.iter_mut().for_each(|member| member.zone = None);
            if previous.is_none_or(|ring| ring.members().len() < sorted.len()) {
                kept = take_turns(sorted.len(), &kept);
            }
        }
        let count = kept.len();
        let spread = feasible_spread(spread.min(sorted.len() - 1), sorted.len(), count);
        let same = previous.is_some_and(|ring| ring.roster() == sorted);
        let (owners, terms) = settled(&placed, spread, kept, same);
        let full = count as f64 / spread as f64;
        let zone_full = terms.members_zone_limits().map(|limit| limit as f64 * full).collect();
        let report = Report { possible: terms.shares, full, zone_full };
        let (shares, limits) = report.of(&sorted, count as f64);
        let ring =
            Self::new(version, sorted, owners).expect("a placement keeps the invariants of a ring");
        Ok(Placement { ring, shares, limits })
    }
}

/// What is to be said of a placement. In partitions, per member.
struct Report {
    possible: Vec<f64>,
    /// What a member can own at most.
    full: f64,
    /// What the zone of the member can own at most.
    zone_full: Vec<f64>,
}

impl Report {
    /// What `members` are due of `count` partitions beside what is possible, and who is limited.
    fn of(&self, members: &[Member], count: f64) -> (Vec<Share>, Vec<Limit>) {
        let weight = |member: &Member| f64::from(member.weight.get());
        let total: f64 = members.iter().map(weight).sum();
        let mut shares = Vec::with_capacity(members.len());
        let mut zones: BTreeMap<Option<&Zone>, (f64, f64, f64)> = BTreeMap::new();
        for ((member, &possible), &zone_full) in
            members.iter().zip(&self.possible).zip(&self.zone_full)
        {
            let share = Share { node: member.node, due: count * weight(member) / total, possible };
            let zone = zones.entry(member.zone.as_ref()).or_default();
            *zone = (zone.0 + share.due, zone.1 + share.possible, zone_full);
            shares.push(share);
        }
        // Less than one partition is rounding.
        let limited =
            |due: f64, possible: f64, full: f64| due - possible >= 1.0 && possible >= full - 1.0;
        let limited_zones = zones.into_iter().filter_map(|(zone, (due, possible, full))| {
            let limit = Limit::Zone { zone: zone.cloned(), due, possible };
            limited(due, possible, full).then_some(limit)
        });
        let limited_members =
            shares.iter().filter(|share| limited(share.due, share.possible, self.full));
        let limits = limited_zones
            .chain(limited_members.map(|&Share { node, due, possible }| Limit::Member {
                node,
                due,
                possible,
            }))
            .collect();
        (shares, limits)
    }
}

fn check(
    sorted: &[Member],
    partitions: PartitionCount,
    previous: Option<&Ring>,
) -> Result<(), PlacementError> {
    if sorted.is_empty() {
        return Err(PlacementError::NoMembers);
    }
    if sorted.len() > MEMBERS_MAX {
        return Err(PlacementError::TooManyMembers(sorted.len()));
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].node == pair[1].node) {
        return Err(PlacementError::DuplicateMember(pair[0].node));
    }
    let wanted = partitions.get();
    match previous.map(|ring| ring.partition_count().get()) {
        Some(present) if present != wanted => {
            Err(PlacementError::PartitionCountChanged { present, wanted })
        }
        _ => Ok(()),
    }
}

/// Per partition its owner in `previous`, as an index into `sorted`, if it still is a member.
fn kept_owners(
    sorted: &[Member],
    partitions: PartitionCount,
    previous: Option<&Ring>,
) -> Vec<Option<u16>> {
    let index_of = |node| {
        let index = sorted.binary_search_by_key(&node, |member| member.node).ok()?;
        Some(u16::try_from(index).expect("the number of members was checked"))
    };
    partitions.iter().map(|p| previous.and_then(|ring| index_of(ring.owner(p)))).collect()
}

/// Owners that stand, and the terms they stand on: placed again, nothing of them moves. `same` says
/// that `kept` is of these very members.
///
/// What a ring gives can bring a member that is nearly tight into columns, which are other terms
/// than those that the ring was placed on; so it is placed on those too, until they are the same.
fn settled(
    sorted: &[Member],
    spread: usize,
    mut kept: Vec<Option<u16>>,
    same: bool,
) -> (Vec<u16>, Terms<'_>) {
    let mut terms = Terms::new(sorted, spread, &kept);
    if let Some(owners) = whole(&kept).filter(|_| same && Layout::stands(&terms, &kept)) {
        return (owners, terms);
    }
    let mut owners = Layout::new(&terms, kept).settle();
    for _ in 1..SETTLINGS_MAX {
        kept = owners.iter().copied().map(Some).collect();
        terms = Terms::new(sorted, spread, &kept);
        if Layout::stands(&terms, &kept) {
            break;
        }
        let again = Layout::new(&terms, kept).settle();
        if again == owners {
            break;
        }
        owners = again;
    }
    (owners, terms)
}

/// The owners, if no partition is without.
fn whole(kept: &[Option<u16>]) -> Option<Vec<u16>> {
    kept.iter().copied().collect()
}

/// Members in turn, round after round; a member keeps the turn it has. How so few begin: the first
/// that comes beyond `spread` then takes its part of each round, and nothing else moves.
fn take_turns(member_count: usize, kept: &[Option<u16>]) -> Vec<Option<u16>> {
    let mut turns: Vec<Option<u16>> = Vec::with_capacity(member_count);
    for turn in 0..member_count {
        let present = kept.get(turn).copied().flatten();
        turns.push(present.filter(|&member| !turns.contains(&Some(member))));
    }
    let mut others = (0..).take(member_count).filter(|&member| !turns.contains(&Some(member)));
    let turns: Vec<_> = turns.iter().map(|turn| turn.or_else(|| others.next())).collect();
    turns.into_iter().cycle().take(kept.len()).collect()
}

/// The largest spread up to `wanted` for which distinct owners exist at all: with q partitions a
/// member can own at most ⌊q / spread⌋ of them.
fn feasible_spread(wanted: usize, member_count: usize, partition_count: usize) -> usize {
    (1..=wanted.min(partition_count))
        .rev()
        .find(|spread| partition_count / spread * member_count >= partition_count)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use clock::NodeId;

    use super::{PlacementError, feasible_spread};
    use crate::{Member, PartitionCount, Ring};

    fn place(members: &[u64], previous: Option<&Ring>) -> Result<Ring, PlacementError> {
        let members: Vec<Member> = members.iter().map(|&id| Member::new(NodeId(id))).collect();
        let placement = Ring::place(&members, PartitionCount::new(16).unwrap(), 3, previous)?;
        Ok(placement.ring)
    }

    fn owners(ring: &Ring) -> Vec<u64> {
        ring.partition_count().iter().map(|partition| ring.owner(partition).0).collect()
    }

    #[test]
    fn wrong_members_are_refused() {
        assert_eq!(place(&[], None), Err(PlacementError::NoMembers));
        assert_eq!(place(&[4, 7, 4], None), Err(PlacementError::DuplicateMember(NodeId(4))));
        let many: Vec<u64> = (0..65_536).collect();
        assert_eq!(place(&many, None), Err(PlacementError::TooManyMembers(65_536)));
    }

    #[test]
    fn the_number_of_partitions_is_fixed_by_the_first_ring() {
        let ring = place(&[1, 2], None).unwrap();
        assert_eq!(
            Ring::place(ring.roster(), PartitionCount::default(), 3, Some(&ring)),
            Err(PlacementError::PartitionCountChanged { present: 16, wanted: 4096 })
        );
    }

    #[test]
    fn versions_count_from_one_and_end() {
        let first = place(&[1], None).unwrap();
        let second = place(&[1, 2], Some(&first)).unwrap();
        assert_eq!((first.version(), second.version()), (1, 2));
        let last = Ring::new(u64::MAX, vec![Member::new(NodeId(1))], vec![0; 16]).unwrap();
        assert_eq!(place(&[1], Some(&last)), Err(PlacementError::VersionExhausted));
    }

    #[test]
    fn up_to_spread_members_begin_in_turn_and_keep_what_they_have() {
        let three = place(&[5, 6, 7], None).unwrap();
        // 16 is not three times anything: 5 would meet itself at the top.
        assert_eq!(owners(&three), [5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 6]);
        let replaced = place(&[9, 6, 7], Some(&three)).unwrap();
        assert_eq!(owners(&replaced), [9, 6, 7, 9, 6, 7, 9, 6, 7, 9, 6, 7, 9, 6, 7, 6]);
        let two = place(&[9, 7], Some(&replaced)).unwrap();
        let kept =
            |at: usize| owners(&replaced)[at] == 6 || owners(&replaced)[at] == owners(&two)[at];
        assert!((0..16).all(kept), "{:?}", owners(&two));
        assert_eq!(two.loads(), [(NodeId(7), 8), (NodeId(9), 8)]);
        let one = place(&[7], Some(&two)).unwrap();
        assert_eq!(owners(&one), [7; 16]);
    }

    #[test]
    fn every_member_of_a_ring_as_small_as_its_spread_owns_every_key() {
        let ring = place(&[5, 6, 7], None).unwrap();
        for partition in ring.partition_count().iter() {
            assert_eq!(ring.owners(partition, 3).count(), 3, "{partition:?}");
        }
    }

    #[test]
    fn spread_shrinks_only_where_no_placement_exists() {
        assert_eq!(feasible_spread(3, 4, 4096), 3);
        assert_eq!(feasible_spread(3, 3, 4096), 2);
        assert_eq!(feasible_spread(5, 6, 8), 4);
        assert_eq!(feasible_spread(3, 100, 1), 1);
        assert_eq!(feasible_spread(0, 4, 16), 1);
        assert_eq!(feasible_spread(usize::MAX, 4, 4), 4);
    }
}
