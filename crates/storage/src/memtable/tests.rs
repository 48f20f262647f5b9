use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{IndexWrite, RowChange, SimIndex, SimIndexReader};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(
    memtable: &Memtable<SimIndexReader>,
    prefix: &[u8],
    from: &[u8],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    memtable
        .scan(Table::Header, prefix, from, |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn write(writer: &mut impl IndexWrite, generation: &Generation) {
    let rows = generation.rows(Table::Header);
    let changes: Vec<_> =
        rows.map(|(key, value)| RowChange { table: Table::Header, key, value }).collect();
    writer.commit(&changes).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Step {
    None,
    Take,
    Commit,
    Fail,
    Keep,
    Freeze,
    /// Into the index, and thaw.
    Write,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Against a map that takes every change at once, and goes back to what it was when the batch
    /// under way was begun should that fail.
    #[test]
    fn reads_see_every_change_and_a_failed_batch_takes_back_its_own(
        steps in prop::collection::vec((
            prop::collection::vec(0u8..3, 1..4),
            any::<Option<u8>>(),
            prop::sample::select(vec![
                Step::None, Step::None, Step::Take, Step::Take, Step::Commit, Step::Commit,
                Step::Fail, Step::Keep, Step::Freeze, Step::Freeze, Step::Write,
            ]),
        ), 0..80),
        prefix in prop::collection::vec(0u8..3, 0..2),
        from in prop::collection::vec(0u8..3, 0..3),
    ) {
        let index = SimIndex::new();
        let mut writer = index.writer();
        let mut memtable = Memtable::new(index.reader());
        let mut model = Model::new();
        // What is durable: the model when the batch under way was begun, or later.
        let (mut durable, mut taken) = (Model::new(), None::<Model>);
        let mut frozen = None::<Model>;
        for (key, value, step) in steps {
            match value {
                Some(value) => model.insert(key.clone(), vec![value]),
                None => model.remove(&key),
            };
            memtable.put(Table::Header, &key, value.map(|value| vec![value]));
            match step {
                Step::Take if taken.is_none() => {
                    memtable.take_batch();
                    taken = Some(model.clone());
                }
                Step::Commit => if let Some(committed) = taken.take() {
                    memtable.committed();
                    durable = committed;
                },
                Step::Fail if taken.take().is_some() => {
                    let was_lent = memtable.frozen().is_some();
                    memtable.failed();
                    prop_assert_eq!(memtable.is_frozen(), was_lent);
                    model.clone_from(&durable);
                }
                Step::Keep if taken.is_none() => {
                    memtable.keep();
                    durable.clone_from(&model);
                }
                Step::Freeze => {
                    if taken.is_none() {
                        memtable.keep();
                        durable.clone_from(&model);
                    }
                    if memtable.freeze() {
                        frozen = Some(model.clone());
                    }
                }
                Step::Write => if let Some(rows) = memtable.frozen().cloned() {
                    write(&mut writer, &rows);
                    drop(memtable.thaw());
                    // What is in the index now is the state at the moment of freezing.
                    let mut there = Model::new();
                    index.reader().scan(Table::Header, &[], &mut |key, value| {
                        there.insert(key.to_vec(), value.to_vec());
                        ControlFlow::Continue(())
                    }).unwrap();
                    prop_assert_eq!(Some(there), frozen.take());
                },
                _ => {}
            }
            let within = |key: &&Vec<u8>| key.starts_with(&prefix);
            let expected: Vec<_> = model.iter().filter(|(key, _)| within(key))
                .map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(rows(&memtable, &prefix, &[]), expected.clone());
            let after: Vec<_> = expected.iter().filter(|(key, _)| *key > from).cloned().collect();
            prop_assert_eq!(rows(&memtable, &prefix, &successor(&from)), after);
            for key in [vec![0], vec![1, 2]] {
                let got = memtable.get(Table::Header, &key, <[u8]>::to_vec).unwrap();
                prop_assert_eq!(got.as_ref(), model.get(&key));
                let at = (Table::Header, &key[..]);
                for other in [vec![0], vec![2], vec![1, 2]] {
                    let beside = (Table::Header, &other[..]);
                    let look = <[u8]>::to_vec;
                    let (got, beside) = memtable.get_with(at, beside, look, look).unwrap();
                    prop_assert_eq!(got.as_ref(), model.get(&key));
                    if let Some(got) = beside {
                        prop_assert_eq!(got.as_ref(), model.get(&other));
                    }
                }
            }
        }
        if taken.is_some() {
            memtable.committed();
        }
        for _ in 0..2 {
            memtable.keep();
            memtable.freeze();
            let rows = memtable.frozen().cloned().unwrap();
            write(&mut writer, &rows);
            drop(memtable.thaw());
        }
        prop_assert_eq!(memtable.bytes(), 0);
    }
}
