//! Where a request comes from: a web page has its browser send requests to any address that the
//! browser can reach, also to a node on the same machine, and neither a password nor a firewall is
//! in the way.
//!
//! What gives such a request away is what the browser adds to it and a page cannot change: `Origin`
//! and `Sec-Fetch-Site`, and, where the page had its own name resolve to the node (DNS rebinding),
//! that name in `Host`. Programs send neither of the first two, and are served.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Of a request: its connection was accepted on a loopback address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnLoopback;

/// Serves what no foreign web page sent.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let on_loopback = request.extensions().get::<OnLoopback>().is_some();
    match foreign(request.method(), request.headers(), on_loopback) {
        None => next.run(request).await,
        Some(detail) => Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "The request seems to come from a web page",
            format!("{detail}; nothing was done"),
        )
        .into_response(),
    }
}

/// Why a request is taken for that of a web page which is not the gateway's own.
fn foreign(method: &Method, headers: &HeaderMap, on_loopback: bool) -> Option<String> {
    let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    if let Some(host) = host.as_deref().filter(|host| on_loopback && !is_of_this_machine(host)) {
        return Some(format!(
            "Host is {host:?}, but the connection came to a loopback address, where any web page \
             could lead it under a name of its own; use the address itself or localhost, or have \
             a proxy send Host: localhost"
        ));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        if !host.as_deref().is_some_and(|host| is_own(&origin, host)) {
            return Some(format!(
                "Origin is {origin:?}, which is not this gateway; send it from a program, which \
                 gives no Origin, or have a server do so for the page"
            ));
        }
    }
    // To follow a link of another site to what is only read is no harm: the site sees no answer.
    let may_write = !matches!(*method, Method::GET | Method::HEAD);
    let site = headers.get(SEC_FETCH_SITE)?;
    let is_own_site = matches!(site.as_bytes(), b"same-origin" | b"none");
    (may_write && !is_own_site).then(|| {
        "Sec-Fetch-Site says that another site has a browser send this; send it from a program, \
         which gives no such header, or have a server do so for the page"
            .into()
    })
}

/// Whether a page of `origin` came from where `host` leads. Over TLS too, which a proxy may end.
fn is_own(origin: &str, host: &str) -> bool {
    let (of_page, port) = match origin.split_once("://") {
        Some(("http", of_page)) => (of_page, ":80"),
        Some(("https", of_page)) => (of_page, ":443"),
        _ => return false,
    };
    // A browser leaves out the port that the scheme implies; others may write it.
    let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    bare(of_page) == bare(host)
}

/// Whether no stranger can have `host` resolve to where he likes: an IP address needs no resolving;
/// `localhost`, `internal` and names without a dot (those of machines in `/etc/hosts`) are not in
/// the public DNS.
fn is_of_this_machine(host: &str) -> bool {
    if host.starts_with('[') {
        return true;
    }
    let name = host.split(':').next().unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match name.rsplit_once('.') {
        None => true,
        // A name that ends in a number is an IPv4 address however it is written: `127.1`.
        Some((_, last)) => {
            matches!(last, "localhost" | "internal")
                || !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn refused(method: &Method, given: &[(HeaderName, &'static str)], on_loopback: bool) -> bool {
        let given = given.iter().cloned();
        let headers = given.map(|(name, value)| (name, HeaderValue::from_static(value)));
        foreign(method, &headers.collect(), on_loopback).is_some()
    }

    #[test]
    fn only_an_origin_that_is_the_hosts_own_is_served() {
        for (origin, host, is_foreign) in [
            ("http://127.0.0.1:7380", "127.0.0.1:7380", false),
            ("http://Node1.example", "node1.example:80", false),
            ("https://node1.example", "node1.example", false),
            ("https://node1.example", "node1.example:80", true),
            ("http://localhost:3000", "localhost:7380", true),
            ("http://evil.example", "127.0.0.1:7380", true),
            ("http://127.0.0.1:7380.evil.example", "127.0.0.1:7380", true),
            ("file://", "", true),
            ("null", "127.0.0.1:7380", true),
        ] {
            let headers = [(header::ORIGIN, origin), (header::HOST, host)];
            for method in [Method::GET, Method::POST] {
                assert_eq!(refused(&method, &headers, false), is_foreign, "{origin} {host}");
            }
        }
        assert!(refused(&Method::POST, &[(header::ORIGIN, "http://a")], false));
    }

    #[test]
    fn another_sites_browser_may_follow_a_link_but_not_write() {
        for (site, is_foreign) in
            [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)]
        {
            let headers = [(SEC_FETCH_SITE, site), (header::HOST, "localhost")];
            assert_eq!(refused(&Method::POST, &headers, false), is_foreign, "{site}");
            assert!(!refused(&Method::GET, &headers, false), "{site}");
        }
    }

    #[test]
    fn on_loopback_a_name_that_a_stranger_can_lead_there_is_refused() {
        for (host, is_foreign) in [
            ("127.0.0.1:7380", false),
            ("127.1", false),
            ("[::1]:7380", false),
            ("LOCALHOST:7380", false),
            ("node1.localhost", false),
            ("node1:7380", false),
            ("host.docker.internal:7380", false),
            ("evil.example:7380", true),
            ("evil.example.:7380", true),
            ("localhost.evil.example", true),
            ("127.0.0.1.evil.example", true),
        ] {
            for method in [Method::GET, Method::POST] {
                let headers = [(header::HOST, host)];
                assert_eq!(refused(&method, &headers, true), is_foreign, "{host}");
                assert!(!refused(&method, &headers, false), "{host}");
            }
        }
        assert!(!refused(&Method::POST, &[], true));
    }
}
