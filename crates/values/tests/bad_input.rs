//! Bytes from outside and states that no honest replica makes: decoding refuses them or not, but
//! nothing panics, whatever is then merged, shown, repaired, written over or encoded again.

#[path = "support/history.rs"]
mod history;
#[path = "support/model.rs"]
mod model;
#[path = "support/replica.rs"]
mod replica;

use std::collections::BTreeMap;

use clock::{Actor, CausalContext, Dot, NodeId, RingId, Round, Stamp};
use history::{scopes, show_both, world};
use proptest::{collection::vec, prelude::*};
use replica::{Replica, show};
use values::{
    Blob, CartOp, Causal, CounterOp, Delta, DotFun, DotMap, Key, MapOp, Operation, RegisterOp,
    State, Tag, Value, View, join_row,
};

/// Does with two values what a replica does with what peers send.
fn exercise(one: &Value, other: &Value) {
    let mut joined = one.clone();
    joined.merge(other);
    joined.apply(&Delta::whole(other.clone()));
    let mut delta = Delta::whole(one.clone());
    delta.merge(&Delta::whole(other.clone()));
    joined.apply(&delta);
    for (&tag, state) in &other.0 {
        for name in Delta::of(tag, state.clone()).named_elements(tag) {
            let row = values::entry_row(state, &name);
            let context = one.context(tag);
            let _ = join_row(tag, row.as_deref(), context, context, state, &name);
        }
    }
    for scope in scopes() {
        let view = show_both(one, other, &scope);
        let _ = (view.repair(&show(one, &scope)), view.live_tags(), view.siblings());
    }
    let mut writer = Replica::new(1);
    writer.value = joined;
    let name = Blob::from_static(b"a");
    for operation in [
        Operation::Register(RegisterOp::Increment(i64::MAX)),
        Operation::Register(RegisterOp::Set { value: name.clone(), at: None, replace: true }),
        Operation::Counter(CounterOp::Add(i64::MIN)),
        Operation::Counter(CounterOp::Reset),
        Operation::Cart(CartOp::Add { item: name.clone(), quantity: u64::MAX }),
        Operation::Cart(CartOp::SetQuantity { item: name.clone(), quantity: 1 }),
        Operation::Map(MapOp::Increment { field: name.clone(), by: i64::MIN }),
        Operation::Map(MapOp::Set(vec![(name, Blob::new())])),
        Operation::Resolve(Tag::COUNTER),
        Operation::Delete(None),
    ] {
        let _ = writer.put(&operation, &CausalContext::default());
    }
    assert_eq!(clock::decode::<Value>(&clock::encode(&writer.value)), Ok(writer.value));
}

