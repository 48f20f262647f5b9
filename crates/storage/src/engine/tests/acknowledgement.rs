//! Acknowledged means durable: batches, failures, crashes.

use super::*;

fn tickets(answers: &[(u64, Answer)]) -> Vec<u64> {
    answers.iter().map(|(ticket, _)| *ticket).collect()
}

#[test]
fn nothing_is_acknowledged_before_its_batch_was_committed() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    one.give(1, update(&key("k"), add(&["x"])));
    assert!(matches!(one.answered().as_slice(), [(1, Answer::Prepared { .. })]));
    assert!(one.take());
    one.give(2, update(&key("k"), add(&["y"])));
    assert!(matches!(one.answered().as_slice(), [(2, Answer::Prepared { .. })]));
    assert!(one.engine.take_batch().is_none(), "one batch at a time");
    one.commit();
    assert_eq!(one.answered(), [(1, Answer::Durable)]);
    assert!(!one.engine.is_settled());
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered(), [(2, Answer::Durable)]);
    assert!(one.engine.is_settled());
    one.checkpoint();
    assert_eq!(one.engine.pending_bytes(), 0);
}

#[test]
fn a_read_sees_what_is_not_durable_yet() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    one.give(1, update(&key("k"), add(&["x"])));
    one.answered();
    one.give(2, read(&key("k"), Scope::Whole));
    match one.answered().remove(0) {
        (2, Answer::View(view)) => assert_eq!(elements(&view.value), [blob("x")].into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_changes_nothing_waits_for_what_it_found() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    one.give(1, merge(&key("k"), &delta));
    one.give(2, merge(&key("k"), &delta));
    assert!(one.take());
    one.give(3, merge(&key("k"), &delta));
    assert_eq!(one.answered(), []);
    assert!(one.engine.take_batch().is_none());
    one.commit();
    assert_eq!(tickets(&one.answered()), [1, 2, 3]);
    one.give(4, merge(&key("k"), &delta));
    assert_eq!(one.answered(), [(4, Answer::Merged(None))]);
    assert!(!one.take(), "a duplicate writes nothing");
}

/// A process before this one had it refused by a sync, and there is no room to write it again.
#[test]
fn what_changes_nothing_is_not_acknowledged_while_what_it_found_is_doubtful() {
    let disk = SimDisk::new();
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    let mut one = Stepped::open(&disk, config(1, 1));
    disk.files.fail_next_sync();
    one.give(1, merge(&key("k"), &delta));
    assert!(one.take());
    one.commit();
    assert!(matches!(one.answered().as_slice(), [(1, Answer::Failed(_))]));
    disk.files.process_ended();
    disk.files.full(true);
    let mut one = Stepped::open(&disk, config(1, 2));
    one.give(2, merge(&key("k"), &delta));
    assert_eq!(one.answered(), []);
    assert!(one.take());
    one.commit();
    assert!(matches!(one.answered().as_slice(), [(2, Answer::Failed(_))]));
    disk.files.full(false);
    one.give(3, merge(&key("k"), &delta));
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered(), [(3, Answer::Merged(None))]);
    disk.files.crash(&mut |_| 0);
    let mut one = Stepped::open(&disk, config(1, 3));
    one.give(4, read(&key("k"), Scope::Whole));
    match one.answered().remove(0) {
        (4, Answer::View(view)) => assert_eq!(elements(&view.value), [blob("x")].into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_changes_nothing_leaves_no_remnant() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), Operation::Orset(OrsetOp::Remove(vec![blob("x")])));
    updated(&mut one, &key("k"), Operation::Delete(None));
    updated(&mut one, &key("k"), Operation::Counter(CounterOp::Reset));
    assert_eq!(one.index().commit_count(), 0);
}

