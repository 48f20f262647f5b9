use values::{CartOp, MapOp};

use super::*;
use crate::{Fault, Forgetting, Verifying, check_rows};

fn enter(engine: &mut MemoryEngine, round: u64) {
    let round = Round { ring: RingId(7), number: round };
    assert_eq!(engine.execute_now(Command::Enter { round }), [Answer::Durable]);
}

fn forget(engine: &mut MemoryEngine, step: Forgetting, below: u64) {
    loop {
        match engine.execute_now(Command::ForgetRemnants { step, below, limit: 2 }).as_slice() {
            [Answer::RemnantsForgotten { more: false }] => return,
            [Answer::RemnantsForgotten { more: true }] => {}
            other => panic!("{other:?}"),
        }
    }
}

fn delete(engine: &mut MemoryEngine, key: &Key) -> Delta {
    updated(engine, key, Operation::Delete(None))
}

fn rows(engine: &MemoryEngine, table: Table) -> usize {
    let mut count = 0;
    engine
        .engine()
        .rows
        .scan(table, &[], &[], |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    count
}

fn set(value: &str) -> Operation {
    Operation::Register(RegisterOp::Set { value: blob(value), at: None, replace: false })
}

/// Every type that leaves nothing but what it has seen.
fn operations() -> Vec<Operation> {
    let cart = Operation::Cart(CartOp::Add { item: blob("book"), quantity: 2 });
    let map = Operation::Map(MapOp::Set(vec![(blob("field"), blob("value"))]));
    vec![put("v"), add(&["x", "y"]), count(3), set("v"), cart, map]
}

#[test]
fn what_is_left_of_a_deleted_key_counts_as_gone_and_then_is() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let empty = roots(&mut engine);
    let keys: Vec<Key> = (0..operations().len()).map(|n| key(&format!("k{n}"))).collect();
    for (key, operation) in keys.iter().zip(operations()) {
        updated(&mut engine, key, operation);
        delete(&mut engine, key);
    }
    while engine.sweep(100) {}
    enter(&mut engine, 1);
    assert_eq!(engine.engine().oldest_remnant(), Ok(Some(0)));
    forget(&mut engine, Forgetting::Drop, 1);
    assert_eq!(rows(&engine, Table::Header), keys.len(), "what is not hidden is not dropped");
    assert_ne!(roots(&mut engine), empty);
    forget(&mut engine, Forgetting::Hide, 1);
    assert_eq!(engine.engine().oldest_remnant(), Ok(None));
    assert_eq!(roots(&mut engine), empty);
    assert!(keys.iter().all(|key| whole(&mut engine, key) == Value::default()));
    assert_eq!(rows(&engine, Table::Header), keys.len());
    forget(&mut engine, Forgetting::Drop, 1);
    // The trees' leaves are kept while they are empty of keys of one class only.
    assert_eq!([Table::Header, Table::Element].map(|table| rows(&engine, table)), [0, 0]);
    assert_eq!(rows(&engine, Table::Meta), 4, "the round of each shard");
    assert!(check(&engine).is_clean());
}

#[test]
fn what_changed_since_the_round_was_entered_is_kept() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let (old, new) = (key("old"), key("new"));
    updated(&mut engine, &new, put("v"));
    for key in [&old, &new] {
        updated(&mut engine, key, put("w"));
    }
    delete(&mut engine, &old);
    enter(&mut engine, 1);
    delete(&mut engine, &new);
    let left = whole(&mut engine, &new);
    for step in [Forgetting::Hide, Forgetting::Drop] {
        forget(&mut engine, step, 1);
    }
    assert_eq!(whole(&mut engine, &old), Value::default());
    assert_eq!(whole(&mut engine, &new), left);
    enter(&mut engine, 2);
    forget(&mut engine, Forgetting::Hide, 2);
    assert_eq!(whole(&mut engine, &new), Value::default());
}

#[test]
fn what_is_live_waits_for_the_sweep_or_has_rows_is_no_remnant() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let increment = Operation::Map(MapOp::Increment { field: blob("field"), by: 2 });
    let (live, tallies) = (key("live"), key("tallies"));
    updated(&mut engine, &live, put("v"));
    updated(&mut engine, &tallies, increment);
    delete(&mut engine, &tallies);
    enter(&mut engine, 1);
    let before: Vec<Value> = [&live, &tallies].map(|key| whole(&mut engine, key)).into();
    for step in [Forgetting::Hide, Forgetting::Drop] {
        forget(&mut engine, step, 1);
    }
    let after: Vec<Value> = [&live, &tallies].map(|key| whole(&mut engine, key)).into();
    assert_eq!(after, before);
}

