//! Deadlines by example: what a schedule covers, and what it leaves.

#[path = "support/replica.rs"]
#[allow(dead_code, reason = "the other test files use the rest")]
mod replica;

use clock::CausalContext;
use replica::Replica;
use values::{
    BytesOp, CounterOp, Deadline, Delta, ExpiryOp, Lifetime, MapOp, Operation, OrsetOp, RegisterOp,
    State, Tag, UpdateError, Value, View,
};

fn ends(at_ms: u64) -> Operation {
    Operation::Expiry(ExpiryOp::Set { deadline: Deadline::At(at_ms), only_if: None })
}

fn add(name: &'static str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![name.into()]))
}

fn count(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

/// Updates a replica with a lifetime.
fn living(replica: &mut Replica, operation: &Operation, lifetime: Lifetime) -> Delta {
    let view = replica.show(&operation.scope());
    let none = CausalContext::default();
    let prepared = replica.prepare_living((operation, lifetime), &view, &none);
    let prepared = prepared.expect("within all limits");
    replica.value.apply(&prepared.delta);
    prepared.delta
}

fn at(value: &Value, now_ms: u64) -> View {
    let mut view = View::of(value.clone());
    view.expire(now_ms);
    view
}

fn members(value: &Value, now_ms: u64) -> Vec<String> {
    match at(value, now_ms).value.state(Tag::ORSET) {
        Some(State::Orset(set)) => {
            let names = set.store.0.keys();
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        }
        _ => Vec::new(),
    }
}

fn sum(value: &Value, now_ms: u64) -> i128 {
    match at(value, now_ms).value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}

#[test]
fn what_is_added_at_a_replica_that_knows_the_deadline_ends_with_the_key_and_elsewhere_lives_on() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let first = a.update(&add("first"));
    b.value.apply(&first);
    let schedule = a.update(&ends(5_000));
    let beside = b.update(&add("beside"));
    let later = a.update(&add("later"));
    for delta in [&beside, &later, &schedule] {
        a.value.apply(delta);
        b.value.apply(delta);
    }
    assert_eq!(a.value, b.value);
    assert_eq!(members(&a.value, 4_999), ["beside", "first", "later"]);
    assert_eq!(members(&a.value, 5_000), ["beside"]);
    assert_eq!(View::of(a.value.clone()).deadline_ms(1_000), Some(5_000));
}

#[test]
fn an_increment_after_the_deadline_counts_from_nothing_and_removes_nothing() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let five = a.update(&count(5));
    let schedule = a.update(&ends(2_000));
    b.value.apply(&five);
    b.value.apply(&schedule);
    a.wall_ms = 3_000;
    let three = a.update(&count(3));
    assert_eq!(sum(&a.value, 3_000), 3);
    // Taken back at b in time: then the five are there, beside the three.
    let back = b.update(&Operation::Expiry(ExpiryOp::Persist));
    b.value.apply(&three);
    a.value.apply(&back);
    assert_eq!((sum(&a.value, 3_000), sum(&b.value, 3_000)), (8, 8));
}

#[test]
fn an_addition_to_a_schedule_that_was_taken_back_falls_away_with_it() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let first = a.update(&add("first"));
    let schedule = a.update(&ends(5_000));
    b.value.apply(&first);
    b.value.apply(&schedule);
    let back = a.update(&ends(9_000));
    let late = b.update(&add("late"));
    a.value.apply(&late);
    b.value.apply(&back);
    assert_eq!(a.value, b.value);
    assert_eq!(members(&a.value, 5_000), ["first", "late"]);
    assert_eq!(members(&a.value, 9_000), ["late"]);
}

#[test]
fn of_two_deadlines_set_at_once_the_earlier_removes_what_both_saw() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let first = a.update(&add("first"));
    b.value.apply(&first);
    b.update(&add("of b"));
    let (early, late) = (a.update(&ends(5_000)), b.update(&ends(9_000)));
    b.value.apply(&early);
    a.value.merge(&b.value.clone());
    a.value.apply(&late);
    assert_eq!(View::of(a.value.clone()).deadline_ms(1_000), Some(5_000));
    assert_eq!(members(&a.value, 5_000), ["of b"]);
    assert_eq!(members(&a.value, 9_000), [] as [&str; 0]);
}

