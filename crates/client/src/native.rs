//! The native client: a [`Datastore`] at the other end of a connection.
//!
//! One connection per node, on which calls are pipelined; it is opened anew, on demand, after it
//! failed. Updates that count carry a name, so that one whose outcome is unknown can be sent again
//! and counts once; what has no name is never sent twice ([`retry`]).

mod names;
mod retry;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use replication::{
    Answer, BucketCall, BucketReply, Comparison, ConflictsRequest, Explanation, RepairProgress,
    RepairRequest, Request, RequestError, ScanPage, ScanRequest,
};
use storage::ConflictPage;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use values::Key;
use wire::{
    BackupCall, BackupProgress, CallBody, ClientCall, ClientHello, ClientReply, ClusterCall,
    ClusterStatus, DrainCall, DrainProgress, HandshakeError, PlanReport, ReplyBody, append_frame,
    connect_client,
};

use crate::Datastore;
use names::Names;
use retry::{Batch, TRIES_MAX};

/// Calls waiting to be written before a caller has to wait.
const QUEUE_MAX: usize = 1024;
/// Time limit of opening a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of a call, beyond every deadline that a node keeps.
const CALL_LIMIT: Duration = Duration::from_secs(90);
/// Bytes gathered before they are written though more calls wait.
const WRITE_BYTES: usize = 256 << 10;
/// Pause before nodes that all failed are tried again; doubled each time.
const PAUSE: Duration = Duration::from_millis(50);

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

/// A client of one node or several, of which any coordinates or forwards whatever it is asked.
///
/// Updates that would count twice if they were done twice are given names ([`replication::RequestName`]), and
/// whatever has a name, or only reads, is tried again by itself when the outcome is unknown:
/// through the next node, a few times, within its time limit (10 seconds where it has none).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use client::{Bucket, Client};
/// use replication::RequestName;
///
/// let client = Client::connect_to_any(&["127.0.0.1:7381", "127.0.0.1:7391"]).await?;
/// let shop = Bucket::new(Arc::new(client), "default");
/// shop.counter("visits")?.add(1).await?; // named and retried by itself
/// let order = shop.clone().named(RequestName::parse(b"shop-1:order-42"));
/// order.set("orders")?.add(["42"]).await?; // under your name, and retried
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Node>,
    /// The node that is asked first.
    current: AtomicUsize,
    calls: AtomicU64,
    names: Option<Names>,
}

