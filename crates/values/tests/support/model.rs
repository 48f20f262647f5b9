//! What readers must see, from first principles: no dots, contexts or joins, but the set of all
//! write events, and per replica which of them it has heard of and which of them somebody has
//! taken away. Knowledge only grows, and a message is a set of knowledge.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Actor, Stamp};
use values::{
    Blob, BytesOp, CartOp, CounterOp, GsetOp, Lifetime, MapOp, Operation, OrsetOp, RegisterOp,
    State, Tag, Value,
};

#[path = "schedules.rs"]
mod schedules;

type Ids = BTreeSet<usize>;

/// One write of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    tag: Tag,
    actor: Actor,
    /// Element, item or field; empty for what has none.
    element: Blob,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Lives until taken away: an element, an add to a cart, a sibling, a set field.
    Add { stamp: Stamp, value: Blob, quantity: u64 },
    /// Counts until reset.
    Increment(i64),
    /// A set or delete of a register: the latest counts.
    Base { stamp: Stamp, value: Option<Blob> },
    /// A schedule.
    End { deadline_ms: u64 },
}

/// What one replica, message or client knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knowledge {
    heard: Ids,
    gone: Ids,
    /// Schedules heard of.
    schedules: Ids,
    /// Schedules taken back.
    ended: Ids,
    /// Which schedule takes which event away.
    covers: BTreeSet<(usize, usize)>,
}

impl Knowledge {
    /// Learns all that `other` knows.
    pub(crate) fn learn(&mut self, other: &Self) {
        self.heard.extend(&other.heard);
        self.gone.extend(&other.gone);
        self.schedules.extend(&other.schedules);
        self.ended.extend(&other.ended);
        self.covers.extend(&other.covers);
    }

    /// Whether a write is told of.
    fn is_empty(&self) -> bool {
        self.heard.is_empty() && self.gone.is_empty()
    }
}

/// What a reader sees of every type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    siblings: Vec<Blob>,
    register: Option<Blob>,
    counter: Option<i128>,
    gset: BTreeSet<Blob>,
    orset: BTreeSet<Blob>,
    cart: BTreeMap<Blob, u128>,
    map: BTreeMap<Blob, Blob>,
}

/// Every write that ever happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    events: Vec<Event>,
}

impl Model {
    /// Records `operation` of a replica that knows `known`, made at hybrid time `stamp` for a
    /// client that has seen `client`. Returns the message that replicates it.
    pub(crate) fn write(
        &mut self,
        (operation, lifetime): (&Operation, Lifetime),
        actor: Actor,
        stamp: Stamp,
        known: &Knowledge,
        client: &Knowledge,
    ) -> Knowledge {
        let shown = self.at(known, stamp.millis());
        let first = self.events.len();
        let mut message = self.write_value(operation, actor, stamp, (&shown, known), client);
        self.schedule((operation, lifetime), (actor, stamp), &shown, first, &mut message);
        message
    }

