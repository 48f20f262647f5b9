//! Shows what happened in one run.

use std::path::Path;
use std::process::ExitCode;

use simulator::{Scenario, TraceFilter};

pub(super) fn replay(scenario: &Scenario, filter: &TraceFilter, svg: Option<&Path>) -> ExitCode {
    let outcome = scenario.outcome(true);
    print!("{}", outcome.trace.text(filter));
    if let Some(path) = svg {
        if let Err(error) = std::fs::write(path, outcome.trace.svg(filter)) {
            eprintln!("{} cannot be written: {error}", path.display());
            return ExitCode::from(2);
        }
        println!("drawn in {}", path.display());
    }
    println!("{scenario}");
    println!(
        "{} ms simulated, {} events, trace hash {:016x}",
        outcome.simulated_ms, outcome.events, outcome.trace_hash
    );
    println!("faults: {:?}", outcome.strikes);
    match outcome.wrong {
        Some(wrong) => {
            println!("FAILED: {wrong}");
            ExitCode::FAILURE
        }
        None => {
            println!("nothing wrong");
            ExitCode::SUCCESS
        }
    }
}
