//! The native client: a [`Datastore`] at the other end of a connection.
//!
//! One connection per node, on which calls are pipelined; it is opened anew, on demand, after it
//! failed or fell silent. Updates that count carry a name, so that one whose outcome is unknown can be sent again
//! and counts once; what has no name is never sent twice ([`retry`]).

mod connection;
mod names;
mod node;
mod retry;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use replication::{
    Answer, BucketCall, BucketReply, Comparison, ConflictList, ConflictsRequest, Explanation,
    RepairProgress, RepairRequest, Request, RequestError, ScanPage, ScanRequest,
};
use tokio::sync::watch;
use tokio::time::Instant;
use values::Key;
use wire::{
    BackupCall, BackupProgress, CallBody, ClientCall, ClusterCall, ClusterStatus, CommittedPlan,
    DrainCall, DrainProgress, PlanCall, PlanReport, ReplyBody, TransferReport,
};

use crate::Datastore;
pub use connection::ConnectError;
use connection::open;
use names::Names;
use node::Node;
use retry::{Batch, Next, RETRY_LIMIT_MS, TRIES_MAX, is_isolated, is_turned_away};

/// Time limit of a call, beyond every deadline that a node keeps.
const CALL_LIMIT: Duration = Duration::from_secs(90);
/// So much longer than a request's time limit is its answer waited for: a guess at what the way there and
/// back takes, since a node answers by that limit.
const SLACK: Duration = Duration::from_secs(1);
/// For so long may what has no time limit of its own be tried again.
const RETRY_LIMIT: Duration = Duration::from_millis(RETRY_LIMIT_MS);
/// Pause before nodes that all failed are tried again; doubled each time.
const PAUSE: Duration = Duration::from_millis(50);

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
        let client = Self {
            nodes: addresses.iter().map(|address| Node::at(address)).collect(),
            current: AtomicUsize::new(0),
            calls: AtomicU64::new(1),
            names: Some(Names::new(u128::from_be_bytes(random))),
        };
        let mut failure = nobody(std::io::ErrorKind::InvalidInput.into());
        for (index, node) in client.nodes.iter().enumerate() {
            match open(&node.address).await {
                Ok(connection) => {
                    node.begin(watch::channel(Some(Ok(connection))).1);
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
            // A node that says nothing leaves time to ask another one.
            let has_other = self.nodes.len() > 1 && tries < TRIES_MAX;
            let limit = if has_other { connect_limit / 2 } else { CALL_LIMIT };
            let answer = self.call_at(index, body.clone(), connect_limit, limit).await;
            let is_elsewhere = match &answer {
                Ok(reply) => failure(reply).is_some_and(|error| {
                    is_of_this_node(error) || tries < self.nodes.len() && is_isolated(error)
                }),
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
            let next = match tries {
                TRIES_MAX.. => Next::Nowhere,
                _ if tries < self.nodes.len() => Next::Elsewhere,
                _ => Next::Again,
            };
            // One node alone is no faster asked twice.
            let patience = batch.patience_ms(elapsed_ms());
            let patience = patience.filter(|_| next != Next::Nowhere && self.nodes.len() > 1);
            let given = batch.given_ms(elapsed_ms());
            let longest = given.map_or(CALL_LIMIT, |left| Duration::from_millis(left) + SLACK);
            let limit = patience.map_or(longest, Duration::from_millis).min(CALL_LIMIT);
            // Nobody waits longer to be connected than for the answer.
            let connect_limit = Duration::from_millis(batch.left_ms(elapsed_ms()));
            let outcomes = self.try_at(index, batch.pending(), connect_limit, limit).await;
            let is_better_left = |error| is_turned_away(error) || is_isolated(error);
            if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(is_better_left)) {
                self.leave(index);
            }
            if !batch.take(outcomes, elapsed_ms(), next, names) {
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

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        // The cursor says whose list it is: whichever node is asked has a later page from that one.
        match self.read(CallBody::Conflicts(request)).await? {
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

    async fn plan(&self, call: PlanCall) -> Result<PlanReport, RequestError> {
        match self.call(CallBody::Plan(call)).await? {
            ReplyBody::Plan(report) => *report,
            _ => confused(),
        }
    }

    async fn commit(&self, call: PlanCall) -> Result<CommittedPlan, RequestError> {
        match self.call(CallBody::Commit(call)).await? {
            ReplyBody::Commit(committed) => *committed,
            _ => confused(),
        }
    }

    async fn transfers(&self) -> Result<TransferReport, RequestError> {
        match self.call(CallBody::Transfers).await? {
            ReplyBody::Transfers(report) => *report,
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
