//! The connection to a node: calls are pipelined on it, and replies handed to who waits for them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use replication::RequestError;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use wire::{
    CallBody, ClientCall, ClientHello, ClientReply, HandshakeError, ReplyBody, append_frame,
    connect_client,
};

/// Calls waiting to be written before a caller has to wait.
const QUEUE_MAX: usize = 1024;
/// Time limit of opening a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes gathered before they are written though more calls wait.
const WRITE_BYTES: usize = 256 << 10;
/// A connection on which nothing came for so long, though something was asked, is replaced when an answer is
/// not waited for any longer. A guess: time limits may be shorter than a node takes, and say nothing then.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A node that says nothing is asked after so long whether its machine is there, so often, with this between:
/// as nodes ask their clients.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_ASKS: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The connection ends if its machine does not acknowledge for so long what was sent. A guess: longer than
/// machines and names of them take to move.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_MS: u32 = 30_000;

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers at the address.
    #[error(
        "cannot connect to {address}: {source}; is a node running there (`merganser dev` starts \
         some), and is this its peer address, HOST:PORT?"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody answers, but there was no agreement.
    #[error("{address}: {source}{}", advice(source))]
    Handshake {
        /// The address.
        address: String,
        /// What went wrong.
        source: HandshakeError,
    },
}

/// What to do where somebody else than a node's peer port may have answered.
const fn advice(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Foreign | HandshakeError::Frame(_) | HandshakeError::Slow => {
            "; give the node's peer address, not its Redis or HTTP one"
        }
        _ => "",
    }
}

/// A connection, as long as anybody holds one of these: also who waits for a reply does.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    queue: mpsc::Sender<Waiting>,
    silence: Arc<Silence>,
}

/// A call and who waits for its reply.
#[derive(Debug)]
struct Waiting {
    call: ClientCall,
    reply: Caller,
}

type Caller = oneshot::Sender<ReplyBody>;

/// Since when something was asked and nothing came.
#[derive(Debug)]
struct Silence {
    opened: Instant,
    /// Milliseconds after `opened`; 0 while nothing was asked since something came.
    since_ms: AtomicU64,
}

impl Silence {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn asked(&self) {
        // Who asked before has begun it already.
        let _ =
            self.since_ms.compare_exchange(0, self.now_ms(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn heard(&self) {
        self.since_ms.store(0, Ordering::Relaxed);
    }

    fn is_over(&self, limit: Duration) -> bool {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let lasted = Duration::from_millis(self.now_ms().saturating_sub(since_ms));
        since_ms > 0 && lasted >= limit
    }
}

impl Connection {
    /// Hands a call over to be written. Returns whether it was: not if the connection is closed.
    pub(super) async fn send(&self, call: ClientCall, reply: oneshot::Sender<ReplyBody>) -> bool {
        self.silence.asked();
        self.queue.send(Waiting { call, reply }).await.is_ok()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.queue.same_channel(&other.queue)
    }

    /// Whether nothing comes any more, for all one can tell.
    pub(super) fn is_silent(&self) -> bool {
        self.silence.is_over(SILENCE_MAX)
    }
}

/// Opens a connection and agrees with the node on the protocol.
pub(super) async fn open(address: &str) -> Result<Connection, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    // Without it a node that vanished is noticed later, and nothing else is lost.
    let _ = look_after(&stream);
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| unreachable(io::Error::other(error)))?;
    let hello = ClientHello { name: "merganser client".into(), principal: None };
    let (stream, _) = connect_client(stream, None, hello, None, nonce)
        .await
        .map_err(|source| ConnectError::Handshake { address: address.to_owned(), source })?;
    let parts = stream.into_parts();
    let (reader, writer) = parts.io.into_split();
    let mut replies = FramedRead::new(reader, parts.codec);
    replies.read_buffer_mut().extend_from_slice(&parts.read_buf);
    let (queue, calls) = mpsc::channel(QUEUE_MAX);
    let (announce, announced) = mpsc::unbounded_channel();
    let silence = Arc::new(Silence { opened: Instant::now(), since_ms: AtomicU64::new(0) });
    let reading = tokio::spawn(read_replies(replies, announced, Arc::clone(&silence)));
    tokio::spawn(write_calls(writer, calls, announce, reading.abort_handle()));
    Ok(Connection { queue, silence })
}

/// Has the operating system notice a node whose machine vanished without a word.
fn look_after(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_ASKS)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, ACKNOWLEDGED_MS)?;
    Ok(())
}

