//! What a write does to the key's time to live, beside what its operation does.

use clock::{Actor, Dot, Stamp};
use sabotage::Bug;

use super::{Dots, Limits, Operation, Prepared, Seen, UpdateError};
use crate::expiry::schedules_delta;
use crate::{
    BytesOp, CartOp, CounterOp, Delta, ExpiryCondition, ExpiryOp, Lifetime, MapOp, OrsetOp,
    RegisterOp, Removal, Schedule, State, Tag, Value, View,
};

/// The schedules that `view` shows, as a write at `stamp` finds them.
struct Found<'a> {
    /// Dots of those that are due: what they remove is seen no more.
    due: Vec<Dot>,
    pending: Vec<(Dot, &'a Schedule)>,
}

impl<'a> Found<'a> {
    fn of(view: &'a View, stamp: Stamp) -> Self {
        let mut found = Self { due: Vec::new(), pending: Vec::new() };
        for (dot, schedule) in view.value.schedules() {
            if schedule.deadline_ms <= stamp.millis() {
                found.due.push(dot);
            } else {
                found.pending.push((dot, schedule));
            }
        }
        found
    }

    fn pending_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.pending.iter().map(|(dot, _)| *dot)
    }

    /// What the pending ones remove.
    fn removal(&self) -> Removal {
        let mut removal = Removal::default();
        self.pending.iter().for_each(|(_, schedule)| removal.merge(&schedule.removal));
        removal
    }
}

/// What becomes of the schedules that a write finds pending.
enum Fate {
    /// They stay as they are: what is written is not theirs.
    Stay,
    /// They go on to remove what is written, too.
    Extend,
    /// They are taken back: the key lives without end.
    End,
}

impl Operation {
    fn fate(&self, keeps: bool, view: &View, prepared: &Prepared) -> Fate {
        let live = view.live_tags();
        let replaced: &[Tag] = match self {
            // It has said by itself what becomes of them, also where nothing is left of the key.
            Self::Expiry(_) => return Fate::Stay,
            // What was removed already, and is removed again where somebody held it still, is no end of the key.
            _ if live.is_empty() => return if self.adds() { Fate::End } else { Fate::Stay },
            _ if keeps => return Fate::Extend,
            Self::Register(RegisterOp::Set { .. } | RegisterOp::PutRaw(_)) => {
                let register = |value: &Value| match value.state(Tag::LWW) {
                    Some(State::Register(register)) => register.base.clone(),
                    _ => None,
                };
                if register(&prepared.delta.value) < register(&view.value) {
                    return Fate::Stay;
                }
                match self {
                    Self::Register(RegisterOp::Set { replace: true, .. }) => &Tag::KNOWN,
                    Self::Register(RegisterOp::PutRaw(_)) => &[Tag::LWW, Tag::BYTES],
                    _ => &[Tag::LWW],
                }
            }
            Self::Bytes(BytesOp::Put(_)) => {
                let shown = match view.value.state(Tag::BYTES) {
                    Some(State::Bytes(state)) => Some(&state.store.0),
                    _ => None,
                };
                let is_seen = |dot: &Dot| {
                    prepared.minted.is_some_and(|minted| minted.contains(*dot))
                        || shown.is_some_and(|shown| shown.contains_key(dot))
                };
                match prepared.delta.value.state(Tag::BYTES) {
                    Some(State::Bytes(state))
                        if state.store.0.keys().filter(|dot| is_seen(dot)).count() == 1 =>
                    {
                        &[Tag::BYTES]
                    }
                    _ => &[],
                }
            }
            Self::Delete(None) => &Tag::KNOWN,
            _ => return Fate::Extend,
        };
        // What is left of the key keeps its deadline.
        if live.iter().all(|tag| replaced.contains(tag)) { Fate::End } else { Fate::Stay }
    }

    /// Whether it writes something that lives on: what a bucket's time to live is for.
    pub const fn adds(&self) -> bool {
        match self {
            Self::Bytes(BytesOp::Put(_))
            | Self::Register(
                RegisterOp::Set { .. } | RegisterOp::PutRaw(_) | RegisterOp::Increment(_),
            )
            | Self::Gset(_)
            | Self::Counter(CounterOp::Add(_))
            | Self::Orset(OrsetOp::Add(_))
            | Self::Cart(CartOp::Add { .. } | CartOp::SetQuantity { .. })
            | Self::Map(MapOp::Set(_) | MapOp::Increment { .. }) => true,
            Self::Bytes(BytesOp::Delete)
            | Self::Register(RegisterOp::DeleteRaw)
            | Self::Counter(CounterOp::Reset)
            | Self::Orset(OrsetOp::Remove(_))
            | Self::Cart(CartOp::Remove(_))
            | Self::Map(MapOp::Remove(_))
            | Self::Delete(_)
            | Self::Resolve(_)
            | Self::Expiry(_) => false,
        }
    }
}

