//! Conflicts from the cut that makes them to their end: listed alike everywhere, resolved at one node
//! while the other side goes on writing, explained with the writes that made them.

use replication::{
    Call, ConflictCursor, ConflictList, ConflictsRequest, Explanation, Reply, Request,
    RequestError, RequestName,
};
use simulator::{Sim, SimOptions, invariants::replicas::invariant_replicas_equal_after_healing};
use values::{Blob, BytesOp, CounterOp, Key, ManySiblings, Operation, OrsetOp, Tag, UpdateError};

fn key(name: &'static str) -> Key {
    Key::new("default", name).expect("within the bounds of a key")
}

fn put(value: &str) -> Operation {
    Operation::Bytes(BytesOp::Put(Blob::copy_from_slice(value.as_bytes())))
}

fn sadd(element: &'static str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![Blob::from(element)]))
}

const fn count(by: i64) -> Operation {
    Operation::Counter(CounterOp::Add(by))
}

/// Three nodes, all of them owners of everything.
fn cluster(seed: u64) -> Sim {
    Sim::new(seed, SimOptions::default())
}

fn cut_off(sim: &mut Sim, node: usize) {
    sim.isolate(node);
    sim.advance(1_000);
}

fn heal(sim: &mut Sim) {
    sim.heal();
    sim.run_until_quiet();
}

/// Keys in conflict as one node lists them: name, types, siblings.
fn listed(sim: &mut Sim, node: usize) -> Vec<(String, Vec<Tag>, u32)> {
    let page = page(sim, node, None, 100).expect("it lists");
    assert_eq!(page.next, None, "that is not the end");
    let name = |key: &Key| String::from_utf8(key.key().to_vec()).expect("names are text");
    let keys = page.keys.iter();
    keys.map(|listed| (name(&listed.key), listed.tags.clone(), listed.siblings)).collect()
}

fn page(
    sim: &mut Sim,
    node: usize,
    cursor: Option<ConflictCursor>,
    limit: u32,
) -> Result<ConflictList, RequestError> {
    let id = sim.call(node, Call::Conflicts(ConflictsRequest { cursor, limit }));
    sim.run_until_answered(id).map(|reply| match reply {
        Reply::Conflicts(list) => list,
        other => panic!("no list: {other:?}"),
    })
}

/// Five nodes, of which three own each key, and on each of 40 keys a conflict: no two nodes show the same.
#[test]
fn pages_are_of_one_nodes_list_whichever_nodes_are_asked_for_them() {
    let mut sim = Sim::new(1, SimOptions { nodes: 5, ..SimOptions::default() });
    let keys: Vec<Key> =
        (0..40).map(|at| Key::new("default", format!("k{at}")).expect("a key")).collect();
    for key in &keys {
        for value in ["tea", "milk"] {
            sim.update(0, key, put(value)).expect("nobody is away");
        }
    }
    sim.run_until_quiet();
    let mut lists = Vec::new();
    for first in 0..5 {
        let mut held: Vec<&Key> = keys.iter().collect();
        held.retain(|key| sim.preference_list(key)[..3].contains(&first));
        let (mut found, mut cursor, mut asked) = (Vec::new(), None, first);
        loop {
            let page = page(&mut sim, asked, cursor, 3).expect("all are in reach");
            assert_eq!(page.node, format!("node{}", first + 1));
            found.extend(page.keys.into_iter().map(|listed| listed.key));
            cursor = page.next;
            asked = (asked + 1) % 5;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        held.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), held, "the list of node {first}");
        lists.push(found);
    }
    assert!((1..5).all(|node| lists[node] != lists[0]), "what one holds is not what another does");

    let cursor = page(&mut sim, 2, None, 1).expect("it lists").next.expect("there are more");
    cut_off(&mut sim, 2);
    let refused = page(&mut sim, 4, Some(cursor.clone()), 1);
    let Err(RequestError::Unreachable(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("ask \"node3\" itself"), "{why}");
    assert!(page(&mut sim, 2, Some(cursor), 1).is_ok(), "it lists though it is alone");
}

