//! The causal history of a key, as far as it is known: writes in order, each after those that it had
//! seen, in the lane of who coordinated it.
//!
//! Writes come from the journals of the nodes. What is live and in no journal is a write all the
//! same: when its coordinator started anew, or has forgotten it, only its dot is known.

use std::collections::BTreeMap;

use clock::{CausalContext, Dot, Stamp};
use replication::{Coordinated, summarize};
use values::Tag;

use super::entries::{Entry, What, entries};
use super::{DotNames, quoted};

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
    /// Whether that is a sum into which its name is folded: it counts there, but for a reset before.
    pub(super) is_folded: bool,
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

/// What is live, looked up by the writes that it rests on.
struct Live<'l> {
    by_dot: BTreeMap<(Tag, Dot), &'l Entry>,
    /// Dots among which the increments of sums are, by type.
    summed: BTreeMap<Tag, CausalContext>,
    /// What was seen of types with increments whose names are folded.
    folded: BTreeMap<Tag, &'l CausalContext>,
}

impl<'l> Live<'l> {
    fn of(held: &'l [(Tag, Entry)], value: &'l values::Value) -> Self {
        let (by_dot, summed, folded) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut live = Self { by_dot, summed, folded };
        for (tag, entry) in held {
            if let What::Folded(..) = entry.what {
                live.folded.insert(*tag, value.context(*tag));
            }
            live.by_dot.extend(entry.dots.iter().map(|&dot| ((*tag, dot), entry)));
            for &(first, last) in &entry.summed {
                let summed = live.summed.entry(*tag).or_default();
                summed.insert_range(first.actor, first.counter, last);
            }
        }
        live
    }

    /// What rests on a dot of `write`, and names it.
    fn entry_of(&self, write: &Coordinated) -> Option<&'l Entry> {
        let minted = write.minted.filter(|minted| minted.first.counter <= minted.last)?;
        let last = Dot::new(minted.first.actor, minted.last);
        let own = self.by_dot.range((minted.tag, minted.first)..=(minted.tag, last));
        own.map(|(_, &entry)| entry).find(|entry| entry.what != What::Deleted)
    }

    /// Whether `write` is an increment within a sum.
    fn sums(&self, write: &Coordinated) -> bool {
        increment_of(write).is_some_and(|(tag, dot)| {
            self.summed.get(&tag).is_some_and(|summed| summed.contains(dot))
        })
    }

    /// Whether `write` is an increment whose name is folded.
    fn folds(&self, write: &Coordinated) -> bool {
        // Once it is, nothing says any more that it was seen.
        let is_of = |(tag, dot): (Tag, Dot)| {
            dot.actor.is_named() && self.folded.get(&tag).is_some_and(|seen| !seen.contains(dot))
        };
        increment_of(write).is_some_and(is_of)
    }
}

/// The first dot of an increment. Within the range of a sum other writes have dots as well.
fn increment_of(write: &Coordinated) -> Option<(Tag, Dot)> {
    let is_increment = ["counter add", "lww increment", "map increment"];
    let minted = write.minted.filter(|_| is_increment.contains(&&*write.operation))?;
    Some((minted.tag, minted.first))
}