/// Adds to what was prepared what becomes of the key's schedules.
pub(super) fn follow(
    prepared: &mut Prepared,
    operation: &Operation,
    (lifetime, scheduler): (Lifetime, Actor),
    seen: Seen<'_>,
    stamp: Stamp,
    limits: &Limits,
) -> Result<(), UpdateError> {
    let view = seen.view;
    let found = Found::of(view, stamp);
    let ends = match lifetime {
        Lifetime::Ends(deadline) if operation.adds() => Some(deadline.of_write(stamp)?),
        _ => None,
    };
    if prepared.delta.is_empty() || (ends.is_none() && found.pending.is_empty()) {
        return Ok(());
    }
    let written = Removal::of_written(&prepared.delta, prepared.minted);
    let delta = match ends {
        Some(deadline_ms) => {
            let mut removal = found.removal();
            removal.merge(&of_shown(seen, |tag| Some(tag) == operation.tag()));
            removal.merge(&written);
            check_size(&removal, limits)?;
            let mut dots = Dots::new(view, Tag::EXPIRY, scheduler);
            let schedule = Schedule { deadline_ms, removal };
            schedules_delta(found.pending_dots(), [(dots.mint()?, schedule)])
        }
        None => match operation.fate(lifetime == Lifetime::Keep, view, prepared) {
            Fate::Stay => Delta::default(),
            Fate::End => schedules_delta(found.pending_dots(), []),
            Fate::Extend => found.extended(&written, limits)?,
        },
    };
    prepared.delta.merge(&delta);
    Ok(())
}

impl Found<'_> {
    /// The delta by which the pending ones remove `written` too. It holds them whole: whoever is given
    /// `written` alone, of a schedule that it lacks, would take the schedule back for all once it had removed that.
    fn extended(&self, written: &Removal, limits: &Limits) -> Result<Delta, UpdateError> {
        if written.is_empty() {
            return Ok(Delta::default());
        }
        if written.field_bytes() > 0 {
            let mut whole = self.removal();
            whole.merge(written);
            check_size(&whole, limits)?;
        }
        let extended = self.pending.iter().map(|(dot, schedule)| {
            let mut extended = (*schedule).clone();
            extended.removal.merge(written);
            (*dot, extended)
        });
        Ok(schedules_delta([], extended))
    }
}

/// A schedule is stored and sent whole with every change of its key.
fn check_size(removal: &Removal, limits: &Limits) -> Result<(), UpdateError> {
    let (bytes, limit) = (removal.field_bytes(), limits.schedule_bytes);
    if bytes > limit { Err(UpdateError::ScheduleTooLong { bytes, limit }) } else { Ok(()) }
}

/// All that is shown of the types that are meant.
fn of_shown(seen: Seen<'_>, is_meant: impl Fn(Tag) -> bool) -> Removal {
    let mut removal = Removal::of_shown(seen.view, is_meant);
    complete(seen, &mut removal);
    removal
}

fn complete(seen: Seen<'_>, removal: &mut Removal) {
    for (tag, tally) in removal.tallies_mut() {
        seen.folding.complete(tag, seen.held, tally);
    }
}

pub(super) fn prepare_expiry(
    op: &ExpiryOp,
    seen: Seen<'_>,
    dots: &mut Dots,
    stamp: Stamp,
    limits: &Limits,
) -> Result<Prepared, UpdateError> {
    let view = seen.view;
    let nothing = || Ok(Prepared::new(Delta::default(), 0));
    let found = Found::of(view, stamp);
    let present = view.deadline_ms(stamp.millis());
    if *op == ExpiryOp::Sweep {
        let changed = found.due.len() as u64;
        let mut delta = schedules_delta(found.due, []);
        let mut due = view.value.due(stamp.millis()).unwrap_or_default();
        complete(seen, &mut due);
        delta.merge(&due.delta());
        if sabotage::is(Bug::DueTakesBeside) {
            delta.merge(&Removal::of_shown(view, |_| true).delta());
        }
        return Ok(Prepared::new(delta, changed));
    }
    let ExpiryOp::Set { deadline, only_if } = op else {
        // Also one that removes nothing any more goes, silently.
        let delta = schedules_delta(found.pending_dots(), []);
        return Ok(Prepared::new(delta, present.is_some().into()));
    };
    let deadline_ms = deadline.of_write(stamp)?;
    let is_met = match only_if {
        None => true,
        Some(ExpiryCondition::None) => present.is_none(),
        Some(ExpiryCondition::Some) => present.is_some(),
        Some(ExpiryCondition::Later) => present.is_some_and(|present| deadline_ms > present),
        Some(ExpiryCondition::SomeEarlier) => present.is_some_and(|present| deadline_ms < present),
        Some(ExpiryCondition::Earlier) => present.is_none_or(|present| deadline_ms < present),
    };
    if !is_met || view.live_tags().is_empty() {
        return nothing();
    }
    let mut removal = found.removal();
    removal.merge(&of_shown(seen, |_| true));
    check_size(&removal, limits)?;
    let schedule = Schedule { deadline_ms, removal };
    let delta = schedules_delta(found.pending_dots(), [(dots.mint()?, schedule)]);
    Ok(Prepared::new(delta, 1))
}
