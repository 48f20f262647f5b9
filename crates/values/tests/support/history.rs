//! Generated histories of a few replicas and clients of one key, and what is reached by them.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Deref,
};

use clock::{Actor, CausalContext, Dot, Round, Stamp};
use proptest::{collection::vec, prelude::*, sample::select};
use values::{
    Blob, BytesOp, CartOp, CounterOp, Deadline, Delta, ExpiryOp, GsetOp, Lifetime, Limits, MapOp,
    Operation, OrsetOp, RegisterOp, Scope, State, Tag, Tally, TallyEntry, UpdateError, Value, View,
};

use crate::{
    model::{Knowledge, Model, read},
    replica::{Replica, show},
};

/// Clients that read and put raw values, each with the context of its last read.
const CLIENT_COUNT: usize = 2;

/// One thing that happens. Numbers choose modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A replica coordinates an operation on its own view. An increment may have a name.
    Update { at: usize, client: usize, operation: Operation, lifetime: Lifetime, is_named: bool },
    /// A replica coordinates an operation on what it and another one show.
    UpdateOnBoth { at: usize, other: usize, operation: Operation, lifetime: Lifetime },
    /// A client takes the context of the raw value at a replica.
    Read { client: usize, at: usize },
    /// A delta arrives, perhaps again, perhaps before older ones.
    Deliver { delta: usize, to: usize },
    /// A replica merges another's whole state.
    Sync { from: usize, to: usize },
    /// A replica draws a new epoch.
    Restart { at: usize },
    /// A replica's wall clock jumps.
    SetClock { at: usize, wall_ms: u64 },
    /// All replicas get all that was made, and enter later rounds of the barrier.
    Pass { rounds: u64 },
}

/// What a history has reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The replicas, with what the model says each knows.
    pub(crate) replicas: Vec<(Replica, Knowledge)>,
    /// Every delta ever made.
    pub(crate) deltas: Vec<(Delta, Knowledge)>,
    /// Every write ever made.
    pub(crate) model: Model,
    /// Up to which write each actor counted, and since which round it counts no more, if that is known.
    made: BTreeMap<(Tag, Actor), (u64, Option<Round>)>,
    /// Whether replicas seal all actors that rest. Nothing made before a pass then arrives after it.
    seals: bool,
    /// How many requests had names.
    names: u64,
    /// Who minted what.
    minted: BTreeSet<(Tag, Actor)>,
    /// Which event each schedule is.
    schedules: BTreeMap<Dot, usize>,
}

fn blob() -> impl Strategy<Value = Blob> {
    select(vec!["a", "b", "c"]).prop_map(|name| Blob::from_static(name.as_bytes()))
}

fn text() -> impl Strategy<Value = Blob> {
    select(vec!["5", "7", "x", "y"]).prop_map(|name| Blob::from_static(name.as_bytes()))
}

