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
    /// Whether that add is at as many owners as a write waits for, so that every read sees it.
    pub(crate) is_met: bool,
    /// Adds that it must have made, and that its own answer does not show.
    pub(crate) unshown: usize,
    /// Adds that its answer shows and nobody is known to have made.
    pub(crate) unexplained: Vec<AddId>,
    /// The adds it had seen and took out.
    pub(crate) removed: Vec<AddId>,
}

/// The history of one cart.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    adds: BTreeMap<AddId, (String, u64)>,
    met: BTreeSet<AddId>,
    unshown: usize,
    unexplained: BTreeSet<AddId>,
    removed: BTreeSet<AddId>,
    /// Adds that an operation of unknown outcome may have taken out.
    doubtful: BTreeSet<AddId>,
}

/// How a cart differs from what its history demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Adds acknowledged, not taken out by anyone who had seen them, and not in the cart, or not
    /// with their units.
    pub(crate) lost: usize,
    /// Adds taken out and acknowledged so, and in the cart all the same.
    pub(crate) resurrected: usize,
    /// Adds that were in the cart, at the end or before, and that no acknowledged operation made.
    pub(crate) unexplained: usize,
}

impl History {
    /// Records an acknowledged operation.
    pub(crate) fn record(&mut self, operation: &Recorded) {
        if let Some((id, item, units)) = &operation.added {
            self.adds.insert(*id, (item.clone(), *units));
            if operation.is_met {
                self.met.insert(*id);
            }
        }
        self.unshown += operation.unshown;
        self.unexplained.extend(operation.unexplained.iter().copied());
        self.removed.extend(operation.removed.iter().copied());
    }

    /// Records that it is unknown whether adds of `item` were taken out.
    pub(crate) fn doubt(&mut self, item: &str) {
        let adds: Vec<AddId> = self.adds_of(item).collect();
        self.doubtful.extend(adds);
    }

    /// Adds of `item` made so far, taken out or not.
    pub(crate) fn adds_of<'a>(&'a self, item: &'a str) -> impl Iterator<Item = AddId> + 'a {
        self.adds.iter().filter(move |(_, (of, _))| of == item).map(|(&id, _)| id)
    }

    /// Whether the add was seen before, whoever made it.
    pub(crate) fn knows(&self, id: AddId) -> bool {
        self.adds.contains_key(&id) || self.unexplained.contains(&id)
    }

    /// Whether every read must see the add.
    pub(crate) fn is_met(&self, id: AddId) -> bool {
        self.met.contains(&id)
    }

    /// What the cart must hold.
    pub(crate) fn expected(&self) -> Contents {
        let mut contents = Contents::default();
        for (&id, (item, units)) in &self.adds {
            if !self.removed.contains(&id) && !self.doubtful.contains(&id) {
                contents.0.entry(item.clone()).or_default().insert(id, *units);
            }
        }
        contents
    }

    /// How `cart` differs from it.
    pub(crate) fn difference(&self, cart: &Contents) -> Difference {
        let held: BTreeSet<_> = cart.entries().collect();
        let expected = self.expected();
        let expected: BTreeSet<_> = expected.entries().collect();
        let is_made = |&&(id, item, units): &&(AddId, &str, u64)| {
            self.adds.get(&id).is_some_and(|made| (made.0.as_str(), made.1) == (item, units))
        };
        let made_by_nobody = held.iter().filter(|entry| !is_made(entry)).map(|&(id, ..)| id);
        let unexplained: BTreeSet<AddId> =
            made_by_nobody.chain(self.unexplained.iter().copied()).collect();
        Difference {
            lost: expected.difference(&held).count() + self.unshown,
            resurrected: held.iter().filter(|(id, ..)| self.removed.contains(id)).count(),
            unexplained: unexplained.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(id: u64, item: &str) -> Recorded {
        let added = Some((AddId::Number(id), item.to_owned(), 1));
        Recorded { added, ..Recorded::default() }
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
        history.record(&Recorded { removed: vec![AddId::Number(1)], ..Recorded::default() });
        let difference = |ids: &[u64]| history.difference(&cart(ids));
        assert_eq!(difference(&[2]), Difference::default());
        assert_eq!(difference(&[]), Difference { lost: 1, ..Difference::default() });
        assert_eq!(difference(&[1, 2]), Difference { resurrected: 1, ..Difference::default() });
        assert_eq!(difference(&[2, 3]), Difference { unexplained: 1, ..Difference::default() });
        let halved = Contents([("a".to_owned(), [(AddId::Number(2), 7)].into())].into());
        let other = Difference { lost: 1, unexplained: 1, ..Difference::default() };
        assert_eq!(history.difference(&halved), other);
    }

    #[test]
    fn an_add_that_its_answer_did_not_show_is_lost_and_a_doubtful_one_may_be_there_or_not() {
        let mut history = History::default();
        history.record(&Recorded { unshown: 1, ..Recorded::default() });
        history.record(&add(1, "a"));
        history.doubt("a");
        let lost = Difference { lost: 1, ..Difference::default() };
        assert_eq!(history.difference(&cart(&[])), lost);
        assert_eq!(history.difference(&cart(&[1])), lost);
    }
}
