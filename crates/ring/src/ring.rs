//! The ring as placed: which member owns each partition, and the preference lists that follow.
//!
//! Source: Dynamo §4.3: the owners of a key are the first n distinct nodes met by walking
//! clockwise from its partition; those after them stand in when owners are away (§4.6). Where
//! members name zones, the walk passes over a zone until every other has had its turn.
//!
//! Invariants, checked on decode: members are ascending, distinct and at least one; every
//! partition has an owner among them; the number of partitions is a `PartitionCount`.

mod walk;

use clock::NodeId;
use serde::{Deserialize, Serialize};

use crate::{Member, Partition, PartitionCount, PlacementError, Token};
use walk::Zones;

/// Most members of a ring: owners are kept as 16-bit indices.
pub(crate) const MEMBERS_MAX: usize = 65_535;

/// A versioned assignment of all partitions to members.
///
/// ```
/// use clock::NodeId;
/// use ring::{Member, PartitionCount, Ring, Token};
///
/// let members = [1, 2, 3, 4].map(|id| Member::new(NodeId(id)));
/// let ring = Ring::place(&members, PartitionCount::default(), 3, None)?.ring;
/// let partition = ring.partition(Token(0x1b26_c824_fa88_96a0_0260_e986_23da_f824));
/// let owners: Vec<NodeId> = ring.owners(partition, 3).collect();
/// assert_eq!(owners, ring.preference_list(partition)[..3]);
/// # Ok::<(), ring::PlacementError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Ring {
    version: u64,
    members: Vec<Member>,
    /// Per partition, the index of its owner in `members`.
    owners: Vec<u16>,
    /// The ids of `members`. This and what is below follow from the rest.
    #[serde(skip)]
    nodes: Vec<NodeId>,
    /// Indices of members that own nothing, ascending.
    #[serde(skip)]
    idle: Vec<u16>,
    /// `None` if all members are of one zone, so that none is preferred.
    #[serde(skip)]
    zones: Option<Zones>,
}

/// What comes in from outside, unchecked. Field for field what [`Ring`] serialises.
#[derive(Deserialize)]
struct Parts {
    version: u64,
    members: Vec<Member>,
    owners: Vec<u16>,
}

/// Why what came in is no ring. Nothing was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRing {
    /// No members, or more than 16-bit indices can name.
    #[error("a ring of {0} members: there must be 1 to {MEMBERS_MAX}")]
    MemberCount(usize),
    /// A member is named twice, or out of order.
    #[error("members of a ring must be ascending and distinct")]
    MemberOrder,
    /// The number of owners is not a number of partitions.
    #[error("a ring of {0} partitions: the number must be a power of two from 1 to {max}", max = PartitionCount::MAX)]
    PartitionCount(usize),
    /// A partition is owned by nobody who is a member.
    #[error("owner {owner} of partition {partition} is not a member")]
    Owner {
        /// The partition.
        partition: u32,
        /// Its owner's supposed index among the members.
        owner: u16,
    },
}

/// A partition that changes hands between two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Move {
    /// The partition.
    pub partition: Partition,
    /// Its owner in the earlier ring.
    pub from: NodeId,
    /// Its owner in the later ring.
    pub to: NodeId,
}

