//! What a state holds, entry by entry: the same for every type and every form of an explanation.

use clock::{Actor, Dot, Stamp};
use values::{Blob, State, Tally, TallyEntry};

/// Something live, and the writes that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of a collection: which element, item or field.
    pub(super) element: Option<Blob>,
    pub(super) what: What,
    pub(super) dots: Vec<Dot>,
    /// Of a sum: the writers that it is of, each with the range of its dots among which its increments
    /// are that were not reset. A state keeps totals, and names no more than the last of them.
    pub(super) summed: Vec<(Dot, u64)>,
    /// When it was written, where the state says so.
    pub(super) time: Option<Stamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// That the element is there.
    Present,
    Value(Blob),
    /// What is added: to a sum, or of an item.
    Adds(i128),
    /// What so many increments with names add, which are one sum by now.
    Folded(i128, u64),
    Deleted,
    /// What is to end then, in milliseconds since 1970.
    Ends(u64),
    /// Encodings of a type that this build does not know.
    Unknown(usize),
}

impl Entry {
    fn new(element: Option<&Blob>, what: What, dots: impl IntoIterator<Item = Dot>) -> Self {
        let dots = dots.into_iter().collect();
        Self { element: element.cloned(), what, dots, summed: Vec::new(), time: None }
    }

    fn at(self, time: Stamp) -> Self {
        Self { time: Some(time), ..self }
    }

    fn of<'a>(self, tally: impl IntoIterator<Item = (Actor, &'a TallyEntry)>) -> Self {
        let live = tally.into_iter().filter(|(_, entry)| entry.is_live());
        let range = |(actor, entry): (Actor, &TallyEntry)| {
            (Dot::new(actor, entry.reset_upto() + 1), entry.upto())
        };
        Self { summed: live.map(range).collect(), ..self }
    }
}

/// What is left of increments whose names are folded. Of which requests they were is not known any more.
fn folded(tally: &Tally) -> impl Iterator<Item = Entry> + '_ {
    let live = tally.sums().filter(|sum| sum.is_live());
    live.map(|sum| Entry::new(None, What::Folded(sum.value(), sum.live_count()), []))
}

/// The entries of `state`, in order.
pub(super) fn entries(state: &State) -> Vec<Entry> {
    match state {
        State::Bytes(state) => {
            let siblings = state.store.0.iter().map(|(&dot, sibling)| {
                Entry::new(None, What::Value(sibling.value.clone()), [dot]).at(sibling.stamp)
            });
            siblings.collect()
        }
        State::Register(register) => {
            let base = register.base.iter().map(|base| {
                let what = base.value.clone().map_or(What::Deleted, What::Value);
                Entry::new(None, what, [base.dot]).at(base.stamp)
            });
            let tally = &register.tally;
            let parts = tally.entries().filter(|(_, entry)| entry.is_live());
            let sum = parts.map(|(_, entry)| entry.value()).reduce(i128::saturating_add);
            let adds = sum
                .map(|sum| Entry::new(None, What::Adds(sum), tally.live_dots()))
                .map(|entry| entry.of(tally.entries()));
            base.chain(adds).chain(folded(tally)).collect()
        }
        State::Counter(counter) => {
            let parts = counter.tally.entries().filter(|(_, entry)| entry.is_live());
            let parts = parts.map(|(actor, entry)| {
                let dot = Dot::new(actor, entry.upto());
                Entry::new(None, What::Adds(entry.value()), [dot]).of([(actor, entry)])
            });
            parts.chain(folded(&counter.tally)).collect()
        }
        State::Gset(set) | State::Orset(set) => {
            let elements = set.store.0.iter().map(|(element, adds)| {
                Entry::new(Some(element), What::Present, adds.0.keys().copied())
            });
            elements.collect()
        }
        State::Cart(cart) => {
            let adds = cart.store.0.iter().flat_map(|(item, adds)| {
                adds.0.iter().map(move |(&dot, &quantity)| {
                    Entry::new(Some(item), What::Adds(quantity.into()), [dot])
                })
            });
            adds.collect()
        }
        State::Map(map) => {
            let fields = map.store.0.iter().filter_map(|(name, field)| {
                let dots = field.writes.0.keys().copied().chain(field.tally.live_dots());
                let entry = Entry::new(Some(name), What::Value(field.read()?), dots);
                Some(entry.of(field.tally.entries()))
            });
            fields.collect()
        }
        State::Expiry(expiry) => {
            let schedules = expiry.store.0.iter();
            schedules
                .map(|(&dot, schedule)| Entry::new(None, What::Ends(schedule.deadline_ms), [dot]))
                .collect()
        }
        State::Opaque(encodings) => vec![Entry::new(None, What::Unknown(encodings.len()), [])],
    }
}
