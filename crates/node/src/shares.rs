//! What is said of members and zones that a placement cannot give what is due to their weights.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Limit, Placement};

/// A sentence for each member or zone that is given less than is due to its weight, with what it is given and why.
/// In copies of partitions, where keys have `n` owners.
pub fn unmet_shares(
    placement: &Placement,
    n: usize,
    names: &BTreeMap<NodeId, String>,
) -> Vec<String> {
    let copies = placement.copies(n);
    let roster = placement.ring.roster();
    let count = f64::from(placement.ring.partition_count().get());
    // Less than the copies of one partition is rounding.
    let is_unmet = |due: f64, possible: f64| due - possible >= n as f64;
    let mut said = Vec::new();
    let mut limited = BTreeSet::new();
    for limit in &placement.limits {
        match limit {
            Limit::Member { node, .. } => {
                limited.insert(*node);
            }
            Limit::Zone { zone, .. } => {
                let of_zone = copies.iter().zip(roster).filter(|(_, member)| member.zone == *zone);
                let of_zone = of_zone.map(|(share, _)| share);
                let due: f64 = of_zone.clone().map(|share| share.due).sum();
                let possible: f64 = of_zone.map(|share| share.possible).sum();
                if is_unmet(due, possible) {
                    let zone = zone.as_ref();
                    said.push(format!(
                        "{} is too heavy beside the others: it gets {possible:.0} copies of partitions, and {due:.0} \
                         are due to its weights, since owners are in as many zones as there are; its members hold \
                         less, and others more",
                        zone.map_or("what names no zone".into(), |zone| format!("zone {zone}"))
                    ));
                }
            }
        }
    }
    for (share, member) in
        copies.iter().zip(roster).filter(|(share, _)| is_unmet(share.due, share.possible))
    {
        let why = if roster.len() <= n {
            format!(
                "each of {} members holds everything, as keys have {n} owners; more members change that",
                roster.len()
            )
        } else if share.possible > count - n as f64 {
            // Every third partition, or the like: one more or less where the rounds do not close.
            "no member holds a partition twice".to_owned()
        } else if limited.contains(&member.node) {
            "partitions next to each other have other owners".to_owned()
        } else {
            // What its zone lacks, or what another could not have, was said.
            continue;
        };
        let name = names.get(&member.node).cloned().unwrap_or_else(|| member.node.to_string());
        said.push(format!(
            "{name:?} is too heavy beside the others: it gets {:.0} copies of partitions, and {:.0} are due to its \
             weight {}: {why}",
            share.possible,
            share.due,
            member.weight.get()
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use ring::{Member, PartitionCount, Ring, Weight, Zone};

    use super::*;

    /// What is said of members with these weights and zones, where keys have `n` owners.
    fn said<const N: usize>(of: [(u16, &str); N], n: usize) -> Vec<String> {
        let member = |(id, (weight, zone)): (u64, (u16, &str))| Member {
            weight: Weight::new(weight).unwrap(),
            zone: (!zone.is_empty()).then(|| Zone::new(zone).unwrap()),
            ..Member::new(NodeId(id))
        };
        let members: Vec<Member> = (1..).zip(of).map(member).collect();
        let count = PartitionCount::new(64).unwrap();
        let placement = Ring::place(&members, count, Ring::spread_for(3), None).unwrap();
        let names = members.iter().map(|member| (member.node, format!("n{}", member.node.0)));
        unmet_shares(&placement, n, &names.collect())
    }

    #[test]
    fn nothing_is_said_where_all_have_their_due() {
        assert_eq!(said([(1, ""); 3], 3), [""; 0]);
        assert_eq!(said([(1, ""), (2, ""), (1, ""), (1, ""), (1, "")], 3), [""; 0]);
        assert_eq!(said([(2, "x"), (2, "y"), (2, "z"), (2, "x"), (2, "y"), (2, "z")], 3), [""; 0]);
        // Of two owners a member can have its half.
        assert_eq!(said([(1, ""), (2, ""), (1, "")], 2), [""; 0]);
    }

    #[test]
    fn of_no_more_members_than_owners_each_holds_everything_whatever_its_weight() {
        assert_eq!(
            said([(1, ""), (2, ""), (1, "")], 3),
            [
                "\"n2\" is too heavy beside the others: it gets 64 copies of partitions, and 96 are due to its weight 2: \
              each of 3 members holds everything, as keys have 3 owners; more members change that"
            ]
        );
    }

    #[test]
    fn a_member_due_more_than_one_copy_of_each_partition_gets_one_of_each() {
        assert_eq!(
            said([(9, ""), (1, ""), (1, ""), (1, "")], 3),
            [
                "\"n1\" is too heavy beside the others: it gets 64 copies of partitions, and 144 are due to its weight 9: \
              no member holds a partition twice"
            ]
        );
        // Also where keys have more owners than partitions next to each other have.
        let said_of_five = said([(2, ""), (1, ""), (1, ""), (1, ""), (1, ""), (1, "")], 5);
        assert_eq!(said_of_five.len(), 1, "{said_of_five:?}");
        assert!(said_of_five[0].contains("it gets 64 copies of partitions, and 91 are due"));
    }

    #[test]
    fn a_member_that_keys_with_one_owner_give_one_of_three_partitions_is_told_of() {
        let said = said([(9, ""), (1, ""), (1, ""), (1, "")], 1);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("it gets 22 copies of partitions, and 48 are due"), "{said:?}");
        assert!(said[0].ends_with("partitions next to each other have other owners"), "{said:?}");
    }

    #[test]
    fn a_zone_that_would_be_in_a_replica_set_too_often_is_told_of() {
        let said = said([(1, "x"), (1, "x"), (1, "x"), (1, "y")], 3);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(
                "zone x is too heavy beside the others: it gets 129 copies of partitions, and 144 are due to its weights"
            ),
            "{said:?}"
        );
    }
}
