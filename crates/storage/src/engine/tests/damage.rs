//! Damaged records: reported, never confused, never a panic, and healed by merges.

use std::ops::ControlFlow;

use proptest::prelude::*;
use values::MapOp;

use super::*;
use crate::{IndexRead, IndexWrite, Pending, RowChange, Table};

fn rows(index: &SimIndex, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    index
        .reader()
        .scan(table, &[], &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn corrupt_all(index: &SimIndex, table: Table) {
    for (key, value) in rows(index, table) {
        assert!(index.corrupt(table, &key, value.len() - 1));
    }
}

fn long() -> String {
    "k".repeat(1000)
}

const OWNER: NodeId = NodeId(9);

/// A replica with something in every table, and a twin that holds the same.
fn twins() -> (MemoryEngine, MemoryEngine) {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let increment = Operation::Map(MapOp::Increment { field: blob("f"), by: 3 });
    let writes = [
        (key("set"), add(&["x", "y", &"e".repeat(300)])),
        (key(&long()), add(&["x", "y"])),
        (key("cleared"), add(&["x", "y"])),
        (key("cleared"), Operation::Delete(None)),
        (key("map"), increment),
        (key("count"), count(7)),
        (key("raw"), put("1")),
    ];
    for (key, operation) in writes {
        let delta = updated(&mut one, &key, operation);
        merged(&mut two, &key, &delta);
        assert_eq!(one.execute_now(deferred(OWNER, &key, &delta)), [Answer::Durable]);
    }
    (one, two)
}

fn keys() -> Vec<Key> {
    let long = long();
    ["set", &long, "cleared", "map", "count", "raw"].map(key).into()
}

#[test]
fn a_damaged_key_is_reported_until_a_merge_makes_it_whole() {
    for table in [Table::Header, Table::Element] {
        let (mut one, mut two) = twins();
        corrupt_all(one.index(), table);
        let answer = one.execute_now(read(&key("set"), Scope::Whole)).remove(0);
        assert!(matches!(answer, Answer::Failed(StorageError::Corrupt(_))), "{answer:?}");
        assert_eq!(one.engine().damaged_count(), 1);
        for key in keys() {
            let value = whole(&mut two, &key);
            merged(&mut one, &key, &Delta::whole(value.clone()));
            assert_eq!(whole(&mut one, &key), value);
            let view = viewed(&mut one, &key, Scope::Headers);
            assert_eq!(view, viewed(&mut two, &key, Scope::Headers));
        }
        let live = one.engine().live_keys();
        let again = MemoryEngine::open(one.disk().clone(), config(1, 3)).unwrap();
        assert_eq!((live, again.engine().live_keys()), (5, 5));
    }
}

/// What a damaged record had added to its leaf nobody knows.
#[test]
fn trees_are_exact_again_once_damage_was_met() {
    for table in [Table::Header, Table::Element, Table::Tree] {
        let (mut one, mut two) = twins();
        assert!(check(&one).is_clean());
        corrupt_all(one.index(), table);
        assert!(!check(&one).is_clean(), "{table:?}");
        for key in keys() {
            let value = whole(&mut two, &key);
            merged(&mut one, &key, &Delta::whole(value));
        }
        assert_eq!(roots(&mut one), roots(&mut two), "{table:?}");
        // Nothing wrote the damaged leaves, which were counted for each answer, nor the rows that a
        // clearing had left to the sweep, which passes damaged ones over.
        while one.sweep(10) {}
        while one.recount_trees(1) {}
        assert!(check(&one).is_clean(), "{table:?}");
        // A replica that dropped such a row claims less than it did, and is given it again.
        let value = whole(&mut two, &key("cleared"));
        merged(&mut one, &key("cleared"), &Delta::whole(value));
        assert_eq!(roots(&mut one), roots(&mut two), "{table:?}");
    }
}

/// The tree must not go on saying that a key is whole here.
#[test]
fn counting_anew_shows_what_is_damaged_and_brings_its_rows_back_to_what_is_whole() {
    let (mut one, mut two) = twins();
    corrupt_all(one.index(), Table::Header);
    while one.recount_trees(1) {}
    assert!(roots(&mut one).iter().any(|node| !node.is_settled));
    let (mut one, _) = twins();
    assert_eq!(roots(&mut one), roots(&mut two));
    corrupt_all(one.index(), Table::Element);
    while one.sweep(10) {}
    while one.recount_trees(1) {}
    assert!(check(&one).is_clean());
    assert_ne!(roots(&mut one), roots(&mut two), "what was lost is missing in the tree");
}

/// A row is lost and every other record whole. What others send again must not count as removed when it is done
/// again over the header that claims it still.
#[test]
fn what_comes_back_after_counting_anew_is_there_after_a_crash() {
    let mut two = MemoryEngine::new(config(2, 2));
    updated(&mut two, &key("set"), add(&["x", "y"]));
    let value = whole(&mut two, &key("set"));
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    let commit = |one: &mut Stepped, command| {
        one.give(1, command);
        assert!(one.take());
        one.commit();
        assert_eq!(one.answered(), [(1, Answer::Merged(None))]);
    };
    commit(&mut one, merge(&key("set"), &Delta::whole(value.clone())));
    one.checkpoint();
    let row = RowKey::of(&key("set")).element(Tag::ORSET, b"y");
    let change = RowChange { table: Table::Element, key: &row, value: None };
    disk.index.writer().commit(&[change]).unwrap();
    while one.engine.recount_trees(1) {}
    assert_eq!(one.engine.damaged_count(), 1);
    commit(&mut one, merge(&key("set"), &Delta::whole(value.clone())));
    drop(one);
    let mut again = MemoryEngine::open(disk, config(1, 3)).unwrap();
    assert_eq!(whole(&mut again, &key("set")), value);
    assert_eq!(roots(&mut again), roots(&mut two));
}

/// Nothing would ever be merged into a key that only this replica writes.
#[test]
fn an_update_makes_a_damaged_key_whole_and_issues_no_dot_twice() {
    for table in [Table::Header, Table::Element] {
        let (mut one, mut two) = twins();
        corrupt_all(one.index(), table);
        for (key, operation) in
            [(key("set"), add(&["x", "y", "z"])), (key("count"), count(10)), (key("raw"), put("2"))]
        {
            let delta = updated(&mut one, &key, operation);
            merged(&mut two, &key, &delta);
            let theirs = whole(&mut two, &key);
            merged(&mut one, &key, &Delta::whole(theirs));
        }
        for engine in [&mut one, &mut two] {
            let expected = ["x", "y", "z", &"e".repeat(300)].map(blob).into();
            assert_eq!(elements(&whole(engine, &key("set"))), expected, "{table:?}");
            assert_eq!(counted(&whole(engine, &key("count"))), 17, "{table:?}");
            let expected = [blob("1"), blob("2")].into();
            assert_eq!(values_of(&whole(engine, &key("raw"))), expected, "{table:?}");
        }
    }
}

/// A context that still claimed the dots of a lost row would remove them everywhere.
#[test]
fn what_a_damaged_row_held_is_not_taken_from_others() {
    let (mut one, mut two) = twins();
    let before = elements(&whole(&mut two, &key("set")));
    corrupt_all(one.index(), Table::Element);
    // Names the damaged row.
    let delta = updated(&mut two, &key("set"), add(&["x"]));
    merged(&mut one, &key("set"), &delta);
    assert_eq!(elements(&whole(&mut one, &key("set"))), [blob("x")].into());
    let claimed = Delta::whole(whole(&mut one, &key("set")));
    merged(&mut two, &key("set"), &claimed);
    assert_eq!(elements(&whole(&mut two, &key("set"))), before);
}

#[test]
fn elements_outlive_their_damaged_header() {
    let (mut one, mut two) = twins();
    corrupt_all(one.index(), Table::Header);
    let delta = updated(&mut two, &key("set"), add(&["z"]));
    merged(&mut one, &key("set"), &delta);
    assert_eq!(elements(&whole(&mut one, &key("set"))), elements(&whole(&mut two, &key("set"))));
    let summary = |engine: &mut MemoryEngine| {
        viewed(engine, &key("set"), Scope::Headers).collections[&Tag::ORSET]
    };
    assert_eq!(summary(&mut one), summary(&mut two));
}

/// In a cluster of one nobody else could take it away again.
#[test]
fn what_was_cleared_does_not_come_back_when_the_header_is_lost() {
    for name in ["k".to_owned(), long()] {
        for swept_before in [false, true] {
            let mut one = MemoryEngine::new(config(1, 1));
            updated(&mut one, &key(&name), add(&["x", "y", "z"]));
            updated(&mut one, &key(&name), Operation::Delete(None));
            corrupt_all(one.index(), Table::Header);
            // It meets the damage, and must not forget what it came for.
            while swept_before && one.sweep(1) {}
            let mut one = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
            updated(&mut one, &key(&name), add(&["new"]));
            assert_eq!(elements(&whole(&mut one, &key(&name))), [blob("new")].into());
            while one.sweep(1) {}
            assert_eq!(elements(&whole(&mut one, &key(&name))), [blob("new")].into());
            let left = [Table::Element, Table::Meta].map(|table| rows(one.index(), table).len());
            assert_eq!(left, [1, 0]);
        }
    }
}

/// The rows of one are passed over until a write makes it anew; those of the others go.
#[test]
fn a_damaged_header_holds_up_the_sweep_of_no_other_collection() {
    let mut one = MemoryEngine::new(config(1, 1));
    for name in ["a", "b", "c"] {
        updated(&mut one, &key(name), add(&["x", "y"]));
        updated(&mut one, &key(name), Operation::Delete(None));
    }
    let at = RowKey::of(&key("b"));
    assert!(one.index().corrupt(Table::Header, at.as_bytes(), 0));
    while one.sweep(1) {}
    assert_eq!(one.engine().damaged_count(), 1);
    let kept: Vec<_> = rows(one.index(), Table::Meta).into_iter().map(|(row, _)| row).collect();
    assert_eq!(kept.last(), Some(&at.sweep(Tag::ORSET)), "beside two remnants");
    assert_eq!(rows(one.index(), Table::Element).len(), 2);
    updated(&mut one, &key("b"), count(1));
    while one.sweep(1) {}
    assert_eq!(rows(one.index(), Table::Element).len(), 0);
}

#[test]
fn after_damage_no_actor_drawn_before_goes_on() {
    let mut one = MemoryEngine::new(config(1, 1));
    let first = updated(&mut one, &key("c"), count(1));
    updated(&mut one, &key("c"), count(1));
    corrupt_all(one.index(), Table::Header);
    merged(&mut one, &key("c"), &first);
    let third = updated(&mut one, &key("c"), count(1));
    let actors = |delta: &Delta| -> Vec<_> { delta.value.context(Tag::COUNTER).actors().collect() };
    assert_ne!(actors(&first), actors(&third));
}

/// The row with the latest dot is lost; what is left shows the actor at an earlier one.
#[test]
fn a_context_made_anew_from_rows_is_not_gone_on_from() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    updated(&mut one, &key("s"), add(&["x"]));
    let second = updated(&mut one, &key("s"), add(&["y"]));
    let row = RowKey::of(&key("s")).element(Tag::ORSET, b"y");
    assert!(one.index().corrupt(Table::Element, &row, 0));
    let concurrent = updated(&mut two, &key("s"), add(&["y"]));
    merged(&mut one, &key("s"), &concurrent);
    let third = updated(&mut one, &key("s"), add(&["z"]));
    let dots = |delta: &Delta| -> Vec<_> { delta.value.context(Tag::ORSET).ranges().collect() };
    assert_ne!(dots(&second), dots(&third));
}

#[test]
fn a_damaged_pending_delta_is_replaced() {
    let (mut one, _) = twins();
    assert_eq!(one.engine().pending_for(OWNER), 6);
    corrupt_all(one.index(), Table::Outbox);
    let delta = updated(&mut one, &key("set"), add(&["x"]));
    let defer = deferred(OWNER, &key("set"), &delta);
    assert_eq!(one.execute_now(defer), [Answer::Durable]);
    assert_eq!(one.engine().pending_for(OWNER), 6);
    let pending = listed(&mut one);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].delta, delta);
}

