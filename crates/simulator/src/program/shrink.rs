//! Makes a failing scenario smaller.

use std::process::ExitCode;

use simulator::{Scenario, shrink as shrunk};

pub(super) fn shrink(scenario: &Scenario, runs: u64) -> ExitCode {
    let Some(smallest) = shrunk(scenario, runs) else {
        println!("{scenario}\nnothing is wrong with it");
        return ExitCode::SUCCESS;
    };
    println!("after {} runs this is left:\n{}", smallest.runs, smallest.scenario);
    println!("faults: {:?}", smallest.outcome.strikes);
    println!("FAILED: {}", smallest.outcome.wrong.unwrap_or_default());
    ExitCode::FAILURE
}
