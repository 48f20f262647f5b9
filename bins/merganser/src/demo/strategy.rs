//! Three ways to keep a shopping cart, under one interface.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use client::{Bucket, CartHandle, Siblings};
use replication::{Answer, RequestError};
use values::{State, Tag};

use super::contents::{AddId, Contents};
use super::oracle::{History, Recorded};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StrategyName {
    /// The store's cart type: every add has its own dot, a removal takes out what it observed.
    Crdt,
    /// One value per cart, last writer wins: read, modify, write.
    Lww,
    /// One opaque value per cart with siblings, reconciled by the application (Dynamo §4.4).
    Siblings,
}

impl StrategyName {
    /// The strategy in a few words.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Crdt => "crdt: the store's cart type, merged by the store",
            Self::Lww => "lww: one value for each cart, the last writer wins",
            Self::Siblings => "siblings: opaque values for each cart, merged by the application",
        }
    }

    /// What to learn from a run in which something was lost or came back.
    pub(crate) fn moral(self) -> &'static str {
        match self {
            Self::Crdt => "neither may happen to the store's cart type",
            Self::Lww => {
                "of two carts written at once one is thrown away with all that was added to it; \
                 compare --strategy crdt"
            }
            Self::Siblings => {
                "a union of carts cannot tell an item that was removed here from one that was \
                 added there, so removed items come back (Dynamo §4.4); compare --strategy crdt"
            }
        }
    }
}

/// A way to keep carts. Each call is one acknowledged operation, or an error.
#[async_trait]
pub(crate) trait Strategy: Send + Sync {
    /// Adds units of an item.
    async fn add(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        history: &History,
    ) -> Result<(Recorded, Answer), RequestError>;

    /// Takes units of an item out: all of them, or down to the lower quantity. `None` where the
    /// cart shows none of it.
    async fn take(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        history: &History,
    ) -> Result<Option<(Recorded, Answer)>, RequestError>;

    /// Reads a cart.
    async fn read(&self, bucket: &Bucket, cart: &str) -> Result<Contents, RequestError>;
}

/// The strategy of that name.
pub(crate) fn named(name: StrategyName) -> Box<dyn Strategy> {
    match name {
        StrategyName::Crdt => Box::new(CartType),
        StrategyName::Lww => Box::new(LastWriter::default()),
        StrategyName::Siblings => Box::new(Reconciled::default()),
    }
}

fn invalid(error: values::InvalidKey) -> RequestError {
    error.into()
}

/// Ids of adds, for carts in which the store does not tell one add from another.
#[derive(Default)]
struct Ids(AtomicU64);

