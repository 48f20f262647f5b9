//! Cost of routing one key. Every request pays for `owners`, and for `preference_list` when an
//! owner is away; neither may grow noticeably with the cluster for n = 3. Target: `owners` well
//! under 200 ns at a hundred nodes.

use std::hint::black_box;

use clock::NodeId;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ring::{Member, PartitionCount, Ring, Token};

/// Sizes of a small, a middling and a large cluster.
const NODES: [u64; 3] = [3, 30, 300];

fn members(nodes: u64) -> Vec<Member> {
    (1..=nodes).map(|id| Member::new(NodeId(id))).collect()
}

fn ring_of(nodes: u64) -> Ring {
    Ring::place(&members(nodes), PartitionCount::default(), 3, None).expect("distinct members").ring
}

/// Tokens spread over the ring, so that no walk finds its partitions in the nearest cache.
fn tokens() -> impl FnMut() -> Token {
    let mut token = 0_u128;
    move || {
        token = token.wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        Token(token)
    }
}

fn owners(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/owners");
    for nodes in NODES {
        group.bench_with_input(BenchmarkId::from_parameter(nodes), &ring_of(nodes), |b, ring| {
            let mut token = tokens();
            b.iter(|| {
                let partition = ring.partition(black_box(token()));
                ring.owners(partition, 3).for_each(|owner| {
                    black_box(owner);
                });
            });
        });
    }
    group.finish();
}

fn preference_list(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/preference_list");
    for nodes in NODES {
        group.bench_with_input(BenchmarkId::from_parameter(nodes), &ring_of(nodes), |b, ring| {
            let mut token = tokens();
            b.iter(|| ring.preference_list(ring.partition(black_box(token()))));
        });
    }
    group.finish();
}

/// A join to 3, 30 and 300 nodes; paid once per change of membership.
fn place(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/place_a_join");
    for nodes in NODES {
        let before = ring_of(nodes);
        let members = members(nodes + 1);
        group.bench_with_input(BenchmarkId::from_parameter(nodes), &before, |b, before| {
            b.iter(|| Ring::place(&members, before.partition_count(), 3, Some(before)));
        });
    }
    group.finish();
}

criterion_group!(benches, owners, preference_list, place);
criterion_main!(benches);