impl Ring {
    /// A ring of these parts, if they keep the invariants: one that was placed elsewhere. `owners`
    /// are indices into `members`, per partition.
    pub fn new(version: u64, members: Vec<Member>, owners: Vec<u16>) -> Result<Self, InvalidRing> {
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(InvalidRing::MemberCount(members.len()));
        }
        if !members.is_sorted_by(|a, b| a.node < b.node) {
            return Err(InvalidRing::MemberOrder);
        }
        let count = u32::try_from(owners.len()).ok();
        if count.and_then(|count| PartitionCount::new(count).ok()).is_none() {
            return Err(InvalidRing::PartitionCount(owners.len()));
        }
        let mut owns = vec![false; members.len()];
        for (partition, &owner) in (0..).zip(&owners) {
            match owns.get_mut(usize::from(owner)) {
                Some(owns) => *owns = true,
                None => return Err(InvalidRing::Owner { partition, owner }),
            }
        }
        let nodes = members.iter().map(|member| member.node).collect();
        let zones = Zones::of(&members, &owns);
        let idle = (0..).zip(owns).filter(|(_, owns)| !owns).map(|(index, _)| index).collect();
        Ok(Self { version, members, owners, nodes, idle, zones })
    }

    /// The same ring, as the one that comes after it.
    pub(crate) fn next_version(mut self) -> Result<Self, PlacementError> {
        self.version = self.version.checked_add(1).ok_or(PlacementError::VersionExhausted)?;
        Ok(self)
    }

    /// This ring with `new` in the places of `old`. `None` if the one is no member, or the other is one
    /// already.
    pub fn replacing(&self, old: NodeId, new: &Member) -> Option<Self> {
        self.nodes.binary_search(&old).ok()?;
        if self.nodes.binary_search(&new.node).is_ok() {
            return None;
        }
        let mut members = self.members.clone();
        members.retain(|member| member.node != old);
        members.push(new.clone());
        members.sort_unstable_by_key(|member| member.node);
        let place = |node: NodeId| members.iter().position(|member| member.node == node);
        let owners = self.owners.iter().map(|&owner| {
            let owner = self.member(owner);
            let owner = place(if owner == old { new.node } else { owner });
            owner.and_then(|at| u16::try_from(at).ok())
        });
        let owners = owners.collect::<Option<Vec<_>>>()?;
        Self::new(self.version, members, owners).ok()
    }

    /// Position of this ring among those its cluster had, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The ids of all members, ascending.
    pub fn members(&self) -> &[NodeId] {
        &self.nodes
    }

    /// All members with weights and zones, ascending by id.
    pub fn roster(&self) -> &[Member] {
        &self.members
    }

    /// The number of partitions.
    pub fn partition_count(&self) -> PartitionCount {
        let count = u32::try_from(self.owners.len()).expect("checked when the ring was made");
        PartitionCount::new(count).expect("checked when the ring was made")
    }

    /// The partition in which `token` lies.
    pub fn partition(&self, token: Token) -> Partition {
        self.partition_count().partition(token)
    }

    /// The member to whom the placement gave `partition`; the first of its preference list.
    pub fn owner(&self, partition: Partition) -> NodeId {
        self.member(self.owner_index(self.position(partition)))
    }

    /// Whether `node` is among the first `n` of the preference list of `partition`.
    pub fn is_owner(&self, partition: Partition, n: usize, node: NodeId) -> bool {
        self.owners(partition, n).any(|owner| owner == node)
    }

    /// Per member, ascending, the number of partitions it owns.
    pub fn loads(&self) -> Vec<(NodeId, usize)> {
        let mut counts = vec![0; self.members.len()];
        for &owner in &self.owners {
            counts[usize::from(owner)] += 1;
        }
        self.nodes.iter().copied().zip(counts).collect()
    }

    /// The partitions whose owner differs in `next`, clockwise. The number of partitions never
    /// changes in a cluster; of two rings that differ in it only the common partitions compare.
    pub fn moves(&self, next: &Self) -> Vec<Move> {
        let pairs = (0..).map(Partition).zip(self.owners.iter().zip(&next.owners));
        pairs
            .map(|(partition, (&from, &to))| Move {
                partition,
                from: self.member(from),
                to: next.member(to),
            })
            .filter(|step| step.from != step.to)
            .collect()
    }

    /// What must be sent when `next` takes the place of this ring and keys have `n` owners: per
    /// partition, clockwise, each member that is to hold it and does not. `from` is one that holds
    /// it and no longer has to, or where nobody gives anything up its present owner, who keeps it.
    pub fn replica_moves(&self, next: &Self, n: usize) -> Vec<Move> {
        let count = self.owners.len().min(next.owners.len());
        let mut moves = Vec::new();
        for partition in (0..).map(Partition).take(count) {
            let before: Vec<NodeId> = self.owners(partition, n).collect();
            let after: Vec<NodeId> = next.owners(partition, n).collect();
            let mut givers = before.iter().filter(|node| !after.contains(node));
            for &to in after.iter().filter(|node| !before.contains(node)) {
                let from = givers.next().copied().unwrap_or_else(|| self.owner(partition));
                moves.push(Move { partition, from, to });
            }
        }
        moves
    }

    fn position(&self, partition: Partition) -> usize {
        // At most 65535 after the modulo, so nothing is lost on any platform.
        partition.0 as usize % self.owners.len()
    }

    /// The index of the owner `position` steps clockwise from the top, any number of times round.
    fn owner_index(&self, position: usize) -> u16 {
        // The length is a power of two.
        self.owners[position & (self.owners.len() - 1)]
    }

    fn member(&self, index: u16) -> NodeId {
        self.nodes[usize::from(index)]
    }
}

impl TryFrom<Parts> for Ring {
    type Error = InvalidRing;

