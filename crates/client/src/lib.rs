//! The `Datastore` facade and the native client. (Being written.)

mod datastore;

pub use datastore::Datastore;
