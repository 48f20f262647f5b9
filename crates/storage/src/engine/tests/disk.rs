//! A disk that refuses batches: what is refused meanwhile, what it costs, how it ends.

use clock::Actor;

use super::*;

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
    one.disk().full(true);
    let refused = one.execute_now(update(&key("k"), put("new")));
    assert_eq!(refused.last(), Some(&failed(SeamError::Full)));
    assert_eq!(values_of(&whole(&mut one, &key("k"))), [blob("old")].into());
    one.disk().full(false);
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
            one.disk().fail_next(error.clone());
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
    one.disk().fail_next(SeamError::Full);
    one.execute_now(update(&key("k"), count(1)));
    one.execute_now(update(&key("k"), count(1)));
    let second = updated(&mut one, &key("other"), count(1));
    assert_eq!(actors(&first, Tag::COUNTER), actors(&second, Tag::COUNTER));
}

#[test]
fn merges_are_tried_and_end_the_refusals() {
    let mut one = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut MemoryEngine::new(config(2, 2)), &key("k"), add(&["x"]));
    one.disk().full(true);
    one.execute_now(update(&key("k"), add(&["y"])));
    assert_eq!(one.execute_now(merge(&key("k"), &delta)), [failed(SeamError::Full)]);
    one.disk().full(false);
    merged(&mut one, &key("k"), &delta);
    updated(&mut one, &key("k"), add(&["y"]));
}

#[test]
fn a_shell_that_asks_the_disk_spares_the_next_update_the_refusal() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    one.engine.probe();
    assert!(!one.take(), "there is nothing to ask");
    one.give(1, update(&key("k"), count(1)));
    assert!(one.take());
    one.disk.fail_next(SeamError::Full);
    one.commit();
    one.engine.probe();
    assert!(one.take());
    one.engine.probe();
    assert!(one.engine.take_batch().is_none(), "once at a time");
    one.commit();
    assert_eq!(one.engine.disk_error(), None);
    one.answered();
    one.give(2, update(&key("k"), count(1)));
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered().last(), Some(&(2, Answer::Durable)));
}

/// A small batch that fits would say nothing about the large one that did not.
#[test]
fn a_disk_with_too_little_room_for_what_failed_goes_on_being_full() {
    let mut one = MemoryEngine::new(config(1, 1));
    one.disk().files.capacity(Some(10_000));
    let large = put(&"x".repeat(20_000));
    assert_eq!(one.execute_now(update(&key("k"), large.clone())).len(), 2);
    for _ in 0..10 {
        assert_eq!(one.execute_now(update(&key("k"), large.clone())), [failed(SeamError::Full)]);
    }
    one.disk().files.capacity(Some(100_000));
    assert_eq!(one.execute_now(update(&key("k"), large.clone())), [failed(SeamError::Full)]);
    updated(&mut one, &key("k"), large);
}

/// A shell that sweeps whenever a batch is done would try as fast as the disk fails.
#[test]
fn nothing_is_swept_onto_a_disk_that_refuses_batches() {
    let mut one = MemoryEngine::new(config(1, 1));
    updated(&mut one, &key("k"), add(&["x", "y"]));
    updated(&mut one, &key("k"), Operation::Delete(None));
    assert!(one.sweep(1));
    one.disk().full(true);
    assert_eq!(one.execute_now(update(&key("l"), add(&["x"]))).len(), 2);
    assert!(!one.sweep(1));
    one.disk().full(false);
    assert!(!one.sweep(1), "it is not known yet that there is room");
    one.execute_now(update(&key("k"), add(&["z"])));
    assert_eq!(one.engine().disk_error(), None);
    assert!(one.sweep(1));
}

/// Nobody waits for the sync of what is acknowledged without one.
#[test]
fn after_a_sync_that_nobody_waited_for_failed_updates_are_refused() {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    let mut command = update(&key("k"), count(1));
    let Command::Update { durability, .. } = &mut command else { panic!("an update was made") };
    *durability = Durability::Interval;
    one.give(1, command);
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered().last(), Some(&(1, Answer::Durable)));
    one.disk.files.fail_next_sync();
    let error = one.log.sync().unwrap_err();
    one.engine.log_failed(&error);
    for ticket in 2..5 {
        one.give(ticket, update(&key("k"), count(1)));
        assert_eq!(one.answered(), [(ticket, failed(error.clone()))], "before a dot is minted");
        assert!(one.take(), "the disk is asked");
        one.commit();
        assert_eq!(one.engine.disk_error(), Some(&error.clone().into()));
    }
}