    fn try_from(Parts { version, members, owners }: Parts) -> Result<Self, InvalidRing> {
        Self::new(version, members, owners)
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;

    use super::{InvalidRing, Move, Ring};
    use crate::{Member, Partition, Token, Zone};

    const A: NodeId = NodeId(10);
    const B: NodeId = NodeId(20);
    const C: NodeId = NodeId(30);
    const D: NodeId = NodeId(40);

    fn members(nodes: &[NodeId]) -> Vec<Member> {
        nodes.iter().copied().map(Member::new).collect()
    }

    fn ring(owners: &[u16]) -> Ring {
        Ring::new(1, members(&[A, B, C, D]), owners.to_vec()).unwrap()
    }

    fn first(ring: &Ring, partition: u32, n: usize) -> Vec<NodeId> {
        ring.owners(Partition(partition), n).collect()
    }

    #[test]
    fn the_walk_skips_nodes_already_listed_and_wraps_around_the_top() {
        let ring = ring(&[0, 0, 1, 2, 3, 3, 1, 1]);
        assert_eq!(ring.preference_list(Partition(0)), [A, B, C, D]);
        assert_eq!(ring.preference_list(Partition(4)), [D, B, A, C]);
        assert_eq!(ring.preference_list(Partition(7)), [B, A, C, D]);
        assert_eq!(first(&ring, 7, 3), [B, A, C]);
        assert_eq!(first(&ring, 4, 2), [D, B]);
        assert_eq!(ring.owner(Partition(5)), D);
    }

    /// A ring of A and B in zone x, C in zone y, D in none.
    fn zoned(owners: &[u16]) -> Ring {
        let mut members = members(&[A, B, C, D]);
        for (member, zone) in members.iter_mut().zip(["x", "x", "y"]) {
            member.zone = Some(Zone::new(zone).unwrap());
        }
        Ring::new(1, members, owners.to_vec()).unwrap()
    }

    #[test]
    fn a_zone_is_passed_over_until_every_other_had_its_turn() {
        let ring = zoned(&[0, 1, 1, 2, 3, 0, 1, 0]);
        assert_eq!(ring.preference_list(Partition(0)), [A, C, D, B]);
        assert_eq!(ring.preference_list(Partition(1)), [B, C, D, A]);
        assert_eq!(first(&ring, 0, 2), [A, C]);
        assert_eq!(first(&ring, 0, 3), [A, C, D]);
        assert_eq!(first(&ring, 0, 4), [A, C, D, B]);
    }

    #[test]
    fn a_zone_whose_only_member_owns_nothing_still_comes_before_another_zones_second() {
        let ring = zoned(&[0, 1, 3, 0]);
        assert_eq!(ring.preference_list(Partition(0)), [A, D, C, B]);
        assert_eq!(first(&ring, 0, 3), [A, D, C]);
    }

    #[test]
    fn replicas_move_from_those_who_give_them_up() {
        let before = ring(&[0, 1, 2, 0]);
        let after = ring(&[0, 3, 2, 0]);
        let step = |partition, from, to| Move { partition: Partition(partition), from, to };
        let moves = [step(0, B, D), step(1, B, D), step(3, B, D)];
        assert_eq!(before.replica_moves(&after, 2), moves);
        assert_eq!(before.replica_moves(&before, 2), []);
    }

    #[test]
    fn a_replica_more_is_copied_from_the_owner() {
        let before = Ring::new(1, members(&[A]), vec![0, 0]).unwrap();
        let after = Ring::new(2, members(&[A, B]), vec![0, 1]).unwrap();
        let step = |partition| Move { partition: Partition(partition), from: A, to: B };
        assert_eq!(before.replica_moves(&after, 2), [step(0), step(1)]);
    }

    #[test]
    fn members_without_a_partition_come_last_by_id() {
        let ring = ring(&[3, 1]);
        assert_eq!(ring.preference_list(Partition(0)), [D, B, A, C]);
        assert_eq!(first(&ring, 1, 3), [B, D, A]);
        assert_eq!(first(&ring, 1, 9), [B, D, A, C]);
        assert_eq!(ring.loads(), [(A, 0), (B, 1), (C, 0), (D, 1)]);
    }

    #[test]
    fn ownership_depends_on_n() {
        let ring = ring(&[0, 1, 2, 3]);
        assert!(ring.is_owner(Partition(3), 2, A));
        assert!(!ring.is_owner(Partition(3), 1, A));
        assert!(!ring.is_owner(Partition(3), 4, NodeId(99)));
        assert_eq!(first(&ring, 3, 0), []);
    }

    #[test]
    fn partition_numbers_are_cyclic() {
        let ring = ring(&[0, 1, 2, 3]);
        assert_eq!(ring.owner(Partition(5)), B);
        assert_eq!(ring.owner(Partition(u32::MAX)), D);
        assert_eq!(ring.partition(Token(u128::MAX)), Partition(3));
    }

    #[test]
    fn moves_name_partition_and_both_owners_also_when_indices_shift() {
        let before = Ring::new(1, members(&[A, C]), vec![0, 1, 0, 1]).unwrap();
        let after = Ring::new(2, members(&[A, B, C]), vec![0, 2, 1, 2]).unwrap();
        assert_eq!(before.moves(&after), [Move { partition: Partition(2), from: A, to: B }]);
        assert_eq!(before.moves(&before), []);
    }

    #[test]
    fn what_keeps_not_the_invariants_is_no_ring() {
        let ring = |nodes: &[NodeId], owners: &[u16]| {
            Ring::new(1, members(nodes), owners.to_vec()).unwrap_err()
        };
        assert_eq!(ring(&[], &[0]), InvalidRing::MemberCount(0));
        assert_eq!(ring(&[A, A], &[0, 1]), InvalidRing::MemberOrder);
        assert_eq!(ring(&[B, A], &[0, 1]), InvalidRing::MemberOrder);
        assert_eq!(ring(&[A, B], &[]), InvalidRing::PartitionCount(0));
        assert_eq!(ring(&[A, B], &[0, 1, 0]), InvalidRing::PartitionCount(3));
        assert_eq!(ring(&[A, B], &[0, 2]), InvalidRing::Owner { partition: 1, owner: 2 });
        let many: Vec<NodeId> = (0..65_536).map(NodeId).collect();
        assert_eq!(ring(&many, &[0, 1]), InvalidRing::MemberCount(65_536));
    }
}
