//! Views: what one replica, or several merged, show of a value within a scope.

use std::collections::{BTreeMap, BTreeSet};

use clock::{CausalContext, Dot};
use serde::{Deserialize, Serialize};

use crate::{
    Blob, Causal, Delta, DotMap, DotStore, Sibling, State, Tag, TagMap, Touch, Value, WrongType,
    is_collection, tag_map,
};

/// Which part of a value is looked at. Every scope has all of `bytes`, `lww` and `counter`, and the
/// context and summary of every collection; they differ in the elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// No elements.
    Headers,
    /// The named elements of one collection.
    Elements {
        /// Which collection.
        tag: Tag,
        /// Which elements.
        elements: BTreeSet<Blob>,
    },
    /// Up to `limit` elements of one collection after `after`, in order.
    Range {
        /// Which collection.
        tag: Tag,
        /// The element to go on after; `None` for the first page.
        after: Option<Blob>,
        /// How many elements at most; at least 1.
        limit: u32,
    },
    /// What a removal of the whole key must name: map fields with increments.
    Removal,
    /// Everything.
    Whole,
}

/// Size and digest of a collection, elements not looked at included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSummary {
    /// Number of live elements.
    pub live: u64,
    /// Order-independent digest of all rows: equal exact summaries mean equal elements.
    pub digest: u128,
    /// Whether this is the summary of one replica, or of several that agree. If not, `live` is
    /// only the largest that any of them showed (0 where one of them has seen all removed). A
    /// replica that has still to count what a clearing left shows the most there can be.
    pub exact: bool,
}

/// What a reader sees within a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The states, collections with the elements in scope only, but with their whole contexts.
    pub value: Value,
    /// Summaries of the collections.
    #[serde(deserialize_with = "tag_map")]
    pub collections: TagMap<CollectionSummary>,
    /// In a [`Scope::Range`]: the last element looked at, if there are more after it.
    pub next: Option<Blob>,
}

impl View {
    /// The view of a whole value (summaries counted, digests left at 0).
    pub fn of(value: Value) -> Self {
        let summary = |state: &State| CollectionSummary {
            live: state.live_elements(),
            digest: 0,
            exact: true,
        };
        let collections = value.0.iter().filter(|(tag, _)| is_collection(**tag));
        let collections = collections.map(|(&tag, state)| (tag, summary(state))).collect();
        Self { value, collections, next: None }
    }

    /// What `value`, all of which is at hand, shows within `scope`. Its summaries are of what it
    /// holds, so one merged with another view's is exact only where both agree.
    pub fn within(value: Value, scope: &Scope) -> Self {
        let mut view = Self::of(value);
        let mut next = None;
        for (&tag, state) in &mut view.value.0 {
            match scope {
                Scope::Whole => {}
                Scope::Elements { tag: wanted, elements } if *wanted == tag => {
                    retain(state, |element| elements.contains(element));
                }
                Scope::Range { tag: wanted, after, limit } if *wanted == tag => {
                    retain(state, |element| after.as_ref().is_none_or(|after| element > after));
                    let mut left = (*limit).max(1);
                    let mut last = None;
                    retain(state, |element| {
                        if left == 0 {
                            next = last.take().or(next.take());
                            return false;
                        }
                        left -= 1;
                        last = Some(element.clone());
                        true
                    });
                }
                Scope::Removal if tag == Tag::MAP => {}
                _ => retain(state, |_| false),
            }
        }
        view.next = next;
        view
    }

    /// The siblings of a `bytes` key, each value once (under its latest dot): a put repeated
    /// through another coordinator is not its own sibling.
    pub fn siblings(&self) -> Vec<(Dot, &Sibling)> {
        let Some(State::Bytes(state)) = self.value.state(Tag::BYTES) else { return Vec::new() };
        let mut latest = BTreeMap::<&Blob, (Dot, &Sibling)>::new();
        for (&dot, sibling) in &state.store.0 {
            let known = latest.entry(&sibling.value).or_insert((dot, sibling));
            if (known.1.stamp, known.0) < (sibling.stamp, dot) {
                *known = (dot, sibling);
            }
        }
        let mut siblings: Vec<_> = latest.into_values().collect();
        siblings.sort_unstable_by_key(|&(dot, _)| dot);
        siblings
    }

