//! The worked examples that need a cluster, each as one story.

use replication::{
    Answer, Availability, BucketPolicy, Call, Level, Reply, Request, RequestError, RequestName,
    ScanRequest,
};
use simulator::{
    NetworkFaults, Sim, SimOptions, invariants::replicas::invariant_replicas_equal_after_healing,
};
use values::{
    Blob, BytesOp, CounterOp, Key, Operation, OrsetOp, RegisterOp, Scope, State, Tag, UpdateError,
    View,
};

const SEED: u64 = 1;

fn key(name: &'static str) -> Key {
    Key::new("default", name).expect("within the bounds of a key")
}

fn policy(r: u8, w: u8, availability: Availability) -> BucketPolicy {
    BucketPolicy { n: 3, r, w, availability, ..BucketPolicy::default() }
}

fn cluster(nodes: usize, r: u8, w: u8, availability: Availability) -> Sim {
    let policy = policy(r, w, availability);
    Sim::new(SEED, SimOptions { nodes, policy, ..SimOptions::default() })
}

fn put(value: &'static str) -> Operation {
    Operation::Bytes(BytesOp::Put(Blob::from(value)))
}

fn set(value: &'static str) -> Operation {
    Operation::Register(RegisterOp::Set { value: Blob::from(value), at: None, replace: false })
}

fn sadd(element: &'static str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![Blob::from(element)]))
}

fn srem(element: &'static str) -> Operation {
    Operation::Orset(OrsetOp::Remove(vec![Blob::from(element)]))
}

const fn incr(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

fn siblings(view: &View) -> Vec<Blob> {
    match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => {
            let mut values: Vec<Blob> =
                state.store.0.values().map(|sibling| sibling.value.clone()).collect();
            values.sort();
            values
        }
        _ => Vec::new(),
    }
}

fn members(view: &View) -> Vec<Blob> {
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(state)) => state.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

fn register(view: &View) -> Option<Blob> {
    match view.value.state(Tag::LWW) {
        Some(State::Register(register)) => register.read(),
        _ => None,
    }
}

fn counter(view: &View) -> i128 {
    match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}

fn update_with(
    sim: &mut Sim,
    node: usize,
    key: &Key,
    operation: Operation,
    read: &Answer,
) -> Answer {
    let tag = operation.tag().unwrap_or(Tag::BYTES);
    let mut request = Request::update(key.clone(), operation);
    request.context = read.contexts.get(&tag).cloned();
    sim.request(node, request).expect("an update with the context of a read is done")
}

/// Lets a node's links go down for all to see.
fn isolate(sim: &mut Sim, node: usize) {
    sim.isolate(node);
    sim.advance(1_000);
}

#[test]
fn a_read_after_a_write_at_two_owners_sees_it_at_any_node() {
    let mut sim = cluster(5, 2, 2, Availability::Always);
    for (round, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        let key = key(name);
        let answer = sim.update(round % 5, &key, put("x")).unwrap();
        assert!(answer.acks.is_met(), "{:?}", answer.acks);
        for node in 0..5 {
            let read = sim.get(node, &key).unwrap();
            assert_eq!(siblings(&read.view), ["x"]);
            assert_eq!((read.acks.owners, read.acks.needed), (3, 2));
        }
    }
}

#[test]
fn with_r_and_w_of_one_a_read_may_miss_a_write_and_read_repair_brings_it() {
    let mut sim = cluster(3, 1, 1, Availability::Always);
    let key = key("stale");
    write_at_one(&mut sim, 0, &key, put("x"));
    assert_eq!(siblings(&sim.get(1, &key).unwrap().view), Vec::<Blob>::new());
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(siblings(&sim.view(node, &key).unwrap()), ["x"], "at node {node}");
    }
    assert_eq!(sim.counters(1).unwrap().read_repairs, 2);
}

#[test]
fn a_counter_and_a_set_made_under_one_key_while_cut_are_both_kept_and_reported_everywhere() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("conflict");
    isolate(&mut sim, 0);
    sim.update(0, &key, incr(5)).unwrap();
    sim.update(1, &key, sadd("x")).unwrap();
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        let view = sim.get(node, &key).unwrap().view;
        assert_eq!(view.live_tags(), [Tag::COUNTER, Tag::ORSET], "at node {node}");
        assert_eq!((counter(&view), members(&view)), (5, vec![Blob::from("x")]));
        // Either type goes on; a third has no place here.
        assert!(matches!(
            sim.update(node, &key, set("v")),
            Err(RequestError::Update(UpdateError::WrongType(_)))
        ));
    }
    sim.update(2, &key, incr(1)).unwrap();
    sim.update(2, &key, sadd("y")).unwrap();
    let view = sim.get(1, &key).unwrap().view;
    assert_eq!((counter(&view), members(&view).len()), (6, 2));
}

