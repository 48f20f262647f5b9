//! Errors as problem documents (RFC 9457), each of which says what to do next.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use replication::{Answer, RequestError};
use serde_json::{Map, Value, json};
use storage::StorageError;
use values::{Key, Tag, UpdateError};

use crate::address::url_of;
use crate::headers::describe;

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

    /// Adds a member to the document.
    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    fn retry_later(mut self) -> Self {
        self.0.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
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

    /// Why a request on `key` was not done.
    pub(crate) fn of_request(error: RequestError, key: &Key) -> Self {
        match error {
            RequestError::Update(UpdateError::WrongType(wrong)) => {
                Self::wrong_type(key, wrong.wanted, &wrong.live)
            }
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
            RequestError::Unknown { acked, needed } => Self::new(
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
            RequestError::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "No replica answered in time",
                format!("{said}; try again, or allow more time with timeout_ms"),
            ),
            RequestError::Overloaded | RequestError::Storage(StorageError::Overloaded(_)) => {
                Self::unavailable("overloaded", "The node has too much to do", said)
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
            UpdateError::TooManySiblings(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "too-many-siblings",
                "Too many siblings",
                said,
            ),
            _ => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                "The operation was refused",
                format!("{said}; nothing was written"),
            ),
        }
    }

    #[cfg(test)]
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
        let Parts { status, slug, title, detail, members, headers } = *self.0;
        let mut document = Map::new();
        document.insert("type".into(), format!("urn:merganser:{slug}").into());
        document.insert("title".into(), title.into());
        document.insert("status".into(), status.as_u16().into());
        document.insert("detail".into(), detail.into());
        document.extend(members);
        let mut response = (status, Value::Object(document).to_string()).into_response();
        response.headers_mut().extend(headers);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
