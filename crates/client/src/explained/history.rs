//! The causal history of a key, as far as it is known: writes in order, each after those that it had
//! seen, in the lane of who coordinated it.
//!
//! Writes come from the journals of the nodes. What is live and in no journal is a write all the
//! same: when its coordinator started anew, or has forgotten it, only its dot is known.

use std::collections::BTreeMap;

use clock::{CausalContext, Dot, Stamp};
use replication::{Coordinated, Explanation, summarize};
use values::Tag;

use super::entries::{Entry, What, entries};
use super::{dot_text, quoted};

/// Characters of a value that a write is shown with.
const VALUE_MAX: usize = 24;

/// The history of one key.
pub(super) struct History<'a> {
    /// Names of the lanes.
    pub(super) lanes: Vec<String>,
    /// The writes, each after all that it had seen.
    pub(super) writes: Vec<Node<'a>>,
    /// How many earlier ones are left out.
    pub(super) left_out: usize,
}

/// One write.
pub(super) struct Node<'a> {
    pub(super) lane: usize,
    /// Its dots, or that it has none.
    pub(super) label: String,
    /// What is remembered of it, if anything.
    pub(super) write: Option<&'a Coordinated>,
    pub(super) time: Option<Stamp>,
    /// Whether something live rests on it.
    pub(super) is_live: bool,
    /// What it wrote, where that is live.
    pub(super) value: Option<String>,
    /// What it had seen, as the Dynamo paper writes it.
    pub(super) seen: String,
    /// The writes that it came directly after, by their places in [`History::writes`].
    pub(super) after: Vec<usize>,
}

impl Node<'_> {
    /// Whether it only took away.
    pub(super) fn is_removal(&self) -> bool {
        self.write.is_some_and(|write| write.minted.is_none())
    }

    /// What happened, for people.
    pub(super) fn operation(&self) -> &str {
        self.write.map_or("(not remembered)", |write| &write.operation)
    }
}

/// Live entries by type and dot.
type Live = BTreeMap<(Tag, Dot), Entry>;

