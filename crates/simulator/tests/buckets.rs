//! Bucket policies in a cluster that is cut, crashes and heals.

use bytes::Bytes;
use clock::ContextToken;
use replication::{
    Answer, BucketCall, BucketError, BucketInfo, BucketReply, Call, PolicyFields, Reply, Request,
    RequestError, Standing,
};
use simulator::{DiskFaults, NetworkFaults, Sim, SimOptions};
use values::{Blob, BytesOp, CounterOp, Key, Operation, OrsetOp, Scope, State, Tag, View};

fn cluster(nodes: usize) -> Sim {
    let mut sim = Sim::new(7, SimOptions { nodes, ..SimOptions::default() });
    sim.run_until_quiet();
    sim
}

fn name() -> Bytes {
    Bytes::from_static(b"carts")
}

fn key(name: &'static str) -> Key {
    Key::new("carts", name).expect("within the bounds of a key")
}

fn put(value: &'static str) -> Operation {
    Operation::Bytes(BytesOp::Put(Blob::from(value)))
}

fn fields(pairs: &[(&str, &str)]) -> PolicyFields {
    let mut fields = PolicyFields::default();
    for (name, text) in pairs {
        fields.add(name, text).expect("a field of a policy");
    }
    fields
}

fn create(pairs: &[(&str, &str)]) -> BucketCall {
    BucketCall::Create { name: name(), fields: fields(pairs) }
}

fn set(pairs: &[(&str, &str)]) -> BucketCall {
    BucketCall::Set { name: name(), fields: fields(pairs) }
}

fn drop_it() -> BucketCall {
    BucketCall::Drop { name: name() }
}

fn dropped() -> RequestError {
    RequestError::Bucket(BucketError::Dropped { bucket: "carts".into() })
}

/// Has a bucket changed; returns how it stands then and how many members know.
fn changed(sim: &mut Sim, node: usize, call: BucketCall) -> (BucketInfo, u16) {
    match sim.buckets(node, call) {
        Ok(BucketReply::Changed { bucket, known, members }) => {
            assert_eq!(usize::from(members), sim.nodes());
            (bucket, known)
        }
        other => panic!("{other:?}"),
    }
}

fn shown(sim: &mut Sim, node: usize) -> BucketInfo {
    match sim.buckets(node, BucketCall::Show { name: name() }) {
        Ok(BucketReply::Shown(bucket)) => bucket,
        other => panic!("{other:?}"),
    }
}

fn siblings(view: &View) -> Vec<Blob> {
    let mut values: Vec<Blob> =
        view.siblings().into_iter().map(|(_, sibling)| sibling.value.clone()).collect();
    values.sort();
    values
}

fn register(answer: &Answer) -> Option<Blob> {
    match answer.view.value.state(Tag::LWW) {
        Some(State::Register(register)) => register.read(),
        _ => None,
    }
}

#[test]
fn a_change_is_answered_once_all_members_in_reach_have_it_and_says_how_many() {
    let mut sim = cluster(3);
    let (bucket, known) = changed(&mut sim, 0, create(&[("r", "1"), ("w", "3")]));
    assert_eq!((bucket.standing, bucket.generation, known), (Standing::Created, 0, 3));
    for node in 0..3 {
        let policy = shown(&mut sim, node).policy;
        assert_eq!((policy.n, policy.r, policy.w), (3, 1, 3));
    }
    let written = sim.update(1, &key("a"), put("x")).unwrap();
    assert_eq!((written.acks.needed, written.acks.answered), (3, 3));

    sim.isolate(2);
    sim.advance(1_000);
    let (_, known) = changed(&mut sim, 0, set(&[("w", "1")]));
    assert_eq!(known, 2);
    assert_eq!(shown(&mut sim, 2).policy.w, 3);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(shown(&mut sim, 2).policy.w, 1);
}

#[test]
fn an_acknowledged_change_survives_the_crash_of_every_node_right_after_it() {
    let mut sim = cluster(3);
    let (_, known) = changed(&mut sim, 0, create(&[("raw", "lww"), ("r", "1")]));
    assert_eq!(known, 3);
    for node in 0..3 {
        sim.crash(node);
    }
    for node in 0..3 {
        sim.restart(node);
        assert_eq!(shown(&mut sim, node).policy.r, 1);
    }
    sim.run_until_quiet();
    // Also the change that only its own node had.
    sim.isolate(1);
    sim.advance(1_000);
    let (_, known) = changed(&mut sim, 1, set(&[("r", "3")]));
    assert_eq!(known, 1);
    sim.crash(1);
    sim.restart(1);
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(shown(&mut sim, node).policy.r, 3);
    }
}

