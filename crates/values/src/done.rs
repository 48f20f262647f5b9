//! What says of a removal with a name that it was done, beside what it took.
//!
//! A removal of a whole key leaves its name in the register, as a mark or under the base that it set, and takes elements of
//! collections. Registers are told whole and elements one by one: a replica that was told of the name first would take
//! the request for done when it is tried there again, and acknowledge it while the elements are there. So it is told
//! last, as which schedules were taken back is ([`View::told_last`](crate::View::told_last)).

use clock::CausalContext;

use crate::Register;

impl Register {
    /// What may be told before the elements: without names of which nothing was `told`, but for increments, which take
    /// nothing away. `None` where the base is under such a name: what it reset is not told without it.
    pub(crate) fn without_done(&self, told: &CausalContext) -> Option<Self> {
        let mut context = self.context.of_actors(|actor| {
            !actor.is_named() || told.highest(actor) > 0 || self.tally.counts(actor)
        });
        context.merge(&self.context.only_seals());
        let is_told = self.base.as_ref().is_none_or(|base| context.contains(base.dot));
        is_told.then(|| Self { base: self.base.clone(), tally: self.tally.clone(), context })
    }
}
