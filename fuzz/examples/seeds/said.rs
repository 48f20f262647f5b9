//! What nodes and clients say: frames, handshakes, gossip, and what a cluster agrees on.

use std::collections::BTreeMap;

use clock::{ClusterSecret, NodeId, RingId, Stamp};
use membership::{
    About, ClusterId, Command, Config, Effect, Event, Gossip, Incarnation, Load, Message as Said,
    Snapshot,
};
use merganser_fuzz::{join_parts, runtime};
use replication::{
    Action, BarrierProgress, BarrierStage, BarrierStanding, BarrierTable, Body, BucketCall,
    BucketPolicy, ConflictsRequest, Message, PolicyFields, PolicyTable, Request, RequestError,
    RequestId, ScanRequest,
};
use ring::{Member, Ownership, Partition, PartitionCount, Ring, Sequence};
use storage::ConflictPage;
use tokio::io::{AsyncReadExt, duplex};
use values::{Key, Scope, View};
use wire::{
    CallBody, ClientCall, ClientHello, ClientReply, ClusterCall, FrameHeader, Identity,
    MESSAGE_VERSIONS, OperationName, PeerFrame, Purpose, Refusal, ReplyBody, Role, Welcome,
    connect_client, connect_peer,
};

use crate::Seeds;
use crate::typed::{WALL_MS, deltas, operations};

const INCARNATION: Incarnation = Incarnation { generation: 3, nonce: 0x81 };

fn key() -> Key {
    Key::new("default", "cart").expect("it is short")
}

fn message(body: Body) -> Message {
    let (id, time) = (RequestId { core: 1, number: 9 }, Stamp::from_millis(WALL_MS));
    Message { id, trace: 0, sequence: Sequence(0), time, budget_ms: 250, body }
}

fn bodies() -> Vec<Body> {
    let (key, made) = (key(), deltas());
    let mut bodies = vec![
        Body::Forward(Request::update(key.clone(), operations()[0].clone())),
        Body::Forwarded(Err(RequestError::TimeLimit)),
        Body::Read { key: key.clone(), scope: Scope::Whole },
        Body::Digest { key: key.clone(), scope: Scope::Headers },
        Body::List {
            first: Partition(0),
            last: Partition(15),
            bucket: key.bucket_id().clone(),
            after: None,
            limit: 10,
        },
        Body::Count {
            bucket: key.bucket_id().clone(),
            partitions: vec![Partition(1), Partition(2)],
            as_owner: true,
        },
        Body::Counted(Ok(3)),
        Body::Conflicts { after: None, limit: 10 },
        Body::ConflictsListed(Ok(ConflictPage::default())),
        Body::Explain { key: key.clone() },
        Body::Stand { partitions: vec![Partition(3), Partition(9)] },
        Body::Policies { digest: 7, entries: policies() },
        Body::Ownership { digest: 7, tenures: Vec::new(), whole: Some(Box::new(ownership())) },
        Body::Draining { core: 0 },
        Body::Hinted(Ok(())),
    ];
    for (_, delta, value) in made.iter().step_by(16) {
        let (key, delta) = (key.clone(), delta.clone());
        let view = View::of(value.clone());
        bodies.push(Body::Shown(Ok(view.clone())));
        bodies.push(Body::Merged(Ok(Some(view))));
        bodies.push(Body::Hint { owner: NodeId(2), key: key.clone(), delta: delta.clone() });
        bodies.push(Body::Merge { key, delta, show: Some(Scope::Headers) });
    }
    bodies
}

fn kind(kind: u8, value: &impl serde::Serialize) -> Vec<u8> {
    let mut seed = vec![kind];
    clock::encode_into(value, &mut seed);
    seed
}