#[test]
fn created_on_two_sides_of_a_cut_it_is_one_bucket_and_nothing_written_is_lost() {
    let mut sim = cluster(3);
    sim.isolate(2);
    sim.advance(1_000);
    changed(&mut sim, 0, create(&[("r", "1")]));
    changed(&mut sim, 2, create(&[("w", "1")]));
    sim.update(0, &key("a"), put("left")).unwrap();
    sim.update(2, &key("a"), put("right")).unwrap();
    sim.heal();
    sim.run_until_quiet();
    let first = shown(&mut sim, 0);
    assert_eq!((first.generation, first.standing), (0, Standing::Created));
    for node in 0..3 {
        assert_eq!(shown(&mut sim, node), first);
        assert_eq!(siblings(&sim.get(node, &key("a")).unwrap().view), ["left", "right"]);
    }
}

/// Whoever has not heard of a creation writes to generation 0 under the default policy: the same
/// bucket.
#[test]
fn a_write_through_a_node_that_does_not_know_the_bucket_is_in_it() {
    let mut sim = cluster(3);
    sim.isolate(2);
    sim.advance(1_000);
    changed(&mut sim, 0, create(&[("w", "1")]));
    let count = Operation::Counter(CounterOp::Add(5));
    sim.update(2, &key("a"), count.clone()).unwrap();
    sim.update(0, &key("a"), count).unwrap();
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        let read = sim.get(node, &key("a")).unwrap();
        let Some(State::Counter(counter)) = read.view.value.state(Tag::COUNTER) else { panic!() };
        assert_eq!(counter.tally.value(), 10);
    }
}

#[test]
fn a_drop_on_one_side_of_a_cut_covers_what_the_other_side_wrote() {
    let mut sim = cluster(3);
    changed(&mut sim, 0, create(&[]));
    sim.update(0, &key("a"), put("before")).unwrap();
    sim.isolate(2);
    sim.advance(1_000);
    changed(&mut sim, 0, drop_it());
    assert_eq!(sim.get(0, &key("a")).map(|_| ()), Err(dropped()));
    assert_eq!(sim.update(1, &key("a"), put("no")).map(|_| ()), Err(dropped()));
    sim.update(2, &key("a"), put("while it was dropped")).unwrap();
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(sim.get(node, &key("a")).map(|_| ()), Err(dropped()));
        assert_eq!(sim.buckets(node, BucketCall::Show { name: name() }), Err(dropped()));
    }
    // What waited in outboxes for others has gone.
    assert_eq!(sim.pending(), 0);
}

/// The replica that slept through the drop and the creation still has the old data on its disk,
/// and deltas of it for others in its outbox.
#[test]
fn a_bucket_created_anew_never_shows_what_a_stale_replica_brings_back() {
    let mut sim = cluster(3);
    changed(&mut sim, 0, create(&[("r", "1"), ("w", "1")]));
    sim.update(0, &key("a"), put("old")).unwrap();
    let old = sim.get(0, &key("a")).unwrap();
    sim.run_until_quiet();
    sim.isolate(2);
    sim.advance(1_000);
    sim.update(2, &key("b"), put("old too")).unwrap();
    sim.crash(2);
    changed(&mut sim, 0, drop_it());
    let (bucket, _) = changed(&mut sim, 1, create(&[("r", "1"), ("w", "1")]));
    assert_eq!(bucket.generation, 1);
    for node in 0..2 {
        assert_eq!(siblings(&sim.get(node, &key("a")).unwrap().view), Vec::<Blob>::new());
    }
    sim.update(0, &key("a"), put("new")).unwrap();

    sim.restart(2);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(siblings(&sim.view(2, &key("a")).unwrap()), ["old"]);
    for node in 0..3 {
        assert_eq!(siblings(&sim.get(node, &key("a")).unwrap().view), ["new"]);
        assert_eq!(siblings(&sim.get(node, &key("b")).unwrap().view), Vec::<Blob>::new());
    }
    // What it had for others was taken, and kept by nobody.
    assert_eq!(sim.pending(), 0);
    assert_eq!(siblings(&sim.view(0, &key("b")).unwrap()), Vec::<Blob>::new());

    // A context of the old generation removes nothing of the new one.
    let mut request = Request::update(key("a"), put("over the old"));
    request.context = old.contexts.get(&Tag::BYTES).cloned();
    assert!(matches!(sim.request(0, request), Err(RequestError::Context(_))));
}

