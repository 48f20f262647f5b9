//! Operations: how a coordinating replica makes a delta.
//!
//! Every limit, type and overflow check is made here, when a delta is made; a merge checks nothing
//! and never fails. Removals act on what the given view shows (observed remove); a coordinator
//! shows them what enough replicas have.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Actor, CausalContext, Dot, Stamp};
use serde::{Deserialize, Serialize};

use crate::{
    Base, Blob, BytesOp, CartOp, Causal, CounterOp, CounterState, Delta, DotFun, DotMap, DotSet,
    DotStore, ELEMENT_BYTES_MAX, Field, GsetOp, MapOp, OrsetOp, Register, RegisterOp, Scope,
    Sibling, State, Tag, Tally, View, Write, register,
};

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// On `bytes`.
    Bytes(BytesOp),
    /// On `lww`.
    Register(RegisterOp),
    /// On `gset`.
    Gset(GsetOp),
    /// On `counter`.
    Counter(CounterOp),
    /// On `orset`.
    Orset(OrsetOp),
    /// On `cart`.
    Cart(CartOp),
    /// On `map`.
    Map(MapOp),
    /// Removes what was observed of the whole key: of one type, or of every type.
    Delete(Option<Tag>),
}

/// Who makes a delta, and when.
#[derive(Clone, Copy, Debug)]
pub struct Mint {
    /// The coordinating replica's actor for this key and tag.
    pub actor: Actor,
    /// Hybrid time of the write.
    pub stamp: Stamp,
}

/// Bounds checked when a delta is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value, in bytes. Default 8 MiB.
    pub value_bytes: usize,
    /// Most siblings that a put may leave. Default 100 (Riak's limit).
    pub siblings: usize,
    /// Most adds that one cart item may hold apart. Default 10,000.
    pub adds_per_item: usize,
    /// Most elements or fields named by one operation. Default 100,000.
    pub elements_per_operation: usize,
    /// How far a client's own timestamp may lie ahead, in milliseconds. Default one minute.
    pub future_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 8 << 20,
            siblings: 100,
            adds_per_item: 10_000,
            elements_per_operation: 100_000,
            future_ms: 60_000,
        }
    }
}

/// The key holds something, but nothing of the wanted type. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("wanted {wanted}, but the key holds {}", names(.live))]
pub struct WrongType {
    /// The type of the operation.
    pub wanted: Tag,
    /// The types that the key has.
    pub live: Vec<Tag>,
}

fn names(tags: &[Tag]) -> String {
    tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Why an operation made no delta. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The key is of another type.
    #[error(transparent)]
    WrongType(#[from] WrongType),
    /// An increment of something that is not a 64-bit decimal integer.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The result would not fit 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// A value is too long.
    #[error("value of {bytes} bytes, at most {limit} are allowed")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The bucket's limit.
        limit: usize,
    },
    /// An element, item or field name is too long.
    #[error("element of {0} bytes, at most {ELEMENT_BYTES_MAX} are allowed")]
    ElementTooLong(usize),
    /// No element named, or too many.
    #[error("{0} elements named; name at least 1 and at most the bucket's limit")]
    ElementCount(usize),
    /// The key has too many siblings to add one.
    #[error("{0} siblings; get them, reconcile, and put with the context of that get")]
    TooManySiblings(usize),
    /// A cart item has too many adds to add one.
    #[error("{0} separate adds of this item; set its quantity to fold them into one")]
    TooManyAdds(usize),
    /// A cart quantity of zero was added.
    #[error("a quantity to add is at least 1")]
    ZeroQuantity,
    /// The client's timestamp lies too far ahead, or the key's last stamp cannot be exceeded.
    #[error("timestamp {ahead_ms} ms ahead of this node, at most {limit_ms} are allowed")]
    FutureStamp {
        /// How far ahead.
        ahead_ms: u64,
        /// The limit.
        limit_ms: u64,
    },
    /// What was observed has seen writes of this actor that its own replica has not: it lost some,
    /// or has no counter left. Draw a new epoch for the actor and prepare again.
    #[error("the actor has lost writes of its own; a new epoch is needed")]
    ActorDoubted,
    /// No stamp larger than the key's present one exists.
    #[error("the register's timestamp is the last there is; delete nothing, write another key")]
    StampExhausted,
}

