use serde_json::json;

use crate::harness::{get, in_memory, send};

const COUNTER: &str = "/v1/buckets/default/counters/k";

#[tokio::test]
async fn a_web_page_that_has_a_browser_write_is_refused_and_nothing_is_written() {
    let app = in_memory();
    let batch = json!({ "operations": [{ "kind": "counters", "key": "k", "do": { "add": 5 } }] });
    let (batch, add) = (batch.to_string(), json!({ "add": 5 }).to_string());
    let host = ("host", "127.0.0.1:7380");
    for from in [
        ("origin", "http://evil.example"),
        ("origin", "http://127.0.0.1:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        // What a page may have sent without being allowed to.
        let headers = [host, from, ("content-type", "text/plain;charset=UTF-8")];
        for (path, body) in [("/v1/batch", &batch), (COUNTER, &add)] {
            let refused = send(&app, "POST", path, &headers, body.clone()).await;
            assert_eq!((refused.status, refused.problem().as_str()), (403, "foreign-origin"));
            assert!(refused.detail().ends_with("nothing was done"), "{refused:?}");
        }
    }
    assert_eq!(get(&app, COUNTER).await.status, 404);

    for own in [&[][..], &[host, ("origin", "http://127.0.0.1:7380")]] {
        assert_eq!(send(&app, "POST", COUNTER, own, add.clone()).await.status, 200, "{own:?}");
    }
    // A link on another page leads here.
    let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(send(&app, "GET", "/", &link, "").await.status, 200);
}
