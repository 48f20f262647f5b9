//! Links to the other members, as the loops see them: a bounded queue of encoded frames each.
//!
//! Frames are encoded in the loop that sends them, and all that a loop sends a peer in one turn
//! leaves as one chunk, if it is not too much; the link's own task only writes. A message may be lost: when the link is
//! down, when its queue is full, when its deadline passed while it waited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use clock::NodeId;
use membership::Incarnation;
use replication::{BarrierStamp, BarrierTerms, Message};
use tokio::sync::{mpsc, watch};
use wire::{FrameHeader, OperationName, OversizeFrame, PeerFrame, append_peer_frame};

/// Bytes that may wait for one peer. A guess: what a gigabit link carries in half a second.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes after which a turn's messages leave in a chunk of their own: what a queue is full for is
/// lost a chunk at a time, not a turn's worth. A guess.
const CHUNK_BYTES: usize = 1 << 20;
/// Gossip that waited longer, in milliseconds, is not written any more: what it says of silences is true
/// when it is sent. A guess: two rounds.
const GOSSIP_USEFUL_MS: u64 = 2_000;

/// The links to all other members that are not gone.
pub(crate) type LinkMap = BTreeMap<NodeId, Arc<Link>>;

/// Frames for one peer, and when the last of them is of no more use (monotonic milliseconds;
/// `u64::MAX` for never).
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) useful_until_ms: u64,
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a member at this address, `HOST:PORT`.
    At(String),
    /// Nowhere any more.
    Closed,
}

/// The sending end of a link, shared by all loops.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    target: watch::Sender<Target>,
    /// Which version of messages this node's own connection to the member speaks; 0 while there is none.
    spoken: AtomicU16,
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
    incoming: bool,
    /// The latest of the peer's connections that was heard of.
    seat: u64,
}

/// The receiving end, for the link's task.
#[derive(Debug)]
pub(crate) struct LinkQueue {
    link: Arc<Link>,
    chunks: mpsc::UnboundedReceiver<Chunk>,
}

impl Link {
    pub(crate) fn new(node: NodeId, name: String, address: String) -> (Arc<Self>, LinkQueue) {
        let (sender, chunks) = mpsc::unbounded_channel();
        let link = Arc::new(Self {
            node,
            name,
            target: watch::Sender::new(Target::At(address)),
            spoken: AtomicU16::new(0),
            up: AtomicBool::new(false),
            directions: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            chunks: sender,
        });
        (Arc::clone(&link), LinkQueue { link, chunks })
    }

    /// Where it leads, now and later.
    pub(crate) fn target(&self) -> watch::Receiver<Target> {
        self.target.subscribe()
    }

    /// It leads somewhere else from now on.
    pub(crate) fn lead_to(&self, target: Target) {
        self.target.send_if_modified(|now| {
            let is_news = *now != target;
            *now = target;
            is_news
        });
    }

    /// Sends gossip over this node's own connection to the member, if that works; whether it does.
    pub(crate) fn gossip(&self, bytes: Bytes, now_ms: u64) -> bool {
        let is_outgoing = self.spoken().is_some();
        if is_outgoing {
            self.send(Chunk { bytes, useful_until_ms: now_ms + GOSSIP_USEFUL_MS });
        }
        is_outgoing
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Which version of messages is sent to the member; `None` without a connection.
    pub(crate) fn spoken(&self) -> Option<u16> {
        Some(self.spoken.load(Ordering::Acquire)).filter(|&version| version > 0)
    }

    /// Whether the link is up, and the loops have been told so: a change under way is waited for.
    pub(crate) fn is_announced_up(&self) -> bool {
        let _announced = self.directions.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_up()
    }

    /// Takes note of this node's connection to the peer, by the version that it speaks, or of its end.
    /// Whether the link is up afterwards is announced if that changed.
    pub(crate) fn set_outgoing(&self, spoken: Option<u16>, announce: impl FnOnce(bool)) {
        self.spoken.store(spoken.unwrap_or(0), Ordering::Release);
        self.change(announce, |directions| directions.outgoing = spoken.is_some());
    }

    /// Takes note that the peer's connection number `seat` works, unless a later one has its
    /// place: a loop that was held up may greet on a connection that is about to end.
    pub(crate) fn set_incoming(&self, seat: u64, announce: impl FnOnce(bool)) {
        self.change(announce, |directions| {
            if seat >= directions.seat {
                (directions.incoming, directions.seat) = (true, seat);
            }
        });
    }

    /// Takes note that the peer's connection number `seat` ended, unless another has its place.
    pub(crate) fn clear_incoming(&self, seat: u64, announce: impl FnOnce(bool)) {
        self.change(announce, |directions| {
            if directions.seat == seat {
                directions.incoming = false;
            }
        });
    }

    fn change(&self, announce: impl FnOnce(bool), change: impl FnOnce(&mut Directions)) {
        // Nothing in here panics half way.
        let mut directions = self.directions.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut directions);
        let up = directions.outgoing && directions.incoming;
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
    terms: Arc<BarrierTerms>,
    peers: BTreeMap<NodeId, Gathered>,
}

/// What is the same in every header, until something changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderBase {
    pub(crate) sender: NodeId,
    pub(crate) incarnation: Incarnation,
}

