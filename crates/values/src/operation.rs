//! Operations: what can be done to a key, what it must be shown, and when it counts as done.
//!
//! Every limit, type and overflow check is made when a delta is made ([`Operation::prepare`]); a
//! merge checks nothing and never fails. Removals act on what the given view shows (observed
//! remove); a coordinator shows them what enough replicas have.

use std::collections::BTreeSet;

use clock::{Actor, CausalContext, Dot, Round, Stamp};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

use crate::{
    Blob, BytesOp, CartOp, CounterOp, Delta, ExpiryOp, GsetOp, Lifetime, MapOp, OrsetOp,
    RegisterOp, Scope, State, Tag, View, is_collection,
};

mod folding;
mod limits;
mod living;
mod named;
mod prepare;
mod refusal;
mod sealing;

pub use limits::Limits;
pub use refusal::{UpdateError, WrongType};

use folding::Folding;
use limits::{check_elements, check_room, check_value};
use living::prepare_expiry;
use prepare::{
    Dots, add_elements, last_values, prepare_bytes, prepare_cart, prepare_counter, prepare_delete,
    prepare_map, prepare_orset, prepare_register, prepare_resolve,
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
    /// Ends a conflict of types: removes what was observed of every type but this one.
    Resolve(Tag),
    /// On the key's time to live.
    Expiry(ExpiryOp),
}

/// Who makes a delta, and when.
#[derive(Clone, Copy, Debug)]
pub struct Mint {
    /// The coordinating replica's actor for this key and tag.
    pub actor: Actor,
    /// Hybrid time of the write.
    pub stamp: Stamp,
    /// In which round of the barrier the replica is: by it names are folded and epochs are sealed. Without one none are.
    pub round: Option<Round>,
}

/// What an operation is made of.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// What is seen of the key: without what is due.
    view: &'a View,
    /// What is held of it. An increment goes on from its totals, and raw values are replicated as
    /// they are: what is due is for those to remove who have observed it.
    held: &'a View,
    /// What each replica showed that showed something else: one may hold what another has seen removed.
    apart: &'a [&'a View],
    folding: Folding,
}

impl<'a> Seen<'a> {
    /// What is seen together, and what each replica showed that showed something else.
    fn each(self) -> impl Iterator<Item = &'a View> {
        self.with_apart(self.view)
    }

    /// The same of what is held, also what is due.
    fn each_held(self) -> impl Iterator<Item = &'a View> {
        self.with_apart(self.held)
    }

    fn with_apart(self, together: &'a View) -> impl Iterator<Item = &'a View> {
        let apart = if sabotage::is(Bug::RemovalTakesShared) { &[] } else { self.apart };
        std::iter::once(together).chain(apart.iter().copied())
    }

    /// Whether anybody shows something of type `tag`.
    fn shows(self, tag: Tag) -> bool {
        self.each().any(|view| view.value.state(tag).is_some() && view.is_live(tag))
    }
}

/// A delta made, and what it does to what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// To be merged here and at every other replica.
    pub delta: Delta,
    /// How many things it changes, as Redis counts: elements or fields newly there or gone.
    pub changed: u64,
    /// Whether the operation, known by its name, had been done before: nothing was done now.
    pub repeated: bool,
    /// Whether the delta says that it was done, and not all that it took away: not to be merged where the operation is
    /// not known ([`Operation::is_known`]).
    pub partial: bool,
    /// The dots that it minted, if any: what the write is called from now on.
    pub minted: Option<Minted>,
}

impl Prepared {
    const fn new(delta: Delta, changed: u64) -> Self {
        Self { delta, changed, repeated: false, partial: false, minted: None }
    }
}

/// The dots that one operation minted: consecutive ones of one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// The tag that they name writes of.
    pub tag: Tag,
    /// The first dot.
    pub first: Dot,
    /// Counter of the last one.
    pub last: u64,
}

impl Minted {
    /// Whether `dot` is one of them.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.actor == self.first.actor && (self.first.counter..=self.last).contains(&dot.counter)
    }
}

