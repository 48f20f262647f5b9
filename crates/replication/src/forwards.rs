//! Which forwarded requests were taken already, so that a copy of one made by the network is not
//! done a second time: an increment done twice would count twice.
//!
//! Invariant: of the ids that one process of a sender's core gives out, each is taken at most
//! once. What is remembered is bounded; what is too old to tell is not taken, and its sender, which
//! hears nothing, says that the outcome is unknown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::NodeId;

use crate::RequestId;
use sabotage::Bug;

/// Ids remembered per process of a sender's core. A stream connection delivers in order, so only
/// ids of requests that were under way at one moment ever need telling apart.
const REMEMBERED_MAX: usize = 1 << 16;
/// Processes of a sender's core remembered: the present one and a few before it.
const PROCESSES_MAX: usize = 4;
/// Ids closer than this are of one process: each starts at 64 random bits (so two processes are
/// mistaken for one with a chance of 2^-23) and gives out far fewer.
const PROCESS_SPAN: u64 = 1 << 40;

/// The ids taken of one process.
#[derive(Debug)]
struct Taken {
    /// Position 0 of the window: some number before the first that was seen, by half a span.
    origin: u64,
    /// Everything up to here is taken for old, relative to `origin`.
    floor: u64,
    /// Taken ids beyond the floor, relative to `origin`.
    seen: BTreeSet<u64>,
}

/// The ids taken of every sender.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    of: BTreeMap<(NodeId, u8), VecDeque<Taken>>,
}

impl Forwards {
    /// Takes `id` of `from`; false if it was taken before, or may have been.
    pub(crate) fn take(&mut self, from: NodeId, id: RequestId) -> bool {
        let processes = self.of.entry((from, id.core)).or_default();
        let within = |taken: &Taken| id.number.wrapping_sub(taken.origin) < PROCESS_SPAN;
        if !processes.iter().any(within) {
            if processes.len() == PROCESSES_MAX {
                processes.pop_front();
            }
            let origin = id.number.wrapping_sub(PROCESS_SPAN / 2);
            processes.push_back(Taken { origin, floor: 0, seen: BTreeSet::new() });
        }
        let taken = processes.iter_mut().find(|taken| within(taken)).expect("found or just added");
        let number = id.number.wrapping_sub(taken.origin);
        let is_new = number > taken.floor && taken.seen.insert(number);
        if !is_new && !sabotage::is(Bug::CopiesDoneTwice) {
            return false;
        }
        if taken.seen.len() > REMEMBERED_MAX {
            taken.floor = taken.seen.pop_first().unwrap_or(taken.floor);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;
    use proptest::prelude::*;

    use super::{Forwards, PROCESSES_MAX, REMEMBERED_MAX};
    use crate::RequestId;

    const fn id(number: u64) -> RequestId {
        RequestId { core: 0, number }
    }

    #[test]
    fn an_id_is_taken_once_from_each_sender() {
        let mut forwards = Forwards::default();
        assert!(forwards.take(NodeId(1), id(5)));
        assert!(!forwards.take(NodeId(1), id(5)));
        assert!(forwards.take(NodeId(2), id(5)));
        assert!(forwards.take(NodeId(1), RequestId { core: 1, number: 5 }));
    }

    #[test]
    fn what_is_too_old_to_tell_is_not_taken() {
        let mut forwards = Forwards::default();
        for number in 0..=REMEMBERED_MAX as u64 {
            assert!(forwards.take(NodeId(1), id(number)));
        }
        assert!(!forwards.take(NodeId(1), id(0)));
        assert_eq!(forwards.of[&(NodeId(1), 0)][0].seen.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_sender_that_restarted_is_served_and_only_a_few_of_its_processes_are_remembered() {
        let mut forwards = Forwards::default();
        for process in 0..100_u64 {
            assert!(forwards.take(NodeId(1), id(process << 50)));
            assert!(!forwards.take(NodeId(1), id(process << 50)));
        }
        assert_eq!(forwards.of[&(NodeId(1), 0)].len(), PROCESSES_MAX);
    }

    proptest! {
        #[test]
        fn any_order_of_ids_around_any_start_is_taken_exactly_once(
            start: u64,
            steps in prop::collection::vec(0..50_u64, 1..100),
        ) {
            let mut forwards = Forwards::default();
            let mut naive = std::collections::BTreeSet::new();
            for step in steps {
                let number = start.wrapping_add(step);
                let taken = forwards.take(NodeId(1), id(number));
                prop_assert_eq!(taken, naive.insert(number));
            }
        }
    }
}
