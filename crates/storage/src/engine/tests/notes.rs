use bytes::Bytes;

use super::*;
use crate::{IndexWrite, NOTE_NAME_MAX, RowChange};

fn note(notes: &[(&'static str, &'static str)]) -> Command {
    Command::Note {
        notes: notes.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
    }
}

fn pairs(notes: &[(&'static str, &'static str)]) -> Vec<(Bytes, Option<Bytes>)> {
    notes.iter().map(|&(name, value)| (name.into(), Some(value.into()))).collect()
}

#[test]
fn notes_are_acknowledged_once_durable_and_found_after_a_crash() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, note(&[("a", "1"), ("b", "2")]));
    assert_eq!(one.answered(), []);
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered(), [(1, Answer::Durable)]);
    one.give(2, note(&[("b", "3")]));
    assert_eq!(one.engine.notes().unwrap(), pairs(&[("a", "1"), ("b", "3")]));
    let mut after = Stepped::open(&disk, config(1, 2));
    assert_eq!(after.engine.notes().unwrap(), pairs(&[("a", "1"), ("b", "2")]));
}

#[test]
fn a_damaged_note_is_named_without_its_value_and_counted() {
    let disk = SimDisk::new();
    let mut engine = Stepped::open(&disk, config(1, 1));
    engine.give(1, note(&[("a", "1"), ("b", "2")]));
    assert!(engine.take());
    engine.commit();
    let row = crate::row_key::note_row(b"a");
    engine.checkpoint();
    let value = Some(b"damaged!1".as_slice());
    let change = RowChange { table: Table::Meta, key: &row, value };
    disk.index.writer().commit(&[change]).unwrap();
    let mut after = Stepped::open(&disk, config(1, 2));
    let expected = [("a".into(), None), ("b".into(), Some("2".into()))];
    assert_eq!(after.engine.notes().unwrap(), expected);
    assert_eq!(after.engine.damaged_count(), 1);
}

#[test]
fn a_note_with_too_long_a_name_is_refused_and_nothing_is_kept() {
    let mut engine = Stepped::open(&SimDisk::new(), config(1, 1));
    let long = Bytes::from(vec![b'n'; NOTE_NAME_MAX + 1]);
    engine.give(1, Command::Note { notes: vec![("a".into(), "1".into()), (long, "2".into())] });
    assert!(matches!(engine.answered().as_slice(), [(1, Answer::Failed(StorageError::Io(_)))]));
    assert_eq!(engine.engine.notes().unwrap(), []);
}
