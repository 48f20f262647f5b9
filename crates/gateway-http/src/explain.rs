//! How a key stands: `GET /v1/explain/{bucket}/{key}`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use clock::{Dot, NodeId};
use replication::summarize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use values::{Sibling, State as TypeState, Tag, View};

use crate::address::Target;
use crate::gateway::{Shared, json_response};
use crate::json::text;
use crate::names::{NameTable, name_of};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::raw::sibling_json;
use crate::typed::{put_size, put_value};

/// Who owns the key, what each owner holds, and what a merge of them shows. Contexts are summed up
/// as the Dynamo paper writes them, `{A:2, B:1}`.
pub(crate) async fn get(
    State(gateway): Shared,
    Target(key): Target,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let explanation = gateway.datastore.explain(key.clone()).await;
    let explanation = explanation.map_err(Problem::of_read)?;
    let names = Arc::new(explanation.names);
    let named = |nodes: &[NodeId]| -> Vec<String> {
        nodes.iter().map(|&node| name_of(node, &names)).collect()
    };
    let owner_count = usize::from(explanation.n).min(explanation.preference_list.len());
    let (owners, fallbacks) = explanation.preference_list.split_at(owner_count);
    let replicas: Vec<Value> = explanation
        .replicas
        .iter()
        .map(|replica| {
            let mut document = json!({
                "node": name_of(replica.node, &names),
                "pending_for": named(&replica.pending_for),
            });
            match &replica.view {
                Ok(view) => document["types"] = types(view, &names),
                Err(why) => document["error"] = why.as_str().into(),
            }
            document
        })
        .collect();
    let document = json!({
        "bucket": text(key.bucket()),
        "key": text(key.key()),
        "partition": explanation.partition,
        "n": explanation.n,
        "owners": named(owners),
        "fallbacks": named(fallbacks),
        "replicas": replicas,
        "merged": types(&explanation.merged, &names),
    });
    Ok(json_response(StatusCode::OK, &document))
}

/// What a view shows, type by type.
fn types(view: &View, names: &NameTable) -> Value {
    let mut types = Map::new();
    for (&tag, state) in &view.value.0 {
        let mut document = json!({
            "live": view.is_live(tag),
            "context": summarize(state.context(), names),
        });
        if tag == Tag::BYTES {
            document["siblings"] = every_sibling(view)
                .into_iter()
                .map(|(dot, sibling)| sibling_json(dot, sibling, names))
                .collect();
        } else {
            put_value(&mut document, "value", view, tag);
        }
        if view.collections.contains_key(&tag) {
            put_size(&mut document, view, tag);
        }
        types.insert(tag.to_string(), document);
    }
    types.into()
}

/// Every sibling with its own dot, equal ones too.
fn every_sibling(view: &View) -> Vec<(Dot, &Sibling)> {
    match view.value.state(Tag::BYTES) {
        Some(TypeState::Bytes(state)) => state.store.0.iter().map(|(&dot, s)| (dot, s)).collect(),
        _ => Vec::new(),
    }
}
