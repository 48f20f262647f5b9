//! Registers: a last-writer-wins base beside a tally of increments.
//!
//! An integer base shows base + tally, so concurrent increments add up and survive a concurrent
//! set; a set resets what it had observed of the tally. [`Register`] is the `lww` type; [`Field`]
//! is a field of a `map`, whose sets are dots so that it can be removed as observed.
//!
//! Source: the LWW-register of Shapiro et al. (2011) §3.2.1, with hybrid stamps.

use clock::{CausalContext, Dot, Stamp};
use serde::{Deserialize, Serialize};

use crate::{Blob, DotFun, DotStore, Tally};

/// What a last set or delete left. The larger (stamp, dot) wins; the dot breaks ties.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Base {
    /// When, in hybrid time.
    pub stamp: Stamp,
    /// Which write.
    pub dot: Dot,
    /// The value set, or `None` where the register was deleted.
    pub value: Option<Blob>,
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
        if self.base < other.base {
            self.base.clone_from(&other.base);
        }
        self.tally.merge(&other.tally);
        self.context.merge(&other.context);
    }

    /// What a reader sees; `None` for nothing.
    pub fn read(&self) -> Option<Blob> {
        let base = self.base.as_ref().and_then(|base| base.value.as_ref());
        shown(base, &self.tally)
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
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Base and tally as one value. A base that is no integer hides the tally beside it.
fn shown(base: Option<&Blob>, tally: &Tally) -> Option<Blob> {
    match base {
        None if tally.is_live() => Some(tally.value().to_string().into()),
        None => None,
        Some(base) if tally.is_live() => Some(match integer(base) {
            Some(number) => i128::from(number).saturating_add(tally.value()).to_string().into(),
            None => base.clone(),
        }),
        Some(base) => Some(base.clone()),
    }
}
