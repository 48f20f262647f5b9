//! Rounds of the barrier, by which it is told how old something is.

use sabotage::Bug;
use serde::{Deserialize, Serialize};

/// A ring whose members go through rounds together: bits of how it was founded, random ones where one member founded it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RingId(pub u64);

impl RingId {
    /// None of which anything is known.
    pub const UNKNOWN: Self = Self(0);
}

/// A round of the barrier of one ring. Rounds of two rings say nothing of one another.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Round {
    /// Whose round.
    pub ring: RingId,
    /// Which; in the upper half how often the ring was restored as a whole ([`Round::era`]).
    pub number: u64,
}

/// Bits of a number below its era.
const ERA_SHIFT: u32 = 32;

impl Round {
    /// So many rounds lie between the one that a replica has entered and those of which it folds names, and forgets what was sealed.
    ///
    /// All tries of a request are of some round *r* or of *r* + 1. Once *r* + 2 is agreed, nothing of theirs is under way any
    /// more, and in *r* + 3 all owners are compared.
    pub const FOLD_LAG: u64 = 4;

    /// How often the ring had been restored from backups as a whole, in round or life `number`.
    pub const fn era(number: u64) -> u64 {
        number >> ERA_SHIFT
    }

    /// The round that is over when an era begins.
    pub const fn first_of(era: u64) -> u64 {
        era << ERA_SHIFT
    }

    /// The round before which names are folded by a replica that has entered this one. `None` in the first rounds of
    /// an era: what was restored together is to be compared first.
    pub fn folds_below(self) -> Option<Self> {
        let lag = if sabotage::is(Bug::FoldedAtOnce) { 0 } else { Self::FOLD_LAG };
        match self.number.checked_sub(lag) {
            Some(number) if number >= Self::first_of(Self::era(self.number)) => {
                Some(Self { number, ..self })
            }
            _ => None,
        }
    }

    /// Whether its ring is known: without one it says nothing of how old a name is.
    pub fn is_known(self) -> bool {
        self.ring != RingId::UNKNOWN
    }

    /// Whether it came before `other`, of the same ring.
    pub fn is_before(self, other: Self) -> bool {
        self.ring == other.ring && self.number < other.number
    }

    /// Whether a replica that is a round ahead of this one may fold what was `made` then.
    pub fn is_folded_soon(self, made: Self) -> bool {
        made.ring == self.ring && made.number.saturating_add(Self::FOLD_LAG) <= self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn round(number: u64) -> Round {
        Round { ring: RingId(7), number }
    }

    #[test]
    fn names_are_folded_five_rounds_later_and_an_era_begins_anew() {
        assert_eq!(round(3).folds_below(), None);
        assert_eq!(round(4).folds_below(), Some(round(0)), "of earlier eras, had there been any");
        assert_eq!(round(9).folds_below(), Some(round(5)));
        let first = Round::first_of(2);
        assert_eq!(round(first + 3).folds_below(), None);
        assert_eq!(round(first + 4).folds_below(), Some(round(first)));
        assert_eq!((Round::era(first - 1), Round::era(first)), (1, 2));
    }

    #[test]
    fn who_is_a_round_ahead_folds_what_is_said_to_be_folded_soon() {
        for entered in (0..12).chain(Round::first_of(1)..Round::first_of(1) + 8) {
            for made in (0..12).chain(Round::first_of(1)..Round::first_of(1) + 8) {
                let below = round(entered + 1).folds_below();
                let is_folded = below.is_some_and(|below| made < below.number);
                assert!(
                    !is_folded || round(entered).is_folded_soon(round(made)),
                    "{entered} {made}"
                );
            }
        }
        let elsewhere = Round { ring: RingId(8), number: 0 };
        assert!(!round(9).is_folded_soon(elsewhere));
    }
}
