//! Connections to the peer port: a handshake, then a peer's messages or a client's calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{FutureExt, SinkExt, StreamExt};
use replication::{BarrierStamp, BarrierTerms, Body, Message};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use wire::{
    Accepted, Admission, FrameError, FrameStream, HANDSHAKE_LIMIT, HandshakeError, PeerFrame,
    PeerHello, Purpose, Refusal, Role, accept,
};

use crate::client_port;
use crate::datastore::NodeDatastore;
use crate::dial::{PING_INTERVAL, SILENCE_MAX};
use crate::gossip_port;
use crate::identity::random_bytes;
use crate::life::{Life, Watched};
use crate::listen::refuse;
use crate::members::{ANSWERS_MAX, Notice, Route, View, next_useful};
use crate::places::Place;
use crate::shared::Shared;
use crate::work::{MessageBatch, Work};

/// Frames taken from a connection at once.
const FRAMES_MAX: usize = 256;
/// Bytes after which no further frame is taken before these are handed over.
const FRAMES_BYTES: usize = 1 << 20;
/// So many messages of a peer are refused one after another before it is told of.
const BEHIND: u64 = 100;
/// Membership is told no more often that a peer lives. A guess: half of the time between two pings.
const HEARD_PAUSE: Duration = Duration::from_millis(250);

/// Why a connection to the peer port ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InboundError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("what came is of another protocol")]
    Foreign,
    #[error("nothing came for {} seconds", SILENCE_MAX.as_secs())]
    Silent,
    #[error("a message of version {0}, which this node does not speak")]
    Version(u16),
    #[error("a frame in another node's name")]
    Sender,
    #[error("a frame that peers do not send here")]
    Unexpected,
    #[error("a later connection of the same peer took its place")]
    Superseded,
    #[error("there are too many connections, and another one wants the place")]
    Crowded,
    #[error("links are cut on purpose")]
    Cut,
    #[error("the node is stopping")]
    Stopping,
}

impl InboundError {
    /// What to count it under: one of a few words, whatever the details are.
    fn kind(&self) -> &'static str {
        match self {
            Self::Handshake(error) => error.kind(),
            Self::Frame(error) => error.kind(),
            Self::Foreign => "foreign",
            Self::Silent => "silent",
            Self::Version(_) => "version",
            Self::Sender => "sender",
            Self::Unexpected => "unexpected",
            Self::Superseded => "superseded",
            Self::Crowded => "crowded",
            Self::Cut => "cut",
            Self::Stopping => "stopping",
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    datastore: Arc<NodeDatastore>,
    stream: TcpStream,
    place: Place,
) {
    let remote = stream.peer_addr().ok();
    match serve_inner(&shared, datastore, stream, place).await {
        Ok(()) => (),
        Err(error @ (InboundError::Frame(FrameError::Closed) | InboundError::Stopping)) => {
            tracing::debug!(?remote, %error, "connection to the peer port ended");
        }
        Err(error) => {
            // Peers that are refused come again and again, and so may strangers.
            let times = shared.endings.count(error.kind());
            if times.is_power_of_two() {
                tracing::warn!(?remote, %error, times, "connection to the peer port closed");
            }
        }
    }
}

async fn serve_inner(
    shared: &Arc<Shared>,
    datastore: Arc<NodeDatastore>,
    stream: TcpStream,
    mut place: Place,
) -> Result<(), InboundError> {
    // A socket that refuses this is broken, and will say so when it is read.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = timeout(HANDSHAKE_LIMIT, stream.peek(&mut first)) => peeked,
        () = shared.closed() => return Err(InboundError::Stopping),
        () = place.wanted() => return Err(InboundError::Crowded),
    };
    peeked.map_err(|_| HandshakeError::Slow)?.map_err(FrameError::Io)?;
    // Each frame of a handshake begins with its length, and is short.
    if first != [0] {
        let at = &shared.config.listen;
        let told = format!(
            "-ERR this port is for Merganser's nodes and native clients; the Redis protocol is on {}, \
             HTTP on {}\r\n",
            at.resp, at.http
        );
        refuse(stream, &told, place).await;
        return Err(InboundError::Foreign);
    }
    let life = Life::new();
    let stream = Watched::new(stream, life.clone());
    let mut seat = None;
    let us = shared.identity();
    let admission = Admission { us: &us, secret: &shared.secret };
    let is_full = matches!(place, Place::Refusal(_));
    let handshake = accept(stream, admission, random_bytes(), |role| match role {
        // A cluster must not fall apart because clients have taken all connections.
        Role::Client(_) if is_full => Err(Refusal::Busy),
        Role::Client(_) => Ok(()),
        Role::Peer(_) if shared.switch.is_cut() => Err(Refusal::Cut),
        Role::Peer(PeerHello { purpose: Purpose::Gossip, .. }) => Ok(()),
        Role::Peer(PeerHello { node, incarnation, .. }) => {
            seat = Some(shared.seats.take(*node, *incarnation));
            Ok(())
        }
    });
    let (stream, Accepted { role, .. }) = tokio::select! {
        accepted = handshake => accepted?,
        () = shared.closed() => return Err(InboundError::Stopping),
        () = place.wanted() => return Err(InboundError::Crowded),
    };
    match (role, seat) {
        (Role::Peer(peer), Some(mut seat)) => {
            // A stop waits for clients, and they may need what peers bring.
            drop(place);
            let number = seat.number();
            let ended = tokio::select! {
                ended = read_messages(shared, &peer, number, stream, life) => ended,
                () = seat.taken() => Err(InboundError::Superseded),
                () = shared.switch.wait_for(true) => Err(InboundError::Cut),
            };
            if let Some(link) = shared.link(peer.node) {
                link.clear_incoming(number, |up| shared.announce(&link, up));
            }
            ended
        }
        (Role::Peer(peer), None) => tokio::select! {
            ended = gossip_port::serve(shared, &peer, stream) => Ok(ended?),
            () = shared.closed() => Err(InboundError::Stopping),
            () = place.wanted() => Err(InboundError::Crowded),
            () = shared.switch.wait_for(true) => Err(InboundError::Cut),
        },
        _ => Ok(client_port::serve(shared, datastore, stream).await?),
    }
}