#[test]
fn a_slow_clock_that_writes_after_it_read_wins_here_and_with_the_token_elsewhere() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let (here, elsewhere) = (key("here"), key("elsewhere"));
    sim.jump_clock(1, -10_000);
    sim.jump_clock(2, -20_000);
    for key in [&here, &elsewhere] {
        sim.update(0, key, set("first")).unwrap();
    }
    let read = sim.get(1, &here).unwrap();
    assert_eq!(register(&read.view), Some("first".into()));
    sim.update(1, &here, set("second")).unwrap();
    let read = sim.get(1, &elsewhere).unwrap();
    update_with(&mut sim, 2, &elsewhere, set("second"), &read);
    sim.run_until_quiet();
    for node in 0..3 {
        for key in [&here, &elsewhere] {
            assert_eq!(register(&sim.get(node, key).unwrap().view), Some("second".into()));
        }
    }
}

#[test]
fn a_token_of_another_key_is_refused_before_anything_is_written() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let (ours, other) = (key("ours"), key("other"));
    let read = sim.get(0, &other).unwrap();
    let mut request = Request::update(ours.clone(), put("x"));
    request.context = read.contexts.get(&Tag::BYTES).cloned();
    assert!(matches!(sim.request(1, request), Err(RequestError::Context(_))));
    assert_eq!(siblings(&sim.get(0, &ours).unwrap().view), Vec::<Blob>::new());
}

#[test]
fn a_forwarded_put_that_the_network_copies_never_becomes_its_own_sibling() {
    let faults = NetworkFaults { duplication: 1000, delay_max_ms: 40, ..NetworkFaults::default() };
    let options = SimOptions { nodes: 5, network: faults, ..SimOptions::default() };
    let mut sim = Sim::new(SEED, options);
    for name in ["a", "b", "c", "d"] {
        let key = key(name);
        let stranger = sim.preference_list(&key)[3];
        let read = sim.get(stranger, &key).unwrap();
        update_with(&mut sim, stranger, &key, put("one"), &read);
        let read = sim.get(stranger, &key).unwrap();
        update_with(&mut sim, stranger, &key, put("two"), &read);
        sim.update(stranger, &key, put("three")).unwrap();
        sim.run_until_quiet();
        assert_eq!(siblings(&sim.get(0, &key).unwrap().view), ["three", "two"]);
    }
    let repeated: u64 = (0..5).map(|node| sim.counters(node).unwrap().forwards_repeated).sum();
    assert_eq!(repeated, 12);
}

#[test]
fn a_forwarded_increment_that_the_network_copies_counts_once() {
    let faults = NetworkFaults { duplication: 1000, delay_max_ms: 40, ..NetworkFaults::default() };
    let options = SimOptions { nodes: 4, network: faults, ..SimOptions::default() };
    let mut sim = Sim::new(SEED, options);
    let key = key("count");
    let stranger = sim.preference_list(&key)[3];
    for _ in 0..10 {
        sim.update(stranger, &key, incr(1)).unwrap();
    }
    sim.run_until_quiet();
    assert_eq!(counter(&sim.get(0, &key).unwrap().view), 10);
}

#[test]
fn a_cut_cluster_converges_through_the_outbox_without_a_read() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let names = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];
    isolate(&mut sim, 2);
    for (at, name) in names.into_iter().enumerate() {
        sim.update(at % 3, &key(name), sadd("left")).unwrap();
        sim.update((at + 1) % 3, &key(name), sadd("right")).unwrap();
        sim.update((at + 2) % 3, &key(name), srem("left")).unwrap();
    }
    sim.advance(10_000);
    assert_ne!(sim.pending(), 0);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
    let keys = names.map(key).into();
    invariant_replicas_equal_after_healing(&mut sim, &keys, true).unwrap();
    for node in 0..3 {
        assert_eq!(sim.counters(node).unwrap().reads, 0);
    }
}

