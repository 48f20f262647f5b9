//! Registers: a last-writer-wins base beside a tally of increments.
//!
//! An integer base shows base + tally, so concurrent increments add up and survive a concurrent
//! set; a set resets what it had observed of the tally. [`Register`] is the `lww` type; [`Field`]
//! is a field of a `map`, whose sets are dots so that it can be removed as observed.
//!
//! Source: the LWW-register of Shapiro et al. (2011) §3.2.1, with hybrid stamps.

use clock::{CausalContext, Dot, Stamp};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

use crate::{Blob, DotFun, DotStore, Tally};

/// What a last set or delete left. The larger (stamp, dot) wins; the dot breaks ties, and of one write
/// its removal wins, which leaves stamp and dot in place (a schedule removes so).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base {
    /// When, in hybrid time.
    pub stamp: Stamp,
    /// Which write.
    pub dot: Dot,
    /// The value set, or `None` where the register was deleted.
    pub value: Option<Blob>,
}

impl Ord for Base {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |base: &Self| (base.stamp, base.dot, base.value.is_none());
        rank(self).cmp(&rank(other)).then_with(|| self.value.cmp(&other.value))
    }
}

impl PartialOrd for Base {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// State of the `lww` type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Register {
    /// The last set or delete, if there was any.
    pub base: Option<Base>,
    /// Increments since.
    pub tally: Tally,
    /// Every write seen.
    pub context: CausalContext,
}

impl Register {
    /// The least upper bound.
    pub fn merge(&mut self, other: &Self) {
        let takes_any = sabotage::is(Bug::LastMergedWins) && other.base.is_some();
        let stamp = |register: &Self| register.base.as_ref().map(|base| base.stamp);
        let is_tie = sabotage::is(Bug::TiesStay) && stamp(self) == stamp(other);
        if (self.base < other.base && !is_tie) || takes_any {
            self.base.clone_from(&other.base);
        }
        self.tally.merge_with(&mut self.context, &other.tally, &other.context);
    }

    /// Whether it is the state before any write.
    pub(crate) fn is_bottom(&self) -> bool {
        self.base.is_none() && self.tally.is_empty() && self.context.is_empty()
    }

    /// What a reader sees; `None` for nothing.
    pub fn read(&self) -> Option<Blob> {
        shown(self.base_value(), &self.tally)
    }

    /// Whether a reader sees something.
    pub fn is_live(&self) -> bool {
        self.base_value().is_some() || self.tally.is_live()
    }

    /// What is there to add to, 0 for nothing; `None` if it is no integer. It can be wider than
    /// the 64 bits that a base holds.
    pub fn number(&self) -> Option<i128> {
        number(self.base_value(), &self.tally)
    }

    fn base_value(&self) -> Option<&Blob> {
        self.base.as_ref()?.value.as_ref()
    }
}

/// One set of a map field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Write {
    /// When, in hybrid time: among concurrent sets the latest is shown.
    pub stamp: Stamp,
    /// The value set.
    pub value: Blob,
}

/// A field of a `map`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Sets that no later set or removal has covered.
    pub writes: DotFun<Write>,
    /// Increments. What a removal reset must stay known, or a stale replica would bring it back.
    pub tally: Tally,
}

impl Field {
    /// What a reader sees; `None` for nothing.
    pub fn read(&self) -> Option<Blob> {
        shown(self.winner().map(|(_, write)| &write.value), &self.tally)
    }

    /// What is there to add to, 0 for nothing; `None` if it is no integer.
    pub fn number(&self) -> Option<i128> {
        number(self.winner().map(|(_, write)| &write.value), &self.tally)
    }

    /// The latest set.
    pub fn winner(&self) -> Option<(Dot, &Write)> {
        self.writes
            .0
            .iter()
            .map(|(&dot, write)| (dot, write))
            .max_by_key(|&(dot, write)| (write.stamp, dot))
    }
}

impl DotStore for Field {
    fn is_bottom(&self) -> bool {
        self.writes.is_bottom() && self.tally.is_empty()
    }

    fn is_live(&self) -> bool {
        self.writes.is_live() || self.tally.is_live()
    }

