//! The command line.

#[cfg(feature = "sabotage")]
mod breaks;
mod replay;
mod run;
mod shrink;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use simulator::{Family, Reduction, Scenario};

/// Simulates whole clusters, deterministically, under faults that a seed draws.
#[derive(Parser)]
#[command(name = "simulator")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds and judges each run. Ends with 1 at the first that fails.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Which kind of scenario.
        #[arg(long, default_value_t = Family::All)]
        family: Family,
        /// Go on after failures; the exit code is 1 all the same.
        #[arg(long)]
        keep_going: bool,
    },
    /// Runs one seed again and shows what happened.
    Replay {
        #[command(flatten)]
        scenario: ScenarioOptions,
        /// Show what happened from this virtual time on, in milliseconds.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Show what happened before this virtual time, in milliseconds.
        #[arg(long)]
        until: Option<u64>,
        /// Of calls and messages, show those about this key only.
        #[arg(long)]
        key: Option<String>,
        /// Show long lines whole.
        #[arg(long)]
        whole: bool,
        /// Also draw it, as a space-time diagram: a lane for each node, messages as arrows.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// Makes a failing scenario smaller while it fails alike, and says how to run what is left.
    Shrink {
        #[command(flatten)]
        scenario: ScenarioOptions,
        /// Runs at most.
        #[arg(long, default_value_t = 2_000)]
        runs: u64,
    },
    /// Puts bugs back, one at a time, and says which claim finds each after how many seeds.
    #[cfg(feature = "sabotage")]
    Breaks {
        /// Only this one, or these.
        #[arg(long)]
        bug: Vec<sabotage::Bug>,
        /// Only seeds of this family, or these in turn.
        #[arg(long, conflicts_with = "page")]
        family: Vec<Family>,
        /// Seeds for each, at most.
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// Write the table here.
        #[arg(long)]
        page: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct ScenarioOptions {
    /// The seed.
    seed: u64,
    /// Which kind of scenario.
    #[arg(long, default_value_t = Family::All)]
    family: Family,
    /// Leave something out: what `shrink` printed.
    #[arg(long, default_value_t = Reduction::default())]
    reduced: Reduction,
}

impl ScenarioOptions {
    fn scenario(self) -> Scenario {
        Scenario::drawn(self.family, self.seed).reduced(self.reduced)
    }
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    // What is wrong with a run is printed once, with its seed.
    std::panic::set_hook(Box::new(|_| ()));
    match options.command {
        Command::Run { seeds, from, family, keep_going } => {
            run::run(family, from..from.saturating_add(seeds), keep_going)
        }
        Command::Replay { scenario, from, until, key, whole, svg } => {
            let filter = simulator::TraceFilter { from_ms: from, until_ms: until, key, whole };
            replay::replay(&scenario.scenario(), &filter, svg.as_deref())
        }
        Command::Shrink { scenario, runs } => shrink::shrink(&scenario.scenario(), runs),
        #[cfg(feature = "sabotage")]
        Command::Breaks { bug, family, seeds, page } => {
            breaks::breaks(&bug, &family, seeds, page.as_deref())
        }
    }
}
