//! The terms of a placement: who may own what, and how much of it.

use std::collections::BTreeMap;

use super::columns::{Group, groups};
use super::shares::{Caps, Entrant, quotas, shares, zone_limits};
use crate::{Member, Zone};

/// What follows from members, weights, zones and spread before any partition is given.
pub(super) struct Terms<'a> {
    /// Ascending by id.
    pub(super) members: &'a [Member],
    pub(super) spread: usize,
    /// Per member, its weight and zone.
    pub(super) entrants: Vec<Entrant>,
    /// Per zone, how many of `spread` consecutive partitions it may own.
    pub(super) limits: Vec<usize>,
    /// Who shares which columns.
    pub(super) groups: Vec<Group>,
    /// Per member, the number of its group.
    group_of: Vec<usize>,
    /// Per remainder modulo `spread`, the group whose column it is.
    column_of: Vec<usize>,
    /// Whether the first partition follows the last. Columns have no place for that.
    pub(super) cyclic: bool,
    /// Whether weights and zones make no difference.
    pub(super) plain: bool,
    /// Per member, the partitions that are its part.
    pub(super) shares: Vec<f64>,
    partition_count: usize,
}

impl<'a> Terms<'a> {
    /// The terms of `members` (more than `spread`, which must be feasible, or a single one) for the partitions that
    /// `kept` has, of which it names the present owners.
    pub(super) fn new(members: &'a [Member], spread: usize, kept: &[Option<u16>]) -> Self {
        let mut numbers: BTreeMap<Option<&Zone>, u16> = BTreeMap::new();
        let mut sizes = Vec::new();
        let mut entrants = Vec::with_capacity(members.len());
        for member in members {
            let next = u16::try_from(numbers.len()).expect("not more zones than members");
            let zone = *numbers.entry(member.zone.as_ref()).or_insert(next);
            sizes.resize(numbers.len(), 0);
            sizes[usize::from(zone)] += 1;
            entrants.push(Entrant { weight: member.weight.get(), zone });
        }
        let limits = zone_limits(&sizes, spread);
        let plain =
            sizes.len() == 1 && members.iter().all(|other| other.weight == members[0].weight);
        let groups = if plain {
            // Even shares settle well however tight they are.
            vec![Group::whole(members.len(), spread, &limits)]
        } else {
            groups(&entrants, &limits, spread, kept)
        };
        let mut group_of = vec![0; members.len()];
        let mut column_of = vec![0; spread];
        for (number, group) in groups.iter().enumerate() {
            for &member in &group.members {
                group_of[usize::from(member)] = number;
            }
            for &column in &group.columns {
                column_of[column] = number;
            }
        }
        let mut terms = Self {
            members,
            spread,
            entrants,
            limits,
            cyclic: false,
            plain,
            shares: vec![0.0; members.len()],
            groups,
            group_of,
            column_of,
            partition_count: kept.len(),
        };
        let most = sizes.iter().zip(&terms.limits).map(|(&size, &limit)| {
            // A zone that may own all of any `spread` partitions is limited by its members only.
            if limit == spread { size } else { limit }
        });
        let closes = most.sum::<usize>() * (kept.len() / spread) >= kept.len();
        terms.cyclic = terms.groups.len() == 1 && closes;
        for number in 0..terms.groups.len() {
            let total = terms.positions(number);
            let inside = terms.inside(number);
            let column = total as f64 / terms.groups[number].columns.len() as f64;
            let limits = terms.groups[number].limits.iter();
            let zones = limits.map(|&limit| limit as f64 * column).collect();
            let caps = Caps { member: column, zones };
            let part = shares(&inside, total as f64, &caps);
            for (&member, share) in terms.groups[number].members.iter().zip(part) {
                terms.shares[usize::from(member)] = share;
            }
        }
        terms
    }

    /// Whether the partition at `position` is in a column of `member`'s group.
    pub(super) fn is_open(&self, position: usize, member: u16) -> bool {
        self.column_of[position % self.spread] == self.group_of[usize::from(member)]
    }

    /// The zone of `member`, and how many of `spread` consecutive partitions it may own.
    pub(super) fn zone(&self, member: u16) -> (u16, usize) {
        let zone = self.entrants[usize::from(member)].zone;
        (zone, self.limits[usize::from(zone)])
    }

    /// Per member, how many of `spread` consecutive partitions its zone may own.
    pub(super) fn members_zone_limits(&self) -> impl Iterator<Item = usize> + '_ {
        self.entrants.iter().map(|entrant| self.limits[usize::from(entrant.zone)])
    }

    /// Whole numbers of partitions for members that now have `loads`.
    pub(super) fn quotas(&self, loads: &[usize]) -> Vec<usize> {
        let mut all = vec![0; self.members.len()];
        for (number, group) in self.groups.iter().enumerate() {
            let total = self.positions(number);
            let width = group.columns.len();
            // Where the ring closes, so must each round.
            let column = if self.cyclic { total / width } else { total.div_ceil(width) };
            let room = |&limit: &usize| if limit < width { limit * column } else { total };
            let zones = group.limits.iter().map(room).collect();
            let caps = Caps { member: column, zones };
            let of_group = |all: &[usize]| {
                group.members.iter().map(|&member| all[usize::from(member)]).collect::<Vec<_>>()
            };
            let loads = of_group(loads);
            let shares: Vec<f64> =
                group.members.iter().map(|&member| self.shares[usize::from(member)]).collect();
            let quotas = quotas(&self.inside(number), &shares, total, &caps, &loads);
            for (&member, quota) in group.members.iter().zip(quotas) {
                all[usize::from(member)] = quota;
            }
        }
        all
    }

    /// How many partitions a group's columns have together.
    fn positions(&self, group: usize) -> usize {
        let of_column = |&column: &usize| (column..self.partition_count).step_by(self.spread).len();
        self.groups[group].columns.iter().map(of_column).sum()
    }

    fn inside(&self, group: usize) -> Vec<Entrant> {
        let members = &self.groups[group].members;
        members.iter().map(|&member| self.entrants[usize::from(member)]).collect()
    }
}
