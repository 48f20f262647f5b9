//! Batches: `POST /v1/batch`, several operations in one request.
//!
//! Each is what a request of its own to the address of its kind would be, and is answered by what
//! that would answer. All are read and checked before any is done; then they are done side by
//! side, those on one key in the order given.

use std::fmt;
use std::marker::PhantomData;

use axum::body::{Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use clock::ContextToken;
use replication::{Action, Answer, Request, RequestError, RequestName};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use values::{BytesOp, Key, Lifetime, Operation};

use crate::gateway::{Body, Gateway, Shared, json_of};
use crate::headers::{ACKS, CONTEXT, NAME, REPEATED};
use crate::json::Text;
use crate::parameters::{Asked, IDLE_TTL, Parameters, lifetime};
use crate::problem::Problem;
use crate::typed::{Kind, Part};
use crate::{raw, typed};

/// How an answer begins.
const OPENING: &[u8] = b"{\"results\":[";

/// Most operations of a batch.
pub(crate) const OPERATIONS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    operations: Items<'a>,
}

/// The operations, of which no more are kept than a batch may have.
struct Items<'a> {
    first: Vec<Item<'a>>,
    /// How many there are.
    count: usize,
}

struct ItemsVisitor<'a>(PhantomData<Item<'a>>);

impl<'de: 'a, 'a> Visitor<'de> for ItemsVisitor<'a> {
    type Value = Items<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'a>, A::Error> {
        let mut first = Vec::new();
        while first.len() < OPERATIONS_MAX {
            match list.next_element()? {
                Some(item) => first.push(item),
                None => return Ok(Items { count: first.len(), first }),
            }
        }
        let mut count = first.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Items { first, count })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
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
    Text(values::DEFAULT_BUCKET.into())
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
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    for (header, member) in [(NAME, "id"), (CONTEXT, "context")] {
        // For the whole batch it would have no meaning, and who sends it again relies on one.
        if headers.contains_key(&header) {
            return Err(refused(&format!(
                "{header} is of one operation; give each its own {member:?}; nothing was done"
            )));
        }
    }
    let asked = parameters.asked()?;
    parameters.finish()?;
    let batch: Batch<'_> = serde_json::from_slice(&body).map_err(|error| {
        refused(&format!(
            "{error}; send {{\"operations\": [{{\"kind\": \"counters\", \"key\": \"visits\", \"do\": \
             {{\"add\": 5}}}}, …]}}; nothing was done"
        ))
    })?;
    let Items { first, count } = batch.operations;
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
    for (index, item) in first.into_iter().enumerate() {
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
    let mut text = Vec::from(OPENING);
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
        let limit = gateway.options.answer_bytes_max;
        add(&mut text, shown.into_response(), *is_read, limit).await;
        // Other requests are not to wait for all of a long answer.
        tokio::task::yield_now().await;
    }
    text.extend_from_slice(b"]}\n");
    Ok(json_of(StatusCode::OK, text))
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
        Some(_) if !matches!(&action, Action::Update(operation) if operation.adds()) => {
            return Err(refused(IDLE_TTL));
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
        Shape::Get(kind) => typed::shown_part(gateway, kind, &Part::of_batch(kind), key, answer),
        Shape::Update(kind) => Ok(typed::updated(kind, key, answer)),
        Shape::Delete(kind) => Ok(raw::written(answer, kind.tag())),
    }
}

/// Adds a response to the text of the batch's: its status, the headers that carry causality and
/// figures, and its document, as it is. Where that leads beyond `limit`, a read is refused, and a
/// write, which is done, shows no document.
async fn add(text: &mut Vec<u8>, response: Response, is_read: bool, limit: usize) {
    let (mut head, body) = response.into_parts();
    // It is made of bytes that are all there.
    let mut body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if body.len() > limit.saturating_sub(text.len()) {
        body = Bytes::new();
        if is_read {
            let refused = Problem::long_answer(limit);
            body = refused.document().into();
            head = refused.into_response().into_parts().0;
        }
    }
    let mut separator: &[u8] = if text.len() > OPENING.len() { b",{" } else { b"{" };
    let mut member = |name: &str, value: &[u8]| {
        for piece in [separator, b"\"", name.as_bytes(), b"\":", value] {
            text.extend_from_slice(piece);
        }
        separator = b",";
    };
    let header = |name: HeaderName| {
        let value = head.headers.get(name)?.to_str().ok()?;
        Some(Value::from(value).to_string())
    };
    if let Some(acks) = header(ACKS) {
        member("acks", acks.as_bytes());
    }
    let body = body.trim_ascii_end();
    if !body.is_empty() {
        member("body", body);
    }
    if let Some(context) = header(CONTEXT) {
        member("context", context.as_bytes());
    }
    if head.headers.contains_key(REPEATED) {
        member("repeated", b"true");
    }
    member("status", head.status.as_str().as_bytes());
    text.push(b'}');
}

fn refused(detail: &str) -> Problem {
    Problem::bad_request("bad-batch", "The batch is not possible", detail)
}
