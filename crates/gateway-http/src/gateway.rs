//! What every handler shares: the facade, the names of nodes, the metrics, the options.

use std::io::{self, Write as _};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::Datastore;
use clock::ContextToken;
use replication::{Action, Answer, Request, RequestError, RequestName};
use serde_json::Value;
use tokio::time::timeout;
use values::{Key, Operation, Scope};

use crate::headers::{name, presented};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::options::HttpOptions;
use crate::parameters::Asked;
use crate::problem::Problem;

/// The state of the router.
pub(crate) struct Gateway {
    pub(crate) datastore: Arc<dyn Datastore>,
    pub(crate) options: HttpOptions,
    pub(crate) metrics: Metrics,
    pub(crate) names: Names,
}

/// Handlers get it from axum so.
pub(crate) type Shared = axum::extract::State<Arc<Gateway>>;

impl Gateway {
    pub(crate) fn new(datastore: Arc<dyn Datastore>, options: HttpOptions) -> Self {
        Self { datastore, options, metrics: Metrics::default(), names: Names::default() }
    }

    /// Reads `key`.
    pub(crate) async fn read(
        &self,
        key: &Key,
        scope: Scope,
        asked: Asked,
    ) -> Result<Answer, Problem> {
        self.ask(key, Action::Get(scope), asked, None, None).await
    }

    /// Updates `key`, with the context and under the name that the headers carry.
    pub(crate) async fn update(
        &self,
        key: &Key,
        operation: Operation,
        asked: Asked,
        headers: &HeaderMap,
    ) -> Result<Answer, Problem> {
        let (context, name) = (presented(headers)?, name(headers)?);
        self.ask(key, Action::Update(operation), asked, context, name).await
    }

    /// What was read, as a JSON document, unless its text is too long.
    pub(crate) fn answer(&self, status: StatusCode, document: &Value) -> Response {
        let limit = self.options.answer_bytes_max;
        match json_text(document, limit) {
            Some(text) => json_of(status, text),
            None => Problem::long_answer(limit).into_response(),
        }
    }

    /// Does one request on `key`.
    pub(crate) async fn ask(
        &self,
        key: &Key,
        action: Action,
        asked: Asked,
        context: Option<ContextToken>,
        name: Option<RequestName>,
    ) -> Result<Answer, Problem> {
        let is_named = name.is_some();
        let request = Request {
            key: key.clone(),
            action,
            context,
            name,
            lifetime: asked.lifetime,
            level: asked.level,
            timeout_ms: asked.timeout_ms,
            want_context: true,
        };
        let is_read = matches!(request.action, Action::Get(_));
        let answer = self.datastore.request(request).await;
        answer.map_err(|error| match error {
            RequestError::Disconnected(_) if is_read => Problem::of_read(error),
            error => Problem::of_request(error, key, is_named),
        })
    }
}

/// A request's body, whole and within the limits of length and time.
pub(crate) struct Body(pub(crate) Bytes);

impl FromRequest<Arc<Gateway>> for Body {
    type Rejection = Problem;

    async fn from_request(
        request: HttpRequest<axum::body::Body>,
        gateway: &Arc<Gateway>,
    ) -> Result<Self, Problem> {
        let limit = gateway.options.body_bytes_max;
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_long(limit));
        }
        // The limit itself is a layer of the router.
        let time = gateway.options.body_limit;
        let Ok(read) = timeout(time, Bytes::from_request(request, gateway)).await else {
            return Err(Problem::slow_body(time));
        };
        match read {
            Ok(bytes) => Ok(Self(bytes)),
            Err(BytesRejection::FailedToBufferBody(error))
                if error.status() == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                Err(too_long(limit))
            }
            Err(error) => Err(Problem::bad_request(
                "bad-body",
                "The body could not be read",
                &format!("{error}; send it whole, with its right length"),
            )),
        }
    }
}

fn too_long(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-long",
        "The body is too long",
        format!("a body has at most {limit} bytes; store the value in parts under several keys"),
    )
}

/// A JSON document with a line end, for terminals.
pub(crate) fn json_response(status: StatusCode, document: &Value) -> Response {
    json_of(status, format!("{document}\n").into_bytes())
}

/// `text` as it is, which is JSON.
pub(crate) fn json_of(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The text of `document` with a line end, if it has at most `limit` bytes; no more is made of it.
fn json_text(document: &Value, limit: usize) -> Option<Vec<u8>> {
    let mut text = Bounded { text: Vec::new(), limit };
    serde_json::to_writer(&mut text, document).ok()?;
    text.write_all(b"\n").ok()?;
    Some(text.text)
}

/// Takes `limit` bytes and fails at the next one.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.text.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
