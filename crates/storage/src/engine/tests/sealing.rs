use values::{CartOp, Limits, MapOp};

use super::*;

fn enter(engine: &mut MemoryEngine, number: u64) {
    let round = Round { ring: RingId(7), number };
    assert_eq!(engine.execute_now(Command::Enter { round }), [Answer::Durable]);
}

/// Writes twice, so that one of the writes looks at the elements, where no more than one actor may rest. Returns the deltas.
fn written(engine: &mut MemoryEngine, key: &Key, operation: &Operation) -> Vec<Delta> {
    let write = |_| {
        let observed = whole(engine, key).context(Tag::BYTES).without_seals();
        let mut command = update_seeing(key, operation.clone(), observed);
        let Command::Update { limits, .. } = &mut command else { unreachable!() };
        *limits = Arc::new(Limits { actors_resting: 1, ..Limits::default() });
        match engine.execute_now(command).as_slice() {
            [Answer::Prepared { delta, .. }, Answer::Durable] => delta.clone(),
            other => panic!("{other:?}"),
        }
    };
    (0..2).map(write).collect()
}

/// One write of each type that takes the place of what was there, and an increment.
fn operations() -> Vec<(Tag, Operation)> {
    let set = RegisterOp::Set { value: blob("v"), at: None, replace: false };
    vec![
        (Tag::BYTES, put("v")),
        (Tag::LWW, Operation::Register(set)),
        (Tag::LWW, Operation::Register(RegisterOp::Increment(1))),
        (Tag::COUNTER, count(1)),
        (Tag::ORSET, add(&["x"])),
        (Tag::CART, Operation::Cart(CartOp::SetQuantity { item: blob("x"), quantity: 1 })),
        (Tag::MAP, Operation::Map(MapOp::Set(vec![(blob("f"), blob("v"))]))),
    ]
}

fn actors(value: &Value, tag: Tag) -> BTreeSet<Actor> {
    value.context(tag).actors().collect()
}

/// What a reader sees.
fn seen(value: &Value) -> (BTreeSet<Blob>, i128, BTreeSet<Blob>, Option<Blob>) {
    let register = match value.state(Tag::LWW) {
        Some(State::Register(register)) => register.read(),
        _ => None,
    };
    (values_of(value), counted(value), elements(value), register)
}

const STARTS: u64 = 6;

#[test]
fn the_epochs_of_earlier_starts_are_forgotten_by_the_first_write_that_is_five_rounds_later() {
    for (number, (tag, operation)) in operations().into_iter().enumerate() {
        let key = key(&format!("k{number}"));
        let mut engine = MemoryEngine::new(config(1, 1));
        for process in 1..=STARTS {
            let disk = engine.disk().clone();
            engine = MemoryEngine::open(disk, config(1, process)).unwrap();
            // None is sealed in the first rounds: nobody has entered one.
            written(&mut engine, &key, &operation);
        }
        assert_eq!(actors(&whole(&mut engine, &key), tag).len() as u64, STARTS, "{operation:?}");
        for round in 3..=7 {
            enter(&mut engine, round);
            written(&mut engine, &key, &operation);
            let left = actors(&whole(&mut engine, &key), tag).len() as u64;
            assert_eq!(left, STARTS, "{operation:?} in round {round}");
            assert!(engine.engine().has_to_forget().unwrap(), "{operation:?} in round {round}");
        }
        // Who has all but the last write knows what that forgets, and forgets it too.
        let before = whole(&mut engine, &key);
        let mut other = MemoryEngine::new(config(2, 99));
        merged(&mut other, &key, &Delta::whole(before.clone()));
        enter(&mut engine, 8);
        let deltas = written(&mut engine, &key, &operation);
        let after = whole(&mut engine, &key);
        assert!(actors(&after, tag).len() <= 2, "{operation:?}: {after:?}");
        deltas.iter().for_each(|delta| merged(&mut other, &key, delta));
        assert_eq!(whole(&mut other, &key), after, "{operation:?}");
        assert_eq!(roots(&mut other), roots(&mut engine), "{operation:?}");
        let (is, was) = (seen(&after), seen(&before));
        match operation {
            Operation::Counter(_) => assert_eq!(is.1, was.1 + 2),
            Operation::Register(RegisterOp::Increment(_)) => {
                assert_eq!(is.3, Some(blob(&(2 * (STARTS + 6)).to_string())));
            }
            _ => assert_eq!(is, was, "{operation:?}"),
        }
        assert!(check(&engine).is_clean());
    }
}

