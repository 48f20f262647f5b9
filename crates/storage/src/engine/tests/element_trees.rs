//! Hash trees over the elements of large collections.

use proptest::prelude::*;

use super::*;
use crate::{ElementKeys, ElementRange, IndexRead, IndexWrite, RowChange, Table};

fn nodes(engine: &mut MemoryEngine, key: &Key, ranges: Vec<ElementRange>) -> Vec<TreeNode> {
    let command = Command::ElementNodes {
        key: key.clone(),
        tag: Tag::ORSET,
        ranges,
        seen: CausalContext::default(),
    };
    match engine.execute_now(command).remove(0) {
        Answer::TreeNodes(nodes) => nodes,
        other => panic!("{other:?}"),
    }
}

fn children(
    engine: &mut MemoryEngine,
    key: &Key,
    range: &ElementRange,
) -> Vec<(ElementRange, TreeNode)> {
    let (key, range, seen) = (key.clone(), range.clone(), CausalContext::default());
    let command = Command::ElementChildren { key, tag: Tag::ORSET, range, seen };
    match engine.execute_now(command).remove(0) {
        Answer::ElementChildren(children) => children,
        other => panic!("{other:?}"),
    }
}

fn digests(engine: &mut MemoryEngine, key: &Key, range: &ElementRange) -> BTreeMap<Blob, u128> {
    let (mut range, mut digests) = (range.clone(), BTreeMap::new());
    loop {
        let (key, range_left, seen) = (key.clone(), range.clone(), CausalContext::default());
        let (tag, limit) = (Tag::ORSET, 5);
        let command = Command::ElementKeys { key, tag, range: range_left, seen, limit };
        match engine.execute_now(command).remove(0) {
            Answer::ElementKeys(ElementKeys { elements, next }) => {
                assert!(elements.len() <= 5);
                digests.extend(elements.into_iter().map(|e| (e.element, e.digest)));
                match next {
                    Some(next) => range.from = next,
                    None => return digests,
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What two replicas find that they hold differently, and how many elements were listed for it.
fn differing(one: &mut MemoryEngine, two: &mut MemoryEngine, key: &Key) -> (BTreeSet<Blob>, usize) {
    let (mut open, mut found, mut listed) = (vec![ElementRange::default()], BTreeSet::new(), 0);
    while let Some(range) = open.pop() {
        let parts = children(one, key, &range);
        if parts.len() > 1 {
            assert!(parts.len() <= 16);
            let ranges = parts.iter().map(|(range, _)| range.clone()).collect();
            let theirs = nodes(two, key, ranges);
            let differ = parts.into_iter().zip(theirs).filter(|((_, mine), theirs)| mine != theirs);
            open.extend(differ.map(|((range, _), _)| range));
            continue;
        }
        let (mine, theirs) = (digests(one, key, &range), digests(two, key, &range));
        listed += mine.len() + theirs.len();
        for element in mine.keys().chain(theirs.keys()) {
            if mine.get(element) != theirs.get(element) {
                found.insert(element.clone());
            }
        }
    }
    (found, listed)
}

fn names(range: std::ops::Range<u32>) -> Vec<Blob> {
    range.map(|n| blob(&format!("{n:05}"))).collect()
}

fn rows(engine: &MemoryEngine, table: Table) -> usize {
    let mut count = 0;
    IndexRead::scan(&engine.index().reader(), table, &[], &mut |_, _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    count
}

fn whole_range(engine: &mut MemoryEngine) -> TreeNode {
    nodes(engine, &key("k"), vec![ElementRange::default()])[0]
}

#[test]
fn a_collection_that_became_large_is_counted_in_the_background_and_in_the_end_agrees_with_its_header()
 {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(0..11))));
    assert_eq!(rows(&one, Table::ElementTree), 0);
    updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(11..100))));
    assert_eq!(rows(&one, Table::ElementTree), 1);
    let mut steps = 0;
    while one.count_chunks(4) {
        steps += 1;
        // Writes on both sides of the place that the count has come to.
        updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Remove(vec![blob("00003")])));
        updated(&mut one, &key("k"), add(&["00003", "00050 and more", "zzz"]));
        assert!(check(&one).is_clean(), "{:?}", check(&one));
    }
    assert!(steps >= 25, "{steps} steps");
    let summary = viewed(&mut one, &key("k"), Scope::Headers).collections[&Tag::ORSET];
    let expected = TreeNode { count: 102, digest: summary.digest, is_settled: true };
    assert_eq!(whole_range(&mut one), expected);
    let again = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
    assert_eq!(check(&again), check(&one));
    // And loses its chunks when it is small again.
    updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Remove(names(0..100))));
    assert_eq!(rows(&one, Table::ElementTree), 0);
    assert_eq!(rows(&one, Table::Meta), 0);
    assert_eq!(whole_range(&mut one).count, 2);
}

