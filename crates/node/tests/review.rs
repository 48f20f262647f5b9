//! What a review found: each test states what should hold and does not yet.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use node::{Node, Settings};
use replication::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use values::{BytesOp, Key, Operation};

/// Bytes that a slow link lets pass in a second.
const BYTES_PER_SECOND: usize = 1 << 20;

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A way to `to` that is slow in that direction.
async fn slow(at: SocketAddr, to: SocketAddr) {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(to).await else { return };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                let mut piece = vec![0; 32 << 10];
                while let Ok(length) = from_client.read(&mut piece).await {
                    if length == 0 || to_server.write_all(&piece[..length]).await.is_err() {
                        break;
                    }
                    sleep(Duration::from_secs_f64(length as f64 / BYTES_PER_SECOND as f64)).await;
                }
                drop(to_server);
                back.abort();
            });
        }
    });
}

async fn start(
    name: &str,
    peer: SocketAddr,
    dir: &std::path::Path,
    members: [(&str, SocketAddr); 2],
) -> Node {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let members: BTreeMap<String, String> =
        members.map(|(name, at)| (name.to_owned(), at.to_string())).into();
    let settings = Settings {
        name: Some(name.into()),
        cluster: Some("ducks".into()),
        data: Some(dir.into()),
        secret: Some("a secret long enough for everybody".into()),
        members: Some(members),
        resp: any,
        http: any,
        peer: Some(peer),
        loops: Some(1),
        ..Settings::default()
    };
    Node::start(settings.resolve().unwrap()).await.unwrap()
}

/// The longest value that a bucket takes reaches an owner over a link of 8 Mbit/s.
#[tokio::test]
async fn a_value_of_the_longest_size_gets_through_a_slow_link() {
    let (at_a, at_b, way) = (free(), free(), free());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    slow(way, at_b).await;
    let a = start("a", at_a, dirs[0].path(), [("a", at_a), ("b", way)]).await;
    let b = start("b", at_b, dirs[1].path(), [("a", at_a), ("b", at_b)]).await;
    tokio::time::timeout(Duration::from_secs(20), a.linked()).await.expect("a link");
    let key = Key::new("default", "long").unwrap();
    let put = BytesOp::Put(Bytes::from(vec![7; 8 << 20]));
    let acks = a.datastore().request(Request::update(key, Operation::Bytes(put))).await.unwrap();
    assert_eq!(acks.acks.answered + acks.acks.hinted, 2, "{:?}", acks.acks);
    let deadline = Instant::now() + Duration::from_secs(45);
    let mut ups = 0;
    let mut was_up = true;
    loop {
        let status = a.datastore().status().await.unwrap();
        let b_as_seen = status.members.iter().find(|member| member.name == "b").unwrap();
        ups += u32::from(b_as_seen.connected && !was_up);
        was_up = b_as_seen.connected;
        if b_as_seen.pending == 0 && b.datastore().status().await.unwrap().keys == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "not delivered; the link went down {ups} times");
        sleep(Duration::from_millis(20)).await;
    }
    a.stop().await;
    b.stop().await;
}
