//! A placement in the making: gaps are filled, then members are brought to their quotas.
//!
//! Invariant of every step: two partitions fewer than `spread` apart never have one owner. Ties
//! fall by a hash of member and partition, so that neighbours differ all round the ring and what
//! a lost node served falls to many.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::ripple::STATES_MAX;
use super::terms::Terms;

/// Partitions, some still without an owner. Members are indices, ascending by id.
pub(super) struct Layout<'a> {
    terms: &'a Terms<'a>,
    /// Distance within which no owner may repeat: spread − 1.
    pub(super) reach: usize,
    /// Who had each partition before, where still a member.
    before: Vec<Option<u16>>,
    pub(super) owners: Vec<Option<u16>>,
    loads: Vec<usize>,
    quotas: Vec<usize>,
    /// How much searching is still allowed.
    pub(super) states_left: usize,
}

impl<'a> Layout<'a> {
    /// Starts with what stood before, except where that would now break the invariant.
    pub(super) fn new(terms: &'a Terms<'a>, before: Vec<Option<u16>>) -> Self {
        let mut layout = Self {
            terms,
            reach: terms.spread - 1,
            owners: vec![None; before.len()],
            loads: vec![0; terms.members.len()],
            quotas: Vec::new(),
            states_left: STATES_MAX,
            before,
        };
        for position in 0..layout.owners.len() {
            let kept = layout.before[position].filter(|&owner| layout.admits(position, owner));
            layout.assign(position, kept);
        }
        layout.quotas = terms.quotas(&layout.loads);
        layout
    }

    /// Whether a ring that was placed on the same terms can stay as it is: going over it again would
    /// only push around the last partitions that do not come out even.
    pub(super) fn stands(terms: &'a Terms<'a>, before: &[Option<u16>]) -> bool {
        let mut layout = Self::new(terms, before.to_vec());
        for (position, &owner) in before.iter().enumerate() {
            layout.assign(position, owner);
        }
        let strays = (0..before.len()).filter(|&position| {
            before[position].is_none_or(|owner| !layout.is_apart(position, owner, true))
        });
        // At the top of a ring of columns, a few are not apart.
        strays.count() <= 2 * layout.reach && !layout.is_lopsided() && !layout.is_short()
    }

    /// Whether somebody is more than a tenth and one partition below quota, as one of another weight is that was
    /// put in the place of another: what it lacks may be no surplus of any single one. A guess: far more than
    /// a placement leaves anybody short of.
    fn is_short(&self) -> bool {
        self.indices().any(|member| {
            let quota = self.quotas[usize::from(member)];
            self.loads[usize::from(member)] + 1 + quota / 10 < quota
        })
    }

    /// Completes the placement: per partition the index of its owner.
    pub(super) fn settle(mut self) -> Vec<u16> {
        self.complete();
        if self.is_lopsided() {
            // What was kept stands too close to leave the others their share.
            for position in 0..self.owners.len() {
                self.assign(position, None);
            }
            self.complete();
            if self.is_lopsided() && !self.terms.plain {
                self.lay_in_columns();
            }
        }
        if !self.terms.plain {
            self.mend();
        }
        self.owners.iter().map(|owner| owner.expect("every gap was filled")).collect()
    }

    /// Fills all gaps and evens out.
    fn complete(&mut self) {
        let filled = (0..self.owners.len())
            .all(|position| self.owners[position].is_some() || self.fill(position));
        if !filled {
            if self.terms.plain {
                self.lay_in_rounds();
            } else {
                self.lay_in_columns();
            }
        }
        for member in self.short_members() {
            self.take_evenly(member);
        }
        for member in self.short_members() {
            self.take_anywhere(member);
        }
        self.level();
    }

    /// Whether somebody is more than two per cent and one partition above quota: well within the
    /// five per cent promised, and more than evening out ever leaves except in rings of hardly
    /// more members than `spread`.
    fn is_lopsided(&self) -> bool {
        self.indices()
            .any(|member| self.surplus(member) > 1 + self.quotas[usize::from(member)] / 50)
    }