/// A node that slept through a drop and a creation is back before it hears of them: what it writes
/// into the dropped generation nobody else keeps, so nobody counts for it, and what it still has of
/// that generation is no answer of a quorum.
#[test]
fn nothing_of_a_dropped_generation_meets_a_quorum_with_those_who_know_of_the_drop() {
    let (mut refused, mut unknown) = (0, 0);
    for seed in 0..40 {
        let network = NetworkFaults { notice_ms: 20, ..NetworkFaults::default() };
        let mut sim = Sim::new(seed, SimOptions { network, ..SimOptions::default() });
        sim.run_until_quiet();
        changed(&mut sim, 0, create(&[]));
        sim.update(0, &key("old"), put("old")).unwrap();
        sim.run_until_quiet();
        sim.isolate(2);
        sim.advance(1_000);
        changed(&mut sim, 0, drop_it());
        let (bucket, known) = changed(&mut sim, 0, create(&[]));
        assert_eq!((bucket.generation, known), (1, 2));
        sim.heal();
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for number in 0..60 {
            let key = Key::new("carts", format!("{number}")).unwrap();
            let write = Request::update(key.clone(), put("new"));
            writes.push((key, sim.call(2, Call::Request(write))));
            let read = Request::get(self::key("old"), Scope::Whole);
            reads.push(sim.call(2, Call::Request(read)));
            sim.advance(1);
        }
        sim.run_until_quiet();
        for read in reads {
            match sim.take_outcome(read).expect("every call is answered") {
                Ok(Reply::Answer(answer)) if answer.acks.is_met() => {
                    assert_eq!(siblings(&answer.view), Vec::<Blob>::new(), "seed {seed}");
                }
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, dropped(), "seed {seed}");
                    refused += 1;
                }
            }
        }
        for (key, write) in writes {
            match sim.take_outcome(write).expect("every call is answered") {
                Ok(Reply::Answer(answer)) if answer.acks.is_met() => {
                    let read = sim.get(0, &key).unwrap();
                    assert_eq!(siblings(&read.view), ["new"], "seed {seed}, {key:?}");
                }
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, RequestError::Unknown { .. }), "{error:?}");
                    unknown += 1;
                }
            }
        }
        assert_eq!(sim.pending(), 0, "seed {seed}");
    }
    assert!(refused > 0 && unknown > 0, "{refused} reads, {unknown} writes");
}

#[test]
fn raw_writes_make_what_the_bucket_says_and_what_was_made_before_stays_what_it_is() {
    let mut sim = cluster(3);
    changed(&mut sim, 0, create(&[("raw", "lww")]));
    sim.isolate(2);
    sim.advance(1_000);
    assert_eq!(sim.update(2, &key("a"), put("one")).unwrap().raw, Tag::LWW);
    sim.update(0, &key("a"), put("two")).unwrap();
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        let read = sim.get(node, &key("a")).unwrap();
        assert_eq!((read.raw, read.view.live_tags()), (Tag::LWW, vec![Tag::LWW]));
        assert_eq!(register(&read), Some(Blob::from("two")));
    }
    sim.update(1, &key("a"), Operation::Bytes(BytesOp::Delete)).unwrap();
    assert_eq!(sim.get(0, &key("a")).unwrap().view.live_tags(), []);
    changed(&mut sim, 1, set(&[("raw", "siblings")]));
    let written = sim.update(0, &key("b"), put("three")).unwrap();
    assert_eq!((written.raw, written.view.live_tags()), (Tag::BYTES, vec![Tag::BYTES]));
}

