//! Records of the log or rows of the index that are gone: what came after them claims no more than it brings.

use super::*;
use crate::{Files, Logged, Table};

/// What a replica has seen of the set: also what is removed again, which is not brought to others.
fn seen_by(other: &mut MemoryEngine) -> CausalContext {
    updated(other, &key("set"), add(&["z"]));
    updated(other, &key("set"), Operation::Orset(OrsetOp::Remove(vec![blob("z")])));
    whole(other, &key("set")).context(Tag::ORSET).clone()
}

/// The end of a transfer of the set, of which so much was brought.
fn complete(brought: &Delta, context: &CausalContext) -> Command {
    let (key, tag, context) = (key("set"), Tag::ORSET, context.clone());
    let seen = brought.value.context(tag).clone();
    Command::Complete { key, tag, seen, context, durability: Durability::Sync }
}

/// The records of a replica that was brought two elements of a set, then told that it has seen all of it.
fn fetched() -> (SimDisk, CausalContext, Vec<(u64, Vec<u8>)>) {
    let mut other = MemoryEngine::new(config(2, 2));
    let first = updated(&mut other, &key("set"), add(&["x"]));
    let mut all = first.clone();
    all.merge(&updated(&mut other, &key("set"), add(&["y"])));
    let told = seen_by(&mut other);
    let disk = SimDisk::default();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, merge(&key("set"), &first));
    assert!(one.take());
    one.commit();
    one.give(2, merge(&key("set"), &all));
    one.give(3, complete(&all, &told));
    assert!(one.take());
    one.commit();
    let records = logged(&disk);
    (disk, told, records)
}

/// The records that the index may lack, with their positions.
fn logged(disk: &SimDisk) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    let visit = &mut |position, logged: Logged<'_>| {
        records.push((position, logged.record().expect("nothing is damaged").to_vec()));
    };
    let indexed = shard_positions(&disk.index.reader(), shards()).unwrap();
    Log::open(disk.files.clone(), 0, &indexed, visit).unwrap();
    records
}

