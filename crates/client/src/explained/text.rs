//! An explanation as text for terminals.

use clock::{NodeId, Stamp};
use replication::{Explanation, ReplicaView, summarize};
use values::View;

use super::entries::{Entry, What, entries};
use super::history::{History, Node};
use super::{DotNames, name_text, quoted};

/// Entries that are shown of each type.
const SHOWN_MAX: usize = 10;
/// Characters that are shown of each value.
const VALUE_MAX: usize = 60;
/// Writes that are shown, the latest.
const WRITES_MAX: usize = 40;
/// Characters of a node's name at the head of its lane.
const LANE_MAX: usize = 10;

/// `found` as text, with a line break at its end.
pub fn text(found: &Explanation) -> String {
    let names = DotNames::of(found);
    let list = |nodes: &[NodeId]| {
        nodes.iter().map(|&node| found.name_of(node)).collect::<Vec<_>>().join(", ")
    };
    let (owners, fallbacks) = found.owners_and_fallbacks();
    let (key, bucket) = (found.key.key(), found.key.bucket());
    let merged = &found.merged;
    let mut lines = vec![
        format!("key        {} in bucket {}", quoted(key, VALUE_MAX), quoted(bucket, VALUE_MAX)),
        format!("type       {}", type_names(merged)),
        format!("partition  {}", found.partition),
        format!("owners     {} (n={})", list(owners), found.n),
    ];
    if !fallbacks.is_empty() {
        lines.push(format!("fallbacks  {}", list(fallbacks)));
    }
    let live = merged.live_tags();
    if live.len() > 1 {
        lines.push(
            "conflict   it has several types at once, each readable as its own, until someone \
             resolves it by keeping one"
                .into(),
        );
    }
    let siblings = merged.siblings().len();
    if siblings > 1 {
        lines.push(format!(
            "siblings   {siblings}, until someone puts back what they come to, with the context \
             of a read"
        ));
    }
    lines.push("merged, as a read of all of them would give".into());
    lines.extend(view_lines(&names, merged));
    for ReplicaView { node, view, pending_for } in &found.replicas {
        // Values, not views: those carry digests of rows, which a merged one has not.
        let agrees = view.as_ref().is_ok_and(|view| view.value == merged.value);
        let part = if owners.contains(node) { "" } else { ", a fallback" };
        let same = if agrees { " (the same)" } else { "" };
        lines.push(format!("at {}{part}{same}", found.name_of(*node)));
        match view {
            Ok(_) if agrees => {}
            Ok(view) => lines.extend(view_lines(&names, view)),
            Err(reason) => lines.push(format!("  {reason}")),
        }
        if !pending_for.is_empty() {
            lines.push(format!("  holds what is still to reach {}", list(pending_for)));
        }
    }
    lines.extend(history_lines(&names));
    lines.push(String::new());
    lines.join("\n")
}

fn type_names(view: &View) -> String {
    match &view.live_tags()[..] {
        [] => "none".into(),
        tags => tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// The states of a view, a few lines for each type.
fn view_lines(names: &DotNames<'_>, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for (&tag, state) in &view.value.0 {
        lines.push(format!("  {tag} {}", summarize(state.context(), &names.found.names)));
        let all = entries(state);
        lines.extend(all.iter().take(SHOWN_MAX).map(|entry| entry_line(names, entry)));
        if all.len() > SHOWN_MAX {
            lines.push(format!("    and {} more", all.len() - SHOWN_MAX));
        }
    }
    if lines.is_empty() {
        lines.push("  nothing".into());
    }
    lines
}

fn entry_line(names: &DotNames<'_>, entry: &Entry) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(entry.element.iter().map(|element| quoted(element, VALUE_MAX)));
    let what = match &entry.what {
        What::Present => None,
        What::Value(value) => Some(quoted(value, VALUE_MAX)),
        What::Adds(sum) => Some(format!("{sum:+}")),
        What::Folded(sum, count) => {
            Some(format!("{sum:+}, of {count} increments whose names are folded"))
        }
        What::Deleted => Some("deleted".into()),
        What::Ends(ms) => Some(format!("ends at {}", Stamp::from_millis(*ms).utc())),
        What::Unknown(count) => {
            Some(format!("{count} encodings of a type that this build does not know"))
        }
    };
    parts.extend(what);
    parts.extend(entry.dots.iter().map(|&dot| names.text(dot)));
    parts.extend(entry.time.map(|time| format!("at {}", time.utc())));
    format!("    {}", parts.join(" "))
}

/// The history as a drawing: a column for each coordinator, a line for each write.
fn history_lines(names: &DotNames<'_>) -> Vec<String> {
    let history = History::of(names, WRITES_MAX);
    if history.writes.is_empty() {
        return Vec::new();
    }
    let cut = |name: &String| name.chars().take(LANE_MAX).collect::<String>();
    let lanes: Vec<String> = history.lanes.iter().map(cut).collect();
    let width = |lane: &String| lane.chars().count().max(1) + 1;
    let head: String = lanes.iter().map(|lane| format!("{lane:<0$}", width(lane))).collect();
    let has_folded = history.writes.iter().any(|node| node.is_folded);
    let folded = if has_folded { ", ◐ folded into a sum" } else { "" };
    let mut lines = vec![
        format!("history, as far as the nodes remember: ● live, ○ superseded, × a removal{folded}"),
        format!("       {}", head.trim_end()),
    ];
    if history.left_out > 0 {
        lines.push(format!("       ({} earlier ones)", history.left_out));
    }
    for (place, node) in history.writes.iter().enumerate() {
        let columns: String = lanes
            .iter()
            .enumerate()
            .map(|(lane, name)| {
                let mark = if lane == node.lane { mark(node) } else { '·' };
                format!("{mark:<0$}", width(name))
            })
            .collect();
        lines.push(format!("  {:>3}  {columns} {}", place + 1, write_text(node)));
    }
    lines
}

const fn mark(node: &Node<'_>) -> char {
    match (node.is_live, node.write) {
        _ if node.is_folded => '◐',
        (true, _) => '●',
        (false, Some(write)) if write.minted.is_none() => '×',
        (false, _) => '○',
    }
}

/// What is known of a write, in one line.
fn write_text(node: &Node<'_>) -> String {
    let mut parts = vec![node.label.clone(), node.operation().to_owned()];
    parts.extend(node.value.clone());
    if let Some(write) = node.write {
        parts.push(format!("seen {}", node.seen));
        parts.extend(write.name.as_ref().and_then(name_text).map(|name| format!("as {name:?}")));
    }
    if !node.after.is_empty() {
        let after: Vec<String> = node.after.iter().map(|place| (place + 1).to_string()).collect();
        parts.push(format!("after {}", after.join(", ")));
    }
    parts.extend(node.time.map(|time| format!("at {}", time.utc())));
    parts.join("  ")
}
