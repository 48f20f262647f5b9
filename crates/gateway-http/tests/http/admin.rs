use std::sync::Arc;

use client::MemoryDatastore;
use gateway_http::{HttpOptions, router};
use replication::RequestError;
use serde_json::json;
use tokio::sync::watch;

use crate::harness::{Scripted, get, in_memory, over, send};

fn two_nodes() -> axum::Router {
    over(Scripted(Err(RequestError::Timeout)))
}

#[tokio::test]
async fn the_ring_is_compact_and_on_request_whole() {
    let ring = json!({
        "version": 7,
        "partitions": 4,
        "members": [
            { "node": "0000000000000001", "name": "A", "partitions": 2, "copies": 4,
              "weight": 1, "zone": null },
            { "node": "0000000000000002", "name": "B", "partitions": 2, "copies": 4,
              "weight": 1, "zone": null },
        ],
    });
    assert_eq!(get(&two_nodes(), "/v1/ring").await.json(), ring);
    let mut whole = ring;
    whole["owners"] = json!(["A", "B", "A", "B"]);
    assert_eq!(get(&two_nodes(), "/v1/ring?partitions=true").await.json(), whole);
    let refused = get(&two_nodes(), "/v1/ring?partitions=yes").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"));
}

#[tokio::test]
async fn the_status_is_that_of_the_answering_node() {
    let status = get(&two_nodes(), "/v1/status").await.json();
    assert_eq!(
        status["members"][1],
        json!({
            "node": "0000000000000002",
            "name": "B",
            "peer_address": "127.0.0.1:2",
            "zone": null,
            "weight": 1,
            "state": "up",
            "generation": 2,
            "version": "0.1.0",
            "connected": false,
            "messages": null,
            "suspected": true,
            "phi": 0.5,
            "cut": true,
            "partitions": 2,
            "copies": 4,
            "pending": 1,
            "pending_bytes": 100,
            "stored_bytes": 5_000,
            "requests_per_second": 7,
        })
    );
    assert_eq!(status["counters"], json!({ "read_repairs_total": 3, "bad name": 1 }));
    for (name, value) in [
        ("cluster", json!("ducks")),
        ("node", json!("A")),
        ("version", json!("0.1.0")),
        ("ready", json!(true)),
        ("uptime_ms", json!(65_000)),
        ("keys", json!(12)),
        ("ring_version", json!(7)),
        ("hint_bytes_max", json!(1 << 30)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
}

#[tokio::test]
async fn health_follows_the_node() {
    let (sender, ready) = watch::channel(false);
    let (trouble, out_of_service) = watch::channel(None);
    let options = HttpOptions { out_of_service, ..HttpOptions::new(ready) };
    let app = router(Arc::new(MemoryDatastore::new()), options);
    let live = get(&app, "/livez").await;
    assert_eq!((live.status, live.text()), (200, "ok\n"));
    let starting = get(&app, "/readyz").await;
    assert_eq!((starting.status, starting.problem().as_str()), (503, "not-ready"));
    sender.send(true).unwrap();
    let ready = get(&app, "/readyz").await;
    assert_eq!((ready.status, ready.text()), (200, "ok\n"));
    trouble.send(Some("the disk is read-only".into())).unwrap();
    let out = get(&app, "/readyz").await;
    assert_eq!((out.status, out.problem().as_str()), (503, "out-of-service"));
    assert!(out.text().contains("the disk is read-only"), "{}", out.text());
    trouble.send(None).unwrap();
    assert_eq!(get(&app, "/readyz").await.status, 200);
    sender.send(false).unwrap();
    assert_eq!(get(&app, "/readyz").await.status, 503);
    assert_eq!(get(&app, "/livez").await.status, 200);
}

#[tokio::test]
async fn keys_are_listed_in_pages_with_an_opaque_cursor() {
    let app = in_memory();
    send(&app, "PUT", "/v1/buckets/b/keys/a", &[], "x").await;
    send(&app, "POST", "/v1/buckets/b/counters/b%2Fc", &[], r#"{"add":1}"#).await;
    send(&app, "PUT", "/v1/buckets/other/keys/z", &[], "x").await;
    let first = get(&app, "/v1/buckets/b/keys?limit=1").await.json();
    assert_eq!(
        first["keys"],
        json!([{ "key": "a", "types": [{ "type": "bytes", "url": "/v1/buckets/b/keys/a?type=bytes" }] }])
    );
    let cursor = first["next"].as_str().unwrap();
    let second = get(&app, &format!("/v1/buckets/b/keys?limit=1&cursor={cursor}")).await.json();
    assert_eq!(
        second,
        json!({
            "keys": [{
                "key": "b/c",
                "types": [{ "type": "counter", "url": "/v1/buckets/b/counters/b%2Fc" }],
            }],
            "next": null,
        })
    );
    assert_eq!(get(&app, "/v1/buckets/b/keys?count=true").await.text(), "{\"count\":2}\n");
    for query in ["cursor=x", "cursor=", "cursor=AAAA", "limit=0", "limit=10001", "count=1"] {
        let refused = get(&app, &format!("/v1/buckets/b/keys?{query}")).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"), "{query}");
    }
}

#[tokio::test]
async fn an_explanation_shows_owners_contexts_and_what_each_replica_holds() {
    let app = in_memory();
    send(&app, "PUT", "/v1/buckets/b/keys/k", &[], "x").await;
    let explained = get(&app, "/v1/explain/b/k").await.json();
    let time = explained["merged"]["bytes"]["entries"][0]["time"].clone();
    let types = json!({
        "bytes": {
            "live": true,
            "context": "{memory:1}",
            "entries": [{ "dots": ["memory:1"], "time": time, "value": "x" }],
        },
    });
    assert_eq!(
        explained,
        json!({
            "bucket": "b",
            "key": "k",
            "partition": 0,
            "n": 1,
            "owners": ["memory"],
            "fallbacks": [],
            "types": ["bytes"],
            "siblings": 1,
            "replicas": [{
                "node": "memory", "owner": true, "same": true, "pending_for": [], "types": types,
            }],
            "merged": types,
            // What no node remembers is a write all the same.
            "writes": [{ "dots": "memory:1", "live": true, "after": [], "time": time }],
        })
    );
    send(&app, "POST", "/v1/buckets/b/sets/s", &[], r#"{"add":["x","y"]}"#).await;
    assert_eq!(
        get(&app, "/v1/explain/b/s").await.json()["merged"],
        json!({
            "orset": { "live": true, "context": "{memory:2}", "entries": [
                { "dots": ["memory:1"], "element": "x" }, { "dots": ["memory:2"], "element": "y" },
            ] },
        })
    );
}

#[tokio::test]
async fn an_explanation_is_drawn_or_written_for_those_who_ask_for_it() {
    let app = in_memory();
    send(&app, "PUT", "/v1/buckets/b/keys/k", &[], "x").await;
    let accept = |media: &'static str| [("accept", media)];
    for (uri, headers, content_type) in [
        ("/v1/explain/b/k?format=svg", vec![], "image/svg+xml"),
        ("/v1/explain/b/k", accept("image/svg+xml").to_vec(), "image/svg+xml"),
        ("/v1/explain/b/k", accept("text/plain").to_vec(), "text/plain; charset=utf-8"),
        ("/v1/explain/b/k", accept("image/svg+xml, application/json").to_vec(), "application/json"),
        ("/v1/explain/b/k?format=json", accept("image/svg+xml").to_vec(), "application/json"),
    ] {
        let shown = send(&app, "GET", uri, &headers, "").await;
        assert_eq!((shown.status, shown.header("content-type")), (200, content_type), "{uri}");
    }
    assert!(get(&app, "/v1/explain/b/k?format=svg").await.text().starts_with("<svg "));
    let refused = get(&app, "/v1/explain/b/k?format=png").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"));
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_carry_what_the_node_says() {
    let app = two_nodes();
    get(&app, "/v1/buckets/secret-bucket/keys/secret-key").await;
    get(&app, "/v1/buckets/b/keys/").await;
    get(&app, "/nowhere").await;
    get(&app, "/livez").await;
    send(&app, "HEAD", "/livez", &[], "").await;
    let metrics = get(&app, "/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = metrics.text();
    for line in [
        r#"merganser_requests_total{api="http",op="raw_get",outcome="failed"} 2"#,
        r#"merganser_requests_total{api="http",op="other",outcome="refused"} 1"#,
        r#"merganser_requests_total{api="http",op="livez",outcome="ok"} 2"#,
        r#"merganser_request_duration_seconds_count{api="http",op="raw_get"} 2"#,
        "merganser_ready 1",
        "merganser_members 2",
        "merganser_members_connected 1",
        "merganser_keys 12",
        "merganser_keys_type_conflicts 1",
        "merganser_keys_siblings 2",
        "merganser_siblings_max 5",
        "merganser_ring_version 7",
        "merganser_uptime_seconds 65",
        r#"merganser_hints_pending{peer="B"} 1"#,
        r#"merganser_ring_partitions_owned{peer="A"} 2"#,
        "merganser_node_read_repairs_total 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("bad name"), "{text}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
}

#[tokio::test]
async fn the_index_is_a_page_for_people() {
    let index = get(&in_memory(), "/").await;
    assert_eq!((index.status, index.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(index.text().starts_with("<!doctype html>"));
    assert_eq!(
        index.header("content-security-policy"),
        "default-src 'none'; style-src 'unsafe-inline'"
    );
}