    /// What the writer of a put has seen once the put is done and this is the view after it: all
    /// but the siblings that it was not shown. A later put with this context supersedes its
    /// own write and what `observed` had seen, and nobody else's. To be returned where the answer
    /// to a put does not carry the siblings themselves.
    pub fn context_of_put(&self, observed: &CausalContext, put: &Blob) -> CausalContext {
        let Some(State::Bytes(state)) = self.value.state(Tag::BYTES) else {
            return observed.clone();
        };
        let unseen = state.store.0.iter().filter_map(|(&dot, sibling)| {
            (sibling.value != *put && !observed.contains(dot)).then_some(dot)
        });
        state.context.without(unseen)
    }

    /// Whether the key has something of type `tag`.
    pub fn is_live(&self, tag: Tag) -> bool {
        match self.collections.get(&tag) {
            Some(summary) => summary.live > 0,
            None => self.value.state(tag).is_some_and(State::is_live),
        }
    }

    /// Whether all elements of a collection are at hand. Of replicas that differ it is not known how many there are,
    /// whatever is shown.
    pub(crate) fn shows_all(&self, tag: Tag) -> bool {
        let shown = self.value.state(tag).map_or(0, State::live_elements);
        self.collections.get(&tag).is_none_or(|all| all.exact && all.live == shown)
    }

    /// Every type that the key has something of. More than one is a type conflict.
    pub fn live_tags(&self) -> Vec<Tag> {
        self.value.0.keys().copied().filter(|&tag| self.is_live(tag)).collect()
    }

    /// The types of which an answer that shows this carries a context: those that it shows, and
    /// `bytes`; every type there is where nothing is live, since whoever writes there next has seen
    /// that nothing was there.
    pub fn context_tags(&self) -> BTreeSet<Tag> {
        let held = self.value.0.keys().copied().filter(|&tag| tag != Tag::EXPIRY);
        let shown = held.chain([Tag::BYTES]);
        let all = if self.live_tags().is_empty() { &Tag::KNOWN[..] } else { &[] };
        shown.chain(all.iter().copied()).collect()
    }

    /// Whether an operation of `tag` makes sense: the key has something of that type, or nothing.
    pub fn check_type(&self, tag: Tag) -> Result<(), WrongType> {
        let live = self.live_tags();
        if live.is_empty() || live.contains(&tag) {
            Ok(())
        } else {
            Err(WrongType { wanted: tag, live })
        }
    }

