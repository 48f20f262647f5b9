//! The HTTP/JSON gateway: the store in curl's reach.
//!
//! A raw value is always answered as a list of siblings with a context, one or many alike, so that
//! no caller is surprised by the second one. Typed values have small JSON operations. Every error
//! is a problem document (RFC 9457) that says what to do next. Nothing here reaches past the
//! [`Datastore`](client::Datastore) facade.
//!
//! The routes, with an example each: `docs/reference/http.md`.

mod address;
mod admin;
mod batch;
mod buckets;
mod comparisons;
mod conflicts;
mod connection;
mod expiry;
mod explain;
mod gateway;
mod headers;
mod json;
mod keys;
mod metrics;
mod names;
mod options;
mod origin;
mod parameters;
mod problem;
mod raw;
mod routes;
mod typed;

pub use connection::{ConnectionError, connection_refusal, serve_connection};
pub use options::HttpOptions;
pub use routes::router;
