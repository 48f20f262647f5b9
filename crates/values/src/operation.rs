//! Operations: what can be done to a key, what it must be shown, and when it counts as done.
//!
//! Every limit, type and overflow check is made when a delta is made ([`Operation::prepare`]); a
//! merge checks nothing and never fails. Removals act on what the given view shows (observed
//! remove); a coordinator shows them what enough replicas have.

use clock::{Actor, CausalContext, Dot, Stamp};
use serde::{Deserialize, Serialize};

use crate::{
    Blob, BytesOp, CartOp, CounterOp, Delta, ELEMENT_BYTES_MAX, ExpiryOp, GsetOp, Lifetime, MapOp,
    OrsetOp, RegisterOp, Scope, State, Tag, View,
};

mod living;
mod named;
mod prepare;

use living::prepare_expiry;
use prepare::{
    Dots, add_elements, prepare_bytes, prepare_cart, prepare_counter, prepare_delete, prepare_map,
    prepare_orset, prepare_register, prepare_resolve,
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
}

/// What an operation is made of.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// What is seen of the key: without what is due.
    view: &'a View,
    /// What is held of it. An increment goes on from its totals, and raw values are replicated as
    /// they are: what is due is for those to remove who have observed it.
    held: &'a View,
}

/// Bounds checked when a delta is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value, in bytes. Default 8 MiB.
    pub value_bytes: usize,
    /// A put that leaves more siblings than this is done and reported. Default 25 (Riak's
    /// `warn_siblings`).
    pub siblings_soft: usize,
    /// A put that would leave more siblings than this, and more than there were, is refused. Never
    /// less than 1 counts. Default 100 (Riak's `max_siblings`).
    pub siblings: usize,
    /// Most bytes that the siblings which a put leaves may hold in all: a raw value is replicated
    /// with all of them, in one message. Never less than `value_bytes` counts. Default 8 MiB.
    pub siblings_bytes: usize,
    /// Most adds that one cart item may hold apart. Default 10,000.
    pub adds_per_item: usize,
    /// Most elements or fields named by one operation. Default 100,000.
    pub elements_per_operation: usize,
    /// Most bytes of names and values in one operation ([`Operation::payload_bytes`]), since its
    /// delta is one message. One element with the longest value always fits. Default 8 MiB.
    pub operation_bytes: usize,
    /// Most names (idempotency keys) that a key remembers. Default 1,024: some 40 KiB of its
    /// context.
    pub names: usize,
    /// Most of them of one client. Default 256.
    pub names_per_client: usize,
    /// Most of them that nobody asked for: given by client libraries and forwarding nodes. Default
    /// 32, since every name makes every update of its key dearer.
    pub names_unasked: usize,
    /// How far a client's own timestamp may lie ahead, in milliseconds. Default one minute.
    pub future_ms: u64,
    /// Most bytes of names of a map's fields with increments that a deadline may cover, some fixed
    /// bytes per field included: what they come to is stored with the key, and sent, whole. Default
    /// 256 KiB, a guess.
    pub schedule_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 8 << 20,
            siblings_soft: 25,
            siblings: 100,
            siblings_bytes: 8 << 20,
            adds_per_item: 10_000,
            elements_per_operation: 100_000,
            operation_bytes: 8 << 20,
            names: 1_024,
            names_per_client: 256,
            names_unasked: 32,
            future_ms: 60_000,
            schedule_bytes: 256 << 10,
        }
    }
}

impl Limits {
    fn siblings_bytes(&self) -> usize {
        self.siblings_bytes.max(self.value_bytes)
    }

