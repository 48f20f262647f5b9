use bytes::Bytes;
use replication::Acks;
use serde_json::json;
use values::{BytesOp, CounterOp, Operation, OrsetOp, Value};

use crate::harness::{Scripted, answer, concurrently, get, in_memory, over, send};

const KEY: &str = "/v1/buckets/default/keys/k";

fn put(value: &'static str) -> Operation {
    Operation::Bytes(BytesOp::Put(Bytes::from_static(value.as_bytes())))
}

#[tokio::test]
async fn a_value_put_is_got_as_a_list_of_one_sibling_with_a_context() {
    let app = in_memory();
    let written = send(&app, "PUT", KEY, &[("content-type", "text/plain")], "milk").await;
    assert_eq!((written.status, &written.body[..]), (204, &b""[..]));
    assert_eq!(written.header("merganser-acks"), "acked=1;needed=1;hinted=0;owners=1");
    written.context();

    let read = get(&app, KEY).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(read.header("merganser-acks"), "acked=1;needed=1;hinted=0;owners=1");
    let mut document = read.json();
    assert_eq!(document["context"], read.context());
    let time = document["siblings"][0]["time"].take();
    assert!(time.as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{time}");
    assert_eq!(
        document["siblings"],
        json!([{ "value": "milk", "encoding": "utf8", "dot": "memory:1", "time": null }])
    );
    assert_eq!(document.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn bytes_come_alone_for_those_who_accept_them() {
    let app = in_memory();
    send(&app, "PUT", KEY, &[], &b"\x00\xffraw"[..]).await;
    let accept = [("accept", "application/octet-stream")];
    let read = send(&app, "GET", KEY, &accept, "").await;
    assert_eq!((read.status, &read.body[..]), (200, &b"\x00\xffraw"[..]));
    assert_eq!(read.header("content-type"), "application/octet-stream");
    read.context();
    // Without that header the same bytes are base64.
    let listed = get(&app, KEY).await.json();
    assert_eq!(listed["siblings"][0]["value"], "AP9yYXc=");
    assert_eq!(listed["siblings"][0]["encoding"], "base64");
    // A HEAD is a GET without the body.
    let head = send(&app, "HEAD", KEY, &accept, "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5", 0));
}

#[tokio::test]
async fn a_put_without_context_adds_a_sibling_and_one_with_it_leaves_one() {
    let app = in_memory();
    send(&app, "PUT", KEY, &[], "milk").await;
    send(&app, "PUT", KEY, &[], "eggs").await;
    let both = get(&app, KEY).await;
    let values: Vec<String> = both.json()["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sibling| format!("{}@{}", sibling["value"], sibling["dot"]))
        .collect();
    assert_eq!(values, [r#""milk"@"memory:1""#, r#""eggs"@"memory:2""#]);

    let raw = send(&app, "GET", KEY, &[("accept", "application/octet-stream")], "").await;
    assert_eq!((raw.status, raw.problem().as_str()), (409, "siblings"));
    assert_eq!(raw.json()["siblings"], both.json()["siblings"]);
    assert_eq!(
        raw.detail(),
        "reconcile the siblings, and put the result with the context given here"
    );

    let context = raw.context();
    let merged = send(&app, "PUT", KEY, &[("merganser-context", &context)], "milk, eggs").await;
    assert_eq!(merged.status, 204);
    let raw = send(&app, "GET", KEY, &[("accept", "application/octet-stream")], "").await;
    assert_eq!((raw.status, raw.text()), (200, "milk, eggs"));
}

#[tokio::test]
async fn a_delete_needs_a_context_and_leaves_one() {
    let app = in_memory();
    let nothing = get(&app, KEY).await;
    assert_eq!((nothing.status, nothing.problem().as_str()), (404, "no-value"));
    nothing.context();

    send(&app, "PUT", KEY, &[], "milk").await;
    let refused = send(&app, "DELETE", KEY, &[], "").await;
    assert_eq!(refused.status, 428);
    assert_eq!(
        refused.text().trim_end(),
        r#"{"detail":"a delete removes what its context has seen; get the key and send the Merganser-Context of the answer","status":428,"title":"A delete needs a context","type":"urn:merganser:context-required"}"#
    );

    let context = get(&app, KEY).await.context();
    send(&app, "PUT", KEY, &[], "concurrent").await;
    let deleted = send(&app, "DELETE", KEY, &[("merganser-context", &context)], "").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let left = get(&app, KEY).await;
    assert_eq!(left.json()["siblings"].as_array().unwrap().len(), 1, "what it had not seen");

    let context = left.context();
    send(&app, "DELETE", KEY, &[("merganser-context", &context)], "").await;
    let gone = get(&app, KEY).await;
    assert_eq!((gone.status, gone.problem().as_str()), (404, "no-value"));
    gone.context();
}

#[tokio::test]
async fn contexts_that_are_forged_foreign_or_cut_short_are_refused() {
    let app = in_memory();
    send(&app, "PUT", KEY, &[], "milk").await;
    let context = get(&app, KEY).await.context();
    let foreign = get(&app, "/v1/buckets/default/keys/other").await.context();
    let forged = format!("{}AAAA", &context[..context.len() - 4]);
    for (token, said) in [
        (foreign.as_str(), "not made by this cluster for this key and type"),
        (&forged, "not made by this cluster for this key and type"),
        (&context[..5], "present the token of a get of this key unchanged"),
        ("{A:2, B:1}", "present the token of a get of this key unchanged"),
        ("", "present the token of a get of this key unchanged"),
        ("\u{e9}", "Merganser-Context is one token"),
    ] {
        for method in ["PUT", "DELETE"] {
            let refused = send(&app, method, KEY, &[("merganser-context", token)], "x").await;
            assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-context"));
            assert!(refused.detail().contains(said), "{token}: {}", refused.detail());
        }
    }
    let twice = [("merganser-context", context.as_str()), ("merganser-context", &context)];
    assert_eq!(send(&app, "PUT", KEY, &twice, "x").await.problem(), "bad-context");
    assert_eq!(get(&app, KEY).await.context().len(), context.len(), "nothing was written");
}

#[tokio::test]
async fn keys_are_any_bytes_percent_encoded_and_also_none() {
    let app = in_memory();
    for key in ["a%2Fb", "%FF%00", "", "%25", "..", "a+b", "é"] {
        let uri = format!("/v1/buckets/b/keys/{key}");
        assert_eq!(send(&app, "PUT", &uri, &[], format!("of {key}")).await.status, 204, "{key}");
        let read = send(&app, "GET", &uri, &[("accept", "application/octet-stream")], "").await;
        assert_eq!(read.text(), format!("of {key}"));
    }
    // One key, written in two ways.
    let read = get(&app, "/v1/buckets/b/keys/%61%2b%62").await;
    assert_eq!(read.json()["siblings"][0]["value"], "of a+b");
}

#[tokio::test]
async fn keys_out_of_bounds_are_refused() {
    let app = in_memory();
    for (uri, slug, said) in [
        (
            "/v1/buckets/b/keys/%zz".to_owned(),
            "bad-encoding",
            "a percent sign begins two hexadecimal digits; write a percent sign as %25",
        ),
        (
            format!("/v1/buckets/{}/keys/k", "b".repeat(129)),
            "invalid-key",
            "bucket name of 129 bytes, at most 128 are allowed",
        ),
        ("/v1/buckets//counters/k".to_owned(), "invalid-key", "a bucket needs a name"),
        ("/v1/buckets//keys".to_owned(), "invalid-key", "a bucket needs a name"),
    ] {
        let refused = get(&app, &uri).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, slug));
        assert_eq!(refused.detail(), said);
    }
}

#[tokio::test]
async fn query_parameters_are_strict() {
    let app = in_memory();
    for (query, slug, said) in [
        ("r=x", "bad-parameter", "r=x is not a number in range; write digits only, as in r=2"),
        ("r=256", "bad-parameter", "r=256 is not a number in range; write digits only, as in r=2"),
        ("timeout=1", "bad-parameter", "unknown parameter \"timeout\"; "),
        ("r=1&r=1", "bad-parameter", "parameter \"r\" is given twice; give it once"),
        ("r=%f", "bad-encoding", "a percent sign begins two hexadecimal digits"),
        ("r=3", "bad-level", "r=3 is not possible in this bucket: n=1; use 1 to 1"),
        ("n=2", "bad-level", "n=2 is not possible in this bucket: n=1; use 1 to 1"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let uri = format!("{KEY}?{query}");
            let context = get(&app, KEY).await.context();
            let refused = send(&app, method, &uri, &[("merganser-context", &context)], "").await;
            assert_eq!((refused.status, refused.problem().as_str()), (400, slug), "{query}");
            assert!(refused.detail().starts_with(said), "{query}: {}", refused.detail());
        }
    }
    let asked = format!("{KEY}?r=1&w=1&n=1&timeout_ms=500");
    assert_eq!(send(&app, "PUT", &asked, &[], "milk").await.status, 204);
    assert_eq!(get(&app, &asked).await.status, 200);
    let refused = get(&app, &format!("{KEY}?type=counter")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"));
}

#[tokio::test]
async fn concurrent_values_of_two_nodes_show_the_names_of_the_nodes() {
    let app = over(Scripted(Ok(answer(concurrently(&[put("milk"), put("eggs")])))));
    let read = get(&app, KEY).await;
    assert_eq!(
        read.text(),
        concat!(
            r#"{"context":"seen-bytes","siblings":["#,
            r#"{"dot":"A:1","encoding":"utf8","time":"2025-01-01T00:00:00.001Z","value":"milk"},"#,
            r#"{"dot":"B:1","encoding":"utf8","time":"2025-01-01T00:00:00.002Z","value":"eggs"}]}"#,
            "\n"
        )
    );
    assert_eq!(read.header("merganser-acks"), "acked=2;needed=2;hinted=0;owners=3");
}

#[tokio::test]
async fn a_write_below_its_quorum_is_accepted_with_the_figures() {
    let mut below = answer(concurrently(&[put("milk")]));
    below.acks = Acks { owners: 3, needed: 2, answered: 1, hinted: 2 };
    below.partly_observed = true;
    let app = over(Scripted(Ok(below)));
    let context = [("merganser-context", "any")];
    for method in ["PUT", "DELETE"] {
        let written = send(&app, method, KEY, &context, "milk").await;
        assert_eq!((written.status, written.body.len()), (202, 0));
        assert_eq!(
            written.header("merganser-acks"),
            "acked=1;needed=2;hinted=2;owners=3;observed=partly"
        );
        assert_eq!(written.context(), "seen-bytes");
    }
    let read = get(&app, KEY).await;
    assert_eq!((read.status, &read.json()["incomplete"]), (200, &json!(true)));
}

#[tokio::test]
async fn nothing_found_by_too_few_replicas_says_so() {
    let mut below = answer(Value::default());
    below.acks = Acks { owners: 3, needed: 2, answered: 1, hinted: 0 };
    let read = get(&over(Scripted(Ok(below))), KEY).await;
    assert_eq!((read.status, read.problem().as_str()), (404, "no-value"));
    assert_eq!(
        read.detail(),
        "none of the 1 replicas that answered (2 were to) has a value; try again to hear the others"
    );
}

#[tokio::test]
async fn a_key_with_two_types_read_untyped_lists_both_with_their_addresses() {
    let operations = [
        Operation::Counter(CounterOp::Add(5)),
        Operation::Orset(OrsetOp::Add(vec![Bytes::from_static(b"x")])),
    ];
    let types = json!([
        { "type": "counter", "url": "/v1/buckets/default/counters/k" },
        { "type": "orset", "url": "/v1/buckets/default/sets/k" },
    ]);
    let app = over(Scripted(Ok(answer(concurrently(&operations)))));
    let read = get(&app, KEY).await;
    assert_eq!((read.status, read.problem().as_str()), (409, "type-conflict"));
    assert_eq!(read.json()["types"], types);
    assert_eq!(read.context(), "seen-bytes");
    // Each is readable under its type, and reports the conflict.
    let counter = get(&app, "/v1/buckets/default/counters/k").await;
    assert_eq!(
        counter.json(),
        json!({ "type": "counter", "value": 5, "context": "seen-counter", "conflict": types })
    );
    let set = get(&app, "/v1/buckets/default/sets/k").await;
    assert_eq!(
        set.json(),
        json!({
            "type": "orset", "value": ["x"], "size": 1, "context": "seen-orset", "conflict": types
        })
    );
}

#[tokio::test]
async fn bytes_beside_another_type_are_read_when_asked_for_as_bytes() {
    let operations = [put("milk"), Operation::Counter(CounterOp::Add(5))];
    let app = over(Scripted(Ok(answer(concurrently(&operations)))));
    let read = get(&app, KEY).await;
    assert_eq!((read.status, read.problem().as_str()), (409, "type-conflict"));
    let url = read.json()["types"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, "/v1/buckets/default/keys/k?type=bytes");
    let read = get(&app, &url).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json()["siblings"][0]["value"], "milk");
    assert_eq!(read.json()["conflict"][1]["type"], "counter");
}

#[tokio::test]
async fn a_key_of_one_other_type_says_where_it_is_read() {
    let app = in_memory();
    let counter = "/v1/buckets/default/counters/k";
    send(&app, "POST", counter, &[], r#"{"add":5}"#).await;
    for method in ["GET", "PUT"] {
        let refused = send(&app, method, KEY, &[], "milk").await;
        assert_eq!((refused.status, refused.problem().as_str()), (409, "wrong-type"));
        assert_eq!(
            refused.detail(),
            "wanted bytes, but the key holds counter; use /v1/buckets/default/counters/k"
        );
        assert_eq!(refused.json()["types"], json!([{ "type": "counter", "url": counter }]));
    }
    assert_eq!(get(&app, counter).await.json()["value"], 5);
}

#[tokio::test]
async fn a_write_under_a_condition_is_refused_and_not_done() {
    let app = in_memory();
    send(&app, "PUT", KEY, &[], "milk").await;
    let date = "Tue, 24 Nov 2026 04:40:07 GMT";
    for condition in [
        ("If-None-Match", "*"),
        ("If-Match", "\"v1\""),
        ("If-Modified-Since", date),
        ("If-Unmodified-Since", date),
    ] {
        for (method, path) in
            [("PUT", KEY), ("DELETE", KEY), ("POST", "/v1/buckets/default/sets/s")]
        {
            let refused = send(&app, method, path, &[condition], "tea").await;
            let problem = (refused.status, refused.problem());
            assert_eq!(problem, (400, "condition-not-supported".into()), "{method} {condition:?}");
            assert!(refused.detail().contains("Merganser-Context"), "{refused:?}");
        }
        // A read without entity tags is not changed by any.
        assert_eq!(send(&app, "GET", KEY, &[condition], "").await.status, 200);
    }
    let siblings = get(&app, KEY).await.json()["siblings"].clone();
    assert_eq!(siblings.as_array().map(Vec::len), Some(1), "{siblings}");
}