#[test]
fn a_failed_batch_fails_every_write_not_committed_and_hides_it() {
    for error in [SeamError::Full, SeamError::ReadOnly("ro".into()), SeamError::Io("gone".into())] {
        let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
        one.give(1, update(&key("k"), add(&["x"])));
        assert!(one.take());
        one.commit();
        one.answered();
        one.give(2, update(&key("k"), add(&["y"])));
        one.give(3, update(&key("other"), add(&["y"])));
        one.give(4, deferred(NodeId(9), &key("k"), &Delta::default()));
        assert!(one.take());
        one.give(5, update(&key("k"), add(&["z"])));
        one.answered();
        assert_eq!(one.engine.live_keys(), 2);
        assert_eq!(one.engine.pending_for(NodeId(9)), 1);
        one.disk.fail_next(error.clone());
        one.commit();
        let failed = |ticket| (ticket, Answer::Failed(StorageError::from(error.clone())));
        assert_eq!(one.answered(), [failed(2), failed(3), failed(4), failed(5)]);
        assert_eq!(one.engine.live_keys(), 1);
        assert_eq!(one.engine.pending_for(NodeId(9)), 0);
        one.give(6, read(&key("k"), Scope::Whole));
        match one.answered().remove(0).1 {
            Answer::View(view) => assert_eq!(elements(&view.value), [blob("x")].into()),
            other => panic!("{other:?}"),
        }
        one.give(7, update(&key("k"), add(&["y"])));
        assert_eq!(one.answered(), [failed(7)]);
        assert!(one.take(), "the disk is asked again");
        one.commit();
        one.give(8, update(&key("k"), add(&["y"])));
        assert!(one.take(), "writes are tried again");
        one.commit();
        assert_eq!(one.answered().last(), Some(&(8, Answer::Durable)));
    }
}

/// What was appended and not synced may be found again by the next start, and by no write before.
#[test]
fn after_a_sync_that_failed_nothing_is_written_until_the_next_start() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, update(&key("k"), add(&["kept"])));
    assert!(one.take());
    one.commit();
    one.give(2, update(&key("k"), add(&["unknown"])));
    assert!(one.take());
    one.disk.files.fail_next_sync();
    one.commit();
    assert!(matches!(one.answered().last(), Some((2, Answer::Failed(StorageError::Io(_))))));
    one.give(3, read(&key("k"), Scope::Whole));
    match one.answered().remove(0).1 {
        Answer::View(view) => assert_eq!(elements(&view.value), [blob("kept")].into()),
        other => panic!("{other:?}"),
    }
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    for ticket in 4..9 {
        one.give(ticket, update(&key("k"), add(&["y"])));
        one.give(ticket, merge(&key("k"), &delta));
        assert!(one.take());
        one.commit();
        for (_, answer) in one.answered() {
            let Answer::Failed(StorageError::Io(why)) = answer else { panic!("{answer:?}") };
            assert!(why.contains("restart the node"), "{why}");
        }
    }
    disk.files.process_ended();
    let mut two = MemoryEngine::open(disk, config(1, 2)).unwrap();
    let shown = elements(&whole(&mut two, &key("k")));
    assert_eq!(shown, [blob("kept"), blob("unknown")].into(), "the process ended, not the machine");
    updated(&mut two, &key("k"), add(&["y"]));
}

#[test]
fn a_crash_keeps_every_acknowledged_update_and_counts_them_again() {
    let disk = SimDisk::new();
    let mut one = Stepped::open(&disk, config(1, 1));
    one.give(1, update(&key("k"), add(&["kept"])));
    one.give(2, update(&key("deleted"), add(&["x"])));
    one.give(3, update(&key("deleted"), Operation::Delete(None)));
    one.give(4, deferred(NodeId(9), &key("k"), &Delta::default()));
    assert!(one.take());
    one.commit();
    assert_eq!(tickets(&one.answered()).len(), 3 + 4);
    one.give(5, update(&key("k"), add(&["lost"])));
    one.give(6, update(&key("l"), add(&["lost"])));
    assert!(one.take());
    drop(one);
    let mut two = MemoryEngine::open(disk, config(1, 2)).unwrap();
    assert_eq!(elements(&whole(&mut two, &key("k"))), [blob("kept")].into());
    assert_eq!(two.engine().live_keys(), 1);
    assert_eq!(two.engine().pending_for(NodeId(9)), 1);
    assert_eq!(two.engine().pending_owners(&key("k")), [NodeId(9)]);
}

