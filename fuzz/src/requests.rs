//! A datastore in memory, before which stands the claim that whatever a gateway makes of its input can
//! be sent to another node.

use async_trait::async_trait;
use bytes::Bytes;
use client::{Datastore, MemoryDatastore};
use replication::{
    Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
    RequestError, ScanPage, ScanRequest,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};
use values::Key;
use wire::ClusterStatus;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Checking(MemoryDatastore);

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(sent: &T) {
    assert_eq!(clock::decode::<T>(&clock::encode(sent)).as_ref(), Ok(sent));
}

#[async_trait]
impl Datastore for Checking {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        requests.iter().for_each(check);
        let answers = self.0.execute(requests).await;
        answers.iter().for_each(check);
        answers
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        check(&request);
        self.0.scan(request).await
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        self.0.count(bucket).await
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        check(&request);
        self.0.conflicts(request).await
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        check(&key);
        self.0.explain(key).await
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        check(&call);
        self.0.buckets(call).await
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        self.0.status().await
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        self.0.cut_links(member, cut).await
    }
}

/// A runtime of one thread.
///
/// # Panics
/// If the system gives none.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system gives a runtime")
}
