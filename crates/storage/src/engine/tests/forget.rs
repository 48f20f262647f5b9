//! Forgetting a partition: as if its keys had never been here, and nothing else changed.

use proptest::prelude::*;

use super::*;
use crate::log_record::{self, RecordOut};
use crate::{IndexRead, KeysOf, Log, ROW_KEY_MAX, Shard, SingleEngine, Table, TreeClasses};

const SHARED: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn forget(engine: &mut MemoryEngine, partition: Partition, limit: usize) -> u64 {
    let mut dropped = 0;
    loop {
        match engine
            .execute_now(Command::Forget { partition, keys: KeysOf::AllBuckets, limit })
            .as_slice()
        {
            [Answer::Forgotten { keys, is_last: true }] => return dropped + keys,
            [Answer::Forgotten { keys, is_last: false }] if (1..=limit as u64).contains(keys) => {
                dropped += keys
            }
            other => panic!("{other:?}"),
        }
    }
}

fn is_empty(engine: &mut MemoryEngine, partition: Partition) -> bool {
    match engine.execute_now(Command::IsEmpty { partition, keys: KeysOf::AllBuckets }).as_slice() {
        [Answer::IsEmpty(is_empty)] => *is_empty,
        other => panic!("{other:?}"),
    }
}

fn partition(name: &str) -> Partition {
    shards().partitions().partition(Token(values::identifier(b"b", name.as_bytes())))
}

/// Rows of all tables but the outbox and the positions of shards.
fn rows(engine: &MemoryEngine) -> usize {
    let tables = [Table::Header, Table::Element, Table::ElementTree, Table::Tree, Table::Meta];
    let mut count = 0;
    for table in tables {
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        engine.index().reader().scan(table, &[], &mut visit).unwrap();
    }
    count
}

#[test]
fn nothing_is_left_of_keys_of_any_type_and_other_partitions_are_whole() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let names: Vec<String> = (0..2_000).map(|number| format!("element{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in SHARED {
        updated(&mut engine, &key(name), add(&names));
    }
    // In conflict.
    let put = updated(&mut MemoryEngine::new(config(2, 2)), &key("a"), put("x"));
    merged(&mut engine, &key("a"), &put);
    // Cleared, so that dead rows wait for the sweep.
    updated(&mut engine, &key("b"), Operation::Delete(Some(Tag::ORSET)));
    let kept: Vec<_> = SHARED.iter().filter(|name| partition(name) != partition("a")).collect();
    let before: Vec<Value> = kept.iter().map(|name| whole(&mut engine, &key(name))).collect();
    let (live, conflicts) = (engine.engine().live_keys(), engine.engine().conflicts());
    assert!(!is_empty(&mut engine, partition("a")));
    let dropped = forget(&mut engine, partition("a"), 1);
    assert_eq!(dropped, (SHARED.len() - kept.len()) as u64);
    assert!(is_empty(&mut engine, partition("a")));
    assert_eq!(whole(&mut engine, &key("a")), Value::default());
    let after: Vec<Value> = kept.iter().map(|name| whole(&mut engine, &key(name))).collect();
    assert_eq!(after, before);
    assert_eq!(engine.engine().live_keys(), live - dropped);
    assert_eq!((conflicts.keys, engine.engine().conflicts().keys), (1, 0));
    assert!(check(&engine).is_clean(), "{:?}", check(&engine));
    for name in kept {
        forget(&mut engine, partition(name), 100);
    }
    while engine.sweep(1_000) {}
    assert_eq!((engine.engine().live_keys(), rows(&engine)), (0, 0));
    assert_eq!(roots(&mut engine), [TreeNode::EMPTY; 16]);
}

