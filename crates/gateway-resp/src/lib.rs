//! The Redis protocol over the [`Datastore`](client::Datastore) facade: RESP2 and RESP3,
//! pipelined, with Redis's own error words, and `MG.` commands for what Redis lacks.
//!
//! [`serve_connection`] serves one accepted socket; [`CONNECTION_REFUSAL`] is for those that are not served; [`Parser`] is its reading half, public for
//! benchmarks.

mod codec;
mod commands;
mod connection;
mod cursor;
mod dispatch;
mod glob;
mod memory;
mod plan;
mod reply;
mod server;
mod table;

pub use codec::{Args, Parsed, Parser, ParserLimits, ProtocolError};
pub use connection::{CONNECTION_REFUSAL, serve_connection};
pub use server::ServerInfo;