impl<'a> History<'a> {
    /// The latest `most` writes.
    pub(super) fn of(found: &'a Explanation, most: usize) -> Self {
        let live: Live = found
            .merged
            .value
            .0
            .iter()
            .flat_map(|(&tag, state)| {
                entries(state).into_iter().flat_map(move |entry| {
                    let dots = entry.dots.clone();
                    dots.into_iter().map(move |dot| ((tag, dot), entry.clone()))
                })
            })
            .collect();
        let mut lanes: Vec<String> = Vec::new();
        for &node in found.preference_list.iter().take(usize::from(found.n)) {
            lanes.push(found.name_of(node));
        }
        let mut lane_of = |name: String| match lanes.iter().position(|lane| *lane == name) {
            Some(lane) => lane,
            None => {
                lanes.push(name);
                lanes.len() - 1
            }
        };
        let is_remembered = |tag: Tag, dot: Dot| {
            let mut minted = found.writes.iter().filter_map(|write| write.minted);
            minted.any(|minted| minted.tag == tag && minted.contains(dot))
        };
        let forgotten = live.iter().filter(|((tag, dot), entry)| {
            entry.what != What::Deleted && !is_remembered(*tag, *dot)
        });
        let mut writes: Vec<(Node<'a>, Option<(Tag, Dot)>)> = forgotten
            .map(|(&(tag, dot), entry)| {
                let node = Node {
                    lane: lane_of(found.name_of(dot.actor.replica)),
                    label: dot_text(found, dot),
                    write: None,
                    time: entry.time,
                    is_live: true,
                    value: shown(entry),
                    seen: String::new(),
                    after: Vec::new(),
                };
                (node, Some((tag, dot)))
            })
            .collect();
        for write in &found.writes {
            let own = live_of(&live, write);
            let node = Node {
                lane: lane_of(found.name_of(write.node)),
                label: label(found, write),
                write: Some(write),
                time: Some(write.time),
                is_live: own.is_some(),
                // A sum is not what this one of its increments added.
                value: own.filter(|entry| entry.summed.is_empty()).and_then(shown),
                seen: seen(found, write),
                after: Vec::new(),
            };
            writes.push((node, write.minted.map(|minted| (minted.tag, minted.first))));
        }
        // Hybrid time follows causality, so this order does too; what has none comes first.
        writes.sort_by_key(|(node, _)| node.time);
        let left_out = writes.len().saturating_sub(most);
        let mut writes = writes.split_off(left_out);
        let dots: Vec<Option<(Tag, Dot)>> = writes.iter().map(|(_, dot)| *dot).collect();
        for at in 0..writes.len() {
            let Some(write) = writes[at].0.write else { continue };
            let has_seen = |write: &Coordinated, place: usize| {
                dots[place].is_some_and(|(tag, dot)| write.has_seen(tag, dot))
            };
            let seen: Vec<usize> = (0..at).filter(|&place| has_seen(write, place)).collect();
            // What one that was seen had itself seen is not directly before.
            let is_direct = |place: &usize| {
                !seen.iter().any(|&other| {
                    let other = writes[other].0.write;
                    other.is_some_and(|other| has_seen(other, *place))
                })
            };
            let after = seen.iter().copied().filter(is_direct).collect();
            writes[at].0.after = after;
        }
        let writes = writes.into_iter().map(|(node, _)| node).collect();
        Self { lanes, writes, left_out }
    }
}

/// Something live that rests on `write`.
fn live_of<'l>(live: &'l Live, write: &Coordinated) -> Option<&'l Entry> {
    let minted = write.minted?;
    let (first, last) = (minted.first, Dot::new(minted.first.actor, minted.last));
    let mut own = live.range((minted.tag, first)..=(minted.tag, last)).map(|(_, entry)| entry);
    let own = own.find(|entry| entry.what != What::Deleted);
    // Within the range of a sum other writes have dots as well.
    let is_increment = ["counter add", "lww increment", "map increment"];
    own.or_else(|| {
        let mut sums = live.iter().filter(|((tag, _), _)| *tag == minted.tag);
        let counted = is_increment.contains(&write.operation.as_str());
        sums.find(|(_, entry)| counted && entry.sums(first)).map(|(_, entry)| entry)
    })
}

fn label(found: &Explanation, write: &Coordinated) -> String {
    match write.minted {
        None => "removal".into(),
        Some(minted) if minted.last == minted.first.counter => dot_text(found, minted.first),
        Some(minted) => format!("{}..{}", dot_text(found, minted.first), minted.last),
    }
}

/// What the write had seen, each type by itself if there are several.
fn seen(found: &Explanation, write: &Coordinated) -> String {
    let mut by_type = BTreeMap::<Tag, CausalContext>::new();
    for &(tag, dot) in &write.seen {
        let context = by_type.entry(tag).or_default();
        context.insert_range(dot.actor, 1, dot.counter);
    }
    let text = |context: &CausalContext| summarize(context, &found.names);
    let mut text = match by_type.len() {
        0 => "{}".into(),
        1 => by_type.values().map(text).collect(),
        _ => by_type
            .iter()
            .map(|(tag, context)| format!("{tag} {}", text(context)))
            .collect::<Vec<_>>()
            .join(" "),
    };
    if write.seen_more {
        text.push_str(" and more");
    }
    text
}

fn shown(entry: &Entry) -> Option<String> {
    let what = match &entry.what {
        What::Value(value) => quoted(value, VALUE_MAX),
        What::Adds(sum) => format!("{sum:+}"),
        What::Present | What::Deleted | What::Unknown(_) => String::new(),
    };
    let element = entry.element.as_ref().map(|element| quoted(element, VALUE_MAX));
    let parts = [element.unwrap_or_default(), what];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