/// Small numbers, and those at which arithmetic breaks.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..4, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_decoding_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        let _ = clock::decode::<Delta>(&bytes);
        let _ = clock::decode::<View>(&bytes);
        let _ = clock::decode::<Operation>(&bytes);
        let _ = clock::decode::<Key>(&bytes);
        if let Ok(value) = clock::decode::<Value>(&bytes) {
            exercise(&value, &Value::default());
        }
    }

    #[test]
    fn mutated_states_of_real_histories_merge_without_panic(
        world in world(), at: prop::sample::Index, byte: u8, more: Option<u8>,
    ) {
        let [one, other] = [0, 1].map(|replica: usize| &world.replicas[replica].0.value);
        let mut bytes = clock::encode(other);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Some(more) = more {
            bytes.insert(place, more);
        }
        if let Ok(garbage) = clock::decode::<Value>(&bytes) {
            exercise(one, &garbage);
            exercise(&garbage, one);
        }
    }

    /// Well-formed, but with counters, stamps and totals at the ends of their ranges.
    #[test]
    fn states_at_the_ends_of_all_ranges_merge_without_overflow(numbers in vec(edge(), 40)) {
        let mut numbers = numbers.into_iter().cycle();
        let mut next = || numbers.next().expect("a cycle does not end");
        let mut values = [Value::default(), Value::default()];
        for value in &mut values {
            let actor = Actor::new(NodeId(next() % 2), 7_001, 0);
            let dot = Dot::new(actor, next().max(1));
            let mut context = CausalContext::default();
            context.insert_range(actor, next(), next());
            let adds = DotFun(BTreeMap::from([(dot, next()), (Dot::new(actor, next().max(1)), next())]));
            let cart = DotMap(BTreeMap::from([(Blob::from_static(b"a"), adds)]));
            value.0.insert(Tag::CART, State::Cart(Causal { store: cart, context: context.clone() }));
            // A tally's parts are private: it is made as a peer would send it.
            let totals = (next(), u128::from(next()) << 64, u128::MAX - u128::from(next()));
            let made = (next() < 2).then(|| Round { ring: RingId(next() % 2), number: next() });
            let entry = (totals, (next(), 0_u128, u128::from(next())), made);
            let mut folded = || (next(), u128::MAX - u128::from(next()), u128::from(next()));
            let sum = (1_u64, folded(), folded());
            let tally = (BTreeMap::from([(actor, entry)]), BTreeMap::from([(RingId(0), sum)]));
            let base = Some((Stamp(next()), dot, Some(Blob::from_static(b"9223372036854775807"))));
            let register = clock::encode(&(base, &tally, &context));
            value.0.insert(Tag::LWW, State::Register(clock::decode(&register).unwrap()));
            let counter = clock::encode(&(&tally, &context));
            value.0.insert(Tag::COUNTER, State::Counter(clock::decode(&counter).unwrap()));
        }
        let [one, other] = &values;
        exercise(one, other);
        let (mut left, mut right) = (one.clone(), other.clone());
        left.merge(other);
        right.merge(one);
        prop_assert_eq!(left, right, "even then it commutes");
    }
}

/// A value as another build might send it: pairs of a tag and that tag's bytes.
fn sent(pairs: &[(u8, &[u8])]) -> Vec<u8> {
    let pairs: Vec<(Tag, Blob)> =
        pairs.iter().map(|&(tag, bytes)| (Tag(tag), Blob::copy_from_slice(bytes))).collect();
    clock::encode(&pairs)
}

fn set_of(node: u64, name: &'static str) -> Causal<DotMap<DotFun<()>>> {
    let dot = Dot::new(Actor::new(NodeId(node), node, 0), 1);
    let store = DotMap([(Blob::from_static(name.as_bytes()), DotFun([(dot, ())].into()))].into());
    Causal { store, context: [dot].into_iter().collect() }
}

/// A change of these bytes is a change of every message and record: it needs another version.
#[test]
fn a_value_is_ascending_pairs_of_a_tag_and_its_bytes() {
    let set = State::Orset(set_of(2, "x"));
    let unknown = State::Opaque([Blob::from_static(b"q"), Blob::from_static(b"later")].into());
    let value = Value::from([(Tag(200), unknown), (Tag::ORSET, set)]);
    let expected: &[u8] = &[
        1, 3, // encoding, pairs
        5, 16, 1, 1, 1, b'x', 1, 2, 2, 0, 1, 1, 2, 2, 0, 1, 0, 0, // orset
        200, 5, b'l', b'a', b't', b'e', b'r', // unknown
        200, 1, b'q', // unknown
    ];
    assert_eq!(clock::encode(&value), expected);
    assert_eq!(clock::decode(expected), Ok(value));
}

#[test]
fn pairs_out_of_order_doubled_or_of_malformed_states_are_refused() {
    let set = clock::encode(&set_of(1, "x"));
    let trailing = [set.as_slice(), &[0]].concat();
    let good: &[(u8, &[u8])] = &[(Tag::GSET.0, &set), (Tag::ORSET.0, &set), (200, b"q")];
    assert!(clock::decode::<Value>(&sent(good)).is_ok());
    let bad: [&[(u8, &[u8])]; 8] = [
        &[(Tag::ORSET.0, &set), (Tag::GSET.0, &set)],
        &[(Tag::ORSET.0, &set), (Tag::ORSET.0, &set)],
        &[(200, b"q"), (200, b"q")],
        &[(200, b"q"), (200, b"later")],
        &[(200, b"q"), (Tag::ORSET.0, &set)],
        &[(Tag::ORSET.0, &trailing)],
        &[(Tag::ORSET.0, &set[..set.len() - 1])],
        &[(Tag::COUNTER.0, b"")],
    ];
    for pairs in bad {
        assert!(clock::decode::<Value>(&sent(pairs)).is_err(), "{pairs:?}");
    }
}

