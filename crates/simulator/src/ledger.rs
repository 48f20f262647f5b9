//! The ledger: every delta that a node made, for which request, with the dots that it minted, those
//! that it took away, and those that its maker was shown.
//!
//! It is kept by looking at what the engines are given and answer, and read by the invariants. A
//! request is recognised by a *tracer*, a dot of a node that does not exist, in the context that
//! its client presents: whoever coordinates it hands that to its engine unchanged.

pub(crate) mod named;

use std::collections::{BTreeMap, BTreeSet};

use clock::{Actor, CausalContext, Dot, NodeId};
use replication::CallId;
use values::{Base, Blob, Delta, Key, Operation, RegisterOp, Schedule, State, Tag, Value, View};

pub(crate) use self::named::said;
use self::named::{Naming, naming};
use crate::sight::{Sight, Write, covers, held, sight, tallies as tallies_of};

/// The node of tracers.
pub(crate) const TRACER: NodeId = NodeId(u64::MAX);

/// A write of a key: its type and dot.
pub type Place = (Tag, Dot);

/// The tracer of a call.
pub(crate) const fn tracer(call: CallId) -> Dot {
    Dot::new(Actor::new(TRACER, call.0, 0), 1)
}

/// One delta made.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The client's call that it was made for, if that had a tracer.
    pub call: Option<CallId>,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// Who made it.
    pub node: NodeId,
    /// Which key.
    pub key: Key,
    /// What was to be done.
    pub operation: Operation,
    /// Whether the request had a name.
    pub named: bool,
    /// Whether it says only that the request had been done before.
    pub repeated: bool,
    /// What it minted.
    pub minted: BTreeMap<Place, Write>,
    /// What it took away that its maker did not hold as gone already.
    pub removed: BTreeSet<Place>,
    /// What it could have taken away: named by the operation, and seen by its maker or by whom its
    /// maker asked.
    pub seen: BTreeSet<Place>,
    /// What it had to take away and leaves: of what a removal names, anything that anybody showed to be there.
    pub left: BTreeSet<Place>,
    /// The schedules that it makes or adds to, as its maker had seen them.
    pub schedules: BTreeMap<Dot, Scheduled>,
    /// The schedules that it takes back before they were due,
    pub taken_back: BTreeSet<Dot>,
    /// and those that it found due, and removes for.
    pub swept: BTreeSet<Dot>,
    /// What schedules take away that its maker found due.
    pub expired: BTreeSet<Place>,
    /// The latest register base that its maker was shown, and the base that it made.
    pub bases: (Option<Base>, Option<Base>),
    /// Of an increment the sum that its maker was shown, if it was a number, and by how much it changes that.
    pub added: Option<(i128, i64)>,
    /// What its maker was shown that the increments of counters and registers add up to.
    pub sum: i128,
    /// Of a request with a name that its maker did not know, how many other names it knew in the same type.
    pub names: Option<usize>,
}

/// What is to go, and when.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// When, by the clock of whoever removes it, in milliseconds.
    pub deadline_ms: u64,
    /// What a replica that holds it merges then.
    pub removed: Value,
}

/// What an engine was given for an operation, and held.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) key: Key,
    pub(crate) operation: Operation,
    /// Under which actor, if the request had a name.
    pub(crate) named: Option<Actor>,
    pub(crate) observed: CausalContext,
    pub(crate) now_ms: u64,
    /// What each of other replicas showed of it.
    pub(crate) shown: Vec<View>,
    pub(crate) held: View,
}

/// Every delta made so far.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// Where the entries of a call, and of a key, are.
    by_call: BTreeMap<CallId, Vec<usize>>,
    by_key: BTreeMap<Key, Vec<usize>>,
    writes: BTreeMap<Key, BTreeMap<Place, Write>>,
    /// Keys of which nobody knows all that was made.
    unjudged: BTreeSet<Key>,
}

impl Ledger {
    /// Takes note that a key's record was damaged, and that a delta was made over it or nobody is left who
    /// holds it whole: what was held of it nobody knows, and what was made of it cannot be judged, nor what
    /// is made later.
    pub(crate) fn give_up(&mut self, key: &Key) {
        self.unjudged.insert(key.clone());
    }

    /// Every delta made, in order, of keys of which all that was made is known.
    pub fn judged(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.entries.iter().filter(|entry| self.is_judged(&entry.key))
    }

    /// Whether all that was made of a key is known.
    pub fn is_judged(&self, key: &Key) -> bool {
        !self.unjudged.contains(key)
    }

