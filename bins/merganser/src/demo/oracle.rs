//! What the carts must hold, from the recorded history alone.
//!
//! Every operation recorded which adds it made and which adds it had seen and taken out. An add
//! must be in the cart at the end unless some operation that had seen it took it out. Nothing here
//! calls the store's merge.

use std::collections::{BTreeMap, BTreeSet};

use super::contents::{AddId, Contents};

/// What one acknowledged operation did to a cart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The add it made, with item and units.
    pub(crate) added: Option<(AddId, String, u64)>,
    /// The adds it had seen and took out.
    pub(crate) removed: Vec<AddId>,
}

/// The history of one cart.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    adds: BTreeMap<AddId, (String, u64)>,
    removed: BTreeSet<AddId>,
}

/// How a cart differs from what its history demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Adds acknowledged, not taken out by anyone who had seen them, and not in the cart.
    pub(crate) lost: usize,
    /// Adds taken out and acknowledged so, and in the cart all the same.
    pub(crate) resurrected: usize,
    /// Adds in the cart that no acknowledged operation made.
    pub(crate) unknown: usize,
}

impl History {
    /// Records an acknowledged operation.
    pub(crate) fn record(&mut self, operation: &Recorded) {
        if let Some((id, item, units)) = &operation.added {
            self.adds.insert(*id, (item.clone(), *units));
        }
        self.removed.extend(operation.removed.iter().copied());
    }

    /// Adds of `item` made so far, taken out or not.
    pub(crate) fn adds_of<'a>(&'a self, item: &'a str) -> impl Iterator<Item = AddId> + 'a {
        self.adds.iter().filter(move |(_, (of, _))| of == item).map(|(&id, _)| id)
    }

    /// What the cart must hold.
    pub(crate) fn expected(&self) -> Contents {
        let mut contents = Contents::default();
        for (&id, (item, units)) in &self.adds {
            if !self.removed.contains(&id) {
                contents.0.entry(item.clone()).or_default().insert(id, *units);
            }
        }
        contents
    }

    /// How `cart` differs from it.
    pub(crate) fn difference(&self, cart: &Contents) -> Difference {
        let held: BTreeSet<AddId> = cart.adds().collect();
        let expected: BTreeSet<AddId> = self.expected().adds().collect();
        Difference {
            lost: expected.difference(&held).count(),
            resurrected: held.intersection(&self.removed).count(),
            unknown: held.iter().filter(|id| !self.adds.contains_key(id)).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(id: u64, item: &str) -> Recorded {
        let added = Some((AddId::Number(id), item.to_owned(), 1));
        Recorded { added, removed: Vec::new() }
    }

    fn cart(ids: &[u64]) -> Contents {
        let adds = ids.iter().map(|&id| (AddId::Number(id), 1)).collect();
        Contents([("a".to_owned(), adds)].into())
    }

    #[test]
    fn an_add_nobody_took_out_must_be_there_and_one_taken_out_must_not() {
        let mut history = History::default();
        history.record(&add(1, "a"));
        history.record(&add(2, "a"));
        history.record(&Recorded { added: None, removed: vec![AddId::Number(1)] });
        let difference = |ids: &[u64]| history.difference(&cart(ids));
        assert_eq!(difference(&[2]), Difference::default());
        assert_eq!(difference(&[]), Difference { lost: 1, ..Difference::default() });
        assert_eq!(difference(&[1, 2]), Difference { resurrected: 1, ..Difference::default() });
        assert_eq!(difference(&[2, 3]), Difference { unknown: 1, ..Difference::default() });
    }
}
