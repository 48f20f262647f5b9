//! The headers that carry causality and figures (`Merganser-Context`, `Merganser-Acks`), and those
//! that make a write safe to send again (`Idempotency-Key`, `Merganser-Repeated`).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use clock::ContextToken;
use replication::{Answer, RequestName};
use values::Tag;

use crate::problem::Problem;

/// Context token of an answer, or presented with a request.
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("merganser-context");
/// Copies that an answer rests on.
pub(crate) const ACKS: HeaderName = HeaderName::from_static("merganser-acks");
/// What the client calls a write, as the IETF's draft "The Idempotency-Key HTTP Header Field" has it.
pub(crate) const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether a write had been done before, under the same name.
pub(crate) const REPEATED: HeaderName = HeaderName::from_static("merganser-repeated");
/// How many milliseconds the key has left, where it ends.
pub(crate) const TTL_MS: HeaderName = HeaderName::from_static("merganser-ttl-ms");
/// How many siblings a put left, where they are more than the soft limit.
pub(crate) const SIBLINGS: HeaderName = HeaderName::from_static("merganser-siblings");

/// The name given to a request: `client:id` or an id alone, bare or as a string in quotes.
pub(crate) fn name(headers: &HeaderMap) -> Result<Option<RequestName>, Problem> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_name("Idempotency-Key is given twice; a request has one"));
    }
    let bytes = value.as_bytes();
    let inner = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let name = RequestName::parse(inner.unwrap_or(bytes));
    name.check().map_err(|error| Problem::bad_name(&error.to_string()))?;
    Ok(Some(name))
}

/// Refuses conditions that would be ignored (RFC 9110, section 13.1: what they rule out must not be
/// done): there is no version of a key that all replicas know, for an entity tag to name.
pub(crate) fn refuse_conditions(headers: &HeaderMap) -> Result<(), Problem> {
    let conditions = [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    let Some(given) = conditions.iter().find(|name| headers.contains_key(*name)) else {
        return Ok(());
    };
    Err(Problem::bad_request(
        "condition-not-supported",
        "Conditional writes are not supported",
        &format!(
            "{given} is not supported; send the Merganser-Context of a get: the write then \
             replaces what that get showed, and nothing else; nothing was done"
        ),
    ))
}

/// The context token presented with a request.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<ContextToken>, Problem> {
    let mut values = headers.get_all(CONTEXT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(ContextToken::from(text.to_owned()))),
        _ => Err(Problem::bad_request(
            "bad-context",
            "The context was refused",
            "Merganser-Context is one token, as it stood in the answer of a get of this key",
        )),
    }
}

/// Puts the context of `tag` and the figures of `answer` into `headers`.
pub(crate) fn describe(headers: &mut HeaderMap, answer: &Answer, tag: Tag) {
    if let Some(token) = answer.contexts.get(&tag)
        && let Ok(value) = HeaderValue::from_str(token.as_str())
    {
        headers.insert(CONTEXT, value);
    }
    if answer.repeated {
        headers.insert(REPEATED, HeaderValue::from_static("true"));
    }
    if let Some(many) = answer.many_siblings {
        let text = format!("{};soft={};hard={}", many.siblings, many.soft, many.hard);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(SIBLINGS, value);
        }
    }
    let now_ms = answer.time.millis();
    if let Some(deadline_ms) = answer.view.deadline_ms(now_ms) {
        headers.insert(TTL_MS, HeaderValue::from(deadline_ms - now_ms));
    }
    let acks = answer.acks;
    let mut text = format!(
        "acked={};needed={};hinted={};owners={}",
        acks.answered, acks.needed, acks.hinted, acks.owners
    );
    if answer.partly_observed {
        text.push_str(";observed=partly");
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(ACKS, value);
    }
}

/// Whether the client lists `media` as acceptable, by its own name.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|listed| listed.eq_ignore_ascii_case(media))
            && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Whether the client wants the bytes themselves: it lists `application/octet-stream` as
/// acceptable and does not list `application/json`.
pub(crate) fn wants_bytes(headers: &HeaderMap) -> bool {
    accepts(headers, "application/octet-stream") && !accepts(headers, "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_those_who_ask_for_them_and_not_for_json() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            wants_bytes(&headers)
        };
        assert!(asks("application/octet-stream"));
        assert!(asks("text/plain, Application/Octet-Stream;q=0.5, */*;q=0.1"));
        assert!(!asks("*/*"));
        assert!(!asks("application/json"));
        assert!(!asks("application/json;q=0.2, application/octet-stream"));
        assert!(!asks("application/octet-stream;q=0"));
        assert!(!wants_bytes(&HeaderMap::new()));
    }
}
