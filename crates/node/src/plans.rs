//! Plans: what members as gossip has them change of who is to own the partitions.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use membership::MemberState;
use replication::{Flow, Part, PlanChange, RequestError};
use ring::{CommitError, Member, Ownership, Plan, Replacement, Ring, Stage, Weight, Zone};
use wire::{HandoverStatus, MemberStatus};

use crate::shares::unmet_shares;

/// What `members` change of the target. One that owns partitions and that gossip has not told of stays.
pub(crate) fn change(
    ownership: &Ownership,
    members: &[MemberStatus],
) -> Result<PlanChange, RequestError> {
    let roster = ownership.target().ring().roster();
    let mut change = PlanChange::default();
    for status in members {
        let placed = roster.iter().find(|member| member.node == status.node);
        match status.state {
            MemberState::Joining | MemberState::Up => {
                let member = member(status)?;
                if placed != Some(&member) {
                    change.put.push(member);
                }
            }
            MemberState::Leaving if placed.is_some() => change.leave.push(status.node),
            MemberState::Leaving | MemberState::Expected => (),
            // Nobody waits for it, not even one that left and owns something all the same.
            MemberState::Left | MemberState::Removed => {
                if ownership.members().binary_search(&status.node).is_ok() {
                    change.remove.push(status.node);
                }
            }
        }
    }
    Ok(change)
}

/// One member in the place of another, which is gone for good; nothing else changes.
pub(crate) fn replacement(
    ownership: &Ownership,
    members: &[MemberStatus],
    dead: &str,
    by: &str,
) -> Result<PlanChange, RequestError> {
    let refused = |why: String| Err(RequestError::Membership(why));
    let find = |name: &str| members.iter().find(|status| status.name == name);
    let Some(old) = find(dead) else { return refused(no_member(members, dead)) };
    let Some(new) = find(by) else { return refused(no_member(members, by)) };
    let roster = ownership.target().ring().roster();
    let is_placed = |node: NodeId| roster.iter().any(|member| member.node == node);
    if !is_placed(old.node) {
        return refused(format!("{dead:?} owns no partitions: there is nothing to take over"));
    }
    if is_placed(new.node) {
        return refused(format!(
            "{by:?} owns partitions already: only a member that owns none takes another's places"
        ));
    }
    if !matches!(new.state, MemberState::Joining | MemberState::Up) {
        let state = new.state.word();
        return refused(format!(
            "{by:?} is {state}: only a member that joins takes another's places"
        ));
    }
    Ok(PlanChange {
        put: vec![member(new)?],
        leave: Vec::new(),
        remove: vec![old.node],
        replace: vec![(old.node, new.node)],
    })
}

/// What to say of a name that no member has.
pub(crate) fn no_member(members: &[MemberStatus], name: &str) -> String {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    format!("there is no member {name:?}; there are {}", names.join(", "))
}

fn member(status: &MemberStatus) -> Result<Member, RequestError> {
    let invalid = |error: &dyn std::fmt::Display| {
        RequestError::Membership(format!("member {:?}: {error}", status.name))
    };
    let weight = Weight::new(status.weight).map_err(|error| invalid(&error))?;
    let zone = status.zone.clone().map(Zone::new).transpose().map_err(|error| invalid(&error))?;
    Ok(Member { node: status.node, weight, zone })
}

/// The plan that has the change, where keys have `n` owners unless their bucket says otherwise; none if there is
/// nothing to change.
pub(crate) fn planned(
    ownership: &Ownership,
    change: &PlanChange,
    n: u8,
) -> Result<Option<Plan>, RequestError> {
    let members = change.members(ownership.target().ring().roster());
    match ownership.commit_replacing(&change.replace, &members, Ring::spread_for(n), &change.remove)
    {
        Ok(plan) => Ok(Some(plan)),
        Err(CommitError::Unchanged { .. }) => Ok(None),
        Err(error) => Err(RequestError::Plan(error.to_string())),
    }
}

