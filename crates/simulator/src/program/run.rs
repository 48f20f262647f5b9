//! Runs seeds and says how far it is.

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use simulator::{Coverage, Family, RunOutcome, Scenario, Sessions, Strikes};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Totals {
    seeds: u64,
    failed: Vec<u64>,
    simulated_ms: u64,
    events: u64,
    operations: u64,
    strikes: Strikes,
    sessions: Sessions,
    coverage: Coverage,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: &RunOutcome) {
        self.seeds += 1;
        self.simulated_ms += outcome.simulated_ms;
        self.events += outcome.events;
        self.operations += outcome.operations;
        self.strikes.add(&outcome.strikes);
        self.sessions.add(&outcome.sessions);
        self.coverage.add(&outcome.coverage);
        if outcome.wrong.is_some() {
            self.failed.push(seed);
        }
    }

    fn line(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(0.001);
        format!(
            "{} seeds in {seconds:.1} s ({:.1}/s, {:.0}/h): {} failed, {:.1} simulated hours, {} operations, \
             {} events",
            self.seeds,
            self.seeds as f64 / seconds,
            self.seeds as f64 / seconds * 3_600.0,
            self.failed.len(),
            self.simulated_ms as f64 / 3_600_000.0,
            self.operations,
            self.events,
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "the program tells how fast it is; runs never know")]
fn now() -> Instant {
    Instant::now()
}

pub(super) fn run(family: Family, seeds: Range<u64>, keep_going: bool) -> ExitCode {
    let begun = now();
    let mut told = begun;
    let mut totals = Totals::default();
    for seed in seeds {
        let scenario = Scenario::drawn(family, seed);
        let outcome = scenario.outcome(false);
        totals.add(seed, &outcome);
        if let Some(wrong) = &outcome.wrong {
            println!("seed {seed} FAILED: {wrong}\n{scenario}");
            if !keep_going {
                break;
            }
        }
        if now() - told >= PROGRESS {
            told = now();
            println!("seed {seed}; {}", totals.line(told - begun));
        }
    }
    println!("{}", totals.line(now() - begun));
    println!("faults: {:?}", totals.strikes);
    println!("{}", totals.sessions);
    println!("{}", totals.coverage);
    let missing = totals.strikes.missing();
    if !missing.is_empty() {
        println!("faults that did not come: {missing:?}");
    }
    if totals.failed.is_empty() {
        println!("family {family}: none failed");
        return ExitCode::SUCCESS;
    }
    println!("family {family}: failed seeds {:?}", totals.failed);
    ExitCode::FAILURE
}
