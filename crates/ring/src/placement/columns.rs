//! Columns: where a zone or a member is due as much as it can hold at all.
//!
//! With `spread` s, the partitions at one remainder modulo s are a *column*. A zone that may own
//! one of every s consecutive partitions and is due a part of nearly 1/s can only own a column, or
//! hardly less; to look for such an assignment step by step would rearrange the ring again and
//! again. So it is given the column, those it leaves share the others, and what then is tight
//! among them is given columns in turn. Within its columns a group goes on as if it were alone.
//!
//! Q is no multiple of most s, so columns do not close at the top of the ring: there a repetition
//! may stay, past which a preference list walks.

use std::cmp::Reverse;

use super::shares::{Caps, Entrant, shares};

/// The part of what it can hold at most from which a zone or member is given columns. A guess: up
/// to there, going step by step moved less in trials.
const TIGHT: f64 = 0.95;
/// The part below which it has to give them up again: so much above its due that no heavier load
/// than 1.15 of what is due follows.
const LOOSE: f64 = 0.88;

/// Members that share some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Indices, ascending.
    pub(super) members: Vec<u16>,
    /// Remainders modulo the spread.
    pub(super) columns: Vec<usize>,
    /// Per zone, how many of these columns it may own.
    pub(super) limits: Vec<usize>,
}

impl Group {
    /// All members and all columns.
    pub(super) fn whole(member_count: usize, spread: usize, limits: &[usize]) -> Self {
        Self {
            members: (0..).take(member_count).collect(),
            columns: (0..spread).collect(),
            limits: limits.to_vec(),
        }
    }
}

/// Divides the members into groups with columns of their own. One group of all if nothing is tight.
///
/// `limits` says how many of `spread` consecutive partitions each zone may own; `kept` who has each
/// partition now, so that columns go to those who have most of them.
pub(super) fn groups(
    entrants: &[Entrant],
    limits: &[usize],
    spread: usize,
    kept: &[Option<u16>],
) -> Vec<Group> {
    let mut open = vec![Group::whole(entrants.len(), spread, limits)];
    let mut done = Vec::new();
    while let Some(group) = open.pop() {
        match tight(entrants, &group, spread, kept) {
            Some(part) => open.extend(split(entrants, group, &part, spread, kept)),
            None => done.push(group),
        }
    }
    done
}

/// Who of a group is to have columns of its own, and how many.
struct Tight {
    members: Vec<u16>,
    width: usize,
}

/// A zone, or else a member, that is due nearly all it can hold of the group's columns. None if it
/// is alone there already.
fn tight(
    entrants: &[Entrant],
    group: &Group,
    spread: usize,
    kept: &[Option<u16>],
) -> Option<Tight> {
    let inside: Vec<Entrant> =
        group.members.iter().map(|&member| entrants[usize::from(member)]).collect();
    let width = group.columns.len();
    // A column counts as one partition here.
    let limits = &group.limits;
    let caps = Caps { member: 1.0, zones: limits.iter().map(|&limit| limit as f64).collect() };
    let shares = shares(&inside, width as f64, &caps);
    let is_tight = |share: f64, tight: &Tight| {
        let part = share / tight.width as f64;
        part >= TIGHT || part >= LOOSE && has_columns(tight, spread, kept)
    };
    let mut sums = vec![0.0; limits.len()];
    for (entrant, share) in inside.iter().zip(&shares) {
        sums[usize::from(entrant.zone)] += share;
    }
    let zones = (0..limits.len()).filter(|&zone| (1..width).contains(&limits[zone]));
    let zones = zones.map(|zone| {
        let of_zone = |member: &u16| usize::from(entrants[usize::from(*member)].zone) == zone;
        let members = group.members.iter().copied().filter(of_zone).collect();
        (sums[zone], Tight { members, width: limits[zone] })
    });
    let members = group.members.iter().zip(&shares);
    let members = members
        .filter(|_| width > 1)
        .map(|(&member, &share)| (share, Tight { members: vec![member], width: 1 }));
    zones.chain(members).find(|(share, tight)| is_tight(*share, tight)).map(|(_, tight)| tight)
}

