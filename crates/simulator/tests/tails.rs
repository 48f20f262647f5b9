//! Replicas that do not answer soon: who covers them, what becomes of it, and how long it takes.

use clock::NodeId;
use replication::{Call, Level, NamedBy, Reply, Request, RequestName};
use simulator::{
    NetworkFaults, Sim, SimOptions, invariants::replicas::invariant_replicas_equal_after_healing,
};
use values::{
    Blob, BytesOp, CounterOp, Key, Operation, OrsetOp, RegisterOp, Scope, State, Tag, View,
};

const SEED: u64 = 1;

fn key(name: &'static str) -> Key {
    Key::new("default", name).expect("within the bounds of a key")
}

fn cluster(nodes: usize) -> Sim {
    Sim::new(SEED, SimOptions { nodes, ..SimOptions::default() })
}

fn sadd(element: &str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![Blob::copy_from_slice(element.as_bytes())]))
}

const fn incr(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

/// A value longer than any view that is sent in place of a digest.
fn long(letter: char) -> Blob {
    Blob::from(letter.to_string().repeat(1_000))
}

fn put(letter: char) -> Operation {
    Operation::Bytes(BytesOp::Put(long(letter)))
}

fn members(view: &View) -> Vec<Blob> {
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(state)) => state.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

fn counter(view: &View) -> i128 {
    match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}

fn values(view: &View) -> Vec<Blob> {
    view.siblings().into_iter().map(|(_, sibling)| sibling.value.clone()).collect()
}

fn counters(sim: &Sim, node: usize) -> replication::Counters {
    sim.counters(node).expect("the node runs")
}

/// Owners for whom a node holds deltas of `key`.
fn pending_for(sim: &mut Sim, node: usize, key: &Key) -> Vec<NodeId> {
    let id = sim.call(node, Call::Explain(key.clone()));
    let Ok(Reply::Explanation(told)) = sim.run_until_answered(id) else { panic!("no explanation") };
    let own = told.replicas.into_iter().find(|replica| replica.node == NodeId(node as u64 + 1));
    own.map(|replica| replica.pending_for).unwrap_or_default()
}

/// Lets the others do enough for a node that it knows how long it takes: a few milliseconds.
fn learn(sim: &mut Sim, node: usize) {
    for round in 0..2_000 {
        let key = Key::new("default", format!("learn{}", round % 50)).expect("a short name");
        sim.update(node, &key, incr(1)).expect("a write");
        sim.get(node, &key).expect("a read");
    }
    sim.run_until_quiet();
}

/// How long a request takes, in milliseconds, and what it is answered.
fn timed(sim: &mut Sim, node: usize, request: Request) -> (u64, replication::Answer) {
    let start = sim.now_ms();
    let answer = sim.request(node, request).expect("an answer");
    (sim.now_ms() - start, answer)
}

#[test]
fn what_a_paused_owner_misses_a_fallback_keeps_and_delivers_when_it_goes_on() {
    let mut sim = cluster(5);
    let key = key("paused");
    let list = sim.preference_list(&key);
    sim.pause(list[2]);
    let answer = sim.update(list[0], &key, sadd("x")).unwrap();
    assert_eq!((answer.acks.answered, answer.acks.hinted), (2, 0));
    sim.advance(500);
    assert_eq!((counters(&sim, list[3]).hints_taken, sim.pending()), (1, 1));
    assert_eq!(pending_for(&mut sim, list[0], &key), []);
    assert_eq!(members(&sim.view(list[3], &key).unwrap()), Vec::<Blob>::new());
    sim.crash(list[0]);
    sim.crash(list[1]);
    sim.resume(list[2]);
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
    assert_eq!(members(&sim.view(list[2], &key).unwrap()), ["x"]);
}

/// Owner and fallback counted apart: a hint is no acknowledgement of an owner.
#[test]
fn hints_are_reported_and_never_count_towards_w() {
    let mut sim = cluster(5);
    let key = key("counted");
    let list = sim.preference_list(&key);
    sim.pause(list[1]);
    sim.pause(list[2]);
    let answer = sim.update(list[0], &key, sadd("x")).unwrap();
    assert_eq!((answer.acks.answered, answer.acks.needed, answer.acks.hinted), (1, 2, 2));
    assert!(!answer.acks.is_met());
    // Each hint with another fallback.
    let taken = [list[3], list[4]].map(|node| counters(&sim, node).hints_taken);
    assert_eq!(taken, [1, 1]);
}

#[test]
fn a_fallback_that_crashes_keeps_its_hint_and_delivers_it() {
    let mut sim = cluster(5);
    let key = key("crash");
    let list = sim.preference_list(&key);
    sim.pause(list[2]);
    sim.update(list[0], &key, sadd("x")).unwrap();
    sim.advance(500);
    sim.crash(list[3]);
    sim.crash(list[0]);
    sim.crash(list[1]);
    sim.restart(list[3]);
    sim.resume(list[2]);
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
    assert_eq!(members(&sim.view(list[2], &key).unwrap()), ["x"]);
}

#[test]
fn a_fallback_that_does_not_say_that_it_keeps_a_hint_leaves_it_to_the_coordinator() {
    let mut sim = cluster(5);
    let key = key("unsaid");
    let list = sim.preference_list(&key);
    sim.pause(list[2]);
    // It hears the request, and its answer is lost.
    sim.set_network(NetworkFaults { notice_ms: 3_600_000, ..NetworkFaults::default() });
    sim.cut_way(list[3], list[0]);
    sim.update(list[0], &key, sadd("x")).unwrap();
    sim.advance(1_000);
    assert_eq!(pending_for(&mut sim, list[0], &key), [NodeId(list[2] as u64 + 1)]);
}

#[test]
fn a_hint_delivered_twice_counts_once() {
    let mut sim = cluster(5);
    let key = key("twice");
    let list = sim.preference_list(&key);
    sim.pause(list[2]);
    sim.update(list[0], &key, incr(5)).unwrap();
    sim.advance(500);
    assert_eq!(counters(&sim, list[3]).hints_taken, 1);
    // What the owner is sent comes twice, and its acknowledgements are lost at first.
    let faults = NetworkFaults { notice_ms: 3_600_000, duplication: 1000, ..Default::default() };
    sim.set_network(faults);
    sim.cut_way(list[2], list[3]);
    sim.resume(list[2]);
    sim.advance(10_000);
    assert_eq!((counter(&sim.view(list[2], &key).unwrap()), sim.pending()), (5, 1));
    sim.set_network(NetworkFaults { duplication: 1000, ..NetworkFaults::default() });
    sim.heal();
    sim.run_until_quiet();
    assert_eq!((counter(&sim.view(list[2], &key).unwrap()), sim.pending()), (5, 0));
}

#[test]
fn a_fallback_answers_a_read_from_what_it_holds_for_others() {
    let mut sim = cluster(5);
    let key = key("held");
    let list = sim.preference_list(&key);
    for &owner in &list[1..3] {
        sim.pause(owner);
    }
    sim.update(list[0], &key, sadd("x")).unwrap();
    sim.advance(500);
    for &owner in &list[..3] {
        sim.crash(owner);
    }
    sim.advance(1_000);
    let scopes = [
        Scope::Whole,
        Scope::Elements { tag: Tag::ORSET, elements: ["x".into(), "y".into()].into() },
        Scope::Range { tag: Tag::ORSET, after: None, limit: 1 },
    ];
    for scope in scopes {
        let answer = sim.request(list[4], Request::get(key.clone(), scope.clone())).unwrap();
        assert_eq!((members(&answer.view), answer.acks.answered), (vec!["x".into()], 0));
    }
    let scope = Scope::Range { tag: Tag::ORSET, after: Some("x".into()), limit: 1 };
    let answer = sim.request(list[4], Request::get(key, scope)).unwrap();
    assert_eq!(members(&answer.view), Vec::<Blob>::new());
}

/// Writes at one node whose write reaches nobody else, and is in no outbox: the node crashes before.
fn write_at_one(sim: &mut Sim, node: usize, key: &Key, operation: Operation) {
    sim.set_network(NetworkFaults { loss: 1000, ..NetworkFaults::default() });
    let mut request = Request::update(key.clone(), operation);
    request.level = Level { w: Some(1), ..Level::default() };
    assert_eq!(sim.request(node, request).expect("one copy is enough").acks.answered, 1);
    sim.crash(node);
    sim.set_network(NetworkFaults::default());
    sim.restart(node);
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
}

#[test]
fn replicas_whose_digests_agree_show_their_view_once() {
    let mut sim = cluster(5);
    let key = key("agree");
    let list = sim.preference_list(&key);
    sim.update(list[0], &key, put('a')).unwrap();
    sim.run_until_quiet();
    for node in 0..5 {
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.level = Level { r: Some(3), ..Level::default() };
        let answer = sim.request(node, request).unwrap();
        assert_eq!((values(&answer.view), answer.acks.answered), (vec![long('a')], 3));
        assert_eq!(counters(&sim, node).digests_differing, 0);
    }
}

#[test]
fn replicas_whose_digests_differ_are_asked_for_all_merged_and_repaired() {
    for reader in 0..5 {
        let mut sim = cluster(5);
        let key = key("differ");
        let list = sim.preference_list(&key);
        write_at_one(&mut sim, list[0], &key, put('a'));
        write_at_one(&mut sim, list[1], &key, put('b'));
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.level = Level { r: Some(3), ..Level::default() };
        let answer = sim.request(list[reader], request).unwrap();
        let mut shown = values(&answer.view);
        shown.sort();
        assert_eq!((shown, answer.acks.answered), (vec![long('a'), long('b')], 3));
        // The third has never heard of the key, and shows that in fewer bytes than a digest saves.
        let differing = counters(&sim, list[reader]).digests_differing;
        assert_eq!(differing, if reader == 2 { 2 } else { 1 });
        sim.run_until_quiet();
        assert_eq!(counters(&sim, list[reader]).read_repairs, 3);
        invariant_replicas_equal_after_healing(&mut sim, &[key].into(), false).unwrap();
    }
}

#[test]
fn a_lost_digest_holds_up_no_read_that_another_answers() {
    let mut sim = cluster(5);
    let key = key("lost-digest");
    let list = sim.preference_list(&key);
    sim.update(list[0], &key, put('a')).unwrap();
    sim.run_until_quiet();
    sim.set_network(NetworkFaults { notice_ms: 3_600_000, ..NetworkFaults::default() });
    sim.cut_way(list[1], list[0]);
    let (took_ms, answer) = timed(&mut sim, list[0], Request::get(key, Scope::Whole));
    assert_eq!((values(&answer.view), answer.acks.answered), (vec![long('a')], 2));
    assert_eq!(took_ms, 2);
}

#[test]
fn where_the_full_view_is_lost_one_that_sent_its_digest_is_asked_for_it() {
    let mut sim = cluster(5);
    let key = key("lost-view");
    let list = sim.preference_list(&key);
    sim.update(list[0], &key, put('a')).unwrap();
    sim.run_until_quiet();
    learn(&mut sim, list[4]);
    sim.set_network(NetworkFaults { notice_ms: 3_600_000, ..NetworkFaults::default() });
    // All answer equally soon, so the first owner is asked for all.
    sim.cut_way(list[0], list[4]);
    let (took_ms, answer) = timed(&mut sim, list[4], Request::get(key, Scope::Whole));
    assert_eq!((values(&answer.view), answer.acks.answered), (vec![long('a')], 2));
    assert_eq!((took_ms, counters(&sim, list[4]).reads_hedged), (12, 1));
}

/// The longest that any of many requests takes, at an owner and at a stranger.
fn longest_ms(sim: &mut Sim, key: &Key, nodes: [usize; 2], stranger_writes: bool) -> u64 {
    let mut longest = 0;
    for _ in 0..20 {
        sim.advance(5);
        for (node, writes) in [(nodes[0], true), (nodes[1], stranger_writes)] {
            let remove = Operation::Orset(OrsetOp::Remove(vec!["x".into()]));
            let requests = [
                Request::get(key.clone(), Scope::Whole),
                Request::update(key.clone(), sadd("x")),
                Request::update(key.clone(), remove),
            ];
            for request in requests.into_iter().take(if writes { 3 } else { 1 }) {
                let (took_ms, answer) = timed(sim, node, request);
                assert!(answer.acks.is_met(), "{:?}", answer.acks);
                longest = longest.max(took_ms);
            }
        }
    }
    longest
}

/// After what was learnt of ways of one millisecond nobody is waited for longer than ten, and after
/// a tenth of a second of silence not at all.
#[test]
fn a_paused_owner_holds_up_requests_for_ten_milliseconds_and_then_none() {
    let mut sim = cluster(5);
    let key = key("stall");
    let list = sim.preference_list(&key);
    let nodes = [list[1], list[4]];
    nodes.into_iter().for_each(|node| learn(&mut sim, node));
    assert_eq!(longest_ms(&mut sim, &key, nodes, true), 7);
    sim.pause(list[0]);
    // What the stranger writes is passed on, to the paused one at first: see the next test.
    assert_eq!(longest_ms(&mut sim, &key, nodes, false), 15);
    assert_eq!(longest_ms(&mut sim, &key, nodes, true), 7);
    sim.resume(list[0]);
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0);
    invariant_replicas_equal_after_healing(&mut sim, &[key].into(), true).unwrap();
}