/// A delta made, and what it does to what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// To be merged here and at every other replica.
    pub delta: Delta,
    /// How many things it changes, as Redis counts: elements or fields newly there or gone.
    pub changed: u64,
}

impl Operation {
    /// The type operated on; `None` for a delete of every type.
    pub const fn tag(&self) -> Option<Tag> {
        match self {
            Self::Bytes(_) => Some(Tag::BYTES),
            Self::Register(_) => Some(Tag::LWW),
            Self::Gset(_) => Some(Tag::GSET),
            Self::Counter(_) => Some(Tag::COUNTER),
            Self::Orset(_) => Some(Tag::ORSET),
            Self::Cart(_) => Some(Tag::CART),
            Self::Map(_) => Some(Tag::MAP),
            Self::Delete(tag) => *tag,
        }
    }

    /// The type whose counters the operation mints from (a delete leaves a newer tombstone in a
    /// register).
    pub const fn minted_tag(&self) -> Tag {
        match self.tag() {
            Some(tag) => tag,
            None => Tag::LWW,
        }
    }

    /// What the operation must be shown of the key.
    pub fn scope(&self) -> Scope {
        let elements = |tag, elements: &[Blob]| Scope::Elements {
            tag,
            elements: elements.iter().cloned().collect(),
        };
        match self {
            Self::Bytes(_) | Self::Counter(_) => Scope::Headers,
            Self::Register(RegisterOp::Set { replace: true, .. }) | Self::Delete(_) => {
                Scope::Removal
            }
            Self::Register(_) => Scope::Headers,
            Self::Gset(GsetOp::Add(names)) => elements(Tag::GSET, names),
            Self::Orset(OrsetOp::Add(names) | OrsetOp::Remove(names)) => {
                elements(Tag::ORSET, names)
            }
            Self::Cart(
                CartOp::Add { item, .. } | CartOp::Remove(item) | CartOp::SetQuantity { item, .. },
            ) => elements(Tag::CART, std::slice::from_ref(item)),
            Self::Map(MapOp::Set(fields)) => Scope::Elements {
                tag: Tag::MAP,
                elements: fields.iter().map(|(field, _)| field.clone()).collect(),
            },
            Self::Map(MapOp::Increment { field, .. }) => {
                elements(Tag::MAP, std::slice::from_ref(field))
            }
            Self::Map(MapOp::Remove(fields)) => elements(Tag::MAP, fields),
        }
    }

    /// Whether the operation takes away what it observes, so that it must act on what r replicas
    /// show. (`bytes` takes away what the presented context has seen, and needs no replica.)
    pub const fn removes_observed(&self) -> bool {
        matches!(
            self,
            Self::Register(RegisterOp::Set { at: None, .. })
                | Self::Counter(CounterOp::Reset)
                | Self::Orset(OrsetOp::Remove(_))
                | Self::Cart(CartOp::Remove(_) | CartOp::SetQuantity { .. })
                | Self::Map(MapOp::Set(_) | MapOp::Remove(_))
                | Self::Delete(_)
        )
    }

    /// Whether `view`, merged from replicas that have the operation's delta, shows just what the
    /// operation meant to leave. If not, a replica held something that the coordinator had not
    /// observed, and the operation must be prepared again on the merged view.
    pub fn is_settled(&self, view: &View) -> bool {
        let value = &view.value;
        match self {
            Self::Register(RegisterOp::Set { value: wanted, replace, at: None }) => {
                // Live increments beside the base were not observed, even if they cancel out or
                // hide behind a base that is no integer.
                let is_set = match value.state(Tag::LWW) {
                    Some(State::Register(Register { base: Some(base), tally, .. })) => {
                        base.value.as_ref() == Some(wanted) && !tally.is_live()
                    }
                    _ => false,
                };
                is_set && (!replace || view.live_tags().iter().all(|&tag| tag == Tag::LWW))
            }
            Self::Counter(CounterOp::Reset) => !view.is_live(Tag::COUNTER),
            Self::Orset(OrsetOp::Remove(names)) => match value.state(Tag::ORSET) {
                Some(State::Orset(set)) => !names.iter().any(|e| set.store.0.contains_key(e)),
                _ => true,
            },
            Self::Cart(CartOp::Remove(item)) => cart_item(view, item).is_none(),
            Self::Cart(CartOp::SetQuantity { item, quantity }) => {
                let adds = cart_item(view, item);
                adds.map_or(0, |adds| adds.0.values().copied().map(u128::from).sum())
                    == u128::from(*quantity)
            }
            Self::Map(MapOp::Set(fields)) => {
                last_values(fields).into_iter().all(|(name, wanted)| {
                    map_field(view, name).is_some_and(|field| {
                        field.winner().is_some_and(|(_, write)| write.value == *wanted)
                            && !field.tally.is_live()
                    })
                })
            }
            Self::Map(MapOp::Remove(names)) => {
                !names.iter().any(|name| map_field(view, name).is_some_and(DotStore::is_live))
            }
            Self::Delete(Some(tag)) => !view.is_live(*tag),
            Self::Delete(None) => {
                view.live_tags().into_iter().all(|tag| !Tag::KNOWN.contains(&tag))
            }
            _ => true,
        }
    }