pub(crate) fn wire() -> Seeds {
    let mut seeds = Seeds::new();
    for (at, body) in bodies().into_iter().enumerate() {
        let name = format!("{at:02}-{}", body.name());
        if at % 6 == 0 {
            seeds.insert(format!("{name}-alone"), kind(6, &message(body.clone())));
        }
        let header = FrameHeader {
            version: MESSAGE_VERSIONS.max,
            sender: NodeId(0x0102),
            incarnation: INCARNATION,
            sequence: Sequence(1),
            barrier: Default::default(),
            deadline_ms: 250,
            operation: OperationName::from(body.name()),
            trace: 7,
        };
        seeds.insert(name, kind(0, &PeerFrame::Message(header, message(body))));
    }
    seeds.insert("ping".into(), kind(0, &PeerFrame::Ping(4)));
    let requests: Vec<Request> =
        operations().into_iter().map(|operation| Request::update(key(), operation)).collect();
    let calls = [
        CallBody::Execute(requests[..3].to_vec()),
        CallBody::Scan(ScanRequest { bucket: "default".into(), cursor: None, limit: 10 }),
        CallBody::Conflicts(ConflictsRequest { cursor: None, limit: 10 }),
        CallBody::Buckets(BucketCall::List),
        CallBody::Cluster(ClusterCall::Weigh { member: "b".into(), weight: 3 }),
        CallBody::Status,
    ];
    for (at, body) in calls.into_iter().enumerate() {
        seeds.insert(format!("call-{at}"), kind(1, &ClientCall { id: 5, body }));
    }
    let status = runtime().block_on(client::Datastore::status(&client::MemoryDatastore::new()));
    let replies = [
        ReplyBody::Executed(vec![Err(RequestError::TimeLimit)]),
        ReplyBody::Count(Ok(3)),
        ReplyBody::Status(Box::new(status)),
        ReplyBody::Cluster(Ok(())),
    ];
    for (at, body) in replies.into_iter().enumerate() {
        seeds.insert(format!("reply-{at}"), kind(2, &ClientReply { id: 5, body }));
    }
    let welcome = Welcome {
        version: 1,
        features: 0,
        cluster: "ducks".into(),
        node: NodeId(2),
        name: "b".into(),
        incarnation: INCARNATION,
    };
    seeds.insert("welcome".into(), kind(4, &welcome));
    let refusal = Refusal::Partitions { initiator: 4, acceptor: 64 };
    seeds.insert("refusal".into(), kind(5, &refusal));
    for (at, operation) in operations().into_iter().enumerate().step_by(2) {
        seeds.insert(format!("operation-{at:02}"), kind(7, &operation));
    }
    let mut get = Request::get(key(), Scope::Whole);
    get.want_context = true;
    seeds.insert("request-get".into(), kind(8, &get));
    for (at, request) in requests.into_iter().enumerate().step_by(9) {
        assert!(matches!(request.action, Action::Update(_)));
        seeds.insert(format!("request-{at:02}"), kind(8, &request));
    }
    for (at, (_, _, value)) in deltas().into_iter().enumerate().step_by(11) {
        seeds.insert(format!("view-{at:02}"), kind(11, &View::of(value)));
    }
    let level = RequestError::Level { what: 'w', asked: 4, n: 3 };
    seeds.insert("error".into(), kind(10, &level));
    seeds
}

pub(crate) fn handshakes() -> Seeds {
    let secret = ClusterSecret::new("quack");
    let us = Identity {
        cluster: "ducks".into(),
        node: NodeId(1),
        name: "a".into(),
        incarnation: INCARNATION,
        partitions: 64,
        versions: MESSAGE_VERSIONS,
    };
    let said = |is_peer: bool| -> Vec<u8> {
        runtime().block_on(async {
            let (near, mut far) = duplex(8_192);
            let mut bytes = Vec::new();
            let listen = async {
                // The hello alone: nobody answers it.
                let length = far.read_u32().await.expect("it says something");
                bytes.extend_from_slice(&length.to_be_bytes());
                let mut frame = vec![0; length as usize];
                far.read_exact(&mut frame).await.expect("it says all of it");
                bytes.extend_from_slice(&frame);
                drop(far);
            };
            if is_peer {
                let dial = connect_peer(near, &us, &secret, Purpose::Link, Some("b"), [1; 32]);
                let _ = tokio::join!(dial, listen);
            } else {
                let client = ClientHello { name: "fuzz".into(), principal: None };
                let dial = connect_client(near, Some("ducks"), client, None, [1; 32]);
                let _ = tokio::join!(dial, listen);
            }
            bytes
        })
    };
    let framed = |value: Vec<u8>| {
        [&u32::try_from(value.len()).expect("it is short").to_be_bytes()[..], &value].concat()
    };
    let mut seeds = Seeds::new();
    for (name, is_peer) in [("peer", true), ("client", false)] {
        let hello = said(is_peer);
        let parsed: wire::Hello = clock::decode(&hello[4..]).expect("it is a hello");
        assert_eq!(matches!(parsed.role, Role::Peer(_)), is_peer);
        // No proof, and then a call.
        let call = ClientCall { id: 1, body: CallBody::Status };
        let proof = framed(clock::encode(&None::<[u8; 32]>));
        let more = [hello.clone(), proof, framed(clock::encode(&call))].concat();
        seeds.insert(format!("{name}-hello"), hello);
        seeds.insert(format!("{name}-and-call"), more);
    }
    seeds
}

