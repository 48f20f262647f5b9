//! `drain`: a node that is to stop in good order, and how far it is.

use std::process::ExitCode;

use anyhow::Result;
use client::Datastore;
use replication::RequestError;
use serde_json::json;
use wire::{DrainCall, DrainProgress, KeptFor};

use crate::options::DrainOptions;
use crate::output::{Printer, complain};

/// Has a member drain, and waits until it stops.
pub(crate) async fn drain(
    printer: &Printer,
    datastore: &dyn Datastore,
    options: DrainOptions,
) -> Result<ExitCode> {
    let member = match options.member {
        Some(member) => member,
        None => datastore.status().await?.node,
    };
    let limit_ms = options.limit * 1_000;
    let call = DrainCall { member: member.clone(), limit_ms, join: Vec::new() };
    let mut progress = datastore.drain(call.clone()).await?;
    let mut told = String::new();
    while !progress.is_over {
        let line = under_way(&progress);
        if line != told {
            complain(&line);
            told = line;
        }
        match datastore.drain(call.clone()).await {
            Ok(next) => progress = next,
            // It was over between two questions.
            Err(RequestError::Disconnected(_) | RequestError::Unreachable(_))
                if is_all_done(&progress) =>
            {
                break;
            }
            Err(RequestError::Disconnected(why) | RequestError::Unreachable(why)) => {
                let text = format!(
                    "{why}: whether {member} handed over all is not known ({}); where it still runs, give the \
                     command again",
                    under_way(&progress)
                );
                return Err(RequestError::Disconnected(text).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stays = |kept: &&KeptFor| progress.is_over || !kept.is_reachable;
    let kept = progress.kept.iter().filter(stays);
    let kept = kept.map(|kept| json!({ "member": kept.member, "keys": kept.keys }));
    let json = json!({ "member": member, "kept": kept.collect::<Vec<_>>() });
    printer.show(&json, || {
        let mut text =
            format!("{member} is drained, and stops; start it again with its data directory");
        for KeptFor { member: other, keys, .. } in progress.kept.iter().filter(stays) {
            text += &format!("\nit keeps deltas of {keys} keys for {other} until both are back");
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

/// Whether nothing was left but what waits for members that cannot be reached.
fn is_all_done(progress: &DrainProgress) -> bool {
    progress.under_way == 0 && !progress.kept.iter().any(|kept| kept.is_reachable)
}

fn under_way(progress: &DrainProgress) -> String {
    let keys = progress.kept.iter().filter(|kept| kept.is_reachable).map(|kept| kept.keys);
    format!(
        "draining: {} requests under way, deltas of {} keys for others in reach",
        progress.under_way,
        keys.sum::<u64>()
    )
}
