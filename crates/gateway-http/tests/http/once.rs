use client::MemoryDatastore;
use replication::RequestError;
use serde_json::json;

use crate::harness::{Answered, Scripted, get, in_memory, over, send};

const COUNTER: &str = "/v1/buckets/default/counters/k";
const RAW: &str = "/v1/buckets/default/keys/raw";

async fn add(app: &axum::Router, key: &str, by: i64) -> Answered {
    let body = json!({ "add": by }).to_string();
    send(app, "POST", COUNTER, &[("Idempotency-Key", key)], body).await
}

#[tokio::test]
async fn a_write_under_an_idempotency_key_is_done_once_and_says_when_it_was() {
    let app = in_memory();
    for (key, repeated, value) in [
        ("c:1", "", 5),
        ("c:1", "true", 5),
        // A structured string, as the IETF's draft has it, is the same key.
        ("\"c:1\"", "true", 5),
        ("c:2", "", 10),
        ("d:1", "", 15),
        ("1", "", 20),
        ("1", "true", 20),
    ] {
        let added = add(&app, key, 5).await;
        assert_eq!((added.status, added.header("merganser-repeated")), (200, repeated), "{key}");
        assert_eq!(added.json()["value"], value, "{key}");
    }
    assert_eq!(get(&app, COUNTER).await.header("merganser-repeated"), "");
}

#[tokio::test]
async fn puts_and_deletes_are_done_once_too() {
    let app = in_memory();
    let name = ("Idempotency-Key", "c:1");
    assert_eq!(send(&app, "PUT", RAW, &[name], "v").await.header("merganser-repeated"), "");
    let again = send(&app, "PUT", RAW, &[name], "v").await;
    assert_eq!((again.status, again.header("merganser-repeated")), (204, "true"));
    let context = get(&app, RAW).await.context();
    let delete = [("Idempotency-Key", "c:2"), ("Merganser-Context", &context)];
    assert_eq!(send(&app, "DELETE", RAW, &delete, "").await.header("merganser-repeated"), "");
    send(&app, "PUT", RAW, &[], "new").await;
    let again = send(&app, "DELETE", RAW, &delete, "").await;
    assert_eq!((again.status, again.header("merganser-repeated")), (204, "true"));
    assert_eq!(get(&app, RAW).await.json()["siblings"][0]["value"], "new");

    add(&app, "c:1", 5).await;
    assert_eq!(send(&app, "DELETE", COUNTER, &[("Idempotency-Key", "c:3")], "").await.status, 204);
    add(&app, "c:4", 2).await;
    let again = send(&app, "DELETE", COUNTER, &[("Idempotency-Key", "c:3")], "").await;
    assert_eq!(again.header("merganser-repeated"), "true");
    assert_eq!(get(&app, COUNTER).await.json()["value"], 2);
}

#[tokio::test]
async fn an_idempotency_key_used_for_something_else_is_refused() {
    let app = in_memory();
    add(&app, "c:1", 5).await;
    let reused = add(&app, "c:1", 6).await;
    assert_eq!((reused.status, reused.problem().as_str()), (422, "idempotency-key-reused"));
    assert_eq!(
        reused.detail(),
        "this idempotency key was used with other arguments on this key; use a new one; nothing \
         was written"
    );
    assert_eq!(get(&app, COUNTER).await.json()["value"], 5);
}

#[tokio::test]
async fn a_key_takes_so_many_idempotency_keys_of_a_client_and_no_more() {
    let app = in_memory();
    for id in 0..256 {
        assert_eq!(add(&app, &format!("c:{id}"), 1).await.status, 200);
    }
    let full = add(&app, "c:256", 1).await;
    assert_eq!((full.status, full.problem().as_str()), (409, "too-many-idempotency-keys"));
    assert_eq!(
        full.detail(),
        "the key remembers 256 idempotency keys and takes no more; send the operation without one; \
         nothing was written"
    );
    assert_eq!(add(&app, "c:0", 1).await.header("merganser-repeated"), "true");
    assert_eq!(send(&app, "POST", COUNTER, &[], r#"{"add":1}"#).await.json()["value"], 257);
}

#[tokio::test]
async fn idempotency_keys_that_make_no_sense_are_refused() {
    let app = in_memory();
    let long = "x".repeat(256);
    let length = "an idempotency key of 0 bytes: it has 1 to 255, and so its client";
    for (key, detail) in [
        ("", length),
        ("\"\"", length),
        ("c:", length),
        (&long, "an idempotency key of 256 bytes: it has 1 to 255, and so its client"),
    ] {
        let name = ("Idempotency-Key", key);
        let context = ("Merganser-Context", "x");
        for refused in [
            add(&app, key, 5).await,
            send(&app, "PUT", RAW, &[name], "v").await,
            send(&app, "DELETE", RAW, &[name, context], "").await,
            send(&app, "DELETE", COUNTER, &[name], "").await,
        ] {
            assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-idempotency-key"));
            assert_eq!(refused.detail(), detail);
        }
    }
    let twice = [("Idempotency-Key", "c:1"), ("Idempotency-Key", "c:1")];
    assert_eq!(send(&app, "PUT", RAW, &twice, "v").await.problem(), "bad-idempotency-key");
    assert_eq!(get(&app, RAW).await.status, 404);
    assert_eq!(get(&app, COUNTER).await.status, 404);
}

#[tokio::test]
async fn an_unknown_outcome_under_an_idempotency_key_says_to_send_it_again() {
    let app = over(Scripted(Err(RequestError::Unknown { acked: 1, needed: 2, disk: None })));
    let unknown = add(&app, "c:1", 5).await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (503, "outcome-unknown"));
    assert!(
        unknown.detail().ends_with("send it again under the same Idempotency-Key, it counts once"),
        "{}",
        unknown.detail()
    );
    assert_eq!(unknown.json()["acked"], 1);
}

#[tokio::test]
async fn an_idempotency_key_is_no_concern_of_a_read() {
    let app = over(MemoryDatastore::new());
    assert_eq!(send(&app, "GET", COUNTER, &[("Idempotency-Key", "")], "").await.status, 404);
}

#[tokio::test]
async fn siblings_put_under_idempotency_keys_have_dots_that_differ() {
    let app = in_memory();
    for (name, value) in [("c:1", "milk"), ("c:2", "tea")] {
        send(&app, "PUT", RAW, &[("Idempotency-Key", name)], value).await;
    }
    let siblings = get(&app, RAW).await.json()["siblings"].clone();
    let dots = [0, 1].map(|index| siblings[index]["dot"].as_str().unwrap().to_owned());
    assert_ne!(dots[0], dots[1]);
    for dot in dots {
        let digest = dot.strip_prefix("named-").and_then(|dot| dot.strip_suffix(":1")).unwrap();
        assert_eq!(digest.len(), 8, "{dot}");
    }
}
