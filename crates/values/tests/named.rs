//! Operations with a name, done at several replicas that know nothing of one another: their merge is
//! as if they had been done once.

#[path = "support/replica.rs"]
mod replica;

use clock::{Actor, CausalContext, Stamp};
use replica::Replica;
use values::{
    Blob, BytesOp, CartOp, CounterOp, Deadline, ExpiryCondition, ExpiryOp, Lifetime, Limits, MapOp,
    Mint, Operation, OrsetOp, Prepared, RegisterOp, Scope, State, Tag, UpdateError, View,
};

const NAME: Actor = Actor::named(0xfeed, 1, 2);

fn blob(text: &'static str) -> Blob {
    Blob::from_static(text.as_bytes())
}

fn try_named(
    replica: &mut Replica,
    operation: &Operation,
    actor: Actor,
) -> Result<Prepared, UpdateError> {
    let view = replica.show(&operation.scope());
    let mint = Mint { actor, stamp: Stamp::from_millis(replica.wall_ms), round: None };
    let prepared = operation.prepare(&view, &CausalContext::default(), mint, &Limits::default())?;
    replica.value.apply(&prepared.delta);
    Ok(prepared)
}

fn named(replica: &mut Replica, operation: &Operation) -> Prepared {
    try_named(replica, operation, NAME).expect("an operation within the limits")
}

/// Every kind of write that makes dots, with one more of its kind by somebody else.
fn writes() -> Vec<(Operation, Operation)> {
    let field = blob("f");
    let add = |item| Operation::Cart(CartOp::Add { item, quantity: 2 });
    vec![
        (Operation::Counter(CounterOp::Add(5)), Operation::Counter(CounterOp::Add(-1))),
        (
            Operation::Register(RegisterOp::Increment(5)),
            Operation::Register(RegisterOp::Increment(7)),
        ),
        (
            Operation::Map(MapOp::Increment { field: field.clone(), by: 5 }),
            Operation::Map(MapOp::Set(vec![(blob("g"), blob("1"))])),
        ),
        (
            Operation::Map(MapOp::Set(vec![(field, blob("1"))])),
            Operation::Map(MapOp::Remove(vec![blob("h")])),
        ),
        (add(blob("book")), add(blob("book"))),
        (
            Operation::Orset(OrsetOp::Add(vec![blob("x"), blob("y")])),
            Operation::Orset(OrsetOp::Add(vec![blob("x")])),
        ),
        (Operation::Bytes(BytesOp::Put(blob("v"))), Operation::Bytes(BytesOp::Put(blob("w")))),
    ]
}

#[test]
fn done_at_two_replicas_apart_it_is_done_once() {
    for (operation, other) in writes() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        b.update(&other);
        let mut once = a.clone();
        named(&mut once, &operation);
        once.value.merge(&b.value);
        named(&mut a, &operation);
        named(&mut b, &operation);
        let mut merged = a.value.clone();
        merged.merge(&b.value);
        let mut mirrored = b.value.clone();
        mirrored.merge(&a.value);
        assert_eq!(merged, mirrored, "{operation:?}");
        let (twice, once) = (View::of(merged), View::of(once.value));
        assert_eq!(shown(&twice), shown(&once), "{operation:?}");
    }
}

/// What a reader sees, without times and dots.
fn shown(view: &View) -> Vec<String> {
    let mut texts: Vec<String> =
        view.siblings().iter().map(|(_, sibling)| format!("{:?}", sibling.value)).collect();
    for state in view.value.0.values() {
        match state {
            State::Counter(counter) => texts.push(counter.tally.value().to_string()),
            State::Register(register) => texts.push(format!("{:?}", register.read())),
            State::Orset(set) => texts.extend(set.store.0.keys().map(|name| format!("{name:?}"))),
            State::Cart(cart) => texts.extend(
                cart.store
                    .0
                    .iter()
                    .map(|(item, adds)| format!("{item:?} {}", adds.0.values().sum::<u64>())),
            ),
            State::Map(map) => texts.extend(
                map.store.0.iter().map(|(name, field)| format!("{name:?} {:?}", field.read())),
            ),
            _ => {}
        }
    }
    texts.sort();
    texts
}

#[test]
fn done_again_where_it_is_known_it_changes_nothing() {
    let set = |value| Operation::Register(RegisterOp::Set { value, at: None, replace: false });
    for (operation, other) in writes().into_iter().chain([(set(blob("v")), set(blob("w")))]) {
        let mut a = Replica::new(1);
        assert!(!named(&mut a, &operation).repeated);
        a.update(&other);
        let before = a.value.clone();
        let again = named(&mut a, &operation);
        assert!(again.repeated && again.changed == 0, "{operation:?}");
        assert_eq!(a.value, before, "{operation:?}");
        // Elsewhere it does what the first try did not bring.
        let mut b = Replica::new(2);
        b.value.apply(&again.delta);
        assert!(named(&mut b, &operation).repeated, "{operation:?}");
    }
}

