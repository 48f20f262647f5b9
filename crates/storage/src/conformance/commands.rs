//! What an engine answers must not depend on what is under it, nor on what of it is in the index already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::{CausalContext, NodeId, Stamp};
use ring::PartitionCount;
use values::{
    Blob, BytesOp, CartOp, CounterOp, Delta, GsetOp, Key, Lifetime, MapOp, Operation, OrsetOp,
    RegisterOp, Scope, State, Tag, Value, View, is_collection,
};

use crate::{
    Answer, Command, Durability, EngineBounds, EngineConfig, Files, IndexRead, IndexWrite,
    ShardSet, Shards, SingleEngine, Ticket,
};

/// When what an engine did is brought into the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After each command: all that is read then is read from the index alone.
    EachCommand,
    /// Never, but by the log at a start: all is read from memory.
    Never,
    /// Now and then, as in a node: of most keys a part is in memory, over what is in the index.
    NowAndThen,
}

impl Pace {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EachCommand, Self::Never, Self::NowAndThen];
}

/// Commands between two checkpoints made now and then, and between two starts.
const CHECKPOINT_EVERY: usize = 7;
const START_EVERY: usize = 90;

/// Commands of a run.
const COMMANDS: usize = 600;

/// Elements there are names for: enough for element trees.
const NAMES: u64 = 60;

/// How engines are configured that are checked: `process` as the shell draws it.
fn config(process: u64) -> EngineConfig {
    let partitions = PartitionCount::new(16).expect("a power of two");
    EngineConfig {
        node: NodeId(1),
        process,
        shards: ShardSet::all(Shards::new(partitions, 4)),
        pending_bytes_max: 1 << 30,
        hint_bytes_max: u64::MAX,
        bounds: EngineBounds::default(),
    }
}

/// Checks that an engine shows the join of all deltas that it made, whatever their types, in whole and in pages, with its hash
/// trees as a full scan has them, also after starts. `open` opens the same data at each call; nothing of an earlier one is open
/// then.
///
/// # Panics
/// When it does not.
pub fn check_commands<F: Files, R: IndexRead, W: IndexWrite>(
    mut open: impl FnMut(EngineConfig) -> SingleEngine<F, R, W>,
    pace: Pace,
) {
    let keys = ["a", "b", "c"].map(|name| Key::new("conformance", name).expect("short names"));
    let mut model: BTreeMap<&Key, Value> = BTreeMap::new();
    let (mut random, mut starts) = (1, 1);
    let mut engine = open(config(starts));
    for step in 1..=COMMANDS {
        let key = &keys[below(&mut random, 3) as usize];
        let known = model.entry(key).or_default();
        if let Some(delta) = made(&mut engine, key, operation(&mut random)) {
            known.apply(&delta);
            // Merged again it changes nothing.
            if below(&mut random, 4) == 0 {
                give(&mut engine, merge(key, delta));
            }
        }
        let due = match pace {
            Pace::EachCommand => true,
            Pace::Never => false,
            Pace::NowAndThen => step.is_multiple_of(CHECKPOINT_EVERY),
        };
        if due {
            engine.checkpoint().expect("the disk works");
        }
        if step.is_multiple_of(START_EVERY) {
            starts += 1;
            drop(engine);
            engine = open(config(starts));
        }
        let at = format_args!("after {step} commands, {pace:?}");
        assert_eq!(
            trimmed(shown(&mut engine, key, Scope::Whole).value),
            trimmed(known.clone()),
            "{at}"
        );
        check_pages(&mut engine, key, known);
    }
    let live = model
        .iter()
        .filter(|(key, _)| !shown(&mut engine, key, Scope::Whole).live_tags().is_empty())
        .count();
    assert_eq!(
        engine.engine().live_keys(),
        live as u64,
        "{pace:?}: keys are counted as they come and go"
    );
    let trees = engine.engine().check_trees().expect("rows can be read");
    assert!(trees.is_clean() && trees.keys > 0 && trees.elements > 0, "{pace:?}: {trees:?}");
}

