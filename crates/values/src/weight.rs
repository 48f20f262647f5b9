//! About how many bytes of memory a view takes: what bounds on answers go by. An estimate, since
//! measuring exactly would cost as much as sending.

use clock::CausalContext;

use crate::{DotFun, DotMap, State, Tally, View};

/// What a dot with its place in a map takes beside the value that hangs on it.
const DOT_BYTES: usize = 40;

impl View {
    /// About how many bytes it takes: values, elements and names with their whole length, and a
    /// flat rate for each dot and actor. Costs a walk over the elements, and looks into none.
    pub fn weight(&self) -> usize {
        self.value.0.values().map(State::weight).sum()
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
    tally.entries().count() * (DOT_BYTES + size_of::<crate::TallyEntry>())
}

fn context(context: &CausalContext) -> usize {
    (context.vector().len() + context.gap_count()) * DOT_BYTES
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId, Stamp};

    use super::*;
    use crate::{CounterOp, Limits, MapOp, Mint, Operation, OrsetOp, Value};

    fn view(operation: &Operation) -> View {
        // Ids and epochs are random: nearly all take their whole length.
        let actor = Actor::new(NodeId(u64::MAX), u64::MAX, 0);
        let mint = Mint { actor, stamp: Stamp(1) };
        let before = View::default();
        let prepared =
            operation.prepare(&before, &CausalContext::default(), mint, &Limits::default());
        let mut value = Value::default();
        value.apply(&prepared.unwrap().delta);
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
}