fn listed(engine: &mut MemoryEngine) -> Vec<Pending> {
    let list = Command::Outbox { owner: OWNER, after: None, limit: 10 };
    match engine.execute_now(list).remove(0) {
        Answer::Outbox(pending) => pending,
        other => panic!("{other:?}"),
    }
}

/// While anything is pending no stage of the barrier is noted, and a leaving node stays.
#[test]
fn damaged_pending_deltas_are_gone_once_they_are_listed() {
    let (mut one, _) = twins();
    corrupt_all(one.index(), Table::Outbox);
    assert_eq!(listed(&mut one), []);
    assert_eq!(one.engine().damaged_count(), 6);
    assert!(!one.engine().has_pending());
    assert_eq!(one.engine().pending_bytes_for(OWNER), 0);
    assert_eq!(rows(one.index(), Table::Outbox), []);
    let again = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
    assert!(!again.engine().has_pending());
}

/// A shorter record than the one that was counted stands in its row.
#[test]
fn a_pending_delta_in_the_wrong_place_leaves_nothing_counted_once_it_is_gone() {
    let mut one = MemoryEngine::new(config(1, 1));
    for (name, length) in [("a", 1), ("b", 1_000)] {
        let delta = updated(&mut one, &key(name), put(&"x".repeat(length)));
        one.execute_now(deferred(OWNER, &key(name), &delta));
    }
    let mut pending = rows(one.index(), Table::Outbox);
    pending.sort_by_key(|(_, record)| record.len());
    assert!(one.index().misdirect(Table::Outbox, &pending[0].0, &pending[1].0));
    for left in listed(&mut one) {
        let Pending { position, version, .. } = left;
        one.execute_now(Command::Delivered { position, version });
    }
    assert_eq!(rows(one.index(), Table::Outbox), []);
    assert!(!one.engine().has_pending());
    assert_eq!(one.engine().pending_bytes_for(OWNER), 0);
}

