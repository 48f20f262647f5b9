//! About how many bytes of memory a view or a delta takes: what bounds on answers and messages go by.
//! An estimate, since measuring exactly would cost as much as sending.

use clock::{CausalContext, RingId};

use crate::{Delta, DotFun, DotMap, State, Sum, Tally, TallyEntry, View};

/// What a dot with its place in a map takes beside the value that hangs on it.
const DOT_BYTES: usize = 40;

impl View {
    /// About how many bytes it takes: values, elements and names with their whole length, and a
    /// flat rate for each dot and actor. Costs a walk over the elements, and looks into none.
    pub fn weight(&self) -> usize {
        self.value.0.values().map(State::weight).sum()
    }
}

impl Delta {
    /// About how many bytes it takes, as [`View::weight`] has it.
    pub(crate) fn weight(&self) -> usize {
        let states: usize = self.value.0.values().map(State::weight).sum();
        let touched = self.touch.values().flat_map(|touch| &touch.elements);
        states + touched.map(|element| element.len() + DOT_BYTES).sum::<usize>()
    }
}

impl State {
    fn weight(&self) -> usize {
        let payload = match self {
            Self::Bytes(state) => writes(&state.store, |sibling| sibling.value.len()),
            Self::Register(state) => {
                let value = state.base.as_ref().and_then(|base| base.value.as_ref());
                value.map_or(0, |value| value.len()) + tally(&state.tally)
            }
            Self::Gset(state) | Self::Orset(state) => {
                elements(&state.store, |dots| dots.0.len() * DOT_BYTES)
            }
            Self::Counter(state) => tally(&state.tally),
            Self::Cart(state) => elements(&state.store, |adds| writes(adds, |_| 0)),
            Self::Map(state) => elements(&state.store, |field| {
                writes(&field.writes, |write| write.value.len()) + tally(&field.tally)
            }),
            Self::Expiry(state) => clock::encoded_length(&state.store),
            Self::Opaque(encodings) => encodings.iter().map(|encoding| encoding.len()).sum(),
        };
        payload + context(self.context())
    }
}

fn writes<T: Ord>(store: &DotFun<T>, length: impl Fn(&T) -> usize) -> usize {
    store.0.values().map(|write| DOT_BYTES + length(write)).sum()
}

fn elements<S>(store: &DotMap<S>, weight: impl Fn(&S) -> usize) -> usize {
    store.0.iter().map(|(element, under)| element.len() + weight(under)).sum()
}

fn tally(tally: &Tally) -> usize {
    let entries = tally.entries().count() * (DOT_BYTES + size_of::<TallyEntry>());
    entries + tally.sums().count() * (size_of::<RingId>() + size_of::<Sum>())
}

fn context(context: &CausalContext) -> usize {
    (context.vector().len() + context.gap_count()) * DOT_BYTES
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId, Stamp};

    use super::*;
    use crate::{CounterOp, Limits, MapOp, Mint, Operation, OrsetOp, RegisterOp, Value};

    fn delta(operation: &Operation, before: &View) -> Delta {
        // Ids and epochs are random: nearly all take their whole length.
        let actor = Actor::new(NodeId(u64::MAX), u64::MAX, 0);
        let mint = Mint { actor, stamp: Stamp(1), round: None };
        let prepared =
            operation.prepare(before, &CausalContext::default(), mint, &Limits::default());
        prepared.unwrap().delta
    }

    fn view(operation: &Operation) -> View {
        let mut value = Value::default();
        value.apply(&delta(operation, &View::default()));
        View::of(value)
    }

    /// It bounds what is held: never less than is sent, and not many times as much.
    #[test]
    fn it_lies_between_the_encoded_length_and_a_few_times_that() {
        let long = vec![7; 10_000];
        for (operation, most) in [
            (Operation::Map(MapOp::Set(vec![(long.clone().into(), long.clone().into())])), 2),
            (Operation::Orset(OrsetOp::Add(vec![long.into(), vec![1; 5_000].into()])), 2),
            (Operation::Orset(OrsetOp::Add((0..100_u8).map(|n| vec![n].into()).collect())), 4),
            (Operation::Counter(CounterOp::Add(5)), 10),
        ] {
            let view = view(&operation);
            let (weight, encoded) = (view.weight(), clock::encoded_length(&view));
            assert!(weight + 100 >= encoded, "{weight} for {encoded} bytes of {operation:?}");
            assert!(weight <= most * encoded, "{weight} for {encoded} bytes of {operation:?}");
        }
    }

    /// What is estimated to fit in a message fits.
    #[test]
    fn twice_what_a_delta_weighs_is_not_less_than_its_encoded_length() {
        let names = |count: u16| (0..count).map(|n| n.to_be_bytes().to_vec().into()).collect();
        let set = RegisterOp::Set { value: vec![1; 50].into(), at: None, replace: true };
        let add = Operation::Orset(OrsetOp::Add(names(2_000)));
        let held = view(&add);
        for (operation, before) in [
            (Operation::Register(set), &held),
            (Operation::Counter(CounterOp::Add(5)), &View::default()),
            (Operation::Orset(OrsetOp::Remove(names(1_000))), &held),
            (Operation::Delete(None), &held),
            (add.clone(), &View::default()),
        ] {
            let delta = delta(&operation, before);
            let encoded = clock::encoded_length(&delta);
            assert!(2 * delta.weight() + 1_024 >= encoded, "{encoded} bytes: {operation:?}");
        }
    }
}
