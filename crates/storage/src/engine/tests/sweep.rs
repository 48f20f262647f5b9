//! Clearing a collection at once, and sweeping its rows away later.

use std::ops::ControlFlow;

use values::MapOp;

use super::*;
use crate::{IndexRead, Table};

fn rows(index: &SimIndex, table: Table) -> usize {
    let mut count = 0;
    index
        .reader()
        .scan(table, &[], &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    count
}

fn names(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{n:04}")).collect()
}

fn filled(engine: &mut MemoryEngine, key: &Key, count: u32) {
    let names = names(count);
    updated(engine, key, add(&names.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn deleting_a_set_writes_its_header_at_once_and_its_rows_when_swept() {
    let mut one = MemoryEngine::new(config(1, 1));
    filled(&mut one, &key("k"), 100);
    while one.count_chunks(100) {}
    assert_eq!(rows(one.index(), Table::Meta), 0);
    updated(&mut one, &key("k"), Operation::Delete(None));
    assert_eq!(rows(one.index(), Table::Element), 100);
    assert_eq!(rows(one.index(), Table::Meta), 1);
    assert_eq!(one.engine().live_keys(), 0);
    assert_eq!(elements(&whole(&mut one, &key("k"))), BTreeSet::new());
    assert!(one.sweep(30));
    assert_eq!(rows(one.index(), Table::Element), 70);
    while one.sweep(30) {}
    assert_eq!(rows(one.index(), Table::Element), 0);
    assert_eq!(rows(one.index(), Table::Meta), 0);
    assert!(!one.sweep(30));
}

#[test]
fn what_is_added_while_dead_rows_wait_is_alone_there() {
    let mut one = MemoryEngine::new(config(1, 1));
    filled(&mut one, &key("k"), 10);
    updated(&mut one, &key("k"), Operation::Delete(None));
    updated(&mut one, &key("k"), add(&["0003", "new"]));
    let expected: BTreeSet<_> = [blob("0003"), blob("new")].into();
    assert_eq!(elements(&whole(&mut one, &key("k"))), expected);
    let removed =
        updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Remove(vec![blob("0004")])));
    assert!(removed.named_elements(Tag::ORSET).is_empty(), "a dead element is not observed");
    assert!(one.sweep(2));
    assert_eq!(elements(&whole(&mut one, &key("k"))), expected);
    while one.sweep(2) {}
    assert_eq!(elements(&whole(&mut one, &key("k"))), expected);
    assert_eq!(rows(one.index(), Table::Element), 2);
}

#[test]
fn a_set_cleared_again_while_it_is_swept_is_swept_from_its_beginning() {
    let mut one = MemoryEngine::new(config(1, 1));
    filled(&mut one, &key("k"), 10);
    updated(&mut one, &key("k"), Operation::Delete(None));
    assert!(one.sweep(5));
    updated(&mut one, &key("k"), add(&["0000"]));
    updated(&mut one, &key("k"), Operation::Delete(None));
    while one.sweep(5) {}
    assert_eq!(rows(one.index(), Table::Element), 0);
}

#[test]
fn a_sweep_goes_on_after_a_crash() {
    let mut one = MemoryEngine::new(config(1, 1));
    let long = key(&"k".repeat(1000));
    filled(&mut one, &long, 10);
    updated(&mut one, &long, Operation::Delete(None));
    assert!(one.sweep(5));
    let mut two = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
    while two.sweep(5) {}
    assert_eq!(rows(two.index(), Table::Element), 0);
    assert_eq!(rows(two.index(), Table::Meta), 0);
}

#[test]
fn a_clearing_that_had_not_seen_everything_leaves_the_rest() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let seen = updated(&mut one, &key("k"), add(&["seen", "both"]));
    merged(&mut two, &key("k"), &seen);
    let unseen = updated(&mut one, &key("k"), add(&["both", "unseen"]));
    let cleared = updated(&mut two, &key("k"), Operation::Delete(None));
    merged(&mut one, &key("k"), &cleared);
    let view = viewed(&mut one, &key("k"), Scope::Headers);
    assert_eq!(view.collections[&Tag::ORSET].live, 2);
    merged(&mut two, &key("k"), &unseen);
    let expected: BTreeSet<_> = [blob("both"), blob("unseen")].into();
    for engine in [&mut one, &mut two] {
        assert_eq!(elements(&whole(engine, &key("k"))), expected);
        while engine.sweep(1) {}
        assert_eq!(elements(&whole(engine, &key("k"))), expected);
    }
    let digest = |engine: &mut MemoryEngine| {
        viewed(engine, &key("k"), Scope::Headers).collections[&Tag::ORSET]
    };
    assert_eq!(digest(&mut one), digest(&mut two));
}

#[test]
fn a_page_never_walks_past_more_than_a_bounded_number_of_dead_rows() {
    let mut one = MemoryEngine::new(config(1, 1));
    filled(&mut one, &key("k"), 3000);
    updated(&mut one, &key("k"), Operation::Delete(None));
    updated(&mut one, &key("k"), add(&["9999"]));
    let (mut after, mut pages, mut found) = (None, 0, BTreeSet::new());
    loop {
        let view = viewed(&mut one, &key("k"), Scope::Range { tag: Tag::ORSET, after, limit: 10 });
        found.extend(elements(&view.value));
        pages += 1;
        after = view.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [blob("9999")].into());
    assert_eq!(pages, 3);
}

/// Number of rows of the fields of `key`.
fn fields(engine: &MemoryEngine, key: &Key) -> usize {
    let prefix = RowKey::of(key).elements(Tag::MAP);
    let mut count = 0;
    let visit = &mut |row: &[u8], _: &[u8]| {
        count += usize::from(row.starts_with(&prefix));
        ControlFlow::Continue(())
    };
    engine.index().reader().scan(Table::Element, &[], visit).unwrap();
    count
}

/// The meta row of a map comes after those of all sets.
#[test]
fn a_set_cleared_again_and_again_starves_no_other() {
    let mut one = MemoryEngine::new(config(1, 1));
    let set = Operation::Map(MapOp::Set(vec![(blob("f"), blob("1"))]));
    updated(&mut one, &key("other"), set);
    updated(&mut one, &key("other"), Operation::Delete(None));
    for _ in 0..2 {
        filled(&mut one, &key("busy"), 10);
        updated(&mut one, &key("busy"), Operation::Delete(None));
        assert!(one.sweep(2));
    }
    assert_eq!(fields(&one, &key("other")), 0);
}

/// Sweeping it from its beginning each time would never come to its last rows.
#[test]
fn a_set_cleared_again_while_it_is_swept_is_first_swept_to_its_end() {
    let mut one = MemoryEngine::new(config(1, 1));
    filled(&mut one, &key("k"), 10);
    updated(&mut one, &key("k"), Operation::Delete(None));
    for _ in 0..5 {
        updated(&mut one, &key("k"), add(&["0000", "0001"]));
        updated(&mut one, &key("k"), Operation::Delete(None));
        assert!(one.sweep(2));
    }
    assert!(rows(one.index(), Table::Element) <= 2);
}

#[test]
fn more_sets_than_places_are_remembered_of_are_all_swept() {
    let mut one = MemoryEngine::new(config(1, 1));
    for name in names(10) {
        filled(&mut one, &key(&name), 10);
        updated(&mut one, &key(&name), add(&["kept"]));
        updated(&mut one, &key(&name), Operation::Delete(None));
        updated(&mut one, &key(&name), add(&["new"]));
    }
    while one.sweep(2) {}
    assert_eq!(rows(one.index(), Table::Element), 10);
    assert_eq!(rows(one.index(), Table::Meta), 0);
}

/// Rows of what the clearing had not seen are counted as they are swept, not in one command.
#[test]
fn a_large_set_cleared_of_a_part_is_counted_by_the_sweep() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let many = names(10);
    let seen =
        updated(&mut one, &key("k"), add(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    merged(&mut two, &key("k"), &seen);
    let unseen = updated(&mut two, &key("k"), add(&["0001", "unseen"]));
    let cleared = updated(&mut one, &key("k"), Operation::Delete(None));
    merged(&mut two, &key("k"), &cleared);
    let summary = |engine: &mut MemoryEngine| {
        viewed(engine, &key("k"), Scope::Headers).collections[&Tag::ORSET]
    };
    let shown = summary(&mut two);
    assert_eq!((shown.live, shown.digest, shown.exact), (11, 0, false));
    assert_eq!(elements(&whole(&mut two, &key("k"))), [blob("0001"), blob("unseen")].into());
    let late = updated(&mut two, &key("k"), add(&["0002"]));
    let removal = Operation::Orset(OrsetOp::Remove(vec![blob("unseen")]));
    let removed = updated(&mut two, &key("k"), removal);
    assert!(two.sweep(4));
    assert!(!summary(&mut two).exact);
    while two.sweep(4) {}
    for delta in [unseen, late, removed] {
        merged(&mut one, &key("k"), &delta);
    }
    assert_eq!((summary(&mut two).live, summary(&mut two).exact), (2, true));
    assert_eq!(summary(&mut one), summary(&mut two));
}

/// A key that only the sweep finds to be empty is then counted no longer.
#[test]
fn a_set_that_the_sweep_finds_empty_is_no_live_key() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    filled(&mut one, &key("k"), 10);
    merged(&mut two, &key("k"), &Delta::whole(whole(&mut one, &key("k"))));
    updated(&mut two, &key("k"), add(&["unseen"]));
    let removal = Operation::Orset(OrsetOp::Remove(vec![blob("unseen")]));
    updated(&mut two, &key("k"), removal);
    let cleared = updated(&mut one, &key("k"), Operation::Delete(None));
    merged(&mut two, &key("k"), &cleared);
    assert_eq!(two.engine().live_keys(), 1);
    while two.sweep(4) {}
    assert_eq!(two.engine().live_keys(), 0);
    // What fails later takes back its own change of the count, and not the sweep's.
    two.disk().files.full(true);
    let refused = two.execute_now(update(&key("other"), put("x")));
    assert!(matches!(refused.last(), Some(Answer::Failed(StorageError::Full))), "{refused:?}");
    assert_eq!(two.engine().live_keys(), 0);
    two.disk().files.full(false);
    let again = MemoryEngine::open(two.disk().clone(), config(2, 3)).unwrap();
    assert_eq!(again.engine().live_keys(), 0);
}

/// A clearing that had seen everything leaves the tallies, and knows their number without a walk.
#[test]
fn a_map_with_a_reset_field_is_dead_as_soon_as_it_is_deleted() {
    let mut one = MemoryEngine::new(config(1, 1));
    let increment = Operation::Map(MapOp::Increment { field: blob("reset"), by: 1 });
    updated(&mut one, &key("m"), increment);
    updated(&mut one, &key("m"), Operation::Map(MapOp::Remove(vec![blob("reset")])));
    let set = names(10).into_iter().map(|name| (Blob::from(name), blob("v"))).collect();
    updated(&mut one, &key("m"), Operation::Map(MapOp::Set(set)));
    updated(&mut one, &key("m"), Operation::Delete(None));
    let summary = |engine: &mut MemoryEngine| {
        viewed(engine, &key("m"), Scope::Headers).collections[&Tag::MAP]
    };
    let shown = summary(&mut one);
    assert_eq!((shown.live, shown.exact), (0, true));
    assert_ne!(shown.digest, 0, "what the field reset is still known");
    assert_eq!(one.engine().live_keys(), 0);
    while one.sweep(4) {}
    assert_eq!(summary(&mut one), shown);
    assert_eq!(fields(&one, &key("m")), 1);
}
