//! The native client: a [`Datastore`] at the other end of a connection.
//!
//! One connection per node, on which calls are pipelined; it is opened anew, on demand, after it
//! failed. Updates that count carry a name, so that one whose outcome is unknown can be sent again
//! and counts once; what has no name is never sent twice ([`retry`]).

mod names;
mod retry;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use values::Key;
use wire::{
    BackupCall, BackupProgress, CallBody, ClientCall, ClientHello, ClientReply, ClusterCall,
    ClusterStatus, DrainCall, DrainProgress, HandshakeError, PlanReport, ReplyBody, append_frame,
    connect_client,
};

use crate::Datastore;
use names::Names;
use retry::{Batch, RETRY_LIMIT_MS, TRIES_MAX, is_turned_away};

/// Calls waiting to be written before a caller has to wait.
const QUEUE_MAX: usize = 1024;
/// Time limit of opening a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of a call, beyond every deadline that a node keeps.
const CALL_LIMIT: Duration = Duration::from_secs(90);
/// For so long may what has no time limit of its own be tried again.
const RETRY_LIMIT: Duration = Duration::from_millis(RETRY_LIMIT_MS);
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
    /// The last attempt to connect; `None` before the first. Held only to look at it or to begin
    /// another, never across an await.
    attempt: Mutex<Option<Attempt>>,
}

/// What comes of an attempt to connect: the queue of the connection, or why there is none. `None`
/// while it lasts. All who want the node meanwhile wait for the one attempt.
type Attempt = watch::Receiver<Option<Result<Queue, String>>>;

type Queue = mpsc::Sender<Waiting>;

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
            |address: &&str| Node { address: (*address).to_owned(), attempt: Mutex::default() };
        let client = Self {
            nodes: addresses.iter().map(node).collect(),
            current: AtomicUsize::new(0),
            calls: AtomicU64::new(1),
            names: Some(Names::new(u128::from_be_bytes(random))),
        };
        let mut failure = nobody(std::io::ErrorKind::InvalidInput.into());
        for (index, node) in client.nodes.iter().enumerate() {
            match open(&node.address).await {
                Ok(queue) => {
                    node.begin(watch::channel(Some(Ok(queue))).1);
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
        self.call_at(self.current.load(Ordering::Relaxed), body, CALL_LIMIT, CALL_LIMIT).await
    }

    /// Asks the current node for what only reads, and others when it fails or is stopping, for as
    /// long as requests are tried again that have no time limit.
    async fn read(&self, body: CallBody) -> Result<ReplyBody, RequestError> {
        let began = Instant::now();
        let first = self.current.load(Ordering::Relaxed);
        let mut tries = 1;
        loop {
            let index = (first + tries - 1) % self.nodes.len();
            self.pause_before(tries).await;
            let connect_limit = RETRY_LIMIT.saturating_sub(began.elapsed());
            let answer = self.call_at(index, body.clone(), connect_limit, CALL_LIMIT).await;
            let is_elsewhere = match &answer {
                Ok(reply) => failure(reply).is_some_and(is_of_this_node),
                Err(_) => true,
            };
            if !is_elsewhere || tries == TRIES_MAX || began.elapsed() >= RETRY_LIMIT {
                return answer;
            }
            self.leave(index);
            tries += 1;
        }
    }

    /// Waits before a try that comes after all nodes were tried.
    async fn pause_before(&self, tries: usize) {
        if let Some(rounds @ 1..) = (tries - 1).checked_sub(self.nodes.len()) {
            tokio::time::sleep(PAUSE * (1 << (rounds - 1))).await;
        }
    }

    /// Asks a node, once. One that fails is not the current one any longer.
    async fn call_at(
        &self,
        index: usize,
        body: CallBody,
        connect_limit: Duration,
        limit: Duration,
    ) -> Result<ReplyBody, RequestError> {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.nodes[index].call(ClientCall { id, body }, connect_limit, limit).await;
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
        connect_limit: Duration,
        limit: Duration,
    ) -> Vec<Result<Answer, RequestError>> {
        let count = requests.len();
        let call = self.call_at(index, CallBody::Execute(requests), connect_limit, limit);
        let error = match call.await {
            Ok(ReplyBody::Executed(results)) if results.len() == count => return results,
            Ok(_) => RequestError::Disconnected("the node answered something else".into()),
            Err(error) => error,
        };
        vec![Err(error); count]
    }
}

impl Node {
    /// Asks, within `limit` as a whole; `connect_limit` is for the part before the call is on its
    /// way. Whatever fails in that part has done nothing.
    async fn call(
        &self,
        call: ClientCall,
        connect_limit: Duration,
        limit: Duration,
    ) -> Result<ReplyBody, RequestError> {
        let Self { address, .. } = self;
        let lost = |why: &str| RequestError::Disconnected(format!("{address} {why}"));
        let unreachable = |why: &str| RequestError::Unreachable(format!("{address} {why}"));
        let end = Instant::now() + limit;
        let (reply, replied) = oneshot::channel();
        let handed_over = async {
            let queue = self.queue().await.map_err(RequestError::Unreachable)?;
            let sent = queue.send(Waiting { call, reply }).await;
            sent.map_err(|_| unreachable("closed the connection before it was asked"))
        };
        timeout(connect_limit.min(limit), handed_over)
            .await
            .map_err(|_| unreachable("could not be asked in time"))??;
        match timeout_at(end, replied).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(lost("closed the connection")),
            Err(_) => Err(lost("did not answer in time")),
        }
    }

    /// The queue of a living connection, opening one if need be.
    async fn queue(&self) -> Result<Queue, String> {
        let mut attempt = self.attempt();
        // The task that connects is gone only with the runtime.
        let came = attempt.wait_for(Option::is_some).await.ok().and_then(|came| came.clone());
        came.unwrap_or_else(|| Err(format!("{} is not connected to any more", self.address)))
    }

    /// The attempt under way, or that which led to a living connection, or a new one.
    fn attempt(&self) -> Attempt {
        let mut last = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = &*last {
            let is_good = match &*attempt.borrow() {
                Some(Ok(queue)) => !queue.is_closed(),
                Some(Err(_)) => false,
                // It has no end if its runtime ended first.
                None => attempt.has_changed().is_ok(),
            };
            if is_good {
                return attempt.clone();
            }
        }
        let (came, attempt) = watch::channel(None);
        let address = self.address.clone();
        // A task of its own: those who wait for it may give up, and others wait on.
        tokio::spawn(async move {
            let opened = open(&address).await.map_err(|error| error.to_string());
            came.send_replace(Some(opened));
        });
        last.insert(attempt).clone()
    }

    fn begin(&self, attempt: Attempt) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }
}