#[test]
fn in_a_bucket_of_registers_raw_values_from_before_are_replaced_and_deleted() {
    let mut sim = cluster(3);
    changed(&mut sim, 0, create(&[]));
    let raw = |sim: &mut Sim, name, operation, token: Option<ContextToken>| {
        let request = Request::update(key(name), Operation::Bytes(operation));
        sim.request(1, Request { context: token, ..request }).map(|answer| answer.acks.is_met())
    };
    let new = || BytesOp::Put(Blob::from("new"));
    for name in ["blind put", "put", "delete"] {
        raw(&mut sim, name, BytesOp::Put(Blob::from("old")), None).unwrap();
    }
    // A node that has not heard of the policy goes on to make raw values.
    sim.isolate(2);
    sim.advance(1_000);
    changed(&mut sim, 0, set(&[("raw", "lww")]));
    raw(&mut sim, "both", BytesOp::Put(Blob::from("one")), None).unwrap();
    sim.update(2, &key("both"), put("two")).unwrap();
    sim.heal();
    sim.run_until_quiet();
    let both = sim.get(0, &key("both")).unwrap().view.live_tags();
    assert_eq!(both, [Tag::BYTES, Tag::LWW]);

    for (name, operation, has_context, left) in [
        ("blind put", new(), false, Some("new")),
        ("put", new(), true, Some("new")),
        ("both", new(), true, Some("new")),
        ("both", BytesOp::Delete, true, None),
        ("delete", BytesOp::Delete, true, None),
    ] {
        let shown = sim.get(0, &key(name)).unwrap();
        let token = has_context.then(|| shown.contexts[&shown.raw_tag()].clone());
        assert_eq!(raw(&mut sim, name, operation, token), Ok(true), "{name}");
        sim.run_until_quiet();
        for node in 0..3 {
            let read = sim.get(node, &key(name)).unwrap();
            let live: &[Tag] = if left.is_some() { &[Tag::LWW] } else { &[] };
            assert_eq!((&read.view.live_tags()[..], register(&read)), (live, left.map(Blob::from)));
        }
    }
}

#[test]
fn n_is_changed_of_an_empty_bucket_and_of_no_other() {
    let mut sim = cluster(5);
    changed(&mut sim, 0, create(&[("n", "5"), ("w", "3")]));
    assert_eq!(sim.update(1, &key("a"), put("x")).unwrap().acks.owners, 5);
    let refused = sim.buckets(0, set(&[("n", "3")]));
    let error = BucketError::HoldsData { bucket: "carts".into(), n: 5 };
    assert_eq!(refused, Err(RequestError::Bucket(error)));
    let read = sim.get(0, &key("a")).unwrap();
    let mut delete = Request::update(key("a"), Operation::Bytes(BytesOp::Delete));
    delete.context = read.contexts.get(&Tag::BYTES).cloned();
    sim.request(0, delete).unwrap();
    sim.run_until_quiet();
    sim.isolate(4);
    sim.advance(1_000);
    let refused = sim.buckets(0, set(&[("n", "3")]));
    let error = BucketError::CannotTell { bucket: "carts".into() };
    assert_eq!(refused, Err(RequestError::Bucket(error)));
    sim.heal();
    sim.run_until_quiet();
    let (bucket, known) = changed(&mut sim, 0, set(&[("n", "3")]));
    assert_eq!((bucket.policy.n, bucket.policy.r, bucket.policy.w, known), (3, 2, 3, 5));
    // One used under the default policy is no different.
    sim.update(1, &Key::new("used", "a").unwrap(), put("x")).unwrap();
    let other = BucketCall::Create { name: "used".into(), fields: fields(&[("n", "1")]) };
    let error = BucketError::HoldsData { bucket: "used".into(), n: 3 };
    assert_eq!(sim.buckets(2, other), Err(RequestError::Bucket(error)));
}

#[test]
fn a_buckets_limits_are_checked_when_a_delta_is_made_and_by_no_merge() {
    let mut sim = cluster(3);
    changed(
        &mut sim,
        0,
        create(&[("value_bytes_max", "4"), ("siblings_max", "2"), ("elements_max", "1")]),
    );
    let long = sim.update(1, &key("a"), put("12345")).map(|_| ());
    let error = values::UpdateError::ValueTooLong { bytes: 5, limit: 4 };
    assert_eq!(long, Err(RequestError::Update(error)));
    sim.update(1, &key("a"), put("1")).unwrap();
    sim.isolate(2);
    sim.advance(1_000);
    sim.update(0, &key("a"), put("2")).unwrap();
    sim.update(2, &key("a"), put("3")).unwrap();
    let add = |element: &'static str| Operation::Orset(OrsetOp::Add(vec![element.into()]));
    sim.update(0, &key("s"), add("x")).unwrap();
    sim.update(2, &key("s"), add("y")).unwrap();
    let second = sim.update(0, &key("s"), add("z")).map(|_| ());
    let error = values::UpdateError::CollectionFull { elements: 1, limit: 1 };
    assert_eq!(second, Err(RequestError::Update(error)));
    let third = sim.update(0, &key("a"), put("4")).map(|_| ());
    assert!(matches!(third, Err(RequestError::Update(values::UpdateError::TooManySiblings(_)))));
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(siblings(&sim.get(0, &key("a")).unwrap().view), ["1", "2", "3"]);
    assert_eq!(sim.get(0, &key("s")).unwrap().view.collections[&Tag::ORSET].live, 2);
}