/// What is listed is a page, and an empty page is the last.
#[test]
fn damaged_pending_deltas_hold_up_none_behind_them_however_long_they_are() {
    let mut one = MemoryEngine::new(config(1, 1));
    let names = ["a", "b", "c", "d"];
    for name in names {
        let delta = updated(&mut one, &key(name), put(&"x".repeat(600_000)));
        assert_eq!(one.execute_now(deferred(OWNER, &key(name), &delta)), [Answer::Durable]);
    }
    let pending = rows(one.index(), Table::Outbox);
    for (row, record) in &pending[..names.len() - 1] {
        assert!(one.index().corrupt(Table::Outbox, row, record.len() - 1));
    }
    assert_eq!(listed(&mut one).len(), 1);
    assert_eq!(one.engine().pending_for(OWNER), 1);
}

/// Nobody would list it again.
#[test]
fn a_page_without_damaged_rows_is_answered_once_the_log_knows_that_they_are_gone() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    let delta = updated(&mut MemoryEngine::new(config(2, 1)), &key("k"), add(&["x"]));
    one.give(1, deferred(OWNER, &key("k"), &delta));
    assert!(one.take());
    one.commit();
    one.answered();
    one.checkpoint();
    let pending = rows(&disk.index, Table::Outbox);
    assert!(disk.index.corrupt(Table::Outbox, &pending[0].0, 9));
    one.give(2, Command::Outbox { owner: OWNER, after: None, limit: 10 });
    assert_eq!(one.answered(), []);
    disk.fail_next(SeamError::Full);
    assert!(one.take());
    one.commit();
    let answers = one.answered();
    assert!(matches!(answers[..], [(2, Answer::Failed(StorageError::Full))]), "{answers:?}");
    assert!(one.engine.has_pending());
    one.give(3, Command::Outbox { owner: OWNER, after: None, limit: 10 });
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered(), [(3, Answer::Outbox(Vec::new()))]);
    assert!(!one.engine.has_pending());
}