    /// What is known of the value itself.
    fn write_value(
        &mut self,
        operation: &Operation,
        actor: Actor,
        stamp: Stamp,
        (known, held): (&Knowledge, &Knowledge),
        client: &Knowledge,
    ) -> Knowledge {
        let mut message = Knowledge::default();
        match operation {
            Operation::Bytes(op) => {
                // Raw values replicate all that the coordinator knows of them.
                let all = self.of(held, Tag::BYTES);
                message.learn(&all);
                message.gone.extend(&self.of(client, Tag::BYTES).heard);
                message.gone.extend(&self.of(client, Tag::BYTES).gone);
                if let BytesOp::Put(value) = op {
                    message.gone.extend(all.heard.iter().filter(|&&id| {
                        matches!(&self.events[id].what, What::Add { value: v, .. } if v == value)
                    }));
                    let what = What::Add { stamp, value: value.clone(), quantity: 1 };
                    message.heard.insert(self.record(Tag::BYTES, actor, Blob::new(), what));
                }
            }
            Operation::Gset(GsetOp::Add(names)) => {
                self.add(Tag::GSET, actor, names, known, &mut message);
            }
            Operation::Orset(OrsetOp::Add(names)) => {
                self.add(Tag::ORSET, actor, names, known, &mut message);
            }
            Operation::Orset(OrsetOp::Remove(names)) => {
                for name in names {
                    message.gone.extend(self.alive(known, Tag::ORSET, name));
                }
            }
            Operation::Cart(op) => {
                let (item, quantity) = match op {
                    CartOp::Add { item, quantity } | CartOp::SetQuantity { item, quantity } => {
                        (item, *quantity)
                    }
                    CartOp::Remove(item) => (item, 0),
                };
                if !matches!(op, CartOp::Add { .. }) {
                    message.gone.extend(self.alive(known, Tag::CART, item));
                }
                if quantity > 0 {
                    let what = What::Add { stamp, value: Blob::new(), quantity };
                    message.heard.insert(self.record(Tag::CART, actor, item.clone(), what));
                }
            }
            Operation::Counter(CounterOp::Add(by)) => {
                self.increment(Tag::COUNTER, actor, &Blob::new(), *by, held, &mut message);
            }
            Operation::Counter(CounterOp::Reset) => {
                self.reset(Tag::COUNTER, &Blob::new(), known, &mut message);
            }
            Operation::Register(RegisterOp::Increment(by)) => {
                self.increment(Tag::LWW, actor, &Blob::new(), *by, held, &mut message);
            }
            Operation::Register(RegisterOp::Set { value, at, replace }) => {
                let value = Some(value.clone());
                let wins = self.set_base(actor, stamp, *at, value, known, &mut message);
                for tag in self.live(known) {
                    if *replace && wins && tag != Tag::LWW {
                        self.remove_all(tag, held, &mut message);
                    }
                }
            }
            Operation::Register(RegisterOp::PutRaw(value)) => {
                self.set_base(actor, stamp, None, Some(value.clone()), known, &mut message);
                if self.live(known).contains(&Tag::BYTES) {
                    self.remove_all(Tag::BYTES, held, &mut message);
                }
            }
            Operation::Map(MapOp::Set(fields)) => {
                let last: BTreeMap<_, _> = fields.iter().cloned().collect();
                for (name, value) in last {
                    let seen = self.alive(known, Tag::MAP, &name);
                    let latest = seen.iter().filter_map(|&id| self.stamp(id)).max();
                    let stamp = latest.map_or(stamp, |latest| stamp.max(latest.next()));
                    message.gone.extend(seen);
                    self.reset(Tag::MAP, &name, known, &mut message);
                    let what = What::Add { stamp, value, quantity: 1 };
                    message.heard.insert(self.record(Tag::MAP, actor, name, what));
                }
            }
            Operation::Map(MapOp::Increment { field, by }) => {
                self.increment(Tag::MAP, actor, field, *by, held, &mut message);
            }
            Operation::Map(MapOp::Remove(names)) => {
                for name in names {
                    message.gone.extend(self.alive(known, Tag::MAP, name));
                    self.reset(Tag::MAP, name, known, &mut message);
                }
            }
            Operation::Expiry(_) => {}
            Operation::Delete(_)
            | Operation::Resolve(_)
            | Operation::Register(RegisterOp::DeleteRaw) => {
                let goes = |tag| match operation {
                    Operation::Register(_) => tag == Tag::BYTES || tag == Tag::LWW,
                    Operation::Delete(only) => only.is_none_or(|only| only == tag),
                    Operation::Resolve(keep) => *keep != tag,
                    _ => false,
                };
                for tag in self.live(known).into_iter().filter(|&tag| goes(tag)) {
                    if tag == Tag::LWW {
                        self.set_base(actor, stamp, None, None, held, &mut message);
                    } else {
                        self.remove_all(tag, held, &mut message);
                    }
                }
            }
        }
        message
    }

    fn record(&mut self, tag: Tag, actor: Actor, element: Blob, what: What) -> usize {
        self.events.push(Event { tag, actor, element, what });
        self.events.len() - 1
    }

    fn add(
        &mut self,
        tag: Tag,
        actor: Actor,
        names: &[Blob],
        known: &Knowledge,
        message: &mut Knowledge,
    ) {
        for name in names.iter().collect::<BTreeSet<_>>() {
            message.gone.extend(self.alive(known, tag, name));
            let what = What::Add { stamp: Stamp(0), value: Blob::new(), quantity: 1 };
            message.heard.insert(self.record(tag, actor, name.clone(), what));
        }
    }

    /// An increment travels with its actor's earlier ones of the same thing.
    fn increment(
        &mut self,
        tag: Tag,
        actor: Actor,
        element: &Blob,
        by: i64,
        known: &Knowledge,
        message: &mut Knowledge,
    ) {
        let earlier: Ids = self
            .increments(known, tag, element)
            .into_iter()
            .filter(|&id| self.events[id].actor == actor)
            .collect();
        message.gone.extend(earlier.intersection(&known.gone));
        message.heard.extend(&earlier);
        message.heard.insert(self.record(tag, actor, element.clone(), What::Increment(by)));
    }

