//! Keys in URLs: percent-encoded path segments that stand for any bytes.
//!
//! The path is read before any decoding, so an encoded slash is a byte of the key and bytes that
//! are no UTF-8 are as good as others.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use values::{Key, Tag};

use crate::problem::Problem;
use crate::typed::Kind;

/// The bucket named by a path `/v1/buckets/{bucket}/…`.
pub(crate) struct Bucket(pub(crate) Bytes);

/// The key named by a path `/v1/buckets/{bucket}/{kind}/{key}` or `/v1/explain/{bucket}/{key}`.
pub(crate) struct Target(pub(crate) Key);

impl<S: Sync> FromRequestParts<S> for Bucket {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let bucket = decode(parts.uri.path().split('/').nth(3).unwrap_or_default(), false)?;
        // A bucket is within bounds if a key in it is.
        let key = Key::new(bucket, Bytes::new()).map_err(|error| invalid(&error.to_string()))?;
        Ok(Self(key.bucket().clone()))
    }
}

impl<S: Sync> FromRequestParts<S> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let segments: Vec<&str> = parts.uri.path().split('/').collect();
        let (["", "v1", "buckets", bucket, _, key] | ["", "v1", "explain", bucket, key]) =
            segments[..]
        else {
            return Err(Problem::no_such_path(parts.uri.path()));
        };
        let key = Key::new(decode(bucket, false)?, decode(key, false)?);
        Ok(Self(key.map_err(|error| invalid(&error.to_string()))?))
    }
}

fn invalid(what: &str) -> Problem {
    Problem::bad_request("invalid-key", "The key is not possible", what)
}

/// Decodes percent-encoding; in queries (`plus_is_space`) a plus sign stands for a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Result<Bytes, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let byte = after.first_chunk::<2>().and_then(|digits| {
                    let text = std::str::from_utf8(digits).ok()?;
                    // `from_str_radix` would take a sign.
                    digits[0].is_ascii_hexdigit().then(|| u8::from_str_radix(text, 16).ok())?
                });
                let Some(byte) = byte else {
                    return Err(Problem::bad_request(
                        "bad-encoding",
                        "Bad percent-encoding in the URL",
                        "a percent sign begins two hexadecimal digits; write a percent sign as %25",
                    ));
                };
                bytes.push(byte);
                rest = &after[2..];
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    Ok(bytes.into())
}

/// Percent-encodes all but the unreserved characters of RFC 3986 §2.3.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The URL under which `key` is read as `tag`, if this build knows the type.
pub(crate) fn url_of(key: &Key, tag: Tag) -> Option<String> {
    let (word, query) =
        if tag == Tag::BYTES { ("keys", "?type=bytes") } else { (Kind::of(tag)?.word(), "") };
    Some(format!("/v1/buckets/{}/{word}/{}{query}", encode(key.bucket()), encode(key.key())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_pass_through_percent_encoding_unchanged() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all), false).ok().as_deref(), Some(&all[..]));
        assert_eq!(encode(b"a/b%\xff ~"), "a%2Fb%25%FF%20~");
    }

    #[test]
    fn a_plus_sign_is_a_space_in_queries_only() {
        assert_eq!(decode("a+b%2B", true).ok().as_deref(), Some(&b"a b+"[..]));
        assert_eq!(decode("a+b", false).ok().as_deref(), Some(&b"a+b"[..]));
    }

    #[test]
    fn broken_percent_encoding_is_refused() {
        for text in ["%", "%4", "%zz", "%+1", "a%2", "%é"] {
            assert!(decode(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn every_known_type_has_a_url() {
        let key = Key::new("b", "k/1").expect("within bounds");
        let urls: Vec<String> = Tag::KNOWN.iter().filter_map(|&tag| url_of(&key, tag)).collect();
        assert_eq!(
            urls,
            [
                "/v1/buckets/b/keys/k%2F1?type=bytes",
                "/v1/buckets/b/registers/k%2F1",
                "/v1/buckets/b/gsets/k%2F1",
                "/v1/buckets/b/counters/k%2F1",
                "/v1/buckets/b/sets/k%2F1",
                "/v1/buckets/b/carts/k%2F1",
                "/v1/buckets/b/maps/k%2F1",
            ]
        );
        assert_eq!(url_of(&key, Tag(99)), None);
    }
}
