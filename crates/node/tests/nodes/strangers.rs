//! The peer port: clients in, strangers out.

use std::net::SocketAddr;

use clock::{ClusterSecret, NodeId};
use membership::Incarnation;
use node::node_id;
use replication::{Request, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use values::{BytesOp, Key, Operation, Scope};
use wire::{
    CallBody, ClientCall, ClientHello, ClientReply, FrameStream, HandshakeError, Identity,
    PeerFrame, Purpose, Refusal, ReplyBody, connect_client, connect_peer, read_frame, write_frame,
};

use crate::ports::free_port;
use crate::support::{add, adding, elements, ends, eventually, members, set_key, three};

async fn client(address: SocketAddr) -> FrameStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let hello = ClientHello { name: "test".into(), principal: None };
    let (stream, welcome) =
        connect_client(stream, Some("dev"), hello, None, [7; 32]).await.unwrap();
    assert_eq!(welcome.cluster, "dev");
    stream
}

#[tokio::test]
async fn pipelined_calls_of_a_native_client_are_answered_under_their_ids_and_done_in_order() {
    let cluster = three().await;
    let mut stream = client(cluster.nodes()[0].addresses().peer).await;
    let calls = 300;
    for id in 0..calls {
        let request = adding("s", &format!("{id:03}"));
        let body = CallBody::Execute(vec![request]);
        write_frame(&mut stream, &ClientCall { id, body }).await.unwrap();
    }
    let mut answered = Vec::new();
    while answered.len() < usize::try_from(calls).unwrap() {
        let reply: ClientReply = ends("a reply", read_frame(&mut stream)).await.unwrap();
        assert!(matches!(&reply.body, ReplyBody::Executed(results) if results[0].is_ok()));
        answered.push(reply.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..calls).collect::<Vec<_>>());
    let body = CallBody::Execute(vec![Request::get(set_key("s"), Scope::Whole)]);
    write_frame(&mut stream, &ClientCall { id: 900, body }).await.unwrap();
    let reply: ClientReply = read_frame(&mut stream).await.unwrap();
    let ReplyBody::Executed(results) = reply.body else { panic!("{reply:?}") };
    assert_eq!(elements(&results[0].as_ref().unwrap().view).len(), 300);
    cluster.stop().await;
}

#[tokio::test]
async fn a_native_client_gets_status_counts_explanations_and_switches_links() {
    let cluster = three().await;
    add(&*cluster.nodes()[0].datastore(), "s", "a").await.unwrap();
    let mut stream = client(cluster.nodes()[2].addresses().peer).await;
    let mut call = async |body| {
        write_frame(&mut stream, &ClientCall { id: 5, body }).await.unwrap();
        let reply: ClientReply = ends("a reply", read_frame(&mut stream)).await.unwrap();
        assert_eq!(reply.id, 5);
        reply.body
    };
    assert_eq!(call(CallBody::Count("default".into())).await, ReplyBody::Count(Ok(1)));
    let ReplyBody::Status(status) = call(CallBody::Status).await else { panic!("a status") };
    assert_eq!(status.unwrap().node, "node3");
    let ReplyBody::Explanation(explained) = call(CallBody::Explain(set_key("s"))).await else {
        panic!("an explanation")
    };
    assert_eq!(explained.unwrap().replicas.len(), 3);
    let links = CallBody::Links { member: "nobody".into(), cut: true };
    let ReplyBody::Links(Err(RequestError::Unsupported(_))) = call(links).await else {
        panic!("there is no such member")
    };
    cluster.stop().await;
}

/// Were all the answers built, they would take a gigabyte.
#[tokio::test]
async fn a_call_that_reads_more_than_a_frame_holds_gets_what_fits_and_errors_for_the_rest() {
    let cluster = three().await;
    let key = Key::new("default", "long").unwrap();
    let put = BytesOp::Put(vec![7; 1 << 20].into());
    let put = Request::update(key.clone(), Operation::Bytes(put));
    cluster.nodes()[0].datastore().request(put).await.unwrap();
    let mut stream = client(cluster.nodes()[0].addresses().peer).await;
    let mut requests = vec![Request::get(key, Scope::Whole); 1_000];
    requests.push(adding("s", "behind"));
    let body = CallBody::Execute(requests);
    write_frame(&mut stream, &ClientCall { id: 1, body }).await.unwrap();
    let reply: ClientReply = ends("a reply", read_frame(&mut stream)).await.unwrap();
    let ReplyBody::Executed(results) = reply.body else { panic!("{reply:?}") };
    let read = results.iter().take_while(|result| result.is_ok()).count();
    assert_eq!(read, 11);
    let expected = "not supported here: answers of more than 12582912 bytes at a time: ask for less \
                    at once";
    assert!(
        results[11..1_000]
            .iter()
            .all(|result| { matches!(result, Err(error) if error.to_string() == expected) })
    );
    // A write behind them is done.
    assert!(results[1_000].is_ok(), "{:?}", results[1_000]);
    assert_eq!(members(&*cluster.nodes()[1].datastore(), "s").await, ["behind"]);
    cluster.stop().await;
}