#[derive(Debug)]
struct Node {
    address: String,
    /// `None` until it is first asked. Held only to look at or replace the connection, never across
    /// a call.
    connection: Mutex<Option<mpsc::Sender<Waiting>>>,
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
        Self::connect_to_any(&[address]).await
    }

    /// Connects to the first node of `addresses` that answers; the others are asked when it fails.
    /// The error is that of the last one.
    pub async fn connect_to_any(addresses: &[&str]) -> Result<Self, ConnectError> {
        let mut random = [0; 16];
        let nobody = |source| ConnectError::Unreachable { address: addresses.join(","), source };
        getrandom::fill(&mut random).map_err(|error| nobody(std::io::Error::other(error)))?;
        let node =
            |address: &&str| Node { address: (*address).to_owned(), connection: Mutex::default() };
        let client = Self {
            nodes: addresses.iter().map(node).collect(),
            current: AtomicUsize::new(0),
            calls: AtomicU64::new(1),
            names: Some(Names::new(u128::from_be_bytes(random))),
        };
        let mut failure = nobody(std::io::ErrorKind::InvalidInput.into());
        for (index, node) in client.nodes.iter().enumerate() {
            match node.queue().await {
                Ok(_) => {
                    client.current.store(index, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The same client, which gives no names by itself. An update that the application gives none
    /// is then sent once, and where its outcome is unknown it says so.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.names = None;
        self
    }

    /// Asks the current node, once.
    async fn call(&self, body: CallBody) -> Result<ReplyBody, RequestError> {
        self.call_at(self.current.load(Ordering::Relaxed), body, CALL_LIMIT).await
    }

    /// Asks a node, once. One that fails is not the current one any longer.
    async fn call_at(
        &self,
        index: usize,
        body: CallBody,
        limit: Duration,
    ) -> Result<ReplyBody, RequestError> {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.nodes[index].call(ClientCall { id, body }, limit).await;
        if answer.is_err() {
            self.leave(index);
        }
        answer
    }

    /// A node is not the current one any longer.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.nodes.len();
        // Whoever noticed it before has moved on already.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn try_at(
        &self,
        index: usize,
        requests: Vec<Request>,
        limit: Duration,
    ) -> Vec<Result<Answer, RequestError>> {
        let count = requests.len();
        let error = match self.call_at(index, CallBody::Execute(requests), limit).await {
            Ok(ReplyBody::Executed(results)) if results.len() == count => return results,
            Ok(_) => RequestError::Disconnected("the node answered something else".into()),
            Err(error) => error,
        };
        vec![Err(error); count]
    }
}

impl Node {
    async fn call(&self, call: ClientCall, limit: Duration) -> Result<ReplyBody, RequestError> {
        let lost = |why: &str| RequestError::Disconnected(format!("{} {why}", self.address));
        let (reply, replied) = oneshot::channel();
        let queue =
            self.queue().await.map_err(|error| RequestError::Unreachable(error.to_string()))?;
        queue.send(Waiting { call, reply }).await.map_err(|_| lost("closed the connection"))?;
        match tokio::time::timeout(limit, replied).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(lost("closed the connection")),
            Err(_) => Err(lost("did not answer in time")),
        }
    }

    /// The queue of a living connection, opening one if need be.
    async fn queue(&self) -> Result<mpsc::Sender<Waiting>, ConnectError> {
        let mut connection = self.connection.lock().await;
        match &*connection {
            Some(queue) if !queue.is_closed() => Ok(queue.clone()),
            _ => Ok(connection.insert(open(&self.address).await?).clone()),
        }
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

fn confused<T>() -> Result<T, RequestError> {
    Err(RequestError::Disconnected("the node answered something else".into()))
}

#[async_trait]
impl Datastore for Client {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        let names = self.names.as_ref();
        let mut batch = Batch::new(requests, names);
        let began = Instant::now();
        let elapsed_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let first = self.current.load(Ordering::Relaxed);
        for tries in 1..=TRIES_MAX {
            let index = (first + tries - 1) % self.nodes.len();
            if let Some(rounds @ 1..) = (tries - 1).checked_sub(self.nodes.len()) {
                tokio::time::sleep(PAUSE * (1 << (rounds - 1))).await;
            }
            let may_retry = tries < TRIES_MAX;
            // One node alone is no faster asked twice.
            let patience = batch.patience_ms(elapsed_ms());
            let patience = patience.filter(|_| may_retry && self.nodes.len() > 1);
            let limit = patience.map_or(CALL_LIMIT, Duration::from_millis);
            let outcomes = self.try_at(index, batch.pending(), limit).await;
            if outcomes.iter().any(|outcome| *outcome == Err(RequestError::Stopping)) {
                self.leave(index);
            }
            if !batch.take(outcomes, elapsed_ms(), may_retry, names) {
                break;
            }
        }
        batch.finish()
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

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictPage, RequestError> {
        match self.call(CallBody::Conflicts(request)).await? {
            ReplyBody::Conflicts(page) => page,
            _ => confused(),
        }
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        match self.call(CallBody::Explain(key)).await? {
            ReplyBody::Explanation(explanation) => *explanation,
            _ => confused(),
        }
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        match self.call(CallBody::Buckets(call)).await? {
            ReplyBody::Buckets(reply) => *reply,
            _ => confused(),
        }
    }

    async fn repair(&self, request: RepairRequest) -> Result<RepairProgress, RequestError> {
        match self.call(CallBody::Repair(request)).await? {
            ReplyBody::Repair(progress) => progress,
            _ => confused(),
        }
    }

    async fn comparisons(&self) -> Result<Vec<Comparison>, RequestError> {
        match self.call(CallBody::Comparisons).await? {
            ReplyBody::Comparisons(found) => found,
            _ => confused(),
        }
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        match self.call(CallBody::Status).await? {
            ReplyBody::Status(status) => *status,
            _ => confused(),
        }
    }

    async fn cluster(&self, call: ClusterCall) -> Result<(), RequestError> {
        match self.call(CallBody::Cluster(call)).await? {
            ReplyBody::Cluster(done) => done,
            _ => confused(),
        }
    }

    async fn commit(&self, is_trial: bool) -> Result<PlanReport, RequestError> {
        match self.call(CallBody::Commit { is_trial }).await? {
            ReplyBody::Commit(report) => *report,
            _ => confused(),
        }
    }

    async fn replace(
        &self,
        dead: &str,
        by: &str,
        is_trial: bool,
    ) -> Result<PlanReport, RequestError> {
        let (dead, by) = (dead.to_owned(), by.to_owned());
        match self.call(CallBody::Replace { dead, by, is_trial }).await? {
            ReplyBody::Commit(report) => *report,
            _ => confused(),
        }
    }

    async fn merge(&self, seed: &str) -> Result<(), RequestError> {
        match self.call(CallBody::Merge { seed: seed.to_owned() }).await? {
            ReplyBody::Cluster(done) => done,
            _ => confused(),
        }
    }

    async fn drain(&self, call: DrainCall) -> Result<DrainProgress, RequestError> {
        match self.call(CallBody::Drain(call)).await? {
            ReplyBody::Drain(progress) => progress,
            _ => confused(),
        }
    }

    async fn backup(&self, call: BackupCall) -> Result<BackupProgress, RequestError> {
        match self.call(CallBody::Backup(call)).await? {
            ReplyBody::Backup(progress) => *progress,
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
