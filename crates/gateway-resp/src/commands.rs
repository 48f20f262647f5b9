//! What each command does: how its arguments become requests, and their answers its reply.

pub(crate) mod buckets;
pub(crate) mod collections;
pub(crate) mod conflicts;
pub(crate) mod connection;
pub(crate) mod expiry;
pub(crate) mod hashes;
pub(crate) mod introspection;
pub(crate) mod keys;
pub(crate) mod merganser;
pub(crate) mod named;
pub(crate) mod refused;
pub(crate) mod server;
pub(crate) mod sets;
pub(crate) mod siblings;
pub(crate) mod strings;
pub(crate) mod transaction;