    /// A reset takes away every increment heard of, of the actors of whom any still counts.
    fn reset(&self, tag: Tag, element: &Blob, known: &Knowledge, message: &mut Knowledge) {
        let heard = self.increments(known, tag, element);
        let live: BTreeSet<Actor> = heard
            .iter()
            .filter(|id| !known.gone.contains(id))
            .map(|&id| self.events[id].actor)
            .collect();
        let taken = heard.into_iter().filter(|&id| live.contains(&self.events[id].actor));
        let taken: Ids = taken.collect();
        message.heard.extend(&taken);
        message.gone.extend(&taken);
    }

    /// Whether it wins against what is known.
    fn set_base(
        &mut self,
        actor: Actor,
        now: Stamp,
        at: Option<Stamp>,
        value: Option<Blob>,
        known: &Knowledge,
        message: &mut Knowledge,
    ) -> bool {
        let before = self.base(known).map(|(_, before, _)| before);
        let stamp = at.unwrap_or_else(|| before.map_or(now, |before| now.max(before.next())));
        let id = self.record(Tag::LWW, actor, Blob::new(), What::Base { stamp, value });
        let mut after = known.clone();
        after.heard.insert(id);
        let wins = self.base(&after).is_some_and(|(latest, ..)| latest == id);
        if wins {
            self.reset(Tag::LWW, &Blob::new(), known, message);
        }
        message.heard.insert(id);
        wins
    }

    fn remove_all(&self, tag: Tag, known: &Knowledge, message: &mut Knowledge) {
        for &id in &known.gone {
            if self.events[id].tag == tag && matches!(self.events[id].what, What::Add { .. }) {
                message.gone.insert(id);
            }
        }
        for &id in &known.heard {
            let event = &self.events[id];
            if event.tag == tag && matches!(event.what, What::Add { .. }) {
                message.gone.insert(id);
            } else if event.tag == tag {
                self.reset(tag, &event.element, known, message);
            }
        }
    }

    /// What is known of the increments of these names.
    pub(crate) fn of_names(
        &self,
        tag: Tag,
        names: &BTreeSet<Actor>,
        known: &Knowledge,
    ) -> Knowledge {
        let of_names = |ids: &Ids| -> Ids {
            let is_of = |event: &Event| {
                matches!(event.what, What::Increment(_)) && names.contains(&event.actor)
            };
            ids.iter().copied().filter(|&id| is_of(&self.events[id])).collect()
        };
        let known = self.of(known, tag);
        let (heard, gone) = (of_names(&known.heard), of_names(&known.gone));
        Knowledge { heard, gone, ..Knowledge::default() }
    }

    fn of(&self, known: &Knowledge, tag: Tag) -> Knowledge {
        let of_tag = |ids: &Ids| -> Ids {
            ids.iter().copied().filter(|&id| self.events[id].tag == tag).collect()
        };
        Knowledge { heard: of_tag(&known.heard), gone: of_tag(&known.gone), ..Knowledge::default() }
    }

    fn stamp(&self, id: usize) -> Option<Stamp> {
        match self.events[id].what {
            What::Add { stamp, .. } => Some(stamp),
            _ => None,
        }
    }

    /// Adds to `element` heard of and not taken away.
    fn alive(&self, known: &Knowledge, tag: Tag, element: &Blob) -> Ids {
        let adds = known.heard.difference(&known.gone).copied().filter(|&id| {
            let event = &self.events[id];
            event.tag == tag && event.element == *element && matches!(event.what, What::Add { .. })
        });
        adds.collect()
    }

    fn increments(&self, known: &Knowledge, tag: Tag, element: &Blob) -> Ids {
        let increments = known.heard.iter().copied().filter(|&id| {
            let event = &self.events[id];
            event.tag == tag
                && event.element == *element
                && matches!(event.what, What::Increment(_))
        });
        increments.collect()
    }

    /// Sum of the increments that count; `None` if none does.
    fn sum(&self, known: &Knowledge, tag: Tag, element: &Blob) -> Option<i128> {
        let live = self.increments(known, tag, element).into_iter();
        live.filter(|id| !known.gone.contains(id)).fold(None, |sum, id| {
            match self.events[id].what {
                What::Increment(by) => Some(sum.unwrap_or(0) + i128::from(by)),
                _ => sum,
            }
        })
    }

