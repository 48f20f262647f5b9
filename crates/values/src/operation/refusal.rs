//! Why an operation makes no delta.

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::{ELEMENT_BYTES_MAX, Tag};

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
    #[error(
        "{0} elements named; name 1 to {most} in one operation",
        most = Limits::default().elements_per_operation
    )]
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
    /// The collection has no room for the elements that would be new in it.
    #[error(
        "the collection has {elements} elements, and {limit} are allowed; remove some, or use several keys"
    )]
    CollectionFull {
        /// How many it has.
        elements: u64,
        /// The limit.
        limit: u64,
    },
}

fn holds(live: &[Tag]) -> String {
    match live {
        [] => "the key holds nothing".into(),
        live => format!("the key holds {}", names(live)),
    }
}
