use std::sync::Arc;

use client::MemoryDatastore;
use gateway_http::{HttpOptions, router};
use replication::RequestError;
use serde_json::json;
use storage::StorageError;
use tokio::sync::watch;
use values::{Tag, UpdateError, WrongType};

use crate::harness::{Scripted, get, in_memory, over, send};

const KEY: &str = "/v1/buckets/default/keys/k";

/// Every refusal of the core, with the status, the slug and the detail that it is answered with.
#[tokio::test]
async fn every_refusal_has_its_status_and_says_what_to_do() {
    let update = RequestError::Update;
    let unknown = "outcome unknown: 1 of 2 replicas acknowledged in time; the write may still \
                   become visible; read the key before you write it again";
    for (error, status, slug, detail) in [
        (
            RequestError::Unknown { acked: 1, needed: 2, disk: None },
            503,
            "outcome-unknown",
            unknown,
        ),
        (
            RequestError::Unavailable { reachable: 1, needed: 2 },
            503,
            "quorum-unavailable",
            "1 of 2 needed replicas can be reached; nothing was written; try again, or write with \
             a smaller w",
        ),
        (RequestError::Overloaded, 503, "overloaded", "overloaded: try again later"),
        (RequestError::Stopping, 503, "stopping", "node is stopping: use another one"),
        (RequestError::Unreachable("refused".into()), 503, "unreachable", "refused"),
        (
            RequestError::Timeout,
            504,
            "timeout",
            "no replica answered in time; try again, or allow more time with timeout_ms",
        ),
        (
            RequestError::Level { what: 'r', asked: 4, n: 3 },
            400,
            "bad-level",
            "r=4 is not possible in this bucket: n=3; use 1 to 3, and no other n",
        ),
        (RequestError::Key("no".into()), 400, "invalid-key", "no"),
        (RequestError::Cursor("whose".into()), 400, "bad-parameter", "whose"),
        (RequestError::Context("no".into()), 400, "bad-context", "no"),
        (RequestError::Unsupported("no".into()), 501, "not-supported", "not supported here: no"),
        (
            RequestError::Storage(StorageError::Full),
            507,
            "storage-full",
            "the disk is full: free some space, the node goes on by itself; nothing was written \
             here, use another node",
        ),
        (
            RequestError::Storage(StorageError::ReadOnly("ro".into())),
            507,
            "storage-full",
            "the data directory cannot be written: ro; nothing was written here, use another node",
        ),
        (
            RequestError::Storage(StorageError::Io("bad".into())),
            500,
            "storage-failed",
            "input/output: bad; use another node and look at this one's log",
        ),
        (
            RequestError::Storage(StorageError::Overloaded(9)),
            503,
            "overloaded",
            "overloaded: 9 bytes wait for the disk",
        ),
        (
            update(UpdateError::TooManySiblings(100)),
            422,
            "too-many-siblings",
            "100 siblings, and no more are allowed; read them, reconcile, and put the result back with \
             the context of that read",
        ),
        (
            update(UpdateError::ValueTooLong { bytes: 9, limit: 8 }),
            413,
            "too-long",
            "value of 9 bytes, at most 8 are allowed; store it in parts under several keys",
        ),
        (
            update(UpdateError::NotAnInteger),
            422,
            "refused",
            "value is not an integer or out of range; nothing was written",
        ),
        (
            update(UpdateError::Overflow),
            422,
            "refused",
            "increment or decrement would overflow; nothing was written",
        ),
        (
            update(WrongType { wanted: Tag::BYTES, live: vec![Tag::MAP, Tag(99)] }.into()),
            409,
            "wrong-type",
            "wanted bytes, but the key holds map and unknown type 99; use \
             /v1/buckets/default/maps/k",
        ),
    ] {
        let retry =
            matches!(slug, "overloaded" | "quorum-unavailable" | "stopping" | "unreachable");
        let app = over(Scripted(Err(error)));
        for method in ["GET", "PUT"] {
            let refused = send(&app, method, KEY, &[], "x").await;
            assert_eq!((refused.status, refused.problem().as_str()), (status, slug));
            assert_eq!(refused.detail(), detail);
            assert_eq!(refused.header("retry-after"), if retry { "1" } else { "" }, "{slug}");
        }
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_of_writes_unknown_and_not_that_of_reads() {
    let app = over(Scripted(Err(RequestError::Disconnected("reset".into()))));
    let read = get(&app, KEY).await;
    assert_eq!((read.status, read.problem().as_str()), (503, "connection-lost"));
    assert_eq!(read.detail(), "connection lost: reset; try again");
    assert_eq!(read.header("retry-after"), "1");
    let write = send(&app, "PUT", KEY, &[], "x").await;
    assert_eq!((write.status, write.problem().as_str()), (503, "outcome-unknown"));
    assert_eq!(
        write.detail(),
        "connection lost: reset; the outcome is unknown; read the key before you write it again"
    );
}

#[tokio::test]
async fn an_unknown_outcome_carries_its_figures() {
    let app = over(Scripted(Err(RequestError::Unknown { acked: 1, needed: 2, disk: None })));
    let unknown = send(&app, "PUT", KEY, &[], "x").await;
    assert_eq!(
        unknown.text(),
        "{\"acked\":1,\"detail\":\"outcome unknown: 1 of 2 replicas acknowledged in time; the \
         write may still become visible; read the key before you write it again\",\"needed\":2,\
         \"status\":503,\"title\":\"Outcome unknown\",\"type\":\"urn:merganser:outcome-unknown\"}\n"
    );
}

#[tokio::test]
async fn unknown_paths_are_problems() {
    let app = in_memory();
    for path in ["/v1", "/v1/buckets/b/lists/k", "/v1/buckets/b/keys/a/b", "/v1/ring/", "/x?y"] {
        let refused = get(&app, path).await;
        assert_eq!((refused.status, refused.problem().as_str()), (404, "no-such-path"), "{path}");
    }
    assert_eq!(
        get(&app, "/nowhere").await.text().trim_end(),
        r#"{"detail":"/nowhere is no address of this gateway; GET / lists those that are","status":404,"title":"Nothing is served here","type":"urn:merganser:no-such-path"}"#
    );
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let app = in_memory();
    for (method, path, allow) in [
        ("POST", KEY, "GET,HEAD,PUT,DELETE"),
        ("PUT", "/v1/buckets/default/counters/k", "GET,HEAD,POST,DELETE"),
        ("DELETE", "/v1/ring", "GET,HEAD"),
        ("POST", "/v1/buckets/default/keys", "GET,HEAD"),
    ] {
        let refused = send(&app, method, path, &[], "").await;
        assert_eq!((refused.status, refused.problem().as_str()), (405, "no-such-method"));
        assert_eq!(refused.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_with_and_without_an_announced_length() {
    let (_, ready) = watch::channel(true);
    let mut options = HttpOptions::new(ready);
    options.body_bytes_max = 10;
    let app = router(Arc::new(MemoryDatastore::new()), options);
    let said = "a body has at most 10 bytes; store the value in parts under several keys";
    for headers in [&[][..], &[("content-length", "11")]] {
        for (method, path) in [("PUT", KEY), ("POST", "/v1/buckets/default/counters/k")] {
            let refused = send(&app, method, path, headers, "0123456789+").await;
            assert_eq!((refused.status, refused.problem().as_str()), (413, "too-long"));
            assert_eq!(refused.detail(), said);
        }
    }
    assert_eq!(send(&app, "PUT", KEY, &[], "0123456789").await.status, 204);
}

#[tokio::test]
async fn the_default_limit_leaves_it_to_the_store_to_refuse_a_value_a_little_too_long() {
    let app = in_memory();
    let value = vec![b'x'; (8 << 20) + 1];
    let refused = send(&app, "PUT", KEY, &[], value).await;
    assert_eq!((refused.status, refused.problem().as_str()), (413, "too-long"));
    assert_eq!(
        refused.detail(),
        "value of 8388609 bytes, at most 8388608 are allowed; store it in parts under several keys"
    );
}

#[tokio::test]
async fn the_hundred_and_first_sibling_is_refused() {
    let app = in_memory();
    for number in 0..100 {
        assert_eq!(send(&app, "PUT", KEY, &[], number.to_string()).await.status, 204);
    }
    let refused = send(&app, "PUT", KEY, &[], "one too many").await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "too-many-siblings"));
    assert_eq!(get(&app, KEY).await.json()["siblings"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn failures_of_lists_and_explanations_are_problems_too() {
    let app = over(Scripted(Err(RequestError::Stopping)));
    for path in ["/v1/buckets/b/keys?count=true", "/v1/explain/b/k"] {
        let refused = get(&app, path).await;
        assert_eq!((refused.status, refused.problem().as_str()), (503, "stopping"));
    }
    // A key of a type that this build does not know, and bytes that are no text.
    assert_eq!(
        get(&app, "/v1/buckets/b/keys").await.json(),
        json!({
            "keys": [{ "key": { "base64": "/w==" }, "types": [{ "type": "unknown type 99" }] }],
            "next": null,
            "incomplete": true,
        })
    );
}