/// What a peer's connection is to this node's membership.
struct Standing<'a> {
    shared: &'a Shared,
    peer: &'a PeerHello,
    seat: u64,
    view: watch::Receiver<Arc<View>>,
    /// Whether its messages are taken, as of the view last looked at.
    admitted: bool,
    terms: watch::Receiver<Arc<BarrierTerms>>,
    /// Whether the peer is ready for answers to what it will ask.
    greeted: bool,
    heard_at: Option<Instant>,
}

impl<'a> Standing<'a> {
    fn new(shared: &'a Shared, peer: &'a PeerHello, seat: u64) -> Self {
        let mut view = shared.members.view.subscribe();
        view.mark_changed();
        let (admitted, greeted, heard_at) = (false, false, None);
        let terms = shared.barrier.terms.subscribe();
        Self { shared, peer, seat, view, admitted, terms, greeted, heard_at }
    }

    /// Wakes when members may have changed.
    async fn changed(&mut self) {
        // The sender lives as long as `shared`.
        let _ = self.view.changed().await;
        self.view.mark_changed();
    }

    /// Looks whether the peer is a member, in its latest start; the link follows.
    fn look(&mut self) {
        let is_news = self.view.has_changed().unwrap_or(false);
        if is_news {
            let view = self.view.borrow_and_update();
            self.admitted = view.admits(self.peer.node, self.peer.incarnation);
        }
        if !is_news {
            return;
        }
        let Some(link) = self.shared.link(self.peer.node) else { return };
        let announce = |up| self.shared.announce(&link, up);
        match (self.greeted, self.admitted) {
            (true, true) => link.set_incoming(self.seat, announce),
            (_, false) => link.clear_incoming(self.seat, announce),
            (false, true) => (),
        }
    }

    /// Something came from the peer.
    fn heard(&mut self) {
        if !std::mem::replace(&mut self.greeted, true) {
            self.view.mark_changed();
        }
        // A clone of a node's disk is no sign that the node lives.
        if self.admitted && self.heard_at.is_none_or(|at| at.elapsed() >= HEARD_PAUSE) {
            self.heard_at = Some(Instant::now());
            self.shared.members.tell(Notice::Heard(self.peer.node));
        }
    }
}