#[test]
fn policies_that_contradict_themselves_change_nothing() {
    let mut sim = cluster(3);
    changed(&mut sim, 0, create(&[]));
    for pairs in [[("r", "4")], [("w", "5")]] {
        let refused = sim.buckets(1, set(&pairs));
        assert!(
            matches!(refused, Err(RequestError::Bucket(BucketError::Policy(_)))),
            "{refused:?}"
        );
    }
    let refused = sim.buckets(1, set(&[]));
    assert!(matches!(refused, Err(RequestError::Bucket(BucketError::Policy(_)))), "{refused:?}");
    let nameless = BucketCall::Create { name: Bytes::new(), fields: fields(&[]) };
    assert!(matches!(sim.buckets(0, nameless), Err(RequestError::Key(_))));
    let again = sim.buckets(2, create(&[("r", "1")]));
    let error = BucketError::Exists { bucket: "carts".into() };
    assert_eq!(again, Err(RequestError::Bucket(error)));
    assert_eq!(shown(&mut sim, 0).policy, replication::BucketPolicy::default());
}

#[test]
fn a_change_that_the_disk_refuses_is_unknown_and_not_in_force() {
    let mut sim = cluster(3);
    sim.set_disk(DiskFaults { refused: 1_000, ..DiskFaults::default() });
    let refused = sim.buckets(0, create(&[("r", "1")]));
    assert!(matches!(refused, Err(RequestError::Unknown { disk: Some(_), .. })), "{refused:?}");
    assert_eq!(shown(&mut sim, 0).standing, Standing::Implicit);
    sim.set_disk(DiskFaults::default());
    sim.advance(10_000);
    let (bucket, known) = changed(&mut sim, 0, create(&[("r", "1")]));
    assert_eq!((bucket.policy.r, known), (1, 3));
}

/// Changes at all nodes over cuts, crashes and lossy links: in the end everybody says the same,
/// and nothing that was acknowledged has gone back to an earlier generation.
#[test]
fn changes_at_random_over_faults_end_in_one_table() {
    for seed in 0..60 {
        let network = NetworkFaults { loss: 100, duplication: 100, ..NetworkFaults::default() };
        let mut sim = Sim::new(seed, SimOptions { nodes: 4, network, ..SimOptions::default() });
        let mut random = simulator::Random::new(seed);
        let mut highest = 0;
        for _ in 0..30 {
            let node = random.below(4) as usize;
            match random.below(6) {
                0 => sim.isolate(node),
                1 => sim.heal(),
                2 => {
                    sim.crash(node);
                    sim.restart(node);
                }
                3 => drop(sim.buckets(node, drop_it())),
                4 => {
                    let r = (1 + random.below(3)).to_string();
                    drop(sim.buckets(node, set(&[("r", &r)])));
                }
                _ => {
                    if let Ok(BucketReply::Changed { bucket, .. }) = sim.buckets(node, create(&[]))
                    {
                        highest = highest.max(bucket.generation);
                    }
                }
            }
            sim.advance(random.below(500));
        }
        sim.heal();
        sim.set_network(NetworkFaults::default());
        sim.run_until_quiet();
        let first = sim.buckets(0, BucketCall::List);
        for node in 1..4 {
            assert_eq!(sim.buckets(node, BucketCall::List), first, "seed {seed}, node {node}");
        }
        let Ok(BucketReply::Listed(buckets)) = first else { panic!("{first:?}") };
        let generation = buckets.first().map_or(0, |bucket| bucket.generation);
        assert!(generation >= highest, "seed {seed}: {generation} after {highest}");
    }
}
