//! The walk: from a partition clockwise over distinct members.
//!
//! Within a zone members come in the order in which the walk meets them. Of several zones, the
//! first met of each come before the second met of any, these before the third, and so on; those
//! of one rank come as met. Members that own nothing are met last, ascending by id. With one zone
//! that is the plain walk.

use std::collections::BTreeMap;

use clock::NodeId;

use super::Ring;
use crate::{Member, Partition, Zone};

/// Which members fail together. Made only where there are at least two zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zones {
    /// Per member, the number of its zone.
    of: Vec<u16>,
    /// Per zone, how many members it has.
    sizes: Vec<usize>,
    /// How many zones have a member that owns a partition.
    owning_count: usize,
}

impl Zones {
    /// The zones of `members`, of which those own that `owns` says; `None` if there is only one.
    pub(super) fn of(members: &[Member], owns: &[bool]) -> Option<Self> {
        let mut numbers: BTreeMap<Option<&Zone>, u16> = BTreeMap::new();
        for member in members {
            let next = u16::try_from(numbers.len()).expect("not more zones than members");
            numbers.entry(member.zone.as_ref()).or_insert(next);
        }
        if numbers.len() < 2 {
            return None;
        }
        let of: Vec<u16> = members.iter().map(|member| numbers[&member.zone.as_ref()]).collect();
        let mut sizes = vec![0; numbers.len()];
        let mut owning = vec![false; numbers.len()];
        for (&zone, &owns) in of.iter().zip(owns) {
            sizes[usize::from(zone)] += 1;
            owning[usize::from(zone)] |= owns;
        }
        let owning_count = owning.into_iter().filter(|&owns| owns).count();
        Some(Self { of, sizes, owning_count })
    }
}

impl Ring {
    /// The owners of the keys of `partition`: the first `n` of its preference list, or all members
    /// where there are fewer.
    ///
    /// Allocates nothing, unless `n` exceeds the number of zones where there are several, and costs
    /// about n² comparisons of neighbours in memory; meant for the small n of a bucket. For the
    /// whole list take [`Ring::preference_list`].
    pub fn owners(&self, partition: Partition, n: usize) -> impl Iterator<Item = NodeId> + '_ {
        let start = self.position(partition);
        let (zones, met, ranked) = match &self.zones {
            // The first met of each zone are all of them.
            Some(zones) if n <= zones.owning_count => (Some(zones), n, Vec::new()),
            Some(zones) => (None, 0, self.ranked(zones, start, n)),
            None => (None, n, Vec::new()),
        };
        let owning_count = self.members.len() - self.idle.len();
        let unit = move |position| {
            let owner = self.owner_index(position);
            zones.map_or(owner, |zones| zones.of[usize::from(owner)])
        };
        (0..self.owners.len())
            .filter(move |&steps| {
                let here = unit(start + steps);
                // Within `spread` the placement has no repetition, and few beyond it, so this scan stays short.
                (0..steps).all(|earlier| unit(start + earlier) != here)
            })
            .map(move |steps| self.owner_index(start + steps))
            .take(owning_count.min(met))
            .chain(self.idle.iter().copied().take(met.saturating_sub(owning_count)))
            .chain(ranked)
            .map(|index| self.member(index))
    }

    /// All members in the order in which they would serve a key of `partition`: its owners, then
    /// the fallbacks, walking clockwise over distinct nodes and preferring zones with fewer listed;
    /// members that own no partition are met last, ascending, so that the list is total.
    pub fn preference_list(&self, partition: Partition) -> Vec<NodeId> {
        let start = self.position(partition);
        let indices = match &self.zones {
            Some(zones) => self.ranked(zones, start, self.members.len()),
            None => {
                let mut indices = Vec::with_capacity(self.members.len());
                self.meet(start, |index| {
                    indices.push(index);
                    true
                });
                indices
            }
        };
        indices.into_iter().map(|index| self.member(index)).collect()
    }

    /// The first `n` of the walk with zones, which needs no further step once each of the first
    /// ranks is full.
    fn ranked(&self, zones: &Zones, start: usize, n: usize) -> Vec<u16> {
        let n = n.min(self.members.len());
        // Per rank, who was met.
        let mut ranks: Vec<Vec<u16>> = Vec::new();
        let mut met = vec![0; zones.sizes.len()];
        let mut wanted = n;
        let mut rooms = Vec::new();
        for rank in 0.. {
            if wanted == 0 {
                break;
            }
            let room = zones.sizes.iter().filter(|&&size| size > rank).count().min(wanted);
            rooms.push(room);
            wanted -= room;
        }
        let mut missing = n;
        self.meet(start, |index| {
            let rank = &mut met[usize::from(zones.of[usize::from(index)])];
            if ranks.len() <= *rank {
                ranks.resize(*rank + 1, Vec::new());
            }
            if ranks[*rank].len() < rooms.get(*rank).copied().unwrap_or(0) {
                ranks[*rank].push(index);
                missing -= 1;
            }
            *rank += 1;
            missing > 0
        });
        ranks.concat()
    }

    /// Tells `met` of each member in the order of the plain walk, until it wants no more.
    fn meet(&self, start: usize, mut met: impl FnMut(u16) -> bool) {
        let mut seen = vec![false; self.members.len()];
        let mut unseen_count = self.members.len() - self.idle.len();
        for steps in 0..self.owners.len() {
            let owner = self.owner_index(start + steps);
            if !std::mem::replace(&mut seen[usize::from(owner)], true) {
                if !met(owner) {
                    return;
                }
                unseen_count -= 1;
                if unseen_count == 0 {
                    break;
                }
            }
        }
        for &index in &self.idle {
            if !met(index) {
                return;
            }
        }
    }
}
