//! Virtual time: what takes seconds here takes none.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::{ClusterSecret, Stamp};
use membership::Incarnation;
use replication::{
    Barrier, BarrierProgress, BarrierStage, BarrierStamp, BarrierStanding, BarrierTable, Body,
    Request, RequestId,
};
use ring::{Ownership, Ring, Sequence};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use values::{BytesOp, Key, Operation};
use wire::{FrameHeader, Identity, MESSAGE_VERSIONS, OperationName, append_frame};

use super::*;
use crate::backups::Backups;
use crate::barrier_view::BarrierView;
use crate::config::Settings;
use crate::descriptors::Bounds;
use crate::drain::Drain;
use crate::endings::Endings;
use crate::health::Health;
use crate::links::{Link, LinkMap};
use crate::members::Members;
use crate::places::Places;
use crate::routing::{LoopHandle, LoopOwners, Routes};
use crate::seats::Seats;
use crate::switchboard::Switch;
use crate::time::NodeClock;

const START: Incarnation = Incarnation { generation: 1, nonce: 1 };

/// How far the node is with the barrier, and its peer, in round 1.
fn at(shared: &Shared, stage: BarrierStage) {
    let progress = BarrierProgress { round: 1, stage };
    let standing = BarrierStanding { life: 0, progress };
    let mut barrier = Barrier::new(shared.config.node(), None);
    barrier.heard(&BarrierTable::from([(shared.config.peers[0].node, standing)]));
    barrier.noted(standing);
    shared.barrier.terms.send_replace(Arc::new(barrier.terms(true)));
}

/// A node with one peer and one loop, whose work comes out here.
fn shared() -> (Shared, mpsc::Receiver<Work>) {
    let settings = Settings {
        data: Some("nowhere".into()),
        secret: Some("the secret of this test".into()),
        members: Some([("b".into(), "127.0.0.1:1".into())].into()),
        loops: Some(1),
        ..Settings::default()
    };
    let config = settings.resolve().unwrap();
    let (work, received) = mpsc::channel(1);
    let (urgent, jobs) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
    let link = |peer: &crate::config::Member| {
        (peer.node, Link::new(peer.node, peer.name.clone(), peer.address.clone()).0)
    };
    let links: LinkMap = config.peers.iter().map(link).collect();
    let view = View {
        incarnation: START,
        admitted: config.peers.iter().map(|peer| (peer.node, START)).collect(),
        states: std::collections::BTreeMap::new(),
        ring: None,
        waiting: None,
    };
    let ring = Ring::new(0, vec![config.node().into()], vec![0]).unwrap();
    let shared = Shared {
        ownership: Arc::new(watch::Sender::new(Arc::new(Ownership::new(ring)))),
        first_identity: Identity {
            cluster: config.cluster.clone(),
            node: config.node(),
            name: config.name.clone(),
            incarnation: START,
            partitions: config.partitions.get(),
            versions: config.messages,
        },
        secret: ClusterSecret::new("the secret of this test"),
        members: Members::new(view).0,
        serving: watch::Sender::new(true),
        clock: NodeClock::start(),
        routes: Routes::new(
            vec![LoopHandle { work, urgent, jobs }],
            LoopOwners::new(config.partitions, 1),
        ),
        links: watch::Sender::new(links.into()),
        links_changed: watch::Sender::new(0),
        switch: Switch::new(),
        closing: watch::channel(false).1,
        places: Places::new(Bounds { connections: 1, refusals: 1 }),
        seats: Seats::default(),
        endings: Endings::default(),
        backups: Backups::default(),
        barrier: BarrierView::new(BarrierTable::default(), clock::RingId::UNKNOWN),
        health: Arc::new(Health::new(1)),
        drain: Drain::default(),
        config,
    };
    at(&shared, BarrierStage::Entered);
    (shared, received)
}

/// The peer's end of a connection that is served, and how it ends.
struct Peer {
    hello: PeerHello,
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
}

