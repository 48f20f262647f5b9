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
//! ```
//! use clock::{Actor, CausalContext, NodeId, Stamp};
//! use values::{CounterOp, Limits, Mint, Operation, State, Tag, Value, View};
//!
//! let (mut at_a, mut at_b) = (Value::default(), Value::default());
//! let none = CausalContext::default();
//!
//! // Two replicas count the same key without hearing of one another.
//! for (node, by, value) in [(1, 5, &mut at_a), (2, -2, &mut at_b)] {
//!     let mint = Mint { actor: Actor::new(NodeId(node), node, 0), stamp: Stamp::from_millis(1), round: None };
//!     let operation = Operation::Counter(CounterOp::Add(by));
//!     let view = View::of(value.clone());
//!     value.apply(&operation.prepare(&view, &none, mint, &Limits::default())?.delta);
//! }
//!
//! at_a.merge(&at_b);
//! at_b.merge(&at_a);
//! assert_eq!(clock::encode(&at_a), clock::encode(&at_b));
//! let Some(State::Counter(counter)) = at_a.state(Tag::COUNTER) else { panic!("a counter") };
//! assert_eq!(counter.tally.value(), 3);
//! # Ok::<(), values::UpdateError>(())
//! ```
//!
//! This crate knows nothing of nodes, networks, clocks or disks.

mod causal;
mod delta;
mod done;
mod expiry;
mod key;
mod operation;
mod register;
mod rows;
mod siblings;
mod state;
mod tag;
mod tally;
mod types;
mod view;
mod weight;

pub use causal::{Causal, DotFun, DotMap, DotSet, DotStore};
pub use delta::{Delta, Touch};
pub use expiry::{
    DEADLINE_MS_MAX, Deadline, Expiry, ExpiryCondition, ExpiryOp, Lifetime, Removal, Schedule,
    Schedules,
};
pub use key::{
    BUCKET_BYTES_MAX, Blob, BucketId, DEFAULT_BUCKET, InvalidKey, KEY_BYTES_MAX, Key, identifier,
};
pub use operation::{Limits, Mint, Minted, Operation, Prepared, UpdateError, WrongType};
pub use register::{Base, Field, Register, Write};
pub use rows::{
    JoinedRow, empty_collection, entry_row, insert_row, is_collection, join_row, row_actors,
};
pub use siblings::ManySiblings;
pub use state::{CounterState, Sibling, State, Value, deserialize_states, serialize_states};
pub use tag::{NoSuchTag, Tag, TagMap, only, tag_map};
pub use tally::{Sum, Tally, TallyEntry};
pub use types::{
    BytesOp, CartOp, CounterOp, ELEMENT_BYTES_MAX, GsetOp, MapOp, OrsetOp, RegisterOp,
};
pub use view::{CollectionSummary, Scope, View};