/// Pages give each live element once, in order.
fn check_pages<F: Files, R: IndexRead, W: IndexWrite>(
    engine: &mut SingleEngine<F, R, W>,
    key: &Key,
    known: &Value,
) {
    for (&tag, state) in known.0.iter().filter(|(tag, _)| is_collection(**tag)) {
        let (mut paged, mut after) = (BTreeSet::new(), None);
        loop {
            let page = shown(engine, key, Scope::Range { tag, after, limit: 7 });
            let elements = page.value.state(tag).map(elements).unwrap_or_default();
            for element in elements {
                assert!(paged.insert(element), "an element is in one page only");
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, elements(state).into_iter().collect(), "pages of {tag:?} lack nothing");
    }
}

fn elements(state: &State) -> Vec<Blob> {
    Delta::of(Tag(0), state.clone()).named_elements(Tag(0)).into_iter().collect()
}

/// Without states that nothing was ever written to.
fn trimmed(mut value: Value) -> Value {
    value.0.retain(|&tag, state| *state != State::bottom(tag));
    value
}

fn give<F: Files, R: IndexRead, W: IndexWrite>(
    engine: &mut SingleEngine<F, R, W>,
    command: Command,
) -> Answer {
    let mut answers = Vec::new();
    engine.execute(Ticket(0), command, &mut answers);
    while engine.log_batch(&mut answers) {}
    assert!(!answers.is_empty(), "each command is answered");
    answers.swap_remove(0).1
}

/// The delta of an operation; `None` if it was refused, for what the key is or has.
fn made<F: Files, R: IndexRead, W: IndexWrite>(
    engine: &mut SingleEngine<F, R, W>,
    key: &Key,
    operation: Operation,
) -> Option<Delta> {
    let command = Command::Update {
        key: key.clone(),
        operation,
        lifetime: Lifetime::Usual,
        observed: CausalContext::default(),
        shown: Vec::new(),
        stamp: Stamp::from_millis(1),
        named: None,
        limits: Arc::default(),
        durability: Durability::Sync,
    };
    match give(engine, command) {
        Answer::Prepared { delta, .. } => Some(delta),
        Answer::Refused(_) => None,
        other => panic!("an update is answered {other:?}"),
    }
}

fn merge(key: &Key, delta: Delta) -> Command {
    Command::Merge { key: key.clone(), delta, show: None, durability: Durability::Sync }
}

fn shown<F: Files, R: IndexRead, W: IndexWrite>(
    engine: &mut SingleEngine<F, R, W>,
    key: &Key,
    scope: Scope,
) -> View {
    match give(engine, Command::Read { key: key.clone(), scope }) {
        Answer::View(view) => view,
        other => panic!("a read is answered {other:?}"),
    }
}

/// Linear congruences are enough: the same at every run.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) % bound
}

/// A short name, or one so long that its row stands under a digest.
fn name(random: &mut u64) -> Blob {
    let number = below(random, NAMES);
    let length = if number.is_multiple_of(5) { 300 } else { 0 };
    Blob::from([vec![b'l'; length], number.to_string().into_bytes()].concat())
}

fn operation(random: &mut u64) -> Operation {
    let names: Vec<Blob> = (0..=below(random, 6)).map(|_| name(random)).collect();
    let one = names[0].clone();
    let by = below(random, 20) as i64 - 10;
    match below(random, 40) {
        0 | 1 => Operation::Bytes(BytesOp::Put(one)),
        2 => Operation::Bytes(BytesOp::Delete),
        3 => Operation::Register(RegisterOp::Set { value: one, at: None, replace: false }),
        4 => Operation::Register(RegisterOp::Increment(by)),
        5..10 => Operation::Gset(GsetOp::Add(names)),
        10 | 11 => Operation::Counter(CounterOp::Add(by)),
        12 => Operation::Counter(CounterOp::Reset),
        13..20 => Operation::Orset(OrsetOp::Add(names)),
        20 | 21 => Operation::Orset(OrsetOp::Remove(names)),
        22..27 => Operation::Cart(CartOp::Add { item: one, quantity: 2 }),
        27 => Operation::Cart(CartOp::Remove(one)),
        28..33 => {
            Operation::Map(MapOp::Set(names.into_iter().map(|name| (name.clone(), name)).collect()))
        }
        33..36 => Operation::Map(MapOp::Increment { field: one, by }),
        36 | 37 => Operation::Map(MapOp::Remove(names)),
        38 => Operation::Delete(Some(Tag::ORSET)),
        _ => Operation::Delete(None),
    }
}