async fn open(address: &str) -> Result<Queue, ConnectError> {
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

/// The error that a reply to what only reads is, if it is one.
fn failure(reply: &ReplyBody) -> Option<&RequestError> {
    match reply {
        ReplyBody::Page(reply) => reply.as_ref().err(),
        ReplyBody::Count(reply) => reply.as_ref().err(),
        ReplyBody::Conflicts(reply) => reply.as_ref().err(),
        ReplyBody::Explanation(reply) => reply.as_ref().as_ref().err(),
        ReplyBody::Buckets(reply) => reply.as_ref().as_ref().err(),
        _ => None,
    }
}

/// Whether another node may well answer what this one did not.
const fn is_of_this_node(error: &RequestError) -> bool {
    is_turned_away(error) || matches!(error, RequestError::Disconnected(_))
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
            self.pause_before(tries).await;
            let may_retry = tries < TRIES_MAX;
            // One node alone is no faster asked twice.
            let patience = batch.patience_ms(elapsed_ms());
            let patience = patience.filter(|_| may_retry && self.nodes.len() > 1);
            let limit = patience.map_or(CALL_LIMIT, Duration::from_millis);
            // Nobody waits longer to be connected than for the answer.
            let connect_limit = Duration::from_millis(batch.left_ms(elapsed_ms()));
            let outcomes = self.try_at(index, batch.pending(), connect_limit, limit).await;
            if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(is_turned_away)) {
                self.leave(index);
            }
            if !batch.take(outcomes, elapsed_ms(), may_retry, names) {
                break;
            }
        }
        batch.finish()
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        match self.read(CallBody::Scan(request)).await? {
            ReplyBody::Page(page) => page,
            _ => confused(),
        }
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        match self.read(CallBody::Count(bucket)).await? {
            ReplyBody::Count(count) => count,
            _ => confused(),
        }
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictPage, RequestError> {
        // A page is of what one node holds: where it goes on, another cannot.
        let is_first = request.after.is_none();
        let body = CallBody::Conflicts(request);
        let reply = if is_first { self.read(body).await } else { self.call(body).await };
        match reply? {
            ReplyBody::Conflicts(page) => page,
            _ => confused(),
        }
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        match self.read(CallBody::Explain(key)).await? {
            ReplyBody::Explanation(explanation) => *explanation,
            _ => confused(),
        }
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        let reads = call.changes().is_none();
        let body = CallBody::Buckets(call);
        let reply = if reads { self.read(body).await } else { self.call(body).await };
        match reply? {
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
