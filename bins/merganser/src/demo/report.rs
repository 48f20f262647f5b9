//! What a replay of purchases found: the lines that it prints, and whether the store kept its
//! promises.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::carts::CUT_PERCENT;
use super::oracle::Difference;
use super::strategy::StrategyName;

/// What the report's words mean.
const LEGEND: &str = "\
updates: additions to carts, and removals from them, that were acknowledged
accepted with fewer than w copies: on the cut-off node alone at first, delivered to the others later
partly observed: removals that fewer than r replicas showed what they hold
unmatched: a return of something that is not in the shopper's cart, bought before the file begins
lost: additions acknowledged, removed by nobody, and missing from the carts in the end
resurrected: additions removed by somebody and back in the carts in the end
unexplained: additions in the carts that no acknowledged update made";

/// What a replay found.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) strategy: StrategyName,
    pub(super) lines: usize,
    pub(super) shoppers: usize,
    pub(super) at_once: usize,
    pub(super) nodes: usize,
    /// The node whose links were cut in the middle, if any were.
    pub(super) cut_off: Option<String>,
    pub(super) sessions: usize,
    pub(super) updates: u64,
    pub(super) reduced: u64,
    pub(super) partly_observed: u64,
    pub(super) unknown: u64,
    pub(super) unmatched: u64,
    pub(super) difference: Difference,
    pub(super) in_carts: u64,
    pub(super) in_file: u64,
    pub(super) carts: usize,
    /// Carts whose totals are not the file's.
    pub(super) unequal: Vec<String>,
    pub(super) converged: Duration,
    pub(super) elapsed: Duration,
    pub(super) latency_us: Histogram<u64>,
}

impl Report {
    /// An error that says what the store did not keep, if the strategy relies on the store.
    ///
    /// Of updates whose outcome is unknown each may have made one addition and taken out others.
    /// Totals must be the file's where every shopper saw all that it had done before: nobody was cut
    /// off, nothing is unknown, and no answer says that it rests on fewer replicas.
    pub(super) fn verdict(&self) -> Result<()> {
        if self.strategy != StrategyName::Crdt {
            return Ok(());
        }
        let Difference { lost, resurrected, unexplained } = self.difference;
        let must_be_equal =
            self.cut_off.is_none() && self.unknown + self.reduced + self.partly_observed == 0;
        ensure!(
            lost == 0 && resurrected == 0 && unexplained as u64 <= self.unknown,
            "the store broke its promise (lost {lost}, resurrected {resurrected}, unexplained \
             {unexplained}, outcome unknown {}): this is a bug, please report it with this output",
            self.unknown
        );
        ensure!(
            !must_be_equal || self.unequal.is_empty() && self.in_carts == self.in_file,
            "{} of {} carts do not have the file's totals, though no link was cut: this is a bug, \
             please report it with this output",
            self.unequal.len(),
            self.carts
        );
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { lost, resurrected, unexplained } = self.difference;
        let (lines, shoppers, at_once) = (self.lines, self.shoppers, self.at_once);
        write!(f, "{lines} lines of purchases by {shoppers} shoppers, {at_once} at once, ")?;
        write!(f, "through {} nodes", self.nodes)?;
        if let Some(member) = &self.cut_off {
            let (from, to) = CUT_PERCENT;
            write!(f, "; {member} was cut off from {from}% to {to}% of it")?;
        }
        writeln!(f, "\nstrategy {}\n", self.strategy.title())?;
        writeln!(f, "sessions {}", self.sessions)?;
        writeln!(f, "updates {}", self.updates)?;
        writeln!(f, "accepted with fewer than w copies {}", self.reduced)?;
        writeln!(f, "partly observed {}", self.partly_observed)?;
        writeln!(f, "outcome unknown {}", self.unknown)?;
        writeln!(f, "unmatched lines {}", self.unmatched)?;
        writeln!(f, "lost {lost}\nresurrected {resurrected}\nunexplained {unexplained}")?;
        writeln!(f, "units in the carts {}, in the file's totals {}", self.in_carts, self.in_file)?;
        write!(f, "totals equal to the file's: ")?;
        match self.unequal.as_slice() {
            [] => writeln!(f, "all {} carts", self.carts)?,
            some => {
                let first: Vec<&str> = some.iter().take(5).map(String::as_str).collect();
                let more = if some.len() > 5 { ", …" } else { "" };
                let equal = self.carts - some.len();
                writeln!(f, "{equal} of {} carts, not {}{more}", self.carts, first.join(", "))?;
            }
        }
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "converged {:.3} s after the last link was whole",
            self.converged.as_secs_f64()
        )?;
        writeln!(f, "throughput {:.0} updates a second", self.updates as f64 / seconds)?;
        let ms = |quantile: f64| self.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        let (p50, p99, p999, longest) = (ms(0.5), ms(0.99), ms(0.999), ms(1.0));
        write!(f, "latency p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, ")?;
        write!(f, "longest {longest:.2} ms\n\n{LEGEND}")?;
        if lost + resurrected > 0 {
            write!(f, "\n{}", self.strategy.moral())?;
        }
        Ok(())
    }
}
