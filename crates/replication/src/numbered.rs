//! A table of what is under way, by numbers that only grow.
//!
//! Most of it ends soon after it began, so that what is there lies close together: it is found by counting, where a
//! tree would search. What stays while many others come and go is kept apart, in a tree.

use std::collections::{BTreeMap, VecDeque};

/// So much may be empty, for each thing there and beside that, before the first of them are kept apart. Guesses.
const HOLES_EACH: u64 = 4;
const HOLES: u64 = 256;

/// See the module's header. Adding in any order is correct, in ascending order it is fast. No number is `u64::MAX`.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T> {
    /// Those from `base` on, each at its distance from it; the first is there, if any is.
    recent: VecDeque<Option<T>>,
    base: u64,
    /// How many of `recent` are there.
    live: usize,
    /// Those before `base`.
    old: BTreeMap<u64, T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { recent: VecDeque::new(), base: 0, live: 0, old: BTreeMap::new() }
    }
}

impl<T> Numbered<T> {
    pub(crate) fn len(&self) -> usize {
        self.live + self.old.len()
    }

    /// Enters a thing, in place of another under its number.
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        self.keep_apart(number);
        // Those kept apart are before the base.
        if self.recent.is_empty() && self.old.last_key_value().is_none_or(|(&old, _)| old < number)
        {
            self.base = number;
        }
        let Some(place) = self.place(number) else {
            self.old.insert(number, value);
            return;
        };
        if place >= self.recent.len() {
            self.recent.resize_with(place + 1, || None);
        }
        self.live += usize::from(self.recent[place].replace(value).is_none());
    }

    /// Keeps the first ones apart until there would not be too much empty with `number`.
    fn keep_apart(&mut self, number: u64) {
        let room = |live: usize| HOLES + HOLES_EACH.saturating_mul(live as u64);
        while number.saturating_sub(self.base) > room(self.live)
            && let Some(first) = self.recent.pop_front()
        {
            if let Some(first) = first {
                self.old.insert(self.base, first);
                self.live -= 1;
            }
            self.base += 1;
            self.trim();
        }
    }

    /// Has `recent` begin with one that is there.
    fn trim(&mut self) {
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.base += 1;
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.base).and_then(|place| usize::try_from(place).ok())
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match self.place(number) {
            Some(place) => self.recent.get(place)?.as_ref(),
            None => self.old.get(&number),
        }
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.place(number) {
            Some(place) => self.recent.get_mut(place)?.as_mut(),
            None => self.old.get_mut(&number),
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let Some(place) = self.place(number) else { return self.old.remove(&number) };
        let removed = self.recent.get_mut(place)?.take()?;
        self.live -= 1;
        self.trim();
        Some(removed)
    }

    /// The lowest number.
    pub(crate) fn first(&self) -> Option<u64> {
        let recent = (!self.recent.is_empty()).then_some(self.base);
        self.old.keys().next().copied().or(recent)
    }

    /// All in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let recent = (self.base..).zip(&self.recent);
        let recent = recent.filter_map(|(number, value)| Some((number, value.as_ref()?)));
        self.old.iter().map(|(&number, value)| (number, value)).chain(recent)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        let recent = (self.base..).zip(&mut self.recent);
        let recent = recent.filter_map(|(number, value)| Some((number, value.as_mut()?)));
        self.old.iter_mut().map(|(&number, value)| (number, value)).chain(recent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Add { after: u64 },
        Remove { back: usize },
        Again { number: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u64..4).prop_map(|after| Step::Add { after }),
            1 => (0_u64..3_000).prop_map(|after| Step::Add { after }),
            6 => (0_usize..40).prop_map(|back| Step::Remove { back }),
            1 => (0_u64..500).prop_map(|number| Step::Again { number }),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(steps in prop::collection::vec(step(), 0..400)) {
            let (mut table, mut tree) = (Numbered::default(), BTreeMap::new());
            let mut last = 7;
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Add { after } => {
                        last += after;
                        table.insert(last, at);
                        tree.insert(last, at);
                    }
                    Step::Remove { back } => {
                        let number = tree.keys().rev().nth(back).copied().unwrap_or(last + 1);
                        prop_assert_eq!(table.remove(number), tree.remove(&number));
                    }
                    Step::Again { number } => {
                        table.insert(number, at);
                        tree.insert(number, at);
                    }
                }
                prop_assert_eq!(table.len(), tree.len());
                prop_assert_eq!(table.first(), tree.keys().next().copied());
                prop_assert_eq!(table.get(last), tree.get(&last));
                prop_assert_eq!(table.get_mut(last / 2), tree.get_mut(&(last / 2)));
            }
            let listed: Vec<_> = table.iter().map(|(number, &at)| (number, at)).collect();
            prop_assert!(table.iter_mut().map(|(number, &mut at)| (number, at)).eq(listed.clone()));
            prop_assert!(listed.into_iter().eq(tree));
        }
    }

    #[test]
    fn what_stays_does_not_keep_the_place_of_what_went() {
        let mut table = Numbered::default();
        table.insert(0, ());
        for number in 1..1_000_000 {
            table.insert(number, ());
            table.remove(number);
        }
        table.insert(u64::MAX - 1, ());
        assert_eq!((table.len(), table.first()), (2, Some(0)));
        assert!(table.recent.capacity() < 4_096, "{} places", table.recent.capacity());
    }
}
