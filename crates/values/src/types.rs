//! The operations of each type, as users name them.

use clock::Stamp;
use serde::{Deserialize, Serialize};

use crate::Blob;

/// Longest element of a set, item of a cart or field name of a map, in bytes.
pub const ELEMENT_BYTES_MAX: usize = 64 * 1024;

/// Operations of `bytes`. What they supersede is what the presented context has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BytesOp {
    /// Adds a sibling, superseding the siblings seen.
    Put(Blob),
    /// Removes the siblings seen.
    Delete,
}

/// Operations of `lww`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterOp {
    /// Sets the value and resets the increments observed.
    Set {
        /// The new value.
        value: Blob,
        /// The client's own timestamp; `None` for the coordinator's hybrid time.
        at: Option<Stamp>,
        /// Whether to remove what other types the key holds (Redis's SET), instead of refusing.
        replace: bool,
    },
    /// Adds to an integer; a missing register counts as 0.
    Increment(i64),
    /// A raw put where raw values are registers: sets the value, and removes the `bytes` observed,
    /// which were put where raw values had siblings. Refused where the key has other types only.
    PutRaw(Blob),
    /// A raw delete where raw values are registers: removes the register and the `bytes` observed.
    /// Refused where the key has other types only.
    DeleteRaw,
}

/// Operations of `gset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GsetOp {
    /// Adds elements.
    Add(Vec<Blob>),
}

/// Operations of `counter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CounterOp {
    /// Adds, or takes away where negative.
    Add(i64),
    /// Takes away exactly what was observed.
    Reset,
}

/// Operations of `orset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrsetOp {
    /// Adds elements.
    Add(Vec<Blob>),
    /// Removes the adds observed of these elements.
    Remove(Vec<Blob>),
}

/// Operations of `cart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CartOp {
    /// Adds `quantity` (at least 1) of `item`.
    Add {
        /// What to add.
        item: Blob,
        /// How many.
        quantity: u64,
    },
    /// Removes the adds observed of `item`.
    Remove(Blob),
    /// Replaces the adds observed of `item` by one of `quantity`; 0 removes.
    SetQuantity {
        /// Which item.
        item: Blob,
        /// How many there are to be.
        quantity: u64,
    },
}

/// Operations of `map`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapOp {
    /// Sets fields.
    Set(Vec<(Blob, Blob)>),
    /// Adds to an integer field; a missing field counts as 0.
    Increment {
        /// Which field.
        field: Blob,
        /// By how much.
        by: i64,
    },
    /// Removes what was observed of these fields.
    Remove(Vec<Blob>),
}
