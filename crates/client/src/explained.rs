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

use std::collections::BTreeMap;

use clock::{Actor, Dot, NodeId};
use replication::{Explanation, NamedBy, RequestError, RequestName};

/// One of the forms, made on a thread that may be held up: what a form costs grows with what the
/// replicas hold of the key, and other requests are not to wait for it. Fails as a node does that
/// stops meanwhile.
pub async fn aside<T: Send + 'static>(
    found: Explanation,
    form: fn(&Explanation) -> T,
) -> Result<T, RequestError> {
    let made = tokio::task::spawn_blocking(move || form(&found));
    made.await.map_err(|_| RequestError::Stopping)
}

/// Dots as people are shown them, with what is looked up for it.
struct DotNames<'a> {
    found: &'a Explanation,
    /// Of dots that stand for requests with names: the names, as far as they are remembered.
    requests: BTreeMap<Actor, String>,
}

impl<'a> DotNames<'a> {
    fn of(found: &'a Explanation) -> Self {
        let named = found.writes.iter().filter_map(|write| {
            let actor = write.minted?.first.actor;
            let name = write.name.as_ref().and_then(name_text)?;
            (actor.replica == NodeId::NAMED).then_some((actor, name))
        });
        Self { found, requests: named.collect() }
    }

    /// The name of the dot's node, or of the request that it stands for, and its counter. The epoch
    /// is left out, so this is no identity.
    fn text(&self, dot: Dot) -> String {
        match self.requests.get(&dot.actor) {
            // An application chose it: it may hold what steers a terminal.
            Some(name) => format!("{}:{}", name.escape_debug(), dot.counter),
            None => format!("{}:{}", self.found.name_of(dot.actor.replica), dot.counter),
        }
    }
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
