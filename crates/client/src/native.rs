//! The native client: a [`Datastore`] at the other end of a connection.
//!
//! One connection per client, on which calls are pipelined; it is opened anew, on demand, after it
//! failed. A call that was sent when the connection failed has an unknown outcome and says so; it
//! is never sent twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use replication::{Answer, Explanation, Request, RequestError, ScanPage, ScanRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use values::Key;
use wire::{
    CallBody, ClientCall, ClientHello, ClientReply, ClusterStatus, HandshakeError, ReplyBody,
    append_frame, connect_client,
};

use crate::Datastore;

/// Calls waiting to be written before a caller has to wait.
const QUEUE_MAX: usize = 1024;
/// Time limit of opening a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of a call, beyond every deadline that a node keeps.
const CALL_LIMIT: Duration = Duration::from_secs(90);
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

/// A client of one node, which coordinates or forwards whatever it is asked.
#[derive(Debug)]
pub struct Client {
    address: String,
    calls: AtomicU64,
    /// Held only to look at or replace the connection, never across a call.
    connection: Mutex<mpsc::Sender<Waiting>>,
}

/// A call and who waits for its reply.
#[derive(Debug)]
struct Waiting {
    call: ClientCall,
    reply: Caller,
}

type Caller = oneshot::Sender<ReplyBody>;

impl Client {
    /// Connects to the node whose peer address is `address`, as host and port.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let connection = Mutex::new(open(address).await?);
        Ok(Self { address: address.to_owned(), calls: AtomicU64::new(1), connection })
    }

    async fn call(&self, body: CallBody) -> Result<ReplyBody, RequestError> {
        let lost = |why: &str| RequestError::Disconnected(format!("{} {why}", self.address));
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        let queue = self.queue().await?;
        let waiting = Waiting { call: ClientCall { id, body }, reply };
        queue.send(waiting).await.map_err(|_| lost("closed the connection"))?;
        match tokio::time::timeout(CALL_LIMIT, replied).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(lost("closed the connection")),
            Err(_) => Err(lost("did not answer in time")),
        }
    }

    /// The queue of a living connection, opening one if need be.
    async fn queue(&self) -> Result<mpsc::Sender<Waiting>, RequestError> {
        let mut connection = self.connection.lock().await;
        if connection.is_closed() {
            *connection = open(&self.address)
                .await
                .map_err(|error| RequestError::Unreachable(error.to_string()))?;
        }
        Ok(connection.clone())
    }
}

async fn open(address: &str) -> Result<mpsc::Sender<Waiting>, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address))
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
        CallBody::Explain(_) => ReplyBody::Explanation(Box::new(Err(error.clone()))),
        CallBody::Status => ReplyBody::Status(Box::new(Err(error.clone()))),
        CallBody::Links { .. } => ReplyBody::Links(Err(error.clone())),
    }
}

fn confused<T>() -> Result<T, RequestError> {
    Err(RequestError::Disconnected("the node answered something else".into()))
}

#[async_trait]
impl Datastore for Client {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        let count = requests.len();
        let error = match self.call(CallBody::Execute(requests)).await {
            Ok(ReplyBody::Executed(results)) if results.len() == count => return results,
            Ok(_) => RequestError::Disconnected("the node answered something else".into()),
            Err(error) => error,
        };
        vec![Err(error); count]
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        match self.call(CallBody::Scan(request)).await? {
            ReplyBody::Page(page) => page,
            _ => confused(),
        }
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        match self.call(CallBody::Count(bucket)).await? {
            ReplyBody::Count(count) => count,
            _ => confused(),
        }
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        match self.call(CallBody::Explain(key)).await? {
            ReplyBody::Explanation(explanation) => *explanation,
            _ => confused(),
        }
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        match self.call(CallBody::Status).await? {
            ReplyBody::Status(status) => *status,
            _ => confused(),
        }
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        match self.call(CallBody::Links { member: member.to_owned(), cut }).await? {
            ReplyBody::Links(done) => done,
            _ => confused(),
        }
    }
}