    /// Gives a partition to the member furthest below its quota; where the neighbours admit
    /// nobody, rearranges the partitions clockwise from it. False if that failed.
    fn fill(&mut self, position: usize) -> bool {
        let fitting = self.indices().filter(|&member| self.admits(position, member));
        let best = fitting.min_by_key(|&member| {
            let moves = self.before[position] != Some(member);
            (Reverse(self.due(member)), moves, self.tie(member, position))
        });
        match best {
            Some(member) => {
                self.assign(position, Some(member));
                true
            }
            None => self.ripple(position),
        }
    }

    /// Gives `member` what it lacks, in equal distances round the ring, each from the most
    /// overloaded owner near there. The distances keep it `spread` apart from itself.
    fn take_evenly(&mut self, member: u16) {
        let count = self.owners.len();
        let wanted = self.missing(member).max(0).unsigned_abs();
        for turn in 0..wanted {
            let window =
                turn * count / wanted..((turn + 1) * count / wanted).saturating_sub(self.reach);
            let best = window
                .filter(|&position| self.surplus_at(position) > 0 && self.admits(position, member))
                .min_by_key(|&at| (Reverse(self.surplus_at(at)), self.tie(member, at)));
            if let Some(position) = best {
                self.assign(position, Some(member));
            }
        }
    }

    /// Gives `member` what it still lacks from whoever is above quota, first what changes hands
    /// anyway.
    fn take_anywhere(&mut self, member: u16) {
        while self.missing(member) > 0 {
            let best = (0..self.owners.len())
                .filter(|&position| self.surplus_at(position) > 0 && self.admits(position, member))
                .min_by_key(|&at| (self.extra_moves(at, member), Reverse(self.surplus_at(at)), at));
            match best {
                Some(position) => self.assign(position, Some(member)),
                None => return,
            }
        }
    }

    /// Evens out what is left, through chains: one above its quota gives to a third, which gives
    /// to one below. Ends when all are at their quotas or no chain is left.
    fn level(&mut self) {
        let surplus: usize = self.indices().map(|member| self.surplus(member)).sum();
        // Gifts side by side can cut a chain short, which only passes the surplus on. A few tries
        // for each unit of it settle all that can be settled; the bound is a guess.
        for _ in 0..4 * surplus {
            let Some(chain) = self.chain() else { return };
            for (position, taker) in chain {
                if !self.admits(position, taker) {
                    break;
                }
                self.assign(position, Some(taker));
            }
        }
    }

    /// The shortest chain of gifts (position, taker) from a member above its quota to one below,
    /// found backwards, breadth first.
    fn chain(&self) -> Option<Vec<(usize, u16)>> {
        let mut takers = self.short_members();
        let mut gifts: BTreeMap<u16, Option<(usize, u16)>> =
            takers.iter().map(|&member| (member, None)).collect();
        while !takers.is_empty() {
            let mut givers = Vec::new();
            for position in 0..self.owners.len() {
                let Some(owner) = self.owners[position] else { continue };
                if gifts.contains_key(&owner) {
                    continue;
                }
                let taker = takers.iter().copied().find(|&taker| self.admits(position, taker));
                if let Some(taker) = taker {
                    gifts.insert(owner, Some((position, taker)));
                    givers.push(owner);
                }
            }
            if let Some(&giver) = givers.iter().find(|&&giver| self.surplus(giver) > 0) {
                let next = |&(_, taker): &(usize, u16)| gifts[&taker];
                return Some(std::iter::successors(gifts[&giver], next).collect());
            }
            takers = givers;
        }
        None
    }

    /// Starts over with rounds of all members in which nobody is closer to itself than `spread`:
    /// it surely exists where the spread is feasible. For rings so tight that no repair was found.
    fn lay_in_rounds(&mut self) {
        let (count, spread) = (self.owners.len(), self.reach + 1);
        let rounds = count.div_ceil(self.terms.members.len());
        let mut position = 0;
        for round in 0..rounds {
            // Every later round needs at least `spread` partitions.
            let room = count - position - (rounds - 1 - round) * spread;
            for member in self.indices().take(room) {
                self.assign(position, Some(member));
                position += 1;
            }
        }
    }