    fn join(&mut self, seen: &CausalContext, other: &Self, other_seen: &CausalContext) {
        self.writes.join(seen, &other.writes, other_seen);
        self.tally.merge(&other.tally);
    }

    /// Removes sets only: increments are reset, not covered by a context (see [`Tally`]).
    fn remove(&mut self, removed: &CausalContext) {
        self.writes.remove(removed);
    }

    fn dots(&self) -> Vec<Dot> {
        self.writes.dots().into_iter().chain(self.tally.live_dots()).collect()
    }
}

/// Reads a decimal integer as Redis does: no spaces, no plus sign, no leading zeros, 64 bits.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Base and tally as one number; `None` if the base is no integer.
fn number(base: Option<&Blob>, tally: &Tally) -> Option<i128> {
    let base = base.map_or(Some(0), |base| integer(base))?;
    Some(i128::from(base).saturating_add(tally.value()))
}

/// Base and tally as one value. A base that is no integer hides the tally beside it.
fn shown(base: Option<&Blob>, tally: &Tally) -> Option<Blob> {
    if tally.is_live()
        && let Some(sum) = number(base, tally)
    {
        return Some(sum.to_string().into());
    }
    base.cloned()
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId};

    use super::*;

    const A: Actor = Actor::new(NodeId(1), 10, 0);
    const B: Actor = Actor::new(NodeId(2), 20, 0);

    /// What Redis's `string2ll` takes, and nothing else.
    #[test]
    fn integers_are_read_as_redis_reads_them() {
        let taken = ["0", "-1", "5", "9223372036854775807", "-9223372036854775808"];
        for text in taken {
            assert_eq!(integer(text.as_bytes()), text.parse().ok(), "{text}");
        }
        let refused = [
            "",
            "-",
            "-0",
            "+1",
            "00",
            "01",
            " 1",
            "1 ",
            "1\n",
            "1.0",
            "1e3",
            "0x1",
            "٣",
            "9223372036854775808",
            "-9223372036854775809",
        ];
        for text in refused {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(integer(&[0xff, b'1']), None);
    }

    fn base(stamp: u64, actor: Actor, value: &'static str) -> Register {
        let base = Base { stamp: Stamp(stamp), dot: Dot::new(actor, 1), value: Some(value.into()) };
        Register { base: Some(base), ..Register::default() }
    }

    fn joined(one: &Register, other: &Register) -> Register {
        let mut joined = one.clone();
        joined.merge(other);
        joined
    }

    #[test]
    fn the_later_stamp_wins_and_the_dot_breaks_ties_the_same_way_everywhere() {
        let (early, late) = (base(1, B, "early"), base(2, A, "late"));
        assert_eq!(joined(&early, &late).read(), Some("late".into()));
        assert_eq!(joined(&late, &early).read(), Some("late".into()));
        let (of_a, of_b) = (base(2, A, "z"), base(2, B, "a"));
        assert_eq!(joined(&of_a, &of_b).read(), Some("a".into()));
        assert_eq!(joined(&of_b, &of_a).read(), Some("a".into()));
    }

    #[test]
    fn a_base_that_is_no_integer_hides_the_increments_and_one_that_is_shows_the_sum() {
        let tally = Tally::default().incremented(Dot::new(B, 1), 3, None);
        let beside = |value| Register { tally: tally.clone(), ..base(1, A, value) }.read();
        assert_eq!(beside("x"), Some("x".into()));
        assert_eq!(beside("5"), Some("8".into()));
        assert_eq!(beside("05"), Some("05".into()));
        assert_eq!(beside("9223372036854775807"), Some("9223372036854775810".into()));
        let alone = Register { tally, ..Register::default() };
        assert_eq!(alone.read(), Some("3".into()));
    }

    #[test]
    fn of_concurrent_sets_of_a_field_the_latest_is_shown() {
        let mut field = Field::default();
        for (counter, stamp, value) in [(1, 5, "first"), (2, 9, "latest"), (3, 7, "between")] {
            let write = Write { stamp: Stamp(stamp), value: value.into() };
            field.writes.0.insert(Dot::new(A, counter), write);
        }
        assert_eq!(field.read(), Some("latest".into()));
        assert_eq!(field.winner().map(|(dot, _)| dot.counter), Some(2));
    }
}