impl Peer {
    /// A frame that holds a value of `length` bytes, cut in two in the middle.
    fn long_frame(&self, length: usize) -> (Bytes, Bytes) {
        let header = FrameHeader {
            version: MESSAGE_VERSIONS.max,
            sender: self.hello.node,
            incarnation: self.hello.incarnation,
            sequence: Sequence(4),
            // When its round 0 was settled.
            barrier: BarrierStamp { number: 4, ..BarrierStamp::default() },
            deadline_ms: 0,
            operation: OperationName::from("forward"),
            trace: 7,
        };
        let put = Operation::Bytes(BytesOp::Put(Bytes::from(vec![7; length])));
        let body = Body::Forward(Request::update(Key::new("b", "k").unwrap(), put));
        let id = RequestId { core: 0, number: 1 };
        let message =
            Message { id, trace: 7, sequence: Sequence(0), time: Stamp(1), budget_ms: 0, body };
        let mut buffer = BytesMut::new();
        append_frame(&mut buffer, &PeerFrame::Message(header, message)).unwrap();
        let second = buffer.split_off(buffer.len() / 2);
        (buffer.freeze(), second.freeze())
    }
}

fn ping(number: u64) -> Bytes {
    let mut buffer = BytesMut::new();
    append_frame(&mut buffer, &PeerFrame::Ping(number)).unwrap();
    buffer.freeze()
}

/// The numbers of the pongs that come within `time`.
async fn pongs(reader: &mut ReadHalf<DuplexStream>, time: Duration) -> Vec<u64> {
    let mut bytes = BytesMut::new();
    let read = async { while reader.read_buf(&mut bytes).await.unwrap() > 0 {} };
    let _ = timeout(time, read).await;
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(bytes[3]);
        match clock::decode(&bytes[4..4 + length]) {
            Ok(PeerFrame::Pong(number)) => numbers.push(number),
            other => panic!("{other:?}"),
        }
        let _ = bytes.split_to(4 + length);
    }
    numbers
}

/// A connection of the peer to serve: what serves it, and the peer's end.
fn connection(shared: &Shared) -> (impl Future<Output = Result<(), InboundError>>, Peer) {
    connection_of(shared, START)
}

