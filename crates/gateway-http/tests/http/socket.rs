//! Over a real socket: what never reaches a handler because it is no HTTP.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::in_memory;

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, in_memory()).await });
    address
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
