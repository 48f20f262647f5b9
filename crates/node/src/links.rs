//! Links to the other members, as the loops see them: a bounded queue of encoded frames each.
//!
//! The link's own task only writes. A message may be lost: when the link is down, when its queue is full, when its
//! deadline passed while it waited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clock::NodeId;
use tokio::sync::{mpsc, watch};

/// Bytes that may wait for one peer. A guess: what a gigabit link carries in half a second.
const QUEUE_BYTES_MAX: usize = 64 << 20;
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

impl Chunk {
    /// A frame of gossip that is to be sent now.
    pub(crate) const fn gossip(bytes: Bytes, now_ms: u64) -> Self {
        Self { bytes, useful_until_ms: now_ms + GOSSIP_USEFUL_MS }
    }

    /// Whether it is worth sending still.
    pub(crate) const fn is_useful(&self, now_ms: u64) -> bool {
        self.useful_until_ms > now_ms
    }
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
            self.send(Chunk::gossip(bytes, now_ms));
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

    pub(crate) fn send(&self, chunk: Chunk) {
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

#[cfg(test)]
mod tests;