#[test]
fn a_removal_done_again_does_not_take_what_came_after_it() {
    let mut a = Replica::new(1);
    a.update(&Operation::Orset(OrsetOp::Add(vec![blob("x")])));
    let removal = Operation::Orset(OrsetOp::Remove(vec![blob("x")]));
    assert_eq!(named(&mut a, &removal).changed, 1);
    a.update(&Operation::Orset(OrsetOp::Add(vec![blob("x")])));
    assert!(named(&mut a, &removal).repeated);
    assert!(View::of(a.value).is_live(Tag::ORSET));
}

/// A read of the headers repairs a replica of what they say, and not of the elements.
#[test]
fn a_removal_tried_where_a_repair_came_first_is_not_taken_for_done() {
    let replace = RegisterOp::Set { value: blob("1"), at: None, replace: true };
    let removals = [Operation::Delete(None), Operation::Register(replace)];
    for (removal, scope) in
        removals.iter().flat_map(|it| [(it, Scope::Headers), (it, Scope::Removal)])
    {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.update(&Operation::Orset(OrsetOp::Add(vec![blob("x")])));
        b.value.merge(&a.value);
        named(&mut a, removal);

        let stale = b.show(&scope);
        let mut merged = a.show(&scope);
        merged.merge(&stale);
        let last = merged.told_last(&stale).expect("that the removal was done");
        assert_eq!(merged.repair(&stale), None, "nothing but elements, which are not in scope");
        let mut compared = b.value.clone();
        assert!(!named(&mut b, removal).repeated, "{removal:?} {scope:?}");
        assert!(!View::of(b.value).is_live(Tag::ORSET));

        // Compared, a replica is told once it has seen what was removed.
        compared.merge(&a.value);
        compared.apply(&last);
        assert_eq!(compared, a.value);
    }
}

#[test]
fn a_removal_that_was_done_is_handed_on_with_what_it_set() {
    let value = blob("1");
    let replace = Operation::Register(RegisterOp::Set { value, at: None, replace: true });
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.update(&Operation::Orset(OrsetOp::Add(vec![blob("x")])));
    named(&mut a, &replace);
    let again = named(&mut a, &replace);
    assert!(again.repeated);
    b.value.apply(&again.delta);
    let shown = View::of(b.value);
    assert_eq!(shown.live_tags(), [Tag::LWW]);
}

#[test]
fn an_add_that_was_removed_is_not_brought_back_by_a_late_try_elsewhere() {
    let add = Operation::Cart(CartOp::Add { item: blob("book"), quantity: 1 });
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    named(&mut a, &add);
    a.update(&Operation::Cart(CartOp::Remove(blob("book"))));
    named(&mut b, &add);
    a.value.merge(&b.value);
    assert!(!View::of(a.value).is_live(Tag::CART));
}

#[test]
fn an_increment_that_was_reset_is_not_brought_back_by_a_late_try_elsewhere() {
    let add = Operation::Counter(CounterOp::Add(5));
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    named(&mut a, &add);
    let reset = a.update(&Operation::Counter(CounterOp::Reset));
    // The reset comes first, without what it reset.
    b.value.apply(&reset);
    named(&mut b, &add);
    for replica in [&a, &b] {
        assert!(!View::of(replica.value.clone()).is_live(Tag::COUNTER));
    }
}

#[test]
fn the_name_of_another_operation_is_refused_whatever_its_type() {
    let mut a = Replica::new(1);
    named(&mut a, &Operation::Counter(CounterOp::Add(5)));
    let others = Actor::named(NAME.epoch.process, 1, 3);
    let add = Operation::Counter(CounterOp::Add(6));
    assert_eq!(try_named(&mut a, &add, others), Err(UpdateError::NameReused));
    let set = Operation::Register(RegisterOp::Set { value: blob("v"), at: None, replace: true });
    assert_eq!(try_named(&mut a, &set, others), Err(UpdateError::NameReused));
}

/// One replica finds its condition met, another does not: what the one made stays.
#[test]
fn a_deadline_whose_condition_one_replica_finds_unmet_is_kept() {
    let sets = |at_ms, only_if| {
        Operation::Expiry(ExpiryOp::Set { deadline: Deadline::At(at_ms), only_if })
    };
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.update(&Operation::Orset(OrsetOp::Add(vec![blob("x")])));
    b.value.merge(&a.value);
    let far = a.wall_ms + 100_000;
    b.update(&sets(far, None));
    let later = sets(far + 1, Some(ExpiryCondition::None));
    assert_eq!((named(&mut a, &later).changed, named(&mut b, &later).changed), (1, 0));
    let mut merged = a.value.clone();
    merged.merge(&b.value);
    let deadlines: Vec<u64> =
        merged.schedules().map(|(_, schedule)| schedule.deadline_ms).collect();
    assert_eq!((deadlines.len(), deadlines.contains(&(far + 1))), (2, true), "{deadlines:?}");
    assert!(try_named(&mut b, &later, NAME).unwrap().repeated);
}