/// Reads a peer's messages and hands them to the loops; answers pings.
async fn read_messages<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    peer: &PeerHello,
    seat: u64,
    stream: FrameStream<S>,
    life: Life,
) -> Result<(), InboundError> {
    let (pongs, frames) = StreamExt::split::<Bytes>(stream);
    let mut pulse = Pulse::new(pongs);
    let mut frames = frames.fuse();
    let mut ready = Vec::new();
    let mut batches: Vec<(Option<BarrierStamp>, Vec<Message>)> =
        vec![(None, Vec::new()); shared.routes.loops().len()];
    let mut behind = 0_u64;
    let from = peer.node;
    let mut standing = Standing::new(shared, peer, seat);
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    let route = Route::Connection(answers);
    let (node, incarnation) = (from, peer.incarnation);
    shared.members.tell(Notice::Met { node, incarnation, route: route.clone() });
    loop {
        let first = loop {
            // In this order: what waits to be read shows life, however late this task is.
            tokio::select! {
                biased;
                frame = frames.next() => break frame.ok_or(FrameError::Closed)?,
                () = life.silence(SILENCE_MAX) => return Err(InboundError::Silent),
                // `route` keeps the sender alive.
                Some(answer) = next_useful(&mut answered, shared.clock) => pulse.send(answer).await?,
                () = standing.changed() => standing.look(),
                () = pulse.due() => pulse.beat_if(|last| life.last() > last).await?,
            }
        };
        let mut next = Some(first);
        let mut gathered = 0;
        while let Some(frame) = next.take() {
            let frame = frame.map_err(FrameError::Io)?;
            gathered += frame.len();
            ready.push(frame);
            if ready.len() < FRAMES_MAX && gathered < FRAMES_BYTES {
                next = frames.next().now_or_never().flatten();
            }
        }
        // The first frame, a ping, says that the peer is ready for answers to what it will ask.
        standing.heard();
        standing.look();
        let received_ms = shared.clock.monotonic_ms();
        for bytes in ready.drain(..) {
            match clock::decode(&bytes).map_err(FrameError::Malformed)? {
                PeerFrame::Message(header, mut message) => {
                    // That of this connection, or, of what was gathered before it, of the one before.
                    if !shared.config.messages.contains(header.version) {
                        return Err(InboundError::Version(header.version));
                    }
                    if (header.sender, header.incarnation) != (from, peer.incarnation) {
                        return Err(InboundError::Sender);
                    }
                    if !standing.admitted {
                        // A start of before, or one that gossip has not told of yet.
                        tracing::debug!(%from, "a message of a node that is no member");
                        continue;
                    }
                    let is_hint = matches!(message.body, Body::Hint { .. });
                    if !standing.terms.borrow().takes(from, header.barrier, is_hint) {
                        shared.barrier.refuse();
                        // One or two may be on their way when all come to a stage.
                        behind += 1;
                        if behind == BEHIND {
                            tracing::warn!(%from, stamp = ?header.barrier, "what a member says is older than the \
                                barrier: it is refused until the member has caught up, or has begun anew");
                        }
                        continue;
                    }
                    behind = 0;
                    message.trace = header.trace;
                    message.sequence = header.sequence;
                    match shared.routes.owners().of_message(&message) {
                        Some(index) => {
                            let (least, batch) = &mut batches[index];
                            let stamp = header.barrier;
                            *least = Some(least.map_or(stamp, |least| stamp.least(least)));
                            batch.push(message);
                        }
                        // An answer to a loop of an earlier start.
                        None => tracing::debug!(%from, "a message for a loop that does not exist"),
                    }
                }
                PeerFrame::Gossip(message) => {
                    let route = route.clone();
                    shared.members.tell(Notice::Received { from, message, route });
                }
                PeerFrame::Ping(number) => pulse.answer(number).await?,
                PeerFrame::Pong(_) => return Err(InboundError::Unexpected),
            }
        }
        for (index, (least, batch)) in batches.iter_mut().enumerate() {
            let Some(barrier) = least.take() else { continue };
            let messages = std::mem::take(batch);
            let work = Work::Messages(MessageBatch { from, messages, received_ms, barrier });
            // Waiting here holds the peer back, and its pings with what it sends.
            let mut sent = std::pin::pin!(shared.routes.handle(index).work.send(work));
            loop {
                tokio::select! {
                    biased;
                    sent = &mut sent => match sent {
                        Ok(()) => break,
                        Err(_) => return Err(InboundError::Stopping),
                    },
                    () = pulse.due() => pulse.beat_if(|_| true).await?,
                }
            }
        }
        life.touch();
    }
}

/// What shows a peer that its connection works: pongs for its pings, and between them where no
/// ping gets through.
struct Pulse<S> {
    pongs: SplitSink<FrameStream<S>, Bytes>,
    ticks: Interval,
    last: Instant,
}

impl<S: AsyncRead + AsyncWrite> Pulse<S> {
    fn new(pongs: SplitSink<FrameStream<S>, Bytes>) -> Self {
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pongs, ticks, last: Instant::now() }
    }

    /// Wakes when it is time to look whether a pong is due that nobody asked for.
    async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Sends a pong that nobody asked for, if `needed` given when the last one left.
    async fn beat_if(&mut self, needed: impl FnOnce(Instant) -> bool) -> Result<(), FrameError> {
        if needed(self.last) { self.answer(0).await } else { Ok(()) }
    }

    async fn answer(&mut self, number: u64) -> Result<(), FrameError> {
        self.last = Instant::now();
        self.send(clock::encode(&PeerFrame::Pong(number)).into()).await
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), FrameError> {
        Ok(self.pongs.send(frame).await?)
    }
}

#[cfg(test)]
mod tests;