impl Operation {
    /// The type operated on; `None` for a delete of every type, for a resolution and for a key's time
    /// to live.
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
            Self::Resolve(_) | Self::Expiry(_) => None,
        }
    }

    /// What it is called where people read of it: type and verb.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bytes(BytesOp::Put(_)) => "bytes put",
            Self::Bytes(BytesOp::Delete) => "bytes delete",
            Self::Register(RegisterOp::Set { .. }) => "lww set",
            Self::Register(RegisterOp::Increment(_)) => "lww increment",
            Self::Register(RegisterOp::PutRaw(_)) => "lww raw put",
            Self::Register(RegisterOp::DeleteRaw) => "lww raw delete",
            Self::Gset(GsetOp::Add(_)) => "gset add",
            Self::Counter(CounterOp::Add(_)) => "counter add",
            Self::Counter(CounterOp::Reset) => "counter reset",
            Self::Orset(OrsetOp::Add(_)) => "orset add",
            Self::Orset(OrsetOp::Remove(_)) => "orset remove",
            Self::Cart(CartOp::Add { .. }) => "cart add",
            Self::Cart(CartOp::Remove(_)) => "cart remove",
            Self::Cart(CartOp::SetQuantity { .. }) => "cart set",
            Self::Map(MapOp::Set(_)) => "map set",
            Self::Map(MapOp::Increment { .. }) => "map increment",
            Self::Map(MapOp::Remove(_)) => "map remove",
            Self::Delete(_) => "delete",
            Self::Resolve(_) => "resolve",
            Self::Expiry(ExpiryOp::Set { .. }) => "expire",
            Self::Expiry(ExpiryOp::Persist) => "persist",
            Self::Expiry(ExpiryOp::Sweep) => "expiry",
        }
    }

    /// Bytes of all names and values in the operation: what it adds to the messages that carry it
    /// or its delta, some fixed bytes per element aside.
    pub fn payload_bytes(&self) -> usize {
        let sum = |names: &[Blob]| names.iter().map(Blob::len).sum();
        match self {
            Self::Bytes(BytesOp::Put(value))
            | Self::Register(RegisterOp::Set { value, .. } | RegisterOp::PutRaw(value)) => {
                value.len()
            }
            Self::Gset(GsetOp::Add(names)) => sum(names),
            Self::Orset(OrsetOp::Add(names) | OrsetOp::Remove(names)) => sum(names),
            Self::Cart(
                CartOp::Add { item, .. } | CartOp::Remove(item) | CartOp::SetQuantity { item, .. },
            ) => item.len(),
            Self::Map(MapOp::Set(fields)) => {
                fields.iter().map(|(name, value)| name.len() + value.len()).sum()
            }
            Self::Map(MapOp::Increment { field, .. }) => field.len(),
            Self::Map(MapOp::Remove(names)) => sum(names),
            Self::Bytes(BytesOp::Delete)
            | Self::Register(RegisterOp::Increment(_) | RegisterOp::DeleteRaw)
            | Self::Counter(_)
            | Self::Delete(_)
            | Self::Resolve(_)
            | Self::Expiry(_) => 0,
        }
    }

    /// Whether the operation's own sizes are within `limits`, whatever the key holds.
    /// [`prepare`](Self::prepare) checks it; whoever passes an operation on to another node checks
    /// it before that, so that what nobody would accept is not sent.
    pub fn check_size(&self, limits: &Limits) -> Result<(), UpdateError> {
        match self {
            Self::Bytes(BytesOp::Put(value))
            | Self::Register(RegisterOp::Set { value, .. } | RegisterOp::PutRaw(value)) => {
                check_value(value, limits)?;
            }
            Self::Gset(GsetOp::Add(names))
            | Self::Orset(OrsetOp::Add(names) | OrsetOp::Remove(names))
            | Self::Map(MapOp::Remove(names)) => check_elements(names.iter(), limits)?,
            Self::Cart(
                CartOp::Add { item: name, .. }
                | CartOp::Remove(name)
                | CartOp::SetQuantity { item: name, .. },
            )
            | Self::Map(MapOp::Increment { field: name, .. }) => {
                check_elements(std::iter::once(name), limits)?;
            }
            Self::Map(MapOp::Set(fields)) => {
                check_elements(fields.iter().map(|(name, _)| name), limits)?;
                fields.iter().try_for_each(|(_, value)| check_value(value, limits))?;
            }
            Self::Bytes(BytesOp::Delete)
            | Self::Register(RegisterOp::Increment(_) | RegisterOp::DeleteRaw)
            | Self::Counter(_)
            | Self::Delete(_)
            | Self::Resolve(_)
            | Self::Expiry(_) => {}
        }
        let (bytes, limit) = (self.payload_bytes(), limits.operation_bytes());
        if bytes > limit { Err(UpdateError::OperationTooLong { bytes, limit }) } else { Ok(()) }
    }

    /// The type whose counters the operation mints from (a removal of a register leaves a
    /// newer tombstone).
    pub const fn minted_tag(&self) -> Tag {
        match self {
            Self::Expiry(_) => Tag::EXPIRY,
            _ => match self.tag() {
                Some(tag) => tag,
                None => Tag::LWW,
            },
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
            Self::Register(
                RegisterOp::Set { replace: true, .. }
                | RegisterOp::PutRaw(_)
                | RegisterOp::DeleteRaw,
            )
            | Self::Delete(_)
            | Self::Resolve(_)
            | Self::Expiry(_) => Scope::Removal,
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
            Self::Register(
                RegisterOp::Set { at: None, .. }
                    | RegisterOp::Set { replace: true, .. }
                    | RegisterOp::PutRaw(_)
                    | RegisterOp::DeleteRaw
            ) | Self::Counter(CounterOp::Reset)
                | Self::Orset(OrsetOp::Remove(_))
                | Self::Cart(CartOp::Remove(_) | CartOp::SetQuantity { .. })
                | Self::Map(MapOp::Set(_) | MapOp::Remove(_))
                | Self::Delete(_)
                | Self::Resolve(_)
                | Self::Expiry(_)
        )
    }

    /// Whether the operation, which has the name that `actor` stands for, was done, as far as `view`, shown within
    /// [`scope`](Self::scope), or the context that its client presents has seen: all of it. Some of the elements
    /// that it adds may be known alone.
    pub fn is_known(&self, view: &View, observed: &CausalContext, actor: Actor) -> bool {
        let seen = view.value.context(self.minted_tag());
        match self.elements_added() {
            // One dot says so: the write's, or a mark.
            0 | 1 => seen.highest(actor) > 0 || observed.highest(actor) > 0,
            count => (1..=count).all(|counter| seen.contains(Dot::new(actor, counter))),
        }
    }

    /// How many elements it adds, each under a dot of its own, in the order of their names.
    fn elements_added(&self) -> u64 {
        let count = match self {
            Self::Gset(GsetOp::Add(names)) | Self::Orset(OrsetOp::Add(names)) => {
                names.iter().collect::<BTreeSet<_>>().len()
            }
            Self::Map(MapOp::Set(fields)) => last_values(fields).len(),
            _ => 0,
        };
        count as u64
    }

    /// Whether what it changes are elements that were not there.
    const fn adds_elements(&self) -> bool {
        matches!(
            self,
            Self::Gset(_)
                | Self::Orset(OrsetOp::Add(_))
                | Self::Cart(CartOp::Add { .. } | CartOp::SetQuantity { .. })
                | Self::Map(MapOp::Set(_) | MapOp::Increment { .. })
        )
    }

    /// Whether what it takes away are elements of collections that `view` shows, of which nothing but a context is
    /// left, which says of no dot of which element it was; or deadlines, which are taken back last of all.
    fn removes_elements(&self, view: &View) -> bool {
        match self {
            Self::Orset(OrsetOp::Remove(_))
            | Self::Cart(CartOp::Remove(_) | CartOp::SetQuantity { .. })
            | Self::Map(MapOp::Set(_) | MapOp::Remove(_))
            | Self::Expiry(_) => true,
            Self::Register(RegisterOp::Set { replace: true, .. })
            | Self::Delete(_)
            | Self::Resolve(_) => view.value.0.keys().any(|&tag| is_collection(tag)),
            _ => false,
        }
    }

    /// Whether done twice it counts twice, so that a node which passes it on gives it a name.
    pub const fn counts(&self) -> bool {
        matches!(
            self,
            Self::Counter(CounterOp::Add(_))
                | Self::Register(RegisterOp::Increment(_))
                | Self::Map(MapOp::Increment { .. })
                | Self::Cart(CartOp::Add { .. })
        )
    }

    /// Whether its name, if it has one, is folded once nobody tries it again.
    pub const fn is_folded(&self) -> bool {
        matches!(self, Self::Counter(CounterOp::Add(_)) | Self::Register(RegisterOp::Increment(_)))
    }

    /// Makes the delta. `view` is what was observed, within [`scope`](Self::scope); `observed` the
    /// context that the client presented (empty for none), which counts for `bytes` only. An
    /// operation with a name ([`Actor::named`]) is made once: known to have been done, it changes
    /// nothing.
    pub fn prepare(
        &self,
        view: &View,
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        self.prepare_living((Lifetime::Usual, mint.actor), (view, &[]), observed, mint, limits)
    }

    /// The same, with what it does to the key's time to live: a schedule is minted under the actor
    /// beside it, which for an operation with a name is the operation's own.
    ///
    /// Of the views the first is what all replicas showed together that were asked, the others what each of them showed, where
    /// that is something else. A removal takes away what any of them shows, also what another has seen removed: or that
    /// would be back with the loss of the other's disk, however many copies the removal has.
    pub fn prepare_living(
        &self,
        living: (Lifetime, Actor),
        (view, apart): (&View, &[&View]),
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let Some(due) = view.value.due(mint.stamp.millis()) else {
            let folding = Folding::of(view, mint);
            let seen = Seen { view, held: view, apart, folding };
            return self.prepare_shown(living, seen, observed, mint, limits);
        };
        let left = |view: &View| {
            let mut left = view.clone();
            due.take_from(&mut left);
            left
        };
        let shown = left(view);
        let apart: Vec<View> = apart.iter().map(|view| left(view)).collect();
        let apart: Vec<&View> = apart.iter().collect();
        let folding = Folding::of(view, mint);
        let seen = Seen { view: &shown, held: view, apart: &apart, folding };
        self.prepare_shown(living, seen, observed, mint, limits)
    }

    fn prepare_shown(
        &self,
        living: (Lifetime, Actor),
        seen: Seen<'_>,
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let (tag, actor, view) = (self.minted_tag(), mint.actor, seen.view);
        if !actor.is_named() {
            return self.prepare_once(living, seen, observed, mint, limits);
        }
        named::check(view, observed, actor, &seen.folding.actors(seen.held), limits)?;
        if self.is_known(view, observed, actor) && !sabotage::is(Bug::NameUsedTwice) {
            let mut prepared = named::repeated(self, seen.held, actor);
            if !named::is_scheduled(living, self, view) {
                let first = Dot::new(actor, 1);
                prepared.minted = Some(Minted { tag, first, last: self.elements_added().max(1) });
                living::follow(&mut prepared, self, living, seen, mint.stamp, limits)?;
            }
            return Ok(prepared);
        }
        let mut prepared = self.prepare_once(living, seen, observed, mint, limits)?;
        if view.value.context(tag).highest(actor) > 0 {
            // Of some of its elements nothing was made.
            prepared.delta.merge(&named::here(self, seen.held));
        }
        let first = named::mark(&mut prepared.delta, tag, actor);
        let last = first.counter;
        prepared.minted = prepared.minted.or(Some(Minted { tag, first, last }));
        Ok(prepared)
    }

    fn prepare_once(
        &self,
        living: (Lifetime, Actor),
        seen: Seen<'_>,
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let view = seen.view;
        match (self, self.tag()) {
            (Self::Register(RegisterOp::Set { replace: true, .. }) | Self::Delete(_), _)
            | (_, None) => {}
            (Self::Register(RegisterOp::PutRaw(_) | RegisterOp::DeleteRaw), _)
                if view.is_live(Tag::BYTES) => {}
            (_, Some(tag)) => view.check_type(tag)?,
        }
        self.check_size(limits)?;
        let mut dots = Dots::new(view, self.minted_tag(), mint.actor);
        let mut prepared = self.delta(seen, observed, &mut dots, mint.stamp, limits)?;
        if self.adds_elements() {
            check_room(view, self.minted_tag(), prepared.changed, limits)?;
        }
        prepared.minted = dots.minted(self.minted_tag());
        living::follow(&mut prepared, self, living, seen, mint.stamp, limits)?;
        // After the schedules: what is sealed is not written.
        sealing::follow(&mut prepared.delta, self.minted_tag(), seen, mint, limits);
        Ok(prepared)
    }

    fn delta(
        &self,
        seen: Seen<'_>,
        observed: &CausalContext,
        dots: &mut Dots,
        stamp: Stamp,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let view = seen.view;
        match self {
            Self::Bytes(op) => prepare_bytes(op, seen.held, observed, dots, stamp, limits),
            Self::Register(op) => prepare_register(op, seen, dots, stamp, limits),
            Self::Gset(GsetOp::Add(names)) => {
                let set = match view.value.state(Tag::GSET) {
                    Some(State::Gset(set)) => Some(set),
                    _ => None,
                };
                let (delta, changed) = add_elements(set, names, dots)?;
                Ok(Prepared::new(Delta::of(Tag::GSET, State::Gset(delta)), changed))
            }
            Self::Counter(op) => prepare_counter(op, seen, dots),
            Self::Orset(op) => prepare_orset(op, seen, dots),
            Self::Cart(op) => prepare_cart(op, seen, dots, limits),
            Self::Map(op) => prepare_map(op, seen, dots, stamp),
            Self::Delete(only) => {
                prepare_delete(|tag| only.is_none_or(|only| only == tag), seen, dots, stamp)
            }
            Self::Resolve(keep) => prepare_resolve(*keep, seen, dots, stamp),
            Self::Expiry(op) => prepare_expiry(op, seen, dots, stamp, limits),
        }
    }
}

#[cfg(test)]
mod tests;
