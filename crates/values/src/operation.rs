//! Operations: what can be done to a key, what it must be shown, and when it counts as done.
//!
//! Every limit, type and overflow check is made when a delta is made ([`Operation::prepare`]); a
//! merge checks nothing and never fails. Removals act on what the given view shows (observed
//! remove); a coordinator shows them what enough replicas have.

use clock::{Actor, CausalContext, Stamp};
use serde::{Deserialize, Serialize};

use crate::{
    Blob, BytesOp, CartOp, CounterOp, Delta, ELEMENT_BYTES_MAX, GsetOp, MapOp, OrsetOp, RegisterOp,
    Scope, State, Tag, View,
};

mod prepare;

use prepare::{
    Dots, add_elements, prepare_bytes, prepare_cart, prepare_counter, prepare_map, prepare_orset,
    prepare_register, removal,
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

#[cfg(test)]
mod tests;