fn explain(sim: &mut Sim, node: usize, key: &Key) -> Explanation {
    let id = sim.call(node, Call::Explain(key.clone()));
    match sim.run_until_answered(id) {
        Ok(Reply::Explanation(told)) => *told,
        other => panic!("no explanation: {other:?}"),
    }
}

#[test]
fn a_type_conflict_made_by_a_cut_is_listed_alike_resolved_and_shows_again_if_the_loser_is_written()
{
    for seed in 0..20 {
        let mut sim = cluster(seed);
        let key = key("both");
        cut_off(&mut sim, 2);
        sim.update(0, &key, sadd("x")).expect("two of three are in reach");
        sim.update(2, &key, count(5)).expect("always writeable");
        for node in 0..3 {
            assert_eq!(listed(&mut sim, node), [], "seed {seed}");
        }
        heal(&mut sim);
        let conflict = ("both".to_owned(), vec![Tag::COUNTER, Tag::ORSET], 0);
        for node in 0..3 {
            assert_eq!(listed(&mut sim, node), std::slice::from_ref(&conflict), "seed {seed}");
        }

        // Resolved on one side while the other one goes on counting.
        cut_off(&mut sim, 2);
        sim.update(2, &key, count(3)).expect("always writeable");
        let resolved = sim.update(0, &key, Operation::Resolve(Tag::ORSET)).expect("in conflict");
        assert_eq!((resolved.changed, resolved.partly_observed), (1, false));
        assert_eq!((listed(&mut sim, 0), listed(&mut sim, 1)), (vec![], vec![]), "seed {seed}");
        heal(&mut sim);
        for node in 0..3 {
            assert_eq!(listed(&mut sim, node), std::slice::from_ref(&conflict), "seed {seed}");
            let view = sim.view(node, &key).expect("all nodes run");
            let Some(values::State::Counter(counter)) = view.value.state(Tag::COUNTER) else {
                panic!("the counter lives")
            };
            assert_eq!(counter.tally.value(), 3, "seed {seed}: the 5 was observed, the 3 was not");
        }
        sim.update(1, &key, Operation::Resolve(Tag::COUNTER)).expect("in conflict again");
        sim.run_until_quiet();
        for node in 0..3 {
            assert_eq!(listed(&mut sim, node), [], "seed {seed}");
        }
        invariant_replicas_equal_after_healing(&mut sim, &[key].into(), true)
            .expect("the counter everywhere");
    }
}

#[test]
fn a_resolution_with_a_name_is_done_once_and_one_without_a_conflict_writes_nothing() {
    let mut sim = cluster(1);
    let key = key("both");
    cut_off(&mut sim, 2);
    sim.update(0, &key, sadd("x")).unwrap();
    sim.update(2, &key, count(5)).unwrap();
    heal(&mut sim);
    let mut resolve = Request::update(key.clone(), Operation::Resolve(Tag::COUNTER));
    resolve.name = Some(RequestName::parse(b"ops:1"));
    assert!(!sim.request(0, resolve.clone()).unwrap().repeated);
    sim.run_until_quiet();
    assert!(sim.request(1, resolve).unwrap().repeated);
    let again = sim.update(1, &key, Operation::Resolve(Tag::COUNTER));
    let refused = UpdateError::NotInConflict(vec![Tag::COUNTER]);
    assert_eq!(again, Err(RequestError::Update(refused)));
}

#[test]
fn puts_without_a_context_are_reported_past_the_soft_limit_and_refused_at_the_hard_one() {
    let mut sim = cluster(1);
    let key = key("crowded");
    for number in 1..=100 {
        let answer = sim.update(0, &key, put(&number.to_string())).expect("up to the hard limit");
        let many = (number > 25).then_some(ManySiblings { siblings: number, soft: 25, hard: 100 });
        assert_eq!(answer.many_siblings, many);
    }
    let refused = RequestError::Update(UpdateError::TooManySiblings(100));
    assert_eq!(sim.update(0, &key, put("one more")), Err(refused));
    let counters = sim.counters(0).expect("it runs");
    assert_eq!((counters.siblings_many, counters.siblings_refused), (75, 1));
    let read = sim.get(1, &key).unwrap();
    let mut reconciled = Request::update(key.clone(), put("all of them"));
    reconciled.context = read.contexts.get(&Tag::BYTES).cloned();
    assert_eq!(sim.request(2, reconciled).expect("it reconciles").many_siblings, None);
}

