//! Keys with deadlines: listed in the order of these, whatever became of the batches.

use std::ops::ControlFlow;

use values::{Deadline, ExpiryOp};

use super::*;
use crate::row_key::expiry_prefix;
use crate::{Table, TreeClasses};

pub(super) fn ends(at_ms: u64) -> Operation {
    let deadline = Deadline::At(at_ms);
    Operation::Expiry(ExpiryOp::Set { deadline, only_if: None })
}

fn names(due: Vec<(Key, u64)>) -> Vec<(String, u64)> {
    due.into_iter()
        .map(|(key, at_ms)| (String::from_utf8(key.key().to_vec()).unwrap(), at_ms))
        .collect()
}

/// All that is due, where the search before has come to its end.
fn due(engine: &mut MemoryEngine, now_ms: u64) -> Vec<(String, u64)> {
    names(engine.due(now_ms, 100))
}

#[test]
fn what_is_due_is_listed_in_the_order_of_deadlines_and_no_longer_once_it_was_taken_back() {
    let mut one = MemoryEngine::new(config(1, 1));
    let long = "k".repeat(2_000);
    for (name, at_ms) in [("b", 20), ("a", 30), (&*long, 10), ("later", 99), ("kept", 15)] {
        updated(&mut one, &key(name), add(&["x"]));
        updated(&mut one, &key(name), ends(at_ms));
    }
    updated(&mut one, &key("kept"), Operation::Expiry(ExpiryOp::Persist));
    assert_eq!(due(&mut one, 9), []);
    let all = [(long.clone(), 10), ("b".to_owned(), 20), ("a".to_owned(), 30)];
    assert_eq!(due(&mut one, 30), all);
    // Page by page it is the same, and then it begins again.
    let pages: Vec<_> = (0..3).map(|_| names(one.due(30, 2))).collect();
    assert_eq!(pages, [all[..2].to_vec(), all[2..].to_vec(), all[..2].to_vec()]);
    assert_eq!(due(&mut one, 30), all[2..]);
    // Another deadline in its place; an addition changes none.
    updated(&mut one, &key("b"), ends(40));
    updated(&mut one, &key("a"), add(&["y"]));
    assert_eq!(due(&mut one, 30), [(long, 10), ("a".to_owned(), 30)]);
}

/// Nobody can remove them, and they must not be in the way of others.
#[test]
fn deadlines_of_a_dropped_bucket_are_listed_no_more() {
    let mut one = MemoryEngine::new(config(1, 1));
    let dropped = Key::new("sessions", "k").unwrap();
    for key in [&dropped, &key("k")] {
        updated(&mut one, key, add(&["x"]));
        updated(&mut one, key, ends(5));
    }
    assert_eq!(due(&mut one, 5).len(), 2);
    let mut classes = TreeClasses::default();
    classes.set("sessions".into(), 3, dropped.generation() + 1);
    one.set_tree_classes(classes);
    assert_eq!(due(&mut one, 5), [("k".to_owned(), 5)]);
    updated(&mut one, &key("other"), add(&["x"]));
    assert_eq!(due(&mut one, 5), [("k".to_owned(), 5)]);
    let mut listed = 0;
    let count = &mut |row: &[u8], _: &[u8]| {
        listed += usize::from(row.starts_with(expiry_prefix()));
        ControlFlow::Continue(())
    };
    one.index().reader().scan(Table::Meta, expiry_prefix(), count).unwrap();
    assert_eq!(listed, 1);
    assert!(check(&one).is_clean());
}

#[test]
fn deadlines_are_listed_after_a_restart_and_at_whoever_merged_them() {
    let mut one = MemoryEngine::new(config(1, 1));
    let mut deltas = vec![updated(&mut one, &key("k"), add(&["x"]))];
    deltas.push(updated(&mut one, &key("k"), ends(5)));
    let mut two = MemoryEngine::new(config(2, 2));
    deltas.iter().rev().for_each(|delta| merged(&mut two, &key("k"), delta));
    let mut again = MemoryEngine::open(one.disk().clone(), config(1, 3)).unwrap();
    for engine in [&mut one, &mut two, &mut again] {
        assert_eq!(due(engine, 5), [("k".to_owned(), 5)]);
    }
    assert_eq!(roots(&mut one), roots(&mut two), "what is due counts in no tree as gone");
    // Stamp 1 of these tests is before the deadline: nothing is due yet, and nothing removed.
    let sweep = Operation::Expiry(ExpiryOp::Sweep);
    assert!(updated(&mut one, &key("k"), sweep).is_empty());
    assert_eq!(due(&mut one, 5), [("k".to_owned(), 5)]);
}

#[test]
fn a_sweep_removes_what_is_due_and_its_schedule_and_leaves_what_came_beside_it() {
    let mut one = MemoryEngine::new(config(1, 1));
    let mut two = MemoryEngine::new(config(2, 2));
    updated(&mut one, &key("k"), add(&["x"]));
    // A deadline that is past already: due from its write on.
    updated(&mut one, &key("k"), ends(1));
    let beside = updated(&mut two, &key("k"), add(&["y"]));
    merged(&mut one, &key("k"), &beside);
    let swept = updated(&mut one, &key("k"), Operation::Expiry(ExpiryOp::Sweep));
    merged(&mut two, &key("k"), &swept);
    for engine in [&mut one, &mut two] {
        let [Answer::View(view)] = &engine.execute_now(read(&key("k"), Scope::Whole))[..] else {
            panic!("a read shows a view")
        };
        let Some(State::Orset(set)) = view.value.state(Tag::ORSET) else { panic!("a set") };
        assert_eq!(set.store.0.keys().collect::<Vec<_>>(), [&blob("y")]);
        assert_eq!(view.value.schedules().count(), 0);
        assert_eq!(due(engine, u64::MAX), []);
    }
}
