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
            Err(
                error @ (RequestError::Disconnected(_)
                | RequestError::Unreachable(_)
                | RequestError::Timeout),
            ) => {
                // It was over between two questions.
                if is_all_done(&progress) {
                    break;
                }
                let why = match error {
                    RequestError::Disconnected(why) | RequestError::Unreachable(why) => why,
                    _ => format!("{member} did not answer in time"),
                };
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use client::MemoryDatastore;
    use replication::{
        Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
        ScanPage, ScanRequest,
    };
    use values::Key;
    use wire::ClusterStatus;

    use super::*;
    use crate::commands::exit_code;

    /// A node that answers how far it is with the last of these.
    struct Draining {
        answers: Mutex<Vec<Result<DrainProgress, RequestError>>>,
        memory: MemoryDatastore,
    }

    #[async_trait]
    impl Datastore for Draining {
        async fn drain(&self, _: DrainCall) -> Result<DrainProgress, RequestError> {
            self.answers.lock().unwrap().pop().unwrap()
        }

        async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
            self.memory.execute(requests).await
        }

        async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
            self.memory.scan(request).await
        }

        async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
            self.memory.count(bucket).await
        }

        async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
            self.memory.conflicts(request).await
        }

        async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
            self.memory.explain(key).await
        }

        async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
            self.memory.buckets(call).await
        }

        async fn status(&self) -> Result<ClusterStatus, RequestError> {
            self.memory.status().await
        }

        async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
            self.memory.cut_links(member, cut).await
        }
    }

    #[tokio::test]
    async fn how_far_a_drain_is_that_was_asked_for_and_not_told_of_any_more_is_unknown() {
        let errors = [RequestError::Timeout, RequestError::Disconnected("it is gone".into())];
        for (error, under_way) in errors.iter().flat_map(|error| [(error, 3), (error, 0)]) {
            let progress = DrainProgress { under_way, ..DrainProgress::default() };
            let answers = Mutex::new(vec![Err(error.clone()), Ok(progress)]);
            let node = Draining { answers, memory: MemoryDatastore::new() };
            let options = DrainOptions { member: Some("a".into()), limit: 60 };
            let ended = drain(&Printer::new(true), &node, options).await;
            match under_way {
                0 => assert_eq!(ended.unwrap(), ExitCode::SUCCESS),
                _ => assert_eq!(exit_code(&ended.unwrap_err()), ExitCode::from(4)),
            }
        }
    }
}
