//! Explanations for people and programs: one form of each, whichever face shows it.
//!
//! [`text`] for terminals, [`json`] for programs, [`svg`] as a picture of what happened: who wrote
//! what, having seen what.

mod entries;
mod history;
mod json;
mod svg;
mod text;

pub use json::json;
pub use svg::svg;
pub use text::text;

use clock::{Dot, NodeId};
use replication::{Explanation, NamedBy, RequestName};

/// A dot for people: the name of its node, or of the request that it stands for, and its counter.
/// The epoch is left out, so this is no identity.
fn dot_text(found: &Explanation, dot: Dot) -> String {
    if dot.actor.replica == NodeId::NAMED {
        let is_of = |write: &&replication::Coordinated| {
            write.minted.is_some_and(|minted| minted.contains(dot))
        };
        let write = found.writes.iter().find(is_of);
        if let Some(name) = write.and_then(|write| write.name.as_ref()).and_then(name_text) {
            return format!("{name}:{}", dot.counter);
        }
    }
    format!("{}:{}", found.name_of(dot.actor.replica), dot.counter)
}

/// The name that an application or its client library gave a request.
fn name_text(name: &RequestName) -> Option<String> {
    let id = String::from_utf8_lossy(&name.id);
    match name.by {
        NamedBy::Node => None,
        _ if name.client.is_empty() => Some(id.into_owned()),
        _ => Some(format!("{}:{id}", String::from_utf8_lossy(&name.client))),
    }
}

/// Bytes for people: quoted, escaped, cut to about `most` of them.
fn quoted(bytes: &[u8], most: usize) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().count() <= most => format!("{text:?}"),
        Ok(text) => {
            let cut: String = text.chars().take(most).collect();
            format!("{cut:?}… ({} bytes)", bytes.len())
        }
        Err(_) if bytes.len() <= most => format!("\"{}\"", bytes.escape_ascii()),
        Err(_) => format!("\"{}\"… ({} bytes)", bytes[..most].escape_ascii(), bytes.len()),
    }
}

#[cfg(test)]
mod tests;
