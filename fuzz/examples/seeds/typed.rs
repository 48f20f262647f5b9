//! Values of every type, as operations make them, and contexts.

use clock::{
    Actor, CausalContext, ClusterSecret, ContextToken, NodeId, RingId, Round, Stamp, TokenClaims,
    TokenScope,
};
use merganser_fuzz::join_parts;
use values::{
    BytesOp, CartOp, CounterOp, Deadline, Delta, ExpiryOp, GsetOp, Key, Limits, MapOp, Mint,
    Operation, OrsetOp, RegisterOp, Scope, Tag, Value, View,
};

use crate::Seeds;

pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

/// Operations of every type.
pub(crate) fn operations() -> Vec<Operation> {
    let set =
        |value: &'static [u8]| RegisterOp::Set { value: value.into(), at: None, replace: true };
    let names = |names: &[&'static str]| names.iter().map(|name| (*name).into()).collect();
    vec![
        Operation::Bytes(BytesOp::Put("milk".into())),
        Operation::Bytes(BytesOp::Delete),
        Operation::Register(set(b"41")),
        Operation::Register(RegisterOp::Increment(1)),
        Operation::Gset(GsetOp::Add(names(&["a", "b"]))),
        Operation::Counter(CounterOp::Add(5)),
        Operation::Counter(CounterOp::Reset),
        Operation::Orset(OrsetOp::Add(names(&["a", "b", "c"]))),
        Operation::Orset(OrsetOp::Remove(names(&["b"]))),
        Operation::Cart(CartOp::Add { item: "book".into(), quantity: 2 }),
        Operation::Cart(CartOp::SetQuantity { item: "book".into(), quantity: 1 }),
        Operation::Map(MapOp::Set(vec![("name".into(), "ann".into())])),
        Operation::Map(MapOp::Increment { field: "visits".into(), by: 3 }),
        Operation::Map(MapOp::Remove(names(&["visits"]))),
        Operation::Expiry(ExpiryOp::Set { deadline: Deadline::In(60_000), only_if: None }),
        Operation::Resolve(Tag::MAP),
        Operation::Delete(None),
    ]
}

/// What each operation, done at two replicas one after the other, makes of a key.
pub(crate) fn deltas() -> Vec<(Operation, Delta, Value)> {
    let mut made = Vec::new();
    for operation in operations() {
        let mut value = Value::default();
        for node in [1, 2] {
            // What a removal is to remove.
            let before = operations().into_iter().find(|it| it.tag() == operation.tag());
            for operation in
                [before.unwrap_or(Operation::Counter(CounterOp::Add(1))), operation.clone()]
            {
                let mint = Mint {
                    actor: Actor::new(NodeId(node), 77, node),
                    stamp: Stamp::from_millis(WALL_MS + node),
                    round: None,
                };
                let view = View::of(value.clone());
                let seen = CausalContext::default();
                let Ok(prepared) = operation.prepare(&view, &seen, mint, &Limits::default()) else {
                    continue;
                };
                value.apply(&prepared.delta);
                made.push((operation.clone(), prepared.delta, value.clone()));
            }
        }
    }
    made.extend(folded());
    made
}

/// Increments with names, of which the second folds the first.
fn folded() -> Vec<(Operation, Delta, Value)> {
    let mut value = Value::default();
    let operation = Operation::Counter(CounterOp::Add(1));
    let made = [(1, 1), (2, 9), (3, 9)].map(|(name, number)| {
        let mint = Mint {
            actor: Actor::named(name, 1, 1),
            stamp: Stamp::from_millis(WALL_MS),
            round: Some(Round { ring: RingId(7), number }),
        };
        let (view, seen) = (View::of(value.clone()), CausalContext::default());
        let prepared = operation.prepare(&view, &seen, mint, &Limits::default());
        let delta = prepared.expect("an increment is taken").delta;
        value.apply(&delta);
        (operation.clone(), delta, value.clone())
    });
    made.into()
}

pub(crate) fn values() -> Seeds {
    let mut seeds = Seeds::new();
    let deltas = deltas();
    for (at, three) in deltas.windows(3).enumerate().step_by(4) {
        let name = three[2].0.name().replace(' ', "-");
        let [a, b, c] = [0, 1, 2].map(|at| clock::encode(&three[at].2));
        seeds.insert(format!("{at:02}-values-{name}"), join_parts(&[&[0], &a, &b, &c]));
        let [a, b, c] = [0, 1, 2].map(|at| clock::encode(&three[at].1));
        seeds.insert(format!("{at:02}-deltas-{name}"), join_parts(&[&[1, 60], &a, &b, &c]));
    }
    let key = clock::encode(&Key::new("default", "cart").expect("it is short"));
    let scope = Scope::Range { tag: Tag::ORSET, after: Some("a".into()), limit: 10 };
    seeds.insert("key".into(), join_parts(&[&[2], &key, &clock::encode(&scope), &[]]));
    seeds
}

pub(crate) fn contexts() -> [CausalContext; 3] {
    let (a, b) = (Actor::new(NodeId(u64::MAX), u64::MAX, 0), Actor::named(3, 4, 5));
    let mut vector = CausalContext::default();
    vector.insert_range(a, 1, 300);
    let mut cloud = vector.clone();
    cloud.insert_range(a, 400, 410);
    cloud.insert_range(b, 2, 2);
    [CausalContext::default(), vector, cloud]
}

pub(crate) fn tokens() -> Seeds {
    let mut seeds = Seeds::new();
    let secret = ClusterSecret::new("quack");
    let scope = TokenScope { bucket: b"default", generation: 0, key: b"cart", tag: 1 };
    let [none, vector, cloud] = contexts();
    for (name, context) in [("none", &none), ("vector", &vector), ("cloud", &cloud)] {
        let claims = TokenClaims { context: context.clone(), time: Stamp::from_millis(WALL_MS) };
        let token = ContextToken::seal(&secret, scope, &claims);
        seeds.insert(format!("token-{name}"), token.as_str().into());
        seeds.insert(format!("claims-{name}"), join_parts(&[&clock::encode(&claims), &[]]));
    }
    let two = [&vector, &cloud].map(clock::encode);
    seeds.insert("contexts".into(), join_parts(&[&two[0], &two[1]]));
    let two = [&vector, &cloud].map(|context| clock::encode(context.vector()));
    seeds.insert("vectors".into(), join_parts(&[&two[0], &two[1]]));
    seeds
}