    /// Makes the delta. `view` is what was observed, within [`scope`](Self::scope); `observed` the
    /// context that the client presented (empty for none), which counts for `bytes` only.
    pub fn prepare(
        &self,
        view: &View,
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        if let Some(tag) = self.tag()
            && !matches!(
                self,
                Self::Register(RegisterOp::Set { replace: true, .. }) | Self::Delete(_)
            )
        {
            view.check_type(tag)?;
        }
        let mut dots = Dots::new(view, self.minted_tag(), mint.actor);
        match self {
            Self::Bytes(op) => prepare_bytes(op, view, observed, &mut dots, mint.stamp, limits),
            Self::Register(op) => prepare_register(op, view, &mut dots, mint.stamp, limits),
            Self::Gset(GsetOp::Add(names)) => {
                let set = match view.value.state(Tag::GSET) {
                    Some(State::Gset(set)) => Some(set),
                    _ => None,
                };
                let (delta, changed) = add_elements(set, names, &mut dots, limits)?;
                Ok(Prepared { delta: Delta::of(Tag::GSET, State::Gset(delta)), changed })
            }
            Self::Counter(op) => prepare_counter(op, view, &mut dots),
            Self::Orset(op) => prepare_orset(op, view, &mut dots, limits),
            Self::Cart(op) => prepare_cart(op, view, &mut dots, limits),
            Self::Map(op) => prepare_map(op, view, &mut dots, mint.stamp, limits),
            Self::Delete(only) => {
                let tags: Vec<Tag> = view
                    .live_tags()
                    .into_iter()
                    .filter(|tag| only.is_none_or(|only| only == *tag))
                    .collect();
                let delta = removal(view, &tags, &mut dots, mint.stamp)?;
                Ok(Prepared { changed: u64::from(!delta.is_empty()), delta })
            }
        }
    }
}

/// Mints the dots of one operation: contiguous after those that the replica has seen of its own.
struct Dots {
    actor: Actor,
    last: u64,
}

impl Dots {
    fn new(view: &View, tag: Tag, actor: Actor) -> Self {
        Self { actor, last: view.value.context(tag).highest(actor) }
    }

    fn mint(&mut self) -> Result<Dot, UpdateError> {
        self.last = self.last.checked_add(1).ok_or(UpdateError::ActorDoubted)?;
        Ok(Dot::new(self.actor, self.last))
    }
}

fn check_value(value: &Blob, limits: &Limits) -> Result<(), UpdateError> {
    let limit = limits.value_bytes;
    if value.len() > limit {
        return Err(UpdateError::ValueTooLong { bytes: value.len(), limit });
    }
    Ok(())
}

fn check_elements<'a>(
    names: impl ExactSizeIterator<Item = &'a Blob>,
    limits: &Limits,
) -> Result<(), UpdateError> {
    let count = names.len();
    if count == 0 || count > limits.elements_per_operation {
        return Err(UpdateError::ElementCount(count));
    }
    match names.map(|name| name.len()).max() {
        Some(longest) if longest > ELEMENT_BYTES_MAX => Err(UpdateError::ElementTooLong(longest)),
        _ => Ok(()),
    }
}

/// Whether `by` may be added to something that shows `present`.
fn check_sum(present: i128, by: i64) -> Result<(), UpdateError> {
    match present.checked_add(i128::from(by)).map(i64::try_from) {
        Some(Ok(_)) => Ok(()),
        _ => Err(UpdateError::Overflow),
    }
}