    /// Merges another replica's view within the same scope.
    pub fn merge(&mut self, other: &Self) {
        for (&tag, theirs) in &other.collections {
            // A replica that never heard of the collection adds nothing to the other's summary.
            let Some(mine) = self.collections.get_mut(&tag) else {
                self.collections.insert(tag, *theirs);
                continue;
            };
            if *mine == *theirs {
                continue;
            }
            // A side that shows nothing and has seen all that the other one has, has seen it
            // removed: a stale replica must not make a deleted key look alive.
            let (my_context, their_context) = (self.value.context(tag), other.value.context(tag));
            let emptied = mine.live == 0 && my_context.descends(their_context)
                || theirs.live == 0 && their_context.descends(my_context);
            let live = if emptied { 0 } else { mine.live.max(theirs.live) };
            *mine = CollectionSummary { live, digest: 0, exact: false };
        }
        self.value.merge(&other.value);
        // Elements beyond the scope can be all that there is of a collection.
        for &tag in other.value.0.keys() {
            self.value.0.entry(tag).or_insert_with(|| State::bottom(tag));
        }
        for (tag, summary) in self.collections.iter_mut().filter(|(_, summary)| !summary.exact) {
            let shown = self.value.state(*tag).map_or(0, State::live_elements);
            summary.live = summary.live.max(shown);
        }
        self.next = match (self.next.take(), &other.next) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs.clone())),
            (mine, theirs) => mine.or_else(|| theirs.clone()),
        };
        if let Some(next) = &self.next {
            // Beyond the shorter page one side has not looked.
            self.value.0.iter_mut().for_each(|(_, state)| cut_state(state, next));
        }
    }

    /// The delta that brings a replica which showed `stale` within the same scope up to this view;
    /// `None` if it lacks nothing. Speaks only of dots that one of the two shows, so the replica
    /// claims to have seen nothing else (read repair, Dynamo §5). Leaves out what
    /// [`View::told_last`] gives.
    pub fn repair(&self, stale: &Self) -> Option<Delta> {
        let mut delta = Delta::default();
        let holds_back = self.holds_back(stale);
        let brings_all = self.brings_all(stale);
        for (&tag, state) in &self.value.0 {
            // Where this view's page ends before the stale one's, what lies beyond is not absent
            // from it but not looked at.
            let page;
            let theirs = match (stale.value.state(tag), &self.next) {
                (Some(theirs), Some(next)) => {
                    let mut theirs = theirs.clone();
                    cut_state(&mut theirs, next);
                    page = theirs;
                    Some(&page)
                }
                (theirs, _) => theirs,
            };
            if theirs == Some(state) {
                continue;
            }
            let repaired = match (state, theirs) {
                (State::Gset(mine), Some(State::Gset(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Gset(part), names))
                }
                (State::Gset(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Gset(part), names)),
                (State::Orset(mine), Some(State::Orset(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Orset(part), names))
                }
                (State::Orset(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Orset(part), names)),
                (State::Cart(mine), Some(State::Cart(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Cart(part), names))
                }
                (State::Cart(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Cart(part), names)),
                (State::Map(mine), Some(State::Map(theirs))) => {
                    repair_elements(mine, theirs).map(|(part, names)| (State::Map(part), names))
                }
                (State::Map(mine), _) => repair_elements(mine, &Causal::default())
                    .map(|(part, names)| (State::Map(part), names)),
                (State::Expiry(mine), _) if holds_back => {
                    let added = mine.added_to(stale.value.expiry());
                    let is_news = !added.store.0.is_empty();
                    is_news.then(|| (State::Expiry(added), BTreeSet::new()))
                }
                (State::Register(mine), theirs) if !brings_all => {
                    let told = mine.without_done(stale.value.context(tag)).map(State::Register);
                    let bottom = State::bottom(tag);
                    let theirs = theirs.unwrap_or(&bottom);
                    let adds = |told: &State| {
                        let mut merged = theirs.clone();
                        merged.merge(told);
                        merged != *theirs
                    };
                    told.filter(adds).map(|told| (told, BTreeSet::new()))
                }
                (whole, _) => Some((whole.clone(), BTreeSet::new())),
            };
            if let Some((state, elements)) = repaired {
                delta.value.0.insert(tag, state);
                if !elements.is_empty() {
                    delta.touch.insert(tag, Touch { elements, everything: false });
                }
            }
        }
        (!delta.is_empty()).then_some(delta)
    }

    /// What is told last, where a repair does not bring `stale` all that this view knows of every collection: to be merged
    /// there once it has seen all that was seen of them.
    ///
    /// That schedules were taken back: who swept what was due took the schedule back with it. A replica that heard
    /// of the one without the other would show again what had ended, or, read with one that still has the schedule, have
    /// that shown again. And that removals with a name were done: a replica that heard of it, and still has what they took,
    /// would acknowledge them.
    pub fn told_last(&self, stale: &Self) -> Option<Delta> {
        let (holds_back, brings_all) = (self.holds_back(stale), self.brings_all(stale));
        let mut last = Delta::default();
        for (&tag, state) in &self.value.0 {
            let is_last = match state {
                State::Expiry(_) => holds_back,
                State::Register(mine) if !brings_all => {
                    mine.without_done(stale.value.context(tag)).as_ref() != Some(mine)
                }
                _ => false,
            };
            if is_last {
                last.value.0.insert(tag, state.clone());
            }
        }
        (!last.is_empty()).then_some(last)
    }

    /// Whether schedules were taken back, of which a repair does not tell `stale`: that does not bring it all that was seen.
    fn holds_back(&self, stale: &Self) -> bool {
        let has_seen = |&tag: &Tag| stale.value.context(tag).descends(self.value.context(tag));
        let tells_all = || {
            let is_held = |tag| stale.collections.contains_key(tag);
            self.brings_all(stale)
                && self.collections.keys().all(|tag| is_held(tag) && has_seen(tag))
        };
        self.value.expiry().takes_back_from(stale.value.expiry()) && !tells_all()
    }

    /// Whether a repair leaves `stale` no element of a collection that this view has seen removed.
    fn brings_all(&self, stale: &Self) -> bool {
        self.collections.iter().all(|(tag, all)| {
            let Some(theirs) = stale.collections.get(tag) else { return true };
            let is_at_hand = self.next.is_none() && stale.shows_all(*tag);
            is_at_hand || theirs.exact && all == theirs
        })
    }
}

