//! Comparing replicas: `GET /v1/comparisons` says when partitions were last found equal, `POST /v1/repair` has
//! them compared now.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use replication::RepairRequest;
use serde_json::{Value, json};

use crate::gateway::{Shared, json_response};
use crate::parameters::Parameters;
use crate::problem::Problem;

/// When each partition of this node was last found equal with each other owner.
pub(crate) async fn get(
    State(gateway): Shared,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let status = gateway.datastore.status().await.map_err(Problem::of_read)?;
    let names: BTreeMap<_, _> =
        status.members.into_iter().map(|member| (member.node, member.name)).collect();
    let found = gateway.datastore.comparisons().await.map_err(Problem::of_read)?;
    let comparisons: Vec<Value> = found
        .iter()
        .map(|found| {
            json!({
                "partition": found.partition.0,
                "n": found.n,
                "peer": names.get(&found.peer),
                "equal_ms_ago": found.equal_ms_ago,
            })
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({ "comparisons": comparisons })))
}

/// Has replicas compared soon, and says how far that is.
pub(crate) async fn post(
    State(gateway): Shared,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let first = parameters.number("first")?.unwrap_or(0);
    let last = parameters.number("last")?.unwrap_or(u32::MAX);
    let bucket = parameters.take("bucket");
    let since_ms = parameters.number("since_ms")?;
    parameters.finish()?;
    let request = RepairRequest { first, last, bucket, since_ms };
    let progress = gateway.datastore.repair(request).await.map_err(Problem::of_read)?;
    let document = json!({
        "since_ms": progress.since_ms,
        "pairs": progress.pairs,
        "equal": progress.equal,
        "unreachable": progress.unreachable,
    });
    Ok(json_response(StatusCode::OK, &document))
}
