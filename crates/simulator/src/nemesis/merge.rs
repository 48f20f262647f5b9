//! Two rings that were founded apart become one: all nodes of one of them go over to the other, while all else
//! goes on, as an administrator has them do it.

use replication::{Call, OwnershipCall, PlanChange};

use super::{End, Nemesis};
use crate::{Fault, Random, Sim};

/// A node that drains is stopped after so long, in milliseconds, whether or not it has anything left to do.
const DRAIN_MS: u64 = 5_000;

/// So often it is looked how far it is, in milliseconds.
const LOOK_MS: u64 = 500;

/// Looks after which one that drains is stopped.
const DRAIN_LOOKS: usize = (DRAIN_MS / LOOK_MS) as usize;

/// With all faults over a merge takes no longer than so many looks.
const LOOKS: usize = 1_000;

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merge {
    /// The ring that is left.
    ring: usize,
    random: Random,
}

/// What is to be done next of a merge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Going {
    /// A node goes over.
    Over(usize),
    /// One that drains is stopped if it has nothing left to do, or now.
    Stop { node: usize, by_ms: u64 },
    /// Those that went over are to be owners.
    Commit,
}

impl Nemesis {
    /// Has all nodes of one of two rings go over, if all of them can be reached.
    pub(super) fn merge(&mut self, sim: &mut Sim, random: &mut Random) {
        let ring = random.below(2) as usize;
        let mut random = random.split();
        if self.merge.is_some() || !are_two(sim) || !sim.can_merge(ring) {
            return;
        }
        let nodes = left_behind(sim, ring);
        sim.strike(Fault::Merge, &nodes);
        let within_ms = *random.pick(&[10, 1_000, 5_000]);
        for node in nodes {
            let at_ms = sim.now_ms() + random.below(within_ms);
            self.ends(at_ms, End::Going(Going::Over(node)));
        }
        self.ends(sim.now_ms() + LOOK_MS, End::Going(Going::Commit));
        self.merge = Some(Merge { ring, random });
    }

    /// Goes on with a merge.
    pub(super) fn go_on(&mut self, sim: &mut Sim, going: Going) {
        let Some(Merge { ring, random }) = &mut self.merge else { return };
        let now_ms = sim.now_ms();
        match going {
            Going::Over(node) if !sim.is_left_behind(node, *ring) => {}
            Going::Over(node) if !sim.go_over(node) => {
                self.ends(now_ms + LOOK_MS, End::Going(going));
            }
            Going::Over(node) => {
                // It may be killed before it has drained, or soon after that.
                if random.chance(300) {
                    let after_ms = random.below(1_000);
                    sim.crash(node);
                    return self.ends(now_ms + after_ms, End::Down(node));
                }
                let again = random.chance(300).then(|| now_ms + random.below(2 * DRAIN_MS));
                let by_ms = now_ms + DRAIN_MS;
                self.ends(now_ms + 1, End::Going(Going::Stop { node, by_ms }));
                if let Some(at_ms) = again {
                    self.ends(at_ms, End::Crash(node));
                }
            }
            Going::Stop { node, by_ms } => {
                if sim.is_drained(node) || now_ms >= by_ms {
                    sim.leave_ring(node);
                }
                if sim.is_draining(node) {
                    self.ends(now_ms + LOOK_MS / 10, End::Going(going));
                }
            }
            Going::Commit => {
                commit(sim);
                let is_over = left_behind(sim, *ring).is_empty() && sim.to_own().is_empty();
                if !is_over {
                    self.ends(now_ms + LOOK_MS, End::Going(going));
                }
            }
        }
    }
}

fn left_behind(sim: &Sim, ring: usize) -> Vec<usize> {
    (0..sim.nodes()).filter(|&node| sim.is_left_behind(node, ring)).collect()
}

fn are_two(sim: &Sim) -> bool {
    (0..2).all(|ring| !left_behind(sim, ring).is_empty())
}

/// Has those that belong to the ring to which they went be owners there, as a member of it commits it.
fn commit(sim: &mut Sim) {
    let mut joining = sim.to_own();
    joining.retain(|&node| sim.is_settled(node));
    let Some(&one) = joining.first() else { return };
    let ring = sim.ring_of(one);
    let is_there = |&node: &usize| {
        sim.is_settled(node) && sim.ring_of(node) == ring && !joining.contains(&node)
    };
    let Some(at) = (0..sim.nodes()).find(is_there) else { return };
    let put = joining.iter().map(|&node| sim.member(node)).collect();
    let plan = PlanChange { put, ..PlanChange::default() };
    sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
}

/// Ends a merge that is under way with all faults over, or has it done.
pub(super) fn merge_the_rest(sim: &mut Sim) {
    for look in 0..LOOKS {
        // A merge under way ends as it began; else those go over that founded the second ring.
        let ring = sim.left_ring().unwrap_or(1);
        let left = left_behind(sim, ring);
        for node in 0..sim.nodes() {
            if sim.is_drained(node) || (look + 1).is_multiple_of(DRAIN_LOOKS) {
                sim.leave_ring(node);
            }
        }
        if left.is_empty() && sim.to_own().is_empty() {
            return;
        }
        if sim.left_ring().is_some() || sim.can_merge(ring) {
            for node in left {
                sim.go_over(node);
            }
        }
        commit(sim);
        sim.advance(LOOK_MS);
    }
}