/// A write before it is told of.
enum Found<'a, 'l> {
    /// A journal has it.
    Remembered(&'a Coordinated),
    /// Something live rests on it, and no journal has it.
    Forgotten(Tag, Dot, &'l Entry),
}

impl Found<'_, '_> {
    fn time(&self) -> Option<Stamp> {
        match self {
            Self::Remembered(write) => Some(write.time),
            Self::Forgotten(_, _, entry) => entry.time,
        }
    }

    /// Its first dot.
    fn dot(&self) -> Option<(Tag, Dot)> {
        match self {
            Self::Remembered(write) => write.minted.map(|minted| (minted.tag, minted.first)),
            Self::Forgotten(tag, dot, _) => Some((*tag, *dot)),
        }
    }
}

impl<'a> History<'a> {
    /// The latest `most` writes. Costs a walk over what is held, and the square of `most`: it runs
    /// where requests are answered.
    pub(super) fn of(names: &DotNames<'a>, most: usize) -> Self {
        let found = names.found;
        let states = found.merged.value.0.iter();
        let held: Vec<(Tag, Entry)> = states
            .flat_map(|(&tag, state)| entries(state).into_iter().map(move |entry| (tag, entry)))
            .collect();
        let live = Live::of(&held, &found.merged.value);
        let mut remembered = BTreeMap::<Tag, CausalContext>::new();
        for minted in found.writes.iter().filter_map(|write| write.minted) {
            let dots = remembered.entry(minted.tag).or_default();
            dots.insert_range(minted.first.actor, minted.first.counter, minted.last);
        }
        let is_remembered = |tag, dot| remembered.get(&tag).is_some_and(|dots| dots.contains(dot));
        let forgotten = live.by_dot.iter().filter(|&(&(tag, dot), entry)| {
            entry.what != What::Deleted && !is_remembered(tag, dot)
        });
        let mut all: Vec<Found<'_, '_>> =
            forgotten.map(|(&(tag, dot), entry)| Found::Forgotten(tag, dot, entry)).collect();
        all.extend(found.writes.iter().map(Found::Remembered));
        // Hybrid time follows causality, so this order does too; what has none comes first.
        all.sort_by_key(Found::time);
        let left_out = all.len().saturating_sub(most);
        let latest = all.split_off(left_out);

        let owners = found.preference_list.iter().take(usize::from(found.n));
        let mut lanes: Vec<String> = owners.map(|&node| found.name_of(node)).collect();
        let mut lane_of = |name: String| match lanes.iter().position(|lane| *lane == name) {
            Some(lane) => lane,
            None => {
                lanes.push(name);
                lanes.len() - 1
            }
        };
        let after = directly_after(latest.len(), |place, earlier| {
            let Found::Remembered(write) = latest[place] else { return false };
            latest[earlier].dot().is_some_and(|(tag, dot)| write.has_seen(tag, dot))
        });
        let writes = latest.iter().zip(after).map(|(found_write, after)| match *found_write {
            Found::Forgotten(_, dot, entry) => Node {
                lane: lane_of(found.name_of(dot.actor.replica)),
                label: names.text(dot),
                write: None,
                time: entry.time,
                is_live: true,
                is_folded: false,
                value: shown(entry),
                seen: String::new(),
                after,
            },
            Found::Remembered(write) => {
                let own = live.entry_of(write);
                let is_folded = live.folds(write);
                Node {
                    lane: lane_of(found.name_of(write.node)),
                    label: label(names, write),
                    write: Some(write),
                    time: Some(write.time),
                    is_live: own.is_some() || live.sums(write) || is_folded,
                    is_folded,
                    // A sum is not what this one of its increments added.
                    value: own.filter(|entry| entry.summed.is_empty()).and_then(shown),
                    seen: seen(names, write),
                    after,
                }
            }
        });
        let writes = writes.collect();
        Self { lanes, writes, left_out }
    }
}

/// Of `count` writes in an order that follows causality: after which each came directly, which is
/// those it had seen but for what one of them had itself seen. Asks once for each pair.
pub(super) fn directly_after(
    count: usize,
    mut has_seen: impl FnMut(usize, usize) -> bool,
) -> Vec<Vec<usize>> {
    let seen: Vec<Vec<usize>> = (0..count)
        .map(|place| (0..place).filter(|&earlier| has_seen(place, earlier)).collect())
        .collect();
    let of = |own: &Vec<usize>| {
        let mut is_direct = vec![true; count];
        own.iter().flat_map(|&place| &seen[place]).for_each(|&place| is_direct[place] = false);
        own.iter().copied().filter(|&place| is_direct[place]).collect()
    };
    seen.iter().map(of).collect()
}

fn label(names: &DotNames<'_>, write: &Coordinated) -> String {
    match write.minted {
        None => "removal".into(),
        Some(minted) if minted.last == minted.first.counter => names.text(minted.first),
        Some(minted) => format!("{}..{}", names.text(minted.first), minted.last),
    }
}

/// What the write had seen, each type by itself if there are several.
fn seen(names: &DotNames<'_>, write: &Coordinated) -> String {
    let mut by_type = BTreeMap::<Tag, CausalContext>::new();
    for &(tag, dot) in &write.seen {
        let context = by_type.entry(tag).or_default();
        context.insert_range(dot.actor, 1, dot.counter);
    }
    let text = |context: &CausalContext| summarize(context, &names.found.names);
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
        What::Adds(sum) | What::Folded(sum, _) => format!("{sum:+}"),
        What::Ends(ms) => format!("ends at {}", Stamp::from_millis(*ms).utc()),
        What::Present | What::Deleted | What::Unknown(_) => String::new(),
    };
    let element = entry.element.as_ref().map(|element| quoted(element, VALUE_MAX));
    let parts = [element.unwrap_or_default(), what];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
