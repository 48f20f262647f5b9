//! Puts every bug back, one at a time, and says which claim found it after how many seeds.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use sabotage::Bug;
use simulator::{Family, Scenario};

/// Where a bug was found.
struct Catch {
    /// Seeds run until then, over all families.
    seeds: u64,
    family: Family,
    seed: u64,
    claim: String,
}

/// Runs the first seed of each family, then the second of each, and so on, until the bug is found. A seed that fails
/// without the bug, too, is an error.
fn catch(bug: Bug, families: &[Family], seeds_max: u64) -> Result<Option<Catch>, String> {
    let mut seeds = 0;
    for seed in 1.. {
        for &family in families {
            if seeds == seeds_max {
                return Ok(None);
            }
            seeds += 1;
            let scenario = Scenario::drawn(family, seed);
            sabotage::arm(Some(bug));
            let outcome = scenario.outcome(false);
            sabotage::arm(None);
            let Some(claim) = outcome.claim() else { continue };
            if let Some(wrong) = scenario.outcome(false).wrong {
                return Err(format!("{wrong}\n{scenario}"));
            }
            return Ok(Some(Catch { seeds, family, seed, claim: claim.to_owned() }));
        }
    }
    Ok(None)
}

pub(super) fn breaks(
    only: &[Bug],
    families: &[Family],
    seeds_max: u64,
    page: Option<&Path>,
) -> ExitCode {
    let families: &[Family] = if families.is_empty() { &Family::ALL } else { families };
    let mut rows = String::new();
    let (mut caught, mut missed) = (0, Vec::new());
    for &bug in Bug::ALL.iter().filter(|bug| only.is_empty() || only.contains(bug)) {
        let (class, name, what) = (bug.class(), bug.name(), bug.what());
        let told = match catch(bug, families, seeds_max) {
            Ok(Some(Catch { seeds, family, seed, claim })) => {
                caught += 1;
                format!("{seeds} | `{claim}` | `{family}` {seed} |")
            }
            Err(wrong) => {
                eprintln!("without any bug: {wrong}");
                return ExitCode::FAILURE;
            }
            Ok(None) => {
                missed.push(name);
                format!("**not in {seeds_max}** | | |")
            }
        };
        println!("{name}: {told}");
        let _ = writeln!(rows, "| {class} | `{name}`: {what} | {told}");
    }
    println!("{caught} found, not found: {missed:?}");
    if let Some(path) = page {
        let text = page_text(caught, missed.len(), seeds_max, &rows);
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("{} cannot be written: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn page_text(caught: usize, missed: usize, seeds_max: u64, rows: &str) -> String {
    format!(
        "# Bugs put back\n\n\
         <!-- Written by: cargo run --release -p simulator --features sabotage -- breaks -->\n\n\
         Each bug below is a condition at one place of the product (`crates/sabotage/src/lib.rs` lists them), \
         which only builds with the feature `sabotage` of the simulator have. Each was put back alone, and \
         seeds were run until a claim failed that holds for the same seed without the bug: the first seed of \
         each family, then the second of each, {seeds_max} in all at most. {caught} were found, {missed} were \
         not. What the claims say is on the page [What the simulation catches](what-simulation-catches.md).\n\n\
         | class | bug | seeds | found by | in |\n\
         | --- | --- | --- | --- | --- |\n\
         {rows}"
    )
}
