//! Raw values over datastores that answer less than they might.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use client::{Bucket, Datastore, MemoryDatastore, RawValue};
use replication::{
    Action, Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
    RequestError, RequestName, ScanPage, ScanRequest,
};
use values::{BytesOp, Key, Operation, View};
use wire::ClusterStatus;

/// A datastore that leaves the views of writes out, as nodes do where they are many bytes; the first
/// write is concurrent with another's.
#[derive(Default)]
struct Sparing {
    memory: Arc<MemoryDatastore>,
    was_written: AtomicBool,
    /// How many calls are done; all after them fail.
    calls_left: Option<AtomicUsize>,
}

fn is_done(calls_left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}

fn key() -> Key {
    Key::new("b", "k").unwrap()
}

#[async_trait]
impl Datastore for Sparing {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        if self.calls_left.as_ref().is_some_and(|left| !is_done(left)) {
            return vec![Err(RequestError::Stopping); requests.len()];
        }
        let is_write: Vec<bool> =
            requests.iter().map(|request| matches!(request.action, Action::Update(_))).collect();
        if is_write.contains(&true) && !self.was_written.swap(true, Ordering::Relaxed) {
            let other = Operation::Bytes(BytesOp::Put(Bytes::from_static(b"theirs")));
            self.memory.request(Request::update(key(), other)).await.unwrap();
        }
        let mut results = self.memory.execute(requests).await;
        for (result, is_write) in results.iter_mut().zip(is_write) {
            if let (Ok(answer), true) = (result, is_write) {
                answer.view = View::default();
            }
        }
        results
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        self.memory.scan(request).await
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        self.memory.count(bucket).await
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        self.memory.conflicts(request).await
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        self.memory.explain(key).await
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        self.memory.buckets(call).await
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        self.memory.status().await
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        self.memory.cut_links(member, cut).await
    }
}

fn join(values: &[RawValue]) -> Bytes {
    let mut all = BytesMut::new();
    values.iter().for_each(|sibling| all.extend_from_slice(&sibling.value));
    all.extend_from_slice(b";mine");
    all.freeze()
}

async fn left(datastore: &Arc<dyn Datastore>) -> Vec<Bytes> {
    let raw = Bucket::new(Arc::clone(datastore), "b").raw("k").unwrap();
    raw.get().await.unwrap().values.into_iter().map(|sibling| sibling.value).collect()
}

#[tokio::test]
async fn siblings_are_reconciled_though_no_put_is_shown_what_it_left() {
    let datastore: Arc<dyn Datastore> = Arc::new(Sparing::default());
    let raw = Bucket::new(Arc::clone(&datastore), "b").raw("k").unwrap();
    let mut rounds = 0;
    let resolve = |values: &[RawValue]| {
        rounds += 1;
        join(values)
    };
    raw.update(resolve).await.unwrap();
    assert_eq!((rounds, left(&datastore).await), (2, vec!["theirs;mine;mine".into()]));
}

#[tokio::test]
async fn a_name_is_that_of_the_first_put_and_what_is_put_after_it_has_none() {
    let datastore: Arc<dyn Datastore> = Arc::new(Sparing::default());
    let named = Bucket::new(Arc::clone(&datastore), "b").named(RequestName::parse(b"c:1"));
    named.raw("k").unwrap().update(join).await.unwrap();
    // Siblings are in the order of their dots, and a named put has one of its own kind.
    assert_eq!(left(&datastore).await, [";minetheirs;mine"]);
}

#[tokio::test]
async fn once_a_put_is_acknowledged_a_failure_to_reconcile_is_no_error() {
    // A get and a put, then nothing; or another get.
    for calls in [2, 3] {
        let sparing = Sparing { calls_left: Some(AtomicUsize::new(calls)), ..Sparing::default() };
        let memory: Arc<dyn Datastore> = Arc::clone(&sparing.memory) as _;
        let raw = Bucket::new(Arc::new(sparing), "b").raw("k").unwrap();
        raw.update(join).await.unwrap();
        assert_eq!(left(&memory).await, ["theirs", ";mine"]);
    }
    let refusing = Sparing { calls_left: Some(AtomicUsize::new(1)), ..Sparing::default() };
    let raw = Bucket::new(Arc::new(refusing), "b").raw("k").unwrap();
    assert_eq!(raw.update(join).await, Err(RequestError::Stopping));
}