#[test]
fn too_much_waiting_for_the_disk_refuses_writes_before_anything_is_written() {
    let limits = EngineConfig { pending_bytes_max: 100, ..config(1, 1) };
    let mut one = Stepped::open(&SimDisk::new(), limits);
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    one.give(1, update(&key("k"), put(&"x".repeat(100))));
    let bytes = one.engine.pending_bytes();
    one.answered();
    one.give(2, update(&key("k"), put("y")));
    one.give(3, merge(&key("k"), &delta));
    one.give(4, deferred(NodeId(9), &key("k"), &delta));
    let overloaded = |ticket| (ticket, Answer::Failed(StorageError::Overloaded(bytes)));
    assert_eq!(one.answered(), [overloaded(2), overloaded(3), overloaded(4)]);
    assert_eq!(one.engine.pending_bytes(), bytes);
    assert!(one.take());
    one.commit();
    one.checkpoint();
    one.give(5, update(&key("k"), put("y")));
    assert!(matches!(one.answered().last(), Some((5, Answer::Prepared { .. }))));
}

#[test]
fn a_refused_operation_writes_nothing() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), count(1));
    let commits = one.index().commit_count();
    let answers = one.execute_now(update(&key("k"), add(&["x"])));
    assert!(matches!(answers.as_slice(), [Answer::Refused(UpdateError::WrongType(_))]));
    assert_eq!(one.index().commit_count(), commits);
}

#[test]
fn a_result_that_nobody_waits_for_is_ignored() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    let appended = Appended { position: 0, synced: true };
    one.engine.committed(BatchId(7), Ok(appended), &mut one.answers);
    one.engine.committed(BatchId(7), Err(SeamError::Full), &mut one.answers);
    assert_eq!(one.answered(), []);
}

/// The one that has seen it removed may have the only copy of that, and lose its disk. It is neither the coordinator nor
/// the one that the removal is then acknowledged by.
#[test]
fn a_removal_takes_what_anybody_holds_whom_it_was_shown_by() {
    let replica = |node| MemoryEngine::new(config(node, node));
    let (mut one, mut two, mut three) = (replica(1), replica(2), replica(3));
    let cases = [
        ("set", add(&["x"]), Operation::Orset(OrsetOp::Remove(vec![blob("x")]))),
        ("counter", count(3), Operation::Counter(CounterOp::Reset)),
        ("deleted", count(3), Operation::Delete(None)),
    ];
    for coordinator_holds in [true, false] {
        for (name, adds, removes) in &cases {
            let k = key(&format!("{name} {coordinator_holds}"));
            let added = updated(&mut two, &k, adds.clone());
            merged(&mut three, &k, &added);
            if coordinator_holds {
                merged(&mut one, &k, &added);
            }
            updated(&mut two, &k, removes.clone());
            let mut again = update(&k, removes.clone());
            if let Command::Update { shown, .. } = &mut again {
                let others = [&mut two, &mut three];
                shown.extend(others.map(|other| viewed(other, &k, removes.scope())));
            }
            let answers = one.execute_now(again);
            let [Answer::Prepared { delta, .. }, Answer::Durable] = answers.as_slice() else {
                panic!("{answers:?}")
            };
            merged(&mut three, &k, delta);
            for engine in [&mut one, &mut three] {
                let value = whole(engine, &k);
                assert!(!value.0.values().any(State::is_live), "{removes:?}: {value:?}");
            }
        }
    }
}
