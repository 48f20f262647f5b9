//! Links that are slower than values are long.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use node::{Node, Settings};
use replication::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use values::{BytesOp, Key, Operation};

use crate::ports::free_port;
use crate::support::{ends, eventually};

/// Bytes that a slow link lets pass in a second.
const BYTES_PER_SECOND: usize = 1 << 20;
/// Takes longer than the silence after which a link is down, and than four pings.
const LONG: usize = 3 << 20;

fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// A way to `to` that is slow in that direction.
async fn slow(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, to));
        }
    });
    at
}

async fn pass(client: TcpStream, to: SocketAddr) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut piece = vec![0; 32 << 10];
        while let Ok(length) = from_client.read(&mut piece).await {
            if length == 0 || to_server.write_all(&piece[..length]).await.is_err() {
                break;
            }
            // What the link is: the condition that the test waits for does not depend on it.
            sleep(
                Duration::from_secs(1) * u32::try_from(length).unwrap() / BYTES_PER_SECOND as u32,
            )
            .await;
        }
    };
    tokio::select! {
        () = there => (),
        _ = tokio::io::copy(&mut from_server, &mut to_client) => (),
    }
}

async fn start(name: &str, peer: SocketAddr, dir: &Path, members: [(&str, SocketAddr); 2]) -> Node {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let settings = Settings {
        name: Some(name.into()),
        data: Some(dir.into()),
        secret: Some("the secret of this test".into()),
        members: Some(members.map(|(name, at)| (name.to_owned(), at.to_string().into())).into()),
        resp: any,
        http: any,
        peer: Some(peer),
        loops: Some(1),
        timeout_ms: Some(30_000),
        ..Settings::default()
    };
    Node::start(settings.resolve().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_value_that_takes_a_slow_link_longer_than_a_silence_gets_through() {
    let (at_a, at_b) = (free(), free());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let way = slow(at_b).await;
    let a = start("a", at_a, dirs[0].path(), [("a", at_a), ("b", way)]).await;
    let b = start("b", at_b, dirs[1].path(), [("a", at_a), ("b", way)]).await;
    ends("links", async { tokio::join!(a.linked(), b.linked()) }).await;
    let key = Key::new("default", "long").unwrap();
    let put = BytesOp::Put(Bytes::from(vec![7; LONG]));
    let acks = a.datastore().request(Request::update(key, Operation::Bytes(put))).await.unwrap();
    assert_eq!(acks.acks.answered + acks.acks.hinted, 2, "{:?}", acks.acks);
    eventually("the value is at its other owner, and the outbox empty", async || {
        let status = a.datastore().status().await.unwrap();
        let b_as_seen = status.members.iter().find(|member| member.name == "b").unwrap();
        let keys = b.datastore().status().await.unwrap().keys;
        (b_as_seen.pending == 0 && keys == 1).then_some(())
    })
    .await;
    a.stop().await;
    b.stop().await;
}
