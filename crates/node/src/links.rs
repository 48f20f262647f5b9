//! Links to the other members, as the loops see them: a bounded queue of encoded frames each.
//!
//! Frames are encoded in the loop that sends them, and all that a loop sends a peer in one turn
//! leaves as one chunk; the link's own task only writes. A message may be lost: when the link is
//! down, when its queue is full, when its deadline passed while it waited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use clock::NodeId;
use replication::Message;
use tokio::sync::mpsc;
use wire::{FrameHeader, MESSAGE_VERSION, OperationName, PeerFrame, append_frame};

use crate::config::Member;

/// Bytes that may wait for one peer. A guess: what a gigabit link carries in half a second.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Frames for one peer, and when the last of them is of no more use (monotonic milliseconds;
/// `u64::MAX` for never).
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) useful_until_ms: u64,
}

/// The sending end of a link, shared by all loops.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) member: Member,
    /// What `directions` comes to, for the loops to look at without the lock.
    up: AtomicBool,
    /// A lock, because links change seldom; held while the change is announced, so that what is
    /// announced last is how it is.
    directions: Mutex<Directions>,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    chunks: mpsc::UnboundedSender<Chunk>,
}

/// Both must work before anything is sent: answers come the other way.
#[derive(Debug, Default)]
struct Directions {
    outgoing: bool,
    incoming: Option<u64>,
}

/// The receiving end, for the link's task.
#[derive(Debug)]
pub(crate) struct LinkQueue {
    link: Arc<Link>,
    chunks: mpsc::UnboundedReceiver<Chunk>,
}

impl Link {
    pub(crate) fn new(member: Member) -> (Arc<Self>, LinkQueue) {
        let (sender, chunks) = mpsc::unbounded_channel();
        let link = Arc::new(Self {
            member,
            up: AtomicBool::new(false),
            directions: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            chunks: sender,
        });
        (Arc::clone(&link), LinkQueue { link, chunks })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Whether the link is up, and the loops have been told so: a change under way is waited for.
    pub(crate) fn is_announced_up(&self) -> bool {
        let _announced = self.directions.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_up()
    }

    /// Takes note of this node's connection to the peer. Whether the link is up afterwards is
    /// announced if that changed.
    pub(crate) fn set_outgoing(&self, outgoing: bool, announce: impl FnOnce(bool)) {
        self.change(announce, |directions| directions.outgoing = outgoing);
    }

    /// Takes note that the peer's connection number `seat` works.
    pub(crate) fn set_incoming(&self, seat: u64, announce: impl FnOnce(bool)) {
        self.change(announce, |directions| directions.incoming = Some(seat));
    }

    /// Takes note that the peer's connection number `seat` ended, unless another has its place.
    pub(crate) fn clear_incoming(&self, seat: u64, announce: impl FnOnce(bool)) {
        self.change(announce, |directions| {
            if directions.incoming == Some(seat) {
                directions.incoming = None;
            }
        });
    }

    fn change(&self, announce: impl FnOnce(bool), change: impl FnOnce(&mut Directions)) {
        // Nothing in here panics half way.
        let mut directions = self.directions.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut directions);
        let up = directions.outgoing && directions.incoming.is_some();
        if self.up.swap(up, Ordering::AcqRel) != up {
            announce(up);
        }
    }

    /// Chunks dropped because too much waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, chunk: Chunk) {
        let length = chunk.bytes.len();
        let queued = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if queued > QUEUE_BYTES_MAX || self.chunks.send(chunk).is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LinkQueue {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The next chunk; `None` once nobody can send any more.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.recv().await?;
        Some(self.taken(chunk))
    }

    /// The next chunk if one waits.
    pub(crate) fn next_waiting(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.try_recv().ok()?;
        Some(self.taken(chunk))
    }

    fn taken(&self, chunk: Chunk) -> Chunk {
        self.link.queued_bytes.fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        chunk
    }
}

/// What one loop gathers for the peers during a turn.
#[derive(Debug)]
pub(crate) struct Outgoing {
    header: HeaderBase,
    peers: BTreeMap<NodeId, Gathered>,
}

/// What is the same in every header of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderBase {
    pub(crate) sender: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) ring_version: u64,
}

#[derive(Debug)]
struct Gathered {
    link: Arc<Link>,
    buffer: BytesMut,
    useful_until_ms: u64,
}

impl Outgoing {
    pub(crate) fn new(header: HeaderBase, links: &[Arc<Link>]) -> Self {
        let gathered = |link: &Arc<Link>| {
            let link = Arc::clone(link);
            (link.member.node, Gathered { link, buffer: BytesMut::new(), useful_until_ms: 0 })
        };
        Self { header, peers: links.iter().map(gathered).collect() }
    }