#[test]
fn a_write_and_a_removal_of_a_register_that_a_schedule_saw_are_told_apart() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let set = |value: &'static str| {
        Operation::Register(RegisterOp::Set { value: value.into(), at: None, replace: true })
    };
    let one = living(&mut a, &set("one"), Lifetime::Ends(Deadline::In(500)));
    // At the same time, to the last bit of the stamp: no schedule of a's has seen it.
    let two = b.update(&set("two"));
    a.value.apply(&two);
    b.value.apply(&one);
    assert_eq!(a.value, b.value);
    let left = at(&a.value, 10_000);
    let Some(State::Register(register)) = left.value.state(Tag::LWW) else { panic!("a register") };
    // Of equal stamps the larger actor wins, which is b's.
    assert_eq!(register.read(), Some("two".into()));
}

#[test]
fn what_a_deadline_may_cover_is_bounded_and_a_deadline_is_one_that_there_is() {
    let mut a = Replica::new(0);
    let none = CausalContext::default();
    for number in 0..300_u32 {
        let field = format!("{number:0>1000}").into();
        a.update(&Operation::Map(MapOp::Increment { field, by: 1 }));
    }
    let refused = a.put(&ends(5_000), &none).map(|prepared| prepared.changed);
    let (bytes, limit) = (300 * 1_064, 256 << 10);
    assert_eq!(refused, Err(UpdateError::ScheduleTooLong { bytes, limit }));
    let refused = a.put(&ends(u64::MAX), &none).map(|prepared| prepared.changed);
    assert_eq!(refused, Err(UpdateError::DeadlineTooFar));
}

/// As one whose disk was lost is given it, before all else of the key: what it sweeps is all of what it ends.
#[test]
fn who_is_given_an_addition_to_a_schedule_alone_sweeps_all_that_the_schedule_covers() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    a.update(&add("first"));
    a.update(&ends(2_000));
    let later = a.update(&add("later"));
    b.value.apply(&later);
    b.wall_ms = 3_000;
    let swept = b.update(&Operation::Expiry(ExpiryOp::Sweep));
    a.value.apply(&swept);
    assert_eq!(a.value.schedules().count(), 0);
    assert_eq!(members(&a.value, 3_000), [] as [&str; 0]);
}

/// A sweep that leaves nothing to be seen here leaves the deadline of what was added elsewhere.
#[test]
fn a_sweep_takes_back_only_the_schedules_that_are_due() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let first = a.update(&add("first"));
    b.value.apply(&first);
    let early = a.update(&ends(2_000));
    let late = b.update(&ends(9_000));
    let added = b.update(&add("added"));
    a.value.apply(&late);
    a.wall_ms = 3_000;
    let swept = a.update(&Operation::Expiry(ExpiryOp::Sweep));
    for delta in [&early, &swept] {
        b.value.apply(delta);
    }
    a.value.apply(&added);
    assert_eq!(a.value, b.value);
    assert_eq!(members(&a.value, 8_999), ["added"]);
    assert_eq!(members(&a.value, 9_000), [] as [&str; 0]);
}

/// Raw values are sent with all that was seen of them, so here the removal of nothing is a message, too.
#[test]
fn a_removal_where_nothing_is_seen_takes_no_deadline_back() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let put = |value: &'static str| Operation::Bytes(BytesOp::Put(value.into()));
    a.update(&put("ends"));
    let schedule = a.update(&ends(5_000));
    b.update(&put("gone"));
    b.update(&Operation::Delete(Some(Tag::BYTES)));
    b.value.apply(&schedule);
    let again = b.update(&Operation::Bytes(BytesOp::Delete));
    assert!(!again.is_empty());
    a.value.apply(&again);
    assert_eq!(at(&a.value, 4_999).live_tags(), [Tag::BYTES]);
    assert_eq!(at(&a.value, 5_000).live_tags(), []);
}

/// Each replica shows one field, another one, so that what the two show in all is not what each
/// says there is in all. (`Scope::Removal` has the fields with increments only.)
#[test]
fn a_removal_of_a_map_some_of_which_is_due_takes_the_fields_that_it_does_not_name() {
    let (mut a, mut b) = (Replica::new(0), Replica::new(1));
    let due = a.update(&Operation::Map(MapOp::Increment { field: "due".into(), by: 1 }));
    let ends = a.update(&ends(2_000));
    let stays = b.update(&Operation::Map(MapOp::Set(vec![("stays".into(), "here".into())])));
    b.wall_ms = 3_000;
    let set = RegisterOp::Set { value: "new".into(), at: None, replace: true };
    let set = Operation::Register(set);
    let mut seen = b.show(&set.scope());
    seen.merge(&a.show(&set.scope()));
    let set = b.prepare_living((&set, Lifetime::Usual), &seen, &CausalContext::default());
    let set = set.expect("within all limits").delta;
    let mut all = Value::default();
    [&due, &ends, &stays, &set].into_iter().for_each(|delta| all.apply(delta));
    assert_eq!(at(&all, 3_000).live_tags(), [Tag::LWW]);
}
