//! What coordinating costs without any input or output: a put of 100 bytes and a read at n=3, from
//! the call to the reply, with the engine's and the peers' answers given (the put at most 5 µs); and
//! what a digest of a view costs at one end, beside encoding the view itself.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use clock::{Actor, CausalContext, ClusterSecret, NodeId, Stamp};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use replication::{
    AntiEntropyConfig, Body, BucketPolicy, Call, CallId, Core, CoreConfig, Effect, Event,
    KeptCommits, Message, Now, PolicyTable, Request, ViewDigest,
};
use ring::{Member, Ownership, PartitionCount, Ring};
use storage::{Answer, ShardSet, Shards, Ticket};
use values::{BytesOp, Delta, Key, Limits, Mint, Operation, Scope, Value, View};

const ME: NodeId = NodeId(1);
const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

fn core() -> Core {
    let config = CoreConfig {
        node: ME,
        core: 0,
        shards: ShardSet::all(Shards::new(PartitionCount::new(4_096).expect("a power of two"), 1)),
        anti_entropy: AntiEntropyConfig::OFF,
        incarnation: 1,
        names: BTreeMap::new(),
        secret: ClusterSecret::new(*b"benchmark"),
        default_policy: BucketPolicy::default(),
        policies: PolicyTable::default(),
        commits: KeptCommits::default(),
        limits: Limits::default(),
        timeout_ms: 2_000,
        cover_ms: 100,
        requests_max: 1_000,
        deliveries_max: 16,
    };
    let members = [ME, PEERS[0], PEERS[1]].map(Member::new);
    let partitions = PartitionCount::new(4_096).expect("a power of two");
    let ring = Ring::place(&members, partitions, 3, None).expect("three nodes").ring;
    let mut core = Core::new(config, Arc::new(Ownership::new(ring)));
    let mut effects = Vec::new();
    for peer in PEERS {
        core.step(now(0), Event::LinkUp(peer), &mut effects);
    }
    for effect in std::mem::take(&mut effects) {
        if let Effect::Storage { ticket, .. } = effect {
            let answer = Answer::Outbox(Vec::new());
            core.step(now(0), Event::Storage { ticket, answer }, &mut effects);
        }
    }
    core
}

const fn now(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, wall_ms: 1_700_000_000_000 + monotonic_ms }
}

fn key() -> Key {
    Key::new("default", "key:000000000001").expect("a short name")
}

/// A put of so many bytes, its delta, and the view after it.
fn put(bytes: usize) -> (Operation, Delta, View) {
    let operation = Operation::Bytes(BytesOp::Put(Bytes::from(vec![7; bytes])));
    let mint = Mint { actor: Actor::new(ME, 7, 0), stamp: Stamp(1), round: None };
    let prepared = operation
        .prepare(&View::default(), &CausalContext::default(), mint, &Limits::default())
        .expect("within the limits");
    let mut value = Value::default();
    value.apply(&prepared.delta);
    (operation, prepared.delta, View::of(value))
}

fn ticket(effects: &[Effect]) -> Ticket {
    let ticket = effects.iter().find_map(|effect| match effect {
        Effect::Storage { ticket, .. } => Some(*ticket),
        _ => None,
    });
    ticket.expect("a command for the engine")
}

/// Answers every message of `effects`.
fn answer(core: &mut Core, effects: &mut Vec<Effect>, body: impl Fn() -> Body) {
    for effect in std::mem::take(effects) {
        if let Effect::Send { to, message } = effect {
            let message = Message { body: body(), budget_ms: 0, ..message };
            core.step(now(1), Event::Received { from: to, message }, effects);
        }
    }
}

fn coordinate(c: &mut Criterion) {
    let mut group = c.benchmark_group("coordinator/without input and output, n=3");
    let (operation, delta, view) = put(100);
    let mut core = core();
    let mut number = 0;
    let mut effects = Vec::new();
    group.bench_function("put 100 bytes", |b| {
        b.iter_batched(
            || {
                number += 1;
                let call = Call::Request(Request::update(key(), operation.clone()));
                let (delta, view) = (delta.clone(), view.clone());
                let prepared = Answer::Prepared {
                    delta,
                    changed: 1,
                    repeated: false,
                    partial: false,
                    is_here: true,
                    minted: None,
                    view,
                };
                (Event::Call { id: CallId(number), call }, prepared)
            },
            |(call, answer_made)| {
                effects.clear();
                core.step(now(0), call, &mut effects);
                let ticket = ticket(&effects);
                effects.clear();
                core.step(now(0), Event::Storage { ticket, answer: answer_made }, &mut effects);
                answer(&mut core, &mut effects, || Body::Merged(Ok(None)));
                let answer = Answer::Durable;
                core.step(now(1), Event::Storage { ticket, answer }, &mut effects);
                assert!(matches!(effects[..], [Effect::Reply { reply: Ok(_), .. }]));
                black_box(&effects);
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("get 100 bytes", |b| {
        b.iter_batched(
            || {
                number += 1;
                let call = Call::Request(Request::get(key(), Scope::Headers));
                (Event::Call { id: CallId(number), call }, view.clone())
            },
            |(call, shown)| {
                effects.clear();
                core.step(now(0), call, &mut effects);
                let ticket = ticket(&effects);
                let mut asked = std::mem::take(&mut effects);
                let shown = Answer::View(shown);
                core.step(now(0), Event::Storage { ticket, answer: shown }, &mut effects);
                answer(&mut core, &mut asked, || Body::Shown(Ok(view.clone())));
                assert!(matches!(asked[..], [Effect::Reply { reply: Ok(_), .. }]));
                black_box(&asked);
            },
            BatchSize::SmallInput,
        );
    });
    assert_eq!(core.under_way(), 0);
    group.finish();
}

fn digest(c: &mut Criterion) {
    let mut group = c.benchmark_group("coordinator/a view shown");
    for bytes in [16_usize, 64, 256, 1_024, 16_384] {
        let (_, _, view) = put(bytes);
        let encoded = clock::encode(&view);
        group.bench_function(BenchmarkId::new("digest", bytes), |b| {
            b.iter(|| black_box(ViewDigest::of(black_box(&view))));
        });
        group.bench_function(BenchmarkId::new("encode", bytes), |b| {
            b.iter(|| black_box(clock::encode(black_box(&view))));
        });
        group.bench_function(BenchmarkId::new("decode and compare", bytes), |b| {
            b.iter(|| black_box(clock::decode::<View>(black_box(&encoded)).as_ref() == Ok(&view)));
        });
    }
    group.finish();
}

criterion_group!(benches, coordinate, digest);
criterion_main!(benches);
