use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    FRAME_BYTES_MAX, FrameStream, MESSAGE_VERSIONS, PEER_FRAME_BYTES_MAX, PeerFrame, read_frame,
    write_frame,
};

const START: Incarnation = Incarnation { generation: 5, nonce: 7 };

fn node(name: &str, id: u64) -> Identity {
    let (cluster, name) = ("ducks".into(), name.into());
    Identity {
        cluster,
        node: NodeId(id),
        name,
        incarnation: START,
        partitions: 64,
        versions: MESSAGE_VERSIONS,
    }
}

fn secret() -> ClusterSecret {
    ClusterSecret::new("quack")
}

type Outcome = (
    Result<(FrameStream<DuplexStream>, Welcome), HandshakeError>,
    Result<(FrameStream<DuplexStream>, Accepted), HandshakeError>,
);

/// Node `us` with `key` dials `b` of cluster "ducks", secret "quack".
async fn dial(us: &Identity, key: &str, wanted: &str) -> Outcome {
    let (near, far) = duplex(8192);
    let (b, theirs, ours) = (node("b", 2), secret(), ClusterSecret::new(key));
    let admission = Admission { us: &b, secret: &theirs };
    let admit = |role: &Role| match role {
        Role::Peer(peer) if peer.name != "a" => Err(Refusal::Busy),
        _ => Ok(()),
    };
    tokio::join!(
        connect_peer(near, us, &ours, Purpose::Link, Some(wanted), [1; 32]),
        accept(far, admission, [2; 32], admit),
    )
}

async fn refusal(us: &Identity, key: &str) -> Refusal {
    match dial(us, key, "b").await {
        (Err(HandshakeError::Refused(told)), Err(HandshakeError::Refusing(said))) => {
            assert_eq!(told, said);
            told
        }
        outcome => panic!("not refused: {outcome:?}"),
    }
}