#[test]
fn one_living_node_of_three_accepts_a_write_and_says_that_there_is_one_copy() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("survivor");
    sim.crash(1);
    sim.crash(2);
    sim.advance(1_000);
    let answer = sim.update(0, &key, put("x")).unwrap();
    assert_eq!((answer.acks.answered, answer.acks.hinted, answer.acks.needed), (1, 2, 2));
    assert!(!answer.acks.is_met());
    let read = sim.get(0, &key).unwrap();
    assert_eq!((siblings(&read.view), read.acks.answered), (vec!["x".into()], 1));
    sim.restart(1);
    sim.restart(2);
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(siblings(&sim.view(node, &key).unwrap()), ["x"]);
    }
}

#[test]
fn under_availability_quorum_a_write_that_cannot_be_met_is_refused_with_nothing_written() {
    let mut sim = cluster(3, 2, 2, Availability::Quorum);
    let key = key("refused");
    sim.crash(1);
    sim.crash(2);
    sim.advance(1_000);
    assert_eq!(
        sim.update(0, &key, put("x")),
        Err(RequestError::Unavailable { reachable: 1, needed: 2 })
    );
    assert_eq!(sim.view(0, &key).unwrap(), View::default());
}

#[test]
fn under_availability_quorum_a_write_that_is_not_met_in_time_is_unknown_and_may_show_later() {
    let mut sim = cluster(3, 2, 2, Availability::Quorum);
    let key = key("unknown");
    // The links are believed to be up, and carry nothing.
    sim.set_network(NetworkFaults { loss: 1000, ..NetworkFaults::default() });
    assert_eq!(
        sim.update(0, &key, put("x")),
        Err(RequestError::Unknown { acked: 1, needed: 2, disk: None })
    );
    sim.set_network(NetworkFaults::default());
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(siblings(&sim.view(node, &key).unwrap()), ["x"]);
    }
}

/// Writes at one node whose write reaches nobody else, and is in no outbox: the node crashes before.
fn write_at_one(sim: &mut Sim, node: usize, key: &Key, operation: Operation) {
    sim.set_network(NetworkFaults { loss: 1000, ..NetworkFaults::default() });
    let mut request = Request::update(key.clone(), operation);
    request.level = Level { w: Some(1), ..Level::default() };
    let answer = sim.request(node, request).expect("one copy is enough");
    assert_eq!(answer.acks.answered, 1);
    sim.crash(node);
    sim.set_network(NetworkFaults::default());
    sim.restart(node);
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
}

#[test]
fn a_removal_at_a_replica_that_missed_the_add_takes_away_what_others_show() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("seen");
    write_at_one(&mut sim, 1, &key, sadd("x"));
    assert_eq!(members(&sim.view(0, &key).unwrap()), Vec::<Blob>::new());
    let mut request = Request::update(key.clone(), srem("x"));
    request.level = Level { r: Some(3), ..Level::default() };
    let answer = sim.request(0, request).unwrap();
    assert_eq!((answer.changed, answer.partly_observed), (1, false));
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(members(&sim.view(node, &key).unwrap()), Vec::<Blob>::new());
    }
}

#[test]
fn a_removal_that_fewer_than_r_replicas_answered_says_so() {
    let mut sim = cluster(3, 2, 1, Availability::Always);
    let key = key("partly");
    sim.update(0, &key, sadd("x")).unwrap();
    sim.run_until_quiet();
    isolate(&mut sim, 0);
    let answer = sim.update(0, &key, srem("x")).unwrap();
    assert!(answer.partly_observed);
    let whole = sim.update(1, &key, srem("x")).unwrap();
    assert!(!whole.partly_observed);
}

/// Whom the first try did not reach has the name by now, and nothing of what it took away.
#[test]
fn a_removal_tried_again_counts_those_who_know_it_and_nobody_else() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let set = key("set");
    sim.update(0, &set, sadd("x")).unwrap();
    sim.run_until_quiet();
    let mut removal = Request::update(set.clone(), srem("x"));
    removal.name = Some(RequestName::parse(b"c:1"));
    // Two owners have it; the hint for the third goes down with the first.
    sim.isolate(2);
    let done = sim.request(0, removal.clone()).unwrap();
    assert_eq!(done.acks.answered, 2);
    sim.crash(0);
    sim.heal();
    for round in ["known to one", "and still"] {
        let again = sim.request(1, removal.clone()).unwrap();
        assert!(again.repeated, "{round}");
        assert_eq!(again.acks.answered, 1, "{round}: {:?}", again.acks);
        let held = sim.view(2, &set).unwrap();
        assert_eq!(members(&held), [Blob::from("x")], "{round}");
    }
    sim.restart(0);
    sim.run_until_quiet();
    let again = sim.request(1, removal).unwrap();
    assert_eq!((again.repeated, again.acks.answered >= 2), (true, true), "{:?}", again.acks);
    assert_eq!(members(&sim.view(2, &set).unwrap()), [] as [Blob; 0]);
}

