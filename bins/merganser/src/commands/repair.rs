//! Commands on the comparing of replicas.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use client::Datastore;
use clock::NodeId;
use replication::{RepairProgress, RepairRequest};
use serde_json::json;

use crate::output::{Printer, complain, table};

/// Between two questions how far a repair is.
const PAUSE: Duration = Duration::from_millis(200);
/// Characters of the progress bar.
const BAR: usize = 40;

/// Has the node's replicas compared with others, and waits until all are equal that can be reached.
pub(crate) async fn repair(
    printer: &Printer,
    datastore: &dyn Datastore,
    bucket: Option<String>,
    first: u32,
    last: u32,
) -> Result<ExitCode> {
    let bucket = bucket.map(Into::into);
    let mut request = RepairRequest { first, last, bucket, since_ms: None };
    let bar = Bar { is_shown: std::io::stderr().is_terminal() };
    let (mut progress, before) =
        (datastore.repair(request.clone()).await?, repaired(datastore).await?);
    request.since_ms = Some(progress.since_ms);
    while progress.equal + progress.unreachable < progress.pairs {
        bar.draw(&progress);
        tokio::time::sleep(PAUSE).await;
        progress = datastore.repair(request.clone()).await?;
    }
    bar.clear();
    let RepairProgress { pairs, equal, unreachable, .. } = progress;
    let after = repaired(datastore).await?;
    let (pulled, pushed) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    let json = json!({ "pairs": pairs, "equal": equal, "unreachable": unreachable,
        "keys_pulled": pulled, "keys_pushed": pushed });
    printer.show(&json, || {
        format!(
            "{equal} of {pairs} pairs of a partition and another owner are equal; {pulled} keys were \
             brought here and {pushed} from here meanwhile"
        )
    });
    if unreachable == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    complain(format_args!(
        "{unreachable} pairs have an owner that the node cannot reach: they are compared when it is back"
    ));
    Ok(ExitCode::from(3))
}

/// How many deltas comparisons brought to the node and from it.
async fn repaired(datastore: &dyn Datastore) -> Result<(u64, u64)> {
    let counters: BTreeMap<String, u64> = datastore.status().await?.counters.into_iter().collect();
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    Ok((count("keys_pulled"), count("keys_pushed")))
}

/// A progress bar on a terminal's standard error.
struct Bar {
    is_shown: bool,
}

impl Bar {
    fn draw(&self, progress: &RepairProgress) {
        let RepairProgress { pairs, equal, .. } = *progress;
        let done = usize::try_from(equal * BAR as u64 / pairs.max(1)).unwrap_or(BAR);
        let text = format!("[{:<BAR$}] {equal} of {pairs}", "#".repeat(done));
        self.write(&format!("\r{text}"));
    }

    fn clear(&self) {
        self.write("\r\x1b[2K");
    }

    fn write(&self, text: &str) {
        if self.is_shown {
            // There is nowhere left to say that this failed.
            let mut terminal = std::io::stderr().lock();
            let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
        }
    }
}

/// Lists when partitions were last found equal, the oldest first.
pub(crate) async fn comparisons(
    printer: &Printer,
    datastore: &dyn Datastore,
    count: usize,
) -> Result<ExitCode> {
    let status = datastore.status().await?;
    let names: BTreeMap<NodeId, String> =
        status.members.into_iter().map(|member| (member.node, member.name)).collect();
    let mut found = datastore.comparisons().await?;
    found.sort_by_key(|found| Reverse(found.equal_ms_ago.unwrap_or(u64::MAX)));
    let all = found.len();
    found.truncate(count);
    let name = |node| names.get(&node).cloned().unwrap_or_else(|| format!("{node:?}"));
    let json = found.iter().map(|found| {
        json!({ "partition": found.partition.0, "n": found.n, "peer": name(found.peer),
            "equal_ms_ago": found.equal_ms_ago })
    });
    let json = json!({ "pairs": all, "comparisons": json.collect::<Vec<_>>() });
    printer.show(&json, || {
        let rows = found.iter().map(|found| {
            let ago = match found.equal_ms_ago {
                Some(ms) => format!("{} s ago", ms / 1_000),
                None => "not since the start".to_owned(),
            };
            [found.partition.0.to_string(), found.n.to_string(), name(found.peer), ago]
        });
        format!(
            "{}\n{} of {all}",
            table(["partition", "n", "other owner", "last found equal"], rows.collect()),
            found.len()
        )
    });
    Ok(ExitCode::SUCCESS)
}
