//! Rows and wholes: whatever the engine does row by row is what `Value::apply` does to the whole.

use proptest::prelude::*;
use values::{CartOp, CollectionSummary, GsetOp, MapOp, entry_row, is_collection};

use super::*;
use crate::record::row_digest;
use crate::{SingleEngine, conformance};

/// Elements that stand in rows of every form: empty, short, two long ones that begin alike.
fn name() -> impl Strategy<Value = Blob> {
    let long = |end: u8| Blob::from([vec![b'm'; 250].as_slice(), &[end]].concat());
    prop_oneof![
        Just(Blob::new()),
        Just(blob("a")),
        Just(blob("b")),
        Just(blob("z")),
        Just(long(1)),
        Just(long(2)),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let names = || prop::collection::vec(name(), 1..4);
    let tag = prop::option::of(prop::sample::select(Tag::KNOWN.to_vec()));
    prop_oneof![
        2 => (0u8..3).prop_map(|n| put(&n.to_string())),
        1 => Just(Operation::Bytes(BytesOp::Delete)),
        1 => any::<bool>().prop_map(|replace| {
            Operation::Register(RegisterOp::Set { value: blob("5"), at: None, replace })
        }),
        1 => (-9i64..9).prop_map(|by| Operation::Register(RegisterOp::Increment(by))),
        2 => names().prop_map(|names| Operation::Gset(GsetOp::Add(names))),
        1 => (-9i64..9).prop_map(count),
        1 => Just(Operation::Counter(CounterOp::Reset)),
        6 => names().prop_map(|names| Operation::Orset(OrsetOp::Add(names))),
        3 => names().prop_map(|names| Operation::Orset(OrsetOp::Remove(names))),
        3 => (name(), 1u64..5).prop_map(|(item, quantity)| {
            Operation::Cart(CartOp::Add { item, quantity })
        }),
        1 => name().prop_map(|item| Operation::Cart(CartOp::Remove(item))),
        1 => (name(), 0u64..5).prop_map(|(item, quantity)| {
            Operation::Cart(CartOp::SetQuantity { item, quantity })
        }),
        3 => prop::collection::vec((name(), Just(blob("1"))), 1..3)
            .prop_map(|fields| Operation::Map(MapOp::Set(fields))),
        3 => (name(), -9i64..9).prop_map(|(field, by)| {
            Operation::Map(MapOp::Increment { field, by })
        }),
        2 => names().prop_map(|names| Operation::Map(MapOp::Remove(names))),
        3 => tag.prop_map(Operation::Delete),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Update {
        at: usize,
        operation: Operation,
        observed: bool,
    },
    /// Deltas of the history, merged into one before it is delivered.
    Deliver {
        to: usize,
        deltas: Vec<prop::sample::Index>,
    },
    Transfer {
        from: usize,
        to: usize,
    },
    Sweep {
        at: usize,
        rows: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, operation(), any::<bool>())
            .prop_map(|(at, operation, observed)| Step::Update { at, operation, observed }),
        5 => (0..3usize, prop::collection::vec(any::<prop::sample::Index>(), 1..4))
            .prop_map(|(to, deltas)| Step::Deliver { to, deltas }),
        1 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Transfer { from, to }),
        2 => (0..3usize, 1..4usize).prop_map(|(at, rows)| Step::Sweep { at, rows }),
    ]
}

/// Without states that nothing was ever written to.
fn trimmed(mut value: Value) -> Value {
    value.0.retain(|&tag, state| *state != State::bottom(tag));
    value
}

fn entries(state: &State) -> Vec<Blob> {
    Delta::of(Tag(0), state.clone()).named_elements(Tag(0)).into_iter().collect()
}

fn summary(tag: Tag, state: &State) -> CollectionSummary {
    let live = View::of(Value::from([(tag, state.clone())])).collections[&tag].live;
    let digest = entries(state).iter().fold(0u128, |sum, element| {
        let row = entry_row(state, element).expect("it is an entry");
        sum.wrapping_add(row_digest(tag, element, &row))
    });
    CollectionSummary { live, digest, exact: true }
}