#[test]
fn only_elements_near_a_difference_are_listed() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let delta = updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(0..2_000))));
    merged(&mut two, &key("k"), &delta);
    for engine in [&mut one, &mut two] {
        while engine.count_chunks(1_000) {}
        assert!(check(engine).is_clean());
    }
    assert_eq!(differing(&mut one, &mut two, &key("k")), (BTreeSet::new(), 0));
    updated(&mut one, &key("k"), add(&["00777"]));
    updated(&mut two, &key("k"), add(&["between"]));
    let (found, listed) = differing(&mut one, &mut two, &key("k"));
    assert_eq!(found, [blob("00777"), blob("between")].into());
    assert!(listed <= 4 * 8, "{listed} elements listed");
}

#[test]
fn ranges_that_a_peer_makes_up_are_answered() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(0..50))));
    while one.count_chunks(10) {}
    let range = |from: &str, until: Option<&str>| ElementRange {
        from: from.to_owned().into(),
        until: until.map(|until| until.to_owned().into()),
    };
    let long = "x".repeat(2_000);
    let ranges = vec![
        range("00010", Some("00020")),
        range("9", Some("0")),
        range("", Some("")),
        range(&long, None),
        range("00010", Some("00010")),
        range("000105", Some(&long)),
        range("00049", None),
    ];
    let counts: Vec<u64> =
        nodes(&mut one, &key("k"), ranges.clone()).iter().map(|node| node.count).collect();
    assert_eq!(counts, [10, 0, 0, 0, 0, 39, 1]);
    for range in &ranges {
        let parts = children(&mut one, &key("k"), range);
        let count: u64 = parts.iter().map(|(_, node)| node.count).sum();
        assert_eq!(count, digests(&mut one, &key("k"), range).len() as u64);
    }
    let many = vec![range("", None); 100];
    assert_eq!(nodes(&mut one, &key("k"), many).len(), 16);
    assert_eq!(nodes(&mut one, &key("none"), vec![range("", None)]), [TreeNode::EMPTY]);
    assert_eq!(children(&mut one, &key("none"), &range("", None)), []);
}

#[test]
fn damage_in_chunks_or_elements_is_mended_by_the_next_write_or_by_counting_anew() {
    for table in [Table::ElementTree, Table::Element] {
        for by_write in [false, true] {
            let mut one = MemoryEngine::new(config(1, 1));
            updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(0..50))));
            while one.count_chunks(10) {}
            let before = whole_range(&mut one);
            let row = RowKey::of(&key("k")).element(Tag::ORSET, b"00004");
            assert!(one.index().corrupt(table, &row, 9), "a row of every table ends there");
            if table == Table::ElementTree {
                assert_eq!(whole_range(&mut one), before, "counted where a chunk cannot be read");
            }
            assert!(!check(&one).is_clean());
            if by_write {
                updated(&mut one, &key("k"), add(&["00003", "00004"]));
            } else {
                while one.recount_trees(1) {}
            }
            while one.count_chunks(10) {}
            assert!(check(&one).is_clean(), "{table:?} {by_write}: {:?}", check(&one));
        }
    }
}