#[test]
fn siblings_of_a_cut_cluster_are_explained_with_the_writes_that_made_them() {
    let mut sim = cluster(1);
    let key = key("three");
    sim.update(0, &key, put("tea")).unwrap();
    sim.run_until_quiet();
    let seen = sim.get(0, &key).unwrap().contexts.get(&Tag::BYTES).cloned();
    sim.cut(0, 1);
    sim.cut(0, 2);
    sim.cut(1, 2);
    sim.advance(1_000);
    for (node, value) in [(0, "green"), (1, "black"), (2, "white")] {
        let mut request = Request::update(key.clone(), put(value));
        request.context = seen.clone();
        request.name = (node == 1).then(|| RequestName::parse(b"shop:7"));
        sim.request(node, request).expect("always writeable");
    }
    heal(&mut sim);
    assert_eq!(listed(&mut sim, 1), [("three".to_owned(), vec![Tag::BYTES], 3)]);
    let told = explain(&mut sim, 2, &key);
    assert_eq!(told.merged.siblings().len(), 3);
    let writes: Vec<_> = told
        .writes
        .iter()
        .map(|write| (write.node.0, write.operation.as_ref(), write.seen.len()))
        .collect();
    let (first, others) = writes.split_first().expect("four writes");
    assert_eq!(*first, (1, "bytes put", 0));
    let mut others = others.to_vec();
    others.sort_unstable();
    assert_eq!(others, [(1, "bytes put", 1), (2, "bytes put", 1), (3, "bytes put", 1)]);
    // Each of the three had seen the first, and none of the others.
    let dot = |write: &replication::Coordinated| write.minted.expect("a put mints").first;
    let [tea, rest @ ..] = &told.writes[..] else { panic!("four writes") };
    for write in rest {
        assert!(write.has_seen(Tag::BYTES, dot(tea)));
        assert!(rest.iter().all(|other| !write.has_seen(Tag::BYTES, dot(other))));
    }
    let named: Vec<_> = told.writes.iter().filter_map(|write| write.name.clone()).collect();
    assert_eq!(named, [RequestName::parse(b"shop:7")]);

    // A process that ends forgets, and what it wrote is still explained by what is held.
    sim.crash(1);
    sim.restart(1);
    sim.run_until_quiet();
    let told = explain(&mut sim, 2, &key);
    assert_eq!((told.writes.len(), told.merged.siblings().len()), (3, 3));
}

#[test]
fn a_fallback_that_holds_something_for_an_owner_is_explained_beside_the_owners() {
    let mut sim = Sim::new(1, SimOptions { nodes: 5, ..SimOptions::default() });
    let key = key("fallback");
    let list = sim.preference_list(&key);
    for &owner in &list[..3] {
        for &other in &list[3..] {
            sim.cut(owner, other);
        }
    }
    sim.advance(1_000);
    sim.update(list[3], &key, count(2)).expect("always writeable");
    let told = explain(&mut sim, list[3], &key);
    assert_eq!((told.n, told.owners_and_fallbacks().1.len()), (3, 2));
    let fallback = told.replicas.iter().find(|replica| replica.node.0 == list[3] as u64 + 1);
    let fallback = fallback.expect("it holds the delta");
    assert!(fallback.view.as_ref().is_ok_and(|view| view.is_live(Tag::COUNTER)));
    assert_eq!(told.writes.len(), 1);
    // It coordinated and keeps what two owners lack; the other fallback keeps a hint for the third.
    let pending: Vec<usize> =
        told.replicas.iter().map(|replica| replica.pending_for.len()).collect();
    assert_eq!(pending, [0, 0, 0, 2, 1]);
}
