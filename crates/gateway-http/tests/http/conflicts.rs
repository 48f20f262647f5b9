//! Conflicts: what is listed, what is resolved, and what is said of many siblings.

use serde_json::json;

use crate::harness::{get, in_memory, send};

#[tokio::test]
async fn keys_with_siblings_are_listed_page_by_page() {
    let app = in_memory();
    for (key, count) in [("two", 2), ("one", 1), ("three", 3)] {
        for value in 0..count {
            let uri = format!("/v1/buckets/b/keys/{key}");
            send(&app, "PUT", &uri, &[], value.to_string()).await;
        }
    }
    let first = get(&app, "/v1/conflicts?limit=1").await.json();
    let listed = |key: &str, siblings: u32| {
        let url = format!("/v1/buckets/b/keys/{key}?type=bytes");
        let types = json!([{ "type": "bytes", "url": url }]);
        json!({ "bucket": "b", "key": key, "siblings": siblings, "types": types })
    };
    assert_eq!(first["keys"], json!([listed("three", 3)]));
    let cursor = first["next"].as_str().unwrap();
    let second = get(&app, &format!("/v1/conflicts?cursor={cursor}")).await.json();
    assert_eq!(second, json!({ "node": "memory", "keys": [listed("two", 2)], "next": null }));
    for query in ["limit=0", "limit=1001", "cursor=!", "bucket=b"] {
        let refused = get(&app, &format!("/v1/conflicts?{query}")).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"), "{query}");
    }
}

#[tokio::test]
async fn what_is_in_no_conflict_is_not_resolved() {
    let app = in_memory();
    let resolve = "/v1/buckets/b/conflicts/k";
    for body in ["", "{}", r#"{"keep":"list"}"#, r#"{"keep":"lww","and":"more"}"#] {
        let refused = send(&app, "POST", resolve, &[], body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-operation"), "{body}");
    }
    let refused = send(&app, "POST", resolve, &[], r#"{"keep":"lww"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "not-in-conflict"));
    let detail = "the key holds nothing; nothing to resolve; nothing was written";
    assert_eq!(refused.json()["detail"], detail);
}

#[tokio::test]
async fn many_siblings_are_told_in_a_header_and_refused_at_the_hard_limit() {
    let app = in_memory();
    let put = |value: u32| {
        let app = &app;
        async move { send(app, "PUT", "/v1/buckets/b/keys/k", &[], value.to_string()).await }
    };
    for value in 1..=100 {
        let answered = put(value).await;
        assert_eq!(answered.status, 204);
        let said = answered.headers.get("merganser-siblings").map(|value| value.to_str().unwrap());
        let expected = (value > 25).then(|| format!("{value};soft=25;hard=100"));
        assert_eq!(said, expected.as_deref());
    }
    let refused = put(101).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "too-many-siblings"));
    let read = get(&app, "/v1/buckets/b/keys/k").await;
    let context = read.context();
    let headers = [("merganser-context", context.as_str())];
    let reconciled = send(&app, "PUT", "/v1/buckets/b/keys/k", &headers, "all").await;
    assert_eq!(reconciled.status, 204);
}