impl State {
    /// Number of elements held that a reader sees; 0 for what is no collection.
    pub(crate) fn live_elements(&self) -> u64 {
        match self {
            Self::Gset(state) | Self::Orset(state) => live_count(&state.store),
            Self::Cart(state) => live_count(&state.store),
            Self::Map(state) => live_count(&state.store),
            _ => 0,
        }
    }
}

fn live_count<E: DotStore>(store: &DotMap<E>) -> u64 {
    store.0.values().filter(|entry| entry.is_live()).count() as u64
}

/// Drops the elements after `next`.
fn cut_state(state: &mut State, next: &Blob) {
    retain(state, |element| element <= next);
}

/// Keeps of a collection the elements that `keeps` names, which is asked in order.
fn retain(state: &mut State, mut keeps: impl FnMut(&Blob) -> bool) {
    match state {
        State::Gset(state) | State::Orset(state) => {
            state.store.0.retain(|element, _| keeps(element));
        }
        State::Cart(state) => state.store.0.retain(|element, _| keeps(element)),
        State::Map(state) => state.store.0.retain(|element, _| keeps(element)),
        _ => {}
    }
}

/// The part of `mine` that `theirs` lacks, and the elements it names.
fn repair_elements<E: DotStore>(
    mine: &Causal<DotMap<E>>,
    theirs: &Causal<DotMap<E>>,
) -> Option<(Causal<DotMap<E>>, BTreeSet<Blob>)> {
    let mut part = Causal::<DotMap<E>>::default();
    let mut names = BTreeSet::new();
    for (element, entry) in &mine.store.0 {
        if theirs.store.0.get(element) != Some(entry) {
            part.context.extend(entry.dots());
            part.store.0.insert(element.clone(), entry.clone());
        }
    }
    for (element, entry) in &theirs.store.0 {
        let live = mine.store.0.get(element).map_or_else(Vec::new, E::dots);
        let dead: CausalContext = entry
            .dots()
            .into_iter()
            .filter(|dot| mine.context.contains(*dot) && !live.contains(dot))
            .collect();
        if !dead.is_empty() {
            part.context.merge(&dead);
            names.insert(element.clone());
        }
    }
    (!part.store.0.is_empty() || !names.is_empty()).then_some((part, names))
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId, Stamp};

    use super::*;
    use crate::{Limits, Mint, Operation, OrsetOp};

    fn set(node: u64, names: &[&'static str]) -> (Actor, Value) {
        let actor = Actor::new(NodeId(node), node, 0);
        let mut value = Value::default();
        write(&mut value, actor, &Operation::Orset(OrsetOp::Add(blobs(names))));
        (actor, value)
    }

    fn blobs(names: &[&'static str]) -> Vec<Blob> {
        names.iter().map(|name| Blob::from_static(name.as_bytes())).collect()
    }

    fn write(value: &mut Value, actor: Actor, operation: &Operation) {
        let mint = Mint { actor, stamp: Stamp(1), round: None };
        let view = View::of(value.clone());
        let none = CausalContext::default();
        let prepared = operation.prepare(&view, &none, mint, &Limits::default()).unwrap();
        value.apply(&prepared.delta);
    }

    /// The view of the elements up to `last`, as a page that may not be the last one.
    fn page(value: &Value, last: &'static str) -> View {
        let mut view = View::of(value.clone());
        let last = Blob::from_static(last.as_bytes());
        view.value.0.iter_mut().for_each(|(_, state)| cut_state(state, &last));
        view.next = Some(last);
        view
    }

    fn names(view: &View) -> Vec<Blob> {
        Delta::whole(view.value.clone()).named_elements(Tag::ORSET).into_iter().collect()
    }

    #[test]
    fn merged_pages_end_where_the_shorter_one_does() {
        let ((_, one), (_, other)) = (set(1, &["a", "c", "e"]), set(2, &["b", "d", "f"]));
        let mut merged = page(&one, "c");
        merged.merge(&page(&other, "d"));
        assert_eq!(names(&merged), blobs(&["a", "b", "c"]));
        assert_eq!(merged.next, Some(Blob::from_static(b"c")));
    }

    #[test]
    fn repair_leaves_alone_what_lies_beyond_the_end_of_the_page() {
        let ((_, long), (_, short)) = (set(1, &["a", "x", "z"]), set(2, &["b"]));
        let whole = View::of(long.clone());
        let mut merged = whole.clone();
        merged.merge(&page(&short, "b"));
        let mut repaired = long;
        repaired.apply(&merged.repair(&whole).expect("it lacks b"));
        assert_eq!(names(&View::of(repaired)), blobs(&["a", "b", "x", "z"]));
    }

    #[test]
    fn repair_of_what_lacks_nothing_is_nothing() {
        let (_, value) = set(1, &["a"]);
        let view = View::of(value);
        assert_eq!(view.repair(&view), None);
    }

    #[test]
    fn a_stale_replica_does_not_make_a_deleted_collection_look_alive() {
        let (actor, stale) = set(1, &["a"]);
        let mut deleted = stale.clone();
        write(&mut deleted, actor, &Operation::Delete(None));
        // As a header shows them: without elements.
        let header = |value: &Value| {
            let mut view = View::of(value.clone());
            view.value.0.iter_mut().for_each(|(_, state)| cut_state(state, &Blob::new()));
            view
        };
        for (one, other) in [(&stale, &deleted), (&deleted, &stale)] {
            let mut merged = header(one);
            merged.merge(&header(other));
            assert_eq!(merged.live_tags(), []);
            assert!(merged.check_type(Tag::LWW).is_ok());
        }
        // What the deleter had not seen is not deleted.
        let (_, unseen) = set(2, &["b"]);
        let mut merged = header(&deleted);
        merged.merge(&header(&unseen));
        assert_eq!(merged.live_tags(), [Tag::ORSET]);
    }

    #[test]
    fn a_summary_is_exact_where_all_agree_or_have_never_heard_of_the_collection() {
        let (_, value) = set(1, &["a", "b"]);
        let view = View::of(value);
        for (one, other) in [(&view, &View::default()), (&View::default(), &view), (&view, &view)] {
            let mut merged = one.clone();
            merged.merge(other);
            let exact = CollectionSummary { live: 2, digest: 0, exact: true };
            assert_eq!(merged.collections[&Tag::ORSET], exact);
        }
        let (_, other) = set(2, &["c"]);
        let mut merged = view;
        merged.merge(&View::of(other));
        let joined = CollectionSummary { live: 3, digest: 0, exact: false };
        assert_eq!(merged.collections[&Tag::ORSET], joined);
    }
}