#[test]
fn a_name_is_known_until_what_is_left_of_its_key_is_forgotten() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let by_name = named(update(&key("k"), count(1)), 7);
    engine.execute_now(by_name.clone());
    delete(&mut engine, &key("k"));
    let repeated = engine.execute_now(by_name);
    assert!(matches!(&repeated[0], Answer::Prepared { repeated: true, .. }), "{repeated:?}");
    enter(&mut engine, 1);
    assert!(engine.engine().has_to_forget().unwrap());
    for step in [Forgetting::Hide, Forgetting::Drop] {
        forget(&mut engine, step, 1);
    }
    assert_eq!(whole(&mut engine, &key("k")), Value::default());
    assert!(!engine.engine().has_to_forget().unwrap());
}

#[test]
fn names_of_increments_are_folded_by_the_first_write_that_is_five_rounds_later() {
    let mut engine = MemoryEngine::new(config(1, 1));
    enter(&mut engine, 3);
    for name in 0..4 {
        engine.execute_now(named(update(&key("k"), count(2)), name));
    }
    let names = |value: &Value| {
        let names = value.context(Tag::COUNTER).actors().filter(|actor| actor.is_named());
        names.count()
    };
    let sum = |value: &Value| match value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        other => panic!("{other:?}"),
    };
    for round in 4..=7 {
        enter(&mut engine, round);
        assert!(engine.engine().has_to_forget().unwrap(), "in round {round}");
        updated(&mut engine, &key("k"), count(1));
        assert_eq!(names(&whole(&mut engine, &key("k"))), 4, "in round {round}");
    }
    enter(&mut engine, 8);
    assert!(!engine.engine().has_to_forget().unwrap());
    updated(&mut engine, &key("k"), count(1));
    let value = whole(&mut engine, &key("k"));
    assert_eq!((names(&value), sum(&value)), (0, 13));
    // What another has not folded yet says no more.
    let mut other = MemoryEngine::new(config(2, 2));
    enter(&mut other, 8);
    other.execute_now(merge(&key("k"), &Delta::whole(value.clone())));
    assert_eq!(whole(&mut other, &key("k")), value);
}

/// Else the first start of every founder would begin a round for nothing.
#[test]
fn a_founder_has_names_to_fold_once_it_gave_one_or_may_have_before_it_started() {
    let before_first = Round { ring: RingId(7), number: 0 };
    let started = |is_noted| {
        let mut engine = MemoryEngine::new(config(1, 1));
        engine.begin_in(before_first, is_noted);
        engine
    };
    assert_eq!(
        started(true).engine().has_to_forget(),
        Ok(true),
        "before its restart it may have named"
    );
    let mut engine = started(false);
    assert_eq!(engine.engine().has_to_forget(), Ok(false));
    updated(&mut engine, &key("k"), count(1));
    assert_eq!(engine.engine().has_to_forget(), Ok(false), "this has no name");
    engine.execute_now(named(update(&key("k"), count(2)), 1));
    assert_eq!(engine.engine().has_to_forget(), Ok(true));
}

#[test]
fn what_counts_as_gone_does_not_come_back_from_a_member_that_still_shows_it() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let empty = roots(&mut engine);
    let mut kept = Vec::new();
    for (n, operation) in operations().into_iter().enumerate() {
        let key = key(&format!("k{n}"));
        let mut all = updated(&mut engine, &key, operation);
        all.merge(&delete(&mut engine, &key));
        kept.push((key, all));
    }
    while engine.sweep(100) {}
    enter(&mut engine, 1);
    forget(&mut engine, Forgetting::Hide, 1);
    for (key, all) in &kept {
        merged(&mut engine, key, all);
        assert_eq!(whole(&mut engine, key), Value::default());
    }
    assert_eq!(roots(&mut engine), empty);
    // Once it is gone it comes back, as one of this round, and goes with the next.
    forget(&mut engine, Forgetting::Drop, 1);
    for (key, all) in &kept {
        merged(&mut engine, key, all);
        assert!(View::of(whole(&mut engine, key)).live_tags().is_empty());
    }
    forget(&mut engine, Forgetting::Hide, 1);
    assert_ne!(roots(&mut engine), empty);
    enter(&mut engine, 2);
    forget(&mut engine, Forgetting::Hide, 2);
    assert_eq!(roots(&mut engine), empty);
}

