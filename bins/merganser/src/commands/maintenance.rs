//! What is done to the data of one node: backing it up, bringing it back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::{Client, Datastore};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use node::offline::{self, RestoreProgress};
use serde_json::json;
use wire::{BackupCall, BackupTaken};

use crate::options::maintenance::{BackupOptions, RestoreOptions};
use crate::output::{Printer, complain};

/// How often a node is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A bar on standard error, where somebody looks at it: how far, how fast, how long still. Its figures
/// are counts of `unit`, or bytes if there is none.
pub(super) fn progress_bar(what: &str, total: u64, unit: Option<&str>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let figures = match unit {
        Some(unit) => format!("{{human_pos}} of {{human_len}} {unit}, {{per_sec}}"),
        None => "{bytes} of {total_bytes}, {bytes_per_sec}".into(),
    };
    let template = format!("{{msg:10}} {{bar:30}} {figures}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar
}

/// Has the node take a backup of itself, and waits for it.
pub(crate) async fn backup(
    printer: &Printer,
    node: &str,
    BackupOptions { directory }: BackupOptions,
) -> Result<ExitCode> {
    let path = std::path::absolute(&directory).context("the directory")?;
    let Some(directory) = path.to_str().map(str::to_owned) else {
        bail!("{} is not UTF-8: choose another directory", path.display());
    };
    let client = Client::connect(node).await?;
    let bar = progress_bar("backing up", 0, Some("rows"));
    let mut call = BackupCall::Begin { directory: directory.clone() };
    let taken = loop {
        let progress = client.backup(call).await?;
        bar.set_length(progress.rows_total);
        bar.set_position(progress.rows_done);
        match progress.outcome {
            Some(outcome) => break outcome,
            None => tokio::time::sleep(ASK_EVERY).await,
        }
        call = BackupCall::Progress { job: progress.job };
    };
    bar.finish_and_clear();
    let taken = match taken {
        Ok(taken) => taken,
        Err(reason) => bail!("no backup was taken: {reason}"),
    };
    if let Some(reason) = &taken.unreadable {
        complain(format_args!(
            "the backup before could not be gone on from ({reason}); all was written"
        ));
    }
    if taken.rows_damaged > 0 {
        complain(format_args!(
            "warning: {} rows of the node are damaged, and so in the backup: stop the node and run \
             `merganser verify` on its data directory",
            taken.rows_damaged
        ));
    }
    show_taken(printer, &directory, &taken);
    Ok(ExitCode::SUCCESS)
}

fn show_taken(printer: &Printer, directory: &str, taken: &BackupTaken) {
    let BackupTaken { number, rows, rows_written, bytes, bytes_written, is_incremental, .. } =
        *taken;
    let json = json!({
        "directory": directory, "number": number, "rows": rows, "rows_written": rows_written,
        "bytes": bytes, "bytes_written": bytes_written, "incremental": is_incremental,
        "rows_damaged": taken.rows_damaged,
    });
    printer.show(&json, || {
        let what = if is_incremental { "those that changed" } else { "all" };
        format!(
            "backup {number} of the node is in {directory}: {rows} rows, {}\n\
             written now: {rows_written} rows ({what}), {}",
            bytes_for_people(bytes),
            bytes_for_people(bytes_written),
        )
    });
}

const ONE: &str = "start it with the settings that it had; what was written after the backup comes from the other \
    owners: `merganser status` says how far that is";
const WHOLE: &str = "restore every other node with --whole-cluster too, then start them all with the settings that \
    they had";

/// Restores a backup into a data directory.
pub(crate) fn restore(printer: &Printer, options: &RestoreOptions) -> Result<ExitCode> {
    let RestoreOptions { backup, data, whole_cluster } = options;
    let bars = RestoreBars::default();
    let restored =
        offline::restore(backup, data, *whole_cluster, &mut |progress| bars.show(progress));
    bars.clear();
    let restored = restored?;
    let manifest = &restored.manifest;
    let json = json!({
        "cluster": restored.cluster, "node": restored.node, "number": manifest.number,
        "taken_ms": manifest.taken_ms, "rows": manifest.rows,
    });
    printer.show(&json, || {
        format!(
            "restored node {} of cluster {} into {}: backup {}, {} rows, checked\n\
             {}",
            restored.node,
            restored.cluster,
            data.display(),
            manifest.number,
            manifest.rows,
            if *whole_cluster { WHOLE } else { ONE },
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// One bar after the other.
#[derive(Default)]
struct RestoreBars {
    checking: std::cell::OnceCell<ProgressBar>,
    writing: std::cell::OnceCell<ProgressBar>,
}

impl RestoreBars {
    fn show(&self, progress: RestoreProgress) {
        match progress {
            RestoreProgress::Checked(done, total) => {
                self.checking
                    .get_or_init(|| progress_bar("checking", total, None))
                    .set_position(done);
            }
            RestoreProgress::Rows(done, total) => {
                if done % 64 == 0 {
                    self.clear_checking();
                    let bar = self.writing.get_or_init(|| {
                        progress_bar("writing", total, Some("rows written and read back"))
                    });
                    bar.set_position(done);
                }
            }
        }
    }

    fn clear_checking(&self) {
        if let Some(bar) = self.checking.get() {
            bar.finish_and_clear();
        }
    }

    fn clear(&self) {
        self.clear_checking();
        if let Some(bar) = self.writing.get() {
            bar.finish_and_clear();
        }
    }
}

/// Bytes, rounded.
fn bytes_for_people(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
