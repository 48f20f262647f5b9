//! The cluster and the node: ring, status, health, and the list of what there is.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use client::moves::{plan_json, transfer_json, transfers_json};
use membership::Liveness;
use serde_json::{Map, Value, json};
use wire::{ClusterStatus, MemberStatus, PlanCall};

use crate::gateway::{Shared, json_response};
use crate::parameters::Parameters;
use crate::problem::Problem;

/// Who owns how many partitions; with `partitions=true` the owner of each.
pub(crate) async fn ring(
    State(gateway): Shared,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let each = parameters.flag("partitions")?;
    parameters.finish()?;
    let status = gateway.datastore.status().await.map_err(Problem::of_read)?;
    let members: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node.to_string(),
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "partitions": member.partitions,
                "copies": member.copies,
            })
        })
        .collect();
    let mut document = json!({
        "version": status.ring_version,
        "partitions": status.partitions,
        "members": members,
    });
    if each {
        document["owners"] = owners(&status);
    }
    Ok(json_response(StatusCode::OK, &document))
}

/// The owner of each partition, by name.
fn owners(status: &ClusterStatus) -> Value {
    let name = |&at: &u16| status.members.get(usize::from(at)).map(|member| member.name.as_str());
    status.owners.iter().map(name).collect()
}

/// How the cluster looks from this node.
pub(crate) async fn status(
    State(gateway): Shared,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let status = gateway.datastore.status().await.map_err(Problem::of_read)?;
    let members: Vec<Value> = status.members.iter().map(member).collect();
    let counters: Map<String, Value> =
        status.counters.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
    let document = json!({
        "cluster": status.cluster,
        "node": status.node,
        "version": status.version,
        "waiting": status.waiting,
        "ready": gateway.options.is_ready(),
        "out_of_service": *gateway.options.out_of_service.borrow(),
        "uptime_ms": status.uptime_ms,
        "keys": status.keys,
        "ring_version": status.ring_version,
        "handover": {
            "partitions_moving": status.handover.partitions_moving,
            "receiving": status.handover.receiving,
            "driving": status.handover.driving,
            "departing": status.handover.departing,
            "waits_for": status.handover.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "transfers": status.handover.transfers.iter().map(transfer_json).collect::<Vec<_>>(),
        },
        "hint_bytes_max": status.hint_bytes_max,
        "compared": {
            "pairs": status.compared.pairs,
            "never": status.compared.never,
            "oldest_ms": status.compared.oldest_ms,
        },
        "barrier": {
            "round": status.barrier.round,
            "stage": status.barrier.stage.word(),
            "agreed": status.barrier.agreed,
            "forgotten": status.barrier.forgotten,
            "waits_for": status.barrier.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "has_remnants": status.barrier.has_remnants,
            "doing": status.barrier.doing.map(|doing| doing.to_string()),
        },
        "members": members,
        "counters": counters,
    });
    Ok(json_response(StatusCode::OK, &document))
}

fn member(member: &MemberStatus) -> Value {
    json!({
        "node": member.node.to_string(),
        "name": member.name,
        "peer_address": member.peer_address,
        "generation": member.generation,
        "state": member.state.word(),
        "suspected": member.liveness == Liveness::Suspected,
        "phi": member.phi,
        "version": member.version,
        "connected": member.connected,
        "messages": member.messages,
        "cut": member.cut,
        "zone": member.zone,
        "weight": member.weight,
        "partitions": member.partitions,
        "copies": member.copies,
        "pending": member.pending,
        "pending_bytes": member.pending_bytes,
        "stored_bytes": member.load.stored_bytes,
        "requests_per_second": member.load.requests_per_second,
    })
}

/// What moves in the cluster.
pub(crate) async fn transfers(
    State(gateway): Shared,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let report = gateway.datastore.transfers().await.map_err(Problem::of_read)?;
    Ok(json_response(StatusCode::OK, &transfers_json(&report)))
}

/// What a commit would change now.
pub(crate) async fn plan(
    State(gateway): Shared,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let report = gateway.datastore.plan(PlanCall::Staged).await.map_err(Problem::of_read)?;
    Ok(json_response(StatusCode::OK, &plan_json(&report)))
}

/// The process runs.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// The node serves, or is starting or stopping, or its disk refuses what it writes.
pub(crate) async fn readyz(State(gateway): Shared) -> Result<&'static str, Problem> {
    if gateway.options.is_ready() {
        return Ok("ok\n");
    }
    if let Some(reason) = gateway.options.out_of_service.borrow().clone() {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "out-of-service",
            "The node is out of service",
            format!("{reason}; reads are still answered, use another node for writes"),
        ));
    }
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "The node is not ready",
        "the node is starting or stopping; use another one",
    ))
}

/// What there is, for people.
pub(crate) async fn index() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(include_str!("index.html"))).into_response()
}
