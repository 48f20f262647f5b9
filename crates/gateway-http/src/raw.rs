//! Raw values: `GET|PUT|DELETE /v1/buckets/{bucket}/keys/{key}` (the type `bytes`).
//!
//! A put or delete removes the siblings that the presented context has seen. A put without a
//! context has seen none and so adds a sibling; a delete without one would remove nothing, and is
//! refused. Where the bucket's raw values are registers, the context decides nothing.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clock::Dot;
use replication::{Action, Answer};
use serde_json::{Value, json};
use values::{BytesOp, Key, Operation, Scope, Sibling, Tag};

use crate::address::Target;
use crate::gateway::{Body, Gateway, Shared};
use crate::headers::{describe, name, presented, wants_bytes};
use crate::json::encoded;
use crate::names::NameTable;
use crate::parameters::{Parameters, refused};
use crate::problem::{Problem, types_with_urls};

/// Reads all siblings.
pub(crate) async fn get(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let bytes_only = match parameters.take("type").as_deref() {
        None => false,
        Some(b"bytes") => true,
        Some(_) => {
            return Err(refused(
                "type is bytes here; other types have addresses of their own, such as \
                 /v1/buckets/{bucket}/counters/{key}"
                    .into(),
            ));
        }
    };
    let asked = parameters.asked()?;
    parameters.finish()?;
    let answer = gateway.read(&key, Scope::Headers, asked).await?;
    if wants_bytes(&headers) {
        only(&gateway, &key, &answer, bytes_only).await
    } else {
        let siblings = readable(&key, &answer, bytes_only)?;
        Ok(listed(&gateway, &key, &answer, &siblings).await)
    }
}

/// What a read of all siblings answers in JSON.
pub(crate) async fn shown_json(
    gateway: &Gateway,
    key: &Key,
    answer: &Answer,
) -> Result<Response, Problem> {
    let siblings = readable(key, answer, false)?;
    Ok(listed(gateway, key, answer, &siblings).await)
}

/// The values that a raw read shows, of which there is at least one.
fn readable(key: &Key, answer: &Answer, bytes_only: bool) -> Result<Vec<(Dot, Sibling)>, Problem> {
    let live = answer.view.live_tags();
    if live.len() > 1 && !bytes_only {
        let problem = Problem::conflict(
            "type-conflict",
            "The key has several types",
            "the key was written as several types at once; read each at its own address, and \
             keep one: POST {\"keep\": …} to /v1/buckets/{bucket}/conflicts/{key}",
            key,
            &live,
        );
        return Err(problem.with_answer(answer, Tag::BYTES));
    }
    let tag = answer.raw_tag();
    if live.is_empty() {
        return Err(missing(answer, tag));
    }
    answer.raw_values().map_err(|wrong| {
        Problem::wrong_type(key, wrong.wanted, &wrong.live).with_answer(answer, tag)
    })
}

/// The bytes themselves, of exactly one value.
async fn only(
    gateway: &Gateway,
    key: &Key,
    answer: &Answer,
    bytes_only: bool,
) -> Result<Response, Problem> {
    let siblings = readable(key, answer, bytes_only)?;
    let [(_, only)] = &siblings[..] else {
        let problem = Problem::new(
            StatusCode::CONFLICT,
            "siblings",
            "The key has several concurrent values",
            "reconcile the siblings, and put the result with the context given here",
        );
        let shown = shown(gateway, &siblings).await;
        return Err(problem.member("siblings", shown).with_answer(answer, Tag::BYTES));
    };
    let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    let mut response = (content_type, only.value.clone()).into_response();
    describe(response.headers_mut(), answer, answer.raw_tag());
    Ok(response)
}

/// Writes a value: the body, whatever its content type.
pub(crate) async fn put(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
    Body(value): Body,
) -> Result<Response, Problem> {
    let asked = parameters.asked_of_write()?;
    parameters.finish()?;
    let put = Operation::Bytes(BytesOp::Put(value));
    let answer = gateway.update(&key, put, asked, &headers).await?;
    Ok(written(&answer, answer.raw_tag()))
}

/// Removes the siblings that the context has seen.
pub(crate) async fn delete(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let Some(context) = presented(&headers)? else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "context-required",
            "A delete needs a context",
            "a delete removes what its context has seen; get the key and send the \
             Merganser-Context of the answer",
        ));
    };
    let action = Action::Update(Operation::Bytes(BytesOp::Delete));
    let answer = gateway.ask(&key, action, asked, Some(context), name(&headers)?).await?;
    Ok(written(&answer, answer.raw_tag()))
}

/// 204 where enough owners have the write, 202 where some of it waits in an outbox or is missing.
pub(crate) fn written(answer: &Answer, tag: Tag) -> Response {
    let status = if answer.acks.is_met() { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED };
    let mut response = status.into_response();
    describe(response.headers_mut(), answer, tag);
    response
}

/// 404 with the context of what was deleted, if anything was.
pub(crate) fn missing(answer: &Answer, tag: Tag) -> Problem {
    let detail = if answer.acks.is_met() {
        "the key has no value; write one, with the context given here if you are replacing a \
         deleted one"
            .to_owned()
    } else {
        format!(
            "none of the {} replicas that answered ({} were to) has a value; try again to hear \
             the others",
            answer.acks.answered, answer.acks.needed
        )
    };
    Problem::new(StatusCode::NOT_FOUND, "no-value", "The key has no value", detail)
        .with_answer(answer, tag)
}

async fn listed(
    gateway: &Gateway,
    key: &Key,
    answer: &Answer,
    siblings: &[(Dot, Sibling)],
) -> Response {
    let context = answer.contexts.get(&answer.raw_tag()).map(|token| token.as_str());
    let mut document = json!({ "context": context, "siblings": shown(gateway, siblings).await });
    note_doubts(&mut document, key, answer);
    let mut response = gateway.answer(StatusCode::OK, &document);
    describe(response.headers_mut(), answer, answer.raw_tag());
    response
}

/// Adds what keeps an answer to a read from being plain: that it rests on too few replicas
/// (`incomplete`), that the key has several types (`conflict`).
pub(crate) fn note_doubts(document: &mut Value, key: &Key, answer: &Answer) {
    if !answer.acks.is_met() {
        document["incomplete"] = true.into();
    }
    let live = answer.view.live_tags();
    if live.len() > 1 {
        document["conflict"] = types_with_urls(key, &live);
    }
}

async fn shown(gateway: &Gateway, siblings: &[(Dot, Sibling)]) -> Value {
    let nodes = siblings.iter().map(|(dot, _)| dot.actor.replica);
    let names = gateway.names.of(gateway.datastore.as_ref(), nodes).await;
    siblings.iter().map(|(dot, sibling)| sibling_json(*dot, sibling, &names)).collect()
}

/// One sibling.
pub(crate) fn sibling_json(dot: Dot, sibling: &Sibling, names: &NameTable) -> Value {
    let (value, encoding) = encoded(&sibling.value);
    json!({
        "value": value,
        "encoding": encoding,
        "dot": dot.shown(names),
        "time": sibling.stamp.utc(),
    })
}
