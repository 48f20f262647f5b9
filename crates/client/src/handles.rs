//! Typed handles: one per value type, over any [`Datastore`].
//!
//! A handle names a key and its type; every method is one request. Levels and time limits of a
//! [`Bucket`] go with each request of its handles, its name with each update.

mod collections;
mod expiry;
mod raw;
mod registers;

use std::sync::Arc;

use bytes::Bytes;
use replication::{Action, Answer, Level, Request, RequestError, RequestName};
use values::{Blob, InvalidKey, Key, Lifetime, Operation, Scope};

pub use collections::{CartHandle, GsetHandle, MapHandle, SetHandle};
pub use expiry::TimeToLive;
pub use raw::{RawHandle, RawValue, Siblings};
pub use registers::{CounterHandle, RegisterHandle};

use crate::Datastore;

/// A bucket of a datastore: where handles come from.
#[derive(Clone)]
pub struct Bucket {
    datastore: Arc<dyn Datastore>,
    name: Bytes,
    level: Level,
    timeout_ms: Option<u32>,
    update_name: Option<RequestName>,
    lifetime: Lifetime,
}

macro_rules! handles {
    ($($method:ident: $handle:ident, $what:literal;)*) => {
        $(
            #[doc = concat!("The ", $what, " `key`. Fails if the key is out of bounds.")]
            pub fn $method(&self, key: impl Into<Bytes>) -> Result<$handle, InvalidKey> {
                Ok($handle(self.handle(key)?))
            }
        )*
    };
}

impl Bucket {
    /// The bucket `name` of `datastore`.
    pub fn new(datastore: Arc<dyn Datastore>, name: impl Into<Bytes>) -> Self {
        let (level, timeout_ms, update_name) = (Level::default(), None, None);
        let lifetime = Lifetime::Usual;
        Self { datastore, name: name.into(), level, timeout_ms, update_name, lifetime }
    }

    /// The same bucket, asked at another level.
    #[must_use]
    pub fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same bucket, with another time limit in milliseconds.
    #[must_use]
    pub const fn within(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// The same bucket for one update of a key, under a name (idempotency key) that the application
    /// chose: done once, however often it is sent and through whichever nodes. A second, different
    /// update of the same key under it is refused.
    #[must_use]
    pub fn named(mut self, name: RequestName) -> Self {
        self.update_name = Some(name);
        self
    }

    /// Whether its updates have a name that the application chose.
    pub const fn is_named(&self) -> bool {
        self.update_name.is_some()
    }

    /// The same bucket, with what its updates do to the time to live of their keys.
    #[must_use]
    pub const fn living(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Does `operation` on `key`, of whatever type.
    pub async fn update(
        &self,
        key: impl Into<Bytes>,
        operation: Operation,
    ) -> Result<Answer, RequestError> {
        self.handle(key)?.update(operation).await
    }

    handles! {
        raw: RawHandle, "raw value (`bytes`)";
        register: RegisterHandle, "register (`lww`)";
        counter: CounterHandle, "counter";
        gset: GsetHandle, "grow-only set";
        set: SetHandle, "set (`orset`)";
        cart: CartHandle, "shopping cart";
        map: MapHandle, "map";
    }

    fn handle(&self, key: impl Into<Bytes>) -> Result<Handle, InvalidKey> {
        Ok(Handle { bucket: self.clone(), key: Key::new(self.name.clone(), key)? })
    }
}

/// A key of a bucket: what all typed handles share.
#[derive(Clone)]
pub(crate) struct Handle {
    bucket: Bucket,
    key: Key,
}

impl Handle {
    async fn send(&self, request: Request) -> Result<Answer, RequestError> {
        let Bucket { datastore, level, timeout_ms, update_name, lifetime, .. } = &self.bucket;
        let is_update = matches!(request.action, Action::Update(_));
        let name = update_name.clone().filter(|_| is_update);
        let (level, timeout_ms, lifetime) = (*level, *timeout_ms, *lifetime);
        let request = Request { level, timeout_ms, name, lifetime, ..request };
        datastore.request(request).await
    }

    async fn get(&self, scope: Scope) -> Result<Answer, RequestError> {
        self.send(Request::get(self.key.clone(), scope)).await
    }

    async fn update(&self, operation: Operation) -> Result<Answer, RequestError> {
        self.send(Request::update(self.key.clone(), operation)).await
    }

    fn request(&self, action: Action) -> Request {
        Request { action, ..Request::get(self.key.clone(), Scope::Headers) }
    }
}

/// What a read of a typed handle says when the key holds only other types.
fn check(answer: &Answer, tag: values::Tag) -> Result<(), RequestError> {
    answer.view.check_type(tag).map_err(|error| RequestError::Update(error.into()))
}

fn blobs(elements: impl IntoIterator<Item = impl Into<Blob>>) -> Vec<Blob> {
    elements.into_iter().map(Into::into).collect()
}