/// Else the outbox would count as full, or never as empty.
#[test]
fn rows_that_the_disk_lost_are_counted_until_their_owner_is_looked_for() {
    let mut one = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut one, &key("k"), add(&["x"]));
    one.execute_now(deferred(OWNER, &key("k"), &delta));
    one.execute_now(deferred(OWNER, &key("other"), &delta));
    let kept = rows(one.index(), Table::Outbox);
    let change = RowChange { table: Table::Outbox, key: &kept[0].0, value: None };
    one.index().writer().commit(&[change]).unwrap();
    assert!(one.index().corrupt(Table::Outbox, &kept[1].0, 9));
    assert!(one.engine().has_pending());
    assert_eq!(listed(&mut one), []);
    assert!(!one.engine().has_pending());
    assert_eq!(one.engine().pending_bytes_for(OWNER), 0);
    assert_eq!(one.engine().damaged_count(), 2);
}

/// What is kept after a damaged row was deleted has a number that a log without the deletion would not give
/// it again, and its delivery is told by that number.
#[test]
fn after_a_crash_nothing_is_pending_again_where_a_damaged_row_was() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    let write = |one: &mut Stepped, command: Command| {
        one.give(1, command);
        if one.take() {
            one.commit();
        }
        one.answered()
    };
    let delta = |n: u32| {
        let names: Vec<String> = (0..1_000).map(|name| format!("{n}-{name:0100}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        updated(&mut MemoryEngine::new(config(2, n.into())), &key("k"), add(&names))
    };
    for n in 1..=2 {
        write(&mut one, deferred(OWNER, &key("k"), &delta(n)));
    }
    one.checkpoint();
    let pending = rows(&disk.index, Table::Outbox);
    assert_eq!(pending.len(), 2, "each fills a row");
    for (row, _) in &pending {
        assert!(disk.index.corrupt(Table::Outbox, row, 9));
    }
    let list = Command::Outbox { owner: OWNER, after: None, limit: 10 };
    assert_eq!(write(&mut one, list.clone()), [(1, Answer::Outbox(Vec::new()))]);
    write(&mut one, deferred(OWNER, &key("k"), &delta(3)));
    let [(1, Answer::Outbox(pending))] = &write(&mut one, list)[..] else { panic!("it is listed") };
    let [Pending { position, version, .. }] = &pending[..] else { panic!("{pending:?}") };
    write(&mut one, Command::Delivered { position: position.clone(), version: *version });
    assert!(!one.engine.has_pending());
    let again = Stepped::open(&disk, config(1, 2));
    assert!(!again.engine.has_pending());
}

/// A row read back under another key than it was written under is damaged too.
#[test]
fn a_whole_record_in_the_wrong_place_is_damaged() {
    let (mut one, _) = twins();
    let record = |name: &str| {
        let at = RowKey::of(&key(name));
        let mut record = None;
        let look = &mut |bytes: &[u8]| record = Some(bytes.to_vec());
        assert_eq!(one.index().reader().get(Table::Header, at.as_bytes(), look), Ok(true));
        (at.as_bytes().to_vec(), record)
    };
    let ((place, _), (_, other)) = (record("count"), record("raw"));
    let change = RowChange { table: Table::Header, key: &place, value: other.as_deref() };
    one.index().writer().commit(&[change]).unwrap();
    let answer = one.execute_now(read(&key("count"), Scope::Headers)).remove(0);
    assert!(matches!(answer, Answer::Failed(StorageError::Corrupt(_))), "{answer:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Any bytes in any row: every command is answered, what is not reported as damaged is right,
    /// and merging what the twin holds brings everything back.
    #[test]
    fn no_bytes_on_disk_make_the_engine_panic_or_tell_a_lie(
        hits in prop::collection::vec(
            (0..Table::ALL.len(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40),
             any::<prop::sample::Index>()),
            1..6,
        ),
        replace in any::<bool>(),
    ) {
        let (one, mut two) = twins();
        for (table, row, bytes, offset) in hits {
            let table = Table::ALL[table];
            let stored = rows(one.index(), table);
            if stored.is_empty() {
                continue;
            }
            let (key, value) = row.get(&stored);
            if replace {
                let change = RowChange { table, key, value: Some(&bytes) };
                one.index().writer().commit(&[change]).unwrap();
            } else {
                one.index().corrupt(table, key, offset.index(value.len()));
            }
        }
        let disk = one.disk().clone();
        let mut one = MemoryEngine::open(disk, config(1, 3)).unwrap();
        for key in keys() {
            for scope in [
                Scope::Headers,
                Scope::Whole,
                Scope::Removal,
                Scope::Elements { tag: Tag::ORSET, elements: [blob("x")].into() },
                Scope::Range { tag: Tag::ORSET, after: None, limit: 1 },
            ] {
                let expected = viewed(&mut two, &key, scope.clone());
                match one.execute_now(read(&key, scope)).remove(0) {
                    Answer::View(view) => prop_assert_eq!(view, expected),
                    Answer::Failed(StorageError::Corrupt(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            one.execute_now(Command::Explain { key: key.clone() });
        }
        one.execute_now(Command::Outbox { owner: OWNER, after: None, limit: 10 });
        for partition in (0..16).map(Partition) {
            let bucket = blob("b");
            let partitions = vec![partition];
            one.execute_now(Command::Count { partitions, bucket: BucketId::first(bucket.clone()) });
            one.execute_now(Command::List { first: partition, last: partition, bucket: BucketId::first(bucket), after: None, limit: 10 });
        }
        while one.sweep(1) {}
        for key in keys() {
            let value = whole(&mut two, &key);
            merged(&mut one, &key, &Delta::whole(value.clone()));
            prop_assert_eq!(whole(&mut one, &key), value);
        }
    }
}
