//! Expiry: removals of what was observed, which take effect from a deadline on.
//!
//! A schedule is a deadline and the removal that it applies, kept under its dot in a part of the
//! value of its own ([`Tag::EXPIRY`](crate::Tag::EXPIRY)). It is replicated and hashed as any state
//! is, by what it says and never by the present time. What was written beside the schedule, unseen
//! by it, is not in its removal and survives.
//!
//! A schedule is taken back as it was observed: its dot is in the context and no longer in the
//! store. A write that sees it and goes on with the key adds what it writes to the removal, under
//! the schedule's own dot: where the schedule was meanwhile taken back or replaced, that addition
//! falls away with it.
//!
//! From its deadline on a reader is shown the value without what the schedule removes
//! ([`View::expire`]). That is judged last, of what several replicas show together: one of them may
//! know that the schedule was taken back. So it is with removing for good: what is due goes by a delta
//! made of what enough replicas show ([`ExpiryOp::Sweep`]), which takes the schedule back too. Until
//! then other writes go on beside what is due, and leave both alone; but a removal of all that a key
//! holds of a type, which has observed it, takes what is due of it too.
//!
//! Laws: `tests/laws.rs`. Source: design.md, Expiry; the map from dots to a lattice is `DotFun` of
//! Almeida, Shoker, Baquero (2018), §7.

mod removal;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clock::{CausalContext, Dot, Stamp};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

use crate::{Causal, Delta, DotStore, State, Tag, UpdateError, Value, View};

pub use removal::Removal;

/// A removal that is due at its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schedule {
    /// From when on it is in effect, in milliseconds since 1970.
    pub deadline_ms: u64,
    /// What it removes.
    pub removal: Removal,
}

/// Schedules under their dots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedules(pub BTreeMap<Dot, Schedule>);

/// State of the part that holds a key's schedules.
pub type Expiry = Causal<Schedules>;

impl Expiry {
    /// The schedules that say more than those of `stale`, and nothing of any that was taken back.
    pub(crate) fn added_to(&self, stale: &Self) -> Self {
        let held = &stale.store.0;
        let added = self.store.0.iter().filter(|(dot, schedule)| held.get(dot) != Some(schedule));
        let store = Schedules(added.map(|(dot, schedule)| (*dot, schedule.clone())).collect());
        let context = store.0.keys().copied().collect();
        Self { store, context }
    }

    /// Whether it knows that schedules were taken back, of which `stale` does not know that.
    pub(crate) fn takes_back_from(&self, stale: &Self) -> bool {
        let taken_back = |expiry: &Self| expiry.context.without(expiry.store.0.keys().copied());
        !taken_back(stale).descends(&taken_back(self))
    }
}

impl DotStore for Schedules {
    fn is_bottom(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&mut self, seen: &CausalContext, other: &Self, other_seen: &CausalContext) {
        self.0.retain(|dot, _| other.0.contains_key(dot) || !other_seen.contains(*dot));
        for (dot, theirs) in &other.0 {
            match self.0.get_mut(dot) {
                Some(mine) => {
                    // They differ where a request with a name was tried twice.
                    mine.deadline_ms = mine.deadline_ms.max(theirs.deadline_ms);
                    mine.removal.merge(&theirs.removal);
                }
                None if seen.contains(*dot) && !sabotage::is(Bug::TakenBackComesBack) => {}
                None => {
                    self.0.insert(*dot, theirs.clone());
                }
            }
        }
    }

    fn remove(&mut self, removed: &CausalContext) {
        self.0.retain(|dot, _| !removed.contains(*dot));
    }

    fn dots(&self) -> Vec<Dot> {
        self.0.keys().copied().collect()
    }
}

/// When something is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// At this time, in milliseconds since 1970.
    At(u64),
    /// So many milliseconds after the write's stamp.
    In(u64),
}

/// The last deadline there is: what fits in a signed 64-bit number, as in Redis.
pub const DEADLINE_MS_MAX: u64 = i64::MAX as u64;

