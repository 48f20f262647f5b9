//! A disk that refuses batches: what is refused meanwhile, what it costs, how it ends.

use std::cell::Cell;
use std::rc::Rc;

use clock::Actor;

use super::*;
use crate::{Table, Visit};

fn failed(error: SeamError) -> Answer {
    Answer::Failed(error.into())
}

fn actors(delta: &Delta, tag: Tag) -> Vec<Actor> {
    delta.value.context(tag).actors().collect()
}

#[test]
fn a_full_disk_keeps_reads_and_heals_by_itself() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), put("old"));
    one.index().full(true);
    let refused = one.execute_now(update(&key("k"), put("new")));
    assert_eq!(refused.last(), Some(&failed(SeamError::Full)));
    assert_eq!(values_of(&whole(&mut one, &key("k"))), [blob("old")].into());
    one.index().full(false);
    assert_eq!(one.execute_now(update(&key("k"), put("new"))), [failed(SeamError::Full)]);
    updated(&mut one, &key("k"), put("new"));
    assert_eq!(values_of(&whole(&mut one, &key("k"))), [blob("old"), blob("new")].into());
}

/// What is prepared reaches other replicas before the disk fails, and there an actor is for ever.
#[test]
fn a_disk_that_fails_on_costs_a_key_one_actor_however_often_it_is_written() {
    for error in [SeamError::Full, SeamError::ReadOnly("ro".into()), SeamError::Io("gone".into())] {
        let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
        for _ in 0..100 {
            one.index().fail_next(error.clone());
            for answer in one.execute_now(update(&key("k"), count(1))) {
                match answer {
                    Answer::Prepared { delta, .. } => merged(&mut two, &key("k"), &delta),
                    answer => assert_eq!(answer, failed(error.clone())),
                }
            }
            assert!(one.engine().disk_error().is_some());
        }
        one.execute_now(update(&key("k"), count(1)));
        assert_eq!(one.engine().disk_error(), None);
        let delta = updated(&mut one, &key("k"), count(1));
        merged(&mut two, &key("k"), &delta);
        assert_eq!(counted(&whole(&mut two, &key("k"))), 2);
        let drawn = [0, 1].map(|number| Actor::new(NodeId(1), 1, number));
        let seen = whole(&mut two, &key("k"));
        assert_eq!(seen.context(Tag::COUNTER).actors().collect::<Vec<_>>(), drawn);
    }
}

#[test]
fn a_failed_batch_is_no_doubt_about_keys_that_it_did_not_carry() {
    let mut one = MemoryEngine::new(config(1, 1));
    let first = updated(&mut one, &key("other"), count(1));
    one.index().fail_next(SeamError::Full);
    one.execute_now(update(&key("k"), count(1)));
    one.execute_now(update(&key("k"), count(1)));
    let second = updated(&mut one, &key("other"), count(1));
    assert_eq!(actors(&first, Tag::COUNTER), actors(&second, Tag::COUNTER));
}

#[test]
fn merges_are_tried_and_end_the_refusals() {
    let mut one = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    one.index().full(true);
    one.execute_now(update(&key("k"), add(&["y"])));
    assert_eq!(one.execute_now(merge(&key("k"), &delta)), [failed(SeamError::Full)]);
    one.index().full(false);
    merged(&mut one, &key("k"), &delta);
    updated(&mut one, &key("k"), add(&["y"]));
}

#[test]
fn a_shell_that_asks_the_disk_spares_the_next_update_the_refusal() {
    let mut one = Stepped::open(&SimIndex::new(), config(1, 1));
    one.engine.probe();
    assert!(!one.take(), "there is nothing to ask");
    one.give(1, update(&key("k"), count(1)));
    assert!(one.take());
    one.index.fail_next(SeamError::Full);
    one.commit();
    one.engine.probe();
    assert!(one.take());
    one.engine.probe();
    assert_eq!(one.engine.pending_bytes(), one.batch.as_ref().map_or(0, size), "once at a time");
    one.commit();
    assert_eq!(one.engine.disk_error(), None);
    one.answered();
    one.give(2, update(&key("k"), count(1)));
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered().last(), Some(&(2, Answer::Durable)));
    one.engine.sweep(10);
    assert!(!one.take(), "the probe is deleted");
}

fn size(batch: &Batch) -> usize {
    batch.changes.iter().map(|c| c.key.len() + c.value.as_ref().map_or(0, Vec::len)).sum()
}