#[tokio::test]
async fn two_nodes_of_one_cluster_welcome_each_other_and_then_speak_in_large_frames() {
    let (dialled, accepted) = dial(&node("a", 1), "quack", "b").await;
    let ((mut near, welcome), (mut far, accepted)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((welcome.node, welcome.name.as_str(), welcome.incarnation), (NodeId(2), "b", START));
    let a = PeerHello {
        node: NodeId(1),
        name: "a".into(),
        incarnation: START,
        partitions: 64,
        purpose: Purpose::Link,
    };
    assert_eq!(accepted.role, Role::Peer(a));
    for stream in [&near, &far] {
        assert_eq!(stream.codec().max_frame_length(), PEER_FRAME_BYTES_MAX);
    }
    let (sent, read) = tokio::join!(
        write_frame(&mut near, &PeerFrame::Ping(8)),
        read_frame::<PeerFrame, _>(&mut far)
    );
    sent.unwrap();
    assert_eq!(read.unwrap(), PeerFrame::Ping(8));
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused() {
    assert_eq!(refusal(&node("a", 1), "moo").await, Refusal::Secret);
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_even_with_the_secret() {
    let us = Identity { cluster: "geese".into(), ..node("a", 1) };
    assert_eq!(refusal(&us, "quack").await, Refusal::Cluster("ducks".into()));
}

#[tokio::test]
async fn whom_the_acceptor_does_not_want_is_told_why() {
    assert_eq!(refusal(&node("x", 9), "quack").await, Refusal::Busy);
    assert_eq!(refusal(&node("", 9), "quack").await, Refusal::Name);
    assert_eq!(refusal(&node(&"x".repeat(256), 9), "quack").await, Refusal::Name);
}

#[tokio::test]
async fn a_node_whose_ring_is_cut_otherwise_is_refused_and_told_what_to_do() {
    let us = Identity { partitions: 128, ..node("a", 1) };
    assert_eq!(
        refusal(&us, "quack").await.to_string(),
        "the node's cluster has 64 partitions, this node was told 128: start it with `partitions = 64` \
         and an empty data directory"
    );
    // Nobody learns it without the secret.
    assert_eq!(refusal(&us, "moo").await, Refusal::Secret);
}

#[tokio::test]
async fn whoever_answers_is_spoken_to_where_nobody_in_particular_is_wanted() {
    let (near, far) = duplex(8192);
    let (a, b, key) = (node("a", 1), node("b", 2), secret());
    let admission = Admission { us: &b, secret: &key };
    let (dialled, accepted) = tokio::join!(
        connect_peer(near, &a, &key, Purpose::Gossip, None, [1; 32]),
        accept(far, admission, [2; 32], |_| Ok(())),
    );
    assert_eq!(dialled.unwrap().1.name, "b");
    let Role::Peer(hello) = accepted.unwrap().1.role else { panic!("a peer") };
    assert_eq!(hello.purpose, Purpose::Gossip);
}

#[tokio::test]
async fn a_node_of_the_acceptors_own_name_or_id_is_refused() {
    assert_eq!(refusal(&node("b", 2), "quack").await, Refusal::OwnNode);
    assert_eq!(refusal(&node("a", 2), "quack").await, Refusal::OwnNode);
}

#[tokio::test]
async fn another_node_at_the_address_is_not_spoken_to() {
    let (dialled, _) = dial(&node("a", 1), "quack", "c").await;
    let found = dialled.unwrap_err();
    assert!(
        matches!(&found, HandshakeError::OtherNode { found, wanted } if found == "b" && wanted == "c")
    );
}

/// An acceptor that lets anybody in without knowing the secret fools nobody.
#[tokio::test]
async fn an_acceptor_must_prove_the_secret_too() {
    let (near, far) = duplex(8192);
    let impostor = async {
        let mut far = crate::frames(far);
        let _: Hello = read_frame(&mut far).await.unwrap();
        write_frame(&mut far, &Challenge { nonce: [9; 32] }).await.unwrap();
        let proof: Proof = read_frame(&mut far).await.unwrap();
        let welcome = Welcome {
            version: MESSAGE_VERSIONS.max,
            features: 0,
            cluster: "ducks".into(),
            node: NodeId(2),
            name: "b".into(),
            incarnation: START,
        };
        // The initiator's own proof, reflected.
        write_frame(&mut far, &Verdict::Welcome(welcome, proof)).await.unwrap();
    };
    let us = node("a", 1);
    let key = secret();
    let (dialled, ()) =
        tokio::join!(connect_peer(near, &us, &key, Purpose::Link, Some("b"), [1; 32]), impostor);
    assert!(matches!(dialled, Err(HandshakeError::Unproven)));
}

#[tokio::test]
async fn a_client_needs_neither_cluster_nor_secret_but_a_wrong_one_is_refused() {
    for (cluster, key, expected) in [
        (None, None, None),
        (Some("ducks"), Some("quack"), None),
        (Some("geese"), None, Some(Refusal::Cluster("ducks".into()))),
        (None, Some("moo"), Some(Refusal::Secret)),
    ] {
        let (near, far) = duplex(8192);
        let (b, theirs) = (node("b", 2), secret());
        let key = key.map(ClusterSecret::new);
        let hello = ClientHello { name: "test".into(), principal: None };
        let (dialled, accepted) = tokio::join!(
            connect_client(near, cluster, hello, key.as_ref(), [1; 32]),
            accept(far, Admission { us: &b, secret: &theirs }, [2; 32], |_| Ok(())),
        );
        let refused = match dialled {
            Ok((near, welcome)) => {
                assert_eq!(welcome.cluster, "ducks");
                // Whoever may connect unproven must not make a node hold more than this.
                let (far, _) = accepted.unwrap();
                for stream in [near, far] {
                    assert_eq!(stream.codec().max_frame_length(), FRAME_BYTES_MAX);
                }
                None
            }
            Err(HandshakeError::Refused(refusal)) => Some(refusal),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(refused, expected);
    }
}

#[tokio::test]
async fn builds_of_neighbouring_versions_speak_the_highest_that_both_do() {
    let spoken = |min, max| Versions { min, max };
    for (ours, theirs, common) in [
        (spoken(8, 8), spoken(8, 9), 8),
        (spoken(8, 9), spoken(8, 8), 8),
        (spoken(8, 9), spoken(9, 10), 9),
        (spoken(8, 9), spoken(8, 9), 9),
    ] {
        let (near, far) = duplex(8192);
        let a = Identity { versions: ours, ..node("a", 1) };
        let b = Identity { versions: theirs, ..node("b", 2) };
        let key = secret();
        let admission = Admission { us: &b, secret: &key };
        let (dialled, accepted) = tokio::join!(
            connect_peer(near, &a, &key, Purpose::Link, Some("b"), [1; 32]),
            accept(far, admission, [2; 32], |_| Ok(()))
        );
        assert_eq!(dialled.unwrap().1.version, common, "{ours:?} dials {theirs:?}");
        assert_eq!(accepted.unwrap().1.version, common, "{ours:?} dials {theirs:?}");
    }
}

#[tokio::test]
async fn versions_that_are_not_spoken_are_refused() {
    // Those before, and those to come.
    let spoken = MESSAGE_VERSIONS;
    let before = Versions { min: 1, max: spoken.min - 1 };
    let to_come = Versions { min: spoken.max + 1, max: spoken.max + 2 };
    for versions in [before, to_come] {
        let (near, far) = duplex(8192);
        let (b, theirs) = (node("b", 2), secret());
        let other = async {
            let mut near = crate::frames(near);
            let hello = Hello {
                magic: MAGIC,
                versions,
                features: u64::MAX,
                cluster: None,
                role: Role::Client(ClientHello::default()),
                nonce: [0; 32],
            };
            write_frame(&mut near, &hello).await.unwrap();
            let _: Challenge = read_frame(&mut near).await.unwrap();
            write_frame(&mut near, &Proof { mac: None }).await.unwrap();
            read_frame::<Verdict, _>(&mut near).await.unwrap()
        };
        let admission = Admission { us: &b, secret: &theirs };
        let (verdict, accepted) = tokio::join!(other, accept(far, admission, [2; 32], |_| Ok(())));
        let refusal = Refusal::Version(spoken);
        assert_eq!(verdict, Verdict::Refused(refusal.clone()));
        assert!(matches!(accepted, Err(HandshakeError::Refusing(said)) if said == refusal));
    }
}

/// On a real socket: what is no handshake gets a closed connection.
#[tokio::test]
async fn garbage_on_a_socket_closes_the_connection() {
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        &[0xff; 64],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 9, 1],
    ];
    for bytes in garbage {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        stranger.shutdown().await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (b, theirs) = (node("b", 2), secret());
        let admission = Admission { us: &b, secret: &theirs };
        let accepted = accept(stream, admission, [2; 32], |_| Ok(())).await;
        assert!(matches!(accepted, Err(HandshakeError::Frame(_))), "{bytes:?}");
        let mut rest = Vec::new();
        // A reset is as good an end as a close.
        if stranger.read_to_end(&mut rest).await.is_ok() {
            assert_eq!(rest, b"");
        }
    }
}

/// Time is tokio's own here, and moves on when nothing else can.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (_silent, far) = duplex(64);
    let (b, theirs) = (node("b", 2), secret());
    let accepted = accept(far, Admission { us: &b, secret: &theirs }, [2; 32], |_| Ok(())).await;
    assert!(matches!(accepted, Err(HandshakeError::Slow)));
}

proptest! {
    #[test]
    fn garbage_never_panics_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        let _ = clock::decode::<Hello>(&versioned);
        let _ = clock::decode::<Challenge>(&versioned);
        let _ = clock::decode::<Proof>(&versioned);
        let _ = clock::decode::<Verdict>(&versioned);
    }
}
