//! The keys of a bucket: `GET /v1/buckets/{bucket}/keys`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use replication::{ScanCursor, ScanRequest};
use serde_json::{Value, json};

use crate::address::Bucket;
use crate::gateway::{Shared, json_response};
use crate::json::text;
use crate::parameters::{Parameters, refused};
use crate::problem::{Problem, types_with_urls};

/// Keys on a page where the request does not say, and at most.
const PAGE: u32 = 1000;
const PAGE_MAX: u32 = 10_000;

/// A page of keys with their types, or the number of keys.
pub(crate) async fn get(
    State(gateway): Shared,
    Bucket(bucket): Bucket,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let cursor = parameters.take("cursor");
    let count = parameters.flag("count")?;
    let limit = parameters.limit("limit", PAGE_MAX)?.unwrap_or(PAGE);
    parameters.finish()?;
    if count {
        let count = gateway.datastore.count(bucket).await.map_err(Problem::of_read)?;
        return Ok(json_response(StatusCode::OK, &json!({ "count": count })));
    }
    let cursor = cursor.map(|cursor| decode(&cursor)).transpose()?;
    let page = gateway.datastore.scan(ScanRequest { bucket, cursor, limit }).await;
    let page = page.map_err(Problem::of_read)?;
    let keys: Vec<Value> = page
        .keys
        .iter()
        .map(|(key, tags)| json!({ "key": text(key.key()), "types": types_with_urls(key, tags) }))
        .collect();
    let mut document = json!({ "keys": keys, "next": page.next.as_ref().map(encode) });
    if page.incomplete {
        document["incomplete"] = true.into();
    }
    Ok(json_response(StatusCode::OK, &document))
}

fn encode(cursor: &ScanCursor) -> String {
    URL_SAFE_NO_PAD.encode(clock::encode(cursor))
}

fn decode(text: &[u8]) -> Result<ScanCursor, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| clock::decode(&bytes).ok()).ok_or_else(|| {
        refused("cursor is not one of ours; send the next of the page before, unchanged".into())
    })
}
