//! What a plan is to change and what comes of it, for an administrator: beside `plans`, which makes it.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use replication::PlanChange;
use ring::{Member, Ownership, Partition, Plan, Ring, Zone};
use wire::{MemberStatus, PlanReport, PlannedMember, Staged, StagedChange};

/// What `plan` changes of `ownership`; without one, how things stand.
pub(crate) fn of(
    ownership: &Ownership,
    plan: Option<&Plan>,
    change: &PlanChange,
    n: u8,
    members: &[MemberStatus],
) -> PlanReport {
    let mut after = Ownership::clone(ownership);
    if let Some(plan) = plan {
        after.add_plan(plan.clone());
    }
    let owners = usize::from(n);
    let (now, next) = (ownership.target().ring(), after.target().ring());
    let movement = after.movement(owners);
    let held = held(owners, ownership, |ownership, partition| ownership.leaving(partition));
    let owned = self::held(owners, &after, |ownership, _| ownership.target().ring());
    let fair = fair(next, owners);
    let name = |node: NodeId| {
        let member = members.iter().find(|member| member.node == node);
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    };
    let all: BTreeSet<NodeId> =
        held.keys().chain(next.members()).chain(movement.keys()).copied().collect();
    let planned = all.into_iter().map(|node| {
        let by_plan = placed(next, node);
        let zone = by_plan.or_else(|| placed(now, node)).and_then(|member| member.zone.as_ref());
        let (gets, gives) = movement.get(&node).copied().unwrap_or_default();
        PlannedMember {
            name: name(node),
            zone: zone.map(|zone| zone.as_str().to_owned()),
            weight: by_plan.map(|member| member.weight.get()),
            before: held.get(&node).copied().unwrap_or(0),
            after: owned.get(&node).copied().unwrap_or(0),
            gets,
            gives,
            fair: fair.get(&node).copied().unwrap_or(0.0),
        }
    });
    let mut planned: Vec<PlannedMember> = planned.collect();
    planned.sort_by(|one, other| one.name.cmp(&other.name));
    let mut report = PlanReport {
        version: after.target().id().version,
        is_changed: plan.is_some(),
        partitions: ownership.partition_count().get(),
        n,
        staged: staged(now, next, change, &name),
        members: planned,
        bytes: None,
        narrow: (
            narrow(ownership, owners, now, |partition| ownership.leaving(partition)),
            narrow(ownership, owners, next, |_| next),
        ),
        warnings: Vec::new(),
    };
    report.bytes = bytes(&report, members, &held, &name);
    report
}

/// How many copies each node owns.
pub(crate) fn held<'a>(
    n: usize,
    ownership: &'a Ownership,
    ring: impl Fn(&'a Ownership, Partition) -> &'a Ring,
) -> BTreeMap<NodeId, u32> {
    let mut held = BTreeMap::new();
    for partition in ownership.partition_count().iter() {
        for node in ring(ownership, partition).owners(partition, n) {
            *held.entry(node).or_default() += 1;
        }
    }
    held
}

fn placed(ring: &Ring, node: NodeId) -> Option<&Member> {
    ring.roster().iter().find(|member| member.node == node)
}

fn staged(
    now: &Ring,
    next: &Ring,
    change: &PlanChange,
    name: &impl Fn(NodeId) -> String,
) -> Vec<StagedChange> {
    let mut staged = Vec::new();
    let mut add = |node, change| staged.push(StagedChange { name: name(node), change });
    for &node in &change.leave {
        add(node, Staged::Leaves);
    }
    for &node in &change.remove {
        add(node, Staged::IsRemoved);
    }
    for member in next.roster() {
        let replaced = change.replace.iter().find(|(_, by)| *by == member.node);
        match (placed(now, member.node), replaced) {
            (None, Some(&(dead, _))) => add(member.node, Staged::Replaces(name(dead))),
            (None, None) => add(member.node, Staged::Joins),
            (Some(was), _) => {
                let zone = |zone: &Option<Zone>| zone.as_ref().map(|zone| zone.as_str().to_owned());
                if was.weight != member.weight {
                    let (from, to) = (was.weight.get(), member.weight.get());
                    add(member.node, Staged::Weight { from, to });
                }
                if was.zone != member.zone {
                    let (from, to) = (zone(&was.zone), zone(&member.zone));
                    add(member.node, Staged::Zone { from, to });
                }
            }
        }
    }
    staged.sort_by(|one: &StagedChange, other| one.name.cmp(&other.name));
    staged
}