impl Deadline {
    /// In milliseconds since 1970, for a write at `stamp`.
    pub(crate) fn of_write(self, stamp: Stamp) -> Result<u64, UpdateError> {
        let ms = match self {
            Self::At(ms) => Some(ms),
            Self::In(ms) => stamp.millis().checked_add(ms),
        };
        ms.filter(|ms| *ms <= DEADLINE_MS_MAX).ok_or(UpdateError::DeadlineTooFar)
    }
}

/// What a write does to the key's time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// What is usual for its operation: a value set anew lives without end, what is added to a key
    /// lives as long as the key.
    #[default]
    Usual,
    /// What is written lives as long as the key, also a value set anew.
    Keep,
    /// All that is there and seen, with what is written, ends then.
    Ends(Deadline),
}

/// Operations on a key's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryOp {
    /// Has all that was observed of the key end then, in place of any deadline observed. Nothing
    /// happens to a key that is not there.
    Set {
        /// When.
        deadline: Deadline,
        /// Only under this condition, judged by what was observed.
        only_if: Option<ExpiryCondition>,
    },
    /// Takes the observed deadline away.
    Persist,
    /// Removes what is due.
    Sweep,
}

/// When a deadline is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryCondition {
    /// The key has none.
    None,
    /// The key has one.
    Some,
    /// It is later than the key's. Having none counts as later than all.
    Later,
    /// It is earlier than the key's, if that has one.
    Earlier,
    /// The key has one, and it is earlier.
    SomeEarlier,
}

impl Value {
    /// The schedules that no later write has taken back.
    pub fn schedules(&self) -> impl Iterator<Item = (Dot, &Schedule)> + '_ {
        self.expiry().store.0.iter().map(|(&dot, schedule)| (dot, schedule))
    }

    /// Those, and which were taken back.
    pub(crate) fn expiry(&self) -> &Expiry {
        static NOTHING: LazyLock<Expiry> = LazyLock::new(Expiry::default);
        match self.state(Tag::EXPIRY) {
            Some(State::Expiry(expiry)) => expiry,
            _ => &NOTHING,
        }
    }

    /// What is to be removed at `now_ms`; `None` where nothing is due.
    pub fn due(&self, now_ms: u64) -> Option<Removal> {
        let mut due = self.schedules().filter(|(_, schedule)| schedule.deadline_ms <= now_ms);
        let mut removal = due.next()?.1.removal.clone();
        due.for_each(|(_, schedule)| removal.merge(&schedule.removal));
        Some(removal)
    }

    /// Removes what is due at `now_ms`. The value must be whole.
    pub fn expire(&mut self, now_ms: u64) {
        if let Some(removal) = self.due(now_ms) {
            self.apply(&removal.delta());
        }
    }
}

impl View {
    /// Shows what is seen at `now_ms`: without what is due. Of a collection of which not all
    /// elements are at hand the summary is then exact only where nothing is left of it.
    pub fn expire(&mut self, now_ms: u64) {
        if let Some(removal) = self.value.due(now_ms) {
            removal.take_from(self);
        }
    }

    /// When the key, or the first part of it, ends: the earliest deadline after `now_ms` of a schedule
    /// that removes something shown here, in milliseconds since 1970. `None` for never, and for a
    /// key that is not there. (Of a collection's elements it is taken to remove some.)
    pub fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let pending = self.value.schedules().map(|(_, schedule)| schedule);
        let pending = pending.filter(|schedule| {
            schedule.deadline_ms > now_ms && schedule.removal.removes_from(self)
        });
        pending.map(|schedule| schedule.deadline_ms).min()
    }
}

/// The delta that takes the schedules under `dots` back and puts `added` under theirs.
pub(crate) fn schedules_delta(
    taken_back: impl IntoIterator<Item = Dot>,
    added: impl IntoIterator<Item = (Dot, Schedule)>,
) -> Delta {
    let store = Schedules(added.into_iter().collect());
    let mut context: CausalContext = store.0.keys().copied().collect();
    context.extend(taken_back);
    Delta::of(Tag::EXPIRY, State::Expiry(Causal { store, context }))
}
