use axum::Router;
use bytes::Bytes;
use replication::Acks;
use serde_json::{Value as Json, json};
use values::{CounterOp, MapOp, Operation};

use crate::harness::{Answered, Scripted, answer, concurrently, get, in_memory, over, send};

fn url(kind: &str) -> String {
    format!("/v1/buckets/default/{kind}/k")
}

async fn post(app: &Router, kind: &str, body: impl Into<String>) -> Answered {
    send(app, "POST", &url(kind), &[], body.into()).await
}

/// The document of an answer without its context, which must be there.
fn shown(answered: &Answered) -> Json {
    answered.context();
    let mut document = answered.json();
    document.as_object_mut().unwrap().remove("context");
    document
}

async fn done(app: &Router, kind: &str, body: &str) -> Json {
    let answered = post(app, kind, body).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    assert_eq!(answered.header("merganser-acks"), "acked=1;needed=1;hinted=0;owners=1");
    shown(&answered)
}

async fn read(app: &Router, kind: &str, query: &str) -> Json {
    let answered = get(app, &format!("{}{query}", url(kind))).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    shown(&answered)
}

#[tokio::test]
async fn counters_add_and_reset() {
    let app = in_memory();
    assert_eq!(
        done(&app, "counters", r#"{"add":5}"#).await,
        json!({ "type": "counter", "changed": 1, "value": 5 })
    );
    done(&app, "counters", r#"{"add":-7}"#).await;
    assert_eq!(read(&app, "counters", "").await, json!({ "type": "counter", "value": -2 }));
    assert_eq!(
        done(&app, "counters", r#"{"reset":true}"#).await,
        json!({ "type": "counter", "changed": 1, "value": 0 })
    );
    let gone = get(&app, &url("counters")).await;
    assert_eq!((gone.status, gone.problem().as_str()), (404, "no-value"));
    gone.context();
}

#[tokio::test]
async fn what_never_was_has_a_context_of_every_type_that_is_good_for_a_write() {
    for (kind, operation) in [
        ("counters", r#"{"add":1}"#),
        ("sets", r#"{"add":"a"}"#),
        ("gsets", r#"{"add":"a"}"#),
        ("carts", r#"{"add":{"item":"a"}}"#),
        ("registers", r#"{"set":"a"}"#),
        ("maps", r#"{"set":{"a":"b"}}"#),
    ] {
        let app = in_memory();
        let missing = get(&app, &url(kind)).await;
        assert_eq!((missing.status, missing.problem().as_str()), (404, "no-value"), "{kind}");
        let context = missing.context();
        let headers = [("merganser-context", context.as_str())];
        let written = send(&app, "POST", &url(kind), &headers, operation).await;
        assert_eq!(written.status, 200, "{kind}: {written:?}");
        written.context();
    }
}

#[tokio::test]
async fn sets_add_remove_and_answer_for_one_member_their_size_or_a_page() {
    let app = in_memory();
    assert_eq!(
        done(&app, "sets", r#"{"add":["c","a","b"]}"#).await,
        json!({ "type": "orset", "changed": 3, "named": ["a", "b", "c"], "size": 3 })
    );
    assert_eq!(
        done(&app, "sets", r#"{"add":"a"}"#).await,
        json!({ "type": "orset", "changed": 0, "named": ["a"], "size": 3 })
    );
    assert_eq!(
        done(&app, "sets", r#"{"remove":["c","x"]}"#).await,
        json!({ "type": "orset", "changed": 1, "named": [], "size": 2 })
    );
    assert_eq!(
        done(&app, "sets", r#"{"add":{"base64":"/w=="}}"#).await,
        json!({ "type": "orset", "changed": 1, "named": [{ "base64": "/w==" }], "size": 3 })
    );
    assert_eq!(
        read(&app, "sets", "").await,
        json!({ "type": "orset", "value": ["a", "b", { "base64": "/w==" }], "size": 3 })
    );
    for (query, member, contains) in [
        ("?member=a", json!("a"), true),
        ("?member=x", json!("x"), false),
        ("?member=%FF", json!({ "base64": "/w==" }), true),
    ] {
        assert_eq!(
            read(&app, "sets", query).await,
            json!({ "type": "orset", "member": member, "contains": contains })
        );
    }
    assert_eq!(read(&app, "sets", "?count=true").await, json!({ "type": "orset", "size": 3 }));
    assert_eq!(
        read(&app, "sets", "?limit=1").await,
        json!({ "type": "orset", "value": ["a"], "size": 3, "next": "a" })
    );
    assert_eq!(
        read(&app, "sets", "?after=a&limit=2").await,
        json!({ "type": "orset", "value": ["b", { "base64": "/w==" }], "size": 3 })
    );
    for query in ["?member=a&count=true", "?count=true&limit=1", "?limit=0", "?limit=10001"] {
        let refused = get(&app, &format!("{}{query}", url("sets"))).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"));
    }
}

#[tokio::test]
async fn grow_only_sets_grow() {
    let app = in_memory();
    assert_eq!(
        done(&app, "gsets", r#"{"add":["x","y"]}"#).await,
        json!({ "type": "gset", "changed": 2, "named": ["x", "y"], "size": 2 })
    );
    assert_eq!(
        read(&app, "gsets", "").await,
        json!({ "type": "gset", "value": ["x", "y"], "size": 2 })
    );
    assert_eq!(
        read(&app, "gsets", "?member=x").await,
        json!({ "type": "gset", "member": "x", "contains": true })
    );
    let refused = post(&app, "gsets", r#"{"remove":"x"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-operation"));
    assert_eq!(
        refused.detail(),
        "unknown variant `remove`, expected `add` at line 1 column 9; the body is one of \
         {\"add\": [\"a\", \"b\"]}"
    );
}

#[tokio::test]
async fn carts_sum_what_was_added_of_each_item() {
    let app = in_memory();
    done(&app, "carts", r#"{"add":{"item":"book","quantity":2}}"#).await;
    assert_eq!(
        done(&app, "carts", r#"{"add":{"item":"book"}}"#).await,
        json!({
            "type": "cart", "changed": 0, "named": [{ "item": "book", "quantity": 3 }], "size": 1
        })
    );
    done(&app, "carts", r#"{"add":{"item":"pen","quantity":1}}"#).await;
    done(&app, "carts", r#"{"set":{"item":"book","quantity":7}}"#).await;
    assert_eq!(
        read(&app, "carts", "").await,
        json!({
            "type": "cart",
            "value": [{ "item": "book", "quantity": 7 }, { "item": "pen", "quantity": 1 }],
            "size": 2,
        })
    );
    assert_eq!(
        done(&app, "carts", r#"{"remove":"pen"}"#).await,
        json!({ "type": "cart", "changed": 1, "named": [], "size": 1 })
    );
    assert_eq!(
        read(&app, "carts", "?item=book").await,
        json!({ "type": "cart", "item": "book", "quantity": 7 })
    );
    assert_eq!(
        read(&app, "carts", "?item=pen").await,
        json!({ "type": "cart", "item": "pen", "quantity": 0 })
    );
    let refused = post(&app, "carts", r#"{"add":{"item":"book","quantity":0}}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "refused"));
    assert_eq!(refused.detail(), "a quantity to add is at least 1; nothing was written");
}

#[tokio::test]
async fn registers_are_set_and_incremented() {
    let app = in_memory();
    assert_eq!(
        done(&app, "registers", r#"{"set":"5"}"#).await,
        json!({ "type": "lww", "changed": 1, "value": "5" })
    );
    assert_eq!(
        done(&app, "registers", r#"{"increment":6}"#).await,
        json!({ "type": "lww", "changed": 1, "value": "11" })
    );
    // A set with an old timestamp loses, and takes no increments away.
    done(&app, "registers", r#"{"set":"old","timestamp_ms":1000}"#).await;
    assert_eq!(read(&app, "registers", "").await["value"], "11");
    let future = post(&app, "registers", r#"{"set":"x","timestamp_ms":281474976710655}"#).await;
    assert_eq!((future.status, future.problem().as_str()), (422, "refused"));
    assert!(future.detail().ends_with("at most 60000 are allowed; nothing was written"));
    done(&app, "registers", r#"{"set":{"base64":"/w=="}}"#).await;
    assert_eq!(
        read(&app, "registers", "").await,
        json!({ "type": "lww", "value": { "base64": "/w==" } })
    );
    let refused = post(&app, "registers", r#"{"increment":1}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "refused"));
    assert_eq!(refused.detail(), "value is not an integer or out of range; nothing was written");
}

#[tokio::test]
async fn maps_set_increment_and_remove_fields() {
    let app = in_memory();
    assert_eq!(
        done(&app, "maps", r#"{"set":{"name":"Ada","hits":"1"}}"#).await,
        json!({
            "type": "map", "changed": 2, "named": { "name": "Ada", "hits": "1" }, "size": 2
        })
    );
    assert_eq!(
        done(&app, "maps", r#"{"increment":{"field":"hits","by":2}}"#).await,
        json!({ "type": "map", "changed": 0, "named": { "hits": "3" }, "size": 2 })
    );
    assert_eq!(
        done(&app, "maps", r#"{"set":[{"field":{"base64":"/w=="},"value":"v"}]}"#).await,
        json!({
            "type": "map",
            "changed": 1,
            "named": {},
            "binary_fields": [{ "field": { "base64": "/w==" }, "value": "v" }],
            "size": 3,
        })
    );
    done(&app, "maps", r#"{"remove":["name",{"base64":"/w=="}]}"#).await;
    assert_eq!(
        read(&app, "maps", "").await,
        json!({ "type": "map", "value": { "hits": "3" }, "size": 1 })
    );
    assert_eq!(
        read(&app, "maps", "?field=hits").await,
        json!({ "type": "map", "field": "hits", "value": "3" })
    );
    assert_eq!(
        read(&app, "maps", "?field=name").await,
        json!({ "type": "map", "field": "name", "value": null })
    );
}

#[tokio::test]
async fn removed_fields_that_were_incremented_are_not_shown() {
    let value = concurrently(&[Operation::Map(MapOp::Increment {
        field: Bytes::from_static(b"hits"),
        by: 2,
    })]);
    assert_eq!(
        read(&over(Scripted(Ok(answer(value)))), "maps", "").await["value"],
        json!({"hits": "2"})
    );
    let app = in_memory();
    done(&app, "maps", r#"{"increment":{"field":"hits","by":2}}"#).await;
    done(&app, "maps", r#"{"set":{"name":"Ada"}}"#).await;
    done(&app, "maps", r#"{"remove":"hits"}"#).await;
    assert_eq!(
        read(&app, "maps", "").await,
        json!({ "type": "map", "value": { "name": "Ada" }, "size": 1 })
    );
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_before_anything_is_written() {
    let app = in_memory();
    done(&app, "counters", r#"{"add":5}"#).await;
    let types = json!([{ "type": "counter", "url": url("counters") }]);
    for refused in [get(&app, &url("sets")).await, post(&app, "sets", r#"{"add":"a"}"#).await] {
        assert_eq!((refused.status, refused.problem().as_str()), (409, "wrong-type"));
        assert_eq!(
            refused.detail(),
            "wanted orset, but the key holds counter; use /v1/buckets/default/counters/k"
        );
        assert_eq!(refused.json()["types"], types);
    }
    assert_eq!(read(&app, "counters", "").await, json!({ "type": "counter", "value": 5 }));
}

#[tokio::test]
async fn a_delete_removes_one_type() {
    let app = in_memory();
    for (kind, body) in [
        ("counters", r#"{"add":5}"#),
        ("sets", r#"{"add":"a"}"#),
        ("gsets", r#"{"add":"a"}"#),
        ("carts", r#"{"add":{"item":"a"}}"#),
        ("registers", r#"{"set":"a"}"#),
        ("maps", r#"{"set":{"a":"b"}}"#),
    ] {
        let context = post(&app, kind, body).await.context();
        let header = [("merganser-context", context.as_str())];
        let deleted = send(&app, "DELETE", &url(kind), &header, "").await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0), "{kind}");
        deleted.context();
        assert_eq!(get(&app, &url(kind)).await.problem(), "no-value", "{kind}");
    }
}

#[tokio::test]
async fn a_time_to_live_of_what_adds_nothing_is_refused_and_nothing_is_done() {
    let app = in_memory();
    for (kind, add, remove) in [
        ("counters", r#"{"add": 1}"#, r#"{"reset": true}"#),
        ("sets", r#"{"add": "a"}"#, r#"{"remove": "a"}"#),
        ("carts", r#"{"add": {"item": "a"}}"#, r#"{"remove": "a"}"#),
        ("maps", r#"{"set": {"a": "1"}}"#, r#"{"remove": "a"}"#),
    ] {
        let path = format!("/v1/buckets/default/{kind}/of-{kind}");
        let added = send(&app, "POST", &format!("{path}?ttl=100"), &[], add).await;
        assert_eq!(added.status, 200, "{added:?}");
        let before = get(&app, &path).await.json();
        for ttl in ["100", "keep"] {
            let refused = send(&app, "POST", &format!("{path}?ttl={ttl}"), &[], remove).await;
            assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-parameter"));
            assert!(refused.detail().starts_with("a ttl is for what adds"), "{refused:?}");
        }
        assert_eq!(get(&app, &path).await.json()["value"], before["value"], "{kind}");
        assert_eq!(send(&app, "POST", &path, &[], remove).await.status, 200);
    }
}

#[tokio::test]
async fn overflow_is_refused() {
    let app = in_memory();
    done(&app, "counters", r#"{"add":9223372036854775807}"#).await;
    let refused = post(&app, "counters", r#"{"add":1}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "refused"));
    assert_eq!(refused.detail(), "increment or decrement would overflow; nothing was written");
}

#[tokio::test]
async fn a_write_below_its_quorum_is_accepted_and_says_what_it_observed() {
    let mut below = answer(concurrently(&[Operation::Counter(CounterOp::Add(5))]));
    below.acks = Acks { owners: 3, needed: 2, answered: 1, hinted: 1 };
    below.partly_observed = true;
    let written = post(&over(Scripted(Ok(below))), "counters", r#"{"add":5}"#).await;
    assert_eq!(written.status, 202);
    assert_eq!(
        written.text(),
        "{\"changed\":1,\"context\":\"seen-counter\",\"incomplete\":true,\
         \"partly_observed\":true,\"type\":\"counter\",\"value\":5}\n"
    );
    assert_eq!(
        written.header("merganser-acks"),
        "acked=1;needed=2;hinted=1;owners=3;observed=partly"
    );
}

#[tokio::test]
async fn a_size_on_which_replicas_differ_is_marked() {
    let add = Operation::Gset(values::GsetOp::Add(vec![Bytes::from_static(b"a")]));
    let mut differing = answer(concurrently(&[add]));
    differing.view.collections.get_mut(&values::Tag::GSET).unwrap().exact = false;
    assert_eq!(
        read(&over(Scripted(Ok(differing))), "gsets", "?count=true").await,
        json!({ "type": "gset", "size": 1, "size_exact": false })
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_what_is_possible() {
    let app = in_memory();
    for body in [&b""[..], b"\xff", b"{\"add\":", b"add=5"] {
        let refused = send(&app, "POST", &url("counters"), &[], body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-operation"));
        assert!(
            refused
                .detail()
                .ends_with("; the body is one of {\"add\": 5}, {\"add\": -5} or {\"reset\": true}")
        );
    }
}