fn check(
    engine: &mut MemoryEngine,
    key: &Key,
    model: &Value,
    is_swept: bool,
) -> Result<(), TestCaseError> {
    let model = trimmed(model.clone());
    let view = viewed(engine, key, Scope::Whole);
    prop_assert_eq!(&trimmed(view.value.clone()), &model);
    prop_assert_eq!(engine.engine().live_keys(), u64::from(!view.live_tags().is_empty()));
    prop_assert!(engine.engine().check_trees().unwrap().is_clean());
    for (&tag, state) in &model.0 {
        if !is_collection(tag) {
            continue;
        }
        let (shown, counted) = (view.collections[&tag], summary(tag, state));
        if is_swept || shown.exact {
            prop_assert_eq!(shown, counted, "{}", tag);
        } else {
            prop_assert!(shown.live >= counted.live, "{}: {:?}", tag, shown);
        }
        let (mut after, mut paged) = (None, Vec::new());
        loop {
            let page = viewed(engine, key, Scope::Range { tag, after, limit: 2 });
            let found = entries(&page.value.0[&tag]);
            prop_assert!(found.len() <= 2);
            for element in found {
                let whole = entry_row(state, &element);
                prop_assert_eq!(entry_row(&page.value.0[&tag], &element), whole);
                paged.push(element);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(paged, entries(state), "pages are in order and lack nothing");
    }
    Ok(())
}

/// Equal states have equal trees, however they came about; different ones have not.
fn compare_trees(
    engines: &mut [MemoryEngine; 3],
    models: &[Value; 3],
) -> Result<(), TestCaseError> {
    let nodes = [0, 1, 2].map(|at| roots(&mut engines[at]));
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let is_settled = [one, other].iter().all(|at| nodes[*at].iter().all(|n| n.is_settled));
        if is_settled {
            let are_equal = trimmed(models[one].clone()) == trimmed(models[other].clone());
            prop_assert_eq!(nodes[one] == nodes[other], are_equal);
        }
    }
    Ok(())
}

fn run(key: &Key, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut engines = [1, 2, 3].map(|node| MemoryEngine::new(config(node, node)));
    let mut models = [Value::default(), Value::default(), Value::default()];
    let mut history: Vec<Delta> = Vec::new();
    for step in steps {
        let at = match step {
            Step::Update { at, operation, observed } => {
                let seen = if observed {
                    models[at].context(Tag::BYTES).clone()
                } else {
                    CausalContext::default()
                };
                let scope = operation.scope();
                let mut answers = engines[at].execute_now(update_seeing(key, operation, seen));
                match answers.remove(0) {
                    Answer::Prepared { delta, view, .. } => {
                        models[at].apply(&delta);
                        let again = viewed(&mut engines[at], key, scope.clone());
                        prop_assert_eq!(&view.collections, &again.collections);
                        if scope != Scope::Removal {
                            prop_assert_eq!(trimmed(view.value), trimmed(again.value));
                        }
                        history.push(delta);
                    }
                    Answer::Refused(_) => {}
                    other => panic!("{other:?}"),
                }
                at
            }
            Step::Deliver { to, deltas } => {
                let mut whole = Delta::default();
                for index in deltas.iter().filter(|_| !history.is_empty()) {
                    whole.merge(index.get(&history));
                }
                merged(&mut engines[to], key, &whole);
                models[to].apply(&whole);
                to
            }
            Step::Transfer { from, to } => {
                let whole = Delta::whole(models[from].clone());
                merged(&mut engines[to], key, &whole);
                models[to].apply(&whole);
                to
            }
            Step::Sweep { at, rows } => {
                engines[at].sweep(rows);
                at
            }
        };
        check(&mut engines[at], key, &models[at], false)?;
        compare_trees(&mut engines, &models)?;
    }
    for at in 0..3 {
        while engines[at].sweep(3) {}
        check(&mut engines[at], key, &models[at], true)?;
        prop_assert!(roots(&mut engines[at]).iter().all(|node| node.is_settled));
        let open = MemoryEngine::open(engines[at].disk().clone(), config(9, 9));
        check(&mut open.expect("it can be read"), key, &models[at], true)?;
    }
    compare_trees(&mut engines, &models)?;
    // In other orders, whole.
    for (from, to) in [(0, 1), (2, 1), (1, 2), (1, 0)] {
        merged(&mut engines[to], key, &Delta::whole(models[from].clone()));
        let theirs = models[from].clone();
        models[to].apply(&Delta::whole(theirs));
    }
    for engine in &mut engines {
        while engine.sweep(3) {}
    }
    compare_trees(&mut engines, &models)?;
    let [one, two, three] = [0, 1, 2].map(|at| roots(&mut engines[at]));
    prop_assert_eq!(&one, &two);
    prop_assert_eq!(&two, &three);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn merging_rows_is_merging_the_whole(
        long in any::<bool>(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let name = if long { "k".repeat(400) } else { "k".into() };
        run(&key(&name), steps)?;
    }
}

#[test]
fn an_engine_answers_the_same_whatever_is_in_the_index() {
    for pace in conformance::Pace::ALL {
        let disk = SimDisk::new();
        let open = |config| {
            let SimDisk { files, index } = disk.clone();
            SingleEngine::open(files, index.reader(), index.writer(), 0, config).unwrap().0
        };
        conformance::check_commands(open, pace);
    }
}

#[test]
fn two_keys_whose_names_begin_alike_share_no_element() {
    let mut one = MemoryEngine::new(config(1, 1));
    let names = ["", "a", "aa", "a\0", "\0", "a\u{5}"];
    let long = ["x".repeat(400), "x".repeat(401)];
    let names = names.into_iter().chain(long.iter().map(String::as_str));
    for name in names.clone() {
        updated(&mut one, &key(name), add(&["", "a", name]));
    }
    updated(&mut one, &key("a"), Operation::Delete(None));
    while one.sweep(1) {}
    for name in names {
        let expected = match name {
            "a" => BTreeSet::new(),
            name => [blob(""), blob("a"), blob(name)].into(),
        };
        assert_eq!(elements(&whole(&mut one, &key(name))), expected, "{name:?}");
    }
}

/// What the issue asks: adding to a set of 100,000 costs what adding to one of ten does.
#[test]
fn adding_an_element_writes_three_rows_whatever_the_size_of_the_set() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    let mut sizes = Vec::new();
    for members in [10, 2_000] {
        let key = key(&members.to_string());
        let names = (0..members).map(|n| blob(&n.to_string())).collect();
        one.give(1, update(&key, Operation::Orset(OrsetOp::Add(names))));
        assert!(one.take());
        one.commit();
        one.checkpoint();
        one.give(2, update(&key, add(&["new"])));
        assert!(one.take());
        let records = one.batch.as_ref().expect("it was taken").records.len();
        one.commit();
        assert!(one.engine.freeze(0));
        let checkpoint = one.engine.take_checkpoint().expect("all of it is in the log");
        let counts = Table::ALL.map(|table| checkpoint.rows.rows(table).count());
        // The header, the element, the leaf of the hash tree.
        assert_eq!(counts, [0, 1, 1, 0, 1, 0, 0]);
        sizes.push((records, one.engine.pending_bytes()));
        one.write(&checkpoint);
    }
    let [(records, rows), (records_of_large, rows_of_large)] = sizes[..] else {
        panic!("{sizes:?}")
    };
    assert!(records_of_large <= records + 8 && rows_of_large <= rows + 8, "{sizes:?}");
}

#[test]
fn a_removal_is_shown_the_fields_that_were_ever_incremented() {
    let mut one = MemoryEngine::new(config(1, 1));
    let set = |name| Operation::Map(MapOp::Set(vec![(blob(name), blob("1"))]));
    let increment = |name| Operation::Map(MapOp::Increment { field: blob(name), by: 1 });
    updated(&mut one, &key("k"), set("set"));
    updated(&mut one, &key("k"), increment("incremented"));
    updated(&mut one, &key("k"), increment("reset"));
    updated(&mut one, &key("k"), Operation::Map(MapOp::Remove(vec![blob("reset")])));
    let view = viewed(&mut one, &key("k"), Scope::Removal);
    assert_eq!(entries(&view.value.0[&Tag::MAP]), [blob("incremented"), blob("reset")]);
    updated(&mut one, &key("k"), Operation::Delete(None));
    assert_eq!(viewed(&mut one, &key("k"), Scope::Headers).live_tags(), []);
    assert_eq!(one.engine().live_keys(), 0);
}

/// A removal acts on the join of what several replicas show.
#[test]
fn what_one_replica_shows_reset_no_other_makes_live_again() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    let increment = Operation::Map(MapOp::Increment { field: blob("f"), by: 1 });
    let delta = updated(&mut one, &key("k"), increment);
    merged(&mut two, &key("k"), &delta);
    updated(&mut two, &key("k"), Operation::Delete(None));
    let mut view = viewed(&mut one, &key("k"), Scope::Removal);
    assert_eq!(view.live_tags(), [Tag::MAP]);
    view.merge(&viewed(&mut two, &key("k"), Scope::Removal));
    assert_eq!(view.live_tags(), []);
}