fn operation(tag: Tag) -> BoxedStrategy<Operation> {
    let names = || vec(blob(), 1..3);
    let delete = Just(Operation::Delete(Some(tag)));
    match tag {
        Tag::BYTES => prop_oneof![
            4 => text().prop_map(|value| Operation::Bytes(BytesOp::Put(value))),
            1 => Just(Operation::Bytes(BytesOp::Delete)),
            1 => delete,
        ]
        .boxed(),
        Tag::LWW => prop_oneof![
            4 => (text(), prop::option::of(0_u64..3), any::<bool>()).prop_map(
                |(value, at, replace)| {
                    let at = at.map(|seconds| Stamp::from_millis(seconds * 1_000));
                    Operation::Register(RegisterOp::Set { value, at, replace })
                }
            ),
            4 => (-3_i64..4).prop_map(|by| Operation::Register(RegisterOp::Increment(by))),
            2 => text().prop_map(|value| Operation::Register(RegisterOp::PutRaw(value))),
            1 => Just(Operation::Register(RegisterOp::DeleteRaw)),
            1 => delete,
        ]
        .boxed(),
        Tag::GSET => prop_oneof![
            4 => names().prop_map(|names| Operation::Gset(GsetOp::Add(names))),
            1 => delete,
        ]
        .boxed(),
        Tag::COUNTER => prop_oneof![
            5 => (-3_i64..9).prop_map(|by| Operation::Counter(CounterOp::Add(by))),
            2 => Just(Operation::Counter(CounterOp::Reset)),
            1 => delete,
        ]
        .boxed(),
        Tag::ORSET => prop_oneof![
            4 => names().prop_map(|names| Operation::Orset(OrsetOp::Add(names))),
            3 => names().prop_map(|names| Operation::Orset(OrsetOp::Remove(names))),
            1 => delete,
        ]
        .boxed(),
        Tag::CART => prop_oneof![
            4 => (blob(), 1_u64..4)
                .prop_map(|(item, quantity)| Operation::Cart(CartOp::Add { item, quantity })),
            2 => blob().prop_map(|item| Operation::Cart(CartOp::Remove(item))),
            2 => (blob(), 0_u64..4).prop_map(|(item, quantity)| {
                Operation::Cart(CartOp::SetQuantity { item, quantity })
            }),
            1 => delete,
        ]
        .boxed(),
        _ => prop_oneof![
            4 => vec((blob(), text()), 1..3).prop_map(|fields| Operation::Map(MapOp::Set(fields))),
            4 => (blob(), -3_i64..4)
                .prop_map(|(field, by)| Operation::Map(MapOp::Increment { field, by })),
            3 => names().prop_map(|names| Operation::Map(MapOp::Remove(names))),
            1 => delete,
        ]
        .boxed(),
    }
}

fn operation_of_any_type() -> BoxedStrategy<Operation> {
    let tags = select(Tag::KNOWN.to_vec()).prop_flat_map(operation);
    let resolve = select(Tag::KNOWN.to_vec()).prop_map(Operation::Resolve);
    prop_oneof![12 => tags, 1 => Just(Operation::Delete(None)), 2 => resolve].boxed()
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![(0_u64..20_000).prop_map(Deadline::At), (0_u64..10_000).prop_map(Deadline::In),]
}

/// Operations, now and then on the key's time to live, with what they do to that.
fn living(operation: BoxedStrategy<Operation>) -> BoxedStrategy<(Operation, Lifetime)> {
    let expiry = prop_oneof![
        3 => deadline().prop_map(|deadline| ExpiryOp::Set { deadline, only_if: None }),
        1 => Just(ExpiryOp::Persist),
        1 => Just(ExpiryOp::Sweep),
    ];
    let operation = prop_oneof![8 => operation, 2 => expiry.prop_map(Operation::Expiry)];
    let lifetime = prop_oneof![
        7 => Just(Lifetime::Usual),
        1 => Just(Lifetime::Keep),
        2 => deadline().prop_map(Lifetime::Ends),
    ];
    (operation, lifetime).boxed()
}

fn step(operation: BoxedStrategy<Operation>) -> impl Strategy<Value = Step> {
    let operation = living(operation);
    let n = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        8 => (n(), n(), operation.clone(), any::<bool>())
            .prop_map(|(at, client, (operation, lifetime), is_named)| {
                Step::Update { at, client, operation, lifetime, is_named }
            }),
        2 => (n(), n(), operation)
            .prop_map(|(at, other, (operation, lifetime))| {
                Step::UpdateOnBoth { at, other, operation, lifetime }
            }),
        3 => (n(), n()).prop_map(|(client, at)| Step::Read { client, at }),
        10 => (n(), n()).prop_map(|(delta, to)| Step::Deliver { delta, to }),
        2 => (n(), n()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => n().prop_map(|at| Step::Restart { at }),
        1 => (n(), 0_u64..20_000).prop_map(|(at, wall_ms)| Step::SetClock { at, wall_ms }),
        2 => (1_u64..6).prop_map(|rounds| Step::Pass { rounds }),
    ]
}

/// A history, which runs when it is first looked at: so one that goes wrong shrinks.
pub(crate) struct History {
    replica_count: usize,
    seals: bool,
    steps: Vec<Step>,
    reached: OnceCell<World>,
}

impl Deref for History {
    type Target = World;