#[test]
fn a_set_concurrent_with_an_increment_keeps_the_increment() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("eleven");
    sim.update(0, &key, set("5")).unwrap();
    sim.run_until_quiet();
    isolate(&mut sim, 0);
    sim.update(0, &key, set("10")).unwrap();
    sim.update(1, &key, Operation::Register(RegisterOp::Increment(1))).unwrap();
    sim.heal();
    sim.run_until_quiet();
    for node in 0..3 {
        assert_eq!(register(&sim.get(node, &key).unwrap().view), Some("11".into()));
    }
}

#[test]
fn a_level_that_makes_no_sense_is_refused() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let mut request = Request::update(key("level"), put("x"));
    request.level = Level { w: Some(4), ..Level::default() };
    assert_eq!(sim.request(0, request), Err(RequestError::Level { what: 'w', asked: 4, n: 3 }));
}

#[test]
fn a_cluster_smaller_than_n_works_with_what_it_has() {
    let mut sim = cluster(1, 2, 2, Availability::Quorum);
    let answer = sim.update(0, &key("alone"), put("x")).unwrap();
    assert_eq!((answer.acks.owners, answer.acks.needed, answer.acks.answered), (1, 1, 1));
}

#[test]
fn without_any_owner_in_reach_a_stranger_takes_the_write_and_delivers_it() {
    let mut sim = cluster(5, 2, 2, Availability::Always);
    let key = key("sloppy");
    let list = sim.preference_list(&key);
    for &owner in &list[..3] {
        sim.crash(owner);
    }
    sim.advance(1_000);
    let answer = sim.update(list[4], &key, put("x")).unwrap();
    assert_eq!((answer.acks.answered, answer.acks.hinted), (0, 3));
    assert_eq!(siblings(&sim.get(list[4], &key).unwrap().view), ["x"]);
    for &owner in &list[..3] {
        sim.restart(owner);
    }
    sim.run_until_quiet();
    for &owner in &list[..3] {
        assert_eq!(siblings(&sim.view(owner, &key).unwrap()), ["x"]);
    }
}

#[test]
fn a_scan_returns_every_key_once_and_a_count_counts_them() {
    for nodes in [3, 5] {
        let mut sim = cluster(nodes, 2, 2, Availability::Always);
        let mut expected = Vec::new();
        for number in 0..40 {
            let key = Key::new("default", format!("key{number}")).unwrap();
            sim.update(number % nodes, &key, sadd("x")).unwrap();
            expected.push((key, vec![Tag::ORSET]));
        }
        let gone = Key::new("default", "key7").unwrap();
        sim.update(0, &gone, Operation::Delete(None)).unwrap();
        expected.retain(|(key, _)| *key != gone);
        expected.sort();
        sim.run_until_quiet();
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let request = ScanRequest { bucket: "default".into(), cursor, limit: 7 };
            let id = sim.call(1, Call::Scan(request));
            let Ok(Reply::Page(page)) = sim.run_until_answered(id) else { panic!("no page") };
            assert!(!page.incomplete);
            found.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        assert_eq!(found, expected);
        let id = sim.call(2, Call::Count { bucket: "default".into() });
        assert_eq!(sim.run_until_answered(id), Ok(Reply::Count(39)));
    }
}

#[test]
fn an_explanation_shows_every_owner_and_for_whom_it_holds_deltas() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("explained");
    isolate(&mut sim, 2);
    sim.update(0, &key, incr(3)).unwrap();
    let id = sim.call(0, Call::Explain(key.clone()));
    let Ok(Reply::Explanation(told)) = sim.run_until_answered(id) else { panic!("no explanation") };
    assert_eq!((told.n, told.replicas.len()), (3, 3));
    assert_eq!(counter(&told.merged), 3);
    for replica in told.replicas {
        match replica.node.0 {
            1 => assert_eq!(replica.pending_for, [clock::NodeId(3)]),
            2 => assert_eq!(counter(&replica.view.unwrap()), 3),
            _ => assert_eq!(replica.view, Err("not in reach".to_owned())),
        }
    }
}