#[test]
fn a_member_that_missed_the_deletion_is_shown_again_what_counted_as_gone() {
    for operation in operations() {
        let [mut one, mut two] = [1, 2].map(|node| MemoryEngine::new(config(node, node)));
        let k = key("k");
        let written = updated(&mut one, &k, operation);
        merged(&mut two, &k, &written);
        delete(&mut one, &k);
        while one.sweep(100) {}
        enter(&mut one, 1);
        forget(&mut one, Forgetting::Hide, 1);
        assert_eq!(whole(&mut one, &k), Value::default());
        let shown = Delta::whole(whole(&mut two, &k));
        merged(&mut one, &k, &shown);
        let left = whole(&mut one, &k);
        assert_ne!(left, Value::default());
        merged(&mut two, &k, &Delta::whole(left));
        while two.sweep(100) {}
        assert!(View::of(whole(&mut two, &k)).live_tags().is_empty());
        assert_eq!(roots(&mut one), roots(&mut two));
        // It goes with the next round.
        forget(&mut one, Forgetting::Hide, 1);
        assert_ne!(whole(&mut one, &k), Value::default());
        enter(&mut one, 2);
        forget(&mut one, Forgetting::Hide, 2);
        assert_eq!(whole(&mut one, &k), Value::default());
        assert!(check(&one).is_clean());
    }
}

/// Two replicas that come together: one has hidden what it removed, in rounds that the other never had.
#[test]
fn what_was_hidden_is_shown_again_and_goes_with_the_rounds_of_others() {
    for operation in operations() {
        let [mut one, mut two] = [1, 2].map(|node| MemoryEngine::new(config(node, node)));
        let hidden = key("hidden");
        let written = updated(&mut one, &hidden, operation.clone());
        delete(&mut one, &hidden);
        enter(&mut one, 7);
        while one.sweep(100) {}
        forget(&mut one, Forgetting::Hide, 7);
        let later: Vec<Key> = (0..5).map(|n| key(&format!("later{n}"))).collect();
        for key in &later {
            updated(&mut one, key, operation.clone());
            delete(&mut one, key);
        }
        while one.sweep(100) {}
        for engine in [&mut one, &mut two] {
            enter(engine, 3);
        }
        forget(&mut one, Forgetting::Show, 3);
        assert_ne!(whole(&mut one, &hidden), Value::default());
        assert_eq!(one.engine().oldest_remnant(), Ok(Some(3)));
        assert!(check(&one).is_clean());
        // The other has the same remnants, and missed that one of the keys was deleted.
        merged(&mut two, &hidden, &written);
        for key in later.iter().chain([&hidden]) {
            let left = Delta::whole(whole(&mut one, key));
            merged(&mut two, key, &left);
        }
        while two.sweep(100) {}
        assert_eq!(roots(&mut one), roots(&mut two));
        let empty = roots(&mut MemoryEngine::new(config(3, 3)));
        for engine in [&mut one, &mut two] {
            enter(engine, 4);
            forget(engine, Forgetting::Hide, 4);
            assert_eq!(roots(engine), empty);
            forget(engine, Forgetting::Drop, 4);
            assert_eq!(rows(engine, Table::Header), 0);
            assert!(check(engine).is_clean());
        }
    }
}

/// One has hidden the remnant, two has dropped it, three does not know yet that it may.
#[test]
fn a_write_after_the_deletion_is_kept_wherever_it_is_made() {
    for operation in operations() {
        for writer in 0..3 {
            let mut replicas: Vec<MemoryEngine> =
                (1..=3).map(|node| MemoryEngine::new(config(node, node))).collect();
            let k = key("k");
            let mut all = updated(&mut replicas[0], &k, operation.clone());
            all.merge(&delete(&mut replicas[0], &k));
            for replica in &mut replicas {
                merged(replica, &k, &all);
                while replica.sweep(100) {}
                enter(replica, 1);
            }
            for replica in &mut replicas[..2] {
                forget(replica, Forgetting::Hide, 1);
            }
            forget(&mut replicas[1], Forgetting::Drop, 1);
            // The clock of the one that has dropped it goes by what others say: it is ahead.
            let mut command = update(&k, operation.clone());
            if let Command::Update { stamp, .. } = &mut command
                && writer == 1
            {
                *stamp = Stamp::from_millis(9);
            }
            let delta = match replicas[writer].execute_now(command).remove(0) {
                Answer::Prepared { delta, .. } => delta,
                other => panic!("{other:?}"),
            };
            for replica in &mut replicas {
                merged(replica, &k, &delta);
            }
            let shown: Vec<Value> = replicas.iter_mut().map(|r| whole(r, &k)).collect();
            let first = View::of(shown[0].clone()).live_tags();
            assert_eq!(first.len(), 1, "{operation:?} at {writer}: {shown:?}");
            // Compared, they are the same, to the last dot.
            let mut joined = shown[0].clone();
            shown[1..].iter().for_each(|value| joined.merge(value));
            for replica in &mut replicas {
                merged(replica, &k, &Delta::whole(joined.clone()));
                assert_eq!(View::of(whole(replica, &k)).live_tags(), first);
            }
            let trees: Vec<_> = replicas.iter_mut().map(roots).collect();
            assert!(trees.windows(2).all(|pair| pair[0] == pair[1]), "{operation:?} at {writer}");
        }
    }
}