#[test]
fn an_increment_passed_on_to_an_owner_that_is_paused_is_passed_on_to_another_soon() {
    let mut sim = cluster(5);
    let key = key("passed-on");
    let list = sim.preference_list(&key);
    learn(&mut sim, list[4]);
    sim.pause(list[0]);
    let mut request = Request::update(key.clone(), incr(5));
    request.name =
        Some(RequestName { by: NamedBy::Application, client: "c".into(), id: "1".into() });
    let (took_ms, answer) = timed(&mut sim, list[4], request);
    assert!(answer.acks.is_met());
    assert_eq!(took_ms, 205);
    sim.resume(list[0]);
    sim.run_until_quiet();
    for owner in &list[..3] {
        assert_eq!(counter(&sim.view(*owner, &key).unwrap()), 5);
    }
}

#[test]
fn a_register_set_while_an_owner_is_paused_reaches_it_through_a_fallback_and_wins() {
    let mut sim = cluster(4);
    let key = key("register");
    let list = sim.preference_list(&key);
    let set = |value: &'static str| {
        Operation::Register(RegisterOp::Set { value: value.into(), at: None, replace: true })
    };
    sim.update(list[0], &key, set("old")).unwrap();
    sim.run_until_quiet();
    sim.pause(list[2]);
    sim.update(list[1], &key, set("new")).unwrap();
    sim.advance(300);
    sim.resume(list[2]);
    sim.run_until_quiet();
    for owner in &list[..3] {
        let view = sim.view(*owner, &key).unwrap();
        let Some(State::Register(register)) = view.value.state(Tag::LWW) else {
            panic!("{view:?}")
        };
        assert_eq!(register.read(), Some("new".into()));
    }
}
