//! Batches: `POST /v1/batch`, several operations in one request.
//!
//! Each is what a request of its own to the address of its kind would be, and is answered by what
//! that would answer. All are read and checked before any is done; then they are done side by
//! side, those on one key in the order given.

use axum::body::to_bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clock::ContextToken;
use replication::{Action, Answer, Request, RequestError, RequestName};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use values::{BytesOp, Key, Lifetime, Operation};

use crate::gateway::{Body, Gateway, Shared, json_response};
use crate::headers::{ACKS, CONTEXT, REPEATED};
use crate::json::Text;
use crate::parameters::{Asked, Parameters, lifetime};
use crate::problem::Problem;
use crate::typed::{Kind, Part};
use crate::{raw, typed};

/// Most operations of a batch.
pub(crate) const OPERATIONS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    operations: Vec<Item<'a>>,
}

/// One operation: where, and one of `get`, `put`, `do` and `delete`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(default = "default_bucket")]
    bucket: Text,
    /// The word of the address: `keys`, `counters`, …
    kind: String,
    key: Text,
    #[serde(default)]
    get: bool,
    put: Option<Text>,
    #[serde(borrow, rename = "do")]
    operation: Option<&'a RawValue>,
    #[serde(default)]
    delete: bool,
    context: Option<String>,
    /// Seconds, or "keep".
    ttl: Option<Ttl>,
    id: Option<String>,
}

/// A number, or a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ttl {
    Seconds(u64),
    Word(String),
}

fn default_bucket() -> Text {
    Text("default".into())
}

/// How an operation's answer is shown.
enum Shape {
    RawGet,
    RawWrite,
    Get(Kind),
    Update(Kind),
    Delete(Kind),
}

/// Does the operations, and answers each in its place.
pub(crate) async fn post(
    State(gateway): Shared,
    mut parameters: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let batch: Batch<'_> = serde_json::from_slice(&body).map_err(|error| {
        refused(&format!(
            "{error}; send {{\"operations\": [{{\"kind\": \"counters\", \"key\": \"visits\", \"do\": \
             {{\"add\": 5}}}}, …]}}; nothing was done"
        ))
    })?;
    let count = batch.operations.len();
    if !(1..=OPERATIONS_MAX).contains(&count) {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "batch-size",
            "The batch has too many operations, or none",
            format!(
                "{count} operations; a batch has 1 to {OPERATIONS_MAX}: send several; nothing was done"
            ),
        ));
    }
    let (mut requests, mut shapes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (index, item) in batch.operations.into_iter().enumerate() {
        let (request, shape) = read(item, asked).map_err(|problem| {
            let detail = format!("operation {index}: {}; nothing was done", problem.detail());
            refused(&detail).member("operation", index.into())
        })?;
        requests.push(request);
        shapes.push(shape);
    }
    let keys: Vec<(Key, bool, bool)> = requests
        .iter()
        .map(|request| {
            let is_read = matches!(request.action, Action::Get(_));
            (request.key.clone(), request.name.is_some(), is_read)
        })
        .collect();
    let outcomes = gateway.datastore.execute(requests).await;
    let mut results = Vec::with_capacity(count);
    let mut outcomes = outcomes.into_iter();
    for ((key, is_named, is_read), shape) in keys.iter().zip(shapes) {
        let lost = || Err(RequestError::Disconnected("no answer came".into()));
        let answer = outcomes.next().unwrap_or_else(lost).map_err(|error| match error {
            RequestError::Disconnected(_) if *is_read => Problem::of_read(error),
            error => Problem::of_request(error, key, *is_named),
        });
        let shown = match answer {
            Ok(answer) => shown(&gateway, shape, key, &answer).await,
            Err(problem) => Err(problem),
        };
        results.push(result(shown.into_response()).await);
    }
    Ok(json_response(StatusCode::OK, &json!({ "results": results })))
}