#[test]
fn pages_of_long_elements_that_begin_alike_are_in_order_and_lack_nothing() {
    let mut one = MemoryEngine::new(config(1, 1));
    let names: Vec<String> = (0..9).map(|n| format!("{}{n}", "m".repeat(250))).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend(["a", "z"]);
    updated(&mut one, &key("k"), add(&all));
    all.sort_unstable();
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let page = viewed(&mut one, &key("k"), Scope::Range { tag: Tag::ORSET, after, limit: 2 });
        paged.extend(elements(&page.value));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.into_iter().map(blob).collect::<Vec<_>>());
}

/// A node of a later version sends a type that this one does not know, beside one that it does.
#[test]
fn a_type_that_this_build_does_not_know_is_stored_and_shown_as_it_came() {
    let unknown = |text: &str| {
        let state = State::Opaque([blob(text)].into());
        Delta::of(Tag(200), state)
    };
    let mut engine = MemoryEngine::new(config(1, 7));
    let key = key("k");
    updated(&mut engine, &key, add(&["a"]));
    for text in ["one", "two", "one"] {
        merged(&mut engine, &key, &unknown(text));
    }
    let view = viewed(&mut engine, &key, Scope::Whole);
    let both = State::Opaque([blob("one"), blob("two")].into());
    assert_eq!(view.value.state(Tag(200)), Some(&both));
    assert_eq!(elements(&view.value), [blob("a")].into());
    assert_eq!(view.live_tags(), [Tag::ORSET, Tag(200)]);
}