impl Ids {
    fn next(&self) -> AddId {
        AddId::Number(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct CartType;

fn cart_contents(answer: &Answer) -> Contents {
    let mut contents = Contents::default();
    if let Some(State::Cart(cart)) = answer.view.value.state(Tag::CART) {
        for (item, adds) in &cart.store.0 {
            let adds = adds.0.iter().map(|(&dot, &units)| (AddId::Dot(dot), units)).collect();
            contents.0.insert(String::from_utf8_lossy(item).into_owned(), adds);
        }
    }
    contents
}

impl CartType {
    fn handle(bucket: &Bucket, cart: &str) -> Result<CartHandle, RequestError> {
        bucket.cart(cart.to_owned()).map_err(invalid)
    }

    /// What an acknowledged operation on `item` added: exactly one add is new in its answer, with
    /// `units` of it; that there is none, and any other, is for the oracle to count.
    fn added(answer: &Answer, item: &str, units: u64, history: &History) -> Recorded {
        let after = cart_contents(answer);
        let mut new = after.ids(item);
        new.retain(|&id| !history.knows(id));
        let at = new.iter().position(|id| after.0[item][id] == units);
        let id = at.map(|at| new.remove(at));
        Recorded {
            added: id.map(|id| (id, item.to_owned(), units)),
            is_met: answer.acks.is_met(),
            unshown: usize::from(id.is_none()),
            unexplained: new,
            removed: Vec::new(),
        }
    }

    /// What an acknowledged removal of `item` may have taken out: adds that the read before it
    /// showed, and adds that the read may have missed and the removal has seen. One that the read
    /// had seen and did not show was swallowed before, and stays missing.
    fn removed(before: &Answer, answer: &Answer, item: &str, history: &History) -> Vec<AddId> {
        let [shown, left] = [before, answer].map(|answer| cart_contents(answer).ids(item));
        let seen = |answer: &Answer, id: &AddId| {
            let context = answer.view.value.context(Tag::CART);
            matches!(id, AddId::Dot(dot) if context.contains(*dot))
        };
        let is_taken = |id: &AddId| {
            // Nobody who asks as many owners as a removal does can miss it.
            let is_certain = history.is_met(*id) && before.acks.is_met();
            let must_go = shown.contains(id) && is_certain && !answer.partly_observed;
            let may_go = shown.contains(id) || !seen(before, id) && !is_certain;
            must_go || may_go && seen(answer, id) && !left.contains(id)
        };
        history.adds_of(item).filter(is_taken).collect()
    }
}

#[async_trait]
impl Strategy for CartType {
    async fn add(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        history: &History,
    ) -> Result<(Recorded, Answer), RequestError> {
        let answer = Self::handle(bucket, cart)?.add(item.to_owned(), units).await?;
        Ok((Self::added(&answer, item, units, history), answer))
    }

    async fn take(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        history: &History,
    ) -> Result<Option<(Recorded, Answer)>, RequestError> {
        let handle = Self::handle(bucket, cart)?;
        let before = handle.get().await?;
        let held = cart_contents(&before).units(item);
        let left = held.saturating_sub(units);
        let answer = match (held, left) {
            (0, _) => return Ok(None),
            (_, 0) => handle.remove(item.to_owned()).await?,
            (_, left) => handle.set_quantity(item.to_owned(), left).await?,
        };
        let added = match left {
            0 => Recorded::default(),
            left => Self::added(&answer, item, left, history),
        };
        let removed = Self::removed(&before, &answer, item, history);
        Ok(Some((Recorded { removed, ..added }, answer)))
    }

    async fn read(&self, bucket: &Bucket, cart: &str) -> Result<Contents, RequestError> {
        Ok(cart_contents(&Self::handle(bucket, cart)?.get().await?))
    }
}

/// Changes contents as an application does that keeps them in one value.
fn change(contents: &mut Contents, item: &str, left: u64, id: AddId) -> Recorded {
    let removed = contents.ids(item);
    contents.0.remove(item);
    let added = (left > 0).then(|| {
        contents.0.insert(item.to_owned(), [(id, left)].into());
        (id, item.to_owned(), left)
    });
    Recorded { added, removed, ..Recorded::default() }
}

fn insert(contents: &mut Contents, item: &str, units: u64, id: AddId) -> Recorded {
    contents.0.entry(item.to_owned()).or_default().insert(id, units);
    Recorded { added: Some((id, item.to_owned(), units)), ..Recorded::default() }
}

#[derive(Default)]
struct LastWriter {
    ids: Ids,
}

#[async_trait]
impl Strategy for LastWriter {
    async fn add(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        _: &History,
    ) -> Result<(Recorded, Answer), RequestError> {
        let mut contents = self.read(bucket, cart).await?;
        let recorded = insert(&mut contents, item, units, self.ids.next());
        let register = bucket.register(cart.to_owned()).map_err(invalid)?;
        Ok((recorded, register.set(contents.to_text()).await?))
    }

    async fn take(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        _: &History,
    ) -> Result<Option<(Recorded, Answer)>, RequestError> {
        let mut contents = self.read(bucket, cart).await?;
        let held = contents.units(item);
        if held == 0 {
            return Ok(None);
        }
        let recorded = change(&mut contents, item, held.saturating_sub(units), self.ids.next());
        let register = bucket.register(cart.to_owned()).map_err(invalid)?;
        Ok(Some((recorded, register.set(contents.to_text()).await?)))
    }

    async fn read(&self, bucket: &Bucket, cart: &str) -> Result<Contents, RequestError> {
        let register = bucket.register(cart.to_owned()).map_err(invalid)?;
        let text = register.get().await?.unwrap_or_default();
        Ok(Contents::from_text(&text))
    }
}

#[derive(Default)]
struct Reconciled {
    ids: Ids,
}

fn reconciled<'a>(siblings: impl Iterator<Item = &'a [u8]>) -> Contents {
    siblings.map(Contents::from_text).fold(Contents::default(), Contents::union)
}

#[async_trait]
impl Strategy for Reconciled {
    async fn add(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        _: &History,
    ) -> Result<(Recorded, Answer), RequestError> {
        let id = self.ids.next();
        let raw = bucket.raw(cart.to_owned()).map_err(invalid)?;
        let answer = raw
            .update(|siblings| {
                let mut contents = reconciled(siblings.iter().map(|s| &s.value[..]));
                insert(&mut contents, item, units, id);
                contents.to_text().into()
            })
            .await?;
        let added = Some((id, item.to_owned(), units));
        Ok((Recorded { added, ..Recorded::default() }, answer))
    }

    async fn take(
        &self,
        bucket: &Bucket,
        cart: &str,
        item: &str,
        units: u64,
        _: &History,
    ) -> Result<Option<(Recorded, Answer)>, RequestError> {
        let held = self.read(bucket, cart).await?.units(item);
        if held == 0 {
            return Ok(None);
        }
        let (id, left) = (self.ids.next(), held.saturating_sub(units));
        let done = Mutex::new(Recorded::default());
        let raw = bucket.raw(cart.to_owned()).map_err(invalid)?;
        let answer = raw
            .update(|siblings| {
                let mut contents = reconciled(siblings.iter().map(|s| &s.value[..]));
                let recorded = change(&mut contents, item, left, id);
                if let Ok(mut done) = done.lock() {
                    // Each round took out what it saw.
                    done.removed.extend(recorded.removed.into_iter().filter(|&seen| seen != id));
                    done.added = recorded.added;
                }
                contents.to_text().into()
            })
            .await?;
        let recorded = done.into_inner().unwrap_or_default();
        Ok(Some((recorded, answer)))
    }

    async fn read(&self, bucket: &Bucket, cart: &str) -> Result<Contents, RequestError> {
        let Siblings { values, .. } = bucket.raw(cart.to_owned()).map_err(invalid)?.get().await?;
        Ok(reconciled(values.iter().map(|sibling| &sibling.value[..])))
    }
}