#[test]
fn the_size_of_a_set_on_which_replicas_disagree_is_counted_from_its_elements() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("size");
    write_at_one(&mut sim, 0, &key, sadd("a"));
    write_at_one(&mut sim, 1, &key, sadd("b"));
    let mut request = Request::get(key.clone(), Scope::Headers);
    request.level = Level { r: Some(3), ..Level::default() };
    let answer = sim.request(2, request).unwrap();
    let summary = answer.view.collections[&Tag::ORSET];
    assert_eq!((summary.live, summary.exact), (2, true));
    assert_eq!(members(&answer.view), Vec::<Blob>::new());
}

#[test]
fn too_many_calls_at_once_are_answered_overloaded_at_once() {
    let mut sim = Sim::new(SEED, SimOptions { requests_max: 2, ..SimOptions::default() });
    let call = || Call::Request(Request::update(key("busy"), incr(1)));
    let ids = [sim.call(0, call()), sim.call(0, call()), sim.call(0, call())];
    assert_eq!(sim.take_outcome(ids[2]), Some(Err(RequestError::Overloaded)));
    for id in &ids[..2] {
        assert!(sim.run_until_answered(*id).is_ok());
    }
}

#[test]
fn a_replica_that_answers_a_read_long_after_its_reply_is_repaired() {
    let mut sim = Sim::new(SEED, SimOptions::default());
    let key = key("late");
    // Nobody notices, keeps a hint or compares.
    write_at_one(&mut sim, 0, &key, put("x"));
    sim.pause(2);
    assert_eq!(siblings(&sim.get(0, &key).unwrap().view), ["x"]);
    sim.advance(500);
    assert_eq!(sim.counters(0).unwrap().read_repairs, 1, "the one that answered in time");
    sim.resume(2);
    sim.run_until_quiet();
    assert_eq!(siblings(&sim.view(2, &key).unwrap()), ["x"]);
    assert_eq!(sim.counters(0).unwrap().read_repairs, 2, "each once");
}

#[test]
fn a_silent_replica_holds_up_no_read_that_others_answer_and_leaves_room_for_others() {
    let options = SimOptions { requests_max: 4, ..SimOptions::default() };
    let mut sim = Sim::new(SEED, options);
    let key = key("silent");
    sim.update(0, &key, incr(1)).unwrap();
    sim.run_until_quiet();
    // The links stay up, as with a process that is stopped: nothing is noticed.
    sim.set_network(NetworkFaults { notice_ms: 3_600_000, ..NetworkFaults::default() });
    sim.isolate(2);
    for _ in 0..20 {
        let start = sim.now_ms();
        assert_eq!(counter(&sim.get(0, &key).unwrap().view), 1);
        assert!(sim.now_ms() - start <= 2);
        sim.advance(50);
    }
}

#[test]
fn what_no_replica_would_accept_is_refused_before_it_is_passed_on() {
    let mut sim = cluster(5, 2, 2, Availability::Always);
    let key = key("long");
    let owners = sim.owners(&key);
    let other = (0..5).find(|node| !owners.contains(node)).unwrap();
    let long = Operation::Bytes(BytesOp::Put(Blob::from(vec![0; (8 << 20) + 1])));
    let refused = sim.update(other, &key, long);
    let error = UpdateError::ValueTooLong { bytes: (8 << 20) + 1, limit: 8 << 20 };
    assert_eq!(refused, Err(RequestError::Update(error)));
    assert_eq!(sim.counters(other).unwrap().forwards, 0);
}

/// A node that is no owner of `key`, and the owner that it forwards to.
fn outsider(sim: &Sim, key: &Key) -> (usize, usize) {
    let owners = sim.owners(key);
    let other = (0..sim.nodes()).find(|node| !owners.contains(node)).expect("more nodes than n");
    (other, owners[0])
}

#[test]
fn an_increment_whose_replica_falls_silent_is_passed_on_to_another_and_counts_once() {
    let mut sim = cluster(5, 2, 2, Availability::Always);
    let key = key("passed-on");
    let (outsider, owner) = outsider(&sim, &key);
    // It hears the request, and its answer is lost.
    sim.set_network(NetworkFaults { notice_ms: 60_000, ..NetworkFaults::default() });
    sim.cut_way(owner, outsider);
    let answer = sim.update(outsider, &key, incr(5)).unwrap();
    assert!(answer.acks.is_met());
    assert_eq!(sim.counters(outsider).unwrap().forwards_retried, 1);
    sim.heal();
    sim.run_until_quiet();
    for node in 0..5 {
        assert_eq!(counter(&sim.get(node, &key).unwrap().view), 5, "at node {node}");
    }
}

