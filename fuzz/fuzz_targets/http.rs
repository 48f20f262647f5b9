//! HTTP requests: `METHOD URI`, headers in lines, an empty line and the body; each answered by a store
//! in memory. Requests are parted by a line of `---`.

#![no_main]

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use gateway_http::{HttpOptions, router};
use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{Checking, bounded, runtime};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

/// Requests of one input.
const REQUESTS_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    bounded(input.len(), || runtime().block_on(serve(input)));
});

async fn serve(input: &[u8]) {
    let (_keep, ready) = watch::channel(true);
    let router = router(Arc::new(Checking::default()), HttpOptions::new(ready));
    let mut rest = input;
    for _ in 0..REQUESTS_MAX {
        let end = rest.windows(5).position(|at| at == b"\n---\n");
        let one = &rest[..end.unwrap_or(rest.len())];
        if let Some(request) = request(one) {
            let about = format!("{} {}", request.method(), request.uri());
            let answer = router.clone().oneshot(request).await.expect("it cannot fail");
            check(&about, answer).await;
        }
        let Some(end) = end else { break };
        rest = &rest[end + 5..];
    }
}

fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match bytes.windows(2).position(|at| at == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|&byte| byte == b' ')?;
    let mut request = Request::new(Body::from(body.to_vec()));
    *request.method_mut() = Method::from_bytes(&first[..space]).ok()?;
    *request.uri_mut() = Uri::try_from(&first[space + 1..]).ok()?;
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// Every failure is a whole problem, and none is the gateway's own.
async fn check(about: &str, answer: Response<Body>) {
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("it is all there");
    let status = head.status.as_u16();
    assert!(matches!(status, 200..=299 | 400..=499 | 501 | 503), "{about}: {status}");
    let kind = head.headers.get("content-type").and_then(|it| it.to_str().ok()).unwrap_or("");
    if kind.ends_with("json") && !body.is_empty() {
        let document: Value = serde_json::from_slice(&body).expect("JSON is JSON");
        if status >= 400 {
            assert_eq!(kind, "application/problem+json", "{about}: {document}");
            assert_eq!(document["status"], status, "{about}: {document}");
            let detail = document["detail"].as_str().unwrap_or("");
            assert!(!detail.is_empty(), "{about}: {document}");
        }
    } else {
        assert!(status < 400 || body.is_empty(), "{about}: {status} without a problem");
    }
}