    fn operation_bytes(&self) -> usize {
        self.operation_bytes.max(self.value_bytes.saturating_add(ELEMENT_BYTES_MAX))
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
    #[error(
        "{0} siblings, and no more are allowed; read them, reconcile, and put the result back with the context of that read"
    )]
    TooManySiblings(usize),
    /// The key's siblings hold too many bytes to add one.
    #[error(
        "{bytes} bytes of siblings with this one, at most {limit} are allowed; get them, reconcile, and put with the context of that get"
    )]
    SiblingsTooLong {
        /// Bytes that they would hold in all.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The operation's names and values are too long together.
    #[error(
        "{bytes} bytes of names and values in one operation, at most {limit} are allowed; use several operations"
    )]
    OperationTooLong {
        /// Their bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
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
    /// The operation's name was used for another operation on this key.
    #[error("this idempotency key was used with other arguments on this key; use a new one")]
    NameReused,
    /// The key remembers as many names as it may, in all or of this client.
    #[error(
        "the key remembers {limit} idempotency keys and takes no more; send the operation without one"
    )]
    TooManyNames {
        /// The limit that was met.
        limit: usize,
    },
    /// No stamp larger than the key's present one exists.
    #[error("the register's timestamp is the last there is; delete nothing, write another key")]
    StampExhausted,
    /// There is no conflict of types to resolve.
    #[error("{}; nothing to resolve", holds(.0))]
    NotInConflict(Vec<Tag>),
    /// The type to keep is none that the key has.
    #[error("{}, and no {wanted}: keep one of these", holds(.live))]
    NotHeld {
        /// The type to keep.
        wanted: Tag,
        /// The types that the key has.
        live: Vec<Tag>,
    },
    /// A type that would have to be removed is none that this node knows.
    #[error("the key holds an {0}, which this node cannot remove: ask a node of a later version")]
    UnknownType(Tag),
    /// The deadline is later than there is.
    #[error("the deadline lies beyond the last there is, 9223372036854775807 ms after 1970")]
    DeadlineTooFar,
    /// Too many fields with increments would be under a deadline.
    #[error(
        "{bytes} bytes of fields with increments under a deadline, at most {limit} are allowed; \
         take the deadline away, or set fields instead of incrementing them"
    )]
    ScheduleTooLong {
        /// Their bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

fn holds(live: &[Tag]) -> String {
    match live {
        [] => "the key holds nothing".into(),
        live => format!("the key holds {}", names(live)),
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
    /// The dots that it minted, if any: what the write is called from now on.
    pub minted: Option<Minted>,
}

impl Prepared {
    const fn new(delta: Delta, changed: u64) -> Self {
        Self { delta, changed, repeated: false, minted: None }
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
        self.prepare_living((Lifetime::Usual, mint.actor), view, observed, mint, limits)
    }

    /// The same, with what it does to the key's time to live: a schedule is minted under the actor
    /// beside it, which for an operation with a name is the operation's own.
    pub fn prepare_living(
        &self,
        living: (Lifetime, Actor),
        view: &View,
        observed: &CausalContext,
        mint: Mint,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let now_ms = mint.stamp.millis();
        if view.value.due(now_ms).is_none() {
            return self.prepare_shown(living, Seen { view, held: view }, observed, mint, limits);
        }
        let mut shown = view.clone();
        shown.expire(now_ms);
        self.prepare_shown(living, Seen { view: &shown, held: view }, observed, mint, limits)
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
        if named::is_repeated(view, observed, actor, limits)? {
            return Ok(named::repeated(seen.held, tag, actor));
        }
        let mut prepared = self.prepare_once(living, seen, observed, mint, limits)?;
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
        prepared.minted = dots.minted(self.minted_tag());
        living::follow(&mut prepared, self, living, view, mint.stamp, limits)?;
        Ok(prepared)
    }

    fn delta(
        &self,
        Seen { view, held }: Seen<'_>,
        observed: &CausalContext,
        dots: &mut Dots,
        stamp: Stamp,
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        match self {
            Self::Bytes(op) => prepare_bytes(op, held, observed, dots, stamp, limits),
            Self::Register(op) => prepare_register(op, view, held, dots, stamp, limits),
            Self::Gset(GsetOp::Add(names)) => {
                let set = match view.value.state(Tag::GSET) {
                    Some(State::Gset(set)) => Some(set),
                    _ => None,
                };
                let (delta, changed) = add_elements(set, names, dots)?;
                Ok(Prepared::new(Delta::of(Tag::GSET, State::Gset(delta)), changed))
            }
            Self::Counter(op) => prepare_counter(op, view, held, dots),
            Self::Orset(op) => prepare_orset(op, view, dots),
            Self::Cart(op) => prepare_cart(op, view, dots, limits),
            Self::Map(op) => prepare_map(op, view, held, dots, stamp),
            Self::Delete(only) => {
                prepare_delete(|tag| only.is_none_or(|only| only == tag), (view, held), dots, stamp)
            }
            Self::Resolve(keep) => prepare_resolve(*keep, (view, held), dots, stamp),
            Self::Expiry(op) => prepare_expiry(op, view, dots, stamp, limits),
        }
    }
}

#[cfg(test)]
mod tests;