#[tokio::test]
async fn reads_and_writes_of_a_long_call_are_done_in_order() {
    let cluster = three().await;
    let mut stream = client(cluster.nodes()[0].addresses().peer).await;
    let get = || Request::get(set_key("s"), Scope::Whole);
    let pair = |place: usize| [adding("s", &format!("{place:03}")), get()];
    let body = CallBody::Execute((0..300).flat_map(pair).collect());
    write_frame(&mut stream, &ClientCall { id: 1, body }).await.unwrap();
    let reply: ClientReply = ends("a reply", read_frame(&mut stream)).await.unwrap();
    let ReplyBody::Executed(results) = reply.body else { panic!("{reply:?}") };
    let seen = results.chunks(2).map(|pair| elements(&pair[1].as_ref().unwrap().view).len());
    assert_eq!(seen.collect::<Vec<_>>(), (1..=300).collect::<Vec<_>>());
    cluster.stop().await;
}

/// What a peer that calls itself `name` of `cluster` and knows `secret` is told.
async fn dial(address: SocketAddr, cluster: &str, name: &str, secret: &str) -> Refusal {
    let stream = TcpStream::connect(address).await.unwrap();
    let us = Identity {
        cluster: cluster.into(),
        node: node_id(cluster, name),
        name: name.into(),
        incarnation: Incarnation { generation: 9, nonce: 9 },
        partitions: 4096,
        versions: wire::MESSAGE_VERSIONS,
    };
    let secret = ClusterSecret::new(secret);
    match connect_peer(stream, &us, &secret, Purpose::Link, Some("node1"), [3; 32]).await {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn nodes_of_other_clusters_and_without_the_secret_are_refused() {
    let cluster = three().await;
    let address = cluster.nodes()[0].addresses().peer;
    assert_eq!(dial(address, "geese", "node2", "x").await, Refusal::Cluster("dev".into()));
    assert_eq!(dial(address, "dev", "node2", "not the secret").await, Refusal::Secret);
    assert_eq!(dial(address, "dev", "node1", "not the secret").await, Refusal::Secret);
    cluster.stop().await;
}

#[tokio::test]
async fn garbage_on_any_port_ends_its_connection_and_nothing_else() {
    let cluster = three().await;
    let addresses = cluster.nodes()[0].addresses();
    for address in [addresses.peer, addresses.http, addresses.resp] {
        for garbage in [&[0xff; 4096][..], b"\0\0\0\x03\x01\x02\x03", b"\0\0\x10\0"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The node may close before it has read everything.
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = ends("the connection's end", stream.read_to_end(&mut rest)).await;
        }
    }
    // A client that goes wrong after its handshake.
    let mut stream = client(addresses.peer).await;
    write_frame(&mut stream, &PeerFrame::Ping(1)).await.unwrap();
    write_frame(&mut stream, &vec![0xff_u8; 100]).await.unwrap();
    assert!(ends("the end", read_frame::<ClientReply, _>(&mut stream)).await.is_err());
    add(&*cluster.nodes()[0].datastore(), "s", "a").await.unwrap();
    assert_eq!(members(&*cluster.nodes()[2].datastore(), "s").await, ["a"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_is_restarted_is_linked_again() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let start = async |name: &str, peer| {
        let any = Some("127.0.0.1:0".parse().unwrap());
        let members = [("a".into(), a.to_string()), ("b".into(), b.to_string())];
        let settings = node::Settings {
            name: Some(name.into()),
            data: Some(dir.path().join(name)),
            resp: any,
            http: any,
            peer: Some(peer),
            members: Some(members.map(|(name, at)| (name, at.into())).into()),
            secret: Some("the secret of this test".into()),
            loops: Some(1),
            timeout_ms: Some(30_000),
            cover_ms: Some(20_000),
            ..node::Settings::default()
        };
        node::Node::start(settings.resolve().unwrap()).await.unwrap()
    };
    let first = start("a", a).await;
    let second = start("b", b).await;
    ends("links", async { tokio::join!(first.linked(), second.linked()) }).await;
    second.stop().await;
    let alone = add(&*first.datastore(), "s", "alone").await.unwrap().acks;
    assert_eq!((alone.owners, alone.answered, alone.hinted), (2, 1, 1));
    let second = start("b", b).await;
    ends("links", async { tokio::join!(first.linked(), second.linked()) }).await;
    eventually("the restarted node got what it missed", async || {
        let explained = second.datastore().explain(set_key("s")).await.unwrap();
        let own =
            explained.replicas.into_iter().find(|replica| replica.node == NodeId(second.id().0))?;
        (elements(&own.view.ok()?) == ["alone"]).then_some(())
    })
    .await;
    first.stop().await;
    second.stop().await;
}