/// What an administrator may not expect. Of members that take the places of others: with another zone more may
/// move, and owners be in fewer zones; with another weight they own less or more than they are due. Else of what
/// is too heavy beside the others to be given its due.
pub(crate) fn warnings(
    ownership: &Ownership,
    plan: &Plan,
    change: &PlanChange,
    n: u8,
    names: &BTreeMap<NodeId, String>,
) -> Vec<String> {
    let (before, after) = (ownership.target().ring(), plan.ring());
    let member = |ring: &Ring, node: NodeId| {
        ring.roster().iter().find(|member| member.node == node).cloned()
    };
    let (n, spread) = (usize::from(n), Ring::spread_for(n));
    let mut warnings = Vec::new();
    if change.replace.is_empty() {
        // That it cannot be placed again is said when it is to be.
        let placed = Ring::place(after.roster(), after.partition_count(), spread, Some(after));
        warnings.extend(placed.iter().flat_map(|placed| unmet_shares(placed, n, names)));
    }
    for &(old, new) in &change.replace {
        let (Some(was), Some(is)) = (member(before, old), member(after, new)) else { continue };
        if (was.weight, &was.zone) == (is.weight, &is.zone) {
            continue;
        }
        let Ok(found) = Replacement::of(before, after, (old, new), n, spread) else { continue };
        let name = |node: NodeId| names.get(&node).cloned().unwrap_or_else(|| node.to_string());
        warnings.extend(misfits((&name(old), &was), (&name(new), &is), before, &found));
    }
    warnings
}

/// What is to be said of one that takes the places of another which had another zone or weight.
fn misfits(
    (old, was): (&str, &Member),
    (new, is): (&str, &Member),
    before: &Ring,
    found: &Replacement,
) -> Vec<String> {
    let Replacement { poorer, beside, owns, possible, next } = found;
    let count = before.partition_count().get();
    let zone = |member: &Member| {
        let zone = member.zone.as_ref();
        zone.map_or_else(|| "names no zone".to_owned(), |zone| format!("is in zone {zone}"))
    };
    let mut warnings = Vec::new();
    if was.zone != is.zone {
        let zones = format!("{new:?} {}, unlike {old:?}, which {}", zone(is), zone(was));
        if *poorer > 0 {
            let back = was.zone.as_ref().map_or_else(String::new, |zone| {
                format!("; a member in zone {zone} brings that back")
            });
            warnings.push(format!(
                "{zones}: the owners of {poorer} of {count} partitions are in fewer zones than before{back}"
            ));
        }
        if *beside > 0 {
            warnings.push(format!(
                "{zones}: {beside} copies move beside those that it takes from {old:?}, so that owners are in as many \
                 zones as there are"
            ));
        }
        if (*poorer, *beside) == (0, 0) {
            warnings.push(format!("{zones}: owners are in as many zones as before"));
        }
    }
    let has_share = (*owns as f64 - possible).abs() < 1.0;
    if was.weight != is.weight {
        let share = if has_share {
            "as many as it can own beside these members".to_owned()
        } else {
            format!("where its share would be {possible:.0}")
        };
        warnings.push(format!(
            "{new:?} has weight {}, and {old:?} had {}: it takes its places all the same, {owns} partitions, {share}",
            is.weight.get(),
            was.weight.get()
        ));
    }
    warnings.push(match next {
        0 if has_share => "`merganser cluster commit` would change nothing of that".to_owned(),
        0 => "the next `merganser cluster commit` would have all own what weights and zones allow, and move no copies"
            .to_owned(),
        _ => format!(
            "the next `merganser cluster commit` would move {next} copies, for all to own what weights and zones allow"
        ),
    });
    warnings
}

