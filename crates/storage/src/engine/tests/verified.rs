//! What `verify` finds: nothing in a sound index, and every row that is changed or gone.

use std::ops::ControlFlow;

use values::{Deadline, ExpiryOp};

use super::*;
use crate::verify::{Fault, FaultKind, Verifying, check_census, check_rows, check_trees};
use crate::{IndexWrite, RowChange, SimIndex};

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    rows: u64,
}

impl Verifying for Found {
    fn passed(&mut self, rows: u64) {
        self.rows += rows;
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }
}

/// Everything that `verify` asks of an index.
fn found(index: &SimIndex) -> Found {
    let (reader, mut found) = (index.reader(), Found::default());
    for table in Table::ALL {
        check_rows(&reader, table, shards(), &mut found).unwrap();
    }
    check_trees(&reader, config(1, 0), &mut found).unwrap();
    check_census(&reader, shards(), &mut found).unwrap();
    found
}

pub(super) fn faults(engine: &MemoryEngine) -> Vec<Fault> {
    found(engine.index()).faults
}

/// A replica with rows in every table.
fn filled() -> MemoryEngine {
    let mut one = MemoryEngine::new(config(1, 1));
    let many: Vec<String> = (0..1_500).map(|number| format!("member-{number}")).collect();
    updated(&mut one, &key("large"), add(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    while one.count_chunks(1_000) {}
    updated(&mut one, &key("small"), add(&["a", "b"]));
    updated(&mut one, &key("cleared"), add(&["a", "b"]));
    updated(&mut one, &key("cleared"), Operation::Delete(None));
    updated(&mut one, &key("siblings"), put("one"));
    updated(&mut one, &key("siblings"), put("two"));
    updated(&mut one, &key(&"long".repeat(200)), put("value"));
    updated(&mut one, &key("due"), put("value"));
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("small"), add(&["c"]));
    one.execute_now(deferred(NodeId(9), &key("small"), &delta));
    one.execute_now(Command::Note { notes: vec![("note".into(), "value".into())] });
    one
}

#[test]
fn nothing_is_found_in_a_sound_index() {
    let one = filled();
    let found = found(one.index());
    assert_eq!(found.faults, []);
    assert!(found.rows > 1_500);
}

/// Each row in turn, one byte of its record changed, and then the row gone.
#[test]
fn every_row_that_is_changed_is_found_and_every_one_that_is_missed_when_it_is_gone() {
    let one = filled();
    let reader = one.index().reader();
    let snapshot = one.index().snapshot();
    let mut seen = BTreeSet::new();
    for table in Table::ALL {
        let mut rows = Vec::new();
        reader
            .scan(table, &[], &mut |key, record| {
                rows.push((key.to_vec(), record.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(!rows.is_empty(), "{table:?}");
        // Of the many elements some will do.
        let every = rows.len().div_ceil(12);
        for (key, record) in rows.into_iter().step_by(every) {
            if !record.is_empty() {
                assert!(one.index().corrupt(table, &key, record.len() / 2));
                let found = found(one.index());
                assert!(
                    found
                        .faults
                        .iter()
                        .any(|fault| fault.kind == FaultKind::Row
                            && fault.place.contains(table.name())),
                    "{table:?} {key:?}: {:?}",
                    found.faults
                );
                one.index().restore(&snapshot);
            }
            let is_derived = matches!(table, Table::Header | Table::Element | Table::Tree)
                || table == Table::ElementTree
                || table == Table::Meta && key.starts_with(b"conflict");
            if is_derived {
                let gone = RowChange { table, key: &key, value: None };
                one.index().writer().commit(&[gone]).unwrap();
                let found = found(one.index());
                assert!(!found.faults.is_empty(), "{table:?} {key:?} is gone");
                seen.extend(found.faults.iter().map(|fault| fault.kind));
                one.index().restore(&snapshot);
            }
        }
    }
    let kinds = [FaultKind::Rows, FaultKind::Tree, FaultKind::Count, FaultKind::List];
    assert!(kinds.iter().all(|kind| seen.contains(kind)), "{seen:?}");
}

/// A deadline is listed with its key, and nowhere else.
#[test]
fn a_deadline_that_is_not_listed_is_found() {
    let mut one = filled();
    let deadline = Deadline::At(5_000);
    let expiring = Operation::Expiry(ExpiryOp::Set { deadline, only_if: None });
    updated(&mut one, &key("due"), expiring);
    assert_eq!(found(one.index()).faults, []);
    let mut listed = Vec::new();
    one.index()
        .reader()
        .scan(Table::Meta, b"expiry", &mut |key, _| {
            listed.push(key.to_vec());
            ControlFlow::Break(())
        })
        .unwrap();
    let gone = RowChange { table: Table::Meta, key: &listed[0], value: None };
    one.index().writer().commit(&[gone]).unwrap();
    let faults = found(one.index()).faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].kind, FaultKind::List);
    assert!(faults[0].what.contains("has a deadline and is not listed"), "{faults:?}");
}
