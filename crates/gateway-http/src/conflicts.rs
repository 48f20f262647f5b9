//! Keys in conflict: `GET /v1/conflicts` lists them, `POST /v1/buckets/{bucket}/conflicts/{key}` resolves a
//! conflict of types.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use client::{conflict_cursor, parse_conflict_cursor};
use replication::ConflictsRequest;
use serde::Deserialize;
use serde_json::{Value, json};
use values::{Operation, Tag};

use crate::address::Target;
use crate::gateway::{Body, Shared, json_response};
use crate::headers::describe;
use crate::json::text;
use crate::parameters::{Parameters, refused};
use crate::problem::{Problem, types_with_urls};
use crate::raw::note_doubts;

/// Keys on a page where the request does not say, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// A page of the keys in conflict of this node's replica, or of that of the node whose cursor is given.
pub(crate) async fn get(
    State(gateway): Shared,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let cursor = parameters.take("cursor");
    let limit = parameters.limit("limit", PAGE_MAX)?.unwrap_or(PAGE);
    parameters.finish()?;
    let cursor = cursor.map(|text| parse_conflict_cursor(&text)).transpose();
    let cursor = cursor.map_err(|error| refused(error.to_string()))?;
    let page = gateway.datastore.conflicts(ConflictsRequest { cursor, limit }).await;
    let page = page.map_err(Problem::of_read)?;
    let keys: Vec<Value> = page
        .keys
        .iter()
        .map(|listed| {
            json!({
                "bucket": text(listed.key.bucket()),
                "key": text(listed.key.key()),
                "types": types_with_urls(&listed.key, &listed.tags),
                "siblings": listed.siblings,
            })
        })
        .collect();
    let next = page.next.as_ref().map(conflict_cursor);
    let document = json!({ "node": page.node, "keys": keys, "next": next });
    Ok(json_response(StatusCode::OK, &document))
}

/// What a resolution says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolution {
    keep: String,
}

/// Removes what is observed of every type but the one to keep.
pub(crate) async fn post(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let keep = parse(&body)?;
    let answer = gateway.update(&key, Operation::Resolve(keep), asked, &headers).await?;
    let mut document = json!({ "kept": keep.to_string(), "changed": answer.changed });
    if answer.partly_observed {
        document["partly_observed"] = true.into();
    }
    note_doubts(&mut document, &key, &answer);
    let status = if answer.acks.is_met() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json_response(status, &document);
    describe(response.headers_mut(), &answer, keep);
    Ok(response)
}

fn parse(body: &[u8]) -> Result<Tag, Problem> {
    let bad = |why: String| {
        let detail = format!("{why}; send the type to keep, as in {{\"keep\": \"orset\"}}");
        Problem::bad_request("bad-operation", "The resolution was not understood", &detail)
    };
    let Resolution { keep } =
        serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    keep.parse().map_err(|error| bad(format!("{error}")))
}
