//! Raw values over datastores that answer less than they might.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use client::{Bucket, Datastore, MemoryDatastore, RawValue};
use replication::{
    Action, Answer, BucketCall, BucketReply, ConflictsRequest, Explanation, Request, RequestError,
    ScanPage, ScanRequest,
};
use storage::ConflictPage;
use values::{BytesOp, Key, Operation, View};
use wire::ClusterStatus;

/// A datastore that leaves the views of writes out, as nodes do where they are many bytes; the first
/// write is concurrent with another's.
#[derive(Default)]
struct Sparing {
    memory: MemoryDatastore,
    was_written: AtomicBool,
}

fn key() -> Key {
    Key::new("b", "k").unwrap()
}

#[async_trait]
impl Datastore for Sparing {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
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

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictPage, RequestError> {
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

#[tokio::test]
async fn siblings_are_reconciled_though_no_put_is_shown_what_it_left() {
    let datastore: Arc<dyn Datastore> = Arc::new(Sparing::default());
    let raw = Bucket::new(Arc::clone(&datastore), "b").raw("k").unwrap();
    let mut rounds = 0;
    let join = |values: &[RawValue]| {
        rounds += 1;
        let mut all = BytesMut::new();
        values.iter().for_each(|sibling| all.extend_from_slice(&sibling.value));
        all.extend_from_slice(b";mine");
        all.freeze()
    };
    raw.update(join).await.unwrap();
    let left: Vec<Bytes> =
        raw.get().await.unwrap().values.into_iter().map(|sibling| sibling.value).collect();
    assert_eq!((rounds, left), (2, vec![Bytes::from_static(b"theirs;mine;mine")]));
}
