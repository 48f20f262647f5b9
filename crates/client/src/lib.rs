//! The `Datastore` facade that everything above a node speaks to, the native client, and a
//! datastore in memory for tests.

mod datastore;
mod memory;

pub use datastore::Datastore;
pub use memory::MemoryDatastore;
