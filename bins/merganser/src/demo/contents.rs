//! A cart's contents, whatever the strategy: every add apart, under an id of its own.

use std::collections::BTreeMap;

use clock::Dot;
use serde::{Deserialize, Serialize};

/// Names one add for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum AddId {
    /// The dot that the store minted.
    Dot(Dot),
    /// The number that the application wrote into the value.
    Number(u64),
}

/// Per item, the adds that it holds with their units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(pub(crate) BTreeMap<String, BTreeMap<AddId, u64>>);

impl Contents {
    /// Units of `item`.
    pub(crate) fn units(&self, item: &str) -> u64 {
        self.0.get(item).map_or(0, |adds| adds.values().sum())
    }

    /// Ids of the adds of `item`.
    pub(crate) fn ids(&self, item: &str) -> Vec<AddId> {
        self.0.get(item).map_or_else(Vec::new, |adds| adds.keys().copied().collect())
    }

    /// Units of every item.
    pub(crate) fn totals(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(item, adds)| (item.clone(), adds.values().sum())).collect()
    }

    /// Every add with its item and units.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (AddId, &str, u64)> {
        self.0.iter().flat_map(|(item, adds)| {
            adds.iter().map(move |(&id, &units)| (id, item.as_str(), units))
        })
    }

    /// As the applications that keep a cart in one opaque value write it: `item id units` a line.
    pub(crate) fn to_text(&self) -> String {
        let lines = self.0.iter().flat_map(|(item, adds)| {
            adds.iter().filter_map(move |(id, units)| match id {
                AddId::Number(id) => Some(format!("{id} {units} {item}\n")),
                AddId::Dot(_) => None,
            })
        });
        lines.collect()
    }

    /// Reads what [`to_text`](Self::to_text) wrote; a line that is not of that form is left out.
    pub(crate) fn from_text(text: &[u8]) -> Self {
        let mut contents = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(id), Some(units), Some(item)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let (Ok(id), Ok(units)) = (id.parse(), units.parse()) {
                let adds = contents.0.entry(item.to_owned()).or_default();
                adds.insert(AddId::Number(id), units);
            }
        }
        contents
    }

    /// Adds of either: how an application reconciles two carts, as Dynamo §4.4 does, where
    /// "deleted items can resurface".
    pub(crate) fn union(mut self, other: Self) -> Self {
        for (item, adds) in other.0 {
            self.0.entry(item).or_default().extend(adds);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_carries_contents_there_and_back() {
        let text = "1 2 A 1\n2 3 A 1\n7 1 B\n";
        let contents = Contents::from_text(text.as_bytes());
        assert_eq!(contents.units("A 1"), 5);
        assert_eq!(contents.to_text(), text);
    }
}