/// All that two nodes say to one another when one joins the other.
pub(crate) fn gossip() -> Seeds {
    let (own, peer) = (NodeId(1 << 60), NodeId(1 << 61));
    let start = |node: NodeId, name: &str, bootstrap| {
        let address = format!("{name}:1");
        let mut config = Config::new(node, "ducks", About::new(name, address), node.0);
        config.bootstrap = bootstrap;
        config.seeds = vec!["own:1".into(), "peer:1".into()];
        Gossip::new(config, None, 0).expect("a good configuration")
    };
    let mut nodes = BTreeMap::from([
        (own, start(own, "own", Some(ClusterId(7)))),
        (peer, start(peer, "peer", None)),
    ]);
    let (mut said, mut kept): (Vec<Said>, Vec<Snapshot>) = (Vec::new(), Vec::new());
    let mut queue: Vec<(NodeId, Event)> = Vec::new();
    for round in 0..8_u64 {
        let now_ms = round * 1_000;
        queue.extend([own, peer].map(|node| (node, Event::Tick { random: round })));
        if round == 6 {
            let load = Load { stored_bytes: 1 << 30, requests_per_second: 500 };
            let gossip = nodes.get_mut(&peer).expect("it is there");
            let _ = gossip.command(now_ms, Command::Busy(load), &mut Vec::new());
        }
        while let Some((node, event)) = queue.pop() {
            let mut effects = Vec::new();
            nodes.get_mut(&node).expect("it is there").step(now_ms, event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Persist(snapshot) => kept.push(*snapshot),
                    Effect::Send { message, .. } => {
                        if node == peer {
                            said.push(message.clone());
                        }
                        let to = if node == own { peer } else { own };
                        queue.push((to, Event::Received { from: node, message }));
                    }
                    _ => (),
                }
            }
        }
    }
    let mut seeds = Seeds::new();
    for (at, two) in said.windows(2).enumerate().take(16) {
        let two: Vec<Vec<u8>> = two.iter().map(clock::encode).collect();
        seeds.insert(format!("{at:02}-said"), join_parts(&[&[], &two[0], &two[1]]));
    }
    let first = said.first().map(clock::encode).unwrap_or_default();
    for (at, snapshot) in kept.iter().enumerate().take(6) {
        let parts = [&clock::encode(snapshot)[..], &first, &[]];
        seeds.insert(format!("{at:02}-kept"), join_parts(&parts));
    }
    seeds
}

fn ring(members: u64, before: Option<&Ring>) -> Ring {
    let members: Vec<Member> = (1..=members).map(|id| Member::new(NodeId(id))).collect();
    let count = PartitionCount::new(8).expect("a power of two");
    Ring::place(&members, count, 3, before).expect("there are members").ring
}

fn ownership() -> Ownership {
    let mut ownership = Ownership::new(ring(3, None));
    let more: Vec<Member> = (1..=4).map(|id| Member::new(NodeId(id))).collect();
    let plan = ownership.commit(&more, 3, &[]).expect("one plan is no crowd");
    ownership.add_plan(plan);
    ownership
}

fn policies() -> PolicyTable {
    let mut table = PolicyTable::default();
    for (name, stamp) in [("carts", 5), ("users", 6)] {
        let call = BucketCall::Create { name: name.into(), fields: PolicyFields::default() };
        let at = (Stamp::from_millis(stamp), NodeId(1));
        if let Ok(change) = table.change(&call, BucketPolicy::default(), at) {
            table.join(&change);
        }
    }
    table
}

pub(crate) fn cluster() -> Seeds {
    let two = |kind: u8, one: Vec<u8>, other: Vec<u8>| {
        let mut seed = vec![kind];
        seed.extend(join_parts(&[&one, &other]));
        seed
    };
    let first = ring(3, None);
    let second = ring(5, Some(&first));
    let begun = Ownership::new(first.clone());
    let barrier = |round, stage| {
        let standing = |life| {
            let progress = BarrierProgress { round, stage };
            BarrierStanding { life, progress }
        };
        let standings = [(NodeId(1), standing(0)), (NodeId(2), standing(1))].into();
        BarrierTable { standings, ring: RingId(7) }
    };
    let (entered, hidden) = (barrier(2, BarrierStage::Entered), barrier(1, BarrierStage::Hidden));
    let standing = clock::encode(&entered.standings[&NodeId(2)]);
    Seeds::from([
        ("rings".into(), two(0, clock::encode(&first), clock::encode(&second))),
        ("owners".into(), two(1, clock::encode(&begun), clock::encode(&ownership()))),
        ("barriers".into(), two(2, clock::encode(&entered), clock::encode(&hidden))),
        ("standing".into(), two(2, standing, clock::encode(&hidden))),
        (
            "policies".into(),
            two(3, clock::encode(&policies()), clock::encode(&PolicyTable::default())),
        ),
    ])
}
