//! Keys in conflict: counted and listed exactly, whatever became of the batches.

use proptest::prelude::*;

use super::*;
use crate::{ConflictCounts, ConflictPosition};

fn conflicts(after: Option<ConflictPosition>, limit: usize) -> Command {
    Command::Conflicts { after, limit }
}

/// Name, types and siblings of a listed key.
type Shown = (String, Vec<Tag>, u32);

/// The keys that one page lists, and where the next begins.
fn page(
    engine: &mut MemoryEngine,
    after: Option<ConflictPosition>,
    limit: usize,
) -> (Vec<Shown>, Option<ConflictPosition>) {
    match engine.execute_now(conflicts(after, limit)).remove(0) {
        Answer::Conflicts(page) => {
            let keys = page.keys.into_iter().map(|listed| {
                let name = String::from_utf8(listed.key.key().to_vec()).unwrap();
                (name, listed.tags, listed.siblings)
            });
            (keys.collect(), page.next)
        }
        other => panic!("{other:?}"),
    }
}

fn listed(engine: &mut MemoryEngine) -> Vec<Shown> {
    page(engine, None, 100).0
}

/// Puts `count` siblings.
fn siblings(engine: &mut MemoryEngine, name: &str, count: usize) {
    for number in 0..count {
        updated(engine, &key(name), put(&format!("{number}")));
    }
}

/// Makes the key a counter as well, as a write made elsewhere.
fn also_a_counter(engine: &mut MemoryEngine, name: &str) {
    let delta = updated(&mut MemoryEngine::new(config(9, 9)), &key(name), count(1));
    merged(engine, &key(name), &delta);
}

#[test]
fn keys_in_conflict_are_counted_and_listed_with_most_siblings_first() {
    let mut one = MemoryEngine::new(config(1, 1));
    siblings(&mut one, "two", 2);
    siblings(&mut one, "none", 1);
    siblings(&mut one, "five", 5);
    updated(&mut one, &key("types"), add(&["x"]));
    also_a_counter(&mut one, "types");
    siblings(&mut one, "both", 3);
    also_a_counter(&mut one, "both");
    let long = "k".repeat(2_000);
    siblings(&mut one, &long, 4);
    let all = [
        ("five".to_owned(), vec![Tag::BYTES], 5),
        (long, vec![Tag::BYTES], 4),
        ("both".to_owned(), vec![Tag::BYTES, Tag::COUNTER], 3),
        ("two".to_owned(), vec![Tag::BYTES], 2),
        ("types".to_owned(), vec![Tag::COUNTER, Tag::ORSET], 0),
    ];
    assert_eq!(listed(&mut one), all);
    let counts = ConflictCounts { keys: 5, types: 2, siblings: 4 };
    assert_eq!((one.engine().conflicts(), one.engine().most_siblings()), (counts, 5));

    // Page by page it is the same.
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let (keys, next) = page(&mut one, after, 2);
        pages.push(keys.len());
        assert_eq!(keys, all[pages.iter().sum::<usize>() - keys.len()..][..keys.len()]);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);

    // Another process on the same disk counts and lists alike.
    let mut again = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
    assert_eq!(listed(&mut again), all);
    assert_eq!((again.engine().conflicts(), again.engine().most_siblings()), (counts, 5));
}

#[test]
fn what_is_reconciled_resolved_or_deleted_is_listed_no_more() {
    let mut one = MemoryEngine::new(config(1, 1));
    for name in ["a", "b", "c"] {
        siblings(&mut one, name, 3);
        also_a_counter(&mut one, name);
    }
    let seen = whole(&mut one, &key("a")).context(Tag::BYTES).clone();
    one.execute_now(update_seeing(&key("a"), put("all"), seen));
    updated(&mut one, &key("b"), Operation::Resolve(Tag::COUNTER));
    updated(&mut one, &key("c"), Operation::Delete(None));
    assert_eq!(listed(&mut one), [("a".to_owned(), vec![Tag::BYTES, Tag::COUNTER], 1)]);
    updated(&mut one, &key("a"), Operation::Resolve(Tag::BYTES));
    assert_eq!(listed(&mut one), []);
    assert_eq!(one.engine().conflicts(), ConflictCounts::default());
    assert_eq!(one.engine().most_siblings(), 0);
}

#[test]
fn equal_values_put_by_two_are_one_sibling() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), put("same"));
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), put("same"));
    merged(&mut one, &key("k"), &delta);
    assert_eq!(listed(&mut one), []);
}

#[test]
fn positions_from_anywhere_list_something_or_nothing() {
    let mut one = MemoryEngine::new(config(1, 1));
    siblings(&mut one, "k", 2);
    for (position, count) in
        [(&b""[..], 1), (b"a", 1), (b"conflict", 1), (b"conflicu", 0), (b"z", 0)]
    {
        let position = ConflictPosition(bytes::Bytes::from_static(position));
        assert_eq!(page(&mut one, Some(position), 0).0.len(), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// After whatever failed batches, syncs and checkpoints, and restarts, what is counted and listed is
    /// what the headers say.
    #[test]
    fn counts_and_lists_are_what_the_keys_show(
        steps in prop::collection::vec((0_usize..3, 0_u8..6, 0_u8..8), 1..60),
    ) {
        let names = ["a", "b", "c"];
        let disk = SimDisk::new();
        let mut one = MemoryEngine::open(disk.clone(), config(1, 0)).unwrap();
        for (number, (at, what, fault)) in (1..).zip(steps) {
            match fault {
                0 => disk.fail_next(SeamError::Full),
                1 => disk.index.fail_next(SeamError::Io("unplugged".into())),
                2 => disk.files.fail_next_sync(),
                3 => {
                    disk.files.process_ended();
                    one = MemoryEngine::open(disk.clone(), config(1, number)).unwrap();
                }
                _ => {}
            }
            let key = key(names[at]);
            let command = match what {
                0..=2 => update(&key, put(&number.to_string())),
                3 => {
                    let mut other = MemoryEngine::new(config(9, number));
                    merge(&key, &updated(&mut other, &key, count(1)))
                }
                4 => update(&key, Operation::Resolve(Tag::BYTES)),
                _ => update(&key, Operation::Delete(Some(Tag::BYTES))),
            };
            one.execute_now(command);
            let mut expected = Vec::new();
            let mut counts = ConflictCounts::default();
            for name in names {
                let view = viewed(&mut one, &super::key(name), Scope::Headers);
                let (tags, siblings) = (view.live_tags(), view.siblings().len() as u32);
                counts.types += u64::from(tags.len() > 1);
                counts.siblings += u64::from(siblings > 1);
                if tags.len() > 1 || siblings > 1 {
                    counts.keys += 1;
                    expected.push((name.to_owned(), tags, siblings));
                }
            }
            let mut listed = listed(&mut one);
            listed.sort();
            prop_assert_eq!(listed, expected);
            prop_assert_eq!(one.engine().conflicts(), counts);
        }
    }
}
