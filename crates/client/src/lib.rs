//! The `Datastore` facade that everything above a node speaks to, typed handles over it, the native
//! client, and a datastore in memory for tests.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use client::{Bucket, MemoryDatastore};
//!
//! let bucket = Bucket::new(Arc::new(MemoryDatastore::new()), "default");
//! let cart = bucket.cart("ada")?;
//! cart.add("book", 2).await?;
//! cart.add("book", 1).await?;
//! assert_eq!(cart.items().await?["book".as_bytes()], 3);
//!
//! // Raw values show every concurrent write until somebody reconciles them.
//! let note = bucket.raw("note")?;
//! note.put("tea", None).await?;
//! note.put("milk", None).await?;
//! assert_eq!(note.get().await?.values.len(), 2);
//! note.update(|siblings| {
//!     siblings.iter().map(|s| &s.value[..]).collect::<Vec<_>>().join(&b", "[..]).into()
//! })
//! .await?;
//! assert_eq!(note.get().await?.values[0].value, "tea, milk");
//! # Ok(()) }
//! ```

mod conflicts;
mod datastore;
pub mod explained;
mod handles;
mod memory;
pub mod moves;
mod native;

pub use conflicts::{InvalidConflictCursor, conflict_cursor, parse_conflict_cursor};
pub use datastore::Datastore;
pub use handles::{
    Bucket, CartHandle, CounterHandle, GsetHandle, MapHandle, RawHandle, RawValue, RegisterHandle,
    SetHandle, Siblings, TimeToLive,
};
pub use memory::MemoryDatastore;
pub use native::{Client, ConnectError};
