//! Rows, records of the log and hash trees, for people to read.

mod log;
mod rows;
mod trees;

pub use log::{RecordShown, show_record};
pub use rows::{RowShown, show_row};
pub use trees::{LeafShown, show_tree};

use std::fmt::Write as _;

use clock::{Actor, CausalContext};
use values::Key;

/// Bytes for people: as text where they are, the rest escaped; not more than a line of them.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 120;
    let cut = if bytes.len() > MOST { "…" } else { "" };
    format!("\"{}{cut}\"", bytes[..bytes.len().min(MOST)].escape_ascii())
}

/// A key with its bucket and its generation, if it is not the first.
fn shown_key(key: &Key) -> String {
    let generation = match key.generation() {
        0 => String::new(),
        generation => format!(" (generation {generation})"),
    };
    format!("{}/{}{generation}", key.bucket().escape_ascii(), shown(key.key()))
}

/// A writer: its node (or what named requests have in place of one), and its epoch's process and number.
fn shown_actor(Actor { replica, epoch }: Actor) -> String {
    format!("{replica}.{:016x}.{}", epoch.process, epoch.number)
}

/// Dots by actor: `{node.process.number: 1-3, 5}`.
fn shown_context(context: &CausalContext) -> String {
    let mut text = String::from("{");
    let mut last = None;
    for (actor, first, end) in context.ranges() {
        if last == Some(actor) {
            text.push_str(", ");
        } else {
            let separator = if last.is_some() { "; " } else { "" };
            write!(text, "{separator}{}: ", shown_actor(actor)).expect("a String takes it");
            last = Some(actor);
        }
        let range = if first == end { first.to_string() } else { format!("{first}-{end}") };
        text.push_str(&range);
    }
    text.push('}');
    text
}
