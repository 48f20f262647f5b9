//! The gateway over real loopback sockets and a datastore in memory.

mod clients;
mod commands;
mod connection;
mod support;
