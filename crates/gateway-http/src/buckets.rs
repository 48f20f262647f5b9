//! Buckets and their policies: `GET /v1/buckets`, `GET|PUT|PATCH|DELETE /v1/buckets/{bucket}`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use replication::{BucketCall, BucketInfo, BucketReply, Field, PolicyFields, Standing};
use serde_json::{Map, Value, json};

use crate::address::Bucket;
use crate::gateway::{Body, Gateway, Shared, json_response};
use crate::json::text;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// Every bucket that was created or dropped.
pub(crate) async fn list(
    State(gateway): Shared,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    call(&gateway, BucketCall::List, StatusCode::OK).await
}

/// How a bucket stands.
pub(crate) async fn get(
    State(gateway): Shared,
    Bucket(name): Bucket,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    call(&gateway, BucketCall::Show { name }, StatusCode::OK).await
}

/// Creates a bucket.
pub(crate) async fn put(
    State(gateway): Shared,
    Bucket(name): Bucket,
    parameters: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let fields = fields(&body)?;
    call(&gateway, BucketCall::Create { name, fields }, StatusCode::CREATED).await
}

/// Changes fields of a bucket's policy.
pub(crate) async fn patch(
    State(gateway): Shared,
    Bucket(name): Bucket,
    parameters: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let fields = fields(&body)?;
    call(&gateway, BucketCall::Set { name, fields }, StatusCode::OK).await
}

/// Drops a bucket with all that is in it.
pub(crate) async fn delete(
    State(gateway): Shared,
    Bucket(name): Bucket,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    call(&gateway, BucketCall::Drop { name }, StatusCode::OK).await
}

async fn call(
    gateway: &Gateway,
    call: BucketCall,
    status: StatusCode,
) -> Result<Response, Problem> {
    let reads = call.changes().is_none();
    let reply = gateway.datastore.buckets(call).await;
    let reply =
        reply.map_err(|error| if reads { Problem::of_read(error) } else { Problem::of(error) })?;
    let document = match reply {
        BucketReply::Changed { bucket, known, members } => {
            let mut document = described(&bucket);
            document["known"] = known.into();
            document["members"] = members.into();
            document
        }
        BucketReply::Shown(bucket) => described(&bucket),
        BucketReply::Listed(buckets) => {
            json!({ "buckets": buckets.iter().map(described).collect::<Vec<_>>() })
        }
    };
    Ok(json_response(status, &document))
}

/// The fields that a body names; none of an empty body.
fn fields(body: &[u8]) -> Result<PolicyFields, Problem> {
    let mut fields = PolicyFields::default();
    if body.is_empty() {
        return Ok(fields);
    }
    let given: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        bad_policy(&format!("{error}; send an object of fields, as in {{\"r\": 1, \"w\": 3}}"))
    })?;
    for (name, value) in given {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fields.add(&name, &value).map_err(|error| bad_policy(&error.to_string()))?;
    }
    Ok(fields)
}

/// A policy that is none.
fn bad_policy(detail: &str) -> Problem {
    Problem::bad_request("bad-policy", "The policy is not possible", detail)
}

fn described(bucket: &BucketInfo) -> Value {
    let (created, dropped) = match bucket.standing {
        Standing::Implicit => (false, false),
        Standing::Created => (true, false),
        Standing::Dropped => (false, true),
    };
    let mut document = json!({
        "name": text(&bucket.name),
        "generation": bucket.generation,
        "created": created,
        "dropped": dropped,
    });
    if dropped {
        return document;
    }
    let policy = Field::ALL.into_iter().map(|field| {
        let value = bucket.policy.value(field);
        let shown = field.show(value);
        let value = if shown == value.to_string() { value.into() } else { shown.into() };
        (field.name().to_owned(), value)
    });
    document["policy"] = Value::Object(policy.collect());
    if !bucket.doubts.is_empty() {
        document["doubts"] = bucket.doubts.clone().into();
    }
    document
}