    /// Gathers a message, unless its link is down or it does not fit in a frame.
    pub(crate) fn push(&mut self, to: NodeId, message: Message, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&to) else {
            tracing::error!(%to, "a message to a node that is no member was dropped");
            return;
        };
        if !peer.link.is_up() {
            return;
        }
        let deadline_ms = message.budget_ms;
        let useful_until =
            if deadline_ms == 0 { u64::MAX } else { now_ms + u64::from(deadline_ms) };
        peer.useful_until_ms = peer.useful_until_ms.max(useful_until);
        let HeaderBase { sender, incarnation, ring_version } = self.header;
        let header = FrameHeader {
            version: MESSAGE_VERSION,
            sender,
            incarnation,
            ring_version,
            deadline_ms,
            operation: OperationName::from(message.body.name()),
            // Unique in the cluster for all practical purposes, and the same in the answer.
            trace: message.id.number ^ u64::from(message.id.core).rotate_right(8),
        };
        if let Err(error) = append_frame(&mut peer.buffer, &PeerFrame::Message(header, message)) {
            tracing::warn!(%to, %error, "a message was dropped");
        }
    }

    /// Hands everything gathered to the links.
    pub(crate) fn flush(&mut self) {
        for peer in self.peers.values_mut() {
            if peer.buffer.is_empty() {
                continue;
            }
            let bytes = peer.buffer.split().freeze();
            peer.link.send(Chunk { bytes, useful_until_ms: peer.useful_until_ms });
            peer.useful_until_ms = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::node_id;
    use clock::Stamp;
    use replication::{Body, RequestId};
    use ring::Partition;

    fn message(budget_ms: u32) -> Message {
        let body = Body::Count { bucket: Bytes::from_static(b"b"), partitions: vec![Partition(1)] };
        Message { id: RequestId { core: 0, number: 1 }, time: Stamp(1), budget_ms, body }
    }

    fn outgoing() -> (Outgoing, LinkQueue) {
        let node = node_id("ducks", "b");
        let (link, queue) =
            Link::new(Member { node, name: "b".into(), address: "127.0.0.1:1".into() });
        let header = HeaderBase { sender: node_id("ducks", "a"), incarnation: 1, ring_version: 1 };
        (Outgoing::new(header, &[link]), queue)
    }

    #[test]
    fn a_turns_messages_leave_as_one_chunk_that_is_useful_as_long_as_any_of_them() {
        let (mut outgoing, mut queue) = outgoing();
        queue.link().set_outgoing(true, |_| panic!("one direction is not enough"));
        let mut announced = Vec::new();
        queue.link().set_incoming(5, |up| announced.push(up));
        assert_eq!(announced, [true]);
        let node = queue.link().member.node;
        outgoing.push(node, message(50), 100);
        outgoing.push(node, message(20), 100);
        assert!(queue.next_waiting().is_none());
        outgoing.flush();
        let chunk = queue.next_waiting().unwrap();
        assert_eq!(chunk.useful_until_ms, 150);
        assert!(queue.next_waiting().is_none());
        outgoing.push(node, message(0), 100);
        outgoing.flush();
        assert_eq!(queue.next_waiting().unwrap().useful_until_ms, u64::MAX);
    }

    #[test]
    fn a_link_is_down_as_soon_as_either_direction_is() {
        let (_, queue) = outgoing();
        let link = queue.link();
        let mut announced = Vec::new();
        link.set_incoming(1, |up| announced.push(up));
        link.set_outgoing(true, |up| announced.push(up));
        link.set_incoming(2, |up| announced.push(up));
        link.clear_incoming(1, |up| announced.push(up));
        assert!(link.is_up());
        link.clear_incoming(2, |up| announced.push(up));
        link.set_outgoing(false, |up| announced.push(up));
        assert_eq!(announced, [true, false]);
    }

    #[test]
    fn nothing_is_queued_for_a_link_that_is_down() {
        let (mut outgoing, mut queue) = outgoing();
        outgoing.push(queue.link().member.node, message(0), 100);
        outgoing.flush();
        assert!(queue.next_waiting().is_none());
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (_, mut queue) = outgoing();
        let link = Arc::clone(queue.link());
        let bytes = Bytes::from(vec![0; QUEUE_BYTES_MAX + 1]);
        link.send(Chunk { bytes: bytes.clone(), useful_until_ms: 0 });
        link.send(Chunk { bytes, useful_until_ms: 0 });
        assert_eq!(link.dropped(), 1);
        assert!(queue.next_waiting().is_some() && queue.next_waiting().is_none());
    }
}
