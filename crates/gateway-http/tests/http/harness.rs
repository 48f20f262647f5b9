//! Requests in, answers out; and a datastore that answers from a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request as HttpRequest};
use bytes::Bytes;
use client::{Datastore, MemoryDatastore};
use clock::{Actor, CausalContext, ContextToken, NodeId, Stamp};
use gateway_http::{HttpOptions, router};
use membership::{Liveness, MemberState};
use replication::{
    Acks, Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
    RequestError, ScanPage, ScanRequest,
};
use serde_json::Value as Json;
use tokio::sync::watch;
use tower::ServiceExt;
use values::{Key, Limits, Mint, Operation, Tag, Value, View};
use wire::{ClusterStatus, MemberStatus};

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The context, which must stand in the header, and in the body where that is JSON.
    pub(crate) fn context(&self) -> String {
        let context = self.header("merganser-context").to_owned();
        assert!(!context.is_empty(), "{self:?}");
        if self.header("content-type").ends_with("json") {
            assert_eq!(self.json()["context"], context.as_str());
        }
        context
    }

    /// The slug of a problem, which must be whole: type, title, status and detail.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status);
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        document["type"].as_str().unwrap().strip_prefix("urn:merganser:").unwrap().to_owned()
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// The gateway over `datastore`, of a node that is ready.
pub(crate) fn over(datastore: impl Datastore + 'static) -> Router {
    // The receiver keeps the last value when the sender is gone.
    let (_, ready) = watch::channel(true);
    router(Arc::new(datastore), HttpOptions::new(ready))
}

/// The gateway over an empty replica in memory.
pub(crate) fn in_memory() -> Router {
    over(MemoryDatastore::new())
}

/// The gateway over an empty replica in memory, whose answers have at most so many bytes.
pub(crate) fn answering(answer_bytes_max: usize) -> Router {
    let (_, ready) = watch::channel(true);
    let options = HttpOptions { answer_bytes_max, ..HttpOptions::new(ready) };
    router(Arc::new(MemoryDatastore::new()), options)
}

/// Sends a request to `router`.
pub(crate) async fn send(
    router: &Router,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answered {
    let mut request = HttpRequest::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answered { status: head.status.as_u16(), headers: head.headers, body }
}

pub(crate) async fn get(router: &Router, uri: &str) -> Answered {
    send(router, "GET", uri, &[], "").await
}

/// A datastore that gives every request the same answer.
pub(crate) struct Scripted(pub(crate) Result<Answer, RequestError>);

#[async_trait]
impl Datastore for Scripted {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        requests.iter().map(|_| self.0.clone()).collect()
    }

    async fn scan(&self, _: ScanRequest) -> Result<ScanPage, RequestError> {
        let key = Key::new("b", Bytes::from_static(b"\xff")).unwrap();
        Ok(ScanPage { keys: vec![(key, vec![Tag(99)])], next: None, incomplete: true })
    }

    async fn count(&self, _: Bytes) -> Result<u64, RequestError> {
        Err(RequestError::Stopping)
    }

    async fn conflicts(&self, _: ConflictsRequest) -> Result<ConflictList, RequestError> {
        Err(RequestError::Stopping)
    }

    async fn explain(&self, _: Key) -> Result<Explanation, RequestError> {
        Err(RequestError::Stopping)
    }

    async fn buckets(&self, _: BucketCall) -> Result<BucketReply, RequestError> {
        Err(RequestError::Stopping)
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        let member = |id: u64, name: &str, connected| MemberStatus {
            node: NodeId(id),
            name: name.into(),
            peer_address: format!("127.0.0.1:{id}"),
            zone: None,
            weight: 1,
            state: MemberState::Up,
            liveness: if connected { Liveness::Reachable } else { Liveness::Suspected },
            phi: 0.5,
            generation: id,
            version: "0.1.0".into(),
            connected,
            messages: connected.then_some(9),
            cut: !connected,
            partitions: 2,
            copies: 4,
            pending: id - 1,
            pending_bytes: 100 * (id - 1),
            load: membership::Load { stored_bytes: 5_000, requests_per_second: 7 },
        };
        Ok(ClusterStatus {
            cluster: "ducks".into(),
            node: "A".into(),
            version: "0.1.0".into(),
            waiting: None,
            ring_version: 7,
            handover: wire::HandoverStatus::default(),
            partitions: 4,
            owners: vec![0, 1, 0, 1],
            uptime_ms: 65_000,
            keys: 12,
            type_conflicts: 1,
            sibling_keys: 2,
            most_siblings: 5,
            compared: replication::ComparisonSummary { pairs: 4, never: 1, oldest_ms: 65_000 },
            barrier: wire::BarrierStatus {
                round: 3,
                agreed: 2,
                forgotten: 2,
                ..Default::default()
            },
            members: vec![member(1, "A", true), member(2, "B", false)],
            hint_bytes_max: 1 << 30,
            counters: vec![("read_repairs_total".into(), 3), ("bad name".into(), 1)],
        })
    }

    async fn cut_links(&self, _: &str, _: bool) -> Result<(), RequestError> {
        Ok(())
    }
}

/// An answer that shows `value`, with copies on two of three owners.
pub(crate) fn answer(value: Value) -> Answer {
    let contexts = value.0.keys().copied().chain([Tag::BYTES]);
    let contexts: BTreeMap<Tag, ContextToken> =
        contexts.map(|tag| (tag, ContextToken::from(format!("seen-{tag}")))).collect();
    Answer {
        raw: Tag::BYTES,
        view: View::of(value),
        changed: 1,
        repeated: false,
        many_siblings: None,
        acks: Acks { owners: 3, needed: 2, answered: 2, hinted: 0 },
        partly_observed: false,
        contexts,
        time: Stamp::default(),
    }
}

/// What is left when nodes 1, 2, … each do one of `operations`, none having seen another's.
pub(crate) fn concurrently(operations: &[Operation]) -> Value {
    let mut merged = Value::default();
    for (operation, node) in operations.iter().zip(1..) {
        let stamp = Stamp::from_millis(1_735_689_600_000 + node);
        let mint = Mint { actor: Actor::new(NodeId(node), 0, 0), stamp, round: None };
        let prepared = operation
            .prepare(&View::default(), &CausalContext::default(), mint, &Limits::default())
            .unwrap();
        merged.apply(&prepared.delta);
    }
    merged
}
