//! A scenario: a cluster, its faults and its clients, all drawn from one seed; and how it is run.

mod drawn;
mod family;
mod reduction;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use self::family::Family;
pub use self::reduction::{Reduction, Steps};
use crate::trace::Trace;
use crate::{
    Coverage, History, Sessions, Sim, SimOptions, Strikes, Workload, judge, names, retries,
    workload,
};

/// Everything that a run follows from.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What kind of scenario it is.
    pub family: Family,
    /// The seed that it was drawn from, and of all chances of its run.
    pub seed: u64,
    /// The cluster.
    pub options: SimOptions,
    /// Its clients, and what befalls it.
    pub workload: Workload,
    /// What is left out of it.
    pub reduction: Reduction,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct RunOutcome {
    /// What was wrong, if anything was: the claim, and what spoke against it.
    pub wrong: Option<String>,
    /// The same run gives the same.
    pub trace_hash: u64,
    /// How long it took, in virtual milliseconds.
    pub simulated_ms: u64,
    /// Events that cores worked on.
    pub events: u64,
    /// What clients asked for.
    pub operations: u64,
    /// Faults that came.
    pub strikes: Strikes,
    /// What clients saw of their own.
    pub sessions: Sessions,
    /// How much of it was judged.
    pub coverage: Coverage,
    /// What happened, if that was to be written down.
    pub trace: Trace,
}

impl Scenario {
    /// The scenario of a family that a seed stands for.
    pub fn drawn(family: Family, seed: u64) -> Self {
        drawn::draw(family, seed)
    }

    /// The same with less in it.
    #[must_use]
    pub fn reduced(mut self, reduction: Reduction) -> Self {
        reduction.apply(&mut self.options, &mut self.workload);
        self.reduction = reduction;
        self
    }

    /// Runs it, mends everything, and judges the run.
    ///
    /// Returns the cluster as it is in the end and what clients did, or what was wrong: the error names the
    /// invariant.
    pub fn run(&self) -> Result<(Sim, History), String> {
        let mut sim = Sim::new(self.seed, self.options.clone());
        let history = workload::run(&mut sim, self);
        judge(&mut sim, &history)?;
        Ok((sim, history))
    }

    /// Runs it and returns the cluster as it is in the end: for tests.
    ///
    /// # Panics
    /// If anything is wrong, with all that is needed to see it again.
    pub fn check(&self) -> Sim {
        let mut sim = Sim::new(self.seed, self.options.clone());
        if let Err(wrong) = self.run_on(&mut sim, &mut RunOutcome::default()) {
            panic!("{wrong}\n{self}");
        }
        sim
    }

    /// Runs it on its cluster, mends everything, and judges the run.
    fn run_on(&self, sim: &mut Sim, outcome: &mut RunOutcome) -> Result<(), String> {
        match self.family {
            Family::Retries => return retries::run(sim, self),
            Family::Names => return names::run(sim, self),
            _ => {}
        }
        let history = workload::run(sim, self);
        outcome.sessions = Sessions::of(&history, sim.ledger(), sim.forgets());
        outcome.coverage = Coverage::of(&history, sim.ledger());
        judge(sim, &history)
    }

    /// Runs it, whatever happens, and says how it went; with everything that happened if `traced`. A
    /// panic is something wrong too.
    pub fn outcome(&self, traced: bool) -> RunOutcome {
        let mut sim = Sim::new(self.seed, self.options.clone());
        if traced {
            sim.begin_trace();
        }
        // After a panic the cluster is only looked at: how far it came.
        let mut outcome = RunOutcome::default();
        let run = catch_unwind(AssertUnwindSafe(|| self.run_on(&mut sim, &mut outcome)));
        RunOutcome {
            wrong: run.unwrap_or_else(|panic| Err(after_panic(&sim, &said(&*panic)))).err(),
            trace_hash: sim.trace_hash(),
            simulated_ms: sim.now_ms(),
            events: sim.events(),
            operations: sim.calls(),
            strikes: sim.strikes(),
            trace: sim.take_trace(),
            ..outcome
        }
    }
}

/// What was wrong with a run that panicked: what had been seen to be wrong before, or the panic.
fn after_panic(sim: &Sim, said: &str) -> String {
    match sim.mixed() {
        Some(wrong) => format!("rings_refuse_each_other: {wrong}; then {said}"),
        None => said.to_owned(),
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or_default())
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, seed, options, workload, reduction } = self;
        let reduced = match reduction.to_string() {
            text if text.is_empty() => text,
            text => format!(" --reduced '{text}'"),
        };
        write!(
            f,
            "{options:?}\n{workload:?}\nrun it again: \
             cargo run --release -p simulator -- replay {seed} --family {family}{reduced}"
        )
    }
}

impl RunOutcome {
    /// The claim that did not hold, if one did not: what its text begins with.
    pub fn claim(&self) -> Option<&str> {
        let wrong = self.wrong.as_deref()?;
        Some(wrong.split([':', ',']).next().unwrap_or(wrong))
    }
}
