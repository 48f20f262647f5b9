//! Errors as problem documents (RFC 9457), each of which says what to do next.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use replication::{Answer, BucketError, RequestError};
use serde_json::{Map, Value, json};
use storage::StorageError;
use values::{Key, Tag, UpdateError};

use crate::address::url_of;
use crate::headers::describe;
use crate::parameters::refused;

const MEDIA_TYPE: &str = "application/problem+json";

/// What a client is told when it is not given what it asked for.
#[derive(Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of type `urn:merganser:{slug}`.
    pub(crate) fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let (members, headers) = (Map::new(), HeaderMap::new());
        Self(Box::new(Parts { status, slug, title, detail: detail.into(), members, headers }))
    }

    pub(crate) fn bad_request(slug: &'static str, title: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, slug, title, detail)
    }

    pub(crate) fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-path",
            "Nothing is served here",
            format!("{path} is no address of this gateway; GET / lists those that are"),
        )
    }

    /// The request needs a node that can do more at the moment: try again in a second.
    fn unavailable(slug: &'static str, title: &'static str, detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, title, detail).retry_later()
    }

    /// The node has as many connections as it may have.
    pub(crate) fn too_many_connections() -> Self {
        Self::unavailable(
            "too-many-connections",
            "The node has too many connections",
            "the node has as many connections as its connections_max allows; try again later, use \
             another node, or keep fewer connections open"
                .into(),
        )
    }

    /// A request's body did not come in time.
    pub(crate) fn slow_body(limit: Duration) -> Self {
        let detail = format!(
            "the body did not come within {} seconds; nothing was written; send it faster, or in \
             parts under several keys",
            limit.as_secs_f32()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body came too slowly", detail)
            .header(header::CONNECTION, "close")
    }

    /// What was read makes more text than an answer may have.
    pub(crate) fn long_answer(limit: usize) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "answer-too-long",
            "The answer is too long",
            format!(
                "its JSON would have more than {limit} bytes; ask for less at once, by limit and \
                 after or in a batch of fewer reads, or for the bytes of a value alone (Accept: \
                 application/octet-stream)"
            ),
        )
    }

    /// The idempotency key was refused.
    pub(crate) fn bad_name(detail: &str) -> Self {
        Self::bad_request("bad-idempotency-key", "The idempotency key is not possible", detail)
    }

    /// The key holds something, but not (only) what was asked for: lists every type with the URL
    /// that reads it.
    pub(crate) fn conflict(
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        key: &Key,
        live: &[Tag],
    ) -> Self {
        Self::new(StatusCode::CONFLICT, slug, title, detail)
            .member("types", types_with_urls(key, live))
    }

    /// The key is of other types than the one asked for.
    pub(crate) fn wrong_type(key: &Key, wanted: Tag, live: &[Tag]) -> Self {
        let names: Vec<String> = live.iter().map(ToString::to_string).collect();
        let urls: Vec<String> = live.iter().filter_map(|&tag| url_of(key, tag)).collect();
        let detail = format!(
            "wanted {wanted}, but the key holds {}; use {}",
            names.join(" and "),
            if urls.is_empty() { "a newer gateway".to_owned() } else { urls.join(" or ") },
        );
        Self::conflict("wrong-type", "The key is of another type", detail, key, live)
    }

    /// A bucket cannot be used, or not be changed so.
    fn of_bucket(error: &BucketError) -> Self {
        let said = error.to_string();
        let (status, slug, title) = match error {
            BucketError::Dropped { .. } => {
                (StatusCode::NOT_FOUND, "bucket-dropped", "The bucket was dropped")
            }
            BucketError::NotCreated { .. } => {
                (StatusCode::NOT_FOUND, "bucket-not-created", "The bucket was not created")
            }
            BucketError::Exists { .. } => {
                (StatusCode::CONFLICT, "bucket-exists", "The bucket exists already")
            }
            BucketError::HoldsData { .. } => {
                (StatusCode::CONFLICT, "bucket-holds-data", "The bucket holds data")
            }
            BucketError::CannotTell { .. } => {
                return Self::unavailable(
                    "bucket-unknown",
                    "Not every member could be asked",
                    said,
                );
            }
            BucketError::Damaged { .. } => {
                return Self::unavailable("bucket-damaged", "The bucket's record is damaged", said);
            }
            BucketError::Policy(_) => {
                return Self::bad_request("bad-policy", "The policy is not possible", &said);
            }
            _ => (StatusCode::CONFLICT, "too-many-buckets", "There are too many buckets"),
        };
        Self::new(status, slug, title, said)
    }

    /// Adds a member to the document.
    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    fn retry_later(self) -> Self {
        self.header(header::RETRY_AFTER, "1")
    }

    fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Adds the headers of `answer`, and its context for `tag` as a member.
    pub(crate) fn with_answer(mut self, answer: &Answer, tag: Tag) -> Self {
        describe(&mut self.0.headers, answer, tag);
        match answer.contexts.get(&tag) {
            Some(token) => self.member("context", token.as_str().into()),
            None => self,
        }
    }

    /// Why a request on `key` was not done. One with a name (`is_named`) may be sent again.
    pub(crate) fn of_request(error: RequestError, key: &Key, is_named: bool) -> Self {
        match error {
            RequestError::Unknown { .. } | RequestError::Disconnected(_) if is_named => {
                let said = error.to_string();
                let mut problem = Self::of(error);
                problem.0.detail =
                    format!("{said}; send it again under the same Idempotency-Key, it counts once");
                problem
            }
            RequestError::Update(UpdateError::WrongType(wrong)) => {
                Self::wrong_type(key, wrong.wanted, &wrong.live)
            }
            // Whatever is asked of a key takes the parameter.
            RequestError::Timeout => {
                let mut problem = Self::of(error);
                problem.0.detail.push_str(", or allow more time with timeout_ms");
                problem
            }
            other => Self::of(other),
        }
    }

    /// Why something that only reads was not done: when its connection was lost, nothing was
    /// written of which the outcome could be unknown.
    pub(crate) fn of_read(error: RequestError) -> Self {
        match error {
            RequestError::Disconnected(why) => Self::unavailable(
                "connection-lost",
                "The connection to the node was lost",
                format!("connection lost: {why}; try again"),
            ),
            other => Self::of(other),
        }
    }

    /// Why something was not done.
    pub(crate) fn of(error: RequestError) -> Self {
        let said = error.to_string();
        match error {
            RequestError::Update(error) => Self::of_update(&error),
            RequestError::Level { .. } => {
                Self::bad_request("bad-level", "Not possible in this bucket", &said)
            }
            RequestError::TimeLimit => {
                Self::bad_request("bad-time-limit", "The time limit is not possible", &said)
            }
            RequestError::Key(_) => {
                Self::bad_request("invalid-key", "The key is not possible", &said)
            }
            RequestError::Cursor(_) => refused(said),
            RequestError::Name { .. } => Self::bad_name(&said),
            RequestError::Bucket(error) => Self::of_bucket(&error),
            RequestError::Context(_) => {
                Self::bad_request("bad-context", "The context was refused", &said)
            }
            RequestError::Unavailable { reachable, needed } => Self::unavailable(
                "quorum-unavailable",
                "Too few replicas can be reached",
                format!("{said}; try again, or write with a smaller w"),
            )
            .member("reachable", reachable.into())
            .member("needed", needed.into()),
            RequestError::Unknown { acked, needed, .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "Outcome unknown",
                format!("{said}; read the key before you write it again"),
            )
            .member("acked", acked.into())
            .member("needed", needed.into()),
            RequestError::Disconnected(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "Outcome unknown",
                format!("{said}; read the key before you write it again"),
            ),
            RequestError::Unreachable(_) => {
                Self::unavailable("unreachable", "A node that is needed cannot be reached", said)
            }
            RequestError::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "No replica answered in time",
                format!("{said}; try again"),
            ),
            RequestError::Overloaded | RequestError::Storage(StorageError::Overloaded(_)) => {
                Self::unavailable("overloaded", "The node has too much to do", said)
            }
            RequestError::Storage(StorageError::HintsFull { .. }) => {
                Self::unavailable("hints-full", "Too many hints are kept", said)
            }
            RequestError::Storage(error @ (StorageError::Full | StorageError::ReadOnly(_))) => {
                let detail = format!("{error}; nothing was written here, use another node");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "storage-full",
                    "The node cannot store more",
                    detail,
                )
            }
            RequestError::Storage(StorageError::TooLong { .. }) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "answer-too-long",
                "The answer is too long",
                said,
            ),
            RequestError::Storage(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "storage-failed",
                "The node's storage failed",
                format!("{said}; use another node and look at this one's log"),
            ),
            RequestError::Stopping => Self::unavailable("stopping", "The node is stopping", said),
            RequestError::Unsupported(_) => Self::new(
                StatusCode::NOT_IMPLEMENTED,
                "not-supported",
                "Not possible on this node",
                said,
            ),
            // What a newer core may say.
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The request failed", said),
        }
    }

    fn of_update(error: &UpdateError) -> Self {
        let said = error.to_string();
        match error {
            UpdateError::ValueTooLong { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-long",
                "The value is too long",
                format!("{said}; store it in parts under several keys"),
            ),
            UpdateError::OperationTooLong { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-long",
                "The operation is too long",
                format!("{said}; nothing was written"),
            ),
            UpdateError::TooManySiblings(_) | UpdateError::SiblingsTooLong { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "too-many-siblings",
                "Too many siblings",
                said,
            ),
            UpdateError::NameReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used before",
                format!("{said}; nothing was written"),
            ),
            UpdateError::NotInConflict(_) => Self::new(
                StatusCode::CONFLICT,
                "not-in-conflict",
                "The key is in no conflict of types",
                format!("{said}; nothing was written"),
            ),
            UpdateError::NotHeld { .. } => Self::new(
                StatusCode::CONFLICT,
                "type-not-held",
                "The key does not have the type to keep",
                format!("{said}; nothing was written"),
            ),
            // Not 429: to wait makes no room.
            UpdateError::TooManyNames { .. } => Self::new(
                StatusCode::CONFLICT,
                "too-many-idempotency-keys",
                "The key takes no more idempotency keys",
                format!("{said}; nothing was written"),
            ),
            _ => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                "The operation was refused",
                format!("{said}; nothing was written"),
            ),
        }
    }

    /// The whole answer as it goes over the wire, for connections that are not served.
    pub(crate) fn to_http(&self) -> String {
        let Parts { status, headers, .. } = &*self.0;
        let body = self.document();
        let mut text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\
             connection: close\r\n",
            body.len()
        );
        for (name, value) in headers {
            // Those that this file sets are text.
            let value = String::from_utf8_lossy(value.as_bytes());
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&body);
        text
    }

    /// The document with a line end, for terminals.
    pub(crate) fn document(&self) -> String {
        let Parts { status, slug, title, detail, members, .. } = &*self.0;
        let mut document = Map::new();
        document.insert("type".into(), format!("urn:merganser:{slug}").into());
        document.insert("title".into(), (*title).into());
        document.insert("status".into(), status.as_u16().into());
        document.insert("detail".into(), detail.as_str().into());
        document.extend(members.clone());
        format!("{}\n", Value::Object(document))
    }

    /// What the client is told.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }
}

/// Every type of a key with the URL that reads it as that type.
pub(crate) fn types_with_urls(key: &Key, live: &[Tag]) -> Value {
    live.iter()
        .map(|&tag| match url_of(key, tag) {
            Some(url) => json!({ "type": tag.to_string(), "url": url }),
            None => json!({ "type": tag.to_string() }),
        })
        .collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.document()).into_response();
        response.headers_mut().extend(self.0.headers);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_can_ask_for_more_time_is_told_to() {
        let said = "no replica answered in time; try again";
        assert_eq!(Problem::of_read(RequestError::Timeout).detail(), said);
        let key = Key::new("b", "k").unwrap();
        assert_eq!(
            Problem::of_request(RequestError::Timeout, &key, false).detail(),
            format!("{said}, or allow more time with timeout_ms")
        );
    }
}
