//! The lost-clock family: a replica forgets a key it coordinated, or gets an older copy of it
//! back, and coordinates again. Nothing acknowledged is lost, and no dot is issued twice.
//!
//! After Riak's kv679 (riak_kv#679) and its tests kv679_dataloss, _fb, _fb2, kv679_tombstone,
//! kv679_tombstone2 and kv679_uid.

use clock::{Actor, Dot};
use proptest::prelude::*;
use values::{Deadline, ExpiryOp};

use super::*;
use crate::{DiskSnapshot, KeysOf};

/// Knows every dot ever issued.
#[derive(Default)]
struct Oracle(BTreeSet<(Key, Tag, Dot)>);

impl Oracle {
    /// Takes note of an update's delta. `before`: what its coordinator and its client had seen.
    fn note(&mut self, key: &Key, delta: &Delta, before: &Value, observed: &CausalContext) {
        for (&tag, state) in &delta.value.0 {
            for (actor, first, last) in state.context().ranges() {
                for dot in (first..=last).map(|counter| Dot::new(actor, counter)) {
                    if !before.context(tag).contains(dot) && !observed.contains(dot) {
                        let new = self.0.insert((key.clone(), tag, dot));
                        assert!(new, "{dot:?} of {tag} was issued before");
                    }
                }
            }
        }
    }
}

/// Replicas and the oracle that watches them.
struct Cluster {
    replicas: Vec<MemoryEngine>,
    oracle: Oracle,
    processes: u64,
}

impl Cluster {
    fn new(count: u64) -> Self {
        let replicas = (1..=count).map(|node| MemoryEngine::new(config(node, node))).collect();
        Self { replicas, oracle: Oracle::default(), processes: 100 }
    }

    /// Coordinates at one replica alone.
    fn update(&mut self, at: usize, key: &Key, operation: Operation) -> Delta {
        self.update_seeing(at, key, operation, CausalContext::default())
    }

