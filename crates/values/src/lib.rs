//! Typed values: their states, operations, deltas and merges.
//!
//! A key's [`Value`] is one [`State`] per type [`Tag`], each an element of a join-semilattice. An
//! [`Operation`] does not change a value: it *prepares* a [`Delta`], and the delta is merged, here
//! and at every other replica. What a reader sees of a value, within some [`Scope`], is a
//! [`View`].
//!
//! `bytes`, `gset`, `orset`, `cart` and `map` share one implementation of causality
//! ([`Causal`] over a [`DotStore`]); `lww`, `counter` and the fields of a `map` share one counter
//! with exact observed reset ([`Tally`]).
//!
//! This crate knows nothing of nodes, networks, clocks or disks.

mod causal;
mod delta;
mod key;
mod operation;
mod register;
mod rows;
mod state;
mod tag;
mod tally;
mod types;
mod view;

pub use causal::{Causal, DotFun, DotMap, DotSet, DotStore};
pub use delta::{Delta, Touch};
pub use key::{BUCKET_BYTES_MAX, Blob, InvalidKey, KEY_BYTES_MAX, Key};
pub use operation::{Limits, Mint, Operation, Prepared, UpdateError, WrongType};
pub use register::{Base, Field, Register, Write};
pub use rows::{
    JoinedRow, cleared_by, empty_collection, entry_row, insert_row, is_collection, join_row,
};
pub use state::{CounterState, MisplacedState, Sibling, State, Value};
pub use tag::Tag;
pub use tally::{Tally, TallyEntry};
pub use types::{
    BytesOp, CartOp, CounterOp, ELEMENT_BYTES_MAX, GsetOp, MapOp, OrsetOp, RegisterOp,
};
pub use view::{CollectionSummary, Scope, View};
