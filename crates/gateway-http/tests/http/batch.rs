use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::harness::{Answered, answering, get, in_memory, send};

async fn batch(app: &axum::Router, operations: &Json) -> Answered {
    let body = json!({ "operations": operations }).to_string();
    send(app, "POST", "/v1/batch", &[], body).await
}

#[tokio::test]
async fn each_operation_is_answered_in_its_place_as_its_own_address_would() {
    let app = in_memory();
    let done = batch(
        &app,
        &json!([
            { "kind": "counters", "key": "visits", "do": { "add": 5 } },
            { "kind": "counters", "key": "visits", "get": true },
            { "kind": "sets", "key": "visits", "do": { "add": "x" } },
            { "kind": "keys", "key": "drink", "put": { "base64": "/w==" } },
            { "bucket": "shop", "kind": "carts", "key": "ada", "do": { "add": { "item": "book" } } },
            { "kind": "keys", "key": "none", "get": true },
            { "kind": "counters", "key": "once", "do": { "add": 1 }, "id": "c:1" },
            { "kind": "counters", "key": "once", "do": { "add": 1 }, "id": "c:1" },
        ]),
    )
    .await;
    assert_eq!(done.status, 200, "{done:?}");
    let results = done.json()["results"].clone();
    let statuses: Vec<_> =
        results.as_array().unwrap().iter().map(|r| r["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 409, 204, 200, 404, 200, 200]);
    assert_eq!(results[1]["body"]["value"], 5);
    assert_eq!(results[2]["body"]["type"], "urn:merganser:wrong-type");
    assert_eq!(results[3]["acks"], "acked=1;needed=1;hinted=0;owners=1");
    assert_eq!(results[4]["body"]["named"], json!([{ "item": "book", "quantity": 1 }]));
    assert_eq!(results[5]["body"]["type"], "urn:merganser:no-value");
    assert_eq!((&results[7]["repeated"], &results[7]["body"]["value"]), (&json!(true), &json!(1)));
    let read = get(&app, "/v1/buckets/default/counters/visits").await;
    assert_eq!(read.json()["value"], 5);

    let context = results[3]["context"].as_str().unwrap();
    let gone = batch(
        &app,
        &json!([
            { "kind": "keys", "key": "drink", "delete": true, "context": context },
            { "bucket": "shop", "kind": "carts", "key": "ada", "delete": true },
            { "kind": "keys", "key": "drink", "get": true },
        ]),
    )
    .await;
    let statuses: Vec<_> =
        gone.json()["results"].as_array().unwrap().iter().map(|r| r["status"].clone()).collect();
    assert_eq!(statuses, [204, 204, 404]);
}

#[tokio::test]
async fn a_batch_with_one_bad_operation_is_refused_whole_before_anything_is_written() {
    let app = in_memory();
    let good = json!({ "kind": "counters", "key": "visits", "do": { "add": 5 } });
    for (bad, why) in [
        (json!({ "kind": "counters", "key": "k", "do": { "take": 5 } }), "operation 1: "),
        (json!({ "kind": "counters", "key": "k" }), "give one of \"get\": true, \"put\""),
        (json!({ "kind": "counters", "key": "k", "get": true, "delete": true }), "give one of"),
        (json!({ "kind": "keys", "key": "k", "do": { "add": 1 } }), "it has no \"do\""),
        (json!({ "kind": "sets", "key": "k", "put": "x" }), "only kind keys is put"),
        (json!({ "kind": "keys", "key": "k", "delete": true }), "needs the context of a get"),
        (
            json!({ "kind": "lists", "key": "k", "get": true }),
            "no kind \"lists\"; use keys, counters",
        ),
        (json!({ "kind": "keys", "key": "k", "get": true, "id": "a" }), "an id is for what writes"),
        (json!({ "kind": "keys", "key": "k", "put": "x", "bucket": "" }), "a bucket needs a name"),
        (json!({ "kind": "keys", "key": "k", "put": "x", "life": 5 }), "unknown field `life`"),
        (json!({ "kind": "keys", "key": "k", "put": "x", "ttl": 0 }), "ttl=0; give 1 to"),
        (json!({ "kind": "keys", "key": "k", "get": true, "ttl": 5 }), "a ttl is for what adds"),
        (
            json!({ "kind": "keys", "key": "k", "delete": true, "context": "c", "ttl": 5 }),
            "a ttl is for what adds",
        ),
        (json!({ "kind": "keys", "put": "x" }), "missing field `key`"),
        (
            json!({ "kind": "sets", "key": "k", "do": { "remove": "x" }, "ttl": 5 }),
            "a ttl is for what adds",
        ),
        (
            json!({ "kind": "counters", "key": "k", "do": { "reset": true }, "ttl": "keep" }),
            "a ttl is for what adds",
        ),
    ] {
        let refused = batch(&app, &json!([good, bad])).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-batch"), "{bad}");
        assert!(refused.detail().contains(why), "{bad}: {}", refused.detail());
        assert!(refused.detail().ends_with("nothing was done"), "{}", refused.detail());
    }
    assert_eq!(get(&app, "/v1/buckets/default/counters/visits").await.status, 404);
}

#[tokio::test]
async fn a_batch_that_is_too_large_or_empty_is_refused_before_anything_is_written() {
    let app = in_memory();
    let many = |count: usize| {
        let mut text = String::from("{\"operations\": [");
        for index in 0..count {
            let comma = if index == 0 { "" } else { "," };
            write!(text, "{comma}{{\"kind\":\"counters\",\"key\":\"k\",\"do\":{{\"add\":1}}}}")
                .unwrap();
        }
        text + "]}"
    };
    for count in [0, 1_001] {
        let refused = send(&app, "POST", "/v1/batch", &[], many(count)).await;
        assert_eq!((refused.status, refused.problem().as_str()), (413, "batch-size"));
        assert!(refused.detail().contains("1 to 1000"), "{refused:?}");
    }
    // What no batch holds is counted, not read.
    let many_of_none = many(1_000).replace("]}", ",0,0]}");
    let refused = send(&app, "POST", "/v1/batch", &[], many_of_none).await;
    assert_eq!((refused.status, refused.problem().as_str()), (413, "batch-size"), "{refused:?}");
    assert!(refused.detail().starts_with("1002 operations"), "{refused:?}");
    assert_eq!(get(&app, "/v1/buckets/default/counters/k").await.status, 404);
    let done = send(&app, "POST", "/v1/batch", &[], many(1_000)).await;
    assert_eq!(done.json()["results"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(get(&app, "/v1/buckets/default/counters/k").await.json()["value"], 1_000);
}

#[tokio::test]
async fn a_header_that_is_of_one_operation_is_refused_and_nothing_is_done() {
    let app = in_memory();
    let body = json!({ "operations": [{ "kind": "counters", "key": "k", "do": { "add": -1 } }] });
    for (header, member) in [("Idempotency-Key", "id"), ("Merganser-Context", "context")] {
        let refused = send(&app, "POST", "/v1/batch", &[(header, "c:1")], body.to_string()).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-batch"));
        let wanted = format!("give each its own \"{member}\"; nothing was done");
        assert!(refused.detail().ends_with(&wanted), "{refused:?}");
    }
    assert_eq!(get(&app, "/v1/buckets/default/counters/k").await.status, 404);
}

/// Each byte of the value is six of JSON.
#[tokio::test]
async fn what_a_batch_reads_beyond_the_longest_answer_is_refused_and_its_writes_are_done() {
    let app = answering(10_000);
    let value = "\u{1}".repeat(1_000);
    send(&app, "PUT", "/v1/buckets/default/keys/k", &[], value.clone()).await;
    let read = json!({ "kind": "keys", "key": "k", "get": true });
    let tags: Vec<String> = (0..2_000).map(|tag| format!("tag{tag}")).collect();
    let write = json!({ "kind": "sets", "key": "s", "do": { "add": tags } });
    let done = batch(&app, &json!([read, read, write, read])).await;
    assert!(done.body.len() < 12_000, "{}", done.body.len());
    let results = done.json()["results"].clone();
    assert_eq!(results[0]["body"]["siblings"][0]["value"], value.as_str());
    for refused in [1, 3] {
        let refused = &results[refused];
        assert_eq!(refused["status"], 422);
        assert_eq!(refused["body"]["type"], "urn:merganser:answer-too-long");
    }
    assert_eq!((&results[2]["status"], &results[2]["body"]), (&json!(200), &Json::Null));
    let size = get(&app, "/v1/buckets/default/sets/s?count=true").await.json()["size"].clone();
    assert_eq!(size, 2_000);
}

#[tokio::test]
async fn an_answer_that_would_be_too_long_is_refused_with_what_to_ask_for_instead() {
    let app = answering(3_000);
    let path = "/v1/buckets/default/keys/k";
    send(&app, "PUT", path, &[], "\u{1}".repeat(1_000)).await;
    let refused = get(&app, path).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "answer-too-long"));
    let accept = [("accept", "application/octet-stream")];
    assert_eq!(send(&app, "GET", path, &accept, "").await.body.len(), 1_000);

    let path = "/v1/buckets/default/sets/s";
    let tags: Vec<String> = (0..1_000).map(|tag| format!("tag{tag}")).collect();
    assert_eq!(send(&app, "POST", path, &[], json!({ "add": tags }).to_string()).await.status, 200);
    assert_eq!(get(&app, path).await.problem(), "answer-too-long");
    assert_eq!(get(&app, &format!("{path}?limit=100")).await.status, 200);
}
