//! Repair where a gap's neighbours admit nobody: partitions clockwise from the gap change owners
//! too, as few as possible, until the new owners fit the old ones that follow.
//!
//! Only rings of hardly more members than `spread` need this. A cheapest-first search over
//! (distance from the gap, owners last given): all that decides who may come next.

use std::collections::BTreeSet;

use super::layout::Layout;

/// States that all searches of one placement may visit together: a fraction of a second's
/// work, and fifty times what going from five members to four takes at Q = 4,096 and spread 3.
pub(super) const STATES_MAX: usize = 1 << 17;

/// Cost of taking a partition from its owner, in units of the cost of giving it to a member that
/// has its quota already, which a later step may have to undo. A guess.
const CHANGE: u32 = 4;

/// A way to have given `steps` partitions from the gap on.
struct State {
    steps: usize,
    /// The owners of the `reach` partitions before the next one, in order.
    last: Vec<Option<u16>>,
    /// The state one step before, and the owner given then.
    from: Option<(usize, u16)>,
}

impl Layout<'_> {
    /// Fills the gap at `gap` by changing partitions clockwise from it. False, and nothing is
    /// changed, if no way was found before the states ran out.
    pub(super) fn ripple(&mut self, gap: usize) -> bool {
        let count = self.owners.len();
        let cyclic = self.terms().cyclic;
        let behind = (1..=self.reach).rev().map(|steps| {
            if cyclic || steps <= gap { self.owner_at(gap + count - steps) } else { None }
        });
        let mut states = vec![State { steps: 0, last: behind.collect(), from: None }];
        // By cost; the number of a state settles ties.
        let mut open = BTreeSet::from([(0, 0)]);
        let mut closed = BTreeSet::new();
        while let Some((cost, number)) = open.pop_first() {
            let State { steps, ref last, .. } = states[number];
            if steps > 0 && self.fits(gap + steps, last) {
                self.give(gap, &states, number);
                return true;
            }
            // Further on, the partitions changed would come within reach of the gap again.
            let beyond = !cyclic && gap + steps >= count;
            if beyond || steps + self.reach >= count || !closed.insert((steps, last.clone())) {
                continue;
            }
            let Some(left) = self.states_left.checked_sub(1) else { return false };
            self.states_left = left;
            let last = last.clone();
            for (owner, price) in self.choices(gap + steps, &last) {
                let next = last.iter().copied().skip(1).chain([Some(owner)]).collect();
                open.insert((cost + price, states.len()));
                let from = Some((number, owner));
                states.push(State { steps: steps + 1, last: next, from });
            }
        }
        false
    }

    /// Who may come after `last`, and at what price.
    fn choices(&self, position: usize, last: &[Option<u16>]) -> Vec<(u16, u32)> {
        let present = self.owner_at(position);
        let price = |member| match present {
            Some(owner) if owner == member => 0,
            Some(_) => CHANGE + u32::from(self.is_full(member)),
            None => u32::from(self.is_full(member)),
        };
        let others = self.indices().filter(|&member| {
            self.terms().is_open(position % self.owners.len(), member)
                && self.may_follow(member, last)
        });
        others.map(|member| (member, price(member))).collect()
    }

    /// Whether the owners from `position` on may stay as they are after `last`.
    fn fits(&self, position: usize, last: &[Option<u16>]) -> bool {
        let end = if self.terms().cyclic { usize::MAX } else { self.owners.len() };
        let mut last = last.to_vec();
        (position..position + self.reach).take_while(|&ahead| ahead < end).all(|ahead| {
            let owner = self.owner_at(ahead);
            let fits = owner.is_none_or(|owner| self.may_follow(owner, &last));
            last.rotate_left(1);
            *last.last_mut().expect("nothing is out of reach of itself") = owner;
            fits
        })
    }

    /// Whether `member` may own the partition after those that `last` own.
    fn may_follow(&self, member: u16, last: &[Option<u16>]) -> bool {
        let (zone, limit) = self.terms().zone(member);
        let of_zone =
            |owner: &&Option<u16>| owner.is_some_and(|at| self.terms().zone(at).0 == zone);
        !last.contains(&Some(member)) && last.iter().filter(of_zone).count() < limit
    }

    /// Gives the partitions from `gap` on as the state `number` has them.
    fn give(&mut self, gap: usize, states: &[State], number: usize) {
        let way = std::iter::successors(states.get(number), |state| {
            state.from.and_then(|(before, _)| states.get(before))
        });
        for state in way {
            if let Some((_, owner)) = state.from {
                let position = (gap + state.steps - 1) % self.owners.len();
                self.assign(position, Some(owner));
            }
        }
    }
}
