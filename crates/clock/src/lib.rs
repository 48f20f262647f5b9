//! Causality: who wrote, what was seen, and when.
//!
//! A [`Dot`] names one write for ever; a [`VersionVector`] and a [`CausalContext`] say which dots
//! have been seen; a [`Stamp`] of the hybrid logical clock orders register writes; a
//! [`ContextToken`] carries a context to a client and back unforged.
//!
//! ```
//! use clock::{Actor, CausalContext, Dot, NodeId, Ordering, VersionVector};
//!
//! let (a, b) = (Actor::new(NodeId(1), 7, 0), Actor::new(NodeId(2), 8, 0));
//! let left: VersionVector = [(a, 2), (b, 1)].into_iter().collect();
//! let right: VersionVector = [(a, 1), (b, 2)].into_iter().collect();
//! assert_eq!(left.compare(&right), Ordering::Concurrent);
//!
//! let mut seen = CausalContext::from(left);
//! seen.insert(Dot::new(a, 4));
//! assert!(seen.contains(Dot::new(a, 4)) && !seen.contains(Dot::new(a, 3)));
//! ```
//!
//! This crate reads no clock and draws no randomness: both come in as arguments.

mod actor;
mod codec;
mod context;
mod hybrid;
mod round;
mod token;
mod version_vector;

pub use actor::{Actor, Dot, Epoch, NodeId};
pub use codec::{DecodeError, decode, encode, encode_into, encoded_length};
pub use context::CausalContext;
pub use hybrid::{HybridClock, Stamp};
pub use round::{RingId, Round};
pub use token::{ClusterSecret, ContextToken, TokenClaims, TokenError, TokenScope};
pub use version_vector::{Ordering, VersionVector};