/// Writes calls, many at a time where many wait, until the connection or the client is gone.
async fn write_calls(
    mut writer: OwnedWriteHalf,
    mut calls: mpsc::Receiver<Waiting>,
    announce: mpsc::UnboundedSender<(u64, Caller)>,
    reading: AbortHandle,
) {
    let mut buffer = BytesMut::new();
    loop {
        let call = tokio::select! {
            call = calls.recv() => call,
            () = announce.closed() => None,
        };
        let Some(mut next) = call else {
            // Nobody waits for a reply; a node that fell silent would never end the reading.
            return reading.abort();
        };
        loop {
            let Waiting { call, reply } = next;
            match append_frame(&mut buffer, &call) {
                // The reader is told before the call is written, so it knows every reply.
                Ok(()) => {
                    if announce.send((call.id, reply)).is_err() {
                        return;
                    }
                }
                Err(oversize) => {
                    let error = RequestError::Unsupported(format!("request too large: {oversize}"));
                    // A caller that gave up no longer listens; nothing depends on it.
                    let _ = reply.send(refused(&call.body, &error));
                }
            }
            match calls.try_recv() {
                Ok(call) if buffer.len() < WRITE_BYTES => next = call,
                Ok(call) => {
                    if writer.write_all_buf(&mut buffer).await.is_err() {
                        return;
                    }
                    next = call;
                }
                Err(_) => break,
            }
        }
        if writer.write_all_buf(&mut buffer).await.is_err() {
            return;
        }
    }
}

/// Hands replies to who waits. When the connection is gone, whoever still waits learns it from the
/// drop of its sender. Calls announced are bounded by those that callers make and wait for.
async fn read_replies(
    mut replies: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    mut announced: mpsc::UnboundedReceiver<(u64, Caller)>,
    silence: Arc<Silence>,
) {
    let mut waiting = BTreeMap::<u64, Caller>::new();
    while let Some(Ok(frame)) = replies.next().await {
        silence.heard();
        let Ok(ClientReply { id, body }) = clock::decode(&frame) else { return };
        while let Ok((id, caller)) = announced.try_recv() {
            waiting.insert(id, caller);
        }
        if let Some(caller) = waiting.remove(&id) {
            // A caller that gave up no longer listens; nothing depends on it.
            let _ = caller.send(body);
        }
    }
}

/// The reply that tells every part of a call the same error.
fn refused(body: &CallBody, error: &RequestError) -> ReplyBody {
    match body {
        CallBody::Execute(requests) => {
            ReplyBody::Executed(requests.iter().map(|_| Err(error.clone())).collect())
        }
        CallBody::Scan(_) => ReplyBody::Page(Err(error.clone())),
        CallBody::Count(_) => ReplyBody::Count(Err(error.clone())),
        CallBody::Conflicts(_) => ReplyBody::Conflicts(Err(error.clone())),
        CallBody::Explain(_) => ReplyBody::Explanation(Box::new(Err(error.clone()))),
        CallBody::Buckets(_) => ReplyBody::Buckets(Box::new(Err(error.clone()))),
        CallBody::Repair(_) => ReplyBody::Repair(Err(error.clone())),
        CallBody::Comparisons => ReplyBody::Comparisons(Err(error.clone())),
        CallBody::Status => ReplyBody::Status(Box::new(Err(error.clone()))),
        CallBody::Cluster(_) | CallBody::Merge { .. } => ReplyBody::Cluster(Err(error.clone())),
        CallBody::Plan(_) => ReplyBody::Plan(Box::new(Err(error.clone()))),
        CallBody::Commit(_) => ReplyBody::Commit(Box::new(Err(error.clone()))),
        CallBody::Transfers => ReplyBody::Transfers(Box::new(Err(error.clone()))),
        CallBody::Drain(_) => ReplyBody::Drain(Err(error.clone())),
        CallBody::Backup(_) => ReplyBody::Backup(Box::new(Err(error.clone()))),
        CallBody::Links { .. } => ReplyBody::Links(Err(error.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_operating_system_notices_a_node_that_vanishes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        look_after(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(60));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 30_000);
    }

    #[test]
    fn only_who_may_have_asked_another_port_is_told_to_ask_the_peer_one() {
        let said = |source| ConnectError::Handshake { address: "a:1".into(), source }.to_string();
        assert_eq!(
            said(HandshakeError::Foreign),
            "a:1: not a Merganser handshake; give the node's peer address, not its Redis or HTTP one"
        );
        assert_eq!(
            said(HandshakeError::Unproven),
            "a:1: the node at this address does not know the cluster's secret"
        );
    }

    #[test]
    fn a_silence_begins_with_the_first_call_since_something_came() {
        let opened = Instant::now() - Duration::from_secs(9);
        let silence = Silence { opened, since_ms: AtomicU64::new(0) };
        assert!(!silence.is_over(Duration::ZERO));
        silence.since_ms.store(7_000, Ordering::Relaxed);
        silence.asked();
        assert!(silence.is_over(Duration::from_secs(1)));
        silence.heard();
        silence.asked();
        assert!(!silence.is_over(Duration::from_secs(1)));
    }
}
