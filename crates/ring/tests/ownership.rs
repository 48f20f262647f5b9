//! Ownership is a join-semilattice, small, and says who is read and who acknowledges at each stage.

use clock::{NodeId, decode, encode};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use ring::{
    CommitError, Member, Ownership, Partition, PartitionCount, Ring, Sequence, Stage, Tenure,
};

const SPREAD: usize = 3;

fn members(nodes: impl IntoIterator<Item = u64>) -> Vec<Member> {
    nodes.into_iter().map(|id| Member::new(NodeId(id))).collect()
}

fn cluster(nodes: u64, partitions: u32) -> Ownership {
    let count = PartitionCount::new(partitions).expect("a power of two");
    let placement = Ring::place(&members(1..=nodes), count, SPREAD, None);
    Ownership::new(placement.expect("members are distinct").ring)
}

/// The stage after the present one on the way to the target, if there is any to go.
fn next_stage(state: &Ownership, partition: Partition) -> Option<Stage> {
    let target = state.target().id();
    match state.tenure(partition).stage {
        Stage::Steady { plan } if plan == target => None,
        Stage::Steady { plan } => Some(Stage::Joint { from: plan, to: target }),
        Stage::Joint { from, to } => Some(Stage::Shifted { from, to }),
        Stage::Shifted { to, .. } => Some(Stage::Steady { plan: to }),
    }
}

/// Has the driver take a partition one stage further.
fn advance(state: &mut Ownership, partition: Partition) {
    let Some(stage) = next_stage(state, partition) else { return };
    let driver = state.driver(partition).expect("nobody is gone");
    let tenure = state.next_tenure(partition, driver, stage).expect("the plans are there");
    let joined = state.add_tenures([(partition, tenure)]);
    assert!(joined.is_changed());
}