/// How far partitions have followed the target, given what the node has a part in.
pub(crate) fn handover(ownership: &Ownership, flows: &[Flow]) -> HandoverStatus {
    let there = Stage::Steady { plan: ownership.target().id() };
    let partitions = ownership.partition_count().iter();
    let moving = partitions.filter(|&partition| ownership.tenure(partition).stage != there);
    let mut status = HandoverStatus {
        partitions_moving: u32::try_from(moving.count()).unwrap_or(u32::MAX),
        ..HandoverStatus::default()
    };
    let mut waits_for = BTreeSet::new();
    for flow in flows {
        let count = match flow.part {
            Part::Receiving => &mut status.receiving,
            Part::Driving => &mut status.driving,
            Part::Departing => &mut status.departing,
        };
        *count = u32::try_from(flow.partitions).unwrap_or(u32::MAX);
        waits_for.extend(flow.waits.keys().filter_map(|(_, on)| *on));
    }
    status.waits_for = waits_for.into_iter().collect();
    status
}

#[cfg(test)]
mod tests {
    use membership::{Liveness, Load};
    use ring::PartitionCount;

    use super::*;

    fn status(id: u64, state: MemberState, weight: u16) -> MemberStatus {
        MemberStatus {
            node: NodeId(id),
            name: format!("n{id}"),
            peer_address: String::new(),
            zone: None,
            weight,
            state,
            liveness: Liveness::Reachable,
            phi: 0.0,
            generation: 1,
            version: String::new(),
            connected: true,
            messages: Some(9),
            cut: false,
            partitions: 0,
            copies: 0,
            pending: 0,
            pending_bytes: 0,
            load: Load::default(),
        }
    }

    /// What is said where 3, of members in these zones, is replaced by one of this zone and weight.
    fn warned<const N: usize>(zones: [&str; N], zone: &str, weight: u16) -> Vec<String> {
        let placed = |(id, zone): (u64, &str)| MemberStatus {
            zone: Some(zone.to_owned()),
            ..status(id, MemberState::Up, 1)
        };
        let mut all: Vec<MemberStatus> = (1..).zip(zones).map(placed).collect();
        let members: Vec<Member> = all.iter().map(|status| member(status).unwrap()).collect();
        let count = PartitionCount::new(64).unwrap();
        let ring = Ring::place(&members, count, Ring::spread_for(3), None).unwrap().ring;
        let ownership = Ownership::new(ring);
        all.push(MemberStatus { weight, ..placed((99, zone)) });
        let change = replacement(&ownership, &all, "n3", "n99").unwrap();
        let plan = planned(&ownership, &change, 3).unwrap().unwrap();
        let names = all.iter().map(|status| (status.node, status.name.clone())).collect();
        // It owns what the one before it did, whatever is said.
        let load = |ring: &Ring, id| ring.loads().iter().find(|(of, _)| of.0 == id).unwrap().1;
        assert_eq!(load(plan.ring(), 99), load(ownership.target().ring(), 3));
        warnings(&ownership, &plan, &change, 3, &names)
    }

    #[test]
    fn a_member_like_the_one_whose_places_it_takes_is_no_matter_of_words() {
        assert_eq!(warned(["x", "y", "z", "x", "y"], "z", 1), [""; 0]);
    }

    #[test]
    fn a_replacement_that_takes_a_zone_away_says_so_and_what_brings_it_back() {
        let said = warned(["x", "y", "z", "x", "y"], "x", 1);
        assert_eq!(
            said[0],
            "\"n99\" is in zone x, unlike \"n3\", which is in zone z: the owners of 64 of 64 partitions are in fewer \
             zones than before; a member in zone z brings that back"
        );
    }

    #[test]
    fn a_replacement_from_another_zone_says_what_moves_beside_it() {
        let said = warned(["x", "y", "z", "z", "y"], "x", 1);
        assert!(
            said[0].contains(" copies move beside those that it takes from \"n3\""),
            "{said:?}"
        );
        assert_eq!(said.len(), 2, "{said:?}");
    }

    #[test]
    fn a_replacement_of_another_weight_says_what_it_is_due_and_what_a_commit_would_do() {
        let said = warned(["x"; 3], "x", 4);
        // Three of three hold everything.
        assert!(said[0].ends_with("21 partitions, where its share would be 32"), "{said:?}");
        assert!(
            said[1].ends_with("all own what weights and zones allow, and move no copies"),
            "{said:?}"
        );
        let said = warned(["x"; 8], "x", 4);
        assert!(said[0].ends_with(" 8 partitions, where its share would be 22"), "{said:?}");
        assert!(said[1].starts_with("the next `merganser cluster commit` would move "), "{said:?}");
    }

