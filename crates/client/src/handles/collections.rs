//! Handles of collections: sets, carts and maps.

use std::collections::BTreeMap;

use replication::{Answer, RequestError};
use values::{Blob, CartOp, DotStore, GsetOp, MapOp, Operation, OrsetOp, Scope, State, Tag};

use super::{Handle, blobs, check};

/// A grow-only set.
#[derive(Clone)]
pub struct GsetHandle(pub(super) Handle);

/// An observed-remove set: an add wins over a concurrent remove.
#[derive(Clone)]
pub struct SetHandle(pub(super) Handle);

/// A shopping cart: items with quantities; an add survives a concurrent remove whole.
#[derive(Clone)]
pub struct CartHandle(pub(super) Handle);

/// A map of fields, each a register with increments.
#[derive(Clone)]
pub struct MapHandle(pub(super) Handle);

fn members(answer: &Answer, tag: Tag) -> Vec<Blob> {
    match answer.view.value.state(tag) {
        Some(State::Gset(set) | State::Orset(set)) => set.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

async fn read_members(handle: &Handle, tag: Tag) -> Result<Vec<Blob>, RequestError> {
    let answer = handle.get(Scope::Whole).await?;
    check(&answer, tag)?;
    Ok(members(&answer, tag))
}

async fn contains(handle: &Handle, tag: Tag, element: Blob) -> Result<bool, RequestError> {
    let scope = Scope::Elements { tag, elements: [element.clone()].into() };
    let answer = handle.get(scope).await?;
    check(&answer, tag)?;
    Ok(members(&answer, tag).contains(&element))
}

async fn size(handle: &Handle, tag: Tag) -> Result<u64, RequestError> {
    let answer = handle.get(Scope::Headers).await?;
    check(&answer, tag)?;
    Ok(answer.view.collections.get(&tag).map_or(0, |summary| summary.live))
}

impl GsetHandle {
    /// Adds elements.
    pub async fn add(
        &self,
        elements: impl IntoIterator<Item = impl Into<Blob>>,
    ) -> Result<Answer, RequestError> {
        self.0.update(Operation::Gset(GsetOp::Add(blobs(elements)))).await
    }

    /// All elements, in order.
    pub async fn members(&self) -> Result<Vec<Blob>, RequestError> {
        read_members(&self.0, Tag::GSET).await
    }

    /// Whether `element` is in the set; costs the same whatever the set's size.
    pub async fn contains(&self, element: impl Into<Blob>) -> Result<bool, RequestError> {
        contains(&self.0, Tag::GSET, element.into()).await
    }

    /// Number of elements.
    pub async fn size(&self) -> Result<u64, RequestError> {
        size(&self.0, Tag::GSET).await
    }
}

impl SetHandle {
    /// Adds elements.
    pub async fn add(
        &self,
        elements: impl IntoIterator<Item = impl Into<Blob>>,
    ) -> Result<Answer, RequestError> {
        self.0.update(Operation::Orset(OrsetOp::Add(blobs(elements)))).await
    }

    /// Removes the adds observed of these elements.
    pub async fn remove(
        &self,
        elements: impl IntoIterator<Item = impl Into<Blob>>,
    ) -> Result<Answer, RequestError> {
        self.0.update(Operation::Orset(OrsetOp::Remove(blobs(elements)))).await
    }

    /// All elements, in order.
    pub async fn members(&self) -> Result<Vec<Blob>, RequestError> {
        read_members(&self.0, Tag::ORSET).await
    }

    /// Whether `element` is in the set; costs the same whatever the set's size.
    pub async fn contains(&self, element: impl Into<Blob>) -> Result<bool, RequestError> {
        contains(&self.0, Tag::ORSET, element.into()).await
    }

    /// Number of elements.
    pub async fn size(&self) -> Result<u64, RequestError> {
        size(&self.0, Tag::ORSET).await
    }
}

impl CartHandle {
    /// Adds `quantity` (at least 1) of `item`.
    pub async fn add(&self, item: impl Into<Blob>, quantity: u64) -> Result<Answer, RequestError> {
        self.0.update(Operation::Cart(CartOp::Add { item: item.into(), quantity })).await
    }

    /// Removes the adds observed of `item`.
    pub async fn remove(&self, item: impl Into<Blob>) -> Result<Answer, RequestError> {
        self.0.update(Operation::Cart(CartOp::Remove(item.into()))).await
    }

    /// Replaces the adds observed of `item` by one of `quantity`; 0 removes.
    pub async fn set_quantity(
        &self,
        item: impl Into<Blob>,
        quantity: u64,
    ) -> Result<Answer, RequestError> {
        self.0.update(Operation::Cart(CartOp::SetQuantity { item: item.into(), quantity })).await
    }

    /// Every item with its quantity.
    pub async fn items(&self) -> Result<BTreeMap<Blob, u128>, RequestError> {
        let answer = self.0.get(Scope::Whole).await?;
        check(&answer, Tag::CART)?;
        Ok(Self::read(&answer))
    }

    /// The answer to a read of the whole cart, dots and all.
    pub async fn get(&self) -> Result<Answer, RequestError> {
        let answer = self.0.get(Scope::Whole).await?;
        check(&answer, Tag::CART)?;
        Ok(answer)
    }

    /// Reads items out of an answer.
    pub fn read(answer: &Answer) -> BTreeMap<Blob, u128> {
        match answer.view.value.state(Tag::CART) {
            Some(State::Cart(cart)) => cart
                .store
                .0
                .iter()
                .map(|(item, adds)| (item.clone(), adds.0.values().copied().map(u128::from).sum()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }
}

impl MapHandle {
    /// Sets fields.
    pub async fn set(
        &self,
        fields: impl IntoIterator<Item = (impl Into<Blob>, impl Into<Blob>)>,
    ) -> Result<Answer, RequestError> {
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.0.update(Operation::Map(MapOp::Set(fields))).await
    }

    /// Adds to an integer field, a missing one counting as 0.
    pub async fn increment(&self, field: impl Into<Blob>, by: i64) -> Result<Answer, RequestError> {
        self.0.update(Operation::Map(MapOp::Increment { field: field.into(), by })).await
    }

    /// Removes what was observed of these fields.
    pub async fn remove(
        &self,
        fields: impl IntoIterator<Item = impl Into<Blob>>,
    ) -> Result<Answer, RequestError> {
        self.0.update(Operation::Map(MapOp::Remove(blobs(fields)))).await
    }

    /// One field.
    pub async fn get(&self, field: impl Into<Blob>) -> Result<Option<Blob>, RequestError> {
        let field = field.into();
        let scope = Scope::Elements { tag: Tag::MAP, elements: [field.clone()].into() };
        let answer = self.0.get(scope).await?;
        check(&answer, Tag::MAP)?;
        Ok(Self::read(&answer).remove(&field))
    }

    /// Every field with its value.
    pub async fn fields(&self) -> Result<BTreeMap<Blob, Blob>, RequestError> {
        let answer = self.0.get(Scope::Whole).await?;
        check(&answer, Tag::MAP)?;
        Ok(Self::read(&answer))
    }

    /// Reads fields out of an answer.
    pub fn read(answer: &Answer) -> BTreeMap<Blob, Blob> {
        match answer.view.value.state(Tag::MAP) {
            Some(State::Map(map)) => map
                .store
                .0
                .iter()
                .filter(|(_, field)| field.is_live())
                .filter_map(|(name, field)| Some((name.clone(), field.read()?)))
                .collect(),
            _ => BTreeMap::new(),
        }
    }
}
