//! Cost of causality. Every put compares contexts and every merge joins them, so at three actors
//! (a key's usual number) both must stay far below a microsecond, and grow no worse than the
//! number of actors. Beside them: `crdts` 7.3.2 compares 3 / 10 / 100 actors in 24 / 70 / 1,150 ns
//! and merges them in 33 / 81 / 1,500 ns on the machine of its measurement, with 8-byte actors
//! where ours have 20.

use std::hint::black_box;

use clock::{
    Actor, CausalContext, ClusterSecret, ContextToken, Dot, NodeId, Stamp, TokenClaims, TokenScope,
    VersionVector,
};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

/// Replicas of a key; the same over some restarts; a key that has outlived many.
const ACTORS: [u64; 3] = [3, 10, 100];

fn vector(actors: u64, counter_of_last: u64) -> VersionVector {
    let entries = (0..actors).map(|number| {
        let counter = if number + 1 == actors { counter_of_last } else { 1_000 };
        (Actor::new(NodeId(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)), number, 0), counter)
    });
    entries.collect()
}

/// Nanoseconds to tell that two versions are concurrent, the case that needs both directions.
fn compare(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock/compare");
    for actors in ACTORS {
        let mut left = vector(actors, 1_000);
        let right = vector(actors, 1_001);
        left.advance(Actor::new(NodeId(u64::MAX), 0, 0), 1);
        let pair = (left, right);
        group.bench_with_input(BenchmarkId::from_parameter(actors), &pair, |b, (left, right)| {
            b.iter(|| black_box(left).compare(black_box(right)));
        });
    }
    group.finish();
}

/// Nanoseconds to join two vectors, a copy of the left one included.
fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock/merge");
    for actors in ACTORS {
        let pair = (vector(actors, 1_000), vector(actors, 1_001));
        group.bench_with_input(BenchmarkId::from_parameter(actors), &pair, |b, (left, right)| {
            b.iter_batched_ref(
                || left.clone(),
                |joined| joined.merge(black_box(right)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Nanoseconds for a replica to take note of a delta's one dot: paid by every merge of a delta.
fn join_a_dot(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock/join_a_dot");
    for actors in ACTORS {
        let last = vector(actors, 1_000).iter().last().expect("at least one actor").0;
        let mut context = CausalContext::from(vector(actors, 1_000));
        let mut counter = 1_000;
        group.bench_function(BenchmarkId::from_parameter(actors), |b| {
            b.iter(|| {
                counter += 1;
                let delta: CausalContext = [Dot::new(last, counter)].into_iter().collect();
                context.merge(black_box(&delta));
            });
        });
    }
    group.finish();
}

/// Nanoseconds to make and to check a context token: paid once by each HTTP answer and put.
fn token(c: &mut Criterion) {
    let secret = ClusterSecret::new("secret");
    let scope = TokenScope { bucket: b"default", generation: 0, key: b"cart", tag: 1 };
    let mut group = c.benchmark_group("clock/token");
    for actors in ACTORS {
        let context = vector(actors, 1_000).into();
        let claims = TokenClaims { context, time: Stamp::from_millis(1_700_000_000_000) };
        let sealed = ContextToken::seal(&secret, scope, &claims);
        group.bench_function(BenchmarkId::new("seal", actors), |b| {
            b.iter(|| ContextToken::seal(&secret, scope, black_box(&claims)));
        });
        group.bench_function(BenchmarkId::new("open", actors), |b| {
            b.iter(|| black_box(&sealed).open(&secret, scope));
        });
    }
    group.finish();
}

criterion_group!(benches, compare, merge, join_a_dot, token);
criterion_main!(benches);