    fn deref(&self) -> &World {
        self.reached.get_or_init(|| World::run(self.replica_count, self.seals, &self.steps))
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealing = if self.seals { " that seal" } else { "" };
        writeln!(f, "{} replicas{sealing}:", self.replica_count)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

/// Histories of three or four replicas: of one type, any type, or all types at once.
pub(crate) fn world() -> impl Strategy<Value = History> {
    let of_one = select(Tag::KNOWN.to_vec()).prop_flat_map(|tag| steps(operation(tag)));
    let of_all = steps(operation_of_any_type());
    (3_usize..5, any::<bool>(), prop_oneof![7 => of_one.boxed(), 3 => of_all.boxed()]).prop_map(
        |(replica_count, seals, steps)| History {
            replica_count,
            seals,
            steps,
            reached: OnceCell::new(),
        },
    )
}

fn steps(operation: BoxedStrategy<Operation>) -> impl Strategy<Value = Vec<Step>> {
    vec(step(operation), 1..40)
}

impl World {
    /// Runs a history. After every step, the replica concerned shows what the model says.
    fn run(replica_count: usize, seals: bool, steps: &[Step]) -> Self {
        let mut world = Self { seals, ..Self::default() };
        for number in 0..replica_count as u64 {
            world.replicas.push((Replica::new(number), Knowledge::default()));
        }
        let mut clients: [(CausalContext, Knowledge); CLIENT_COUNT] = Default::default();
        for step in steps {
            let pick = |number: &usize| number % replica_count;
            let changed = match step {
                Step::Update { at, client, operation, lifetime, is_named } => {
                    let (observed, seen) = &clients[client % CLIENT_COUNT];
                    let (observed, seen) = (observed.clone(), seen.clone());
                    let update = (operation, *lifetime, *is_named);
                    world.update(pick(at), None, update, &observed, &seen);
                    pick(at)
                }
                Step::UpdateOnBoth { at, other, operation, lifetime } => {
                    let none = (CausalContext::default(), Knowledge::default());
                    let update = (operation, *lifetime, false);
                    world.update(pick(at), Some(pick(other)), update, &none.0, &none.1);
                    pick(at)
                }
                Step::Read { client, at } => {
                    let (replica, knowledge) = &world.replicas[pick(at)];
                    let context = replica.value.context(Tag::BYTES).clone();
                    clients[client % CLIENT_COUNT] = (context, knowledge.clone());
                    pick(at)
                }
                Step::Deliver { delta, to } if !world.deltas.is_empty() => {
                    let number = delta % world.deltas.len();
                    let (delta, message) = &world.deltas[number];
                    let (replica, knowledge) = &mut world.replicas[pick(to)];
                    // What a schedule takes of a sum shows right only to who knows what became of the schedule.
                    let before = world.deltas[..number].iter().filter(|(before, _)| {
                        folds(delta) && before.value.state(Tag::EXPIRY).is_some()
                    });
                    for (delta, message) in before.chain([&(delta.clone(), message.clone())]) {
                        replica.value.apply(delta);
                        knowledge.learn(message);
                    }
                    pick(to)
                }
                Step::Deliver { to, .. } => pick(to),
                Step::Sync { from, to } => {
                    let (sender, sent) = world.replicas[pick(from)].clone();
                    let (replica, knowledge) = &mut world.replicas[pick(to)];
                    replica.value.merge(&sender.value);
                    knowledge.learn(&sent);
                    pick(to)
                }
                Step::Restart { at } => {
                    world.replicas[pick(at)].0.draw_epoch();
                    pick(at)
                }
                Step::SetClock { at, wall_ms } => {
                    world.replicas[pick(at)].0.wall_ms = *wall_ms;
                    pick(at)
                }
                Step::Pass { rounds } => {
                    let Self { replicas, deltas, .. } = &mut world;
                    for (replica, knowledge) in replicas {
                        for (delta, message) in deltas.iter() {
                            replica.value.apply(delta);
                            knowledge.learn(message);
                        }
                        replica.round.number += rounds;
                    }
                    if seals {
                        // What clients present is of today.
                        clients = Default::default();
                        let all = (Delta::whole(world.converged()), world.knowledge());
                        world.deltas = vec![all];
                        world.deltas.retain(|(all, _)| !all.is_empty());
                    }
                    0
                }
            };
            let (replica, knowledge) = &world.replicas[changed];
            assert_eq!(read(&replica.value), world.model.read(knowledge), "after {step:?}");
            let live = View::of(replica.value.clone()).live_tags();
            assert_eq!(live, world.model.live(knowledge), "after {step:?}");
            let left = world.model.at(knowledge, replica.wall_ms);
            let mut shown = replica.show(&Scope::Whole);
            shown.expire(replica.wall_ms);
            assert_eq!(read(&shown.value), world.model.read(&left), "after {step:?}, when due");
        }
        world
    }

    fn update(
        &mut self,
        at: usize,
        other: Option<usize>,
        (operation, lifetime, is_named): (&Operation, Lifetime, bool),
        observed: &CausalContext,
        seen: &Knowledge,
    ) {
        let scope = operation.scope();
        let replica = &mut self.replicas[at].0;
        let mints_no_more = |&tag: &Tag| {
            let context = replica.value.context(tag);
            let is_forgotten = context.highest(replica.actor) == 0;
            context.is_sealed(replica.actor)
                || is_forgotten && self.minted.contains(&(tag, replica.actor))
        };
        if Tag::KNOWN.iter().any(mints_no_more) {
            replica.draw_epoch();
        }
        let limits =
            Limits { actors_resting: if self.seals { 0 } else { usize::MAX }, ..Limits::default() };
        let (mut replica, mut known) = self.replicas[at].clone();
        let mut view = replica.show(&scope);
        if let Some(other) = other {
            let (other, also_known) = &self.replicas[other];
            view.merge(&other.show(&scope));
            known.learn(also_known);
        }
        let is_sealed_elsewhere = |&tag: &Tag| {
            let (own, all) = (replica.value.context(tag), view.value.context(tag));
            all.is_sealed(replica.actor) || all.highest(replica.actor) < own.highest(replica.actor)
        };
        if Tag::KNOWN.iter().any(is_sealed_elsewhere) {
            self.replicas[at].0.draw_epoch();
            replica.draw_epoch();
        }
        let left = self.model.at(&known, replica.wall_ms);
        let mut seen_view = view.clone();
        seen_view.expire(replica.wall_ms);
        if seen_view.live_tags() != self.model.live(&left) {
            // What is shown of a collection out of scope is not all that is held.
            return;
        }
        let is_increment = matches!(
            operation,
            Operation::Counter(CounterOp::Add(_)) | Operation::Register(RegisterOp::Increment(_))
        );
        let actor = match is_named && is_increment {
            true => Actor::named(self.names, 1, 1),
            false => replica.actor,
        };
        self.names += 1;
        let update = (operation, lifetime);
        let prepared = match replica.prepare_as(actor, update, (&view, observed), &limits) {
            Ok(prepared) => prepared,
            Err(UpdateError::WrongType(error)) => {
                assert_eq!(error.live, self.model.live(&left));
                assert!(!error.live.contains(&error.wanted) && !error.live.is_empty());
                return;
            }
            Err(UpdateError::NotInConflict(live)) => {
                assert_eq!(live, self.model.live(&left));
                assert!(live.len() < 2);
                return;
            }
            Err(UpdateError::NotHeld { wanted, live }) => {
                assert_eq!(live, self.model.live(&left));
                assert!(!live.contains(&wanted) && live.len() > 1);
                return;
            }
            Err(UpdateError::NotAnInteger) => return,
            Err(error) => panic!("{operation:?} refused: {error}"),
        };
        let stamp = Stamp::from_millis(replica.wall_ms);
        self.note_made(&prepared.delta.value);
        self.minted.extend(prepared.minted.map(|minted| (minted.tag, minted.first.actor)));
        let mut message = self.model.write(update, actor, stamp, &known, seen);
        known.learn(&message);
        self.tell_of_names(&prepared.delta.value, &known, &mut message);
        let (replica, knowledge) = &mut self.replicas[at];
        replica.value.apply(&prepared.delta);
        knowledge.learn(&message);
        if prepared.delta.is_empty() {
            assert_eq!(prepared.changed, 0);
        } else {
            self.deltas.push((prepared.delta, message));
        }
    }

    /// Adds to `message` what the delta beside it says of increments that the write itself does not speak of.
    fn tell_of_names(&mut self, delta: &Value, known: &Knowledge, message: &mut Knowledge) {
        for tag in [Tag::COUNTER, Tag::LWW] {
            let told = self.names_in(delta, tag);
            message.learn(&self.model.of_names(tag, &told, known));
        }
        for (dot, schedule) in delta.schedules() {
            let newest = self.model.newest_schedule();
            let id = *self.schedules.entry(dot).or_insert(newest);
            let removed = schedule.removal.delta().value;
            for tag in [Tag::COUNTER, Tag::LWW] {
                let names = self.names_in(&removed, tag);
                message.learn(&self.model.cover_names(id, tag, &names, known));
            }
        }
    }

    /// The actors of whose increments `value` says something: of those in a sum, too.
    fn names_in(&self, value: &Value, tag: Tag) -> BTreeSet<Actor> {
        let Some(tally) = tally(value, tag) else { return BTreeSet::new() };
        // Of the others the write speaks itself.
        let is_told =
            |(actor, entry): &(Actor, &TallyEntry)| actor.is_named() || entry.made().is_some();
        let single = tally.entries().filter(is_told).map(|(actor, _)| actor);
        let folded = tally.sums().flat_map(|sum| {
            let is_in_it = move |(of, (_, made)): (&(Tag, Actor), &(u64, Option<Round>))| {
                let is_old = made.is_some_and(|made| made.number < sum.below());
                (of.0 == tag && is_old).then_some(of.1)
            };
            self.made.iter().filter_map(is_in_it)
        });
        single.chain(folded).collect()
    }

    /// Takes note of who counts no more, by what a delta says.
    fn note_made(&mut self, delta: &Value) {
        for tag in [Tag::COUNTER, Tag::LWW] {
            for (actor, entry) in tally(delta, tag).into_iter().flat_map(Tally::entries) {
                let mine = self.made.entry((tag, actor)).or_default();
                *mine = (entry.upto(), entry.made()).max(*mine);
            }
        }
    }

    /// The state that has everything.
    #[allow(dead_code, reason = "one of the two test files that share this one uses it")]
    pub(crate) fn converged(&self) -> Value {
        let mut all = Value::default();
        for (delta, _) in &self.deltas {
            all.apply(delta);
        }
        all
    }

    /// What the model says of the state that has everything.
    #[allow(dead_code, reason = "one of the two test files that share this one uses it")]
    pub(crate) fn knowledge(&self) -> Knowledge {
        let mut all = Knowledge::default();
        self.deltas.iter().for_each(|(_, message)| all.learn(message));
        all
    }
}

fn tally(value: &Value, tag: Tag) -> Option<&Tally> {
    match value.state(tag)? {
        State::Counter(counter) => Some(&counter.tally),
        State::Register(register) => Some(&register.tally),
        _ => None,
    }
}

/// Whether it brings a sum of increments.
fn folds(delta: &Delta) -> bool {
    delta.value.0.values().any(|state| match state {
        State::Counter(counter) => counter.tally.sums().next().is_some(),
        State::Register(register) => register.tally.sums().next().is_some(),
        _ => false,
    })
}

/// The scopes in which replicas are compared.
pub(crate) fn scopes() -> Vec<Scope> {
    let mut scopes = vec![Scope::Headers, Scope::Whole];
    for tag in [Tag::GSET, Tag::ORSET, Tag::CART, Tag::MAP] {
        let [a, b] = [Blob::from_static(b"a"), Blob::from_static(b"b")];
        scopes.push(Scope::Elements { tag, elements: [a.clone(), b].into() });
        scopes.push(Scope::Range { tag, after: None, limit: 1 });
        scopes.push(Scope::Range { tag, after: Some(a), limit: 1 });
    }
    scopes
}

/// Merges what two values show within `scope`.
pub(crate) fn show_both(one: &Value, other: &Value, scope: &Scope) -> View {
    let mut view = show(one, scope);
    view.merge(&show(other, scope));
    view
}
