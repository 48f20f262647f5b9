//! Claim on replicas: all owners of a key come to show the same.

use std::collections::{BTreeMap, BTreeSet};

use clock::encode;
use values::{Key, State, Tag, View};

use crate::Sim;

/// All owners of each key show the same; `whole` compares also what they have seen and which
/// deadlines they hold, which is equal once every delta reached every owner, but not by read repair
/// alone.
pub fn invariant_replicas_equal_after_healing(
    sim: &mut Sim,
    keys: &BTreeSet<Key>,
    whole: bool,
) -> Result<(), String> {
    // Until a clearing is swept, a replica does not know how much it left.
    sim.sweep_all();
    for key in keys {
        let owners = sim.owners(key);
        let views: Vec<(usize, View)> =
            owners.into_iter().filter_map(|node| Some((node, sim.view(node, key)?))).collect();
        for pair in views.windows(2) {
            let equal =
                if whole { pair[0].1 == pair[1].1 } else { shown(&pair[0].1) == shown(&pair[1].1) };
            if !equal {
                let (a, b) = (&pair[0], &pair[1]);
                return Err(format!("{key:?} differs:\n{a:?}\n{b:?}"));
            }
        }
    }
    Ok(())
}

/// A view without what a replica has seen of things gone, and without deadlines: that one was taken
/// back is repaired only where all of a collection was seen, see [`View::told_last`].
pub fn shown(view: &View) -> BTreeMap<Tag, Vec<u8>> {
    let states = view.value.0.iter().filter(|(tag, _)| **tag != Tag::EXPIRY);
    let states = states.map(|(&tag, state)| (tag, without_context(state)));
    states.filter(|(tag, bytes)| *bytes != without_context(&State::bottom(*tag))).collect()
}

fn without_context(state: &State) -> Vec<u8> {
    match state {
        State::Bytes(state) => encode(&state.store),
        State::Register(register) => encode(&(&register.base, &register.tally)),
        State::Gset(state) | State::Orset(state) => encode(&state.store),
        State::Counter(counter) => encode(&counter.tally),
        State::Cart(state) => encode(&state.store),
        State::Map(state) => encode(&state.store),
        State::Expiry(state) => encode(&state.store),
        State::Opaque(encodings) => encode(encodings),
    }
}