/// What a replica has seen of the set that does these again.
fn seen(disk: &SimDisk, records: &[(u64, Option<&[u8]>)]) -> CausalContext {
    let mut replay = Replay::begin(disk.index.reader(), config(1, 3)).unwrap();
    for &(position, record) in records {
        replay.replay(position, record.map_or(Logged::GoneTo(position + 1), Logged::Record));
    }
    let mut engine = replay.finish(1 << 20, true);
    let mut answers = Vec::new();
    engine.execute(Ticket(1), read(&key("set"), Scope::Whole), &mut answers);
    match answers.pop() {
        Some((_, Answer::View(view))) => view.value.context(Tag::ORSET).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_fetched_is_not_seen_where_some_of_it_is_gone() {
    let (disk, told, records) = fetched();
    let whole: Vec<_> = records.iter().map(|(at, record)| (*at, Some(&record[..]))).collect();
    assert_eq!(whole.len(), 3);
    assert_eq!(seen(&disk, &whole), told);
    // Of both elements: then only what is told at the end speaks of them.
    let gone: Vec<_> = [(whole[0].0, None), (whole[1].0, None), whole[2]].to_vec();
    assert_eq!(seen(&disk, &gone), CausalContext::default());
}

/// The row is damaged, its header is not: the merge that meets the damage brings the key back to what is whole.
#[test]
fn what_was_fetched_is_not_seen_where_a_row_that_it_rests_on_is_gone() {
    let (mut two, mut three) = (MemoryEngine::new(config(2, 2)), MemoryEngine::new(config(3, 3)));
    let first = updated(&mut two, &key("set"), add(&["x"]));
    let second = updated(&mut three, &key("set"), add(&["x"]));
    merged(&mut two, &key("set"), &second);
    let told = seen_by(&mut two);
    let disk = SimDisk::default();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, merge(&key("set"), &first));
    assert!(one.take());
    one.commit();
    one.checkpoint();
    one.give(2, merge(&key("set"), &second));
    let mut both = first.clone();
    both.merge(&second);
    one.give(3, complete(&both, &told));
    assert!(one.take());
    one.commit();
    let records = logged(&disk);
    let records: Vec<_> = records.iter().map(|(at, record)| (*at, Some(&record[..]))).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(seen(&disk, &records), told);
    let at = RowKey::of(&key("set"));
    assert!(disk.index.corrupt(Table::Element, &at.element(Tag::ORSET, b"x"), 9));
    assert_eq!(seen(&disk, &records), *second.value.context(Tag::ORSET));
    // The first that meets the damage is the one that rests on what was held.
    assert!(disk.index.corrupt(Table::Header, at.as_bytes(), 9));
    assert_eq!(seen(&disk, &records[1..]), CausalContext::default());
}

/// Who tells has seen two elements removed. Meanwhile they come from another, who has not: they are compared again.
#[test]
fn a_transfer_does_not_end_where_some_of_it_came_from_elsewhere_meanwhile() {
    let mut other = MemoryEngine::new(config(2, 2));
    let added = updated(&mut other, &key("set"), add(&["x"]));
    updated(&mut other, &key("set"), Operation::Orset(OrsetOp::Remove(vec![blob("x")])));
    let told = whole(&mut other, &key("set")).context(Tag::ORSET).clone();
    let mut one = MemoryEngine::new(config(1, 1));
    merged(&mut one, &key("set"), &added);
    let nothing = Delta::default();
    let answers = one.execute_now(complete(&nothing, &told));
    assert_eq!(answers, [Answer::Failed(StorageError::Unseen)]);
    assert_eq!(one.execute_now(complete(&added, &told)), [Answer::Merged(None)]);
}

/// That looks like the end of a transfer, and rests on nothing that was held: without it the operation would be done
/// once more.
#[test]
fn that_a_named_operation_was_done_is_known_where_records_before_it_are_gone() {
    let name = Actor::named(7, 7, 7);
    let command = update(&key("set"), Operation::Orset(OrsetOp::Remove(vec![blob("none")])));
    let disk = SimDisk::default();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, named(command, 7));
    assert!(one.take());
    one.commit();
    let records = logged(&disk);
    let [(at, record)] = records.as_slice() else { panic!("{records:?}") };
    let after_a_hole = [(0, None), (*at, Some(&record[..]))];
    assert!(seen(&disk, &after_a_hole).contains(clock::Dot::new(name, 1)));
}

fn note(value: &'static str) -> Command {
    Command::Note { notes: vec![("round".into(), value.into())] }
}

/// What is there now, and what was noted before the log lost something.
fn opened(disk: &SimDisk) -> (Stepped, Option<Vec<Option<bytes::Bytes>>>) {
    let reader = disk.index.reader();
    let indexed = shard_positions(&reader, shards()).unwrap();
    let mut replay = Replay::begin(reader, config(1, 9)).unwrap();
    let visit = &mut |position, logged: Logged<'_>| replay.replay(position, logged);
    let (log, _) = Log::open(disk.files.clone(), 0, &indexed, visit).unwrap();
    let (disk, answers, batch) = (disk.clone(), Vec::new(), None);
    let one =
        Stepped { engine: replay.finish(log.end(), log.is_synced()), log, disk, answers, batch };
    let before = one.engine.notes_before_loss();
    let before = before.map(|notes| notes.iter().map(|(_, value)| value.clone()).collect());
    (one, before)
}

fn committed(one: &mut Stepped, command: Command) {
    one.give(1, command);
    assert!(one.take());
    one.commit();
}

/// A byte of the record at `position` changes, of a log of one segment.
fn rot(one: &Stepped, position: u64) {
    // What is kept aside stands before it.
    let name = one.disk.files.list().unwrap().pop().unwrap();
    let length = one.disk.files.length(&name).unwrap().unwrap();
    let offset = length - one.log.end() + position;
    assert!(one.disk.files.corrupt(&name, usize::try_from(offset).unwrap()));
}