fn read(item: Item<'_>, asked: Asked) -> Result<(Request, Shape), Problem> {
    let key = Key::new(item.bucket.0, item.key.0).map_err(|error| refused(&error.to_string()))?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == item.kind);
    if kind.is_none() && item.kind != "keys" {
        let words = Kind::ALL.map(Kind::word).join(", ");
        return Err(refused(&format!("no kind {:?}; use keys, {words}", item.kind)));
    }
    let count = [item.get, item.put.is_some(), item.operation.is_some(), item.delete]
        .into_iter()
        .filter(|is_given| *is_given)
        .count();
    if count != 1 {
        return Err(refused("give one of \"get\": true, \"put\", \"do\" and \"delete\": true"));
    }
    let (action, shape) = match (kind, item.put, item.operation) {
        (None, Some(Text(value)), _) => {
            (Action::Update(Operation::Bytes(BytesOp::Put(value))), Shape::RawWrite)
        }
        (Some(_), Some(_), _) => {
            return Err(refused("only kind keys is put; others are changed with \"do\""));
        }
        (Some(kind), None, Some(operation)) => {
            let operation = typed::parse(kind, operation.get().as_bytes())?;
            (Action::Update(operation), Shape::Update(kind))
        }
        (None, None, Some(_)) => {
            return Err(refused("kind keys is put, read and deleted; it has no \"do\""));
        }
        (None, None, None) if item.get => (Action::Get(values::Scope::Headers), Shape::RawGet),
        (None, None, None) => {
            if item.context.is_none() {
                return Err(refused("a delete of kind keys needs the context of a get"));
            }
            (Action::Update(Operation::Bytes(BytesOp::Delete)), Shape::RawWrite)
        }
        (Some(kind), None, None) if item.get => {
            (Action::Get(Part::of_batch(kind).scope(kind.tag())), Shape::Get(kind))
        }
        (Some(kind), None, None) => {
            (Action::Update(Operation::Delete(Some(kind.tag()))), Shape::Delete(kind))
        }
    };
    let name = match item.id {
        Some(_) if item.get => return Err(refused("an id is for what writes")),
        Some(id) => {
            let name = RequestName::parse(id.as_bytes());
            name.check().map_err(|error| refused(&error.to_string()))?;
            Some(name)
        }
        None => None,
    };
    let lifetime = match item.ttl {
        None => Lifetime::Usual,
        Some(_) if item.delete || matches!(shape, Shape::RawGet | Shape::Get(_)) => {
            return Err(refused("a ttl is for what adds"));
        }
        Some(Ttl::Word(word)) => lifetime(&word).map_err(|why| refused(&why))?,
        Some(Ttl::Seconds(seconds)) => {
            lifetime(&seconds.to_string()).map_err(|why| refused(&why))?
        }
    };
    let request = Request {
        key,
        action,
        context: item.context.map(ContextToken::from),
        name,
        lifetime,
        level: asked.level,
        timeout_ms: asked.timeout_ms,
        want_context: true,
    };
    Ok((request, shape))
}

async fn shown(
    gateway: &Gateway,
    shape: Shape,
    key: &Key,
    answer: &Answer,
) -> Result<Response, Problem> {
    match shape {
        Shape::RawGet => raw::shown_json(gateway, key, answer).await,
        Shape::RawWrite => Ok(raw::written(answer, answer.raw_tag())),
        Shape::Get(kind) => typed::shown_part(kind, &Part::of_batch(kind), key, answer),
        Shape::Update(kind) => Ok(typed::updated(kind, key, answer)),
        Shape::Delete(kind) => Ok(raw::written(answer, kind.tag())),
    }
}

/// A response as a member of the batch's: its status, the headers that carry causality and figures,
/// and its document.
async fn result(response: Response) -> Value {
    let mut members = Map::new();
    members.insert("status".into(), response.status().as_u16().into());
    for (name, member) in [(CONTEXT, "context"), (ACKS, "acks"), (REPEATED, "repeated")] {
        if let Some(value) = response.headers().get(&name).and_then(|value| value.to_str().ok()) {
            members.insert(member.into(), value.into());
        }
    }
    // It is made of bytes that are all there.
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
    if let Ok(document) = serde_json::from_slice::<Value>(&body) {
        members.insert("body".into(), document);
    }
    Value::Object(members)
}

fn refused(detail: &str) -> Problem {
    Problem::bad_request("bad-batch", "The batch is not possible", detail)
}