/// Copies that each member's weight is due: none can own more than one of each partition, and what is beyond that
/// others share.
fn fair(ring: &Ring, n: usize) -> BTreeMap<NodeId, f64> {
    let count = f64::from(ring.partition_count().get());
    let mut fair = BTreeMap::new();
    let mut left = count * n.min(ring.members().len()) as f64;
    let mut open: Vec<&Member> = ring.roster().iter().collect();
    // The heaviest first: once one is not full, none after it is.
    open.sort_by_key(|member| std::cmp::Reverse(member.weight));
    let mut weights: f64 = open.iter().map(|member| f64::from(member.weight.get())).sum();
    for member in open {
        let weight = f64::from(member.weight.get());
        let share = (left * weight / weights).min(count);
        (left, weights) = (left - share, weights - weight);
        fair.insert(member.node, share);
    }
    fair
}

/// Partitions whose owners are in fewer zones than `roster`'s members allow. Members that name no zone count as one zone
/// together, as they do in the placement.
fn narrow<'a>(
    ownership: &Ownership,
    n: usize,
    roster: &Ring,
    ring: impl Fn(Partition) -> &'a Ring,
) -> u32 {
    let zones: BTreeMap<NodeId, Option<&Zone>> =
        roster.roster().iter().map(|member| (member.node, member.zone.as_ref())).collect();
    let different: BTreeSet<Option<&Zone>> = zones.values().copied().collect();
    let possible = different.len().min(n);
    let is_narrow = |&partition: &Partition| {
        let ring = ring(partition);
        // One that owns it still may be none of the roster's any more.
        let before = |node| placed(ring, node).and_then(|member| member.zone.as_ref());
        let zone = |node| zones.get(&node).copied().unwrap_or_else(|| before(node));
        let found: BTreeSet<Option<&Zone>> = ring.owners(partition, n).map(zone).collect();
        found.len() < possible
    };
    u32::try_from(ownership.partition_count().iter().filter(is_narrow).count()).unwrap_or(u32::MAX)
}

