//! Operations that the random histories leave out (resets, removals and set quantities of carts,
//! SET over other types, deletes of whole keys and of siblings), under the same faults, and disks that
//! are lost.
//!
//! `MERGANSER_SEED=<seed>` runs one seed.

use std::collections::{BTreeMap, BTreeSet};

use clock::ContextToken;
use replication::{Action, BucketPolicy, Call, CallId, Level, Reply, Request};
use simulator::{
    DiskFaults, NetworkFaults, Random, Sim, SimOptions, invariant_dots_issued_once,
    invariant_replicas_equal_after_healing,
};
use values::{
    Blob, BytesOp, CartOp, CounterOp, GsetOp, Key, MapOp, Operation, OrsetOp, RegisterOp, Scope,
    Tag,
};

fn operation(random: &mut Random, number: u64) -> Operation {
    let name = Blob::from(format!("v{number}"));
    let few = Blob::from(format!("i{}", random.below(3)));
    let by = random.between(1, 5);
    match random.below(20) {
        0 | 1 => Operation::Bytes(BytesOp::Put(name)),
        2 => Operation::Bytes(BytesOp::Delete),
        3 => Operation::Register(RegisterOp::Set { value: name, at: None, replace: true }),
        4 => Operation::Register(RegisterOp::Set { value: "7".into(), at: None, replace: false }),
        5 => Operation::Register(RegisterOp::Increment(by as i64)),
        6 => Operation::Gset(GsetOp::Add(vec![few])),
        7 => Operation::Counter(CounterOp::Add(by as i64)),
        8 => Operation::Counter(CounterOp::Reset),
        9 => Operation::Orset(OrsetOp::Add(vec![few, name])),
        10 => Operation::Orset(OrsetOp::Remove(vec![few])),
        11 | 12 => Operation::Cart(CartOp::Add { item: few, quantity: by }),
        13 => Operation::Cart(CartOp::Remove(few)),
        14 => Operation::Cart(CartOp::SetQuantity { item: few, quantity: by - 1 }),
        15 => Operation::Map(MapOp::Set(vec![(few, "3".into())])),
        16 => Operation::Map(MapOp::Increment { field: few, by: by as i64 }),
        17 => Operation::Map(MapOp::Remove(vec![few])),
        18 => Operation::Delete(None),
        _ => Operation::Delete(Some(*random.pick(&Tag::KNOWN))),
    }
}

fn check(seed: u64) {
    let mut random = Random::new(seed ^ 0x000f_ace5);
    let (r, w) = *random.pick(&[(2, 2), (1, 1), (1, 3), (3, 1)]);
    let crashes = random.chance(400);
    let wipes = random.chance(300);
    let fails = random.chance(200);
    let network = NetworkFaults {
        delay_min_ms: 1,
        delay_max_ms: random.between(1, 60),
        loss: *random.pick(&[0, 20, 200]),
        duplication: *random.pick(&[0, 200]),
        straggling: *random.pick(&[0, 100]),
        straggle_ms: 1_000,
        notice_ms: random.between(1, 300),
    };
    let disk = DiskFaults {
        commit_min_ms: 1,
        commit_max_ms: *random.pick(&[1, 20, 200]),
        refused: if fails { 40 } else { 0 },
        misreported: if fails { 20 } else { 0 },
    };
    let policy = BucketPolicy { r, w, ..BucketPolicy::default() };
    let nodes = random.between(3, 5) as usize;
    let options = SimOptions {
        nodes,
        partitions: 16,
        policy,
        network,
        disk,
        skew_ms: 5_000,
        ..SimOptions::default()
    };
    let mut sim = Sim::new(seed, options);
    let keys: BTreeSet<Key> =
        (0..4).map(|n| Key::new("default", format!("k{n}")).expect("a key")).collect();
    let list: Vec<Key> = keys.iter().cloned().collect();
    let mut tokens: BTreeMap<Key, ContextToken> = BTreeMap::new();
    let mut reads: Vec<(CallId, Key)> = Vec::new();
    for number in 0..120 {
        let pause_ms = random.below(40);
        sim.advance(pause_ms);
        let (a, b) = (random.below(nodes as u64) as usize, random.below(nodes as u64) as usize);
        match random.below(60) {
            0 if a != b => sim.cut(a, b),
            1 if a != b => sim.cut_way(a, b),
            2 => sim.isolate(a),
            3 | 4 => sim.heal(),
            5 if crashes => sim.crash(a),
            6..=9 if crashes => {
                if wipes && !sim.is_up(a) && random.chance(300) {
                    sim.wipe(a);
                }
                sim.restart(a);
            }
            10 => sim.jump_clock(a, random.below(60_000) as i64 - 30_000),
            _ => {}
        }
        reads.retain(|(id, key)| match sim.take_outcome(*id) {
            Some(Ok(Reply::Answer(answer))) => {
                tokens.extend(answer.contexts.get(&Tag::BYTES).map(|t| (key.clone(), t.clone())));
                false
            }
            Some(_) => false,
            None => true,
        });
        let key = random.pick(&list).clone();
        if random.chance(200) {
            let mut get = Request::get(key.clone(), Scope::Whole);
            get.want_context = true;
            reads.push((sim.call(b, Call::Request(get)), key));
            continue;
        }
        let mut request = Request::update(key.clone(), operation(&mut random, number));
        if let Action::Update(Operation::Bytes(_)) = request.action {
            request.context = tokens.get(&key).cloned();
        }
        sim.call(b, Call::Request(request));
    }
    sim.set_network(NetworkFaults::default());
    sim.set_disk(DiskFaults::default());
    sim.heal();
    (0..nodes).for_each(|node| sim.restart(node));
    sim.run_until_quiet();
    assert_eq!(sim.pending(), 0, "seed {seed}: deltas are still in outboxes");
    if !crashes && !fails {
        invariant_replicas_equal_after_healing(&mut sim, &keys, true)
            .unwrap_or_else(|wrong| panic!("seed {seed}, before any read: {wrong}"));
    }
    for (turn, key) in keys.iter().enumerate() {
        let mut get = Request::get(key.clone(), Scope::Whole);
        get.level = Level { r: Some(3), ..Level::default() };
        let answer = sim.request(turn % nodes, get).expect("a read");
        assert!(answer.acks.is_met(), "seed {seed}");
    }
    sim.run_until_quiet();
    invariant_replicas_equal_after_healing(&mut sim, &keys, false)
        .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    invariant_dots_issued_once(&sim).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    for (turn, key) in keys.iter().enumerate() {
        let done = sim.update(turn % nodes, key, Operation::Delete(None)).expect("a delete");
        assert!(!done.partly_observed, "seed {seed}");
    }
    sim.run_until_quiet();
    for key in &keys {
        for node in sim.owners(key) {
            let live = sim.view(node, key).expect("it runs").live_tags();
            assert_eq!(live, [], "seed {seed}: {key:?} was deleted, node {node}");
        }
    }
}

#[test]
fn replicas_that_did_everything_under_every_fault_are_equal_in_the_end() {
    match std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => check(seed),
        None => (1..=300).for_each(check),
    }
}
