//! An explanation as one JSON document.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::{NodeId, Stamp};
use replication::{Coordinated, Explanation, summarize};
use serde_json::{Map, Value, json as document};
use values::View;

use super::entries::{Entry, What, entries};
use super::history::{History, Node};
use super::{DotNames, name_text};

/// Entries of one type shown at most; how many there are beyond is said. A guess.
const ENTRIES_MAX: usize = 1_000;
/// Writes shown at most, the latest; how many there are beyond is said. A guess.
const WRITES_MAX: usize = 256;

/// `found` as a JSON document. Bytes that are no UTF-8 are `{"base64": "…"}`.
pub fn json(found: &Explanation) -> Value {
    let names = DotNames::of(found);
    let named = |nodes: &[NodeId]| -> Vec<String> {
        nodes.iter().map(|&node| found.name_of(node)).collect()
    };
    let (owners, fallbacks) = found.owners_and_fallbacks();
    let replicas: Vec<Value> = found
        .replicas
        .iter()
        .map(|replica| {
            let mut told = document!({
                "node": found.name_of(replica.node),
                "owner": owners.contains(&replica.node),
                "pending_for": named(&replica.pending_for),
            });
            match &replica.view {
                Ok(view) => {
                    told["same"] = (view.value == found.merged.value).into();
                    told["types"] = types(&names, view);
                }
                Err(why) => told["error"] = why.as_str().into(),
            }
            told
        })
        .collect();
    let live: Vec<String> = found.merged.live_tags().iter().map(ToString::to_string).collect();
    let history = History::of(&names, WRITES_MAX);
    let mut shown = document!({
        "bucket": text(found.key.bucket()),
        "key": text(found.key.key()),
        "partition": found.partition,
        "n": found.n,
        "owners": named(owners),
        "fallbacks": named(fallbacks),
        "types": live,
        "siblings": found.merged.siblings().len(),
        "replicas": replicas,
        "merged": types(&names, &found.merged),
        "writes": history.writes.iter().map(|node| write(found, node)).collect::<Vec<_>>(),
    });
    if history.left_out > 0 {
        shown["writes_left_out"] = history.left_out.into();
    }
    shown
}

/// What a view shows, type by type.
fn types(names: &DotNames<'_>, view: &View) -> Value {
    let mut types = Map::new();
    for (&tag, state) in &view.value.0 {
        let entries = entries(state);
        let mut shown = document!({
            "live": view.is_live(tag),
            "context": summarize(state.context(), &names.found.names),
            "entries": entries.iter().take(ENTRIES_MAX).map(|e| entry(names, e)).collect::<Vec<_>>(),
        });
        if entries.len() > ENTRIES_MAX {
            shown["more"] = (entries.len() - ENTRIES_MAX).into();
        }
        types.insert(tag.to_string(), shown);
    }
    types.into()
}

/// A sum can be beyond what JSON readers take for a number.
fn number(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| sum.to_string().into(), Value::from)
}

fn entry(names: &DotNames<'_>, entry: &Entry) -> Value {
    let dots = entry.dots.iter().map(|&dot| names.text(dot));
    let mut shown = document!({ "dots": dots.collect::<Vec<_>>() });
    if let Some(element) = &entry.element {
        shown["element"] = text(element);
    }
    match &entry.what {
        What::Present => {}
        What::Value(value) => shown["value"] = text(value),
        What::Adds(sum) => shown["adds"] = number(*sum),
        What::Folded(sum, count) => {
            shown["adds"] = number(*sum);
            shown["folded"] = (*count).into();
        }
        What::Deleted => shown["deleted"] = true.into(),
        What::Ends(ms) => shown["ends"] = Stamp::from_millis(*ms).utc().into(),
        What::Unknown(count) => shown["unknown_encodings"] = (*count).into(),
    }
    if let Some(time) = entry.time {
        shown["time"] = time.utc().into();
    }
    shown
}

fn write(found: &Explanation, node: &Node<'_>) -> Value {
    let mut shown = document!({
        "dots": node.label,
        "live": node.is_live,
        "after": node.after,
    });
    if node.is_folded {
        shown["folded"] = true.into();
    }
    if let Some(time) = node.time {
        shown["time"] = time.utc().into();
    }
    let Some(Coordinated { node: at, operation, name, seen_more, .. }) = node.write else {
        return shown;
    };
    shown["node"] = found.name_of(*at).into();
    shown["operation"] = (&**operation).into();
    shown["seen"] = node.seen.as_str().into();
    if *seen_more {
        shown["seen_more"] = true.into();
    }
    if let Some(name) = name.as_ref().and_then(name_text) {
        shown["name"] = name.into();
    }
    shown
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => document!({ "base64": STANDARD.encode(bytes) }),
    }
}