    /// Starts over: each group's quotas, zone by zone, down one of its columns after the other. Who
    /// goes on in the next column does so above where it began, so the spread is kept but for
    /// where the two ends meet.
    fn lay_in_columns(&mut self) {
        for group in &self.terms.groups {
            let mut members = group.members.clone();
            members.sort_by_key(|&member| {
                let zone = self.terms.entrants[usize::from(member)].zone;
                (zone, Reverse(self.quotas[usize::from(member)]), member)
            });
            let due = members
                .iter()
                .flat_map(|&member| std::iter::repeat_n(member, self.quotas[usize::from(member)]));
            let due: Vec<u16> = due.collect();
            let count = self.owners.len();
            let down = |&column: &usize| (column..count).step_by(self.terms.spread);
            let positions: Vec<usize> = group.columns.iter().flat_map(down).collect();
            for (position, member) in positions.into_iter().zip(due) {
                self.assign(position, Some(member));
            }
        }
    }

    /// Where an owner or a zone repeats within the spread, as at the top of a ring of columns:
    /// gives the partition to whomever its neighbours admit, if to anybody.
    fn mend(&mut self) {
        for position in 0..self.owners.len() {
            let Some(owner) = self.owners[position] else { continue };
            if self.is_apart(position, owner, true) {
                continue;
            }
            let fitting = self.indices().filter(|&member| self.is_apart(position, member, true));
            let best = fitting.min_by_key(|&member| {
                let moves = self.before[position] != Some(member);
                (moves, Reverse(self.due(member)), self.tie(member, position))
            });
            if best.is_some() {
                self.assign(position, best);
            }
        }
    }

    /// Makes `owner` the owner of the partition at `position`.
    pub(super) fn assign(&mut self, position: usize, owner: Option<u16>) {
        if let Some(former) = std::mem::replace(&mut self.owners[position], owner) {
            self.loads[usize::from(former)] -= 1;
        }
        if let Some(owner) = owner {
            self.loads[usize::from(owner)] += 1;
        }
    }

    /// Whether `member` may own the partition at `position`, as its neighbours are now.
    fn admits(&self, position: usize, member: u16) -> bool {
        self.terms.is_open(position, member) && self.is_apart(position, member, self.terms.cyclic)
    }

    /// Whether no partition within reach of `position` has the owner `member`, and no `spread`
    /// partitions around it more owners of its zone than may be.
    fn is_apart(&self, position: usize, member: u16, cyclic: bool) -> bool {
        if self.nearby(position, cyclic).any(|owner| owner == Some(member)) {
            return false;
        }
        let (zone, limit) = self.terms.zone(member);
        if limit > self.reach {
            return true;
        }
        let is_of_zone = |owner: Option<u16>| owner.is_some_and(|at| self.terms.zone(at).0 == zone);
        if limit == 1 {
            return !self.nearby(position, cyclic).any(is_of_zone);
        }
        // Windows that contain `position`, sliding clockwise; itself is no neighbour of itself.
        let near: Vec<bool> = self.nearby(position, cyclic).map(is_of_zone).collect();
        near.windows(self.reach).all(|near| near.iter().filter(|&&near| near).count() < limit)
    }