/// Whether the present ring gives these members columns already: they have nearly all of some, and
/// nearly nothing else.
fn has_columns(tight: &Tight, spread: usize, kept: &[Option<u16>]) -> bool {
    let mut counts = vec![0; spread];
    for (position, owner) in kept.iter().enumerate() {
        if owner.is_some_and(|owner| tight.members.contains(&owner)) {
            counts[position % spread] += 1;
        }
    }
    counts.sort_unstable_by_key(|&count| Reverse(count));
    let inside: usize = counts[..tight.width].iter().sum();
    let nearly = |part: usize, whole: usize| part * 100 >= whole * 98;
    nearly(inside, tight.width * (kept.len() / spread)) && nearly(inside, counts.iter().sum())
}

/// Divides a group's members and columns into those of `part` and the rest.
fn split(
    entrants: &[Entrant],
    group: Group,
    part: &Tight,
    spread: usize,
    kept: &[Option<u16>],
) -> [Group; 2] {
    let mut gains = vec![0_isize; spread];
    for (position, owner) in kept.iter().enumerate() {
        let gain = match owner {
            Some(owner) if part.members.contains(owner) => 1,
            Some(owner) if group.members.contains(owner) => -1,
            _ => 0,
        };
        gains[position % spread] += gain;
    }
    let mut columns = group.columns;
    columns.sort_by_key(|&column| (-gains[column], column));
    let mut rest = columns.split_off(part.width);
    columns.sort_unstable();
    rest.sort_unstable();
    // Alone with its columns, a zone no longer limits itself.
    let own = vec![part.width; group.limits.len()];
    let mut limits = group.limits;
    let first = entrants[usize::from(part.members[0])].zone;
    limits[usize::from(first)] -= part.width.min(limits[usize::from(first)]);
    limits.iter_mut().for_each(|limit| *limit = rest.len().min(*limit));
    let others = group.members.into_iter().filter(|member| !part.members.contains(member));
    let others = Group { members: others.collect(), columns: rest, limits };
    [Group { members: part.members.clone(), columns, limits: own }, others]
}

#[cfg(test)]
mod tests {
    use super::{Entrant, Group, groups};

    fn entrants(of: &[(u16, u16)]) -> Vec<Entrant> {
        of.iter().map(|&(weight, zone)| Entrant { weight, zone }).collect()
    }

    /// Who shares which columns, by first member.
    fn divided(
        entrants: &[Entrant],
        limits: &[usize],
        kept: &[Option<u16>],
    ) -> Vec<(Vec<u16>, Vec<usize>)> {
        let groups = groups(entrants, limits, 3, kept).into_iter();
        let mut groups: Vec<_> =
            groups.map(|Group { members, columns, .. }| (members, columns)).collect();
        groups.sort_unstable();
        groups
    }

    #[test]
    fn as_many_zones_as_the_spread_have_a_column_each() {
        let three = entrants(&[(1, 0), (1, 1), (1, 2), (1, 0)]);
        let kept = [None, None, Some(0), Some(1), None, Some(3), Some(1)];
        assert_eq!(
            divided(&three, &[1, 1, 1], &kept),
            [(vec![0, 3], vec![2]), (vec![1], vec![0]), (vec![2], vec![1])]
        );
    }

    #[test]
    fn a_member_too_heavy_for_the_others_has_a_column_and_they_share_the_rest() {
        let heavy = entrants(&[(1, 0), (9, 0), (1, 0), (1, 0), (1, 0)]);
        assert_eq!(
            divided(&heavy, &[3], &[None; 16]),
            [(vec![0, 2, 3, 4], vec![1, 2]), (vec![1], vec![0])]
        );
    }

    #[test]
    fn a_zone_due_two_of_three_leaves_the_other_a_column() {
        let two = entrants(&[(1, 0), (1, 1), (1, 1), (1, 1), (1, 1)]);
        assert_eq!(
            divided(&two, &[1, 2], &[None; 16]),
            [(vec![0], vec![0]), (vec![1, 2, 3, 4], vec![1, 2])]
        );
    }

    #[test]
    fn where_nothing_is_tight_there_is_one_group() {
        let even = entrants(&[(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)]);
        assert_eq!(divided(&even, &[1; 5], &[None; 16]), [(vec![0, 1, 2, 3, 4], vec![0, 1, 2])]);
    }
}
