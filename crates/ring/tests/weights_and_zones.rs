//! What a placement promises where members have weights and zones: replica sets in distinct nodes
//! and zones, loads in proportion as far as that allows, little movement. The promises are checked
//! against definitions written out here, not against the code's own.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use ring::{Limit, Member, Partition, PartitionCount, Placement, Replacement, Ring, Weight, Zone};

/// What a node places with.
const SPREAD: usize = Ring::spread_for(3);
const PARTITIONS: usize = 4096;

/// Ids as a node's name gives them: scattered, so that order of joining is not order of ids.
fn node(number: usize) -> NodeId {
    NodeId((number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// A member; zone 0 is none.
fn member(number: usize, weight: u16, zone: usize) -> Member {
    let zone = (zone > 0).then(|| Zone::new(format!("zone{zone}")).expect("a short name"));
    Member {
        node: node(number),
        weight: Weight::new(weight).expect("tests name weights in bounds"),
        zone,
    }
}

fn place(members: &[Member], previous: Option<&Ring>) -> Placement {
    Ring::place(members, PartitionCount::default(), SPREAD, previous).expect("members are distinct")
}

/// Placements of 1, 2, … `last` members joining one by one, of these weights and zones in turn.
fn growing(last: usize, weights: &[u16], zones: &[usize]) -> Vec<Placement> {
    let mut members = Vec::new();
    let mut placements: Vec<Placement> = Vec::new();
    for number in 0..last {
        members.push(member(number, weights[number % weights.len()], zones[number % zones.len()]));
        placements.push(place(&members, placements.last().map(|placement| &placement.ring)));
    }
    placements
}

/// Per member, the partitions that it holds with three owners each.
fn held(ring: &Ring) -> BTreeMap<NodeId, usize> {
    let mut held: BTreeMap<NodeId, usize> = ring.members().iter().map(|&node| (node, 0)).collect();
    for owner in ring.partition_count().iter().flat_map(|partition| ring.owners(partition, SPREAD))
    {
        *held.entry(owner).or_default() += 1;
    }
    held
}

/// Per member, the partitions that it can hold with three owners each: all where there are no more members.
fn possible(placement: &Placement) -> impl Iterator<Item = (NodeId, f64)> {
    let is_few = placement.shares.len() <= SPREAD;
    let copies = move |possible| if is_few { PARTITIONS as f64 } else { SPREAD as f64 * possible };
    placement.shares.iter().map(move |share| (share.node, copies(share.possible)))
}

/// Replicas held by the fullest member, beside what is possible for it.
fn heaviest(placement: &Placement) -> f64 {
    let held = held(&placement.ring);
    possible(placement).map(|(node, possible)| held[&node] as f64 / possible).fold(0.0, f64::max)
}

/// Replicas that a ring which gives each its possible share must send, and those really sent.
fn least_and_moved(before: &Ring, after: &Placement) -> (f64, f64) {
    let held = held(before);
    let lacks = possible(after).map(|(node, possible)| {
        let has = held.get(&node).copied().unwrap_or(0) as f64;
        (possible - has).max(0.0)
    });
    (lacks.sum(), before.replica_moves(&after.ring, SPREAD).len() as f64)
}

/// Of the windows of three consecutive partitions, across the top too, those in which `unit` of
/// the owner has fewer different values than `least`.
fn poor_windows<T: Ord>(ring: &Ring, least: usize, unit: impl Fn(NodeId) -> T) -> usize {
    let count = ring.partition_count().get();
    let units = |start: u32| -> BTreeSet<T> {
        (start..).take(SPREAD).map(|p| unit(ring.owner(Partition(p % count)))).collect()
    };
    (0..count).filter(|&start| units(start).len() < least).count()
}

fn zone_of(ring: &Ring) -> impl Fn(NodeId) -> Option<Zone> {
    let zones: BTreeMap<NodeId, Option<Zone>> =
        ring.roster().iter().map(|member| (member.node, member.zone.clone())).collect();
    move |node| zones[&node].clone()
}

/// As many zones as a replica set of three can be in.
fn zones_max(ring: &Ring) -> usize {
    let zones: BTreeSet<_> = ring.roster().iter().map(|member| &member.zone).collect();
    zones.len().min(SPREAD)
}

/// What always holds: owners distinct, in all zones there can be, also where the ring closes.
fn check_replica_sets(ring: &Ring) {
    let zone_of = zone_of(ring);
    for partition in ring.partition_count().iter() {
        let owners: BTreeSet<NodeId> = ring.owners(partition, SPREAD).collect();
        assert_eq!(owners.len(), SPREAD.min(ring.members().len()));
        let zones: BTreeSet<_> = owners.into_iter().map(&zone_of).collect();
        assert!(zones.len() >= zones_max(ring).min(SPREAD), "{partition:?}: {zones:?}");
    }
}

/// Checks every placement of a growing ring: replica sets, windows, balance; and gives the worst
/// movement of the joins from `from` members on.
fn check_growth(placements: &[Placement], from: usize, heaviest_max: f64) -> f64 {
    for placement in &placements[SPREAD..] {
        let ring = &placement.ring;
        let members = ring.members().len();
        check_replica_sets(ring);
        // Two windows reach over the top, where a round of three does not close.
        assert!(poor_windows(ring, SPREAD, |node| node) <= 2, "{members} members");
        assert!(poor_windows(ring, zones_max(ring), zone_of(ring)) <= 2, "{members} members");
        let heaviest = heaviest(placement);
        assert!(heaviest <= heaviest_max, "{members} members: {heaviest}");
    }
    let pairs = placements.windows(2).skip(from - 1);
    pairs.fold(0.0, |worst, pair| {
        let (least, moved) = least_and_moved(&pair[0].ring, &pair[1]);
        worst.max(moved / least)
    })
}

#[test]
fn weights_of_one_two_and_four_are_followed_from_three_to_a_hundred_nodes() {
    for weights in [[1, 2, 4], [4, 2, 1]] {
        let placements = growing(100, &weights, &[0]);
        assert!(check_growth(&placements, 3, 1.06) <= 1.05);
        // From nine members on nobody is due more than one of three partitions.
        assert!(placements[8..].iter().all(|placement| placement.limits.is_empty()));
    }
}

#[test]
fn two_three_and_five_zones_joined_in_turn_are_balanced() {
    for (zones, from, moved_max) in
        [(&[1, 2][..], 8, 1.02), (&[1, 2, 3], 3, 1.02), (&[1, 2, 3, 4, 5], 7, 1.05)]
    {
        let moved = check_growth(&growing(60, &[1], zones), from, 1.02);
        assert!(moved <= moved_max, "{zones:?}: {moved}");
    }
}

/// A zone that comes near a third of all can only own nearly every third partition: that is another
/// ring, however it is made, and a join that brings it there moves more.
#[test]
fn uneven_zones_and_mixed_weights_are_balanced_and_joins_move_at_most_half_more() {
    let mixes: [(&[u16], &[usize]); 6] = [
        (&[1], &[1, 2, 2]),
        (&[1], &[1, 2, 3, 3, 3, 2]),
        (&[1], &[1, 2, 3, 4]),
        (&[1], &[1, 2, 3, 3, 4, 2, 3]),
        (&[1, 2, 4, 2, 1], &[1, 2, 3]),
        (&[1, 2, 4, 2, 1], &[1, 2, 3, 4, 5, 6]),
    ];
    for (weights, zones) in mixes {
        let moved = check_growth(&growing(40, weights, zones), 4, 1.02);
        assert!(moved <= 1.5, "{weights:?} {zones:?}: {moved}");
    }
}

#[test]
fn a_member_due_more_than_one_of_three_is_limited_and_said_to_be() {
    let weights = [9, 1, 1, 1, 1];
    let members: Vec<Member> = (0..5).map(|number| member(number, weights[number], 0)).collect();
    let placement = place(&members, None);
    let Limit::Member { node: limited, due, possible } = placement.limits[0] else {
        panic!("{:?}", placement.limits)
    };
    assert_eq!((limited, placement.limits.len()), (node(0), 1));
    assert_eq!(due, PARTITIONS as f64 * 9.0 / 13.0);
    assert!((1365.0..=1366.0).contains(&possible), "{possible}");
    // It holds a replica of everything but one: 4,096 is not three times anything.
    assert_eq!(held(&placement.ring)[&node(0)], PARTITIONS - 1);
    assert_eq!(poor_windows(&placement.ring, SPREAD, |node| node), 0);
}

/// One member and five, in two zones: every replica set of three has to have the one, so it holds
/// everything, twice its due; the other five share the two other replicas evenly.
#[test]
fn the_only_member_of_one_of_two_zones_holds_everything() {
    let members: Vec<Member> =
        (0..6).map(|number| member(number, 1, if number == 0 { 1 } else { 2 })).collect();
    let placement = place(&members, None);
    check_replica_sets(&placement.ring);
    let held = held(&placement.ring);
    assert_eq!(held[&node(0)], PARTITIONS);
    for number in 1..6 {
        let fair = 2.0 * PARTITIONS as f64 / 5.0;
        assert!((held[&node(number)] as f64 - fair).abs() <= 4.0, "{held:?}");
    }
    let zone = Some(Zone::new("zone2").unwrap());
    assert!(matches!(&placement.limits[..], [Limit::Zone { zone: of, .. }] if *of == zone));
}

/// From four members on weights count where keys have three owners: as far as none holds anything twice.
#[test]
fn weights_of_few_members_are_followed_as_far_as_copies_can_be() {
    for members in 4..=7 {
        for heavy in 0..members {
            let roster = |weight: u16| -> Vec<Member> {
                let weight = |number| if number == heavy { weight } else { 1 };
                (0..members).map(|number| member(number, weight(number), 0)).collect()
            };
            let before = place(&roster(1), None);
            for weight in [2, 9] {
                let after = place(&roster(weight), Some(&before.ring));
                let held = held(&after.ring);
                for share in after.copies(SPREAD) {
                    let has = held[&share.node] as f64;
                    assert!(
                        (has - share.possible).abs() <= 3.0 + 0.05 * share.possible,
                        "{members} members, weight {weight}: {has} of {share:?}"
                    );
                }
                let total: f64 = after.copies(SPREAD).iter().map(|share| share.possible).sum();
                assert!((total - 3.0 * PARTITIONS as f64).abs() < 0.01, "{total}");
                let heaviest = held[&node(heavy)];
                assert!(weight == 2 || heaviest >= PARTITIONS - 1, "{members} members: {heaviest}");
            }
        }
    }
}

#[test]
fn three_members_of_any_weights_hold_everything_and_the_heavy_one_is_said_to_be_limited() {
    let members: Vec<Member> =
        [1, 1, 4].iter().enumerate().map(|(number, &weight)| member(number, weight, 0)).collect();
    let placement = place(&members, None);
    assert!(held(&placement.ring).values().all(|&held| held == PARTITIONS));
    assert!(
        matches!(placement.limits[..], [Limit::Member { node: limited, .. }] if limited == node(2))
    );
}

#[test]
fn another_weight_moves_what_it_must() {
    let mut members: Vec<Member> =
        (0..12).map(|number| member(number, 2, number % 3 + 1)).collect();
    let before = place(&members, None);
    members[4].weight = Weight::new(3).unwrap();
    let after = place(&members, Some(&before.ring));
    let (least, moved) = least_and_moved(&before.ring, &after);
    assert!(least > 100.0 && moved <= 1.05 * least, "{moved} of {least}");
    assert!(heaviest(&after) <= 1.02);
}

#[test]
fn a_leave_moves_hardly_more_than_the_leaver_held() {
    for zones in [[0, 0, 0], [1, 2, 3]] {
        let mut members: Vec<Member> = (0..30)
            .map(|number| member(number, [1, 2, 4][number % 4 % 3], zones[number % 3]))
            .collect();
        let mut before = place(&members, None).ring;
        while members.len() > 12 {
            members.remove(members.len() * 5 / 8);
            let after = place(&members, Some(&before));
            let (least, moved) = least_and_moved(&before, &after);
            assert!(moved <= 1.1 * least, "{} left: {moved} of {least}", members.len());
            before = after.ring;
        }
    }
}

#[test]
fn nothing_moves_when_nothing_changes() {
    for placement in growing(20, &[1, 2, 4, 2, 1], &[1, 2, 3, 4, 2]) {
        let again = place(placement.ring.roster(), Some(&placement.ring));
        assert_eq!(placement.ring.moves(&again.ring), []);
    }
}

/// What they were given here, nearly a column, brought them columns when they were placed again.
#[test]
fn members_that_are_nearly_due_columns_stand_where_they_were_placed() {
    let first = [(3, 3, 3), (4, 8, 0), (7, 3, 0), (9, 5, 1), (14, 4, 1), (15, 5, 3), (18, 6, 2)];
    let second = [
        (0, 8, 3),
        (1, 7, 2),
        (5, 4, 1),
        (6, 2, 2),
        (7, 2, 1),
        (8, 2, 2),
        (10, 6, 4),
        (11, 4, 0),
        (14, 3, 1),
        (16, 3, 1),
    ];
    let members = |of: &[(usize, u16, usize)]| -> Vec<Member> {
        of.iter().map(|&(number, weight, zone)| member(number, weight, zone)).collect()
    };
    let before = place(&members(&first), None);
    let after = place(&members(&second), Some(&before.ring));
    check_replica_sets(&after.ring);
    let again = place(&members(&second), Some(&after.ring));
    assert_eq!(after.ring.moves(&again.ring), []);
}

/// A ring of members of these zones, and the one in which the member `old` has another in its place.
fn replaced(zones: &[usize], old: usize, new: &Member) -> (Ring, Ring) {
    let members: Vec<Member> =
        zones.iter().enumerate().map(|(number, &zone)| member(number, 1, zone)).collect();
    let before = place(&members, None).ring;
    let after = before.replacing(node(old), new).expect("the one is a member, the other is not");
    check_replica_sets(&after);
    (before, after)
}

fn replacement(zones: &[usize], old: usize, new: &Member) -> Replacement {
    let (before, after) = replaced(zones, old, new);
    Replacement::of(&before, &after, (node(old), new.node), SPREAD, SPREAD).expect("it is placed")
}

#[test]
fn a_member_like_the_one_before_it_moves_its_copies_and_nothing_else() {
    let found = replacement(&[1, 2, 3, 1, 2, 3], 4, &member(9, 1, 2));
    let Replacement { poorer, beside, owns, possible, next } = found;
    assert_eq!((poorer, beside, next), (0, 0, 0));
    assert!((owns as f64 - possible).abs() < 1.0, "{owns} of {possible}");
}

#[test]
fn where_the_only_member_of_a_zone_is_replaced_from_another_zone_owners_are_in_fewer() {
    let found = replacement(&[1, 2, 3, 1, 2], 2, &member(9, 1, 1));
    assert_eq!(found.poorer, PARTITIONS);
    // The walk meets it where it met the other. Placed again, its zone owns half of them.
    assert_eq!((found.beside, found.owns), (0, PARTITIONS / 3));
    assert!((found.possible - PARTITIONS as f64 / 4.5).abs() < 1.0 && found.next > 0, "{found:?}");
}

#[test]
fn a_member_of_another_zone_in_the_place_of_one_of_several_leaves_owners_in_as_many_zones() {
    let zones = [1, 2, 3, 1, 2, 3];
    let new = member(9, 1, 1);
    let found = replacement(&zones, 2, &new);
    assert_eq!(found.poorer, 0);
    // By its definition: who holds a copy that neither it nor the one before it in its place held.
    let (before, after) = replaced(&zones, 2, &new);
    let moves = before.replica_moves(&after, SPREAD);
    let by_new = |partition| before.is_owner(partition, SPREAD, node(2));
    let beside = moves.iter().filter(|step| step.to != new.node || !by_new(step.partition)).count();
    assert_eq!(found.beside, beside);
    assert!(beside > 0 && found.next > 0, "{found:?}");
    // The next placement has all own what they are to, and moves nothing after that.
    let next = place(after.roster(), Some(&after));
    assert!(heaviest(&next) <= 1.05, "{}", heaviest(&next));
    assert_eq!(after.replica_moves(&next.ring, SPREAD).len(), found.next);
    assert_eq!(next.ring.moves(&place(after.roster(), Some(&next.ring)).ring), []);
}

#[test]
fn a_heavier_member_owns_what_the_one_before_did_until_it_is_placed_again() {
    let found = replacement(&[0; 8], 3, &member(9, 2, 0));
    assert_eq!((found.poorer, found.beside, found.owns), (0, 0, PARTITIONS / 8));
    assert!((found.possible - 2.0 * PARTITIONS as f64 / 9.0).abs() < 1.0, "{found:?}");
    assert!(found.next > 1_000, "{found:?}");
    // Also where none of the others has much that it is not due.
    let found = replacement(&[0; 100], 3, &member(100, 2, 0));
    assert!(found.next > 100, "{found:?}");
}

/// The preference list by its definition: of those not listed, one of a zone with fewest listed,
/// the first that the walk meets; members without partitions are met last.
fn preferred_one_by_one(ring: &Ring, from: Partition) -> Vec<NodeId> {
    let zone_of = zone_of(ring);
    let count = ring.partition_count().get();
    let mut met: Vec<NodeId> =
        (0..count).map(|steps| ring.owner(Partition((from.0 + steps) % count))).collect();
    met.extend(ring.members());
    let mut list: Vec<NodeId> = Vec::new();
    while list.len() < ring.members().len() {
        let listed =
            |node: &NodeId| list.iter().filter(|other| zone_of(**other) == zone_of(*node)).count();
        let next = met.iter().copied().filter(|node| !list.contains(node)).min_by_key(listed);
        list.push(next.expect("not all are listed"));
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_preference_list_takes_zones_in_turn(
        roster in btree_map(0_usize..40, (1_u16..9, 0_usize..5), 1..12),
        size in 0_u32..6,
    ) {
        let members: Vec<Member> =
            roster.into_iter().map(|(number, (weight, zone))| member(number, weight, zone)).collect();
        let count = PartitionCount::new(1 << size).unwrap();
        let ring = Ring::place(&members, count, SPREAD, None).unwrap().ring;
        for partition in count.iter() {
            let list = ring.preference_list(partition);
            prop_assert_eq!(&list, &preferred_one_by_one(&ring, partition));
            for n in 0..=members.len() + 1 {
                let owners: Vec<NodeId> = ring.owners(partition, n).collect();
                prop_assert_eq!(&owners, &list[..n.min(list.len())]);
            }
        }
    }

    /// Members come, go and change, several at once, with any weights and zones.
    #[test]
    fn any_history_leaves_replica_sets_apart_and_loads_as_even_as_can_be(
        steps in vec(btree_map(0_usize..24, (1_u16..9, 0_usize..5), 1..24), 1..5),
    ) {
        let mut ring: Option<Ring> = None;
        for roster in steps {
            let members: Vec<Member> =
                roster.into_iter().map(|(number, (weight, zone))| member(number, weight, zone)).collect();
            let mut backwards = members.clone();
            backwards.reverse();
            let placement = place(&members, ring.as_ref());
            prop_assert_eq!(&placement, &place(&backwards, ring.as_ref()));
            check_replica_sets(&placement.ring);
            // Two windows reach over the top, where a round of three does not close.
            if members.len() > SPREAD {
            prop_assert!(poor_windows(&placement.ring, SPREAD, |node| node) <= 2);
            let zoned = poor_windows(&placement.ring, zones_max(&placement.ring), zone_of(&placement.ring));
            prop_assert!(zoned <= 2, "{zoned}");
            }
            let heaviest = heaviest(&placement);
            prop_assert!(heaviest <= 1.15, "{heaviest}: {:?}", placement.ring.roster());
            // Placed again, nothing moves: a commit that changes nothing has nothing to do.
            let again = place(&members, Some(&placement.ring));
            prop_assert_eq!(placement.ring.moves(&again.ring), []);
            ring = Some(placement.ring);
        }
    }

    /// Whoever takes whose place, its zone and weight: owners are distinct and in all zones there can be, and
    /// placed again, they are so for good.
    #[test]
    fn any_member_in_anothers_place_leaves_replica_sets_apart(
        roster in btree_map(0_usize..24, (1_u16..9, 0_usize..5), 1..24),
        old in 0_usize..24,
        weight in 1_u16..9,
        zone in 0_usize..5,
    ) {
        let members: Vec<Member> =
            roster.into_iter().map(|(number, (weight, zone))| member(number, weight, zone)).collect();
        let before = place(&members, None).ring;
        let (old, new) = (members[old % members.len()].node, member(24, weight, zone));
        let after = before.replacing(old, &new).unwrap();
        check_replica_sets(&after);
        let found = Replacement::of(&before, &after, (old, new.node), SPREAD, SPREAD).unwrap();
        let next = place(after.roster(), Some(&after)).ring;
        check_replica_sets(&next);
        prop_assert_eq!(found.next, after.replica_moves(&next, SPREAD).len());
        prop_assert_eq!(next.moves(&place(next.roster(), Some(&next)).ring), []);
    }

    /// Small rings, any spread: no panic, and everybody who can own something is preferred once.
    #[test]
    fn any_members_can_be_placed(
        size in 0_u32..8,
        spread in 0_usize..9,
        steps in vec(btree_map(0_usize..14, (1_u16..1001, 0_usize..6), 1..14), 1..4),
    ) {
        let count = PartitionCount::new(1 << size).unwrap();
        let mut ring: Option<Ring> = None;
        for roster in steps {
            let members: Vec<Member> =
                roster.into_iter().map(|(number, (weight, zone))| member(number, weight, zone)).collect();
            let placement = Ring::place(&members, count, spread, ring.as_ref()).unwrap();
            let loads: usize = placement.ring.loads().into_iter().map(|(_, load)| load).sum();
            prop_assert_eq!(loads, 1 << size);
            let possible: f64 = placement.shares.iter().map(|share| share.possible).sum();
            prop_assert!((possible - f64::from(count.get())).abs() < 0.01, "{possible}");
            ring = Some(placement.ring);
        }
    }
}