/// The same, of the peer in this start.
fn connection_of(
    shared: &Shared,
    incarnation: Incarnation,
) -> (impl Future<Output = Result<(), InboundError>>, Peer) {
    let (near, far) = duplex(1 << 16);
    let life = Life::new();
    let stream = wire::frames(Watched::new(near, life.clone()));
    let member = &shared.config.peers[0];
    let hello = PeerHello {
        node: member.node,
        name: member.name.clone(),
        incarnation,
        partitions: shared.config.partitions.get(),
        purpose: Purpose::Link,
    };
    let (reader, writer) = tokio::io::split(far);
    let peer = Peer { hello: hello.clone(), reader, writer };
    (async move { read_messages(shared, &hello, 0, stream, life).await }, peer)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_frame_that_takes_longer_than_a_silence_arrives_and_the_peer_is_told_it_does() {
    let (shared, mut work) = shared();
    let (served, mut peer) = connection(&shared);
    let whole = async {
        peer.writer.write_all(&ping(1)).await.unwrap();
        let (first, second) = peer.long_frame(2_000);
        for piece in first.chunks(100) {
            peer.writer.write_all(piece).await.unwrap();
            sleep(SECOND).await;
        }
        peer.writer.write_all(&second).await.unwrap();
        let Some(Work::Messages(batch)) = work.recv().await else { panic!("no message") };
        assert_eq!(batch.messages.len(), 1);
        pongs(&mut peer.reader, Duration::ZERO).await
    };
    let numbers = tokio::select! {
        ended = served => panic!("{ended:?}"),
        numbers = whole => numbers,
    };
    // One for the ping, then one for each piece: none for half a second in which nothing came.
    assert_eq!(numbers[0], 1);
    assert!(numbers[1..].iter().all(|&number| number == 0), "{numbers:?}");
    assert!((9..=12).contains(&numbers.len()), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_in_the_middle_of_a_frame_is_silent() {
    let (shared, _work) = shared();
    let (served, mut peer) = connection(&shared);
    let (first, _) = peer.long_frame(2_000);
    peer.writer.write_all(&first).await.unwrap();
    let began = Instant::now();
    assert!(matches!(served.await, Err(InboundError::Silent)));
    assert_eq!(began.elapsed().as_secs(), SILENCE_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_held_back_by_a_busy_loop_is_told_that_this_node_lives() {
    let (shared, mut work) = shared();
    let (served, mut peer) = connection(&shared);
    let whole = async {
        // The first one fills the loop's queue, the second one waits for room, the ping behind it.
        for _ in 0..2 {
            let (first, second) = peer.long_frame(10);
            peer.writer.write_all(&[first, second].concat()).await.unwrap();
            sleep(SECOND / 10).await;
        }
        peer.writer.write_all(&ping(5)).await.unwrap();
        let numbers = pongs(&mut peer.reader, 10 * SECOND).await;
        assert!(numbers.len() >= 19 && numbers.iter().all(|&number| number == 0), "{numbers:?}");
        for _ in 0..2 {
            assert!(work.recv().await.is_some());
        }
        assert_eq!(pongs(&mut peer.reader, SECOND / 4).await.last(), Some(&5));
    };
    tokio::select! {
        ended = served => panic!("{ended:?}"),
        () = whole => (),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_before_its_sender_came_to_a_stage_is_refused_once_all_have() {
    let (shared, mut work) = shared();
    let stamp = |number| BarrierStamp { number, ..BarrierStamp::default() };
    let stages = [(BarrierStage::Equal, Some(stamp(4))), (BarrierStage::Confirmed, None)];
    for (refused, (stage, expected)) in stages.into_iter().enumerate() {
        at(&shared, stage);
        let (served, mut peer) = connection_of(&shared, START);
        let said = async {
            let (first, second) = peer.long_frame(10);
            let all = [ping(1), first, second, ping(2)].concat();
            peer.writer.write_all(&all).await.unwrap();
            assert_eq!(pongs(&mut peer.reader, SECOND / 4).await, [1, 2]);
        };
        tokio::select! {
            ended = served => panic!("{ended:?}"),
            () = said => (),
        }
        let taken = match work.try_recv() {
            Ok(Work::Messages(batch)) => Some(batch.barrier),
            _ => None,
        };
        assert_eq!(taken, expected);
        assert_eq!(shared.barrier.refused(), refused as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_start_that_is_not_admitted_is_dropped() {
    let (shared, mut work) = shared();
    let taken = async |shared: &Shared, work: &mut mpsc::Receiver<Work>, generation| {
        let (served, mut peer) = connection_of(shared, Incarnation { generation, ..START });
        let said = async {
            let (first, second) = peer.long_frame(10);
            let all = [ping(1), first, second, ping(2)].concat();
            peer.writer.write_all(&all).await.unwrap();
            assert_eq!(pongs(&mut peer.reader, SECOND / 4).await, [1, 2]);
        };
        tokio::select! {
            ended = served => panic!("{ended:?}"),
            () = said => (),
        }
        work.try_recv().is_ok()
    };
    assert!(taken(&shared, &mut work, START.generation).await);
    assert!(!taken(&shared, &mut work, START.generation + 1).await);
    // Once gossip has told of the later start, the one before is heard no more.
    let mut view = shared.members.view().as_ref().clone();
    view.admitted.values_mut().for_each(|start| start.generation += 1);
    shared.members.view.send_replace(Arc::new(view));
    assert!(taken(&shared, &mut work, START.generation + 1).await);
    assert!(!taken(&shared, &mut work, START.generation).await);
}