/// A small batch that fits would say nothing about the large one that did not.
#[test]
fn a_disk_with_too_little_room_for_what_failed_goes_on_being_full() {
    let mut one = MemoryEngine::new(config(1, 1));
    one.index().capacity(Some(10_000));
    let large = put(&"x".repeat(20_000));
    assert_eq!(one.execute_now(update(&key("k"), large.clone())).len(), 2);
    for _ in 0..10 {
        assert_eq!(one.execute_now(update(&key("k"), large.clone())), [failed(SeamError::Full)]);
    }
    one.index().capacity(Some(100_000));
    assert_eq!(one.execute_now(update(&key("k"), large.clone())), [failed(SeamError::Full)]);
    updated(&mut one, &key("k"), large);
    let mut stored = 0;
    let count_it = &mut |_: &[u8], _: &[u8]| {
        stored += 1;
        std::ops::ControlFlow::Continue(())
    };
    one.index().reader().scan(Table::Meta, &[], count_it).unwrap();
    assert_eq!(stored, 0, "no probe is left");
}

/// A shell that sweeps whenever a batch is done would try as fast as the disk fails.
#[test]
fn nothing_is_swept_onto_a_disk_that_refuses_batches() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), add(&["x", "y"]));
    updated(&mut one, &key("k"), Operation::Delete(None));
    one.index().full(true);
    assert!(one.sweep(1));
    assert!(!one.sweep(1));
    one.index().full(false);
    assert!(!one.sweep(1), "it is not known yet that there is room");
    one.execute_now(update(&key("k"), add(&["z"])));
    assert!(one.sweep(1));
}

/// Counts scans of the header table, and can refuse reads.
#[derive(Clone)]
struct Watched {
    reader: SimIndexReader,
    scans: Rc<Cell<u32>>,
    broken: Rc<Cell<bool>>,
}

impl Watched {
    fn check(&self) -> Result<(), SeamError> {
        if self.broken.get() { Err(SeamError::Io("unplugged".into())) } else { Ok(()) }
    }
}

impl IndexRead for Watched {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        self.check()?;
        self.reader.get(table, key, look)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        self.check()?;
        self.scans.set(self.scans.get() + u32::from(table == Table::Header));
        self.reader.scan(table, from, visit)
    }
}

/// Gives merges and deferred deltas whose batch fails with an unknown outcome; returns how many
/// keys and pending deltas are counted then, after a batch that does not fail, and how often all
/// keys were walked.
fn counts(applied: bool, unreadable: bool) -> ([u64; 2], [u64; 2], u32) {
    let index = SimIndex::new();
    let (scans, broken) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (reader, mut writer) = (index.reader(), index.writer());
    let reader = Watched { reader, scans: Rc::clone(&scans), broken: Rc::clone(&broken) };
    let mut engine = Engine::open(reader, config(1, 1)).unwrap();
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), count(1));
    scans.set(0);
    let mut answers = Vec::new();
    let count = |engine: &Engine<Watched>| [engine.live_keys(), engine.pending_for(NodeId(9))];
    for n in 0..3 {
        let name = key(&n.to_string());
        engine.execute(Ticket(0), merge(&name, &delta), &mut answers);
        let defer = Command::Defer { owner: NodeId(9), key: name, delta: delta.clone() };
        engine.execute(Ticket(0), defer, &mut answers);
        let batch = engine.take_batch().unwrap();
        let error = SeamError::Io("who knows".into());
        if applied {
            index.apply_and_fail_next(error)
        } else {
            index.fail_next(error)
        }
        let result = writer.commit(&batch.changes);
        broken.set(unreadable);
        engine.committed(batch.id, result, &mut answers);
        broken.set(false);
    }
    let at_once = count(&engine);
    engine.execute(Ticket(0), merge(&key("last"), &delta), &mut answers);
    let batch = engine.take_batch().unwrap();
    let result = writer.commit(&batch.changes);
    engine.committed(batch.id, result, &mut answers);
    (at_once, count(&engine), scans.get())
}

#[test]
fn what_a_batch_of_unknown_outcome_left_is_counted_without_walking_all_keys() {
    assert_eq!(counts(true, false), ([3, 3], [4, 3], 0));
    assert_eq!(counts(false, false), ([0, 0], [1, 0], 0));
}

#[test]
fn what_cannot_be_counted_is_counted_once_when_the_disk_works_again() {
    assert_eq!(counts(true, true), ([0, 0], [4, 3], 1));
    assert_eq!(counts(false, true), ([0, 0], [1, 0], 1));
}