    /// The owners within reach of `position` on either side, clockwise.
    fn nearby(&self, position: usize, cyclic: bool) -> impl Iterator<Item = Option<u16>> + '_ {
        let before = (1..=self.reach).rev().map(move |steps| {
            if cyclic || steps <= position {
                self.owner_at(position + self.owners.len() - steps)
            } else {
                None
            }
        });
        let after = (1..=self.reach).map(move |steps| {
            if cyclic || position + steps < self.owners.len() {
                self.owner_at(position + steps)
            } else {
                None
            }
        });
        before.chain(after)
    }

    /// The owner at `position`, taken round the ring.
    pub(super) fn owner_at(&self, position: usize) -> Option<u16> {
        self.owners[position % self.owners.len()]
    }

    /// How many more partitions change hands if `member` gets the one at `position`.
    fn extra_moves(&self, position: usize, member: u16) -> i8 {
        let before = self.before[position];
        i8::from(before != Some(member)) - i8::from(before != self.owners[position])
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        0..u16::try_from(self.terms.members.len()).expect("the number of members was checked")
    }

    /// What the members may own.
    pub(super) fn terms(&self) -> &'a Terms<'a> {
        self.terms
    }

    fn short_members(&self) -> Vec<u16> {
        self.indices().filter(|&member| self.missing(member) > 0).collect()
    }

    /// Partitions that `member` lacks to its quota; negative above it.
    fn missing(&self, member: u16) -> isize {
        let member = usize::from(member);
        self.quotas[member].cast_signed() - self.loads[member].cast_signed()
    }

    /// How far `member` is below its quota, in millionths of its share: so that of two with unlike
    /// weights neither is served first.
    fn due(&self, member: u16) -> isize {
        let share = self.terms.shares[usize::from(member)].floor().max(1.0) as isize;
        self.missing(member) * 1_000_000 / share
    }

    /// Partitions that `member` has beyond its quota.
    fn surplus(&self, member: u16) -> usize {
        self.loads[usize::from(member)].saturating_sub(self.quotas[usize::from(member)])
    }

    fn surplus_at(&self, position: usize) -> usize {
        self.owners[position].map_or(0, |owner| self.surplus(owner))
    }

    /// Whether `member` has what it should, so that more would be too much.
    pub(super) fn is_full(&self, member: u16) -> bool {
        self.missing(member) <= 0
    }

    /// Decides between equals: a hash (the finaliser of MurmurHash3) of member and partition.
    fn tie(&self, member: u16, position: usize) -> u64 {
        let mut bits =
            self.terms.members[usize::from(member)].node.0 ^ (position as u64).rotate_left(32);
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            bits = (bits ^ (bits >> 33)).wrapping_mul(factor);
        }
        bits ^ (bits >> 33)
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;

    use super::super::feasible_spread;
    use super::super::terms::Terms;
    use super::Layout;
    use crate::Member;

    fn members(count: u64) -> Vec<Member> {
        (0..count).map(|id| Member::new(NodeId(id))).collect()
    }

    fn repeats(layout: &Layout) -> bool {
        (0..layout.owners.len())
            .any(|at| layout.owners[at].is_none_or(|owner| !layout.admits(at, owner)))
    }

    #[test]
    fn rounds_keep_the_spread_wherever_it_is_feasible() {
        for (count, number) in [(8, 4), (16, 5), (64, 7), (64, 11), (4096, 11), (4096, 100)] {
            let members = members(number);
            for wanted in 1..members.len() {
                let spread = feasible_spread(wanted, members.len(), count);
                let before = vec![None; count];
                let terms = Terms::new(&members, spread, &before);
                let mut layout = Layout::new(&terms, before);
                layout.lay_in_rounds();
                assert!(!repeats(&layout), "{count} partitions, {number} members");
            }
        }
    }

    /// All that member 0 has lies beside member 3, who lacks one: a third must take and give.
    #[test]
    fn a_chain_evens_out_what_no_single_gift_can() {
        let members = members(5);
        let owners = [0, 3, 0, 1, 0, 3, 0, 1, 2, 4, 2, 4, 2, 4, 2, 1].map(Some);
        let terms = Terms::new(&members, 2, &owners);
        let mut layout = Layout::new(&terms, owners.to_vec());
        assert_eq!(layout.loads, [4, 3, 4, 2, 3]);
        layout.quotas = vec![3, 3, 4, 3, 3];
        layout.take_anywhere(3);
        assert_eq!(layout.loads, [4, 3, 4, 2, 3], "no single gift");
        layout.level();
        assert_eq!(layout.loads, layout.quotas);
        assert!(!repeats(&layout));
    }
}