/// `bytes` replicates its whole sibling set: its delta is its whole new state.
fn prepare_bytes(
    op: &BytesOp,
    view: &View,
    observed: &CausalContext,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let mut state = match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => state.clone(),
        _ => Causal::default(),
    };
    if observed.highest(dots.actor) > dots.last {
        // A dot minted now may be one that the client has seen, and superseded, before.
        return Err(UpdateError::ActorDoubted);
    }
    let before = state.store.0.len();
    state.context.merge(observed);
    state.store.remove(observed);
    let removed = (before - state.store.0.len()) as u64;
    let changed = match op {
        BytesOp::Delete => removed,
        BytesOp::Put(value) => {
            check_value(value, limits)?;
            // A put repeated after an unknown outcome is not its own sibling.
            state.store.0.retain(|_, sibling| sibling.value != *value);
            if state.store.0.len() >= limits.siblings {
                return Err(UpdateError::TooManySiblings(state.store.0.len()));
            }
            let dot = dots.mint()?;
            state.context.insert(dot);
            state.store.0.insert(dot, Sibling { value: value.clone(), stamp });
            1
        }
    };
    Ok(Prepared { delta: Delta::of(Tag::BYTES, State::Bytes(state)), changed })
}

fn prepare_register(
    op: &RegisterOp,
    view: &View,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let bottom = Register::default();
    let register = match view.value.state(Tag::LWW) {
        Some(State::Register(register)) => register,
        _ => &bottom,
    };
    let dot = dots.mint()?;
    let mut delta = Register { context: [dot].into_iter().collect(), ..Register::default() };
    let mut others = Delta::default();
    match op {
        RegisterOp::Set { value, at, replace } => {
            check_value(value, limits)?;
            let stamp = match at {
                Some(at) => {
                    let ahead_ms = at.millis().saturating_sub(stamp.millis());
                    let limit_ms = limits.future_ms;
                    if ahead_ms > limit_ms {
                        return Err(UpdateError::FutureStamp { ahead_ms, limit_ms });
                    }
                    *at
                }
                None => later_than(register, stamp)?,
            };
            delta.base = Some(Base { stamp, dot, value: Some(value.clone()) });
            // A set that loses against what it observed replaces nothing.
            if register.base < delta.base {
                delta.tally = register.tally.reset();
            }
            if *replace {
                let tags: Vec<Tag> =
                    view.live_tags().into_iter().filter(|&tag| tag != Tag::LWW).collect();
                others = removal(view, &tags, dots, stamp)?;
            }
        }
        RegisterOp::Increment(by) => {
            let present = match register.read() {
                Some(text) => register::integer(&text).ok_or(UpdateError::NotAnInteger)?,
                None => 0,
            };
            check_sum(i128::from(present), *by)?;
            delta.tally = register.tally.incremented(dot, i128::from(*by));
        }
    }
    others.merge(&Delta::of(Tag::LWW, State::Register(delta)));
    Ok(Prepared { delta: others, changed: 1 })
}

/// A stamp that wins over the register's present one: a write over a stamp from the future takes
/// that stamp plus one.
fn later_than(register: &Register, stamp: Stamp) -> Result<Stamp, UpdateError> {
    let Some(base) = &register.base else { return Ok(stamp) };
    let stamp = stamp.max(base.stamp.next());
    if stamp > base.stamp { Ok(stamp) } else { Err(UpdateError::StampExhausted) }
}

fn prepare_counter(op: &CounterOp, view: &View, dots: &mut Dots) -> Result<Prepared, UpdateError> {
    let bottom = Tally::default();
    let tally = match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => &counter.tally,
        _ => &bottom,
    };
    let mut delta = CounterState::default();
    let changed = match op {
        CounterOp::Add(by) => {
            check_sum(tally.value(), *by)?;
            let dot = dots.mint()?;
            delta.context.insert(dot);
            delta.tally = tally.incremented(dot, i128::from(*by));
            1
        }
        CounterOp::Reset => {
            delta.tally = tally.reset();
            u64::from(tally.is_live())
        }
    };
    Ok(Prepared { delta: Delta::of(Tag::COUNTER, State::Counter(delta)), changed })
}