#[test]
fn a_name_used_again_counts_once_and_with_other_arguments_is_refused_at_any_owner() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("named");
    let named = |by| {
        let mut request = Request::update(key.clone(), incr(by));
        request.name = Some(RequestName::parse(b"shop:1"));
        request
    };
    let first = sim.request(0, named(5)).unwrap();
    assert_eq!((first.changed, first.repeated), (1, false));
    sim.run_until_quiet();
    for node in 0..3 {
        let again = sim.request(node, named(5)).unwrap();
        assert_eq!((counter(&again.view), again.changed, again.repeated), (5, 0, true));
        assert!(again.acks.is_met());
        let refused = sim.request(node, named(6));
        assert_eq!(refused, Err(RequestError::Update(UpdateError::NameReused)));
    }
}

#[test]
fn a_flood_of_names_is_refused_and_node_given_ones_are_done_without() {
    let mut sim = cluster(5, 2, 2, Availability::Always);
    let key = key("flood");
    let limits = values::Limits::default();
    let (outsider, owner) = outsider(&sim, &key);
    let mut request = Request::update(key.clone(), incr(1));
    for number in 0..=limits.names {
        let client = number / limits.names_per_client;
        request.name = Some(RequestName::parse(format!("c{client}:{number}").as_bytes()));
        let done = sim.request(owner, request.clone());
        if number < limits.names {
            assert!(done.is_ok(), "{number}: {done:?}");
        } else {
            let error = UpdateError::TooManyNames { limit: limits.names };
            assert_eq!(done, Err(RequestError::Update(error)));
        }
    }
    let names = limits.names as i128;
    let answer = sim.update(outsider, &key, incr(1)).unwrap();
    assert_eq!(counter(&answer.view), names + 1);
    // One client's own allowance ends earlier.
    request.key = self::key("one-client");
    for number in 0..=limits.names_per_client {
        request.name = Some(RequestName::parse(format!("c:{number}").as_bytes()));
        let done = sim.request(0, request.clone());
        assert_eq!(done.is_ok(), number < limits.names_per_client, "{number}: {done:?}");
    }
}

/// A page says that keys may be missing when fewer owners than a read needs were heard.
#[test]
fn a_scan_that_heard_fewer_than_r_owners_says_that_keys_may_be_missing() {
    let mut sim = cluster(3, 2, 2, Availability::Always);
    let key = key("unheard");
    isolate(&mut sim, 0);
    let added = sim.update(1, &key, incr(1)).expect("a write");
    assert!(added.acks.is_met());
    let request = ScanRequest { bucket: "default".into(), cursor: None, limit: 10 };
    let call = sim.call(0, Call::Scan(request));
    let Ok(Reply::Page(page)) = sim.run_until_answered(call) else { panic!("no page") };
    assert!(page.incomplete || !page.keys.is_empty(), "{page:?}");
}

#[test]
fn a_pipeline_is_seen_in_order_at_an_owner_and_at_any_other_node() {
    for node in 0..5 {
        for seed in 1..=40 {
            let network = NetworkFaults { delay_min_ms: 1, delay_max_ms: 9, ..Default::default() };
            let mut sim = Sim::new(seed, SimOptions { nodes: 5, network, ..SimOptions::default() });
            let key = key("pipeline");
            let get = || Request::get(key.clone(), Scope::Whole);
            let update = |operation| Request::update(key.clone(), operation);
            let by = |by| update(Operation::Register(RegisterOp::Increment(by)));
            let requests =
                vec![update(set("5")), by(1), get(), update(set("7")), by(1), by(1), get()];
            let calls = sim.call_all(node, requests);
            // (An increment's own answer may show a later one: this network reorders messages.)
            let reads = [calls[2], calls[6]].map(|call| match sim.run_until_answered(call) {
                Ok(Reply::Answer(answer)) => register(&answer.view),
                other => panic!("{other:?}"),
            });
            let wanted = ["6", "9"].map(|text| Some(Blob::from(text)));
            assert_eq!(reads, wanted, "node {node}, seed {seed}");
        }
    }
}
