//! Elements of small collections among requests with names: added once each, and removed as they are shown, while who wrote
//! before is sealed and forgotten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use replication::{Call, CallId, NamedBy, Request, RequestName};
use values::{Blob, CartOp, DotStore, Key, MapOp, Operation, OrsetOp, Scope, State, Tag, View};

use crate::{Random, Sim, Told};

/// One key of each type.
const TYPES: [Tag; 3] = [Tag::ORSET, Tag::CART, Tag::MAP];

/// Elements that stay in the end: so few that all of them are looked at.
const KEPT: usize = 2;

/// What became of one element.
#[derive(Debug, Default)]
struct Element {
    is_added: bool,
    /// Whether its addition was refused by all that was said of it.
    is_refused: bool,
    /// Whether somebody was to remove it, and whether somebody did.
    is_to_go: bool,
    is_removed: bool,
}

/// The clients of elements.
#[derive(Debug, Default)]
pub(super) struct Elements {
    elements: BTreeMap<(Tag, Bytes), Element>,
    under_way: Vec<(CallId, Tag, Bytes, bool)>,
}

fn key(tag: Tag) -> Key {
    Key::new("default", format!("elements of {tag}")).expect("short")
}

/// The keys.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    TYPES.into_iter().map(key)
}

fn adds(tag: Tag, element: Bytes) -> Operation {
    match tag {
        Tag::ORSET => Operation::Orset(OrsetOp::Add(vec![element])),
        Tag::CART => Operation::Cart(CartOp::Add { item: element, quantity: 1 }),
        _ => Operation::Map(MapOp::Set(vec![(element, Bytes::from_static(b"set"))])),
    }
}

fn removes(tag: Tag, element: Bytes) -> Operation {
    match tag {
        Tag::ORSET => Operation::Orset(OrsetOp::Remove(vec![element])),
        Tag::CART => Operation::Cart(CartOp::Remove(element)),
        _ => Operation::Map(MapOp::Remove(vec![element])),
    }
}

fn shown(view: &View, tag: Tag) -> BTreeSet<Blob> {
    match view.value.state(tag) {
        Some(State::Orset(set)) => set.store.0.keys().cloned().collect(),
        Some(State::Cart(cart)) => cart.store.0.keys().cloned().collect(),
        Some(State::Map(map)) => {
            let live = map.store.0.iter().filter(|(_, field)| field.is_live());
            live.map(|(name, _)| name.clone()).collect()
        }
        _ => BTreeSet::new(),
    }
}

impl Elements {
    /// A client adds what nobody added before, or removes what was added.
    pub(super) fn step(&mut self, sim: &mut Sim, random: &mut Random, number: usize) {
        let node = random.below(sim.nodes() as u64) as usize;
        let tag = *random.pick(&TYPES);
        let known: Vec<Bytes> = {
            let of_tag = self.elements.iter().filter(|((of, _), it)| *of == tag && !it.is_removed);
            of_tag.map(|((_, element), _)| element.clone()).collect()
        };
        let is_removal = !known.is_empty() && (known.len() > 4 || random.chance(450));
        let element = match is_removal {
            true => random.pick(&known).clone(),
            false => Bytes::from(number.to_string()),
        };
        let operation = self.of(tag, &element, is_removal);
        let name = random.chance(300).then(|| RequestName {
            by: NamedBy::Application,
            client: Bytes::from_static(b"elements"),
            id: Bytes::from(number.to_string()),
        });
        let request = Request { name, ..Request::update(key(tag), operation) };
        let call = sim.call(node, Call::Request(request));
        self.under_way.push((call, tag, element, is_removal));
    }

    fn of(&mut self, tag: Tag, element: &Bytes, is_removal: bool) -> Operation {
        let noted = self.elements.entry((tag, element.clone())).or_default();
        noted.is_to_go |= is_removal;
        if is_removal { removes(tag, element.clone()) } else { adds(tag, element.clone()) }
    }

    /// Takes note of what was answered.
    pub(super) fn collect(&mut self, sim: &mut Sim) {
        for (call, tag, element, is_removal) in std::mem::take(&mut self.under_way) {
            let Some(outcome) = sim.take_answer(call) else {
                self.under_way.push((call, tag, element, is_removal));
                continue;
            };
            let noted = self.elements.get_mut(&(tag, element)).expect("it was noted");
            match (Told::of(outcome), is_removal) {
                (Told::Done(answer), true) => noted.is_removed |= answer.changed > 0,
                (Told::Done(_), false) => noted.is_added = true,
                (Told::Refused(_), false) => noted.is_refused = true,
                _ => {}
            }
        }
    }

    /// Removes all but a few elements of every key, and adds and removes another one some times.
    pub(super) fn write_all(&mut self, sim: &mut Sim, number: usize) -> Result<(), String> {
        for tag in TYPES {
            let owner = sim.owners(&key(tag))[0];
            let wrong = |error| format!("elements_are_taken: {error}");
            let answer = sim.request(owner, Request::get(key(tag), Scope::Whole)).map_err(wrong)?;
            let rest = shown(&answer.view, tag).into_iter().skip(KEPT);
            let mut operations: Vec<Operation> =
                rest.map(|element| self.of(tag, &element, true)).collect();
            for turn in 0..4 {
                let element = Bytes::from(format!("last{number}-{turn}"));
                operations.extend([false, true].map(|removes| self.of(tag, &element, removes)));
            }
            for operation in operations {
                sim.update(owner, &key(tag), operation).map_err(wrong)?;
                sim.run_until_quiet();
            }
        }
        Ok(())
    }

    /// What is shown was added and nobody removed it; all of that which was added.
    pub(super) fn judge(&self, finals: &BTreeMap<Key, View>) -> Result<(), String> {
        for tag in TYPES {
            let shown = shown(&finals[&key(tag)], tag);
            let wrong = |element: &Bytes, what: &str| {
                Err(format!("elements_stay_until_removed: {tag} {element:?}: {what}"))
            };
            for element in &shown {
                match self.elements.get(&(tag, element.clone())) {
                    None => return wrong(element, "nobody added it"),
                    Some(noted) if noted.is_refused => return wrong(element, "it was refused"),
                    Some(noted) if noted.is_removed => return wrong(element, "it is back"),
                    Some(_) => {}
                }
            }
            let of_tag = self.elements.iter().filter(|((of, _), _)| *of == tag);
            for ((_, element), noted) in of_tag {
                if noted.is_added && !noted.is_to_go && !shown.contains(element) {
                    return wrong(element, "it is lost");
                }
            }
        }
        Ok(())
    }
}
