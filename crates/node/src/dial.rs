//! The outgoing link to one peer: dialled, kept alive, written to, dialled again.
//!
//! Messages to a peer go over the connection that this node opened, and nothing but pongs and answers to
//! gossip comes back over it. The link is up when the peer's own connection to this node works as well: what
//! asks is answered over that.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use membership::Incarnation;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use wire::{
    FrameError, FrameStream, HandshakeError, PeerFrame, Purpose, Welcome, append_frame,
    connect_peer, read_frame,
};

use crate::backoff::Backoff;
use crate::identity::random_bytes;
use crate::links::{Chunk, Link, LinkQueue, Target};
use crate::members::{Notice, Route};
use crate::shared::Shared;

/// Time between two pings.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(500);
/// Silence after which a link is down: no byte came, where four pings or pongs were due.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Time limit of opening a connection.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Chunks are gathered into one write up to this many bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Why a connection to a peer ended or did not begin.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no connection within {} seconds", CONNECT_LIMIT.as_secs())]
    Slow,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("no answer for {} seconds", SILENCE_MAX.as_secs())]
    Silent,
    #[error("cannot write: {0}")]
    Write(std::io::Error),
    #[error("cut on purpose")]
    Cut,
    #[error("the member's address, or this node's incarnation, is another one")]
    Moved,
}

/// Keeps the link of `queue`, as long as it leads somewhere and its loop runs.
pub(crate) async fn run(shared: Arc<Shared>, mut queue: LinkQueue) {
    let link = Arc::clone(queue.link());
    let mut target = link.target();
    let mut backoff = Backoff::new();
    let mut last_error = String::new();
    loop {
        let Target::At(address) = target.borrow_and_update().clone() else { return };
        shared.switch.wait_for(false).await;
        let opened = tokio::select! {
            opened = open(&shared, &link, &address) => opened,
            _ = target.changed() => Err(LinkError::Moved),
        };
        let error = match opened {
            Ok((stream, welcome)) => {
                let begun = Instant::now();
                let (node, incarnation) = (link.node, welcome.incarnation);
                let route = Route::Link(Arc::clone(&link));
                // What was queued for the connection before is lost, as the cores were told.
                while queue.next_waiting().is_some() {}
                link.set_outgoing(Some(welcome.version), |up| shared.announce(&link, up));
                shared.members.tell(Notice::Met { node, incarnation, route });
                let error = tokio::select! {
                    error = carry(&shared, stream, incarnation, &mut queue) => error,
                    _ = target.changed() => LinkError::Moved,
                    () = raised(&shared) => LinkError::Moved,
                };
                link.set_outgoing(None, |up| shared.announce(&link, up));
                if backoff.lasted(begun.elapsed()) {
                    last_error.clear();
                }
                error
            }
            Err(error) => error,
        };
        if matches!(error, LinkError::Moved) {
            continue;
        }
        shared.members.tell(Notice::TimedOut(link.node));
        let text = error.to_string();
        if text != last_error {
            tracing::warn!(peer = %link.name, address, %error, "no link");
            last_error = text;
        }
        tokio::select! {
            () = sleep(backoff.next()) => (),
            _ = target.changed() => target.mark_changed(),
        }
    }
}

/// Wakes when this process is another incarnation than now.
async fn raised(shared: &Shared) {
    let mut view = shared.members.view.subscribe();
    let now = view.borrow().incarnation;
    // The sender lives as long as `shared`.
    let _ = view.wait_for(|view| view.incarnation != now).await;
}

async fn open(
    shared: &Shared,
    link: &Link,
    address: &str,
) -> Result<(FrameStream<TcpStream>, Welcome), LinkError> {
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| LinkError::Slow)?
        .map_err(LinkError::Connect)?;
    stream.set_nodelay(true).map_err(LinkError::Connect)?;
    let (us, secret) = (&shared.identity(), &shared.secret);
    let name = Some(link.name.as_str());
    let opened = connect_peer(stream, us, secret, Purpose::Link, name, random_bytes()).await?;
    if shared.switch.is_cut() { Err(LinkError::Cut) } else { Ok(opened) }
}

/// Writes what is queued and listens for pongs until something fails.
async fn carry(
    shared: &Shared,
    stream: FrameStream<TcpStream>,
    incarnation: Incarnation,
    queue: &mut LinkQueue,
) -> LinkError {
    // Nothing can have been read beyond the handshake: pongs come after pings.
    let (reader, mut writer) = stream.into_inner().into_split();
    let link = Arc::clone(queue.link());
    tokio::select! {
        error = listen(shared, &link, incarnation, reader) => error,
        error = write(shared, &mut writer, queue) => error,
        () = shared.switch.wait_for(true) => LinkError::Cut,
    }
}

/// Ends when the peer says nothing for too long, or something wrong. While a long frame is on its
/// way to the peer no ping is; it says then by itself that it lives.
async fn listen(
    shared: &Shared,
    link: &Arc<Link>,
    incarnation: Incarnation,
    reader: impl AsyncRead + Unpin,
) -> LinkError {
    let mut frames = wire::frames(tokio::io::join(reader, tokio::io::sink()));
    loop {
        match timeout(SILENCE_MAX, read_frame::<PeerFrame, _>(&mut frames)).await {
            Ok(Ok(PeerFrame::Pong(_))) => {
                // A clone of a node's disk is no sign that the node lives.
                if shared.members.view().admits(link.node, incarnation) {
                    shared.members.tell(Notice::Heard(link.node));
                }
            }
            Ok(Ok(PeerFrame::Gossip(message))) => {
                let route = Route::Link(Arc::clone(link));
                shared.members.tell(Notice::Received { from: link.node, message, route });
            }
            Ok(Ok(_)) => return LinkError::Handshake(HandshakeError::Broken("no pong")),
            Ok(Err(error)) => return error.into(),
            Err(_) => return LinkError::Silent,
        }
    }
}

async fn write(
    shared: &Shared,
    writer: &mut (impl AsyncWrite + Unpin),
    queue: &mut LinkQueue,
) -> LinkError {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    let mut buffer = BytesMut::new();
    loop {
        tokio::select! {
            chunk = queue.next() => match chunk {
                Some(chunk) => gather(shared, chunk, queue, &mut buffer),
                None => return LinkError::Cut,
            },
            _ = pings.tick() => {
                number += 1;
                let ping = append_frame(&mut buffer, &PeerFrame::Ping(number));
                ping.expect("a ping is small");
            }
        }
        if let Err(error) = flush(writer, &mut buffer).await {
            return LinkError::Write(error);
        }
    }
}

/// Takes the first chunk and those that wait behind it into one write, without those whose time
/// has passed.
fn gather(shared: &Shared, first: Chunk, queue: &mut LinkQueue, buffer: &mut BytesMut) {
    let now_ms = shared.clock.monotonic_ms();
    let mut next = Some(first);
    while let Some(chunk) = next {
        if chunk.is_useful(now_ms) {
            if buffer.is_empty() {
                // The common case: one chunk, not copied if nobody else holds it.
                *buffer = BytesMut::from(chunk.bytes);
            } else {
                buffer.extend_from_slice(&chunk.bytes);
            }
        }
        next = if buffer.len() < WRITE_BYTES { queue.next_waiting() } else { None };
    }
}

async fn flush(
    writer: &mut (impl AsyncWrite + Unpin),
    buffer: &mut BytesMut,
) -> std::io::Result<()> {
    writer.write_all(buffer).await?;
    buffer.clear();
    Ok(())
}