#[test]
fn a_key_written_again_is_written_under_another_actor() {
    let mut engine = MemoryEngine::new(config(1, 1));
    let k = key("k");
    let dots =
        |delta: &Delta| -> BTreeSet<Actor> { delta.value.context(Tag::COUNTER).actors().collect() };
    let first = dots(&updated(&mut engine, &k, count(1)));
    for round in 1..4 {
        delete(&mut engine, &k);
        enter(&mut engine, round);
        forget(&mut engine, Forgetting::Hide, round);
        if round == 2 {
            forget(&mut engine, Forgetting::Drop, round);
        }
        let again = updated(&mut engine, &k, count(1));
        assert!(dots(&again).is_disjoint(&first), "{again:?}");
        assert_eq!(counted(&whole(&mut engine, &k)), 1);
    }
}

#[derive(Default)]
struct Told(Vec<Fault>);

impl Verifying for Told {
    fn passed(&mut self, _: u64) {}

    fn fault(&mut self, fault: Fault) {
        self.0.push(fault);
    }
}

#[test]
fn rounds_and_steps_survive_a_crash_and_are_verified() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    let k = key("k");
    one.give(1, update(&k, add(&["x"])));
    one.give(2, update(&k, Operation::Delete(None)));
    while one.engine.sweep(10) {}
    one.give(3, Command::Enter { round: Round { ring: RingId(7), number: 5 } });
    one.give(4, Command::ForgetRemnants { step: Forgetting::Hide, below: 5, limit: 1 });
    let durable = |answers: &[(u64, Answer)], ticket| {
        answers
            .iter()
            .any(|(of, answer)| *of == ticket && !matches!(answer, Answer::Prepared { .. }))
    };
    assert!(!durable(&one.answered(), 4));
    assert!(one.take());
    one.commit();
    let answers = one.answered();
    assert!(
        durable(&answers, 3) && answers.contains(&(4, Answer::RemnantsForgotten { more: false }))
    );
    one.give(5, Command::ForgetRemnants { step: Forgetting::Drop, below: 5, limit: 1 });
    // Not committed: it is hidden after the crash, and not dropped.
    let mut after = Stepped::open(&disk, config(1, 2));
    assert_eq!(after.engine.round(), 5);
    assert_eq!(after.engine.oldest_remnant(), Ok(None));
    assert!(after.engine.header(&RowKey::of(&k), &k).unwrap().tags.is_empty());
    assert!(after.engine.held_header(&RowKey::of(&k), &k).unwrap().is_hidden());
    after.checkpoint();
    let mut told = Told::default();
    for table in Table::ALL {
        check_rows(&disk.index.reader(), table, shards(), &mut told).unwrap();
    }
    assert_eq!(told.0, []);
    let mut last = Stepped::open(&disk, config(1, 3));
    assert_eq!(last.engine.round(), 5);
    last.give(1, Command::ForgetRemnants { step: Forgetting::Drop, below: 5, limit: 1 });
    assert!(last.take());
    last.commit();
    assert!(last.engine.held_header(&RowKey::of(&k), &k).unwrap().tags.is_empty());
}

#[test]
fn a_round_that_the_disk_refused_is_written_when_it_is_entered_again() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    let enter = Command::Enter { round: Round { ring: RingId(7), number: 5 } };
    one.give(1, enter.clone());
    assert!(one.take());
    disk.fail_next(SeamError::Full);
    one.commit();
    assert!(matches!(one.answered()[..], [(1, Answer::Failed(_))]));
    one.engine.probe();
    assert!(one.take());
    one.commit();
    one.give(2, enter);
    assert!(one.take(), "the round is in no log yet");
    one.commit();
    assert_eq!(one.answered(), [(2, Answer::Durable)]);
    assert_eq!(Stepped::open(&disk, config(1, 2)).engine.round(), 5);
}
