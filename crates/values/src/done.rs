//! What says that a request with a name was done, beside what the request did to other types.
//!
//! A named removal of a whole key leaves its mark, or the base that it set, in a state that is told whole, and takes
//! elements of collections, which are told one by one. A replica that knew the mark first would take the request for done
//! when it is tried there again, and acknowledge it while the elements are there. So it is told last, as schedules
//! that were taken back are ([`View::told_last`](crate::View::told_last)).

use clock::{Actor, CausalContext};

use crate::{Causal, CounterState, Register, State, Tally};

impl State {
    /// The state without what says of requests with names that they were done, but for what was `told` and for
    /// increments, which take nothing away; of a collection, of which elements are told with no more than their own dots, all.
    pub(crate) fn without_done(&self, told: &CausalContext) -> Self {
        match self {
            Self::Bytes(bytes) => {
                let is_there = |actor| bytes.store.0.keys().any(|dot| dot.actor == actor);
                let context = untold(&bytes.context, told, is_there);
                Self::Bytes(Causal { store: bytes.store.clone(), context })
            }
            Self::Register(register) => {
                let context = untold(&register.context, told, |it| counts(&register.tally, it));
                let base = register.base.clone();
                let base = base.filter(|base| context.contains(base.dot));
                Self::Register(Register { base, tally: register.tally.clone(), context })
            }
            Self::Counter(counter) => {
                let context = untold(&counter.context, told, |it| counts(&counter.tally, it));
                Self::Counter(CounterState { tally: counter.tally.clone(), context })
            }
            _ => self.clone(),
        }
    }
}

fn counts(tally: &Tally, actor: Actor) -> bool {
    tally.entries().any(|(counted, _)| counted == actor)
}

/// `seen` without the names of which nothing was `told`, but for those that are to be told all the same.
fn untold(
    seen: &CausalContext,
    told: &CausalContext,
    is_told: impl Fn(Actor) -> bool,
) -> CausalContext {
    seen.of_actors(|actor| !actor.is_named() || told.highest(actor) > 0 || is_told(actor))
}
