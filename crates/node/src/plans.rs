//! Plans: what members as gossip has them change of who is to own the partitions.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use membership::MemberState;
use replication::{OWNERS_MAX, Part, PlanChange, RequestError, Transfer};
use ring::{CommitError, Member, Ownership, Plan, Stage, Weight, Zone};
use wire::{HandoverStatus, MemberMoves, MemberStatus};

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

/// The plan that has the change; none if there is nothing to change.
pub(crate) fn planned(
    ownership: &Ownership,
    change: &PlanChange,
) -> Result<Option<Plan>, RequestError> {
    let members = change.members(ownership.target().ring().roster());
    let spread = usize::from(OWNERS_MAX);
    match ownership.commit_replacing(&change.replace, &members, spread, &change.remove) {
        Ok(plan) => Ok(Some(plan)),
        Err(CommitError::Unchanged { .. }) => Ok(None),
        Err(error) => Err(RequestError::Plan(error.to_string())),
    }
}

/// What members get and give up until all partitions follow the target.
pub(crate) fn moves(
    ownership: &Ownership,
    n: u8,
    names: &BTreeMap<NodeId, String>,
) -> Vec<MemberMoves> {
    let moves = ownership.movement(usize::from(n)).into_iter();
    let moves = moves.map(|(node, (gets, gives))| {
        let name = names.get(&node).cloned().unwrap_or_else(|| node.to_string());
        MemberMoves { name, gets, gives }
    });
    moves.collect()
}

/// How far partitions have followed the target, given what the loops have a part in.
pub(crate) fn handover<'a>(
    ownership: &Ownership,
    transfers: impl Iterator<Item = &'a Transfer>,
) -> HandoverStatus {
    let there = Stage::Steady { plan: ownership.target().id() };
    let partitions = ownership.partition_count().iter();
    let moving = partitions.filter(|&partition| ownership.tenure(partition).stage != there);
    let mut status = HandoverStatus {
        partitions_moving: u32::try_from(moving.count()).unwrap_or(u32::MAX),
        ..HandoverStatus::default()
    };
    let mut waits_for = BTreeSet::new();
    for transfer in transfers {
        match transfer.part {
            Part::Receiving => status.receiving += 1,
            Part::Driving => status.driving += 1,
            Part::Departing => status.departing += 1,
        }
        waits_for.extend(&transfer.waits_for);
    }
    status.waits_for = waits_for.into_iter().collect();
    status
}

#[cfg(test)]
mod tests {
    use membership::Liveness;
    use ring::{PartitionCount, Ring};

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
            pending: 0,
        }
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
        let plan = planned(&ownership, &change).unwrap().unwrap();
        // Nothing is known of 9 here: it stays.
        assert_eq!(plan.ring().members(), [1, 2, 5, 9].map(NodeId));
        assert_eq!(plan.removed(), [NodeId(4)]);
    }

    #[test]
    fn there_is_no_plan_where_members_are_those_of_the_target() {
        let ownership = ownership(&[1, 2]);
        let members = [status(1, MemberState::Up, 1), status(2, MemberState::Joining, 1)];
        let change = change(&ownership, &members).unwrap();
        assert_eq!(planned(&ownership, &change), Ok(None));
        assert_eq!(handover(&ownership, std::iter::empty()), HandoverStatus::default());
    }

    #[test]
    fn what_moves_is_counted_until_it_has_moved() {
        let mut ownership = ownership(&[1]);
        let change = change(&ownership, &[status(2, MemberState::Joining, 1)]).unwrap();
        ownership.add_plan(planned(&ownership, &change).unwrap().unwrap());
        let names = BTreeMap::from([(NodeId(2), "n2".to_owned())]);
        // n is 3 and there are two: the new one gets a copy of each.
        let expected = MemberMoves { name: "n2".into(), gets: 8, gives: 0 };
        assert_eq!(moves(&ownership, 3, &names), [expected]);
        assert_eq!(handover(&ownership, std::iter::empty()).partitions_moving, 8);
    }
}