#[test]
fn large_keys_are_dropped_few_at_a_time() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let names: Vec<String> = (0..5_000).map(|number| format!("element{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let same = (0..).map(|at| format!("k{at}")).filter(|name| partition(name) == Partition(0));
    let keys: Vec<String> = same.take(3).collect();
    for name in &keys {
        updated(&mut engine, &key(name), add(&names));
    }
    let keys = KeysOf::AllBuckets;
    let command = || Command::Forget { partition: Partition(0), keys, limit: 100 };
    let answers = [(); 3].map(|()| engine.execute_now(command()));
    let step = |keys, is_last| vec![Answer::Forgotten { keys, is_last }];
    assert_eq!(answers, [step(1, false), step(1, false), step(1, true)]);
    assert!(is_empty(&mut engine, Partition(0)));
}

/// An engine with one large key of two types, and how many rows of elements that has.
fn with_large_key() -> (MemoryEngine, usize) {
    let mut engine = MemoryEngine::new(config(1, 1));
    let names: Vec<String> = (0..300).map(|number| format!("element{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    updated(&mut engine, &key("a"), add(&names));
    let fields = names.iter().map(|name| (blob(name), blob("x"))).collect();
    let map = Operation::Map(values::MapOp::Set(fields));
    let map = updated(&mut MemoryEngine::new(config(2, 2)), &key("a"), map);
    merged(&mut engine, &key("a"), &map);
    (engine, 600)
}

fn element_rows(engine: &MemoryEngine) -> usize {
    let mut count = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    };
    engine.index().reader().scan(Table::Element, &[], &mut visit).unwrap();
    count
}

/// Each takes memory until a checkpoint. The key is gone from the first step on, also at a start in the midst.
#[test]
fn the_rows_of_a_large_key_go_some_at_a_time() {
    let (mut engine, mut left) = with_large_key();
    assert_eq!(element_rows(&engine), left);
    forget(&mut engine, partition("a"), 1);
    assert!(is_empty(&mut engine, partition("a")));
    let mut steps = 0;
    loop {
        let now = element_rows(&engine);
        assert!(now < left && left - now <= 100, "{now} after {left}");
        left = now;
        assert_eq!(whole(&mut engine, &key("a")), Value::default());
        assert_eq!(
            (roots(&mut engine), engine.engine().live_keys()),
            (vec![TreeNode::EMPTY; 16], 0)
        );
        assert!(check(&engine).is_clean());
        assert_eq!(verified::faults(&engine), []);
        if left == 0 {
            break;
        }
        steps += 1;
        engine = MemoryEngine::open(engine.disk().clone(), config(1, 2)).unwrap();
        assert!(engine.sweep(40));
    }
    assert!(steps > 10, "{steps}");
    while engine.sweep(40) {}
    assert_eq!(rows(&engine), 0);
}

#[test]
fn a_key_that_comes_back_half_dropped_has_nothing_of_what_it_was() {
    for sweeps in [0, 1, 9] {
        let (mut engine, _) = with_large_key();
        forget(&mut engine, partition("a"), 1);
        for _ in 0..sweeps {
            engine.sweep(40);
        }
        let mut other = MemoryEngine::new(config(3, 3));
        let added = updated(&mut other, &key("a"), add(&["element200", "new"]));
        if sweeps == 9 {
            updated(&mut engine, &key("a"), add(&["element200", "new"]));
        } else {
            merged(&mut engine, &key("a"), &added);
        }
        for _ in 0..2 {
            let held = whole(&mut engine, &key("a"));
            assert_eq!(elements(&held), ["element200", "new"].map(blob).into());
            assert_eq!((held.0.len(), element_rows(&engine)), (1, 2));
            assert!(check(&engine).is_clean());
            while engine.sweep(40) {}
            engine = MemoryEngine::open(engine.disk().clone(), config(1, 2)).unwrap();
        }
    }
}

/// The sweep had taken the last of it already.
#[test]
fn a_large_key_that_a_disk_refused_to_drop_is_whole_and_is_dropped_again() {
    let (engine, _) = with_large_key();
    let disk = engine.disk().clone();
    drop(engine);
    let mut one = Stepped::open(&disk, config(1, 2));
    let before = one.engine.read(&key("a"), &Scope::Whole).unwrap().value;
    let (partition, keys) = (partition("a"), KeysOf::AllBuckets);
    one.give(1, Command::Forget { partition, keys, limit: 9 });
    assert!(one.take());
    while one.engine.sweep(500) {}
    disk.fail_next(SeamError::Full);
    one.commit();
    assert_eq!(one.engine.read(&key("a"), &Scope::Whole).unwrap().value, before);
    one.engine.probe();
    assert!(one.take());
    one.commit();
    one.answered();
    one.give(2, Command::Forget { partition, keys, limit: 9 });
    one.give(3, update(&key("a"), add(&["new"])));
    assert!(one.take());
    one.commit();
    while one.engine.sweep(500) {}
    let after = one.engine.read(&key("a"), &Scope::Whole).unwrap().value;
    assert_eq!(elements(&after), [blob("new")].into());
    assert!(one.engine.check_trees().unwrap().is_clean());
}

/// A node can own the keys of a bucket with three owners and not those of one with two.
#[test]
fn keys_of_buckets_with_few_owners_are_dropped_apart() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let mut classes = TreeClasses::new(3);
    classes.set("pairs".into(), 2, 0);
    let pair = |name: &str| Key::new("pairs", name.to_owned()).unwrap();
    let at = |key: &Key| shards().partitions().partition(Token(key.identifier()));
    let here = at(&pair("a"));
    let pairs: Vec<Key> =
        (0..200).map(|n| pair(&n.to_string())).filter(|key| at(key) == here).collect();
    let others: Vec<Key> =
        (0..200).map(|n| key(&n.to_string())).filter(|key| at(key) == here).collect();
    assert!(pairs.len() > 5 && others.len() > 5);
    for key in pairs.iter().chain(&others) {
        updated(&mut engine, key, put("x"));
    }
    // Written before anybody here had heard of the bucket.
    engine.set_tree_classes(classes);
    let few = KeysOf::BucketsUpTo(2);
    let is_empty = |engine: &mut MemoryEngine, keys| {
        engine.execute_now(Command::IsEmpty { partition: here, keys })
    };
    assert_eq!(is_empty(&mut engine, few), [Answer::IsEmpty(false)]);
    assert_eq!(is_empty(&mut engine, KeysOf::BucketsUpTo(1)), [Answer::IsEmpty(true)]);
    let mut dropped = 0;
    loop {
        let forget = Command::Forget { partition: here, keys: few, limit: 4 };
        match engine.execute_now(forget).as_slice() {
            [Answer::Forgotten { keys, is_last }] => {
                dropped += keys;
                if *is_last {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(dropped, pairs.len() as u64);
    assert_eq!(is_empty(&mut engine, few), [Answer::IsEmpty(true)]);
    assert!(others.iter().all(|key| whole(&mut engine, key) != Value::default()));
    assert!(pairs.iter().all(|key| whole(&mut engine, key) == Value::default()));
    assert!(check(&engine).is_clean());
}

#[test]
fn keys_are_counted_by_class_again_where_the_disk_refused_it() {
    let disk = SimDisk::new();
    let mut engine = Stepped::open(&disk, config(1, 1));
    let pair = Key::new("pairs", "a").unwrap();
    let partition = shards().partitions().partition(Token(pair.identifier()));
    engine.give(1, update(&pair, put("x")));
    assert!(engine.take());
    engine.commit();
    engine.checkpoint();
    let mut classes = TreeClasses::new(3);
    classes.set("pairs".into(), 2, 0);
    engine.engine.set_tree_classes(classes);
    let is_empty = |engine: &mut Stepped| {
        engine.answered();
        engine.give(2, Command::IsEmpty { partition, keys: KeysOf::BucketsUpTo(2) });
        engine.answered().remove(0).1
    };
    let count = updated(&mut MemoryEngine::new(config(2, 2)), &key("c"), count(1));
    engine.give(3, merge(&key("c"), &count));
    assert_eq!(is_empty(&mut engine), Answer::IsEmpty(false));
    assert!(engine.take());
    disk.fail_next(SeamError::Full);
    engine.commit();
    engine.give(3, merge(&key("c"), &count));
    assert!(engine.take());
    engine.commit();
    assert_eq!(is_empty(&mut engine), Answer::IsEmpty(false));
}

#[test]
fn a_partition_is_not_called_empty_whose_keys_a_disk_may_refuse_to_drop_yet() {
    let (here, keys) = (partition("a"), KeysOf::AllBuckets);
    for is_refused in [true, false] {
        let disk = SimDisk::new();
        let mut one = Stepped::open(&disk, config(1, 1));
        one.give(1, update(&key("a"), put("x")));
        assert!(one.take());
        one.commit();
        one.answered();
        let is_empty = |one: &mut Stepped| {
            one.answered();
            one.give(9, Command::IsEmpty { partition: here, keys });
            one.answered()
        };
        one.give(2, Command::Forget { partition: here, keys, limit: 9 });
        assert_eq!(is_empty(&mut one), [(9, Answer::IsEmpty(false))]);
        assert!(one.take());
        assert_eq!(is_empty(&mut one), [(9, Answer::IsEmpty(false))]);
        if is_refused {
            disk.fail_next(SeamError::Full);
        }
        one.commit();
        assert_eq!(is_empty(&mut one), [(9, Answer::IsEmpty(!is_refused))]);
    }
}

#[test]
fn a_key_that_comes_back_half_swept_is_swept_from_its_beginning() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let mut other = MemoryEngine::new(config(2, 2));
    let added = updated(&mut other, &key("a"), add(&["1", "2", "3", "4", "5", "6"]));
    let deleted = updated(&mut other, &key("a"), Operation::Delete(None));
    merged(&mut engine, &key("a"), &added);
    merged(&mut engine, &key("a"), &deleted);
    assert!(engine.sweep(3));
    forget(&mut engine, partition("a"), 100);
    merged(&mut engine, &key("a"), &added);
    merged(&mut engine, &key("a"), &deleted);
    while engine.sweep(3) {}
    assert_eq!(elements(&whole(&mut engine, &key("a"))), BTreeSet::new());
    assert!(check(&engine).is_clean());
}

#[test]
fn what_is_pending_for_others_stays() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut engine, &key("a"), put("x"));
    engine.execute_now(deferred(NodeId(2), &key("a"), &delta));
    forget(&mut engine, partition("a"), 100);
    assert_eq!(engine.engine().pending_for(NodeId(2)), 1);
}

/// A dot of before the drop is in other replicas: were it issued again, one of the two writes would
/// be taken for seen.
#[test]
fn a_key_written_again_is_written_under_another_actor() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let first = updated(&mut engine, &key("a"), add(&["x"]));
    forget(&mut engine, partition("a"), 100);
    let second = updated(&mut engine, &key("a"), add(&["y"]));
    let mut other = MemoryEngine::new(config(2, 2));
    for delta in [&first, &second] {
        merged(&mut other, &key("a"), delta);
    }
    assert_eq!(elements(&whole(&mut other, &key("a"))), ["x", "y"].map(blob).into());
    // And with what it wrote before, which others bring back, it goes on.
    merged(&mut engine, &key("a"), &first);
    let third = updated(&mut engine, &key("a"), add(&["z"]));
    merged(&mut other, &key("a"), &third);
    assert_eq!(elements(&whole(&mut other, &key("a"))), ["x", "y", "z"].map(blob).into());
}

#[test]
fn after_a_crash_what_was_dropped_is_gone_and_what_was_written_since_is_there() {
    let disk = SimDisk::new();
    let mut engine = Stepped::open(&disk, config(1, 1));
    engine.give(1, update(&key("a"), put("x")));
    engine.give(2, update(&key("a"), add(&["old"])));
    assert!(engine.take());
    engine.commit();
    engine.checkpoint();
    let keys = KeysOf::AllBuckets;
    engine.give(3, Command::Forget { partition: partition("a"), keys, limit: 9 });
    engine.give(4, update(&key("a"), add(&["new"])));
    assert!(engine.take());
    engine.commit();
    for _ in 0..2 {
        let engine = Stepped::open(&disk, config(1, 2)).engine;
        let view = engine.read(&key("a"), &Scope::Whole).unwrap();
        assert_eq!(view.live_tags(), [Tag::ORSET]);
        assert_eq!(elements(&view.value), [blob("new")].into());
        assert!(engine.check_trees().unwrap().is_clean());
        assert_eq!(engine.live_keys(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a replica to which only what came after the drop was ever written.
    #[test]
    fn it_is_as_if_the_keys_had_never_been_here(
        before in prop::collection::vec((0..6_usize, 0..5_u8), 0..30),
        after in prop::collection::vec((0..6_usize, 0..5_u8), 0..10),
        sweeps in 0..3,
        limit in 1..4_usize,
    ) {
        let operation = |kind| match kind {
            0 => put("x"),
            1 => add(&["x", "y"]),
            2 => count(3),
            3 => Operation::Orset(OrsetOp::Add((0..150).map(|n| blob(&n.to_string())).collect())),
            _ => Operation::Orset(OrsetOp::Remove(vec![blob("x")])),
        };
        let mut engine = MemoryEngine::new(config(1, 1));
        let mut source = MemoryEngine::new(config(2, 2));
        let mut twin = MemoryEngine::new(config(1, 3));
        for (name, kind) in before {
            // What the type does not allow is refused.
            engine.execute_now(update(&key(SHARED[name]), operation(kind)));
        }
        for name in SHARED {
            forget(&mut engine, partition(name), limit);
        }
        for _ in 0..sweeps {
            engine.sweep(70);
        }
        for (name, kind) in after {
            let name = key(SHARED[name]);
            let made = source.execute_now(update(&name, operation(kind)));
            if let [Answer::Prepared { delta, .. }, _] = made.as_slice() {
                merged(&mut engine, &name, delta);
                merged(&mut twin, &name, delta);
            }
        }
        for name in SHARED {
            prop_assert_eq!(whole(&mut engine, &key(name)), whole(&mut twin, &key(name)));
        }
        prop_assert_eq!(roots(&mut engine), roots(&mut twin));
        for engine in [&mut engine, &mut twin] {
            while engine.sweep(100) | engine.count_chunks(100) {}
        }
        prop_assert_eq!(rows(&engine), rows(&twin));
        prop_assert_eq!(engine.engine().live_keys(), twin.engine().live_keys());
        prop_assert!(check(&engine).is_clean());
    }
}

/// Written by no engine; the index would refuse it, and so every checkpoint with it.
#[test]
fn a_record_of_a_row_that_no_index_takes_is_damage_and_is_passed_over() {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(disk.files.clone(), 0, &[None], &mut |_, _| ()).unwrap();
    for row_key in [vec![], vec![0; ROW_KEY_MAX + 1]] {
        let mut batch = Vec::new();
        log_record::push(&mut batch, Shard(0), &RecordOut::Forget(&row_key));
        log.commit(&mut batch, true).unwrap();
    }
    drop(log);
    let (reader, writer) = (disk.index.reader(), disk.index.writer());
    let (mut engine, _) = SingleEngine::open(disk.files, reader, writer, 0, config(1, 1)).unwrap();
    assert_eq!(engine.engine().damaged_count(), 2);
    engine.checkpoint().expect("no row is refused");
}