    /// The latest base: its event, stamp and value.
    fn base(&self, known: &Knowledge) -> Option<(usize, Stamp, Option<Blob>)> {
        let bases = known.heard.iter().filter_map(|&id| match &self.events[id].what {
            What::Base { stamp, value } => {
                let value = value.clone().filter(|_| !known.gone.contains(&id));
                Some((id, *stamp, value))
            }
            _ => None,
        });
        bases.max_by_key(|&(id, stamp, _)| (stamp, self.events[id].actor, id))
    }

    /// Types of which a reader sees something.
    pub(crate) fn live(&self, known: &Knowledge) -> Vec<Tag> {
        let tags = Tag::KNOWN.into_iter().filter(|&tag| {
            if tag == Tag::LWW {
                return self.read(known).register.is_some();
            }
            known.heard.difference(&known.gone).any(|&id| self.events[id].tag == tag)
        });
        tags.collect()
    }

    /// What a reader sees of what is known.
    pub(crate) fn read(&self, known: &Knowledge) -> Reading {
        let mut reading = Reading::default();
        let mut fields = BTreeMap::<Blob, (Stamp, Actor, usize, Blob)>::new();
        for &id in known.heard.difference(&known.gone) {
            let Event { tag, actor, element, what } = &self.events[id];
            let What::Add { stamp, value, quantity } = what else { continue };
            match *tag {
                Tag::BYTES => reading.siblings.push(value.clone()),
                Tag::GSET => drop(reading.gset.insert(element.clone())),
                Tag::ORSET => drop(reading.orset.insert(element.clone())),
                Tag::CART => {
                    *reading.cart.entry(element.clone()).or_default() += u128::from(*quantity);
                }
                _ => {
                    let mine = (*stamp, *actor, id, value.clone());
                    let latest = fields.entry(element.clone()).or_insert_with(|| mine.clone());
                    *latest = mine.max(latest.clone());
                }
            }
        }
        reading.siblings.sort();
        reading.counter = self.sum(known, Tag::COUNTER, &Blob::new());
        let base = self.base(known).and_then(|(_, _, value)| value);
        reading.register = beside(base, self.sum(known, Tag::LWW, &Blob::new()));
        let of_map = |id: &&usize| self.events[**id].tag == Tag::MAP;
        let names: BTreeSet<&Blob> =
            known.heard.iter().filter(of_map).map(|&id| &self.events[id].element).collect();
        for name in names {
            let base = fields.get(name).map(|(.., value)| value.clone());
            if let Some(shown) = beside(base, self.sum(known, Tag::MAP, name)) {
                reading.map.insert(name.clone(), shown);
            }
        }
        reading
    }
}

/// A base with the increments beside it, as a reader sees them. (The generated bases that are
/// integers are single digits.)
fn beside(base: Option<Blob>, sum: Option<i128>) -> Option<Blob> {
    let Some(sum) = sum else { return base };
    match base.as_deref() {
        None => Some(sum.to_string().into()),
        Some(&[digit @ b'0'..=b'9']) => Some((sum + i128::from(digit - b'0')).to_string().into()),
        Some(_) => base,
    }
}

/// What a reader sees of a real value.
pub(crate) fn read(value: &Value) -> Reading {
    let mut reading = Reading::default();
    for state in value.0.values() {
        match state {
            State::Bytes(state) => {
                reading.siblings = state.store.0.values().map(|s| s.value.clone()).collect();
                reading.siblings.sort();
            }
            State::Register(register) => reading.register = register.read(),
            State::Gset(set) => reading.gset = set.store.0.keys().cloned().collect(),
            State::Orset(set) => reading.orset = set.store.0.keys().cloned().collect(),
            State::Counter(counter) => {
                reading.counter = counter.tally.is_live().then(|| counter.tally.value());
            }
            State::Cart(cart) => {
                let items = cart.store.0.iter();
                reading.cart = items
                    .map(|(item, adds)| {
                        (item.clone(), adds.0.values().map(|&q| u128::from(q)).sum())
                    })
                    .collect();
            }
            State::Map(map) => {
                let fields = map.store.0.iter();
                reading.map =
                    fields.filter_map(|(name, f)| Some((name.clone(), f.read()?))).collect();
            }
            State::Expiry(_) | State::Opaque(_) => {}
        }
    }
    reading
}