    fn update_seeing(
        &mut self,
        at: usize,
        key: &Key,
        operation: Operation,
        observed: CausalContext,
    ) -> Delta {
        let before = whole(&mut self.replicas[at], key);
        let command = update_seeing(key, operation, observed.clone());
        // After a failed commit the first is refused and asks the disk, and so is the second if
        // that was to fail.
        for _ in 0..3 {
            match self.replicas[at].execute_now(command.clone()).remove(0) {
                Answer::Prepared { delta, .. } => {
                    self.oracle.note(key, &delta, &before, &observed);
                    return delta;
                }
                Answer::Failed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("the disk has recovered");
    }

    /// Coordinates at one replica and merges at others.
    fn write(&mut self, at: usize, others: &[usize], key: &Key, operation: Operation) -> Delta {
        let delta = self.update(at, key, operation);
        for &other in others {
            merged(&mut self.replicas[other], key, &delta);
        }
        delta
    }

    /// Merges everything everywhere; returns what all then show.
    fn converge(&mut self, key: &Key) -> Value {
        let mut all = Value::default();
        for replica in &mut self.replicas {
            all.merge(&whole(replica, key));
        }
        for replica in &mut self.replicas {
            merged(replica, key, &Delta::whole(all.clone()));
            assert_eq!(whole(replica, key), all);
        }
        all
    }

    /// The replica's process ends and starts again on the same disk.
    fn restart(&mut self, at: usize) {
        self.processes += 1;
        let disk = self.replicas[at].disk().clone();
        let node = self.replicas[at].engine().config.node.0;
        self.replicas[at] = MemoryEngine::open(disk, config(node, self.processes)).unwrap();
    }
}

/// How replica 0 can lose what it knew of a key that it coordinated.
fn lose(cluster: &mut Cluster, older: &DiskSnapshot, how: &str) {
    let disk = cluster.replicas[0].disk().clone();
    match how {
        "forgets while it runs" => disk.index.wipe(),
        "starts again with an empty disk" => {
            disk.wipe();
            cluster.restart(0);
        }
        "starts again from an older backup" => {
            disk.restore(older);
            cluster.restart(0);
        }
        "just starts again" => cluster.restart(0),
        other => panic!("{other}"),
    }
}

const LOSSES: [&str; 4] = [
    "forgets while it runs",
    "starts again with an empty disk",
    "starts again from an older backup",
    "just starts again",
];

/// kv679_dataloss: what is acknowledged after the loss is lost if it repeats a dot.
#[test]
fn writes_after_a_loss_are_not_taken_for_the_writes_before_it() {
    for how in LOSSES {
        let mut cluster = Cluster::new(3);
        cluster.write(0, &[1, 2], &key("v"), put("1"));
        cluster.write(0, &[1, 2], &key("c"), count(1));
        let older = cluster.replicas[0].disk().snapshot();
        for n in 2..=4 {
            cluster.write(0, &[1, 2], &key("v"), put(&n.to_string()));
            cluster.write(0, &[1, 2], &key("c"), count(n));
            cluster.write(0, &[1, 2], &key("s"), add(&[&n.to_string()]));
        }
        lose(&mut cluster, &older, how);
        cluster.write(0, &[1], &key("v"), put("after"));
        cluster.write(0, &[1], &key("c"), count(100));
        cluster.write(0, &[1], &key("s"), add(&["after"]));
        let expected = |names: &[&str]| names.iter().map(|name| blob(name)).collect();
        let value = cluster.converge(&key("v"));
        assert_eq!(values_of(&value), expected(&["1", "2", "3", "4", "after"]), "{how}");
        assert_eq!(counted(&cluster.converge(&key("c"))), 110, "{how}");
        let value = cluster.converge(&key("s"));
        assert_eq!(elements(&value), expected(&["2", "3", "4", "after"]), "{how}");
    }
}

/// kv679_dataloss_fb and _fb2: fallbacks give the replica older copies of its own back, one after
/// the other, and between them it coordinates.
#[test]
fn older_copies_that_fallbacks_hand_back_are_not_gone_on_from() {
    for how in LOSSES {
        let mut cluster = Cluster::new(1);
        let older = cluster.replicas[0].disk().snapshot();
        let first = cluster.update(0, &key("v"), put("1"));
        cluster.update(0, &key("v"), put("2"));
        let third = cluster.update(0, &key("v"), put("3"));
        lose(&mut cluster, &older, how);
        merged(&mut cluster.replicas[0], &key("v"), &first);
        cluster.update(0, &key("v"), put("4"));
        merged(&mut cluster.replicas[0], &key("v"), &third);
        cluster.update(0, &key("v"), put("5"));
        let shown = values_of(&whole(&mut cluster.replicas[0], &key("v")));
        assert_eq!(shown, ["1", "2", "3", "4", "5"].map(blob).into(), "{how}");
    }
}

/// kv679_tombstone and _tombstone2: the tombstone of a life before dominates nothing of the next.
#[test]
fn an_old_tombstone_does_not_swallow_a_key_made_anew() {
    for how in LOSSES {
        for (make, again) in
            [(put("1"), put("2")), (add(&["1"]), add(&["2"])), (count(1), count(2))]
        {
            let mut cluster = Cluster::new(3);
            let older = cluster.replicas[0].disk().snapshot();
            cluster.write(0, &[1, 2], &key("k"), make);
            // Held by a fallback.
            let tombstone = cluster.write(0, &[2], &key("k"), Operation::Delete(None));
            lose(&mut cluster, &older, how);
            cluster.replicas[1].index().wipe();
            cluster.replicas[2].index().wipe();
            cluster.write(0, &[1, 2], &key("k"), again);
            let before = cluster.converge(&key("k"));
            merged(&mut cluster.replicas[1], &key("k"), &tombstone);
            let after = cluster.converge(&key("k"));
            if how != "just starts again" {
                assert_eq!(elements(&after), elements(&before), "{how}");
                assert_eq!(values_of(&after), values_of(&before), "{how}");
            }
            assert!(View::of(after).live_tags().len() == 1, "{how}");
        }
    }
}

/// kv679_uid, and a disk image started twice: two nodes with one name.
#[test]
fn a_cloned_disk_issues_dots_of_its_own() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, &[1], &key("c"), count(1));
    let clone = SimDisk::new();
    clone.restore(&cluster.replicas[0].disk().snapshot());
    cluster.replicas.push(MemoryEngine::open(clone, config(1, 77)).unwrap());
    for by in [10, 100] {
        cluster.write(0, &[1], &key("c"), count(by));
        cluster.write(2, &[1], &key("c"), count(by * 100));
    }
    assert_eq!(counted(&cluster.converge(&key("c"))), 1 + 110 + 11_000);
}

/// A delta left for other replicas before its batch failed: the counter it minted is burned.
#[test]
fn a_dot_whose_commit_failed_is_not_issued_again() {
    for error in [SeamError::Full, SeamError::Io("gone".into())] {
        let mut cluster = Cluster::new(2);
        cluster.write(0, &[1], &key("c"), count(1));
        cluster.replicas[0].disk().fail_next(error.clone());
        cluster.write(0, &[1], &key("c"), count(10));
        assert_eq!(counted(&whole(&mut cluster.replicas[0], &key("c"))), 1);
        cluster.write(0, &[1], &key("c"), count(100));
        assert_eq!(counted(&cluster.converge(&key("c"))), 111);
    }
}

