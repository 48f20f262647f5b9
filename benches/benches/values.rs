//! Cost of values: making and merging the delta of one operation, merging whole states, encoding.
//!
//! The number that matters is `update` at 100,000 elements: at most three times that at 10, for
//! every collection, or large sets are not usable. Whole merges and encodings are linear by
//! nature; they are paid by transfers only. Beside them: `crdts` 7.3.2 merges two equal sets of
//! 100,000 in 85 ms and encodes one in 11 ms on the machine of its measurement.

use std::hint::black_box;

use clock::{Actor, CausalContext, Dot, NodeId, Stamp};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use values::{
    Blob, BytesOp, CartOp, Causal, CounterOp, CounterState, DotFun, GsetOp, Limits, MapOp, Mint,
    Operation, OrsetOp, Register, RegisterOp, Scope, Sibling, State, Tag, Tally, Value, View,
    empty_collection, entry_row, identifier, insert_row, is_collection,
};

/// Elements of a collection, siblings of a raw value, actors of a counter or register.
const SIZES: [u64; 4] = [1, 10, 1_000, 100_000];
const WRITER: Actor = Actor::new(NodeId(1), 1, 0);

fn limits() -> Limits {
    Limits { siblings: usize::MAX, elements_per_operation: usize::MAX, ..Limits::default() }
}

/// Sixteen bytes, like the members of most sets.
fn name(number: u64) -> Blob {
    format!("element {number:08}").into()
}

fn prepare(operation: &Operation, view: &View) -> values::Delta {
    let mint = Mint { actor: WRITER, stamp: Stamp::from_millis(1), round: None };
    let prepared = operation.prepare(view, &CausalContext::default(), mint, &limits());
    prepared.expect("within limits").delta
}

fn of_many_actors(size: u64) -> (Tally, CausalContext) {
    let (mut tally, mut context) = (Tally::default(), CausalContext::default());
    for number in 0..size {
        let dot = Dot::new(Actor::new(NodeId(number), number, 0), 1);
        tally.merge(&Tally::default().incremented(dot, 1, None));
        context.insert(dot);
    }
    (tally, context)
}

fn value(tag: Tag, size: u64) -> Value {
    let mut value = Value::default();
    let names = || (0..size).map(name);
    let operation = match tag {
        Tag::BYTES => {
            let sibling = |number| Sibling { value: name(number), stamp: Stamp(1) };
            let siblings = (0..size).map(|n| (Dot::new(WRITER, n + 1), sibling(n)));
            let store = DotFun(siblings.collect());
            let context = store.0.keys().copied().collect();
            value.0.insert(tag, State::Bytes(Causal { store, context }));
            return value;
        }
        Tag::LWW => {
            let (tally, context) = of_many_actors(size);
            value.0.insert(tag, State::Register(Register { base: None, tally, context }));
            return value;
        }
        Tag::COUNTER => {
            let (tally, context) = of_many_actors(size);
            value.0.insert(tag, State::Counter(CounterState { tally, context }));
            return value;
        }
        Tag::CART => {
            for item in names() {
                let add = Operation::Cart(CartOp::Add { item, quantity: 1 });
                value.apply(&prepare(&add, &header(&value, tag)));
            }
            return value;
        }
        Tag::GSET => Operation::Gset(GsetOp::Add(names().collect())),
        Tag::ORSET => Operation::Orset(OrsetOp::Add(names().collect())),
        _ => Operation::Map(MapOp::Set(names().map(|field| (field.clone(), field)).collect())),
    };
    value.apply(&prepare(&operation, &View::default()));
    value
}

/// One operation on the first element.
fn operation(tag: Tag) -> Operation {
    let first = name(0);
    match tag {
        Tag::BYTES => Operation::Bytes(BytesOp::Put(first)),
        Tag::LWW => Operation::Register(RegisterOp::Increment(1)),
        Tag::GSET => Operation::Gset(GsetOp::Add(vec![first])),
        Tag::COUNTER => Operation::Counter(CounterOp::Add(1)),
        Tag::ORSET => Operation::Orset(OrsetOp::Add(vec![first])),
        Tag::CART => Operation::Cart(CartOp::SetQuantity { item: first, quantity: 2 }),
        _ => Operation::Map(MapOp::Set(vec![(first.clone(), first)])),
    }
}

fn header(value: &Value, tag: Tag) -> View {
    let context = value.context(tag).clone();
    View { value: Value::from([(tag, empty_collection(tag, context))]), ..View::default() }
}

/// What storage shows an operation: of a collection, the header and the rows named.
fn show(value: &Value, operation: &Operation, tag: Tag) -> View {
    let Some(state) = value.state(tag).filter(|_| is_collection(tag)) else {
        return View { value: value.clone(), ..View::default() };
    };
    let mut view = header(value, tag);
    if let (Scope::Elements { elements, .. }, Some(shown)) =
        (operation.scope(), view.value.0.get_mut(&tag))
    {
        for element in elements {
            if let Some(row) = entry_row(state, &element) {
                let none = CausalContext::default();
                insert_row(shown, element, &row, &none).expect("a row just encoded");
            }
        }
    }
    view
}

/// Microseconds to prepare one operation and apply its delta. Of collections it must not grow
/// with the size by more than the depth of a tree.
fn update(c: &mut Criterion) {
    for tag in Tag::KNOWN {
        let mut group = c.benchmark_group(format!("values/update/{tag}"));
        for size in SIZES {
            let (mut value, operation) = (value(tag, size), operation(tag));
            // A put replaces the sibling of the same value, so the size stays.
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let delta = prepare(&operation, &show(&value, &operation, tag));
                    value.apply(black_box(&delta));
                });
            });
        }
        group.finish();
    }
}

/// Time to merge a replica's whole state that differs in one element: what a transfer pays.
fn merge(c: &mut Criterion) {
    for tag in Tag::KNOWN {
        let mut group = c.benchmark_group(format!("values/merge/{tag}"));
        group.sample_size(10);
        for size in SIZES {
            let mine = value(tag, size);
            let mut theirs = mine.clone();
            let operation = operation(tag);
            theirs.apply(&prepare(&operation, &show(&theirs, &operation, tag)));
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter_batched_ref(
                    || mine.clone(),
                    |mine| mine.merge(black_box(&theirs)),
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

/// Time and bytes of a whole state's encoding: what a transfer and a stored header cost.
fn codec(c: &mut Criterion) {
    for tag in Tag::KNOWN {
        let mut group = c.benchmark_group(format!("values/codec/{tag}"));
        group.sample_size(10);
        for size in SIZES {
            let value = value(tag, size);
            let bytes = clock::encode(&value);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new("encode", size), |b| {
                b.iter(|| clock::encode(black_box(&value)));
            });
            group.bench_function(BenchmarkId::new("decode", size), |b| {
                b.iter(|| clock::decode::<Value>(black_box(&bytes)));
            });
        }
        group.finish();
    }
}

/// From the bytes of a key to its point on the ring: paid wherever a key is made or read.
fn key(c: &mut Criterion) {
    c.bench_function("values/identifier", |b| {
        b.iter(|| identifier(black_box(b"carts"), black_box(b"customer-17850")));
    });
}

criterion_group!(benches, key, update, merge, codec);
criterion_main!(benches);
