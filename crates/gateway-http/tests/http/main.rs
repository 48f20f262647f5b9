//! The gateway as its callers see it: over a replica in memory, over a datastore that answers from
//! a script, and over a real socket.

mod admin;
mod failures;
mod harness;
mod raw;
mod reference;
mod socket;
mod typed;