#[derive(Clone, Debug)]
enum Step {
    Commit { at: usize, nodes: Vec<u64> },
    Advance { at: usize, partition: u32 },
    Join { from: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    (0..4_u8, 0..3_usize, 0..3_usize, 0..8_u32, vec(1..8_u64, 1..6)).prop_map(
        |(kind, at, other, partition, nodes)| match kind {
            0 => Step::Commit { at, nodes },
            1 | 2 => Step::Advance { at, partition },
            _ => Step::Join { from: other, to: at },
        },
    )
}

/// Three replicas of one cluster's state. Each partition is driven at one of them only, as one node
/// does.
fn replicas(steps: Vec<Step>) -> [Ownership; 3] {
    let mut states = [(); 3].map(|()| cluster(3, 8));
    for step in steps {
        match step {
            Step::Commit { at, mut nodes } => {
                nodes.sort_unstable();
                nodes.dedup();
                if let Ok(plan) = states[at].commit(&members(nodes), SPREAD, &[]) {
                    states[at].add_plan(plan);
                }
            }
            Step::Advance { at, partition } if partition as usize % 3 == at => {
                advance(&mut states[at], Partition(partition));
            }
            Step::Advance { .. } => {}
            Step::Join { from, to } => {
                let from = states[from].clone();
                states[to].join(&from);
            }
        }
    }
    states
}

fn joined(a: &Ownership, b: &Ownership) -> Ownership {
    let mut all = a.clone();
    let joined = all.join(b);
    assert_eq!(joined.is_changed(), all != *a);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn join_is_a_join(steps in vec(step(), 0..40)) {
        let [a, b, c] = replicas(steps);
        prop_assert_eq!(joined(&a, &a), a.clone());
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
    }

    /// Word for word what the documentation says: the greatest plan, and of each partition the
    /// tenure of the greatest sequence.
    #[test]
    fn a_join_agrees_with_its_naive_twin(steps in vec(step(), 0..40)) {
        let [a, b, _] = replicas(steps);
        let all = joined(&a, &b);
        prop_assert_eq!(all.target().id(), a.target().id().max(b.target().id()));
        for partition in all.partition_count().iter() {
            prop_assert_eq!(
                all.tenure(partition),
                [&a, &b].map(|state| state.tenure(partition)).into_iter()
                    .max_by_key(|tenure| tenure.sequence).unwrap()
            );
        }
    }

    #[test]
    fn what_was_encoded_is_decoded(steps in vec(step(), 0..40)) {
        for state in replicas(steps) {
            prop_assert_eq!(decode::<Ownership>(&encode(&state)), Ok(state));
        }
    }

    #[test]
    fn plans_that_nobody_is_owned_by_are_forgotten(steps in vec(step(), 0..40)) {
        for state in replicas(steps) {
            let target = state.target().id();
            for plan in state.plans() {
                let named = |partition| match state.tenure(partition).stage {
                    Stage::Steady { plan: id } => id == plan.id(),
                    Stage::Joint { from, to } | Stage::Shifted { from, to } => {
                        from == plan.id() || to == plan.id()
                    }
                };
                let is_named = state.partition_count().iter().any(named);
                prop_assert!(is_named || plan.id() == target);
            }
        }
    }

    /// What one stage reads acknowledges every write of the stages before and after it.
    #[test]
    fn neighbouring_stages_see_each_others_writes(steps in vec(step(), 0..40)) {
        let [mut state, ..] = replicas(steps);
        for partition in state.partition_count().iter() {
            for _ in 0..4 {
                let before = state.clone();
                advance(&mut state, partition);
                for (reader, writer) in [(&before, &state), (&state, &before)] {
                    let read = reader.present(partition);
                    let beside = writer.beside(partition);
                    prop_assert!([Some(writer.present(partition)), beside].contains(&Some(read)));
                }
            }
            prop_assert_eq!(state.present(partition), state.target().ring());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(state) = decode::<Ownership>(&bytes) {
            for partition in state.partition_count().iter() {
                state.driver(partition);
                state.entering(partition);
            }
        }
    }
}

#[test]
fn a_commit_sets_a_target_and_moves_nothing() {
    let mut state = cluster(3, 8);
    let before = state.clone();
    let plan = state.commit(&members(1..=4), SPREAD, &[]).unwrap();
    assert_eq!(state, before);
    assert!(state.add_plan(plan.clone()).is_retargeted);
    assert_eq!(state.target(), &plan);
    assert_eq!(state.members(), [1, 2, 3, 4].map(NodeId));
    assert!(!state.is_settled());
    for partition in state.partition_count().iter() {
        assert_eq!(state.present(partition), before.target().ring());
        assert_eq!(state.beside(partition), None);
        assert_eq!(state.coming(partition), Some(plan.ring()));
    }
    let again = state.commit(&members(1..=4), SPREAD, &[]);
    assert_eq!(again, Err(CommitError::Unchanged { version: 2 }));
}

#[test]
fn a_partition_goes_through_all_stages_and_the_earlier_plan_is_forgotten() {
    let mut state = cluster(3, 2);
    let first = state.target().ring().clone();
    let plan = state.commit(&members(2..=4), SPREAD, &[]).unwrap();
    let next = plan.ring().clone();
    state.add_plan(plan);
    let p = Partition(0);
    let seen = |state: &Ownership| {
        (
            state.sequence(p).0,
            state.present(p).version(),
            state.beside(p).map(Ring::version),
            state.coming(p).map(Ring::version),
        )
    };
    assert_eq!(seen(&state), (1, 1, None, Some(2)));
    assert_eq!(state.driver(p), Some(first.owner(p)));
    advance(&mut state, p);
    assert_eq!(seen(&state), (2, 1, Some(2), None));
    advance(&mut state, p);
    assert_eq!(seen(&state), (3, 2, Some(1), None));
    assert_eq!(state.driver(p), Some(first.owner(p)));
    advance(&mut state, p);
    assert_eq!(seen(&state), (4, 2, None, None));
    assert_eq!(state.driver(p), Some(next.owner(p)));
    assert_eq!(state.plans().len(), 2);
    for _ in 0..3 {
        advance(&mut state, Partition(1));
    }
    assert_eq!(state.plans().len(), 1);
    assert!(state.is_settled());
    assert_eq!(state.members(), [2, 3, 4].map(NodeId));
}

#[test]
fn who_drives_for_a_node_that_is_gone_leaves_its_sequences_behind() {
    let mut state = cluster(3, 2);
    let p = Partition(0);
    let lost = state.target().ring().owner(p);
    let others: Vec<u64> = (1..=3).filter(|&id| NodeId(id) != lost).collect();
    // What the lost one made last, nobody has heard of.
    let mut unheard = state.clone();
    let plan = state.commit(&members(others), SPREAD, &[lost]).unwrap();
    assert_eq!(plan.removed(), [lost]);
    unheard.add_plan(plan.clone());
    let (target, from) = (plan.id(), state.target().id());
    let joint = Stage::Joint { from, to: target };
    let theirs = unheard.next_tenure(p, lost, joint).unwrap();
    assert_eq!(theirs.sequence, Sequence(2));
    state.add_plan(plan);
    let driver = state.driver(p).unwrap();
    assert!(driver != lost);
    let ours = state.next_tenure(p, driver, Stage::Steady { plan: from }).unwrap();
    assert_eq!(ours.sequence, Sequence(2 << 32));
    state.add_tenures([(p, ours)]);
    assert!(!state.add_tenures([(p, theirs)]).is_changed());
    assert_eq!(state.next_tenure(p, driver, joint).unwrap().sequence, Sequence((2 << 32) + 1));
}

#[test]
fn a_tenure_of_an_unknown_plan_is_not_taken_and_that_is_said() {
    let mut ahead = cluster(3, 2);
    let plan = ahead.commit(&members(1..=4), SPREAD, &[]).unwrap();
    ahead.add_plan(plan);
    advance(&mut ahead, Partition(1));
    let mut behind = cluster(3, 2);
    let before = behind.clone();
    let joined = behind.add_tenures([(Partition(1), ahead.tenure(Partition(1)))]);
    assert!(!joined.is_changed() && joined.has_passed_over);
    assert_eq!(behind, before);
    let joined = behind.join(&ahead);
    assert_eq!((&joined.partitions[..], joined.is_retargeted), (&[Partition(1)][..], true));
    assert!(!joined.has_passed_over);
    // What is no later than what it has it lacks nothing of.
    assert!(!behind.add_tenures([(Partition(1), ahead.tenure(Partition(1)))]).has_passed_over);
    assert_eq!(behind, ahead);
}

/// What a peer sends is written into a note, which must decode at the next start.
#[test]
fn a_handover_from_a_plan_to_itself_is_not_taken() {
    let mut state = cluster(3, 2);
    let before = state.clone();
    let plan = state.target().id();
    for stage in [Stage::Joint { from: plan, to: plan }, Stage::Shifted { from: plan, to: plan }] {
        let forged = Tenure { sequence: Sequence(9), by: NodeId(1), stage };
        assert!(!state.add_tenures([(Partition(0), forged)]).is_changed());
        assert!(!state.add_tenures_of(&before, [(Partition(0), forged)]).is_changed());
        assert_eq!(state.next_tenure(Partition(0), NodeId(1), stage), None);
    }
    assert_eq!(decode::<Ownership>(&encode(&state)), Ok(before));
}

#[test]
fn a_state_of_another_number_of_partitions_is_passed_over() {
    let mut state = cluster(3, 8);
    assert!(!state.join(&cluster(4, 16)).is_changed());
    assert_eq!(state, cluster(3, 8));
}

#[test]
fn commits_under_way_are_bounded() {
    let mut state = cluster(3, 32);
    let add = |state: &mut Ownership, plan, partition| {
        state.add_plan(plan);
        // A partition follows each, so that none is forgotten.
        for _ in 0..3 {
            advance(state, Partition(partition));
        }
    };
    for nodes in 4..=10 {
        let plan = state.commit(&members(1..=nodes), SPREAD, &[]).unwrap();
        add(&mut state, plan, nodes as u32);
    }
    let full = state.commit(&members(1..=11), SPREAD, &[]);
    assert_eq!(full, Err(CommitError::TooManyPlans { plans: 8 }));
    // Partitions follow no plan as long as a node is waited for that is gone: that one can be removed.
    for gone in 1..=8 {
        let plan = state.commit(&members(gone + 1..=10), SPREAD, &[NodeId(gone)]).unwrap();
        add(&mut state, plan, 10 + gone as u32);
        let plans = 8 + gone as usize;
        let more = state.commit(&members(gone + 1..=11), SPREAD, &[NodeId(gone)]);
        assert_eq!(more, Err(CommitError::TooManyPlans { plans }));
    }
    let full = state.commit(&members(10..=10), SPREAD, &[NodeId(9)]);
    assert_eq!(full, Err(CommitError::TooManyPlans { plans: 16 }));
}

/// A thousand partitions under way at once, at the largest usual number of them.
#[test]
fn the_state_is_small() {
    let mut state = cluster(100, 4096);
    let settled = encode(&state).len();
    assert!(settled < 6_000, "{settled}");
    let plan = state.commit(&members(1..=101), SPREAD, &[]).unwrap();
    state.add_plan(plan);
    for partition in (0..4096).step_by(4).map(Partition) {
        advance(&mut state, partition);
    }
    let moving = encode(&state).len();
    assert!(moving < 40_000, "{moving}");
}

#[test]
fn a_member_in_the_place_of_another_takes_exactly_its_places_whatever_its_weight() {
    let ownership = cluster(5, 64);
    let before = ownership.target().ring().clone();
    let heavy = Member { weight: ring::Weight::new(7).unwrap(), ..Member::new(NodeId(9)) };
    let mut stay = members([1, 2, 4, 5]);
    stay.push(heavy.clone());
    let pair = [(NodeId(3), NodeId(9))];
    let plan = ownership.commit_replacing(&pair, &stay, SPREAD, &[NodeId(3)]).unwrap();
    assert_eq!((plan.ring().version(), plan.removed()), (2, &[NodeId(3)][..]));
    let takes = |node| if node == NodeId(3) { NodeId(9) } else { node };
    for partition in before.partition_count().iter() {
        let owners: Vec<NodeId> =
            before.preference_list(partition).into_iter().map(takes).collect();
        assert_eq!(plan.ring().preference_list(partition), owners);
    }
    // Without the pair, as much moves as seven shares are.
    let other = ownership.commit(&stay, SPREAD, &[NodeId(3)]).unwrap();
    assert_ne!(other.ring(), plan.ring());
    // Committed once more, with the pair, it is that plan.
    let mut ownership = ownership;
    ownership.add_plan(plan);
    for partition in before.partition_count().iter() {
        while let Some(stage) = next_stage(&ownership, partition) {
            let driver = ownership.driver(partition).unwrap();
            let tenure = ownership.next_tenure(partition, driver, stage).unwrap();
            ownership.add_tenures([(partition, tenure)]);
        }
    }
    assert!(ownership.is_settled());
    let same = ownership.commit_replacing(&pair, &stay, SPREAD, &[]);
    assert_eq!(same, Err(CommitError::Unchanged { version: 2 }));
    // The next commit goes by the weight, and the one after it has nothing to do.
    let next = ownership.commit(&stay, SPREAD, &[]).unwrap();
    let load = |ring: &Ring, node| ring.loads().iter().find(|(of, _)| *of == node).unwrap().1;
    assert_eq!(load(ownership.target().ring(), NodeId(9)), load(&before, NodeId(3)));
    assert_eq!(load(next.ring(), NodeId(9)), 64 / SPREAD);
    ownership.add_plan(next);
    let again = ownership.commit(&stay, SPREAD, &[]);
    assert_eq!(again, Err(CommitError::Unchanged { version: 3 }));
}

#[test]
fn after_a_member_like_the_one_before_there_is_nothing_to_commit() {
    let mut ownership = cluster(5, 64);
    let stay = members([1, 2, 4, 5, 9]);
    let pair = [(NodeId(3), NodeId(9))];
    let plan = ownership.commit_replacing(&pair, &stay, SPREAD, &[NodeId(3)]).unwrap();
    ownership.add_plan(plan);
    let again = ownership.commit(&stay, SPREAD, &[]);
    assert_eq!(again, Err(CommitError::Unchanged { version: 2 }));
}

#[test]
fn a_pair_that_makes_no_sense_is_passed_over() {
    let ownership = cluster(3, 8);
    let all = members([1, 2, 3, 4]);
    let plain = ownership.commit(&all, SPREAD, &[]).unwrap();
    let pairs: [(u64, u64); 4] = [(8, 4), (1, 4), (1, 2), (9, 9)];
    let pairs = pairs.map(|(old, new)| (NodeId(old), NodeId(new)));
    assert_eq!(ownership.commit_replacing(&pairs, &all, SPREAD, &[]), Ok(plain));
}
