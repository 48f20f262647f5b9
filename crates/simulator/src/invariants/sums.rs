//! Claims on sums: each is exactly that of the increments which are there, and none is taken beyond 64 bits by who sees it.

use super::Run;
use crate::ledger::Ledger;
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

/// No increment takes the sum that its maker was shown beyond 64 bits. Where concurrent ones did, every step back is
/// one that leads there.
pub fn invariant_sums_stay_in_range(ledger: &Ledger) -> Result<(), String> {
    for entry in ledger.judged().filter(|entry| !entry.repeated) {
        let Some((shown, by)) = entry.added else { continue };
        let sum = shown.saturating_add(by.into());
        let is_back = sum.unsigned_abs() < shown.unsigned_abs();
        if i64::try_from(sum).is_err() && !is_back {
            return Err(format!("{shown} and {by} are more than 64 bits hold: {entry:?}"));
        }
    }
    Ok(())
}