/// A row that vanished without a trace: the header would go on claiming it.
#[test]
fn a_row_that_is_missing_is_found_by_counting_anew_and_not_taken_from_others() {
    for count in [5, 50] {
        let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
        let delta = updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Add(names(0..count))));
        merged(&mut two, &key("k"), &delta);
        while one.count_chunks(10) {}
        let row = RowKey::of(&key("k")).element(Tag::ORSET, b"00004");
        let change = RowChange { table: Table::Element, key: &row, value: None };
        one.index().writer().commit(&[change]).unwrap();
        assert_eq!(check(&one).wrong_collections, 1);
        while one.recount_trees(1) {}
        while one.count_chunks(10) {}
        assert!(check(&one).is_clean());
        let claimed = Delta::whole(whole(&mut one, &key("k")));
        merged(&mut two, &key("k"), &claimed);
        assert_eq!(elements(&whole(&mut two, &key("k"))).len(), count as usize);
        let theirs = Delta::whole(whole(&mut two, &key("k")));
        merged(&mut one, &key("k"), &theirs);
        assert_eq!(elements(&whole(&mut one, &key("k"))).len(), count as usize);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, Vec<u8>),
    Remove(usize, Vec<u8>),
    Delete(usize),
    Deliver(usize, prop::sample::Index),
    Transfer(usize),
    Sweep(usize, usize),
    Count(usize),
    Recount(usize),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..2_usize;
    let names = || prop::collection::vec(0..60_u8, 1..25);
    prop_oneof![
        6 => (at(), names()).prop_map(|(at, names)| Step::Add(at, names)),
        4 => (at(), names()).prop_map(|(at, names)| Step::Remove(at, names)),
        1 => at().prop_map(Step::Delete),
        4 => (at(), any::<prop::sample::Index>()).prop_map(|(at, delta)| Step::Deliver(at, delta)),
        1 => at().prop_map(Step::Transfer),
        3 => (at(), 1..9_usize).prop_map(|(at, rows)| Step::Sweep(at, rows)),
        5 => at().prop_map(Step::Count),
        2 => at().prop_map(Step::Recount),
        1 => at().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn chunks_are_exact_after_every_step_and_equal_collections_have_equal_trees(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut engines = [1, 2].map(|node| MemoryEngine::new(config(node, node)));
        let key = key("k");
        let blobs = |names: Vec<u8>| -> Vec<Blob> {
            names.into_iter().map(|name| blob(&format!("{name:02}"))).collect()
        };
        let mut history: Vec<Delta> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let at = match step {
                Step::Add(at, names) => {
                    let add = Operation::Orset(OrsetOp::Add(blobs(names)));
                    history.push(updated(&mut engines[at], &key, add));
                    at
                }
                Step::Remove(at, names) => {
                    let remove = Operation::Orset(OrsetOp::Remove(blobs(names)));
                    history.push(updated(&mut engines[at], &key, remove));
                    at
                }
                Step::Delete(at) => {
                    history.push(updated(&mut engines[at], &key, Operation::Delete(None)));
                    at
                }
                Step::Deliver(at, delta) => {
                    if !history.is_empty() {
                        merged(&mut engines[at], &key, delta.get(&history));
                    }
                    at
                }
                Step::Transfer(at) => {
                    let whole = Delta::whole(whole(&mut engines[1 - at], &key));
                    merged(&mut engines[at], &key, &whole);
                    at
                }
                Step::Sweep(at, rows) => {
                    engines[at].sweep(rows);
                    at
                }
                Step::Count(at) => {
                    engines[at].count_chunks(4);
                    at
                }
                Step::Recount(at) => {
                    engines[at].recount_trees(10);
                    at
                }
                Step::Restart(at) => {
                    let disk = engines[at].disk().clone();
                    engines[at] =
                        MemoryEngine::open(disk, config(at as u64 + 1, 100 + n as u64)).unwrap();
                    at
                }
            };
            let found = check(&engines[at]);
            prop_assert!(found.is_clean(), "{:?}", found);
            prop_assert_eq!(engines[at].engine().mended_leaves(), 0);
        }
        let [mut one, mut two] = engines;
        for engine in [&mut one, &mut two] {
            while engine.sweep(7) {}
            while engine.count_chunks(4) {}
            let found = check(engine);
            prop_assert!(found.is_clean(), "{:?}", found);
            let held = whole_range(engine);
            let view = viewed(engine, &key, Scope::Headers);
            let summary = view.collections.get(&Tag::ORSET).copied().unwrap_or_default();
            prop_assert_eq!((held.count, held.digest), (summary.live, summary.digest));
            prop_assert!(held.is_settled);
        }
        let entries = |engine: &mut MemoryEngine| match whole(engine, &key).0.remove(&Tag::ORSET) {
            Some(State::Orset(set)) => set.store.0,
            _ => BTreeMap::new(),
        };
        let (mine, theirs) = (entries(&mut one), entries(&mut two));
        let differ: BTreeSet<Blob> = mine
            .keys()
            .chain(theirs.keys())
            .filter(|name| mine.get(*name) != theirs.get(*name))
            .cloned()
            .collect();
        prop_assert_eq!(differing(&mut one, &mut two, &key).0, differ);
    }
}