/// Adds `names`, each under a dot of its own that replaces the dots seen of it. An element already
/// there is added anew all the same, so that it survives a concurrent removal.
fn add_elements(
    set: Option<&Causal<DotMap<DotSet>>>,
    names: &[Blob],
    dots: &mut Dots,
    limits: &Limits,
) -> Result<(Causal<DotMap<DotSet>>, u64), UpdateError> {
    check_elements(names.iter(), limits)?;
    let mut delta = Causal::<DotMap<DotSet>>::default();
    let mut changed = 0;
    for name in names.iter().collect::<BTreeSet<_>>() {
        match set.and_then(|set| set.store.0.get(name)) {
            Some(seen) => delta.context.extend(seen.dots()),
            None => changed += 1,
        }
        let dot = dots.mint()?;
        delta.context.insert(dot);
        delta.store.0.insert(name.clone(), DotFun([(dot, ())].into()));
    }
    Ok((delta, changed))
}

fn prepare_orset(
    op: &OrsetOp,
    view: &View,
    dots: &mut Dots,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let set = match view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => Some(set),
        _ => None,
    };
    match op {
        OrsetOp::Add(names) => {
            let (delta, changed) = add_elements(set, names, dots, limits)?;
            Ok(Prepared { delta: Delta::of(Tag::ORSET, State::Orset(delta)), changed })
        }
        OrsetOp::Remove(names) => {
            check_elements(names.iter(), limits)?;
            let mut delta = Causal::<DotMap<DotSet>>::default();
            let mut gone = BTreeSet::new();
            for name in names {
                if let Some(seen) = set.and_then(|set| set.store.0.get(name)) {
                    delta.context.extend(seen.dots());
                    gone.insert(name.clone());
                }
            }
            let changed = gone.len() as u64;
            let delta = Delta::touching(Tag::ORSET, State::Orset(delta), gone);
            Ok(Prepared { delta, changed })
        }
    }
}

fn cart_item<'a>(view: &'a View, item: &Blob) -> Option<&'a DotFun<u64>> {
    match view.value.state(Tag::CART) {
        Some(State::Cart(cart)) => cart.store.0.get(item),
        _ => None,
    }
}

fn prepare_cart(
    op: &CartOp,
    view: &View,
    dots: &mut Dots,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let (item, quantity, replaces) = match op {
        CartOp::Add { quantity: 0, .. } => return Err(UpdateError::ZeroQuantity),
        CartOp::Add { item, quantity } => (item, *quantity, false),
        CartOp::Remove(item) => (item, 0, true),
        CartOp::SetQuantity { item, quantity } => (item, *quantity, true),
    };
    check_elements(std::iter::once(item), limits)?;
    let seen = cart_item(view, item);
    let mut delta = Causal::<DotMap<DotFun<u64>>>::default();
    let kept = if replaces { None } else { seen };
    let sum = kept.map_or(0, |adds| adds.0.values().copied().map(u128::from).sum::<u128>());
    if i64::try_from(sum.saturating_add(u128::from(quantity))).is_err() {
        return Err(UpdateError::Overflow);
    }
    if let Some(adds) = kept
        && adds.0.len() >= limits.adds_per_item
    {
        return Err(UpdateError::TooManyAdds(adds.0.len()));
    }
    if replaces && let Some(adds) = seen {
        delta.context.extend(adds.dots());
    }
    if quantity > 0 {
        let dot = dots.mint()?;
        delta.context.insert(dot);
        delta.store.0.insert(item.clone(), DotFun([(dot, quantity)].into()));
    }
    let changed = match op {
        CartOp::Remove(_) => u64::from(seen.is_some()),
        _ => u64::from(seen.is_none() && quantity > 0),
    };
    let delta = Delta::touching(Tag::CART, State::Cart(delta), [item.clone()]);
    Ok(Prepared { delta, changed })
}

/// Each field once: where one is named twice, the last value counts.
fn last_values(fields: &[(Blob, Blob)]) -> BTreeMap<&Blob, &Blob> {
    fields.iter().map(|(name, value)| (name, value)).collect()
}

fn map_field<'a>(view: &'a View, field: &Blob) -> Option<&'a Field> {
    match view.value.state(Tag::MAP) {
        Some(State::Map(map)) => map.store.0.get(field),
        _ => None,
    }
}

