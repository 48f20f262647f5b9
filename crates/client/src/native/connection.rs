//! The connection to a node: calls are pipelined on it, and replies handed to who waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use replication::RequestError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
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
        source: std::io::Error,
    },
    /// Somebody answers, but there was no agreement.
    #[error("{address}: {source}; give the node's peer address, not its Redis or HTTP one")]
    Handshake {
        /// The address.
        address: String,
        /// What went wrong.
        source: HandshakeError,
    },
}

pub(super) type Queue = mpsc::Sender<Waiting>;

/// A call and who waits for its reply.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: ClientCall,
    pub(super) reply: Caller,
}

pub(super) type Caller = oneshot::Sender<ReplyBody>;

/// Opens a connection and agrees with the node on the protocol.
pub(super) async fn open(address: &str) -> Result<Queue, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| unreachable(std::io::Error::other(error)))?;
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
    tokio::spawn(write_calls(writer, calls, announce));
    tokio::spawn(read_replies(replies, announced));
    Ok(queue)
}

/// Writes calls, many at a time where many wait, until the connection or the client is gone.
async fn write_calls(
    mut writer: OwnedWriteHalf,
    mut calls: mpsc::Receiver<Waiting>,
    announce: mpsc::UnboundedSender<(u64, Caller)>,
) {
    let mut buffer = BytesMut::new();
    loop {
        let call = tokio::select! {
            call = calls.recv() => call,
            () = announce.closed() => None,
        };
        let Some(mut next) = call else { return };
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
) {
    let mut waiting = BTreeMap::<u64, Caller>::new();
    while let Some(Ok(frame)) = replies.next().await {
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
        CallBody::Commit { .. } | CallBody::Replace { .. } => {
            ReplyBody::Commit(Box::new(Err(error.clone())))
        }
        CallBody::Drain(_) => ReplyBody::Drain(Err(error.clone())),
        CallBody::Backup(_) => ReplyBody::Backup(Box::new(Err(error.clone()))),
        CallBody::Links { .. } => ReplyBody::Links(Err(error.clone())),
    }
}