/// A client can know of the replica's writes what the replica forgot; a delete with that context
/// makes no dot, but brings the context in.
#[test]
fn a_context_that_a_client_brings_back_is_not_gone_on_from() {
    for delete in [true, false] {
        let mut cluster = Cluster::new(2);
        let first = cluster.write(0, &[1], &key("v"), put("1"));
        cluster.write(0, &[1], &key("v"), put("2"));
        cluster.write(0, &[1], &key("v"), put("3"));
        cluster.replicas[0].index().wipe();
        let observed = first.value.context(Tag::BYTES).clone();
        if delete {
            let delete = Operation::Bytes(BytesOp::Delete);
            cluster.update_seeing(0, &key("v"), delete, observed);
        } else {
            cluster.update_seeing(0, &key("v"), put("4"), observed);
        }
        cluster.write(0, &[1], &key("v"), put("5"));
        let shown = values_of(&cluster.converge(&key("v")));
        assert!(shown.is_superset(&["2", "3", "5"].map(blob).into()), "{shown:?}");
        assert!(!shown.contains(&blob("1")));
    }
}

/// A context that claims the last counter of an actor not drawn yet, and then drawn elsewhere.
/// What a coordinator that lost its copy is shown by an older one, of all types, before it deletes the key.
#[test]
fn an_older_copy_that_is_shown_to_a_removal_is_not_gone_on_from() {
    let mut cluster = Cluster::new(1);
    let key = key("k");
    cluster.update(0, &key, add(&["first"]));
    let older = viewed(&mut cluster.replicas[0], &key, Scope::Removal);
    cluster.update(0, &key, add(&["second"]));
    cluster.replicas[0].index().wipe();
    let mut delete = update(&key, Operation::Delete(None));
    let Command::Update { shown, .. } = &mut delete else { unreachable!() };
    shown.push(older);
    cluster.replicas[0].execute_now(delete);
    // By an actor of its own, or it is the dot of the second.
    cluster.update(0, &key, add(&["third"]));
}

/// What a schedule covers is named by it, also where the key was dropped in between.
#[test]
fn dots_that_a_schedule_brings_back_are_not_gone_on_from() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let key = key("k");
    let first = updated(&mut one, &key, add(&["first"]));
    merged(&mut two, &key, &first);
    let deadline = Deadline::At(10);
    let expire = Operation::Expiry(ExpiryOp::Set { deadline, only_if: None });
    let schedule = updated(&mut two, &key, expire);
    let second = updated(&mut one, &key, add(&["second"]));
    let partition = shards().partitions().partition(Token(key.identifier()));
    one.execute_now(Command::Forget { partition, keys: KeysOf::AllBuckets, limit: 9 });
    merged(&mut one, &key, &schedule);
    let mut sweep = update(&key, Operation::Expiry(ExpiryOp::Sweep));
    let Command::Update { stamp, .. } = &mut sweep else { unreachable!() };
    *stamp = Stamp::from_millis(20);
    one.execute_now(sweep);
    let third = updated(&mut one, &key, add(&["third"]));
    let dots = |delta: &Delta| -> Vec<_> { delta.value.context(Tag::ORSET).ranges().collect() };
    assert_ne!(dots(&third), dots(&second));
}

#[test]
fn an_actor_without_a_counter_left_is_replaced_by_another() {
    let mut one = MemoryEngine::new(config(1, 1));
    let first = Actor::new(NodeId(1), 1, 0);
    let mut set = values::Causal::default();
    set.context.insert_range(first, u64::MAX, u64::MAX);
    merged(&mut one, &key("s"), &Delta::of(Tag::ORSET, State::Orset(set)));
    updated(&mut one, &key("other"), add(&["x"]));
    let delta = updated(&mut one, &key("s"), add(&["x"]));
    let expected = (Actor::new(NodeId(1), 1, 1), 1, 1);
    assert_eq!(delta.value.context(Tag::ORSET).ranges().collect::<Vec<_>>(), [expected]);
    assert_eq!(elements(&whole(&mut one, &key("s"))), [blob("x")].into());
}

#[test]
fn a_replica_that_lost_nothing_goes_on_under_one_actor() {
    let mut cluster = Cluster::new(2);
    for _ in 0..3 {
        let delta = cluster.write(0, &[1], &key("c"), count(1));
        merged(&mut cluster.replicas[0], &key("c"), &delta);
        cluster.write(1, &[0], &key("c"), count(1));
    }
    let context = whole(&mut cluster.replicas[0], &key("c")).context(Tag::COUNTER).clone();
    let ranges: Vec<_> = context.ranges().collect();
    let actors = [Actor::new(NodeId(1), 1, 0), Actor::new(NodeId(2), 2, 0)];
    assert_eq!(ranges, actors.map(|actor| (actor, 1, 3)));
}

