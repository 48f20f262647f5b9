//! The crate `crdts` as a second opinion on sets and counters. In order and in whole states only:
//! its contexts hold no gaps, so deltas out of order would go wrong in it, not here.

#[path = "support/replica.rs"]
mod replica;

use std::collections::BTreeSet;

use crdts::{CmRDT, CvRDT, Orswot, PNCounter};
use proptest::{collection::vec, prelude::*, sample::select};
use replica::Replica;
use values::{Blob, CounterOp, Operation, OrsetOp, State, Tag};

const REPLICA_COUNT: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Add(usize, &'static str),
    Remove(usize, &'static str),
    Count(usize, i8),
    Sync(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..REPLICA_COUNT;
    let name = || select(vec!["a", "b", "c"]);
    prop_oneof![
        3 => (at(), name()).prop_map(|(at, name)| Step::Add(at, name)),
        3 => (at(), name()).prop_map(|(at, name)| Step::Remove(at, name)),
        3 => (at(), any::<i8>()).prop_map(|(at, by)| Step::Count(at, by)),
        3 => (at(), at()).prop_map(|(from, to)| Step::Sync(from, to)),
    ]
}

fn blob(name: &str) -> Blob {
    Blob::copy_from_slice(name.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_implementation_of_sets_and_counters_reads_the_same(steps in vec(step(), 0..40)) {
        // One key each, so that neither type refuses the other's operations.
        let numbers = [0, 1, 2].map(|number: u64| (Replica::new(number), Replica::new(number)));
        let mut ours = Vec::from(numbers);
        let mut theirs = vec![(Orswot::<&str, usize>::new(), PNCounter::<usize>::new()); 3];
        for step in steps {
            match step {
                Step::Add(at, name) => {
                    ours[at].0.update(&Operation::Orset(OrsetOp::Add(vec![blob(name)])));
                    let set = &mut theirs[at].0;
                    let add = set.add(name, set.read_ctx().derive_add_ctx(at));
                    set.apply(add);
                }
                Step::Remove(at, name) => {
                    ours[at].0.update(&Operation::Orset(OrsetOp::Remove(vec![blob(name)])));
                    let set = &mut theirs[at].0;
                    let remove = set.rm(name, set.contains(&name).derive_rm_ctx());
                    set.apply(remove);
                }
                Step::Count(at, by) => {
                    ours[at].1.update(&Operation::Counter(CounterOp::Add(i64::from(by))));
                    let counter = &mut theirs[at].1;
                    let amount = u64::from(by.unsigned_abs());
                    let counted = if by < 0 {
                        counter.dec_many(at, amount)
                    } else {
                        counter.inc_many(at, amount)
                    };
                    counter.apply(counted);
                }
                Step::Sync(from, to) => {
                    let (set, counter) = ours[from].clone();
                    ours[to].0.value.merge(&set.value);
                    ours[to].1.value.merge(&counter.value);
                    let (set, counter) = theirs[from].clone();
                    theirs[to].0.merge(set);
                    theirs[to].1.merge(counter);
                }
            }
            for ((set, counter), (their_set, their_counter)) in ours.iter().zip(&theirs) {
                let members: BTreeSet<Blob> = match set.value.state(Tag::ORSET) {
                    Some(State::Orset(set)) => set.store.0.keys().cloned().collect(),
                    _ => BTreeSet::new(),
                };
                let expected = their_set.read().val.into_iter().map(blob).collect();
                prop_assert_eq!(members, expected);
                let total = match counter.value.state(Tag::COUNTER) {
                    Some(State::Counter(counter)) => counter.tally.value(),
                    _ => 0,
                };
                prop_assert_eq!(total.to_string(), their_counter.read().to_string());
            }
        }
    }
}
