//! What comes of a member that takes exactly the places of another, and has another zone or weight.
//!
//! Partitions keep their owners but for that one. The walk prefers zones that have had no turn, so that with
//! another zone it comes to other owners of a key than before; and places say nothing of a weight.

use std::collections::BTreeSet;

use clock::NodeId;

use crate::{PlacementError, Ring, Zone};

/// What comes of it, where keys have n owners. All zero but `owns` and `possible` where zone and weight are
/// the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replacement {
    /// Partitions whose owners are in fewer zones than before.
    pub poorer: usize,
    /// Copies that move beside those of the member that is gone, or do not go to the new one.
    pub beside: usize,
    /// Partitions that the new one owns.
    pub owns: usize,
    /// Partitions that a placement would have it own, as far as that is possible.
    pub possible: f64,
    /// Copies that move when the members are placed again, as the next commit does.
    pub next: usize,
}

impl Replacement {
    /// What comes of it that in the ring `after` the second of a pair has the places that the first had in
    /// `before`. `spread` is that of the placements.
    pub fn of(
        before: &Ring,
        after: &Ring,
        (old, new): (NodeId, NodeId),
        n: usize,
        spread: usize,
    ) -> Result<Self, PlacementError> {
        let placed = Ring::place(after.roster(), after.partition_count(), spread, Some(after))?;
        let (mut poorer, mut beside) = (0, 0);
        for partition in after.partition_count().iter() {
            let had: Vec<NodeId> = before.owners(partition, n).collect();
            let has: Vec<NodeId> = after.owners(partition, n).collect();
            poorer += usize::from(zones(after, &has) < zones(before, &had));
            let takes = |node: &NodeId| if *node == new { old } else { *node };
            beside += has.iter().filter(|node| !had.contains(&takes(node))).count();
        }
        let owns = after.loads().into_iter().find(|&(node, _)| node == new);
        let share = placed.shares.iter().find(|share| share.node == new);
        Ok(Self {
            poorer,
            beside,
            owns: owns.map_or(0, |(_, load)| load),
            possible: share.map_or(0.0, |share| share.possible),
            next: after.replica_moves(&placed.ring, n).len(),
        })
    }
}

/// In how many zones the owners are.
fn zones(ring: &Ring, owners: &[NodeId]) -> usize {
    let members = ring.roster().iter().filter(|member| owners.contains(&member.node));
    members.map(|member| member.zone.as_ref()).collect::<BTreeSet<Option<&Zone>>>().len()
}
