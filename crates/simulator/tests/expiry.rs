//! Deadlines in a cluster: what ends, at which nodes, and what survives.

use std::collections::BTreeMap;

use replication::{BucketPolicy, Request};
use simulator::{Sim, SimOptions};
use values::{Deadline, ExpiryOp, Key, Lifetime, Operation, OrsetOp, RegisterOp, Tag};

fn key() -> Key {
    Key::new("default", "k").expect("a short key")
}

fn add(name: &'static str) -> Operation {
    Operation::Orset(OrsetOp::Add(vec![name.into()]))
}

fn ends(in_ms: u64) -> Operation {
    Operation::Expiry(ExpiryOp::Set { deadline: Deadline::In(in_ms), only_if: None })
}

fn persist() -> Operation {
    Operation::Expiry(ExpiryOp::Persist)
}

/// The elements that a read at `node` shows.
fn members(sim: &mut Sim, node: usize) -> Vec<String> {
    let view = sim.get(node, &key()).expect("the node is up").view;
    let names = view.value.state(Tag::ORSET).map(|state| match state {
        values::State::Orset(set) => set.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    });
    names
        .unwrap_or_default()
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// The schedules that replicas still hold.
fn schedules(sim: &mut Sim) -> usize {
    (0..sim.nodes())
        .filter_map(|node| sim.view(node, &key()))
        .map(|view| view.value.schedules().count())
        .sum()
}

#[test]
fn a_key_ends_at_all_nodes_at_once_and_is_removed_by_the_sweep() {
    let mut sim = Sim::new(1, SimOptions::default());
    sim.update(0, &key(), add("a")).unwrap();
    sim.update(1, &key(), ends(1_000)).unwrap();
    sim.run_until_quiet();
    // Added later, it ends with the key.
    sim.update(2, &key(), add("b")).unwrap();
    sim.run_until_quiet();
    assert_eq!(members(&mut sim, 2), ["a", "b"]);
    sim.advance(1_000);
    for node in 0..3 {
        assert_eq!(members(&mut sim, node), [] as [&str; 0]);
    }
    assert_eq!(schedules(&mut sim), 3, "what is due is hidden before it is removed");
    assert_eq!(sim.expire_all(), BTreeMap::new());
    assert_eq!(schedules(&mut sim), 0);
    let live = |view: values::View| view.live_tags().len();
    assert!((0..3).all(|node| sim.view(node, &key()).map(live) == Some(0)));
}

#[test]
fn an_owner_that_missed_that_a_deadline_was_taken_away_removes_nothing() {
    let mut sim = Sim::new(2, SimOptions::default());
    sim.update(0, &key(), add("a")).unwrap();
    sim.update(0, &key(), ends(1_000)).unwrap();
    sim.run_until_quiet();
    sim.isolate(2);
    assert!(sim.update(0, &key(), persist()).unwrap().acks.is_met());
    sim.advance(60_000);
    // Alone it shows nothing, and removes nothing.
    assert_eq!(members(&mut sim, 2), [] as [&str; 0]);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(sim.expire_all(), BTreeMap::new());
    for node in 0..3 {
        assert_eq!(members(&mut sim, node), ["a"]);
    }
}

#[test]
fn what_is_written_where_the_deadline_is_unknown_survives_it() {
    let mut sim = Sim::new(3, SimOptions::default());
    sim.update(0, &key(), add("a")).unwrap();
    sim.run_until_quiet();
    sim.isolate(2);
    sim.update(0, &key(), ends(1_000)).unwrap();
    sim.update(2, &key(), add("b")).unwrap();
    sim.advance(20_000);
    sim.heal();
    sim.run_until_quiet();
    assert_eq!(sim.expire_all(), BTreeMap::new());
    for node in 0..3 {
        assert_eq!(members(&mut sim, node), ["b"]);
    }
}

#[test]
fn a_value_with_a_time_to_live_that_is_set_anew_lives_without_end() {
    let mut sim = Sim::new(4, SimOptions::default());
    let set = |value: &'static str| {
        Operation::Register(RegisterOp::Set { value: value.into(), at: None, replace: true })
    };
    let mut request = Request::update(key(), set("one"));
    request.lifetime = Lifetime::Ends(Deadline::In(1_000));
    sim.request(0, request).unwrap();
    sim.update(1, &key(), set("two")).unwrap();
    sim.advance(5_000);
    let view = sim.get(2, &key()).unwrap().view;
    assert_eq!(view.live_tags(), [Tag::LWW]);
    assert_eq!(view.deadline_ms(0), None);
}

/// A cluster of two cannot show what three owners hold.
#[test]
fn what_is_due_is_removed_by_fewer_members_than_r_asks_for() {
    let policy = BucketPolicy { n: 3, r: 3, w: 1, ..BucketPolicy::default() };
    let mut sim = Sim::new(5, SimOptions { nodes: 2, policy, ..SimOptions::default() });
    sim.update(0, &key(), add("a")).unwrap();
    sim.update(0, &key(), ends(1_000)).unwrap();
    sim.run_until_quiet();
    sim.advance(60_000);
    assert_eq!(sim.expire_all(), BTreeMap::new());
    assert_eq!(schedules(&mut sim), 0);
}
