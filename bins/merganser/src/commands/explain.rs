//! Commands that look behind keys: explain, conflicts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use client::{Datastore, conflict_cursor, explained, parse_conflict_cursor};
use replication::{ConflictsRequest, RequestError};
use serde_json::{Value, json};
use values::Key;

use crate::output::{Printer, json_bytes, print, table, text_bytes};

/// Shows how a key stands, and draws its history where it is to.
pub(crate) async fn explain(
    printer: &Printer,
    datastore: &dyn Datastore,
    bucket: &str,
    key: String,
    svg: Option<PathBuf>,
) -> Result<ExitCode> {
    let key = Key::new(bucket.to_owned(), key).map_err(RequestError::from)?;
    let found = datastore.explain(key).await?;
    let drawing = svg.as_ref().map(|_| explained::svg(&found));
    match (svg, drawing) {
        (Some(path), Some(drawing)) if path.as_os_str() == "-" => {
            print(drawing.trim_end()).context("the output cannot be written")?;
        }
        (path, drawing) => {
            if let (Some(path), Some(drawing)) = (path, drawing) {
                std::fs::write(&path, drawing)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            let text = || explained::text(&found).trim_end().to_owned();
            printer.show(&explained::json(&found), text);
        }
    }
    Ok(if found.merged.live_tags().is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Lists keys in conflict.
pub(crate) async fn conflicts(
    printer: &Printer,
    datastore: &dyn Datastore,
    count: u32,
    cursor: Option<String>,
) -> Result<ExitCode> {
    let cursor = cursor.map(|text| parse_conflict_cursor(text.as_bytes())).transpose()?;
    let page = datastore.conflicts(ConflictsRequest { cursor, limit: count }).await?;
    let next = page.next.as_ref().map(conflict_cursor);
    let keys: Vec<Value> = page
        .keys
        .iter()
        .map(|listed| {
            json!({
                "bucket": json_bytes(listed.key.bucket()),
                "key": json_bytes(listed.key.key()),
                "types": listed.tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "siblings": listed.siblings,
            })
        })
        .collect();
    printer.show(&json!({ "node": page.node, "keys": keys, "next": next }), || {
        if page.keys.is_empty() && next.is_none() {
            return format!("no key is in conflict on {}", page.node);
        }
        let rows = page.keys.iter().map(|listed| {
            let types = listed.tags.iter().map(ToString::to_string).collect::<Vec<_>>();
            [
                text_bytes(listed.key.bucket()),
                text_bytes(listed.key.key()),
                types.join(" and "),
                listed.siblings.to_string(),
            ]
        });
        let mut text = table(["bucket", "key", "types", "siblings"], rows.collect());
        if let Some(next) = &next {
            text += &format!("\nthere are more on {}: --cursor {next}", page.node);
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}