/// No replica writes either: one would be a state in which nothing was written, kept; the other is gone
/// from every join as soon as it is there.
#[test]
fn an_element_without_a_dot_is_nothing_and_a_dot_of_no_write_is_refused() {
    let mut held = Value::default();
    let bare = DotMap(BTreeMap::from([(Blob::from_static(b"x"), DotFun::<()>::default())]));
    let nothing = clock::encode(&Causal { store: bare, context: CausalContext::default() });
    held.merge(&clock::decode(&sent(&[(Tag::ORSET.0, &nothing)])).unwrap());
    assert_eq!(held, Value::default());

    let mut set = set_of(1, "x");
    let dot = Dot::new(Actor::new(NodeId(1), 7, 0), 0);
    set.store = DotMap(BTreeMap::from([(Blob::from_static(b"x"), DotFun([(dot, ())].into()))]));
    assert!(clock::decode::<Value>(&sent(&[(Tag::ORSET.0, &clock::encode(&set))])).is_err());
}

#[test]
fn what_a_node_joined_unread_a_node_that_knows_the_type_joins_itself() {
    let (one, other) = (clock::encode(&set_of(1, "x")), clock::encode(&set_of(2, "y")));
    let pairs: [(u8, &[u8]); 2] = [(Tag::ORSET.0, &one), (Tag::ORSET.0, &other)];
    let mut joined = set_of(1, "x");
    joined.merge(&set_of(2, "y"));
    let expected = Value::from([(Tag::ORSET, State::Orset(joined))]);
    assert_eq!(clock::decode::<Value>(&sent(&pairs)), Ok(expected));
}

#[test]
fn messages_with_an_unknown_type_beside_known_ones_are_read() {
    let unknown = |bytes: &'static [u8]| State::Opaque([Blob::from_static(bytes)].into());
    let known = (Tag::ORSET, State::Orset(set_of(1, "x")));
    let value = Value::from([known, (Tag(200), unknown(b"one"))]);
    let delta = Delta { value: value.clone(), ..Delta::default() };
    assert_eq!(clock::decode(&clock::encode(&delta)), Ok(delta.clone()));
    let view = View::of(value);
    assert_eq!(clock::decode(&clock::encode(&view)), Ok(view));
    // Joined deltas of what nobody here can read name no elements, so they touch all.
    let mut both = delta.clone();
    both.merge(&Delta::of(Tag(200), unknown(b"two")));
    assert!(both.touches_everything(Tag(200)) && !delta.touches_everything(Tag(200)));
}

#[test]
fn a_delta_of_nothing_leaves_no_trace() {
    let nothing = Value::from([(Tag::ORSET, State::bottom(Tag::ORSET))]);
    let mut value = Value::default();
    value.apply(&Delta { value: nothing.clone(), ..Delta::default() });
    value.merge(&nothing);
    assert_eq!(value, Value::default());
}

#[test]
fn a_type_of_a_later_version_is_carried_and_joined_unread() {
    let carried = |bytes: &'static [u8]| {
        Value::from([(Tag(200), State::Opaque([Blob::from_static(bytes)].into()))])
    };
    let mut value = carried(b"one");
    value.merge(&carried(b"two"));
    value.merge(&carried(b"one"));
    let both = [Blob::from_static(b"one"), Blob::from_static(b"two")];
    assert_eq!(value.state(Tag(200)), Some(&State::Opaque(both.into())));
    assert_eq!(clock::decode::<Value>(&clock::encode(&value)), Ok(value.clone()));
    assert_eq!(View::of(value).live_tags(), [Tag(200)]);
}

/// A count of entries is no reason to make room for them.
#[test]
fn a_count_that_nothing_follows_takes_no_memory() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    for empty in [clock::encode(&View::default()), clock::encode(&Delta::default())] {
        // The version of the encoding, the states, and then the map.
        let bytes = [&empty[..2], &huge, &empty[3..]].concat();
        assert!(clock::decode::<View>(&bytes).is_err());
        assert!(clock::decode::<Delta>(&bytes).is_err());
    }
}