/// A deadline made with it goes wherever it goes, and counts as no second name.
#[test]
fn a_deadline_goes_with_the_operation_that_made_it() {
    let limits = Limits { names: 3, ..Limits::default() };
    let ends = Lifetime::Ends(Deadline::At(u64::MAX / 2));
    let write = |replica: &mut Replica, client: u32| {
        let actor = Actor::named(client.into(), client, 1);
        let operation = Operation::Counter(CounterOp::Add(5));
        let mint = Mint { actor, stamp: Stamp::from_millis(replica.wall_ms), round: None };
        let (view, nothing) = (replica.show(&Scope::Whole), CausalContext::default());
        let prepared =
            operation.prepare_living((ends, actor), (&view, &[]), &nothing, mint, &limits)?;
        replica.value.apply(&prepared.delta);
        Ok::<_, UpdateError>(prepared)
    };
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    write(&mut a, 1).unwrap();
    let again = write(&mut a, 1).unwrap();
    assert!(again.repeated);
    b.value.apply(&again.delta);
    assert_eq!(b.value, a.value);
    assert_eq!(b.value.schedules().count(), 1);
    write(&mut a, 2).unwrap();
    write(&mut a, 3).unwrap();
    assert_eq!(write(&mut a, 4).unwrap_err(), UpdateError::TooManyNames { limit: 3 });
}

/// What is read of one element repairs that element, and brings the dot of its addition alone.
#[test]
fn an_addition_of_which_one_element_is_known_is_made_where_the_other_is_missing() {
    let add = |set: bool| match set {
        true => Operation::Orset(OrsetOp::Add(vec![blob("x"), blob("y")])),
        false => Operation::Map(MapOp::Set(vec![(blob("x"), blob("1")), (blob("y"), blob("2"))])),
    };
    for operation in [add(true), add(false)] {
        let (tag, element) = (operation.tag().unwrap(), [blob("x")].into());
        let of_x = Scope::Elements { tag, elements: element };
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        named(&mut a, &operation);
        b.value.apply(&a.show(&of_x).repair(&b.show(&of_x)).unwrap());
        // One that was removed meanwhile stays so, and so does what was added after that.
        b.update(&match tag {
            Tag::MAP => Operation::Map(MapOp::Remove(vec![blob("x")])),
            _ => Operation::Orset(OrsetOp::Remove(vec![blob("x")])),
        });
        b.update(&match tag {
            Tag::MAP => Operation::Map(MapOp::Set(vec![(blob("x"), blob("3"))])),
            _ => Operation::Orset(OrsetOp::Add(vec![blob("x")])),
        });
        let later = shown(&View::of(b.value.clone()));
        let again = named(&mut b, &operation);
        assert!(!again.repeated, "{operation:?}");
        let mut c = Replica::new(3);
        c.value.apply(&again.delta);
        for replica in [&b, &c] {
            assert_eq!(shown(&View::of(replica.value.clone())).len(), 2, "{operation:?}");
        }
        assert!(later.iter().all(|one| shown(&View::of(b.value.clone())).contains(one)));
        a.value.merge(&b.value);
        assert_eq!(a.value, b.value, "the same dots: {operation:?}");
        assert!(named(&mut b, &operation).repeated);
    }
}

/// What is read of a key brings its deadlines whole, and of its elements those that were asked for.
#[test]
fn of_a_write_and_its_deadline_what_is_missing_is_made() {
    let ends = Lifetime::Ends(Deadline::At(u64::MAX / 2));
    let add = Operation::Cart(CartOp::Add { item: blob("book"), quantity: 1 });
    let write = |replica: &mut Replica| {
        let mint = Mint { actor: NAME, stamp: Stamp::from_millis(replica.wall_ms), round: None };
        let (view, nothing) = (replica.show(&add.scope()), CausalContext::default());
        let limits = Limits::default();
        let prepared =
            add.prepare_living((ends, NAME), (&view, &[]), &nothing, mint, &limits).unwrap();
        replica.value.apply(&prepared.delta);
        prepared
    };
    for only in [Tag::EXPIRY, Tag::CART] {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        let mut part = write(&mut a).delta;
        part.value.0.retain(|&tag, _| tag == only);
        b.value.apply(&part);
        write(&mut b);
        assert_eq!(b.value, a.value, "with {only:?} alone");
        assert!(write(&mut b).repeated);
    }
}

/// Nothing that is left here says of which dots it was.
#[test]
fn a_removal_from_a_collection_says_nothing_to_who_does_not_know_it() {
    let removal = Operation::Cart(CartOp::Remove(blob("book")));
    let mut a = Replica::new(1);
    a.update(&Operation::Cart(CartOp::Add { item: blob("book"), quantity: 1 }));
    assert!(!named(&mut a, &removal).partial);
    let again = named(&mut a, &removal);
    assert!(again.repeated && again.partial);
    let set = Operation::Register(RegisterOp::Set { value: blob("v"), at: None, replace: true });
    let mut b = Replica::new(2);
    named(&mut b, &set);
    assert!(!named(&mut b, &set).partial, "a register goes whole");
}
