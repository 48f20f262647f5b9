//! Over a real socket: what never reaches a handler because it is no HTTP, or takes too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use client::MemoryDatastore;
use gateway_http::{HttpOptions, connection_refusal, router, serve_connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::in_memory;

/// For what must not happen in a test: longer than any may take.
const NEVER: Duration = Duration::from_secs(600);

async fn serve() -> SocketAddr {
    serve_within(NEVER, NEVER).await.0
}

/// Serves until the returned sender says that it is to stop.
async fn serve_within(head: Duration, body: Duration) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = watch::Sender::new(false);
    // The receiver keeps the last value when the sender is gone.
    let (_, ready) = watch::channel(true);
    let options = HttpOptions { body_limit: body, ..HttpOptions::new(ready) };
    let router = router(Arc::new(MemoryDatastore::new()), options);
    let sender = stop.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_connection(stream, router.clone(), head, sender.subscribe()));
        }
    });
    (address, stop)
}

/// What is said to a client that sends `bytes` and no more, until the connection ends.
async fn wait_for_the_end(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn a_head_that_does_not_become_whole_ends_its_connection() {
    let (address, _stop) = serve_within(Duration::from_millis(1), NEVER).await;
    for head in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: x\r\n"] {
        assert_eq!(wait_for_the_end(address, head).await, "", "{head:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_become_whole_is_answered_with_408_and_writes_nothing() {
    let (address, _stop) = serve_within(NEVER, Duration::from_millis(1)).await;
    let path = "/v1/buckets/b/keys/k HTTP/1.1\r\nhost: x\r\n";
    for body in ["content-length: 9\r\n\r\nsho", "transfer-encoding: chunked\r\n\r\n3\r\nsho"] {
        let said = wait_for_the_end(address, &format!("PUT {path}{body}")).await;
        assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{said}");
        assert!(said.contains("the body did not come within 0.001 seconds; nothing was"), "{said}");
        let read = say(address, format!("GET {path}connection: close\r\n\r\n").as_bytes()).await;
        assert!(read.starts_with("HTTP/1.1 404 "), "{read}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_once_it_has_asked_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    // The end of what the client sends is seen before the answer is there.
    let slow = in_memory().layer(from_fn(async |request: Request, next: Next| {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        next.run(request).await
    }));
    let stopping = watch::Sender::new(false);
    tokio::spawn(serve_connection(stream, slow, NEVER, stopping.subscribe()));
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said:?}");
}

#[tokio::test]
async fn a_stopping_gateway_closes_idle_connections() {
    let (address, stop) = serve_within(NEVER, NEVER).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stop.send_replace(true);
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("ok\n"), "{rest}");
}

#[test]
fn who_finds_no_connection_left_is_told_so_and_when_to_come_back() {
    let said = connection_refusal();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nconnection: close\r\nretry-after: 1",
            body.len()
        )
    );
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["type"], "urn:merganser:too-many-connections");
    assert_eq!(document["status"], 503);
}

/// What the gateway says to `bytes` until it closes the connection, as far as it is text.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may refuse and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

async fn serves(address: SocketAddr) -> bool {
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    say(address, request).await.starts_with("HTTP/1.1 200 OK\r\n")
}

#[tokio::test]
async fn garbage_is_answered_and_closed_and_the_gateway_goes_on() {
    let address = serve().await;
    let long = "x".repeat(1 << 20);
    let header = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n");
    let uri = format!("GET /v1/buckets/b/keys/{} HTTP/1.1\r\nhost: x\r\n\r\n", &long[..70_000]);
    for (bytes, status) in [
        (&b"*1\r\n$4\r\nPING\r\n"[..], "HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "HTTP/1.1 400 "),
        (b"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", "HTTP/1.1 400 "),
        (header.as_bytes(), "HTTP/1.1 431 "),
        (uri.as_bytes(), "HTTP/1.1 414 "),
        // Cut short: there is nobody left to answer.
        (b"GET /livez HT", ""),
        (b"", ""),
    ] {
        let said = say(address, bytes).await;
        assert!(said.starts_with(status), "{:?}… got {said}", &bytes[..bytes.len().min(40)]);
        assert!(serves(address).await);
    }
}

#[tokio::test]
async fn bodies_too_long_malformed_or_cut_short_write_nothing() {
    let address = serve().await;
    let put = "PUT /v1/buckets/b/keys/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let get = "GET /v1/buckets/b/keys/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (rest, status) in [
        // Announced, and refused before it is sent.
        ("content-length: 99999999\r\nexpect: 100-continue\r\n\r\n", "HTTP/1.1 413 "),
        ("content-length: -1\r\n\r\n", "HTTP/1.1 400 "),
        ("content-length: 1\r\ncontent-length: 2\r\n\r\nxx", "HTTP/1.1 400 "),
        ("transfer-encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 "),
        ("content-length: 10\r\n\r\nshort", "HTTP/1.1 400 "),
    ] {
        let said = say(address, format!("{put}{rest}").as_bytes()).await;
        assert!(said.starts_with(status), "{rest}: {said}");
        let read = say(address, get.as_bytes()).await;
        assert!(read.starts_with("HTTP/1.1 404 "), "{rest}: {read}");
    }
    let said = say(address, format!("{put}content-length: 4\r\n\r\nmilk").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 204 "), "{said}");
}

#[tokio::test]
async fn bytes_beyond_ascii_in_paths_and_headers_are_served_or_refused_but_never_break() {
    let address = serve().await;
    for (head, status) in [
        (&b"GET /v1/buckets/b/keys/\xff\xfe"[..], "HTTP/1.1 400 "),
        ("GET /v1/buckets/b/keys/é".as_bytes(), "HTTP/1.1 404 "),
        (b"GET /v1/buckets/b/keys/%FF%FE", "HTTP/1.1 404 "),
    ] {
        let mut request = head.to_vec();
        request.extend_from_slice(b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let said = say(address, &request).await;
        assert!(said.starts_with(status), "{}: {said}", String::from_utf8_lossy(head));
    }
    let mut request = b"PUT /v1/buckets/b/keys/k HTTP/1.1\r\nhost: x\r\n".to_vec();
    request.extend_from_slice(b"merganser-context: \xff\r\ncontent-length: 0\r\n\r\n");
    let said = say(address, &request).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("bad-context"), "{said}");
}

#[tokio::test]
async fn on_loopback_a_name_that_a_web_page_may_have_led_there_is_refused() {
    let address = serve().await;
    for (host, status) in [
        ("evil.example:7380", "HTTP/1.1 403 "),
        ("127.0.0.1:7380", "HTTP/1.1 404 "),
        ("localhost", "HTTP/1.1 404 "),
    ] {
        let head = format!("GET /v1/buckets/b/keys/k HTTP/1.1\r\nhost: {host}\r\n");
        let said = say(address, format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        assert!(said.starts_with(status), "{host}: {said}");
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_has_not_sent_all_of_its_body() {
    let address = serve().await;
    for (head, status) in [
        ("PUT /v1/buckets/b/keys/k", "HTTP/1.1 413 "),
        ("PUT /nowhere", "HTTP/1.1 404 "),
        ("PUT /v1/batch", "HTTP/1.1 405 "),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{head} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; 8 << 20]).await.unwrap();
        let mut said = String::new();
        // A connection that is reset fails here.
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with(status), "{said}");
    }
}