#[derive(Debug)]
struct Gathered {
    link: Arc<Link>,
    /// What is said of the barrier to this peer.
    barrier: BarrierStamp,
    buffer: BytesMut,
    useful_until_ms: u64,
}

impl Outgoing {
    pub(crate) fn new(header: HeaderBase) -> Self {
        Self { header, terms: Arc::default(), peers: BTreeMap::new() }
    }

    /// These are the links from now on. What was gathered for one that is gone goes with it.
    pub(crate) fn set_links(&mut self, links: &LinkMap) {
        self.peers
            .retain(|node, peer| links.get(node).is_some_and(|it| Arc::ptr_eq(it, &peer.link)));
        for (&node, link) in links {
            self.peers.entry(node).or_insert_with(|| Gathered {
                link: Arc::clone(link),
                barrier: self.terms.stamp(node),
                buffer: BytesMut::new(),
                useful_until_ms: 0,
            });
        }
    }

    /// How far this node and others are with the barrier, from now on.
    pub(crate) fn set_terms(&mut self, terms: Arc<BarrierTerms>) {
        for (&node, peer) in &mut self.peers {
            peer.barrier = terms.stamp(node);
        }
        self.terms = terms;
    }

    /// What all headers say from now on.
    pub(crate) const fn header_mut(&mut self) -> &mut HeaderBase {
        &mut self.header
    }

    /// Gathers a message, unless its link is down. An answer that does not fit in a frame is
    /// replaced by one that says so; of a question that does not, that answer is returned, for
    /// the core that asked.
    #[must_use]
    pub(crate) fn push(&mut self, to: NodeId, message: Message, now_ms: u64) -> Option<Message> {
        let Some(peer) = self.peers.get_mut(&to) else {
            // Gone since, or not known here yet.
            tracing::debug!(%to, "a message to a node that is no member was dropped");
            return None;
        };
        let version = peer.link.spoken().filter(|_| peer.link.is_up())?;
        let frame = framed(self.header, version, peer.barrier, message);
        let Err(OversizeFrame { bytes, limit }) = append_peer_frame(&mut peer.buffer, &frame)
        else {
            peer.extend(&frame, now_ms);
            return None;
        };
        let PeerFrame::Message(_, message) = frame else { return None };
        let operation = message.body.name();
        tracing::warn!(%to, bytes, limit, operation, "a message does not fit in a frame");
        let body = message.body.too_long(bytes, limit);
        if message.body.is_question() {
            return Some(Message { body, ..message });
        }
        let frame = framed(self.header, version, peer.barrier, Message { body, ..message });
        append_peer_frame(&mut peer.buffer, &frame).expect("an error is short");
        peer.extend(&frame, now_ms);
        None
    }

    /// Hands everything gathered to the links.
    pub(crate) fn flush(&mut self) {
        self.peers.values_mut().for_each(Gathered::flush);
    }
}

impl Gathered {
    /// Hands what was gathered to the link.
    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = self.buffer.split().freeze();
        self.link.send(Chunk { bytes, useful_until_ms: self.useful_until_ms });
        self.useful_until_ms = 0;
    }

    /// Takes note of how long a frame just appended is of use, and hands the frames over if they
    /// are many bytes by now.
    fn extend(&mut self, frame: &PeerFrame, now_ms: u64) {
        let useful_until = match frame {
            PeerFrame::Message(header, _) if header.deadline_ms > 0 => {
                now_ms + u64::from(header.deadline_ms)
            }
            _ => u64::MAX,
        };
        self.useful_until_ms = self.useful_until_ms.max(useful_until);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush();
        }
    }
}

