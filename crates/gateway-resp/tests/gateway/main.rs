//! The gateway over real loopback sockets and a datastore in memory.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod clients;
mod commands;
mod connection;
mod expiry;
mod memory;
mod merganser;
mod support;
