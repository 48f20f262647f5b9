//! The journal: the writes that a core coordinated lately, for explanations. In memory, bounded, and
//! forgotten with the process: what decides never asks it.

use std::borrow::Cow;
use std::collections::VecDeque;

use clock::{CausalContext, Dot, NodeId, Stamp};
use serde::{Deserialize, Serialize};
use values::{Key, Minted, Tag};

use crate::RequestName;

/// Writes that a core remembers. A guess: some megabytes at most, and seconds to hours of them.
const WRITES_MAX: usize = 4_096;

/// Writes of one key that one node tells of, the latest. A guess: more than people look at.
const TOLD_MAX: usize = 256;

/// Writers of which the latest write seen is remembered with a write. A guess.
const SEEN_MAX: usize = 32;

/// One write, as its coordinator remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinated {
    /// Who coordinated it.
    pub node: NodeId,
    /// The dots that it minted; a removal may have minted none.
    pub minted: Option<Minted>,
    /// When, in hybrid time.
    pub time: Stamp,
    /// What it did ([`Operation::name`](values::Operation::name)).
    pub operation: Cow<'static, str>,
    /// The request's name, if it had one.
    pub name: Option<RequestName>,
    /// What it had seen: the latest write of each writer, by type. Of a raw value that is what its
    /// client presented, of other types what its coordinator held or was shown.
    pub seen: Vec<(Tag, Dot)>,
    /// Whether it had seen writes of more writers than are remembered.
    pub seen_more: bool,
}

impl Coordinated {
    /// Whether it had seen the write named `dot`, as far as is remembered.
    pub fn has_seen(&self, tag: Tag, dot: Dot) -> bool {
        self.seen
            .iter()
            .any(|&(of, seen)| of == tag && seen.actor == dot.actor && seen.counter >= dot.counter)
    }

    /// Fills in what the write had seen of each type, its own dots aside.
    pub(crate) fn note_seen<'a>(
        &mut self,
        contexts: impl IntoIterator<Item = (Tag, &'a CausalContext)>,
    ) {
        for (tag, context) in contexts {
            for actor in context.actors() {
                let mut last = context.highest(actor);
                if let Some(minted) = self.minted.filter(|minted| minted.tag == tag)
                    && minted.contains(Dot::new(actor, last))
                {
                    last = minted.first.counter - 1;
                }
                if last == 0 {
                    continue;
                }
                if self.seen.len() == SEEN_MAX {
                    self.seen_more = true;
                    return;
                }
                self.seen.push((tag, Dot::new(actor, last)));
            }
        }
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The latest writes, the oldest first, each under its key's digest: keys can be long.
    writes: VecDeque<((u128, u64), Coordinated)>,
}

impl Journal {
    /// Remembers a write, and forgets the oldest if there are too many.
    pub(crate) fn record(&mut self, key: &Key, write: Coordinated) {
        if self.writes.len() == WRITES_MAX {
            self.writes.pop_front();
        }
        self.writes.push_back((digest(key), write));
    }

    /// The latest writes of `key`, the oldest first.
    pub(crate) fn of(&self, key: &Key) -> Vec<Coordinated> {
        let key = digest(key);
        let latest = self.writes.iter().rev().filter(|(of, _)| *of == key).take(TOLD_MAX);
        let mut writes: Vec<Coordinated> = latest.map(|(_, write)| write.clone()).collect();
        writes.reverse();
        writes
    }
}

/// Stands for a key. Were two keys to share one, one would be told of the other's writes.
pub(crate) const fn digest(key: &Key) -> (u128, u64) {
    (key.identifier(), key.generation())
}

#[cfg(test)]
mod tests {
    use clock::Actor;

    use super::*;

    const A: Actor = Actor::new(NodeId(1), 1, 0);

    fn write(counter: u64) -> Coordinated {
        let first = Dot::new(A, counter);
        Coordinated {
            node: NodeId(1),
            minted: Some(Minted { tag: Tag::BYTES, first, last: counter }),
            time: Stamp(counter),
            operation: "bytes put".into(),
            name: None,
            seen: Vec::new(),
            seen_more: false,
        }
    }

    fn key(name: &'static str) -> Key {
        Key::new("b", name).unwrap()
    }

    #[test]
    fn the_latest_writes_are_remembered_and_the_latest_of_a_key_told() {
        let mut journal = Journal::default();
        for counter in 1..=5_000 {
            journal.record(&key("k"), write(counter));
        }
        assert_eq!(journal.writes.len(), 4_096);
        let told = journal.of(&key("k"));
        assert_eq!((told.len(), told[0].time, told[255].time), (256, Stamp(4_745), Stamp(5_000)));
        journal.record(&key("l"), write(1));
        assert_eq!(journal.of(&key("l")), [write(1)]);
        assert_eq!(journal.of(&key("m")), []);
        assert_eq!(journal.of(&key("l").in_generation(1)), [], "a bucket created anew");
    }

    #[test]
    fn a_write_has_seen_what_came_before_its_own_dots() {
        let mut third = write(3);
        let other = Actor::new(NodeId(2), 2, 0);
        let context = [Dot::new(A, 1), Dot::new(A, 2), Dot::new(A, 3), Dot::new(other, 1)];
        let context: CausalContext = context.into_iter().collect();
        third.note_seen([(Tag::BYTES, &context)]);
        assert_eq!(third.seen, [(Tag::BYTES, Dot::new(A, 2)), (Tag::BYTES, Dot::new(other, 1))]);
        assert!(third.has_seen(Tag::BYTES, Dot::new(A, 1)));
        assert!(!third.has_seen(Tag::BYTES, Dot::new(A, 3)));
        assert!(!third.has_seen(Tag::LWW, Dot::new(A, 1)));
    }

    #[test]
    fn what_a_write_had_seen_is_bounded() {
        let mut first = write(1);
        let many: CausalContext =
            (2..100).map(|node| Dot::new(Actor::new(NodeId(node), node, 0), 1)).collect();
        first.note_seen([(Tag::BYTES, &many)]);
        assert_eq!((first.seen.len(), first.seen_more), (32, true));
    }
}