    /// Takes note of the delta that `node` made.
    pub(crate) fn prepared(
        &mut self,
        node: NodeId,
        at_ms: u64,
        asked: Asked,
        delta: &Delta,
        repeated: bool,
    ) {
        let Asked { key, operation, named, observed, now_ms, shown, held } = asked;
        let held = held.value;
        let apart: Vec<&Value> = shown.iter().map(|shown| &shown.value).collect();
        let mut shown = Value::default();
        apart.iter().for_each(|apart| shown.merge(apart));
        // Of both together: one of them may show that a deadline was taken back.
        let mut both = held.clone();
        both.merge(&shown);
        let found_due: Vec<Value> =
            both.due(now_ms).into_iter().map(|removal| removal.delta().value).collect();
        let expired: BTreeSet<Place> = match self.writes.get(&key) {
            Some(known) if !found_due.is_empty() => {
                let is_due = |place, write| found_due.iter().any(|due| covers(due, place, write));
                known.iter().filter(|&(&p, write)| is_due(p, write)).map(|(&p, _)| p).collect()
            }
            _ => BTreeSet::new(),
        };
        let mut minted = minted(&operation, delta, [&held, &shown], &observed);
        both.expire(now_ms);
        let tallies = both.0.values().filter(|state| !matches!(state, State::Map(_)));
        let sum = tallies.flat_map(tallies_of).map(|(_, tally)| tally.value()).sum();
        let added = named::increment(&operation)
            .and_then(|(_, by)| Some((named::present(&operation, &both)?, by)));
        // What is due takes away all that its schedule had seen, more than its remover need have: but for
        // what a request makes under its own name, which another replica made before, it was not made.
        minted.retain(|place @ (tag, dot), _| {
            let takes = |due: &Value| due.context(*tag).contains(*dot);
            named == Some(dot.actor) || !expired.contains(place) && !found_due.iter().any(takes)
        });
        // Its own name says that it was done: no more of a schedule that it made before need be there.
        let (schedules, mut ended) = schedules(delta);
        ended.retain(|dot| named != Some(dot.actor));
        let is_due = |dot: &Dot| {
            let seen = held.schedules().chain(shown.schedules());
            seen.filter(|(of, _)| of == dot).any(|(_, schedule)| schedule.deadline_ms <= now_ms)
        };
        let (swept, taken_back) = ended.into_iter().partition(is_due);
        // What a schedule removed stands under its own stamp and dot: nothing was set or deleted. (A set with
        // a name, tried twice, has two stamps, and the schedule had seen one of them.)
        let due_bases: Vec<Base> = found_due.iter().filter_map(base).collect();
        let is_removed =
            |made: &Base| expired.contains(&(Tag::LWW, made.dot)) || due_bases.contains(made);
        let is_made = |made: &Base| made.value.is_some() || !is_removed(made);
        let is_set = matches!(operation, Operation::Register(RegisterOp::Set { .. }));
        // What a set has to win over is there too if it is due and shown to nobody.
        let due_base = due_bases.iter().max().filter(|_| is_set).cloned();
        let before = base(&held).max(base(&shown)).max(due_base);
        // A deletion of what is deleted says so again.
        let is_new = |made: &Base| made.value.is_some() || Some(made) != before.as_ref();
        let made = base(&delta.value).filter(is_made).filter(is_new);
        let bases = (before, made);
        // A set that loses against what it was up against replaces nothing.
        let loses = is_set && bases.0 >= bases.1;
        // Of elements of which what it makes was known, nothing is made nor taken away again.
        let minted_tag = operation.minted_tag();
        let is_known =
            |value: &Value| named.is_some_and(|actor| value.context(minted_tag).highest(actor) > 0);
        let is_partly_known = is_known(&held) || is_known(&shown);
        let made: BTreeSet<&Blob> = minted.values().filter_map(Write::element).collect();
        let is_made =
            |write: &Write| !is_partly_known || write.element().is_some_and(|of| made.contains(of));
        let known_names = || -> BTreeSet<Actor> {
            held.context(minted_tag).actors().filter(|actor| actor.is_named()).collect()
        };
        let names = named
            .filter(|&own| !is_partly_known && observed.highest(own) == 0)
            .map(|_| known_names().len());
        let presents = matches!(operation, Operation::Bytes(_));
        let known = self.writes.entry(key.clone()).or_default();
        let (mut removed, mut seen, mut left) =
            <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        for (&place @ (tag, dot), write) in known.iter() {
            let here = sight(&held, tag, dot, write);
            let is_taken = sight(&delta.value, tag, dot, write) == Sight::Gone;
            if is_taken
                && here != Sight::Gone
                && !matches!(write, Write::Base { .. } | Write::End | Write::Mark)
            {
                removed.insert(place);
            }
            if expired.contains(&place) {
                seen.insert(place);
                continue;
            }
            // What was done already hands on what its maker was shown to be gone.
            if repeated && sight(&shown, tag, dot, write) == Sight::Gone {
                seen.insert(place);
            }
            let naming = naming(&operation, place, write, &observed);
            if repeated || loses || naming == Naming::No {
                continue;
            }
            let there = sight(&shown, tag, dot, write);
            let is_presented = presents && tag == Tag::BYTES && observed.contains(dot);
            if here != Sight::Unseen || there != Sight::Unseen || is_presented {
                seen.insert(place);
            }
            // By anybody: what another has seen removed may be lost with that one's disk.
            let all = std::iter::once(&held).chain(apart.iter().copied());
            let mut shows = all.map(|value| sight(value, tag, dot, write));
            let is_shown = shows.any(|sight| sight == Sight::Live) || is_presented;
            if naming == Naming::Removes && is_shown {
                if is_taken {
                    removed.insert(place);
                } else if is_made(write) {
                    left.insert(place);
                }
            }
        }
        // A raw value's context holds the tracers of the requests before, too.
        let tracers = observed.actors().filter(|actor| actor.replica == TRACER);
        let call = tracers.map(|actor| CallId(actor.epoch.process)).max_by_key(|call| call.0);
        for (&place, write) in &minted {
            if *write != Write::Mark || !known.contains_key(&place) {
                known.insert(place, write.clone());
            }
        }
        let at = self.entries.len();
        self.by_key.entry(key.clone()).or_default().push(at);
        if let Some(call) = call {
            self.by_call.entry(call).or_default().push(at);
        }
        self.entries.push(Entry {
            call,
            at_ms,
            node,
            key,
            operation,
            named: named.is_some(),
            repeated,
            minted,
            removed,
            seen,
            left,
            schedules,
            taken_back,
            swept,
            expired,
            bases,
            added,
            sum,
            names,
        });
    }

