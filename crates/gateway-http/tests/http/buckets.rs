use serde_json::json;

use crate::harness::{get, in_memory, send};

const URL: &str = "/v1/buckets/carts";

#[tokio::test]
async fn a_bucket_is_created_changed_shown_listed_and_dropped() {
    let app = in_memory();
    let shown = get(&app, URL).await;
    assert_eq!((shown.status, &shown.json()["created"]), (200, &json!(false)));
    let made = send(&app, "PUT", URL, &[], r#"{"r": 1, "availability": "quorum"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["policy"]["r"], 1);
    assert_eq!(made.json()["policy"]["availability"], "quorum");
    let set = send(&app, "PATCH", URL, &[], r#"{"w": "3"}"#).await;
    assert_eq!((set.status, &set.json()["policy"]["w"]), (200, &json!(3)));
    let listed = get(&app, "/v1/buckets").await.json();
    assert_eq!(listed["buckets"][0]["name"], "carts");
    let put = send(&app, "PUT", "/v1/buckets/carts/keys/a", &[], "old").await;
    assert_eq!(put.status, 204, "{put:?}");

    let gone = send(&app, "DELETE", URL, &[], "").await;
    assert_eq!((gone.status, &gone.json()["dropped"]), (200, &json!(true)));
    for (method, url) in [
        ("GET", URL),
        ("DELETE", URL),
        ("GET", "/v1/buckets/carts/keys/a"),
        ("PUT", "/v1/buckets/carts/keys/a"),
        ("GET", "/v1/buckets/carts/keys"),
        ("GET", "/v1/buckets/carts/keys?count=true"),
        ("GET", "/v1/explain/carts/a"),
    ] {
        let refused = send(&app, method, url, &[], "").await;
        assert_eq!((refused.status, refused.problem().as_str()), (404, "bucket-dropped"), "{url}");
        assert!(refused.detail().contains("create it again with"), "{refused:?}");
    }
    let again = send(&app, "PUT", URL, &[], "").await;
    assert_eq!((again.status, &again.json()["generation"]), (201, &json!(1)));
    assert_eq!(again.json()["policy"]["r"], 2);
    assert_eq!(get(&app, "/v1/buckets/carts/keys/a").await.problem(), "no-value");
    assert_eq!(get(&app, "/v1/buckets/carts/keys?count=true").await.json()["count"], 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_said_and_nothing_is_changed() {
    let app = in_memory();
    for (body, detail) in [
        (r#"{"r": 4}"#, "n=3, r=4, w=2: r and w must be from 1 to n, and n from 1 to 5"),
        (r#"{"n": 0}"#, "n=0 is not possible: use 1 to 5"),
        (r#"{"n": -1}"#, "n=-1 is not possible: use 1 to 5"),
        (r#"{"w": 1.5}"#, "w=1.5 is not possible: use 1 to 5"),
        (r#"{"raw": "crdt"}"#, "raw=crdt is not possible: use siblings or lww"),
        (r#"{"ttl": -1}"#, "ttl=-1 is not possible: use 0 to 4294967295"),
    ] {
        let refused = send(&app, "PUT", URL, &[], body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-policy"), "{body}");
        assert_eq!(refused.detail(), detail);
    }
    for body in [r#"{"quorum": 2}"#, "[1]", "nonsense"] {
        let refused = send(&app, "PUT", URL, &[], body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-policy"), "{body}");
    }
    assert_eq!(get(&app, "/v1/buckets").await.json(), json!({ "buckets": [] }));
    let set = send(&app, "PATCH", URL, &[], r#"{"r": 1}"#).await;
    assert_eq!((set.status, set.problem().as_str()), (404, "bucket-not-created"));
    send(&app, "PUT", URL, &[], "").await;
    let twice = send(&app, "PUT", URL, &[], "").await;
    assert_eq!((twice.status, twice.problem().as_str()), (409, "bucket-exists"));
    let empty = send(&app, "PATCH", URL, &[], "{}").await;
    assert_eq!((empty.status, empty.problem().as_str()), (400, "bad-policy"));
    let long = format!("/v1/buckets/{}", "b".repeat(129));
    assert_eq!(send(&app, "PUT", &long, &[], "").await.problem(), "invalid-key");
}

#[tokio::test]
async fn in_a_bucket_of_registers_a_raw_value_is_read_replaced_and_deleted_as_one() {
    let app = in_memory();
    let key = "/v1/buckets/carts/keys/a";
    send(&app, "PUT", URL, &[], r#"{"raw": "lww"}"#).await;
    assert_eq!(send(&app, "PUT", key, &[], "one").await.status, 204);
    assert_eq!(send(&app, "PUT", key, &[], "two").await.status, 204);
    let read = get(&app, key).await;
    assert_eq!(read.json()["siblings"].as_array().map(Vec::len), Some(1));
    assert_eq!(read.json()["siblings"][0]["value"], "two");
    let context = read.context();
    let bytes = send(&app, "GET", key, &[("accept", "application/octet-stream")], "").await;
    assert_eq!(bytes.text(), "two");
    let gone = send(&app, "DELETE", key, &[("merganser-context", &context)], "").await;
    assert_eq!(gone.status, 204, "{gone:?}");
    assert_eq!(get(&app, key).await.problem(), "no-value");
}

#[tokio::test]
async fn raw_values_from_before_a_bucket_had_registers_are_replaced_and_deleted_where_they_were_put()
 {
    let app = in_memory();
    let key = |name: &str| format!("{URL}/keys/{name}");
    send(&app, "PUT", URL, &[], "").await;
    for name in ["a", "b", "c"] {
        assert_eq!(send(&app, "PUT", &key(name), &[], "old").await.status, 204);
    }
    assert_eq!(send(&app, "PATCH", URL, &[], r#"{"raw": "lww"}"#).await.status, 200);

    assert_eq!(send(&app, "PUT", &key("a"), &[], "new").await.status, 204);
    let context = get(&app, &key("b")).await.context();
    let put = send(&app, "PUT", &key("b"), &[("merganser-context", &context)], "new").await;
    assert_eq!(put.status, 204, "{put:?}");
    for name in ["a", "b"] {
        let read = get(&app, &key(name)).await;
        assert_eq!(read.json()["siblings"].as_array().map(Vec::len), Some(1));
        assert_eq!(read.json()["siblings"][0]["value"], "new");
        let typed = get(&app, &format!("{URL}/registers/{name}")).await.json();
        assert_eq!((&typed["value"], &typed["conflict"]), (&json!("new"), &json!(null)));
    }
    let context = get(&app, &key("c")).await.context();
    let gone = send(&app, "DELETE", &key("c"), &[("merganser-context", &context)], "").await;
    assert_eq!(gone.status, 204, "{gone:?}");
    assert_eq!(get(&app, &key("c")).await.problem(), "no-value");
    // A token of another type of the key is good for neither.
    send(&app, "POST", &format!("{URL}/counters/d"), &[], r#"{"add": 1}"#).await;
    let context = get(&app, &format!("{URL}/counters/d")).await.context();
    let refused = send(&app, "PUT", &key("d"), &[("merganser-context", &context)], "new").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-context"));
    assert_eq!(send(&app, "PUT", &key("d"), &[], "new").await.problem(), "wrong-type");
}
