//! How a key stands: `GET /v1/explain/{bucket}/{key}`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::explained;

use crate::address::Target;
use crate::gateway::{Shared, json_response};
use crate::headers::accepts;
use crate::parameters::{Parameters, refused};
use crate::problem::Problem;

/// Who owns the key, what each replica holds, what a merge of them shows and what the nodes remember
/// of its writes: as JSON, as text, or as a drawing.
pub(crate) async fn get(
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = parameters.take("format");
    parameters.finish()?;
    let accepted = |media| accepts(&headers, media) && !accepts(&headers, "application/json");
    let format = match format.as_deref() {
        Some(format @ (b"json" | b"svg" | b"text")) => format,
        Some(_) => return Err(refused("format is json, svg or text".into())),
        None if accepted("image/svg+xml") => b"svg",
        None if accepted("text/plain") => b"text",
        None => b"json",
    };
    let found = gateway.datastore.explain(key).await.map_err(Problem::of_read)?;
    Ok(match format {
        b"svg" => {
            let policy = "default-src 'none'; style-src 'unsafe-inline'";
            let headers = [
                (header::CONTENT_TYPE, "image/svg+xml"),
                (header::CONTENT_SECURITY_POLICY, policy),
            ];
            (headers, explained::svg(&found)).into_response()
        }
        b"text" => explained::text(&found).into_response(),
        _ => json_response(StatusCode::OK, &explained::json(&found)),
    })
}
