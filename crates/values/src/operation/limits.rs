//! Bounds on what operations name and leave, and checking them.

use super::UpdateError;
use crate::{Blob, ELEMENT_BYTES_MAX, Tag, View};

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
    /// Most elements, items or fields that a collection may hold; concurrent operations may each add as many as were free.
    /// Default 100,000,000.
    pub elements: u64,
    /// Most elements or fields named by one operation. Default 100,000.
    pub elements_per_operation: usize,
    /// Most bytes of names and values in one operation ([`Operation::payload_bytes`](crate::Operation::payload_bytes)), since its
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
    /// Actors of which nothing is live that a context keeps: those of earlier starts of nodes and of requests with names. Where
    /// there are more they are sealed, and forgotten some rounds of the barrier later. Default 8: two starts of three nodes,
    /// and some.
    pub actors_resting: usize,
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
            elements: 100_000_000,
            elements_per_operation: 100_000,
            operation_bytes: 8 << 20,
            names: 1_024,
            names_per_client: 256,
            names_unasked: 32,
            actors_resting: 8,
            future_ms: 60_000,
            schedule_bytes: 256 << 10,
        }
    }
}

impl Limits {
    pub(super) fn siblings_bytes(&self) -> usize {
        self.siblings_bytes.max(self.value_bytes)
    }

    pub(super) fn operation_bytes(&self) -> usize {
        self.operation_bytes.max(self.value_bytes.saturating_add(ELEMENT_BYTES_MAX))
    }
}

pub(super) fn check_value(value: &Blob, limits: &Limits) -> Result<(), UpdateError> {
    let limit = limits.value_bytes;
    if value.len() > limit {
        return Err(UpdateError::ValueTooLong { bytes: value.len(), limit });
    }
    Ok(())
}

pub(super) fn check_elements<'a>(
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

/// Whether the collection of type `tag` has room for so many elements that it does not show yet.
pub(super) fn check_room(
    view: &View,
    tag: Tag,
    new: u64,
    limits: &Limits,
) -> Result<(), UpdateError> {
    let elements = view.collections.get(&tag).map_or(0, |all| all.live);
    if new > 0 && elements.saturating_add(new) > limits.elements {
        return Err(UpdateError::CollectionFull { elements, limit: limits.elements });
    }
    Ok(())
}
