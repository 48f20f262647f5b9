//! Shares: how many partitions each member should own.
//!
//! In proportion to weight, as far as distinct owners allow: with any `spread` consecutive
//! partitions apart, a member can own one in `spread` of them, a zone `limit` times as many. What
//! is too much for one falls to the others in proportion to their weights.

use std::cmp::Reverse;

/// A member as far as its share goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrant {
    pub(super) weight: u16,
    /// The number of its zone.
    pub(super) zone: u16,
}

/// What can be held at most. `zones` has an entry for every zone number.
#[derive(Clone, Debug)]
pub(super) struct Caps<T> {
    pub(super) member: T,
    pub(super) zones: Vec<T>,
}

/// Per zone, how many of any `spread` consecutive partitions it may own: as few as possible, so
/// that the loss of a zone takes as few replicas as possible, yet enough for all zones together to
/// own them. `sizes` are the zones' numbers of members; together they must reach `spread`.
pub(super) fn zone_limits(sizes: &[usize], spread: usize) -> Vec<usize> {
    let within = |most: usize| sizes.iter().map(move |&size| size.min(most));
    let most = (1..=spread).find(|&most| within(most).sum::<usize>() >= spread).unwrap_or(spread);
    within(most).collect()
}

/// `total` partitions in proportion to weights, and what exceeds a cap to the others.
///
/// A share that is over its cap now stays so when others' excess is added, so each round fixes
/// those that are, until none is.
pub(super) fn shares(entrants: &[Entrant], total: f64, caps: &Caps<f64>) -> Vec<f64> {
    let mut member_full = vec![false; entrants.len()];
    let mut zone_full = vec![false; caps.zones.len()];
    let unit = loop {
        let mut rest = total;
        let mut weight = 0.0;
        for (zone, cap) in caps.zones.iter().enumerate() {
            if zone_full[zone] {
                rest -= cap;
            }
        }
        let open = |entrant: &Entrant| !zone_full[usize::from(entrant.zone)];
        for (entrant, full) in
            entrants.iter().zip(&member_full).filter(|(entrant, _)| open(entrant))
        {
            if *full {
                rest -= caps.member;
            } else {
                weight += f64::from(entrant.weight);
            }
        }
        if weight == 0.0 {
            break 0.0;
        }
        let unit = rest / weight;
        let mut changed = false;
        let mut sums = vec![0.0; caps.zones.len()];
        for (entrant, full) in entrants.iter().zip(&mut member_full) {
            let share = unit * f64::from(entrant.weight);
            if !*full && !zone_full[usize::from(entrant.zone)] && share > caps.member {
                *full = true;
                changed = true;
            }
            sums[usize::from(entrant.zone)] += if *full { caps.member } else { share };
        }
        for (zone, full) in zone_full.iter_mut().enumerate() {
            if !*full && sums[zone] > caps.zones[zone] {
                *full = true;
                changed = true;
            }
        }
        if !changed {
            break unit;
        }
    };
    let mut shares: Vec<f64> = entrants
        .iter()
        .zip(&member_full)
        .map(|(entrant, &full)| if full { caps.member } else { unit * f64::from(entrant.weight) })
        .collect();
    for (zone, &cap) in caps.zones.iter().enumerate().filter(|&(zone, _)| zone_full[zone]) {
        let within: Vec<usize> =
            (0..entrants.len()).filter(|&at| usize::from(entrants[at].zone) == zone).collect();
        let alone: Vec<Entrant> =
            within.iter().map(|&at| Entrant { zone: 0, ..entrants[at] }).collect();
        let caps = Caps { member: caps.member, zones: vec![f64::INFINITY] };
        for (at, share) in within.into_iter().zip(self::shares(&alone, cap, &caps)) {
            shares[at] = share;
        }
    }
    shares
}

/// Whole numbers that sum up to `total` for shares that do. What does not divide goes to those that
/// have most already beyond the whole part of their share, so that least moves.
pub(super) fn quotas(
    entrants: &[Entrant],
    shares: &[f64],
    total: usize,
    caps: &Caps<usize>,
    loads: &[usize],
) -> Vec<usize> {
    // A share is at most 65,536, so that nothing is lost.
    let mut quotas: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let mut zones = vec![0; caps.zones.len()];
    for (entrant, quota) in entrants.iter().zip(&quotas) {
        zones[usize::from(entrant.zone)] += quota;
    }
    let mut heaviest: Vec<usize> = (0..entrants.len()).collect();
    let beyond = |at: usize| loads[at].cast_signed() - quotas[at].cast_signed();
    heaviest.sort_by_key(|&at| Reverse(beyond(at)));
    let mut left = total.saturating_sub(quotas.iter().sum());
    let mut heed_caps = true;
    while left > 0 {
        let before = left;
        for &at in &heaviest {
            let zone = usize::from(entrants[at].zone);
            let room = quotas[at] < caps.member && zones[zone] < caps.zones[zone];
            if left > 0 && (room || !heed_caps) {
                quotas[at] += 1;
                zones[zone] += 1;
                left -= 1;
            }
        }
        heed_caps &= left < before;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::{Caps, Entrant, quotas, shares, zone_limits};

    fn entrants<const N: usize>(of: [(u16, u16); N]) -> [Entrant; N] {
        of.map(|(weight, zone)| Entrant { weight, zone })
    }

    #[test]
    fn a_zone_may_own_as_few_of_a_replica_set_as_the_others_allow() {
        assert_eq!(zone_limits(&[5, 1, 1], 3), [1, 1, 1]);
        assert_eq!(zone_limits(&[4, 4], 3), [2, 2]);
        assert_eq!(zone_limits(&[1, 5], 3), [1, 2]);
        assert_eq!(zone_limits(&[1, 9], 5), [1, 4], "the lone member can be in it once");
        assert_eq!(zone_limits(&[9], 3), [3]);
    }

    #[test]
    fn shares_follow_weights_up_to_the_caps() {
        let caps = Caps { member: 40.0, zones: vec![f64::INFINITY] };
        assert_eq!(shares(&entrants([(1, 0), (2, 0), (1, 0)]), 80.0, &caps), [20.0, 40.0, 20.0]);
        assert_eq!(shares(&entrants([(1, 0), (4, 0), (1, 0)]), 90.0, &caps), [25.0, 40.0, 25.0]);
        // What the first cannot hold takes the second over its cap.
        assert_eq!(shares(&entrants([(9, 0), (6, 0), (1, 0)]), 90.0, &caps), [40.0, 40.0, 10.0]);
    }

    #[test]
    fn a_full_zone_shares_what_it_may_by_weight() {
        let caps = Caps { member: 30.0, zones: vec![30.0, 60.0] };
        let shares = shares(&entrants([(1, 0), (3, 0), (1, 1), (1, 1)]), 60.0, &caps);
        assert_eq!(shares, [7.5, 22.5, 15.0, 15.0]);
    }

    #[test]
    fn what_does_not_divide_stays_where_it_is() {
        let caps = Caps { member: 9, zones: vec![99] };
        let three = entrants([(1, 0); 3]);
        let thirds = [10.0 / 3.0; 3];
        assert_eq!(quotas(&three, &thirds, 10, &caps, &[2, 4, 4]), [3, 4, 3]);
        let tight = Caps { member: 3, zones: vec![99] };
        assert_eq!(quotas(&three, &thirds, 9, &tight, &[2, 4, 4]), [3, 3, 3]);
    }
}
