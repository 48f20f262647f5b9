//! What the tests have in common.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use client::Datastore;
use node::{DevCluster, DevOptions, Settings};
use replication::{Answer, Request, RequestError, ScanRequest};
use tokio::time::{Instant, timeout};
use values::{Key, Operation, OrsetOp, Scope, State, Tag, View};

/// Longest wait for anything that must come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of three with temporary data.
pub(crate) async fn three() -> DevCluster {
    start(DevOptions::default(), 1).await
}

/// A cluster whose nodes have so many loops and more patience than the machine can be slow.
pub(crate) async fn start(options: DevOptions, loops: u16) -> DevCluster {
    let settings = Settings {
        loops: Some(loops),
        timeout_ms: Some(30_000),
        cover_ms: Some(20_000),
        ..Settings::default()
    };
    ends("the start", DevCluster::start_configured(options, &settings)).await.unwrap()
}

/// A node of `cluster` alone, on any free ports.
pub(crate) fn settings(dir: &Path, name: &str, cluster: &str) -> Settings {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Settings {
        name: Some(name.into()),
        cluster: Some(cluster.into()),
        data: Some(dir.into()),
        resp: any,
        http: any,
        peer: any,
        loops: Some(1),
        timeout_ms: Some(30_000),
        ..Settings::default()
    }
}

pub(crate) fn set_key(key: &str) -> Key {
    Key::new("default", key.to_owned()).unwrap()
}

/// Adding `element` to the set `key`.
pub(crate) fn adding(key: &str, element: &str) -> Request {
    let elements = vec![Bytes::from(element.to_owned())];
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
        Some(State::Orset(set)) => {
            set.store.0.keys().map(|element| String::from_utf8(element.to_vec()).unwrap()).collect()
        }
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