/// Every question about elements.
fn asks_of(key: &Key, seen: &CausalContext) -> [Command; 3] {
    let (key, tag, range, seen) = (key.clone(), Tag::ORSET, ElementRange::default(), seen.clone());
    let (ranges, of, limit) = (vec![range.clone()], key.clone(), 5);
    [
        Command::ElementNodes { key: of.clone(), tag, ranges, seen: seen.clone() },
        Command::ElementChildren { key: of, tag, range: range.clone(), seen: seen.clone() },
        Command::ElementKeys { key, tag, range, seen, limit },
    ]
}

/// What a replica had seen when a comparison began says nothing of what it tells of later, once it has
/// lost or dropped some of it.
#[test]
fn elements_are_not_told_of_by_a_replica_that_has_seen_less_than_it_showed() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let key = key("set");
    engine.execute_now(update(&key, Operation::Orset(OrsetOp::Add(vec!["x".into()]))));
    let shown = engine.execute_now(Command::Read { key: key.clone(), scope: Scope::Headers });
    let [Answer::View(view)] = shown.as_slice() else { panic!("{shown:?}") };
    let seen = view.value.context(Tag::ORSET).clone();
    assert!(!seen.is_empty());
    for ask in asks_of(&key, &seen) {
        assert!(!matches!(engine.execute_now(ask).as_slice(), [Answer::Failed(_)]));
    }
    let partition = shards().partitions().partition(Token(values::identifier(b"b", b"set")));
    engine.execute_now(Command::Forget { partition, keys: crate::KeysOf::AllBuckets, limit: 9 });
    for ask in asks_of(&key, &seen) {
        assert_eq!(engine.execute_now(ask), [Answer::Failed(StorageError::Unseen)]);
    }
    for ask in asks_of(&key, &CausalContext::default()) {
        assert!(!matches!(engine.execute_now(ask).as_slice(), [Answer::Failed(_)]));
    }
}

/// Told before that, they might be lost again, and be taken for removed by whoever found them equal.
#[test]
fn elements_are_told_of_once_they_are_durable() {
    let key = key("set");
    let add = |name: &'static str| Operation::Orset(OrsetOp::Add(vec![name.into()]));
    let asks = || asks_of(&key, &CausalContext::default());
    for fails in [false, true] {
        let mut stepped = Stepped::open(&SimDisk::new(), config(1, 1));
        stepped.give(1, update(&key, add("x")));
        for (ticket, ask) in (2..).zip(asks()) {
            stepped.give(ticket, ask);
        }
        assert_eq!(stepped.answered().len(), 1, "only that it is prepared");
        if fails {
            stepped.disk.fail_next(SeamError::Full);
        }
        assert!(stepped.take());
        stepped.commit();
        let answers: Vec<bool> = stepped
            .answered()
            .iter()
            .map(|(_, answer)| matches!(answer, Answer::Failed(_)))
            .collect();
        assert_eq!(answers, [fails; 4]);
    }
}