fn framed(header: HeaderBase, version: u16, barrier: BarrierStamp, message: Message) -> PeerFrame {
    let HeaderBase { sender, incarnation } = header;
    let header = FrameHeader {
        version,
        sender,
        incarnation,
        sequence: message.sequence,
        barrier,
        deadline_ms: message.budget_ms,
        operation: OperationName::from(message.body.name()),
        // Unique in the cluster for all practical purposes, and the same in the answer.
        trace: message.trace,
    };
    PeerFrame::Message(header, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::node_id;
    use clock::{Actor, Dot, Stamp};
    use replication::{Body, RequestId};
    use ring::{Partition, Sequence};
    use storage::StorageError;
    use values::{Causal, Delta, DotFun, Key, Sibling, State, Tag, Value, View};
    use wire::PEER_FRAME_BYTES_MAX;

    fn message(budget_ms: u32) -> Message {
        let body = Body::Count {
            bucket: values::BucketId::first("b"),
            partitions: vec![Partition(1)],
            as_owner: true,
        };
        Message {
            id: RequestId { core: 0, number: 1 },
            trace: 9,
            sequence: Sequence(0),
            time: Stamp(1),
            budget_ms,
            body,
        }
    }

    /// The connection to the member speaks a version.
    const SPOKEN: Option<u16> = Some(8);

    fn outgoing() -> (Outgoing, LinkQueue) {
        let node = node_id("ducks", "b");
        let (link, queue) = Link::new(node, "b".into(), "127.0.0.1:1".into());
        let incarnation = Incarnation { generation: 1, nonce: 1 };
        let header = HeaderBase { sender: node_id("ducks", "a"), incarnation };
        let mut outgoing = Outgoing::new(header);
        outgoing.set_links(&LinkMap::from([(node, link)]));
        (outgoing, queue)
    }

    #[test]
    fn a_turns_messages_leave_as_one_chunk_that_is_useful_as_long_as_any_of_them() {
        let (mut outgoing, mut queue) = outgoing();
        queue.link().set_outgoing(SPOKEN, |_| panic!("one direction is not enough"));
        let mut announced = Vec::new();
        queue.link().set_incoming(5, |up| announced.push(up));
        assert_eq!(announced, [true]);
        let node = queue.link().node;
        assert_eq!(outgoing.push(node, message(50), 100), None);
        assert_eq!(outgoing.push(node, message(20), 100), None);
        assert!(queue.next_waiting().is_none());
        outgoing.flush();
        let chunk = queue.next_waiting().unwrap();
        assert_eq!(chunk.useful_until_ms, 150);
        assert!(queue.next_waiting().is_none());
        assert_eq!(outgoing.push(node, message(0), 100), None);
        outgoing.flush();
        assert_eq!(queue.next_waiting().unwrap().useful_until_ms, u64::MAX);
    }

    #[test]
    fn a_link_is_down_as_soon_as_either_direction_is() {
        let (_, queue) = outgoing();
        let link = queue.link();
        let mut announced = Vec::new();
        link.set_incoming(1, |up| announced.push(up));
        link.set_outgoing(SPOKEN, |up| announced.push(up));
        link.set_incoming(2, |up| announced.push(up));
        link.clear_incoming(1, |up| announced.push(up));
        assert!(link.is_up());
        link.clear_incoming(2, |up| announced.push(up));
        link.set_outgoing(None, |up| announced.push(up));
        assert_eq!(announced, [true, false]);
    }

    /// A loop that was held up can greet on a connection that another loop has replaced, and then
    /// end it.
    #[test]
    fn a_connection_that_was_replaced_does_not_take_the_link_down_with_it() {
        let (_, queue) = outgoing();
        let link = queue.link();
        link.set_outgoing(SPOKEN, |_| ());
        link.set_incoming(2, |_| ());
        link.set_incoming(1, |_| ());
        link.clear_incoming(1, |_| ());
        assert!(link.is_up());
        // Nor does it bring a link up whose later connection has ended.
        link.clear_incoming(2, |_| ());
        link.set_incoming(1, |_| ());
        assert!(!link.is_up());
    }

    #[test]
    fn gossip_needs_only_the_nodes_own_connection() {
        let (_, mut queue) = outgoing();
        let link = Arc::clone(queue.link());
        assert!(!link.gossip(Bytes::from_static(b"g"), 100));
        link.set_outgoing(SPOKEN, |_| panic!("one direction is not enough"));
        assert!(link.gossip(Bytes::from_static(b"g"), 100));
        assert_eq!(queue.next_waiting().unwrap().useful_until_ms, 100 + GOSSIP_USEFUL_MS);
        assert!(queue.next_waiting().is_none());
    }

    #[test]
    fn what_waits_for_a_member_that_is_gone_goes_with_its_link() {
        let (mut outgoing, mut queue) = outgoing();
        queue.link().set_outgoing(SPOKEN, |_| ());
        queue.link().set_incoming(1, |_| ());
        let node = queue.link().node;
        assert_eq!(outgoing.push(node, message(0), 100), None);
        outgoing.set_links(&LinkMap::new());
        outgoing.flush();
        assert_eq!(outgoing.push(node, message(0), 100), None);
        assert!(queue.next_waiting().is_none());
    }

    #[test]
    fn nothing_is_queued_for_a_link_that_is_down() {
        let (mut outgoing, mut queue) = outgoing();
        assert_eq!(outgoing.push(queue.link().node, message(0), 100), None);
        outgoing.flush();
        assert!(queue.next_waiting().is_none());
    }

    /// A value that nine coordinators, cut off from one another, each wrote 8 MiB of.
    fn long_value() -> Value {
        let long = Bytes::from(vec![7; 8 << 20]);
        let mut state = Causal::<DotFun<Sibling>>::default();
        for node in 1..=9 {
            let dot = Dot::new(Actor::new(NodeId(node), node, 0), 1);
            state.context.insert(dot);
            state.store.0.insert(dot, Sibling { value: long.clone(), stamp: Stamp(1) });
        }
        Value::from([(Tag::BYTES, State::Bytes(state))])
    }

    fn sent(queue: &mut LinkQueue) -> Option<Message> {
        let chunk = queue.next_waiting()?.bytes;
        match clock::decode(&chunk[4..]) {
            Ok(PeerFrame::Message(_, message)) => Some(message),
            other => panic!("{other:?}"),
        }
    }

    fn is_too_long(error: &StorageError) -> bool {
        matches!(error, StorageError::TooLong { bytes, limit: PEER_FRAME_BYTES_MAX }
            if *bytes > 72 << 20)
    }

    #[test]
    fn an_answer_that_does_not_fit_in_a_frame_is_replaced_by_one_that_says_so() {
        let (mut outgoing, mut queue) = outgoing();
        queue.link().set_outgoing(SPOKEN, |_| ());
        queue.link().set_incoming(5, |_| ());
        let node = queue.link().node;
        let view = View::of(long_value());
        let mut answered = |body| {
            assert_eq!(outgoing.push(node, Message { body, ..message(0) }, 100), None);
            outgoing.flush();
            let answer = sent(&mut queue).expect("an answer is sent");
            assert_eq!(answer.id, message(0).id);
            answer.body
        };
        let Body::Shown(Err(error)) = answered(Body::Shown(Ok(view.clone()))) else { panic!() };
        assert!(is_too_long(&error), "{error}");
        // What was merged is merged, shown or not.
        assert_eq!(answered(Body::Merged(Ok(Some(view)))), Body::Merged(Ok(None)));
        // What fits goes through.
        assert_eq!(answered(Body::Counted(Ok(3))), Body::Counted(Ok(3)));
    }

    #[test]
    fn a_question_that_does_not_fit_in_a_frame_is_answered_at_once_and_not_sent() {
        let (mut outgoing, mut queue) = outgoing();
        queue.link().set_outgoing(SPOKEN, |_| ());
        queue.link().set_incoming(5, |_| ());
        let node = queue.link().node;
        let (key, delta) = (Key::new("b", "k").unwrap(), Delta::whole(long_value()));
        let body = Body::Merge { key, delta, show: None };
        let answer = outgoing.push(node, Message { body, ..message(50) }, 100);
        let Some(Message { id, body: Body::Merged(Err(error)), .. }) = answer else { panic!() };
        assert_eq!(id, message(50).id);
        assert!(is_too_long(&error), "{error}");
        outgoing.flush();
        assert_eq!(sent(&mut queue), None);
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
