//! What the tests have in common.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use client::Datastore;
use node::{DevCluster, DevOptions};
use replication::{Answer, Request, RequestError, ScanRequest};
use tokio::time::{Instant, timeout};
use values::{Key, Operation, OrsetOp, Scope, State, Tag, View};

/// Longest wait for anything that must come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of three with temporary data.
pub(crate) async fn three() -> DevCluster {
    DevCluster::start(DevOptions::default()).await.unwrap()
}

pub(crate) fn set_key(key: &str) -> Key {
    Key::new("default", key.to_owned()).unwrap()
}

/// Adding `element` to the set `key`.
pub(crate) fn adding(key: &str, element: &str) -> Request {
    let elements = BTreeSet::from([Bytes::from(element.to_owned())]);
    Request::update(set_key(key), Operation::Orset(OrsetOp::Add(elements)))
}

pub(crate) async fn add(
    datastore: &dyn Datastore,
    key: &str,
    element: &str,
) -> Result<Answer, RequestError> {
    datastore.request(adding(key, element)).await
}

/// The elements of the set `key`.
pub(crate) async fn members(datastore: &dyn Datastore, key: &str) -> Vec<String> {
    let answer = datastore.request(Request::get(set_key(key), Scope::Whole)).await.unwrap();
    elements(&answer.view)
}

/// The elements of a view's set.
pub(crate) fn elements(view: &View) -> Vec<String> {
    match view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => set
            .store
            .iter()
            .map(|(element, _)| String::from_utf8(element.to_vec()).unwrap())
            .collect(),
        _ => Vec::new(),
    }
}

/// All keys, found page by page.
pub(crate) async fn all_keys(datastore: &dyn Datastore, limit: u32) -> Vec<String> {
    let mut keys = BTreeSet::new();
    let mut cursor = None;
    loop {
        let bucket = Bytes::from_static(b"default");
        let page = datastore.scan(ScanRequest { bucket, cursor, limit }).await.unwrap();
        assert!(!page.incomplete);
        for (key, tags) in page.keys {
            assert_eq!(tags, [Tag::ORSET]);
            keys.insert(String::from_utf8(key.key().to_vec()).unwrap());
        }
        cursor = page.next;
        if cursor.is_none() {
            return keys.into_iter().collect();
        }
    }
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::task::yield_now().await;
    }
}

/// The outcome of something that must come to an end.
pub(crate) async fn ends<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {} s: {what}", PATIENCE.as_secs()))
}