#[test]
fn what_was_noted_before_the_log_lost_something_is_told_until_the_replica_goes_on() {
    let disk = SimDisk::default();
    let mut one = Stepped::open(&disk, config(1, 1));
    for command in [note("1"), update(&key("count"), count(1)), note("2")] {
        committed(&mut one, command);
    }
    assert_eq!(opened(&disk).1, None);
    rot(&one, logged(&disk)[1].0);
    let before = Some(vec![Some("1".into())]);
    assert_eq!(opened(&disk).1, before);
    // Until it is in the log that it did.
    let (mut one, _) = opened(&disk);
    one.engine.go_on_after_loss();
    assert_eq!(opened(&disk).1, before);
    committed(&mut one, note("3"));
    assert_eq!(opened(&disk).1, None);
    // Another loss is another matter.
    let end = one.log.end();
    committed(&mut one, update(&key("count"), count(1)));
    committed(&mut one, note("4"));
    assert!(opened(&disk).1.is_none());
    rot(&one, end);
    assert_eq!(opened(&disk).1, Some(vec![Some("3".into())]));
}

/// The start that went on knew of one place; what rots later, before it in the log too, is another matter.
#[test]
fn what_rots_later_is_told_also_before_where_an_earlier_start_went_on() {
    let told = |later: usize| {
        let disk = SimDisk::default();
        let mut one = Stepped::open(&disk, config(1, 1));
        let counted = || update(&key("count"), count(1));
        for command in [note("1"), counted(), counted(), note("2"), counted(), note("3")] {
            committed(&mut one, command);
        }
        let records = logged(&disk);
        rot(&one, records[1].0);
        let (mut again, _) = opened(&disk);
        again.engine.go_on_after_loss();
        committed(&mut again, note("4"));
        assert_eq!(opened(&disk).1, None);
        rot(&again, records[later].0);
        opened(&disk).1.map(|notes| notes.into_iter().flatten().collect::<Vec<_>>())
    };
    assert_eq!(told(4), Some(vec!["2".into()]), "elsewhere");
    assert_eq!(told(2), Some(vec!["1".into()]), "the place grows");
    assert_eq!(told(0), Some(vec![]), "to the front");
}

/// The index may hold notes of after the loss, where it lacks records of other shards.
#[test]
fn of_a_loss_before_what_the_index_holds_it_is_not_known_what_was_noted() {
    let disk = SimDisk::default();
    let mut one = Stepped::open(&disk, config(1, 1));
    committed(&mut one, update(&key("count"), count(1)));
    committed(&mut one, note("1"));
    one.checkpoint();
    let mut replay = Replay::begin(disk.index.reader(), config(1, 2)).unwrap();
    replay.replay(0, Logged::GoneTo(1));
    let engine = replay.finish(1 << 20, true);
    assert_eq!(engine.notes_before_loss(), Some([].as_slice()));
}

/// What is done again over later rows comes out as it was, but for what was pending: of that the beginning is missing.
#[test]
fn a_shard_whose_position_is_damaged_has_lost_what_its_log_no_longer_holds() {
    for shard in [0_u16, 1] {
        let disk = SimDisk::default();
        let (log, _) = Log::open(disk.files.clone(), 0, &[None; 4], &mut |_, _| ()).unwrap();
        let mut one = Stepped::open(&disk, config(1, 1));
        one.log = log.with_segments_of(64);
        committed(&mut one, note("1"));
        for _ in 0..8 {
            committed(&mut one, update(&key("count"), count(1)));
        }
        one.checkpoint();
        committed(&mut one, note("2"));
        let position = disk.index.reader();
        let position = shard_positions(&position, shards()).unwrap()[0].unwrap();
        one.log.trim(position).unwrap();
        assert_eq!(opened(&disk).1, None);
        assert!(disk.index.corrupt(Table::Shard, &shard.to_be_bytes(), 9));
        assert_eq!(opened(&disk).1, Some(Vec::new()), "{shard}");
    }
}
