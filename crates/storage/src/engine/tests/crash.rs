//! Crashes at every write, and at any write of generated histories: after each, every acknowledged
//! update is there, nothing is that was not given, no dot is issued twice, what is counted and
//! pending is what a twin says that did what was acknowledged, and the hash trees, over keys and over the elements of a
//! large collection, are what a full scan counts.
//!
//! The longer form, with as many cases as one likes:
//! `PROPTEST_CASES=20000 cargo test -p storage --release crash -- --nocapture`

use std::collections::BTreeMap;

use clock::Dot;
use proptest::prelude::*;

use values::{CartOp, ExpiryOp, MapOp};

use super::expiry::ends;
use super::*;
use crate::{Forgetting, IndexRead, IndexWrite, RowChange, SimIndexWriter, Table};

const OWNER: NodeId = NodeId(9);

/// Writes an index until the machine stops, before a transaction or right after it.
struct Stopping {
    writer: SimIndexWriter,
    files: SimFiles,
    /// Transactions left, and whether the last one is applied.
    left: Option<(u64, bool)>,
}

impl IndexWrite for Stopping {
    fn commit(&mut self, changes: &[RowChange<'_>]) -> Result<(), SeamError> {
        let stopped = Err(SeamError::Io("stopped".into()));
        match &mut self.left {
            Some((0, _)) => return stopped,
            Some((1, applied)) => {
                if *applied {
                    self.writer.commit(changes)?;
                }
                self.left = Some((0, false));
                self.files.stop_after(Some(0));
                return stopped;
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        self.writer.commit(changes)
    }
}

/// Where the machine stops.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// At this change of the files.
    File(u64),
    /// At this transaction of the index, before it or after it was applied.
    Index(u64, bool),
}

#[derive(Clone, Debug)]
enum Step {
    Update(usize, Operation),
    /// What replica 2 did is merged here.
    Merge(usize, Operation),
    Defer(usize),
    /// The oldest pending row was delivered.
    Deliver,
    Sweep(usize),
    /// The next round of the barrier is entered.
    Enter,
    /// Replica 2 has what is here; then a step of forgetting what is older than the round.
    Forget(Forgetting),
    Log,
    /// Freeze while the batch under way is not in the log yet.
    Freeze,
    Write,
}

/// The first are whatever they are written as; then a collection large enough for a tree of its own, a map, a cart and
/// a counter.
const NAMES: [&str; 7] = ["k", "l", "m", "large", "map", "cart", "count"];
const LARGE: usize = 3;
const MAP: usize = 4;
const CART: usize = 5;
const COUNT: usize = 6;

/// What the machine was given and what it acknowledged.
struct Machine {
    one: Stepped,
    writer: Stopping,
    checkpoint: Option<Checkpoint>,
    /// Another replica, whose deltas come in.
    other: MemoryEngine,
    twin: MemoryEngine,
    /// By ticket: key, delta, whether it is of the outbox.
    given: BTreeMap<u64, (Key, Delta, bool)>,
    acknowledged: BTreeSet<u64>,
    dots: BTreeSet<(Key, Tag, Dot)>,
    ticket: u64,
    /// What the key of the last update showed before it.
    before: Value,
    is_stopped: bool,
}

impl Machine {
    fn open(disk: &SimDisk, process: u64) -> Self {
        let (writer, files) = (disk.index.writer(), disk.files.clone());
        Self {
            one: Stepped::open(disk, config(1, process)),
            writer: Stopping { writer, files, left: None },
            checkpoint: None,
            other: MemoryEngine::new(config(2, 2)),
            twin: MemoryEngine::new(config(3, 3)),
            given: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            dots: BTreeSet::new(),
            ticket: 0,
            before: Value::default(),
            is_stopped: false,
        }
    }

    /// The process starts again on its disk.
    fn restart(&mut self, process: u64) {
        let disk = self.one.disk.clone();
        self.one = Stepped::open(&disk, config(1, process));
        self.writer.left = None;
        self.checkpoint = None;
        self.is_stopped = false;
        self.check_trees();
    }

    fn check_trees(&self) {
        let check = self.one.engine.check_trees().unwrap();
        assert!(check.is_clean(), "{check:?}");
    }

    fn give(&mut self, command: Command) -> u64 {
        self.ticket += 1;
        self.one.give(self.ticket, command);
        self.ticket
    }

    fn answers(&mut self) {
        for (ticket, answer) in self.one.answered() {
            match answer {
                Answer::Prepared { delta, .. } => {
                    let (key, given, _) = self.given.get_mut(&ticket).expect("it was given");
                    for (&tag, state) in &delta.value.0 {
                        let seen = self.before.context(tag);
                        for (actor, first, last) in state.context().ranges() {
                            let dots = (first..=last).map(|counter| Dot::new(actor, counter));
                            for dot in dots.filter(|&dot| !seen.contains(dot)) {
                                let new = self.dots.insert((key.clone(), tag, dot));
                                assert!(new, "{dot:?} was issued before");
                            }
                        }
                    }
                    *given = delta;
                }
                Answer::Durable | Answer::Merged(_) => {
                    self.acknowledged.insert(ticket);
                }
                Answer::Failed(_) | Answer::Refused(_) | Answer::RemnantsForgotten { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Update(at, operation) => {
                let key = key(NAMES[*at]);
                let command = update(&key, operation.clone());
                self.before = self.shows(&key);
                self.given.insert(self.ticket + 1, (key, Delta::default(), false));
                self.give(command);
            }
            Step::Merge(at, operation) => {
                let key = key(NAMES[*at]);
                let made = self.other.execute_now(update(&key, operation.clone())).remove(0);
                let Answer::Prepared { delta, .. } = made else { return };
                self.given.insert(self.ticket + 1, (key.clone(), delta.clone(), false));
                self.give(merge(&key, &delta));
            }
            Step::Defer(at) => {
                let key = key(NAMES[*at]);
                let Some((_, delta, _)) =
                    self.given.values().rev().find(|(of, _, _)| *of == key).cloned()
                else {
                    return;
                };
                self.given.insert(self.ticket + 1, (key.clone(), delta.clone(), true));
                self.give(deferred(OWNER, &key, &delta));
            }
            Step::Deliver => {
                let pending = self.pending();
                let Some(first) = pending.first() else { return };
                let (position, version) = (first.position.clone(), first.version);
                // Whoever it was delivered to has it.
                merged(&mut self.twin, &first.key, &first.delta);
                let ticket = self.give(Command::Delivered { position, version });
                self.given.insert(ticket, (first.key.clone(), first.delta.clone(), true));
            }
            Step::Sweep(rows) => {
                self.one.engine.sweep(*rows);
                self.one.engine.count_chunks(*rows);
            }
            Step::Enter => {
                let number = self.one.engine.round() + 1;
                let round = Round { ring: RingId(7), number };
                self.give(Command::Enter { round });
            }
            Step::Forget(step) => {
                // What is forgotten of a key is all that tells of a deletion: one that nobody was told of would look like
                // a loss.
                self.step(&Step::Log);
                for name in NAMES {
                    let shown = self.shows(&key(name));
                    merged(&mut self.other, &key(name), &Delta::whole(shown));
                }
                let below = self.one.engine.round();
                self.give(Command::ForgetRemnants { step: *step, below, limit: 2 });
            }
            Step::Log => {
                if self.one.batch.is_some() || self.one.take() {
                    self.one.commit();
                }
            }
            Step::Freeze => {
                if self.one.batch.is_none() {
                    self.one.take();
                    self.one.engine.freeze(0);
                }
            }
            Step::Write => {
                self.checkpoint = self.one.engine.take_checkpoint().or(self.checkpoint.take());
                if let Some(checkpoint) = &self.checkpoint {
                    let result = checkpoint.write(&mut self.writer, &mut || ());
                    self.is_stopped |= result.is_err();
                    if !self.is_stopped {
                        self.one.engine.checkpointed(result);
                        self.is_stopped = self.one.log.trim(checkpoint.position()).is_err();
                        self.checkpoint = None;
                    }
                }
            }
        }
        self.answers();
    }

    fn pending(&mut self) -> Vec<crate::Pending> {
        let outbox = Command::Outbox { owner: OWNER, after: None, limit: 100 };
        let mut answers = Vec::new();
        self.one.engine.execute(Ticket(0), outbox, &mut answers);
        match answers.pop() {
            Some((_, Answer::Outbox(pending))) => pending,
            other => panic!("{other:?}"),
        }
    }

    fn shows(&mut self, key: &Key) -> Value {
        let mut answers = Vec::new();
        self.one.engine.execute(Ticket(0), read(key, Scope::Whole), &mut answers);
        match answers.pop() {
            Some((_, Answer::View(view))) => view.value,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that can be seen of the replica.
    fn state(&mut self) -> (Vec<Value>, Vec<crate::Pending>, u64, u64) {
        let values = NAMES.map(|name| self.shows(&key(name))).into();
        let pending = self.pending();
        (values, pending, self.live_keys(), self.one.engine.pending_for(OWNER))
    }

    /// The keys counted as live once nothing is left to be swept: a collection that was cleared and
    /// is still to be counted counts as one until then.
    fn live_keys(&mut self) -> u64 {
        while self.one.engine.sweep(100) {}
        self.one.engine.live_keys()
    }

    /// What must hold after a restart.
    fn check(&mut self) {
        let (mut least, mut most) = (BTreeMap::<Key, Delta>::new(), BTreeMap::<Key, Delta>::new());
        let mut owed = BTreeMap::<Key, Delta>::new();
        for (ticket, (key, delta, is_deferred)) in &self.given {
            let is_acknowledged = self.acknowledged.contains(ticket);
            if *is_deferred {
                if is_acknowledged {
                    owed.entry(key.clone()).or_default().merge(delta);
                }
                continue;
            }
            most.entry(key.clone()).or_default().merge(delta);
            if is_acknowledged {
                least.entry(key.clone()).or_default().merge(delta);
            }
        }
        let mut live = 0;
        for name in NAMES {
            let key = key(name);
            let shown = self.shows(&key);
            let with = |delta: Option<&Delta>, start: Value| {
                let mut value = start;
                value.merge(&delta.cloned().unwrap_or_default().value);
                value
            };
            // What is left of a deleted key may have been forgotten: it may show more, not less.
            assert_eq!(
                seen(&with(least.get(&key), shown.clone())),
                seen(&shown),
                "an acknowledged update is lost"
            );
            let all = with(most.get(&key), Value::default());
            assert_eq!(with(Some(&Delta::whole(shown.clone())), all.clone()), all, "from nowhere");
            live += u64::from(!View::of(shown).live_tags().is_empty());
        }
        assert_eq!(self.live_keys(), live);
        self.check_trees();
        let pending = self.pending();
        let keys: BTreeSet<_> = pending.iter().map(|pending| pending.key.clone()).collect();
        assert_eq!(self.one.engine.pending_for(OWNER), keys.len() as u64);
        // What was acknowledged as pending is pending or was delivered.
        for (key, delta) in owed {
            let mut there = whole(&mut self.twin, &key);
            for pending in pending.iter().filter(|pending| pending.key == key) {
                there.merge(&pending.delta.value);
            }
            let mut with = there.clone();
            with.merge(&delta.value);
            assert_eq!(with, there, "what was pending is lost");
        }
    }
}

/// What a reader sees: elements, fields and their values, items and how many, values, a count.
fn seen(value: &Value) -> BTreeSet<(Tag, Blob, Blob)> {
    let number = |number: i128| blob(&number.to_string());
    let mut all = BTreeSet::new();
    for (&tag, state) in &value.0 {
        let nothing = blob("");
        match state {
            State::Bytes(_) => {
                all.extend(values_of(value).into_iter().map(|it| (tag, it, nothing.clone())))
            }
            State::Orset(_) => {
                all.extend(elements(value).into_iter().map(|it| (tag, it, nothing.clone())))
            }
            State::Cart(cart) => all.extend(cart.store.0.iter().map(|(item, adds)| {
                let quantity = adds.0.values().map(|&quantity| i128::from(quantity)).sum();
                (tag, item.clone(), number(quantity))
            })),
            State::Map(map) => all.extend(
                map.store
                    .0
                    .iter()
                    .filter_map(|(name, field)| Some((tag, name.clone(), field.read()?))),
            ),
            State::Counter(state) if state.tally.value() != 0 => {
                all.insert((tag, nothing, number(state.tally.value())));
            }
            _ => {}
        }
    }
    all
}

/// Runs `steps` up to the crash, restarts twice, goes on a little and restarts again.
/// Returns whether the machine came to where it was to stop.
fn run(steps: &[Step], stop: Stop, choice: &mut dyn FnMut(u64) -> u64) -> bool {
    let disk = SimDisk::new();
    let mut machine = Machine::open(&disk, 1);
    match stop {
        Stop::File(count) => disk.files.stop_after(Some(count)),
        Stop::Index(count, applied) => machine.writer.left = Some((count + 1, applied)),
    }
    for step in steps {
        machine.step(step);
        if machine.is_stopped {
            break;
        }
    }
    let came = machine.is_stopped
        || matches!(stop, Stop::File(count) if disk.files.change_count() > count);
    disk.crash(choice);
    machine.restart(11);
    machine.check();
    let once = machine.state();
    machine.restart(12);
    assert_eq!(machine.state(), once, "opened twice is opened once");
    for at in 0..=LARGE {
        machine.step(&Step::Update(at, add(&["after"])));
    }
    machine.step(&Step::Update(MAP, increment("after")));
    machine.step(&Step::Log);
    machine.step(&Step::Freeze);
    machine.step(&Step::Write);
    disk.crash(choice);
    machine.restart(13);
    machine.check();
    came
}

fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
        (state >> 33) % bound
    }
}

fn increment(field: &str) -> Operation {
    Operation::Map(MapOp::Increment { field: blob(field), by: 2 })
}

fn set(field: &str) -> Operation {
    Operation::Map(MapOp::Set(vec![(blob(field), blob("7"))]))
}

fn buy(item: &str) -> Operation {
    Operation::Cart(CartOp::Add { item: blob(item), quantity: 2 })
}

fn elements_of(range: std::ops::Range<u32>) -> Vec<Blob> {
    range.map(|number| blob(&format!("{number:03}"))).collect()
}

fn add_many(range: std::ops::Range<u32>) -> Operation {
    Operation::Orset(OrsetOp::Add(elements_of(range)))
}

fn remove_many(range: std::ops::Range<u32>) -> Operation {
    Operation::Orset(OrsetOp::Remove(elements_of(range)))
}

/// All kinds of work, with checkpoints, over several segments.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..3 {
        let name = format!("{round:0200}");
        steps.extend([
            Step::Update(0, add(&[&name, "x"])),
            // With chunks from the first round on, without in the last.
            Step::Update(LARGE, add_many(round * 10..round * 10 + 14)),
            Step::Update(MAP, increment("sum")),
            Step::Log,
            Step::Merge(1, add(&[&name, "y"])),
            Step::Update(2, put(&name)),
            Step::Update(CART, buy("milk")),
            Step::Sweep(3),
            Step::Freeze,
            Step::Update(0, add(&["z"])),
            Step::Log,
            Step::Defer(1),
            Step::Log,
            Step::Write,
            Step::Defer(0),
            Step::Update(1, Operation::Delete(None)),
            Step::Log,
            Step::Update(1, add(&[&name])),
            Step::Update(1, ends(1)),
            Step::Log,
            Step::Update(1, Operation::Expiry(ExpiryOp::Sweep)),
            Step::Update(2, ends(1_000)),
            Step::Sweep(2),
            Step::Deliver,
            Step::Update(2, add(&["w"])),
            Step::Merge(LARGE, add_many(20..24)),
            Step::Update(LARGE, remove_many(if round < 2 { 3..5 } else { 0..90 })),
            Step::Merge(MAP, increment("sum")),
            Step::Update(MAP, set("other")),
            Step::Update(COUNT, count(3)),
            Step::Log,
            Step::Freeze,
            Step::Log,
            Step::Sweep(10),
            Step::Write,
            Step::Update(1, Operation::Delete(None)),
            Step::Update(CART, Operation::Cart(CartOp::Remove(blob("milk")))),
            Step::Merge(CART, buy("milk")),
            Step::Update(COUNT, Operation::Delete(None)),
            Step::Update(MAP, Operation::Map(MapOp::Remove(vec![blob("other")]))),
            Step::Enter,
            Step::Sweep(10),
            Step::Forget(Forgetting::Hide),
            Step::Log,
            Step::Forget(Forgetting::Show),
            Step::Log,
            Step::Enter,
            Step::Forget(Forgetting::Hide),
            Step::Log,
            Step::Freeze,
            Step::Forget(Forgetting::Drop),
            Step::Write,
            Step::Log,
        ]);
    }
    steps
}

#[test]
fn a_crash_at_any_write_of_a_script_loses_nothing_acknowledged() {
    let steps = script();
    let (mut machine, mut most) = (Machine::open(&SimDisk::new(), 1), 0);
    for step in &steps {
        machine.step(step);
        let mut chunks = 0;
        let reader = machine.one.disk.index.reader();
        reader
            .scan(Table::ElementTree, &[], &mut |_, _| {
                chunks += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        most = most.max(chunks);
    }
    assert!(most > 2, "no collection is counted in chunks");
    let mut stops = 0;
    for seed in 0..4 {
        let points = (0..).map(Stop::File).take_while(|&stop| run(&steps, stop, &mut random(seed)));
        stops += points.count();
        for applied in [false, true] {
            let at = (0..).map(|count| Stop::Index(count, applied));
            stops += at.take_while(|&stop| run(&steps, stop, &mut random(seed))).count();
        }
    }
    assert!(stops > 4 * 60, "{stops}");
}

/// A key and what is done to it.
fn operation() -> impl Strategy<Value = (usize, Operation)> {
    let name = || prop::sample::select(vec!["x", "y", "z", "w"]);
    let any = prop_oneof![
        4 => name().prop_map(|name| add(&[name])),
        2 => name().prop_map(|name| Operation::Orset(OrsetOp::Remove(vec![blob(name)]))),
        2 => (0..600usize).prop_map(|length| put(&"v".repeat(length))),
        1 => Just(Operation::Delete(None)),
    ];
    let some = || (0..30u32, 1..16u32).prop_map(|(from, count)| from..from + count);
    let large = prop_oneof![
        6 => some().prop_map(add_many),
        3 => some().prop_map(remove_many),
        1 => Just(Operation::Delete(None)),
    ];
    let map = prop_oneof![
        3 => name().prop_map(increment),
        2 => name().prop_map(set),
        1 => name().prop_map(|name| Operation::Map(MapOp::Remove(vec![blob(name)]))),
    ];
    let cart = prop_oneof![
        3 => name().prop_map(buy),
        1 => name().prop_map(|item| Operation::Cart(CartOp::Remove(blob(item)))),
        1 => name().prop_map(|item| {
            Operation::Cart(CartOp::SetQuantity { item: blob(item), quantity: 5 })
        }),
    ];
    let counter = prop_oneof![3 => (-3..4i64).prop_map(count), 1 => Just(Operation::Delete(None))];
    prop_oneof![
        6 => (0..3usize, any),
        4 => (Just(LARGE), large),
        2 => (Just(MAP), map),
        1 => (Just(CART), cart),
        1 => (Just(COUNT), counter),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => operation().prop_map(|(at, operation)| Step::Update(at, operation)),
        3 => operation().prop_map(|(at, operation)| Step::Merge(at, operation)),
        3 => (0..NAMES.len()).prop_map(Step::Defer),
        2 => Just(Step::Deliver),
        2 => (1..4usize).prop_map(Step::Sweep),
        1 => Just(Step::Enter),
        1 => Just(Step::Forget(Forgetting::Hide)),
        1 => Just(Step::Forget(Forgetting::Drop)),
        1 => Just(Step::Forget(Forgetting::Show)),
        8 => Just(Step::Log),
        3 => Just(Step::Freeze),
        3 => Just(Step::Write),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_crash_at_any_write_of_a_history_loses_nothing_acknowledged(
        steps in prop::collection::vec(step(), 1..60),
        at in 0u64..60,
        kind in 0..3,
        seed in any::<u64>(),
    ) {
        let stop = match kind {
            0 => Stop::File(at),
            1 => Stop::Index(at % 12, false),
            _ => Stop::Index(at % 12, true),
        };
        run(&steps, stop, &mut random(seed));
    }

    /// Without a crash: the state after a restart is the state before it, to the last row.
    #[test]
    fn replay_gives_back_what_was_there(steps in prop::collection::vec(step(), 1..80)) {
        let disk = SimDisk::new();
        let mut machine = Machine::open(&disk, 1);
        for step in &steps {
            machine.step(step);
        }
        machine.step(&Step::Log);
        machine.step(&Step::Log);
        let before = machine.state();
        machine.restart(1);
        prop_assert_eq!(machine.state(), before);
    }
}