fn prepare_map(
    op: &MapOp,
    view: &View,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let mut delta = Causal::<DotMap<Field>>::default();
    let mut named = BTreeSet::new();
    let mut changed = 0;
    match op {
        MapOp::Set(fields) => {
            check_elements(fields.iter().map(|(name, _)| name), limits)?;
            for (name, value) in last_values(fields) {
                check_value(value, limits)?;
                let seen = map_field(view, name);
                changed += u64::from(!seen.is_some_and(DotStore::is_live));
                let mut field = Field::default();
                let mut stamp = stamp;
                if let Some(seen) = seen {
                    delta.context.extend(seen.writes.dots());
                    field.tally = seen.tally.reset();
                    if let Some((_, latest)) = seen.winner() {
                        stamp = stamp.max(latest.stamp.next());
                    }
                }
                let dot = dots.mint()?;
                delta.context.insert(dot);
                field.writes.0.insert(dot, Write { stamp, value: value.clone() });
                delta.store.0.insert(name.clone(), field);
            }
        }
        MapOp::Increment { field: name, by } => {
            check_elements(std::iter::once(name), limits)?;
            let bottom = Field::default();
            let seen = map_field(view, name).unwrap_or(&bottom);
            let present = match seen.read() {
                Some(text) => register::integer(&text).ok_or(UpdateError::NotAnInteger)?,
                None => 0,
            };
            check_sum(i128::from(present), *by)?;
            changed = u64::from(!seen.is_live());
            let dot = dots.mint()?;
            delta.context.insert(dot);
            let tally = seen.tally.incremented(dot, i128::from(*by));
            delta.store.0.insert(name.clone(), Field { writes: DotFun::default(), tally });
        }
        MapOp::Remove(names) => {
            check_elements(names.iter(), limits)?;
            for name in names.iter().collect::<BTreeSet<_>>() {
                let Some(seen) = map_field(view, name) else { continue };
                changed += u64::from(seen.is_live());
                remove_field(&mut delta, name, seen);
                named.insert(name.clone());
            }
        }
    }
    Ok(Prepared { delta: Delta::touching(Tag::MAP, State::Map(delta), named), changed })
}

fn remove_field(delta: &mut Causal<DotMap<Field>>, name: &Blob, seen: &Field) {
    delta.context.extend(seen.writes.dots());
    let tally = seen.tally.reset();
    if !tally.is_empty() {
        delta.store.0.insert(name.clone(), Field { writes: DotFun::default(), tally });
    }
}

/// The delta that removes what `view` shows of `tags`. A collection is cleared by its context
/// alone; a map also names the fields whose increments are reset.
fn removal(view: &View, tags: &[Tag], dots: &mut Dots, stamp: Stamp) -> Result<Delta, UpdateError> {
    let mut delta = Delta::default();
    for (&tag, state) in view.value.0.iter().filter(|(tag, _)| tags.contains(tag)) {
        let context = state.context().clone();
        let part = match state {
            State::Bytes(_) => {
                Delta::of(tag, State::Bytes(Causal { store: DotFun::default(), context }))
            }
            State::Register(register) => {
                let stamp = later_than(register, stamp)?;
                let dot = dots.mint()?;
                let base = Some(Base { stamp, dot, value: None });
                let tally = register.tally.reset();
                let context = [dot].into_iter().collect();
                Delta::of(tag, State::Register(Register { base, tally, context }))
            }
            State::Counter(counter) => {
                let tally = counter.tally.reset();
                let context = CausalContext::default();
                Delta::of(tag, State::Counter(CounterState { tally, context }))
            }
            State::Gset(_) => {
                Delta::sweeping(tag, State::Gset(Causal { store: DotMap::default(), context }))
            }
            State::Orset(_) => {
                Delta::sweeping(tag, State::Orset(Causal { store: DotMap::default(), context }))
            }
            State::Cart(_) => {
                Delta::sweeping(tag, State::Cart(Causal { store: DotMap::default(), context }))
            }
            State::Map(map) => {
                let mut part = Causal { store: DotMap::default(), context };
                for (name, field) in map.store.0.iter().filter(|(_, f)| f.tally.is_live()) {
                    remove_field(&mut part, name, field);
                }
                Delta::sweeping(tag, State::Map(part))
            }
            // What this build does not know it cannot remove.
            State::Opaque(_) => continue,
        };
        delta.merge(&part);
    }
    Ok(delta)
}