/// About how many bytes move: as many a copy as members store for each that they own.
fn bytes(
    report: &PlanReport,
    members: &[MemberStatus],
    held: &BTreeMap<NodeId, u32>,
    name: &impl Fn(NodeId) -> String,
) -> Option<u64> {
    let (mut stored, mut copies) = (0_u128, 0_u128);
    for (&node, &count) in held {
        let member = members.iter().find(|member| member.node == node)?;
        let gives = report.members.iter().any(|it| it.name == name(node) && it.gives > 0);
        match member.load.stored_bytes {
            0 if gives => return None,
            0 => {}
            bytes => (stored, copies) = (stored + u128::from(bytes), copies + u128::from(count)),
        }
    }
    let moved = stored * u128::from(report.copies());
    moved.checked_div(copies).and_then(|bytes| u64::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use membership::{Liveness, Load, MemberState};
    use ring::PartitionCount;

    use super::*;
    use crate::plans;

    fn status(id: u64, state: MemberState, weight: u16, zone: Option<&str>) -> MemberStatus {
        MemberStatus {
            node: NodeId(id),
            name: format!("n{id}"),
            peer_address: String::new(),
            zone: zone.map(str::to_owned),
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
            load: Load { stored_bytes: 3_000_000, requests_per_second: 0 },
        }
    }

    fn ownership(zones: &[Option<&str>]) -> Ownership {
        let member = |(id, zone): (u64, &Option<&str>)| Member {
            zone: zone.map(|zone| Zone::new(zone).unwrap()),
            ..Member::new(NodeId(id))
        };
        let members: Vec<Member> = (1..).zip(zones).map(member).collect();
        let count = PartitionCount::new(64).unwrap();
        Ownership::new(Ring::place(&members, count, Ring::spread_for(3), None).unwrap().ring)
    }

    fn report(ownership: &Ownership, members: &[MemberStatus]) -> PlanReport {
        let change = plans::change(ownership, members).unwrap();
        let plan = plans::planned(ownership, &change, 3).unwrap();
        of(ownership, plan.as_ref(), &change, 3, members)
    }

    #[test]
    fn a_join_a_leave_and_a_weight_are_said_with_what_moves_and_how_even_it_gets() {
        let ownership = ownership(&[None; 4]);
        let up = |id, weight| status(id, MemberState::Up, weight, None);
        let leaving = status(4, MemberState::Leaving, 1, None);
        let joining = status(5, MemberState::Joining, 1, None);
        let members = [up(1, 1), up(2, 2), up(3, 1), leaving, joining];
        let report = report(&ownership, &members);
        let staged = [
            ("n2", Staged::Weight { from: 1, to: 2 }),
            ("n4", Staged::Leaves),
            ("n5", Staged::Joins),
        ];
        let staged = staged.map(|(name, change)| StagedChange { name: name.into(), change });
        assert_eq!(report.staged, staged);
        assert_eq!((report.version, report.is_changed, report.n), (2, true, 3));
        for member in &report.members {
            assert_eq!(member.before + member.gets - member.gives, member.after, "{member:?}");
        }
        let [.., leaves, joins] = &report.members[..] else { panic!("{report:?}") };
        assert_eq!((leaves.weight, leaves.after, leaves.gives), (None, 0, leaves.before));
        assert_eq!((joins.weight, joins.before, joins.after), (Some(1), 0, joins.gets));
        // Three copies of 64 partitions: one of each for the heavier one, the rest for three.
        let fair = |at: usize| report.members[at].fair.round();
        assert_eq!([fair(0), fair(1), fair(2), fair(3), fair(4)], [43.0, 64.0, 43.0, 0.0, 43.0]);
        // Each of 192 copies is about 12,000,000 / 192 bytes.
        assert_eq!(report.bytes, Some(report.copies() * 12_000_000 / 192));
        let silent = members.map(|member| MemberStatus { load: Load::default(), ..member });
        assert_eq!(self::report(&ownership, &silent).bytes, None);
    }

    #[test]
    fn where_nothing_is_staged_it_says_how_things_stand() {
        let ownership = ownership(&[None; 4]);
        let members: Vec<_> = (1..=4).map(|id| status(id, MemberState::Up, 1, None)).collect();
        let report = report(&ownership, &members);
        assert_eq!((report.is_changed, report.staged.len(), report.copies()), (false, 0, 0));
        assert_eq!(report.members.iter().map(|member| member.after).sum::<u32>(), 3 * 64);
    }

    #[test]
    fn partitions_with_owners_in_too_few_zones_are_counted_before_and_after() {
        let mut ownership = ownership(&[Some("x"), Some("x"), Some("y")]);
        let member = |(id, zone)| status(id, MemberState::Up, 1, Some(zone));
        let members: Vec<_> = (1..).zip(["x", "x", "y", "z"]).map(member).collect();
        assert_eq!(report(&ownership, &members[..3]).narrow, (0, 0), "there are no more zones");
        assert_eq!(report(&ownership, &members).narrow, (0, 0), "nor were there before");
        // Now there are, and nobody has followed the plan that goes by them.
        let change = plans::change(&ownership, &members).unwrap();
        ownership.add_plan(plans::planned(&ownership, &change, 3).unwrap().unwrap());
        assert_eq!(report(&ownership, &members).narrow, (64, 0));
    }
}
