//! As many connections as are configured, on all ports together.

use node::{DevCluster, DevOptions, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::{ClientHello, HandshakeError, Refusal, connect_client};

use crate::support::{ends, eventually};

/// What is answered to `bytes` at `address` until the connection ends.
async fn say(address: std::net::SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    ends("an answer", stream.read_to_string(&mut said)).await.unwrap();
    said
}

#[tokio::test]
async fn clients_beyond_the_bound_are_told_so_on_every_port_and_peers_are_let_in() {
    let settings = Settings { connections_max: Some(1), loops: Some(1), ..Settings::default() };
    let cluster =
        ends("the start", DevCluster::start_configured(DevOptions::default(), &settings)).await;
    let cluster = cluster.unwrap();
    let node = &cluster.nodes()[0];
    let at = node.addresses();
    let datastore = node.datastore();

    // Peers hold a place until they are greeted.
    let holder = eventually("a place", async || {
        let mut stream = TcpStream::connect(at.http).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (&status == b"HTTP/1.1 200").then_some(stream)
    })
    .await;

    assert_eq!(say(at.resp, "PING\r\n").await, "-ERR max number of clients reached\r\n");
    let refused = say(at.http, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    let stream = TcpStream::connect(at.peer).await.unwrap();
    let hello = ClientHello { name: "test".into(), principal: None };
    let refused = connect_client(stream, None, hello, None, [7; 32]).await;
    assert!(matches!(refused, Err(HandshakeError::Refused(Refusal::Busy))), "{refused:?}");

    // The cluster holds together nevertheless.
    ends("cut links", cluster.cut(0, true)).await;
    ends("links", cluster.cut(0, false)).await;

    let counters = datastore.status().await.unwrap().counters;
    let count = |name| counters.iter().find(|(found, _)| found == name).unwrap().1;
    assert!(count("connections_accepted") >= 1);
    assert!(count("connections_refused") >= 3);

    drop(holder);
    eventually("a free place", async || {
        (say(at.resp, "PING\r\n").await == "+PONG\r\n").then_some(())
    })
    .await;
    cluster.stop().await;
}
