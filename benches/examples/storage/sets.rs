//! Collections of ten and of a million elements: what an addition and a page cost in each.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clock::{CausalContext, Stamp};
use storage::{Answer, Command, Durability, Ticket};
use values::{Key, Lifetime, Operation, OrsetOp, Scope, Tag};

use crate::percentile;
use crate::store::{Store, random};

const SMALL: u64 = 10;
const LARGE: u64 = 1_000_000;
/// The set of which pages are read beside those of the large one.
const MIDDLE: u64 = 1_000;
/// Elements of a page.
const PAGE: u32 = 100;
/// Additions, or pages, timed together.
const TIMED: u64 = 1_000;
const ROUNDS: u64 = 15;

/// What was measured of sets.
pub(crate) struct Sets {
    /// An addition of one element, not committed: to a set of ten that nothing else is done to, to any
    /// of a hundred thousand of them, and to the large one.
    pub(crate) add_hot_ns: u32,
    pub(crate) add_small_ns: u32,
    pub(crate) add_large_ns: u32,
    /// What it appends to the log, and keeps in rows until the next checkpoint.
    pub(crate) written_small: u64,
    pub(crate) written_large: u64,
    /// A page of 100 elements, of a set of a thousand and of the large one.
    pub(crate) page_middle_ns: u32,
    pub(crate) page_large_ns: u32,
}

fn element(number: u64) -> Bytes {
    format!("element {number:08}").into()
}

fn set(size: u64) -> Key {
    Key::new("default", format!("set of {size}")).expect("a short key")
}

/// One of the many sets of ten.
fn small_set(number: u64) -> Key {
    Key::new("default", format!("set of 10, {number:06}")).expect("a short key")
}

fn add(store: &mut Store, key: Key, numbers: impl Iterator<Item = u64>, stamp: u64) {
    let elements = numbers.map(element).collect();
    let command = Command::Update {
        key,
        operation: Operation::Orset(OrsetOp::Add(elements)),
        lifetime: Lifetime::Usual,
        observed: CausalContext::default(),
        shown: Vec::new(),
        stamp: Stamp(stamp),
        named: None,
        limits: Arc::default(),
        durability: Durability::Sync,
    };
    store.engine.execute(Ticket(0), command, &mut store.answers);
    let made = matches!(store.answers[..], [(_, Answer::Prepared { .. })]);
    assert!(made, "{:?}", store.answers);
    store.answers.clear();
}

/// Commits what was done; returns the bytes that it appended to the log.
fn commit(store: &mut Store) -> u64 {
    let Some(batch) = store.engine.take_batch() else { return 0 };
    let bytes = batch.records.len() as u64;
    store.batches.send(batch).expect("the log thread runs");
    store.wait();
    store.answers.clear();
    bytes
}

/// Nanoseconds of an addition of an element that is there already, so that the set keeps its size, and
/// bytes that it writes. `place` says to which set what is added, given a number below `bound`.
fn additions(
    store: &mut Store,
    bound: u64,
    place: impl Fn(u64) -> (Key, u64),
    stamp: &mut u64,
) -> (u32, u64) {
    let (mut took, mut written, mut state) = (Vec::new(), 0, 7);
    for _ in 0..ROUNDS {
        store.checkpoint();
        let start = Instant::now();
        for _ in 0..TIMED {
            *stamp += 1;
            let (key, number) = place(random(&mut state, bound));
            add(store, key, std::iter::once(number), *stamp);
        }
        took.push(start.elapsed().as_nanos() as u32 / TIMED as u32);
        written = commit(store) / TIMED;
    }
    (percentile(&mut took, 0.5), written)
}

/// Nanoseconds of a page that begins anywhere in a set of `size` elements.
fn pages(store: &mut Store, size: u64) -> u32 {
    let (mut took, mut state) = (Vec::new(), 9);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..TIMED {
            let after = Some(element(random(&mut state, size - u64::from(PAGE) - 1)));
            let scope = Scope::Range { tag: Tag::ORSET, after, limit: PAGE };
            let read = Command::Read { key: set(size), scope };
            store.engine.execute(Ticket(0), read, &mut store.answers);
            store.answers.clear();
        }
        took.push(start.elapsed().as_nanos() as u32 / TIMED as u32);
    }
    percentile(&mut took, 0.5)
}

pub(crate) fn sets(directory: &Path) -> Sets {
    let mut store = Store::open(directory);
    let mut stamp = 1;
    for size in [SMALL, MIDDLE, LARGE] {
        for first in (0..size).step_by(500) {
            stamp += 1;
            add(&mut store, set(size), first..size.min(first + 500), stamp);
            commit(&mut store);
            store.turn();
        }
    }
    // As many elements as the large set has, so that both lie in as much cold memory.
    for number in 0..LARGE / SMALL {
        stamp += 1;
        add(&mut store, small_set(number), 0..SMALL, stamp);
        if number % 50 == 49 {
            commit(&mut store);
            store.turn();
        }
    }
    while store.engine.count_chunks(4_096) {
        commit(&mut store);
    }
    store.checkpoint();
    let hot = |number| (set(SMALL), number);
    let (add_hot_ns, written_small) = additions(&mut store, SMALL, hot, &mut stamp);
    let small = |number| (small_set(number / SMALL), number % SMALL);
    let (add_small_ns, _) = additions(&mut store, LARGE, small, &mut stamp);
    let large = |number| (set(LARGE), number);
    let (add_large_ns, written_large) = additions(&mut store, LARGE, large, &mut stamp);
    store.checkpoint();
    let page_middle_ns = pages(&mut store, MIDDLE);
    let page_large_ns = pages(&mut store, LARGE);
    store.close();
    Sets {
        add_hot_ns,
        add_small_ns,
        add_large_ns,
        written_small,
        written_large,
        page_middle_ns,
        page_large_ns,
    }
}