/// Its next dot would be missing beside what others have forgotten, and what comes back of it could be issued again.
#[test]
fn a_replica_whose_actor_was_sealed_elsewhere_goes_on_under_another() {
    for (number, (tag, operation)) in operations().into_iter().enumerate() {
        let key = key(&format!("k{number}"));
        let (mut one, mut other) =
            (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
        let first = written(&mut one, &key, &operation);
        let [mine] = actors(&whole(&mut one, &key), tag).into_iter().collect::<Vec<_>>()[..] else {
            panic!("one wrote")
        };
        first.iter().for_each(|delta| merged(&mut other, &key, delta));
        let context = whole(&mut other, &key).context(tag).clone();
        let mut seal = Delta::default();
        seal.merge(&written(&mut other, &key, &operation)[0]);
        seal.seal(tag, &context.sealed(&[mine].into(), Round { ring: RingId(7), number: 1 }));
        merged(&mut one, &key, &seal);
        let held = whole(&mut one, &key);
        assert!(held.context(tag).is_sealed(mine), "{operation:?}");
        written(&mut one, &key, &operation);
        let after = whole(&mut one, &key);
        assert_eq!(after.context(tag).highest(mine), held.context(tag).highest(mine));
        assert_eq!(actors(&after, tag).len(), actors(&held, tag).len() + 1, "{operation:?}");
    }
}

#[test]
fn nobody_is_sealed_of_whom_something_is_left_in_a_collection() {
    let (key, mut engine) = (key("k"), MemoryEngine::new(config(1, 1)));
    for process in 1..=STARTS {
        let disk = engine.disk().clone();
        engine = MemoryEngine::open(disk, config(1, process)).unwrap();
        enter(&mut engine, 3);
        // Of every other start an element stays.
        written(&mut engine, &key, &add(&[["x", "a", "x", "b", "x", "c"][process as usize - 1]]));
    }
    enter(&mut engine, 8);
    written(&mut engine, &key, &add(&["x"]));
    let after = whole(&mut engine, &key);
    assert_eq!(elements(&after), ["a", "b", "c", "x"].map(blob).into());
    let State::Orset(set) = after.state(Tag::ORSET).unwrap() else { panic!("a set") };
    let live: BTreeSet<Actor> =
        values::DotStore::dots(&set.store).iter().map(|d| d.actor).collect();
    let all = actors(&after, Tag::ORSET);
    assert!(all.is_superset(&live) && all.len() <= live.len() + 1, "{after:?}");
}

/// Its own dots would be counted from 1 again, by what the others show.
#[test]
fn a_replica_that_is_shown_that_its_actor_was_forgotten_goes_on_under_another() {
    let (key, set) = (key("k"), operations().remove(1).1);
    let (mut one, mut other) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    written(&mut one, &key, &set).iter().for_each(|delta| merged(&mut other, &key, delta));
    let context = whole(&mut other, &key).context(Tag::LWW).clone();
    let mine: BTreeSet<Actor> = context.actors().collect();
    let mut delta = written(&mut other, &key, &set).remove(0);
    let round = Round { ring: RingId(7), number: 1 };
    let mut forgotten = context.sealed(&mine, round);
    delta.seal(Tag::LWW, &forgotten);
    merged(&mut other, &key, &delta);
    // One shows the seal, another one has forgotten already.
    let sealed = viewed(&mut other, &key, Scope::Whole);
    forgotten.forget_below(Round { number: 2, ..round });
    delta.seal(Tag::LWW, &forgotten);
    merged(&mut other, &key, &delta);
    let view = viewed(&mut other, &key, Scope::Whole);
    assert!(view.value.context(Tag::LWW).actors().all(|actor| !mine.contains(&actor)));

    let mut command = update(&key, set);
    let Command::Update { shown, .. } = &mut command else { unreachable!() };
    shown.extend([sealed, view]);
    let answers = one.execute_now(command);
    let [Answer::Prepared { minted: Some(minted), .. }, Answer::Durable] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(!mine.contains(&minted.first.actor));
}