    /// What is said where `n2` of so many members gets this weight.
    fn weighed(members: u64, weight: u16) -> Vec<String> {
        let ids: Vec<u64> = (1..=members).collect();
        let all: Vec<MemberStatus> = ids
            .iter()
            .map(|&id| status(id, MemberState::Up, if id == 2 { weight } else { 1 }))
            .collect();
        let ownership = ownership(&ids);
        let change = change(&ownership, &all).unwrap();
        let plan = planned(&ownership, &change, 3).unwrap().unwrap();
        let names = all.iter().map(|status| (status.node, status.name.clone())).collect();
        warnings(&ownership, &plan, &change, 3, &names)
    }

    #[test]
    fn a_weight_that_cannot_have_its_share_is_told_of_with_what_it_gets_and_why() {
        assert_eq!(
            weighed(3, 2),
            [
                "\"n2\" is too heavy beside the others: it gets 8 copies of partitions, and 12 are due to its weight 2: \
              each of 3 members holds everything, as keys have 3 owners; more members change that"
            ]
        );
        assert_eq!(weighed(5, 2), [""; 0]);
        let said = weighed(5, 9);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with("weight 9: no member holds a partition twice"), "{said:?}");
    }

    fn ownership(ids: &[u64]) -> Ownership {
        let members: Vec<Member> = ids.iter().map(|&id| Member::new(NodeId(id))).collect();
        Ownership::new(
            Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring,
        )
    }

    #[test]
    fn a_plan_follows_what_gossip_says_of_each_member() {
        let ownership = ownership(&[1, 2, 3, 4, 9]);
        let members = [
            status(1, MemberState::Up, 1),
            status(2, MemberState::Up, 7),
            status(3, MemberState::Leaving, 1),
            status(4, MemberState::Removed, 1),
            status(5, MemberState::Joining, 2),
            status(6, MemberState::Leaving, 1),
            status(7, MemberState::Removed, 1),
            // It is named once it is there.
            status(8, MemberState::Expected, 1),
        ];
        let change = change(&ownership, &members).unwrap();
        let put: Vec<(u64, u16)> =
            change.put.iter().map(|member| (member.node.0, member.weight.get())).collect();
        assert_eq!(put, [(2, 7), (5, 2)]);
        assert_eq!(
            (change.leave.clone(), change.remove.clone()),
            (vec![NodeId(3)], vec![NodeId(4)])
        );
        let plan = planned(&ownership, &change, 3).unwrap().unwrap();
        // Nothing is known of 9 here: it stays.
        assert_eq!(plan.ring().members(), [1, 2, 5, 9].map(NodeId));
        assert_eq!(plan.removed(), [NodeId(4)]);
    }

    #[test]
    fn there_is_no_plan_where_members_are_those_of_the_target() {
        let ownership = ownership(&[1, 2]);
        let members = [status(1, MemberState::Up, 1), status(2, MemberState::Joining, 1)];
        let change = change(&ownership, &members).unwrap();
        assert_eq!(planned(&ownership, &change, 3), Ok(None));
        assert_eq!(handover(&ownership, &[]), HandoverStatus::default());
    }

    #[test]
    fn what_moves_is_counted_until_it_has_moved() {
        let mut ownership = ownership(&[1]);
        let change = change(&ownership, &[status(2, MemberState::Joining, 1)]).unwrap();
        ownership.add_plan(planned(&ownership, &change, 3).unwrap().unwrap());
        // n is 3 and there are two: the new one gets a copy of each.
        assert_eq!(ownership.movement(3), BTreeMap::from([(NodeId(2), (8, 0))]));
        assert_eq!(handover(&ownership, &[]).partitions_moving, 8);
    }
}
