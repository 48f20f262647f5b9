//! Makes a failing scenario smaller: fewer faults, requests, nodes, keys and clients, as long as the
//! same claim fails.
//!
//! Source of the search over steps: Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing
//! Input" (TSE 2002): leave out ever smaller parts, and keep what still fails.

use std::collections::BTreeSet;

use crate::{Fault, Reduction, RunOutcome, Scenario, Steps};

/// A smaller scenario that fails alike.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left.
    pub scenario: Scenario,
    /// How that fails.
    pub outcome: RunOutcome,
    /// How many runs it took.
    pub runs: u64,
}

struct Search {
    scenario: Scenario,
    claim: String,
    best: Reduction,
    left: u64,
}

impl Search {
    /// Keeps a reduction if the same claim fails with it.
    fn attempt(&mut self, reduction: Reduction) -> bool {
        if self.left == 0 || reduction == self.best {
            return false;
        }
        self.left -= 1;
        let reduced = Scenario::drawn(self.scenario.family, self.scenario.seed);
        let fails = reduced.reduced(reduction.clone()).outcome(false).claim() == Some(&self.claim);
        if fails {
            self.best = reduction;
        }
        fails
    }

    fn numbers(&mut self) {
        let Scenario { options, workload, .. } = &self.scenario;
        let (nodes, keys, clients) = (options.nodes, workload.keys, workload.clients);
        for fewer in 1..clients {
            if self.attempt(Reduction { clients: Some(fewer), ..self.best.clone() }) {
                break;
            }
        }
        for fewer in 1..keys {
            if self.attempt(Reduction { keys: Some(fewer), ..self.best.clone() }) {
                break;
            }
        }
        for fewer in 2..nodes {
            if self.attempt(Reduction { nodes: Some(fewer), ..self.best.clone() }) {
                break;
            }
        }
    }

    fn faults(&mut self) {
        for &fault in Fault::ALL {
            let mut off = self.best.off.clone();
            off.insert(fault);
            self.attempt(Reduction { off, ..self.best.clone() });
        }
    }

    /// Leaves out steps, of those that make requests or of those that begin faults.
    fn steps(&mut self, of: fn(&mut Reduction) -> &mut Option<Steps>) {
        let all = Steps((0..self.scenario.workload.requests).collect());
        let mut kept: Vec<usize> =
            of(&mut self.best.clone()).get_or_insert(all).0.iter().copied().collect();
        let mut parts = 2;
        while !kept.is_empty() && self.left > 0 {
            let length = kept.len().div_ceil(parts).max(1);
            let smaller = (0..kept.len()).step_by(length).find_map(|begin| {
                let end = (begin + length).min(kept.len());
                let left = [&kept[..begin], &kept[end..]].concat();
                let mut reduction = self.best.clone();
                *of(&mut reduction) = Some(Steps(BTreeSet::from_iter(left.iter().copied())));
                self.attempt(reduction).then_some(left)
            });
            match smaller {
                Some(left) => {
                    kept = left;
                    parts = parts.saturating_sub(1).max(2);
                }
                None if length == 1 => break,
                None => parts = (2 * parts).min(kept.len()),
            }
        }
    }
}

/// Makes a scenario smaller that fails, in at most so many runs; `None` if it does not fail.
pub fn shrink(scenario: &Scenario, runs_max: u64) -> Option<Shrunk> {
    let claim = scenario.outcome(false).claim()?.to_owned();
    let best = scenario.reduction.clone();
    let mut search = Search { scenario: scenario.clone(), claim, best, left: runs_max };
    loop {
        let before = search.best.clone();
        search.faults();
        search.steps(|reduction| &mut reduction.faults);
        search.steps(|reduction| &mut reduction.requests);
        search.numbers();
        if search.best == before || search.left == 0 {
            break;
        }
    }
    let smallest = Scenario::drawn(scenario.family, scenario.seed).reduced(search.best);
    let outcome = smallest.outcome(true);
    Some(Shrunk { scenario: smallest, outcome, runs: runs_max - search.left })
}