    /// Every delta made, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every delta made of `key`.
    pub fn of(&self, key: &Key) -> impl Iterator<Item = &Entry> + Clone {
        self.by_key.get(key).into_iter().flatten().map(|&at| &self.entries[at])
    }

    /// Every delta made for `call`.
    pub fn made_for(&self, call: CallId) -> impl Iterator<Item = &Entry> + Clone {
        self.by_call.get(&call).into_iter().flatten().map(|&at| &self.entries[at])
    }

    /// Every dot minted for `key`.
    pub fn writes(&self, key: &Key) -> impl Iterator<Item = (Place, &Write)> + Clone {
        self.writes.get(key).into_iter().flatten().map(|(&place, write)| (place, write))
    }

    /// What a dot was minted for, wherever it was.
    pub fn made(&self, key: &Key, place: Place) -> Vec<&Write> {
        self.of(key).filter_map(|entry| entry.minted.get(&place)).collect()
    }

    /// What a dot was minted for, first.
    pub fn write(&self, key: &Key, place: Place) -> Option<&Write> {
        self.writes.get(key)?.get(&place)
    }
}

/// The schedules that a delta holds, and those that it takes back.
fn schedules(delta: &Delta) -> (BTreeMap<Dot, Scheduled>, BTreeSet<Dot>) {
    let Some(State::Expiry(expiry)) = delta.value.state(Tag::EXPIRY) else {
        return Default::default();
    };
    let scheduled = |(&dot, schedule): (&Dot, &Schedule)| {
        let removed = schedule.removal.delta().value;
        (dot, Scheduled { deadline_ms: schedule.deadline_ms, removed })
    };
    let schedules: BTreeMap<_, _> = expiry.store.0.iter().map(scheduled).collect();
    let ranges = expiry.context.ranges();
    let dots =
        ranges.flat_map(|(actor, first, last)| (first..=last).map(move |c| Dot::new(actor, c)));
    let taken_back = dots.filter(|dot| !schedules.contains_key(dot)).collect();
    (schedules, taken_back)
}

fn base(value: &Value) -> Option<Base> {
    match value.state(Tag::LWW) {
        Some(State::Register(register)) => register.base.clone(),
        _ => None,
    }
}

/// The dots that a delta speaks of and that none of `views` has seen, nor the client.
fn minted(
    operation: &Operation,
    delta: &Delta,
    views: [&Value; 2],
    observed: &CausalContext,
) -> BTreeMap<Place, Write> {
    let mut minted = BTreeMap::new();
    for (&tag, state) in &delta.value.0 {
        let entries: BTreeMap<Dot, Write> = held(state).into_iter().collect();
        for (actor, first, last) in state.context().ranges() {
            for dot in (first..=last).map(|counter| Dot::new(actor, counter)) {
                let was_seen = views.iter().any(|view| view.context(tag).contains(dot))
                    || matches!(operation, Operation::Bytes(_)) && observed.contains(dot);
                if was_seen {
                    continue;
                }
                let write = match (entries.get(&dot), named::increment(operation)) {
                    (Some(write), _) => write.clone(),
                    (None, Some((element, by))) if tag != Tag::EXPIRY => {
                        Write::Count { element, by }
                    }
                    (None, _) => Write::Mark,
                };
                minted.insert((tag, dot), write);
            }
        }
    }
    minted
}

/// The empty name, of types without elements.
pub(crate) const fn nameless() -> Blob {
    Blob::new()
}