#[derive(Clone, Debug)]
enum Step {
    Count {
        at: usize,
        failing: bool,
    },
    Add {
        at: usize,
        failing: bool,
    },
    /// Through a client that read at another replica.
    Put {
        at: usize,
        read_at: usize,
        failing: bool,
    },
    Deliver {
        to: usize,
        delta: prop::sample::Index,
    },
    Wipe {
        at: usize,
        restart: bool,
    },
    Backup {
        at: usize,
    },
    Restore {
        at: usize,
    },
    Restart {
        at: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..4usize;
    let failing = || prop::bool::weighted(0.15);
    prop_oneof![
        5 => (at(), failing()).prop_map(|(at, failing)| Step::Count { at, failing }),
        5 => (at(), failing()).prop_map(|(at, failing)| Step::Add { at, failing }),
        5 => (at(), at(), failing())
            .prop_map(|(at, read_at, failing)| Step::Put { at, read_at, failing }),
        12 => (at(), any::<prop::sample::Index>())
            .prop_map(|(to, delta)| Step::Deliver { to, delta }),
        2 => (at(), any::<bool>()).prop_map(|(at, restart)| Step::Wipe { at, restart }),
        1 => at().prop_map(|at| Step::Backup { at }),
        2 => at().prop_map(|at| Step::Restore { at }),
        1 => at().prop_map(|at| Step::Restart { at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Replica 3 is a clone of replica 0. Deltas reach anybody in any order, or nobody, until the
    /// end; then all of them together must show every write that no other write had seen.
    #[test]
    fn no_history_of_losses_issues_a_dot_twice_or_loses_a_write(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut cluster = Cluster::new(3);
        cluster.replicas.push(MemoryEngine::new(config(1, 4)));
        let mut backups: Vec<_> =
            cluster.replicas.iter().map(|replica| replica.disk().snapshot()).collect();
        let mut history: Vec<(Key, Delta)> = Vec::new();
        let (mut total, mut names, mut superseded) = (0, BTreeSet::new(), CausalContext::default());
        let mut puts: Vec<(Blob, Delta)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let name = n.to_string();
            let fail = |cluster: &Cluster, at: usize, failing: bool| if failing {
                cluster.replicas[at].disk().fail_next(SeamError::Full);
            };
            match step {
                Step::Count { at, failing } => {
                    fail(&cluster, at, failing);
                    history.push((key("c"), cluster.update(at, &key("c"), count(1))));
                    total += 1;
                }
                Step::Add { at, failing } => {
                    fail(&cluster, at, failing);
                    history.push((key("s"), cluster.update(at, &key("s"), add(&[&name]))));
                    names.insert(blob(&name));
                }
                Step::Put { at, read_at, failing } => {
                    let seen = whole(&mut cluster.replicas[read_at], &key("v"));
                    let seen = seen.context(Tag::BYTES).clone();
                    fail(&cluster, at, failing);
                    superseded.merge(&seen);
                    let delta = cluster.update_seeing(at, &key("v"), put(&name), seen);
                    puts.push((blob(&name), delta.clone()));
                    history.push((key("v"), delta));
                }
                Step::Deliver { to, delta } => if !history.is_empty() {
                    let (key, delta) = delta.get(&history);
                    merged(&mut cluster.replicas[to], key, delta);
                },
                Step::Wipe { at, restart } => {
                    if restart {
                        cluster.replicas[at].disk().wipe();
                        cluster.restart(at);
                    } else {
                        cluster.replicas[at].index().wipe();
                    }
                }
                Step::Backup { at } => backups[at] = cluster.replicas[at].disk().snapshot(),
                Step::Restore { at } => {
                    cluster.replicas[at].disk().restore(&backups[at]);
                    cluster.restart(at);
                }
                Step::Restart { at } => cluster.restart(at),
            }
        }
        for replica in &mut cluster.replicas {
            // A fault that no commit met must not meet one now.
            for _ in 0..2 {
                replica.execute_now(update(&key("unused"), count(1)));
            }
            for (key, delta) in &history {
                merged(replica, key, delta);
            }
            prop_assert_eq!(counted(&whole(replica, &key("c"))), total);
            prop_assert_eq!(elements(&whole(replica, &key("s"))), names.clone());
            while replica.count_chunks(100) {}
            prop_assert!(replica.engine().check_trees().unwrap().is_clean());
            let shown = values_of(&whole(replica, &key("v")));
            for (name, delta) in &puts {
                let Some(State::Bytes(state)) = delta.value.state(Tag::BYTES) else {
                    panic!("a put's delta is of bytes")
                };
                let dot = state.store.0.iter().find(|(_, sibling)| sibling.value == *name);
                let (dot, _) = dot.expect("a put's delta holds what was put");
                prop_assert_eq!(shown.contains(name), !superseded.contains(*dot));
            }
        }
    }
}
