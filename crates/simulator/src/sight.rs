//! What a state shows of one write: held, gone, or not seen.
//!
//! The naive reading of every type's state, dot by dot, against which merges are judged: nothing
//! here joins anything.

use clock::{Dot, Stamp};
use values::{Blob, Field, State, Tag, Tally, Value};

/// What one dot was minted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// A sibling, an add of an element or item, a set of a field: there until something that had
    /// seen its dot takes it away.
    Entry {
        /// Which element, item or field; empty in a type that has none.
        element: Blob,
        /// What hangs on the dot: a value, a quantity in decimal, or nothing.
        payload: Blob,
    },
    /// An increment: counts until a reset that had seen it.
    Count {
        /// Which field; empty in a type that has none.
        element: Blob,
        /// By how much.
        by: i64,
    },
    /// A set or delete of a register: the last one wins.
    Base {
        /// When, in hybrid time.
        stamp: Stamp,
        /// What was set; `None` for a delete.
        value: Option<Blob>,
    },
    /// A schedule.
    End,
    /// Nothing: the mark of a named request that minted nothing else.
    Mark,
}

impl Write {
    pub(crate) fn entry(element: &Blob, payload: impl Into<Blob>) -> Self {
        Self::Entry { element: element.clone(), payload: payload.into() }
    }

    /// Which element, item or field it is of; empty in a type that has none.
    pub(crate) const fn element(&self) -> Option<&Blob> {
        match self {
            Self::Entry { element, .. } | Self::Count { element, .. } => Some(element),
            Self::Base { .. } | Self::End | Self::Mark => None,
        }
    }

    /// The same without its time: what a named request done again writes under another.
    pub(crate) fn unstamped(&self) -> Self {
        match self {
            Self::Base { value, .. } => Self::Base { stamp: Stamp(0), value: value.clone() },
            write => write.clone(),
        }
    }

    /// An add of so many.
    pub(crate) fn units(item: &Blob, quantity: u64) -> Self {
        Self::entry(item, quantity.to_string())
    }
}

/// What a state shows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It never heard of it.
    Unseen,
    /// It holds it.
    Live,
    /// It has seen it and holds it no longer.
    Gone,
}

/// How `value` shows the write `dot` of `tag`.
pub(crate) fn sight(value: &Value, tag: Tag, dot: Dot, write: &Write) -> Sight {
    let Some(state) = value.state(tag) else { return Sight::Unseen };
    let holds = match write {
        Write::Count { element, .. } => {
            let Some(tally) = tally(state, element) else { return Sight::Unseen };
            let entry = tally.entries().find(|&(actor, _)| actor == dot.actor);
            let (upto, reset) = entry.map_or((0, 0), |(_, e)| (e.upto(), e.reset_upto()));
            return if dot.counter <= reset {
                Sight::Gone
            } else if dot.counter <= upto {
                Sight::Live
            } else {
                Sight::Unseen
            };
        }
        Write::Entry { element, .. } => holds(state, element, dot),
        Write::Base { .. } => {
            matches!(state, State::Register(r) if r.base.as_ref().is_some_and(|b| b.dot == dot))
        }
        Write::End | Write::Mark => false,
    };
    match (holds, state.context().contains(dot)) {
        (true, _) => Sight::Live,
        (false, true) => Sight::Gone,
        (false, false) => Sight::Unseen,
    }
}

fn holds(state: &State, element: &Blob, dot: Dot) -> bool {
    match state {
        State::Bytes(state) => state.store.0.contains_key(&dot),
        State::Gset(state) | State::Orset(state) => {
            state.store.0.get(element).is_some_and(|adds| adds.0.contains_key(&dot))
        }
        State::Cart(state) => {
            state.store.0.get(element).is_some_and(|adds| adds.0.contains_key(&dot))
        }
        State::Map(state) => {
            state.store.0.get(element).is_some_and(|field| field.writes.0.contains_key(&dot))
        }
        _ => false,
    }
}

fn tally<'a>(state: &'a State, element: &Blob) -> Option<&'a Tally> {
    match state {
        State::Register(register) => Some(&register.tally),
        State::Counter(counter) => Some(&counter.tally),
        State::Map(map) => map.store.0.get(element).map(|field: &Field| &field.tally),
        _ => None,
    }
}

/// Every entry and base that `state` holds.
pub(crate) fn held(state: &State) -> Vec<(Dot, Write)> {
    let none = Blob::new();
    let mut held = Vec::new();
    match state {
        State::Bytes(state) => held.extend(
            state.store.0.iter().map(|(&dot, put)| (dot, Write::entry(&none, put.value.clone()))),
        ),
        State::Gset(state) | State::Orset(state) => {
            for (element, adds) in &state.store.0 {
                held.extend(adds.0.keys().map(|&dot| (dot, Write::entry(element, ""))));
            }
        }
        State::Cart(state) => {
            for (item, adds) in &state.store.0 {
                held.extend(adds.0.iter().map(|(&dot, &units)| (dot, Write::units(item, units))));
            }
        }
        State::Map(state) => {
            for (name, field) in &state.store.0 {
                let sets = field.writes.0.iter();
                held.extend(sets.map(|(&dot, set)| (dot, Write::entry(name, set.value.clone()))));
            }
        }
        State::Register(register) => {
            held.extend(register.base.iter().map(|base| {
                (base.dot, Write::Base { stamp: base.stamp, value: base.value.clone() })
            }))
        }
        State::Expiry(expiry) => held.extend(expiry.store.0.keys().map(|&dot| (dot, Write::End))),
        State::Counter(_) | State::Opaque(_) => {}
    }
    held
}

/// Whether a schedule takes a write away: `removed` is what its removal merges.
pub(crate) fn covers(removed: &Value, (tag, dot): (Tag, Dot), write: &Write) -> bool {
    match write {
        Write::Base { stamp, .. } => match removed.state(Tag::LWW) {
            Some(State::Register(register)) if tag == Tag::LWW => {
                register.base.as_ref().is_some_and(|base| (base.stamp, base.dot) == (*stamp, dot))
            }
            _ => false,
        },
        Write::End | Write::Mark => false,
        write => sight(removed, tag, dot, write) == Sight::Gone,
    }
}

/// Every sum that `state` shows, by field; under an empty name in a type that has none.
pub(crate) fn tallies(state: &State) -> Vec<(Blob, &Tally)> {
    match state {
        State::Register(register) => vec![(Blob::new(), &register.tally)],
        State::Counter(counter) => vec![(Blob::new(), &counter.tally)],
        State::Map(map) => {
            map.store.0.iter().map(|(name, field)| (name.clone(), &field.tally)).collect()
        }
        _ => Vec::new(),
    }
}
