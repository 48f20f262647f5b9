//! Hash trees over keys: exact, the same for the same states, and a way to every difference.
//!
//! The named classes of false answers are those of the field: two replicas taken for equal that
//! are not, and two taken for different for ever that are equal.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::record::{decode_leaf, encode_leaf};
use crate::tree::LeafSum;
use crate::{
    IndexRead, IndexWrite, ListPosition, RowChange, Table, TreeClasses, TreeKeys, TreePath,
};

fn children(
    engine: &mut MemoryEngine,
    n: u8,
    partition: Partition,
    path: &TreePath,
) -> Vec<TreeNode> {
    let command = Command::TreeChildren { n, partition, path: path.clone() };
    match engine.execute_now(command).remove(0) {
        Answer::TreeNodes(nodes) => nodes,
        other => panic!("{other:?}"),
    }
}

fn page(
    engine: &mut MemoryEngine,
    n: u8,
    partition: Partition,
    path: &TreePath,
    after: Option<ListPosition>,
) -> TreeKeys {
    let command = Command::TreeKeys { n, partition, path: path.clone(), after, limit: 3 };
    match engine.execute_now(command).remove(0) {
        Answer::TreeKeys(keys) => keys,
        other => panic!("{other:?}"),
    }
}

/// All keys of a node, page by page.
fn keys(
    engine: &mut MemoryEngine,
    n: u8,
    partition: Partition,
    path: &TreePath,
) -> BTreeMap<Blob, Option<u128>> {
    let (mut after, mut keys) = (None, BTreeMap::new());
    loop {
        let page = page(engine, n, partition, path, after);
        assert!(page.keys.len() <= 3);
        keys.extend(page.keys.into_iter().map(|key| (key.key.key().clone(), key.digest)));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

/// What two replicas find that they hold differently, and how many nodes they looked at.
fn differing(one: &mut MemoryEngine, two: &mut MemoryEngine) -> (BTreeSet<Blob>, usize) {
    let (mut found, mut looked) = (BTreeSet::new(), 0);
    let mut open = Vec::new();
    for (at, (one, two)) in roots(one).into_iter().zip(roots(two)).enumerate() {
        if one != two {
            open.push((Partition(at as u32), TreePath::default()));
        }
    }
    while let Some((partition, path)) = open.pop() {
        let nodes = [children(one, 3, partition, &path), children(two, 3, partition, &path)];
        looked += nodes[0].len();
        let count: u64 = nodes.iter().flatten().map(|node| node.count).sum();
        if count > 8 {
            open.extend(
                (0..16_u8)
                    .filter(|at| nodes[0][usize::from(*at)] != nodes[1][usize::from(*at)])
                    .map(|at| (partition, path.child(at))),
            );
            continue;
        }
        let keys = [keys(one, 3, partition, &path), keys(two, 3, partition, &path)];
        for key in keys[0].keys().chain(keys[1].keys()) {
            if keys[0].get(key) != keys[1].get(key) {
                found.insert(key.clone());
            }
        }
    }
    (found, looked)
}

/// Two replicas with the same keys, and what was written.
fn twins(count: u32) -> (MemoryEngine, MemoryEngine) {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    for n in 0..count {
        let key = key(&n.to_string());
        let delta = updated(&mut one, &key, put("value"));
        merged(&mut two, &key, &delta);
    }
    (one, two)
}

#[test]
fn a_way_leads_down_to_the_keys_that_differ_and_to_no_others() {
    let (mut one, mut two) = twins(3_000);
    assert_eq!(roots(&mut one), roots(&mut two));
    assert_eq!(roots(&mut one).iter().map(|node| node.count).sum::<u64>(), 3_000);
    updated(&mut one, &key("17"), put("other"));
    updated(&mut two, &key("new"), put("new"));
    let (found, looked) = differing(&mut one, &mut two);
    assert_eq!(found, [blob("17"), blob("new")].into());
    assert!(looked <= 2 * 16 * 3, "{looked} nodes");
    updated(&mut two, &key("2999"), Operation::Delete(None));
    assert_eq!(differing(&mut one, &mut two).0.len(), 3, "what is left of a deleted key counts");
}

#[test]
fn children_add_up_to_their_parent_above_and_below_the_leaves() {
    let (mut one, _) = twins(2_000);
    let root = roots(&mut one)[5];
    let mut parent = root;
    let mut path = TreePath::default();
    for _ in 0..6 {
        let nodes = children(&mut one, 3, Partition(5), &path);
        assert_eq!(nodes.len(), 16);
        let sum = nodes.iter().fold(TreeNode::EMPTY, |sum, node| TreeNode {
            count: sum.count + node.count,
            digest: sum.digest.wrapping_add(node.digest),
            is_settled: sum.is_settled && node.is_settled,
        });
        assert_eq!(sum, parent, "{path:?}");
        let fullest = (0..16_u8).max_by_key(|at| nodes[usize::from(*at)].count).unwrap();
        parent = nodes[usize::from(fullest)];
        path = path.child(fullest);
        let listed = keys(&mut one, 3, Partition(5), &path);
        assert_eq!(listed.len() as u64, parent.count);
        let sum = listed.values().fold(0_u128, |sum, digest| sum.wrapping_add(digest.unwrap()));
        assert_eq!(sum, parent.digest);
    }
    assert!(parent.count >= 1);
    assert_eq!(root.count, keys(&mut one, 3, Partition(5), &TreePath::default()).len() as u64);
}

/// A client can look for keys whose tokens begin alike.
#[test]
fn a_leaf_with_more_keys_than_one_answer_looks_at_says_that_it_is_not_settled() {
    let mut one = MemoryEngine::new(config(1, 1));
    let names = (0..).map(|n: u32| n.to_string());
    let alike = names.filter(|name| values::identifier(b"b", name.as_bytes()) >> 112 == 0);
    for name in alike.take(20) {
        updated(&mut one, &key(&name), put("v"));
    }
    let leaf = TreePath(vec![0, 0, 0]);
    let nodes = children(&mut one, 3, Partition(0), &leaf);
    assert_eq!(nodes.iter().map(|node| node.count).sum::<u64>(), 16);
    assert!(nodes.iter().any(|node| !node.is_settled));
    assert_eq!(keys(&mut one, 3, Partition(0), &leaf).len(), 20);
    assert_eq!(roots(&mut one)[0].count, 20);
    assert!(roots(&mut one)[0].is_settled);
}

#[test]
fn a_node_that_is_none_is_answered_with_nothing() {
    let (mut one, _) = twins(10);
    for (partition, path) in [(16, vec![]), (u32::MAX, vec![1]), (0, vec![16]), (0, vec![1; 13])] {
        let (partition, path) = (Partition(partition), TreePath(path));
        assert_eq!(children(&mut one, 3, partition, &path), []);
        assert_eq!(page(&mut one, 3, partition, &path, None), TreeKeys::default());
    }
    let command = Command::TreeRoots { n: 3, partitions: vec![Partition(99)] };
    assert_eq!(one.execute_now(command), [Answer::TreeNodes(vec![TreeNode::EMPTY])]);
    let beyond = Some(ListPosition(vec![255; 600].into()));
    let root = TreePath::default();
    assert_eq!(page(&mut one, 3, Partition(0), &root, beyond), TreeKeys::default());
}

/// Replicas of a bucket with another n are others.
#[test]
fn keys_of_a_bucket_with_another_n_are_in_another_tree() {
    let mut one = MemoryEngine::new(config(1, 1));
    let mut classes = TreeClasses::default();
    classes.set("few".into(), 1, 0);
    one.set_tree_classes(classes.clone());
    let few = Key::new("few", "k").unwrap();
    updated(&mut one, &few, put("1"));
    updated(&mut one, &key("k"), put("1"));
    let of_class = |engine: &mut MemoryEngine, n| {
        (0..16).map(|at| keys(engine, n, Partition(at), &TreePath::default()).len()).sum::<usize>()
    };
    assert_eq!([1, 2, 3].map(|n| of_class(&mut one, n)), [1, 0, 1]);
    assert!(check(&one).is_clean());
    // The bucket's n changes: its keys move as they are written or counted anew.
    let mut two = MemoryEngine::new(config(2, 2));
    classes.set("few".into(), 2, 0);
    two.set_tree_classes(classes.clone());
    merged(&mut two, &few, &Delta::whole(whole(&mut one, &few)));
    one.set_tree_classes(classes);
    assert_eq!(of_class(&mut one, 1), 1);
    while one.recount_trees(1) {}
    assert_eq!([1, 2, 3].map(|n| of_class(&mut one, n)), [0, 1, 1]);
    assert!(check(&one).is_clean());
    for at in (0..16).map(Partition) {
        let root = TreePath::default();
        assert_eq!(keys(&mut one, 2, at, &root), keys(&mut two, 2, at, &root));
    }
}

/// The log says nothing of policies: what is replayed is counted before anybody does.
#[test]
fn after_a_crash_replayed_keys_are_in_the_trees_of_their_classes() {
    let disk = SimDisk::new();
    let mut classes = TreeClasses::new(1);
    classes.set("many".into(), 5, 0);
    let many = Key::new("many", "k").unwrap();
    let mut engine = Stepped::open(&disk, config(1, 1));
    engine.engine.set_tree_classes(classes.clone());
    engine.give(1, update(&key("k"), put("1")));
    engine.give(2, update(&many, put("1")));
    assert!(engine.take());
    engine.commit();
    let roots = |engine: &mut Stepped, n| {
        engine.answered();
        for partition in (0..16).map(Partition) {
            engine.give(9, Command::TreeRoots { n, partitions: vec![partition] });
        }
        engine.answered()
    };
    let before = [1, 3, 5].map(|n| roots(&mut engine, n));
    assert_ne!(before[0], before[1]);
    let mut again = Stepped::open(&disk, config(1, 2));
    again.engine.set_tree_classes(classes);
    assert_eq!([1, 3, 5].map(|n| roots(&mut again, n)), before);
    assert!(again.engine.check_trees().unwrap().is_clean());
}

fn leaf_rows(index: &SimIndex) -> Vec<(Vec<u8>, LeafSum)> {
    let mut rows = Vec::new();
    let visit = &mut |row: &[u8], record: &[u8]| {
        rows.push((row.to_vec(), decode_leaf(row, record).unwrap()));
        ControlFlow::Continue(())
    };
    index.reader().scan(Table::Tree, &[], visit).unwrap();
    rows
}

/// Writes a whole leaf that says what is not so.
fn falsify(index: &SimIndex, row: &[u8], sum: LeafSum) {
    let record = encode_leaf(row, sum);
    let change = RowChange { table: Table::Tree, key: row, value: Some(&record) };
    index.writer().commit(&[change]).unwrap();
}

/// False equal (OpenRiak issue 9: all replicas held the same wrong segment).
#[test]
fn replicas_with_the_same_wrong_leaf_do_not_stay_equal() {
    let (mut one, mut two) = twins(10);
    updated(&mut one, &key("3"), put("only here"));
    let (row, sum) = leaf_rows(one.index()).remove(0);
    let rows: Vec<_> = leaf_rows(one.index());
    for (row, _) in &rows {
        for engine in [&one, &two] {
            falsify(engine.index(), row, sum);
        }
    }
    assert_eq!(roots(&mut one), roots(&mut two), "both are wrong in the same way");
    assert_eq!(check(&one).wrong_leaves, rows.len() as u64 - 1, "all but {row:?}");
    for engine in [&mut one, &mut two] {
        while engine.recount_trees(1) {}
        assert!(check(engine).is_clean());
    }
    assert_eq!(differing(&mut one, &mut two).0, [blob("3")].into());
    assert!(one.engine().mended_leaves() > 0);
}

/// False different for ever (riak_kv pull request 473: repair finds no object that differs, and so
/// never writes the tree).
#[test]
fn a_wrong_leaf_over_equal_keys_does_not_stay_different() {
    let (mut one, mut two) = twins(10);
    let (row, sum) = leaf_rows(one.index()).remove(0);
    falsify(one.index(), &row, LeafSum { digest: sum.digest ^ 1, ..sum });
    assert_ne!(roots(&mut one), roots(&mut two));
    assert_eq!(differing(&mut one, &mut two).0, BTreeSet::new(), "no key differs");
    while one.recount_trees(1) {}
    assert_eq!(roots(&mut one), roots(&mut two));
}

/// The same of a leaf that lacks a key that is now changed: nothing is taken from it blindly.
#[test]
fn a_leaf_that_lacks_what_is_taken_from_it_is_counted_anew() {
    let (mut one, _) = twins(10);
    for (row, _) in leaf_rows(one.index()) {
        falsify(one.index(), &row, LeafSum::default());
    }
    for n in 0..10 {
        updated(&mut one, &key(&n.to_string()), put("new"));
    }
    assert!(check(&one).is_clean());
}

/// A write between what was counted and what is still to be.
#[test]
fn writes_while_leaves_are_counted_anew_are_counted_once() {
    let (mut one, mut two) = twins(200);
    for n in 0..200_u32 {
        one.recount_trees(1);
        let key = key(&(n * 7 % 250).to_string());
        let delta = updated(&mut one, &key, put("new"));
        merged(&mut two, &key, &delta);
        assert!(check(&one).is_clean());
    }
    assert_eq!(one.engine().mended_leaves(), 0);
    assert_eq!(roots(&mut one), roots(&mut two));
}

#[test]
fn after_a_batch_that_failed_or_did_not_seem_to_the_trees_are_those_of_what_is_there() {
    for is_applied in [false, true] {
        let disk = SimDisk::new();
        let mut one = Stepped::open(&disk, config(1, 1));
        let give = |one: &mut Stepped, name: &str| {
            one.give(1, update(&key(name), add(&["x"])));
        };
        give(&mut one, "a");
        assert!(one.take());
        one.commit();
        one.checkpoint();
        give(&mut one, "a");
        give(&mut one, "b");
        assert!(one.take());
        give(&mut one, "b");
        give(&mut one, "c");
        if is_applied {
            // It is in the file, and whether on the disk nobody knows.
            disk.files.fail_next_sync();
        } else {
            disk.fail_next(SeamError::Full);
        }
        one.commit();
        let found = one.engine.check_trees().unwrap();
        assert!(found.is_clean(), "{found:?}");
        assert_eq!(found.keys, 1);
        // And so it is for who opens it after a crash that kept what was in the file.
        disk.files.process_ended();
        let again = check(&MemoryEngine::open(disk, config(1, 2)).unwrap());
        assert!(again.is_clean(), "{again:?}");
        assert_eq!(again.keys, if is_applied { 2 } else { 1 });
    }
}

/// What waits for the sweep counts as not settled, and then as what is left.
#[test]
fn a_collection_cleared_of_a_part_is_not_settled_until_it_is_swept() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let seen = updated(&mut one, &key("k"), add(&names));
    merged(&mut two, &key("k"), &seen);
    let unseen = updated(&mut two, &key("k"), add(&["unseen"]));
    let cleared = updated(&mut one, &key("k"), Operation::Delete(None));
    merged(&mut two, &key("k"), &cleared);
    merged(&mut one, &key("k"), &unseen);
    assert!(roots(&mut one).iter().all(|node| node.is_settled), "it had seen everything");
    assert!(roots(&mut two).iter().any(|node| !node.is_settled));
    assert_eq!(differing(&mut one, &mut two).0, [blob("k")].into(), "not told apart yet");
    assert!(check(&two).is_clean());
    while two.sweep(2) {}
    assert_eq!(roots(&mut one), roots(&mut two));
}

/// A key's tree of nothing is that of no key: else repair would find no difference to send.
#[test]
fn a_key_of_which_nothing_is_left_after_damage_is_like_one_never_written() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), count(1));
    let row = RowKey::of(&key("k"));
    assert!(one.index().corrupt(Table::Header, row.as_bytes(), 9));
    let nothing = Delta::whole(Value::default());
    merged(&mut one, &key("k"), &nothing);
    assert_eq!(one.execute_now(read(&key("k"), Scope::Whole)).len(), 1);
    updated(&mut one, &key("other"), count(1));
    while one.recount_trees(1) {}
    assert!(one.engine().damaged_count() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Many keys, deltas in any order and some never; then the descent finds exactly what differs.
    #[test]
    fn replicas_find_exactly_what_they_hold_differently(
        writes in prop::collection::vec((0..40_u32, 0..3_u8, any::<bool>()), 0..120),
    ) {
        let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
        let mut names = BTreeSet::new();
        for (name, operation, is_delivered) in writes {
            let key = key(&name.to_string());
            names.insert(key.clone());
            let operation = match operation {
                0 => Operation::Delete(None),
                _ if name % 2 == 0 => put("v"),
                _ => add(&["x", "y"]),
            };
            let delta = updated(&mut one, &key, operation);
            if is_delivered {
                merged(&mut two, &key, &delta);
            }
        }
        while one.sweep(10) {}
        while two.sweep(10) {}
        let differ: BTreeSet<Blob> = names
            .into_iter()
            .filter(|key| whole(&mut one, key) != whole(&mut two, key))
            .map(|key| key.key().clone())
            .collect();
        prop_assert_eq!(differing(&mut one, &mut two).0, differ);
    }
}
