//! Looking at the data of a node that does not run, or at a backup: checking it, showing it.

use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use node::offline::{self, DebugFilter, Verified, VerifyProgress};
use serde_json::json;

use super::maintenance::progress_bar;
use crate::options::maintenance::{DebugCommand, DebugOptions, VerifyOptions};
use crate::output::{Printer, print, table};

/// Exit code for a directory in which something is wrong.
const FAULTY: u8 = 6;

/// Checks a directory; the exit code says whether all of it is what was written.
pub(crate) fn verify(printer: &Printer, options: &VerifyOptions) -> Result<ExitCode> {
    let mut bar: Option<(&str, ProgressBar)> = None;
    let verified = offline::verify(&options.directory, &mut |progress| {
        let VerifyProgress { what, done, total, is_bytes } = progress;
        if bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
            if let Some((_, bar)) = bar.take() {
                bar.finish_and_clear();
            }
            let unit = (!is_bytes).then_some("rows");
            bar = Some((what, progress_bar(what, total, unit)));
        }
        if let Some((_, bar)) = &bar
            && (is_bytes || done % 64 == 0)
        {
            bar.set_length(total);
            bar.set_position(done);
        }
    });
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    let verified = verified?;
    let faults: Vec<_> = verified
        .faults
        .iter()
        .map(|fault| {
            json!({ "place": fault.place, "what": fault.what, "advice": fault.kind.advice() })
        })
        .collect();
    let checked: serde_json::Map<_, _> =
        verified.checked.iter().map(|(what, count)| ((*what).to_owned(), json!(count))).collect();
    let json = json!({
        "cluster": verified.cluster, "node": verified.node, "backup": verified.is_backup,
        "checked": checked, "problems": verified.fault_count, "faults": faults,
    });
    printer.show(&json, || report(&verified));
    Ok(if verified.fault_count == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAULTY) })
}

fn report(verified: &Verified) -> String {
    let Verified { cluster, node, is_backup, checked, faults, fault_count } = verified;
    let what = if *is_backup { "a backup" } else { "the data directory" };
    let rows = checked.iter().map(|(what, count)| [(*what).to_owned(), count.clone()]);
    let mut text = format!(
        "{what} of node {node} of cluster {cluster}\n{}",
        table(["checked", "found"], rows.collect())
    );
    if *fault_count == 0 {
        return text + "\nall of it is what was written";
    }
    let mut kinds: Vec<_> = faults.iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        for fault in faults.iter().filter(|fault| fault.kind == kind) {
            text += &format!("\nPROBLEM {}: {}", fault.place, fault.what);
        }
        text += &format!("\n  what to do: {}", kind.advice());
    }
    let untold = fault_count - faults.len() as u64;
    if untold > 0 {
        text += &format!("\nand {untold} more");
    }
    text + &format!("\n{fault_count} problem{}", if *fault_count == 1 { "" } else { "s" })
}

/// Shows what is on disk, line by line.
pub(crate) fn debug(command: DebugCommand, bucket: Option<String>) -> Result<ExitCode> {
    let mut listing = Listing { left: 0, is_cut: false, failure: None };
    match command {
        DebugCommand::Rows { options, table } => {
            let filter = DebugFilter { table, ..filter(&options, bucket) };
            listing.left = options.limit;
            offline::debug_rows(&options.directory, &filter, &mut |line| listing.show(&line))?;
        }
        DebugCommand::Log { options } => {
            listing.left = options.limit;
            let filter = filter(&options, bucket);
            offline::debug_log(&options.directory, &filter, &mut |line| listing.show(&line))?;
        }
        DebugCommand::Tree { directory, partition, limit } => {
            listing.left = limit;
            let filter = DebugFilter { partition, ..DebugFilter::default() };
            offline::debug_tree(&directory, &filter, &mut |line| listing.show(&line))?;
        }
    }
    listing.finish()
}

fn filter(options: &DebugOptions, bucket: Option<String>) -> DebugFilter {
    DebugFilter {
        table: None,
        bucket: bucket.map(String::into_bytes),
        key: options.key.clone().map(String::into_bytes),
        partition: options.partition,
    }
}

/// Lines, up to a limit.
struct Listing {
    left: u64,
    is_cut: bool,
    failure: Option<std::io::Error>,
}

impl Listing {
    fn show(&mut self, line: &str) -> ControlFlow<()> {
        if self.left == 0 {
            self.is_cut = true;
            return ControlFlow::Break(());
        }
        self.left -= 1;
        match print(line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn finish(self) -> Result<ExitCode> {
        if let Some(error) = self.failure {
            return Err(error).context("the output cannot be written");
        }
        if self.is_cut {
            print("… and more: see --limit").context("the output cannot be written")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
