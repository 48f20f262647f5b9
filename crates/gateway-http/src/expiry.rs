//! Times to live: `GET|PUT|DELETE /v1/buckets/{bucket}/expiry/{key}`, of the whole key, whatever its types.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use replication::Answer;
use serde::Deserialize;
use serde_json::{Value, json};
use values::{Deadline, ExpiryCondition, ExpiryOp, Key, Operation, Scope, Tag};

use crate::address::Target;
use crate::gateway::{Body, Shared, json_response};
use crate::headers::describe;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::raw::{missing, note_doubts};

/// How long the key has left.
pub(crate) async fn get(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let answer = gateway.read(&key, Scope::Headers, asked).await?;
    if answer.view.live_tags().is_empty() {
        return Err(missing(&answer, Tag::BYTES));
    }
    Ok(answered(json!({}), &key, &answer))
}

/// When the key is to end: exactly one of the first three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    ttl: Option<u64>,
    ttl_ms: Option<u64>,
    at_ms: Option<u64>,
    only_if: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Condition {
    None,
    Some,
    Later,
    Earlier,
}

/// Sets when the key ends.
pub(crate) async fn put(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let operation = Operation::Expiry(parse(&body)?);
    let answer = gateway.update(&key, operation, asked, &headers).await?;
    Ok(answered(json!({ "changed": answer.changed }), &key, &answer))
}

/// Has the key live without end.
pub(crate) async fn delete(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let persist = Operation::Expiry(ExpiryOp::Persist);
    let answer = gateway.update(&key, persist, asked, &headers).await?;
    Ok(answered(json!({ "changed": answer.changed }), &key, &answer))
}

fn parse(body: &[u8]) -> Result<ExpiryOp, Problem> {
    let bad = |why: &str| {
        let detail = format!(
            "{why}; send one of {{\"ttl\": seconds}}, {{\"ttl_ms\": milliseconds}} and {{\"at_ms\": \
             milliseconds since 1970}}, and perhaps \"only_if\": \"none\", \"some\", \"later\" or \
             \"earlier\""
        );
        Problem::bad_request("bad-operation", "The time to live was not understood", &detail)
    };
    let End { ttl, ttl_ms, at_ms, only_if } =
        serde_json::from_slice(body).map_err(|error| bad(&error.to_string()))?;
    let ttl = ttl.map(|seconds| Deadline::In(seconds.saturating_mul(1_000)));
    let given = [ttl, ttl_ms.map(Deadline::In), at_ms.map(Deadline::At)];
    let mut given = given.into_iter().flatten();
    let (Some(deadline), None) = (given.next(), given.next()) else {
        return Err(bad("it says not exactly once when the key ends"));
    };
    let only_if = only_if.map(|condition| match condition {
        Condition::None => ExpiryCondition::None,
        Condition::Some => ExpiryCondition::Some,
        Condition::Later => ExpiryCondition::Later,
        Condition::Earlier => ExpiryCondition::Earlier,
    });
    Ok(ExpiryOp::Set { deadline, only_if })
}

fn answered(mut document: Value, key: &Key, answer: &Answer) -> Response {
    let now_ms = answer.time.millis();
    let deadline_ms = answer.view.deadline_ms(now_ms);
    document["ttl_ms"] = deadline_ms.map(|deadline| deadline - now_ms).into();
    document["at_ms"] = deadline_ms.into();
    if answer.partly_observed {
        document["partly_observed"] = true.into();
    }
    note_doubts(&mut document, key, answer);
    let status = if answer.acks.is_met() || document.get("changed").is_none() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut response = json_response(status, &document);
    // It has no context of its own to write with.
    describe(response.headers_mut(), answer, Tag::EXPIRY);
    response
}
