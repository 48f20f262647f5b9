//! Claim on sums: each is exactly that of the increments which are there.

use super::Run;
use crate::sight::{Sight, Write, sight, tallies};

/// Every counter, register and field shows the sum of exactly those increments that it holds and
/// has not seen reset, and none that nobody made.
pub fn invariant_sums_are_exact(run: Run<'_>) -> Result<(), String> {
    for (key, view) in run.finals {
        for (&tag, state) in &view.value.0 {
            for (name, tally) in tallies(state) {
                let mut sum = 0;
                for ((of, dot), write) in run.ledger.writes(key) {
                    if let Write::Count { element, by } = write
                        && (of, element) == (tag, &name)
                        && sight(&view.value, tag, dot, write) == Sight::Live
                    {
                        sum += i128::from(*by);
                    }
                }
                if tally.value() != sum {
                    let shown = tally.value();
                    return Err(format!("{key:?} {tag} {name:?} shows {shown}, not {sum}"));
                }
            }
        }
    }
    Ok(())
}
