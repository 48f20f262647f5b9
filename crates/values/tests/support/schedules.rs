//! What the model says of deadlines: a schedule takes away, once it is due, the events that it names,
//! wherever it is known and was not taken back.

use std::collections::BTreeSet;

use clock::{Actor, Stamp};
use values::{
    Blob, BytesOp, Deadline, ExpiryOp, Lifetime, MapOp, Operation, RegisterOp, Tag, is_collection,
};

use super::{Event, Ids, Knowledge, Model, What};

fn of_write(deadline: Deadline, stamp: Stamp) -> u64 {
    match deadline {
        Deadline::At(ms) => ms,
        Deadline::In(ms) => stamp.millis() + ms,
    }
}

impl Model {
    /// What is known once what is due at `now_ms` is gone.
    pub(crate) fn at(&self, known: &Knowledge, now_ms: u64) -> Knowledge {
        let mut known = known.clone();
        for id in self.found(&known, |deadline_ms| deadline_ms <= now_ms) {
            self.apply(id, &mut known);
        }
        known
    }

    /// Schedules with such a deadline that were not taken back.
    fn found(&self, known: &Knowledge, is_meant: impl Fn(u64) -> bool) -> Ids {
        let found = known.schedules.difference(&known.ended).copied().filter(|&id| {
            matches!(self.events[id].what, What::End { deadline_ms } if is_meant(deadline_ms))
        });
        found.collect()
    }

    /// Takes away what a schedule names: an entry need not have been heard of for that.
    fn apply(&self, schedule: usize, known: &mut Knowledge) {
        let covered: Ids =
            known.covers.iter().filter(|(of, _)| *of == schedule).map(|&(_, id)| id).collect();
        self.take(&covered, known);
    }

    fn take(&self, ids: &Ids, known: &mut Knowledge) {
        for &id in ids {
            known.gone.insert(id);
            if !matches!(self.events[id].what, What::Add { .. }) {
                known.heard.insert(id);
            }
        }
    }

    /// What becomes of the schedules that are known, beside the write in `message`, whose events
    /// begin with `first`.
    pub(super) fn schedule(
        &mut self,
        (operation, lifetime): (&Operation, Lifetime),
        (actor, stamp): (Actor, Stamp),
        known: &Knowledge,
        first: usize,
        message: &mut Knowledge,
    ) {
        let now_ms = stamp.millis();
        let due = self.found(known, |deadline_ms| deadline_ms <= now_ms);
        let pending = self.found(known, |deadline_ms| deadline_ms > now_ms);
        let is_there = !self.live(known).is_empty();
        let mut ends = match (operation, lifetime) {
            (Operation::Expiry(ExpiryOp::Set { deadline, .. }), _) if is_there => Some(*deadline),
            (Operation::Expiry(_), _) => None,
            (_, Lifetime::Ends(deadline)) if operation.adds() => Some(deadline),
            _ => None,
        };
        if message.is_empty() {
            ends = ends.filter(|_| matches!(operation, Operation::Expiry(_)));
        }
        let written = self.written(first, message);
        let mut covered = Ids::new();
        if let Some(deadline) = ends {
            let deadline_ms = of_write(deadline, stamp);
            covered.extend(
                known.covers.iter().filter(|(id, _)| pending.contains(id)).map(|&(_, id)| id),
            );
            covered.extend(self.shown(operation, known));
            covered.extend(written);
            let id = self.record(Tag::EXPIRY, actor, Blob::new(), What::End { deadline_ms });
            message.schedules.insert(id);
            message.covers.extend(covered.into_iter().map(|event| (id, event)));
            message.ended.extend(&pending);
        } else if *operation == Operation::Expiry(ExpiryOp::Persist) {
            message.ended.extend(&pending);
        } else if !message.is_empty() && !matches!(operation, Operation::Expiry(_)) {
            match self.fate(operation, lifetime == Lifetime::Keep, known, message) {
                Fate::Stay => {}
                Fate::End => message.ended.extend(&pending),
                Fate::Extend if written.is_empty() => {}
                Fate::Extend => {
                    message.schedules.extend(&pending);
                    let covers = known.covers.iter().filter(|(id, _)| pending.contains(id));
                    message.covers.extend(covers);
                    for &id in &pending {
                        message.covers.extend(written.iter().map(|&event| (id, event)));
                    }
                }
            }
        }
        if *operation == Operation::Expiry(ExpiryOp::Sweep) {
            for id in due {
                let covered: Ids =
                    known.covers.iter().filter(|(of, _)| *of == id).map(|&(_, id)| id).collect();
                self.take(&covered, message);
                message.ended.insert(id);
            }
        }
    }

    /// The schedule that was made last.
    pub(crate) fn newest_schedule(&self) -> usize {
        let is_schedule = |event: &Event| matches!(event.what, What::End { .. });
        self.events.iter().rposition(is_schedule).expect("one was made")
    }

    /// What says that a schedule takes away, of increments with these names, also what is gone already.
    pub(crate) fn cover_names(
        &self,
        schedule: usize,
        tag: Tag,
        names: &BTreeSet<Actor>,
        known: &Knowledge,
    ) -> Knowledge {
        let gone = self.of_names(tag, names, known).gone.into_iter();
        Knowledge { covers: gone.map(|event| (schedule, event)).collect(), ..Knowledge::default() }
    }

    /// What a write adds that its schedule takes away: its own events, and the earlier increments
    /// with which one of its own travels.
    fn written(&self, first: usize, message: &Knowledge) -> Ids {
        let own: Ids = message.heard.iter().copied().filter(|&id| id >= first).collect();
        let travels = |id: usize| {
            own.iter().any(|&own| {
                let (event, own) = (&self.events[id], &self.events[own]);
                matches!(event.what, What::Increment(_))
                    && matches!(own.what, What::Increment(_))
                    && (event.tag, event.actor, &event.element)
                        == (own.tag, own.actor, &own.element)
            })
        };
        let earlier = message.heard.iter().copied().filter(|&id| travels(id));
        let is_deleted =
            |id: &usize| matches!(self.events[*id].what, What::Base { value: None, .. });
        own.iter().copied().chain(earlier).filter(|id| !is_deleted(id)).collect()
    }

    /// What is shown of the types that are meant: all of them where the time to live itself is set.
    fn shown(&self, operation: &Operation, known: &Knowledge) -> Ids {
        let mut shown = Knowledge::default();
        let is_meant = |tag: &Tag| match operation {
            Operation::Expiry(_) => true,
            other => other.tag() == Some(*tag),
        };
        for tag in self.live(known).into_iter().filter(is_meant) {
            if is_collection(tag) {
                let all = known.heard.union(&known.gone).copied();
                shown.gone.extend(all.filter(|&id| {
                    let event = &self.events[id];
                    event.tag == tag && matches!(event.what, What::Add { .. })
                }));
            } else if tag == Tag::BYTES {
                shown.gone.extend(self.alive(known, tag, &Blob::new()));
            } else if tag == Tag::LWW {
                let base = self.base(known).filter(|(.., value)| value.is_some());
                shown.gone.extend(base.map(|(id, ..)| id));
            }
            let elements: BTreeSet<Blob> = known
                .heard
                .iter()
                .filter(|id| self.events[**id].tag == tag)
                .map(|id| self.events[*id].element.clone())
                .collect();
            for element in elements {
                let is_looked_at = match operation {
                    Operation::Map(MapOp::Set(fields)) => {
                        fields.iter().any(|(name, _)| *name == element)
                    }
                    Operation::Map(MapOp::Increment { field, .. }) => *field == element,
                    _ => true,
                };
                if is_looked_at {
                    self.reset(tag, &element, known, &mut shown);
                }
            }
        }
        shown.gone
    }

    fn fate(
        &self,
        operation: &Operation,
        keeps: bool,
        known: &Knowledge,
        message: &Knowledge,
    ) -> Fate {
        let live = self.live(known);
        let replaced: Vec<Tag> = match operation {
            // A removal where nothing is seen is no end of what is elsewhere.
            _ if live.is_empty() => return if operation.adds() { Fate::End } else { Fate::Stay },
            _ if keeps => return Fate::Extend,
            Operation::Register(RegisterOp::Set { .. } | RegisterOp::PutRaw(_)) => {
                let mut after = known.clone();
                after.learn(message);
                let latest = self.base(&after).map(|(id, ..)| id);
                if !latest.is_some_and(|id| message.heard.contains(&id)) {
                    return Fate::Stay;
                }
                match operation {
                    Operation::Register(RegisterOp::Set { replace: true, .. }) => {
                        Tag::KNOWN.to_vec()
                    }
                    Operation::Register(RegisterOp::PutRaw(_)) => vec![Tag::LWW, Tag::BYTES],
                    _ => vec![Tag::LWW],
                }
            }
            Operation::Bytes(BytesOp::Put(_)) => {
                let mut after = known.clone();
                after.learn(message);
                let left = self.alive(&after, Tag::BYTES, &Blob::new()).len();
                if left == 1 { vec![Tag::BYTES] } else { Vec::new() }
            }
            Operation::Delete(None) => Tag::KNOWN.to_vec(),
            _ => return Fate::Extend,
        };
        if live.iter().all(|tag| replaced.contains(tag)) { Fate::End } else { Fate::Stay }
    }
}

enum Fate {
    Stay,
    End,
    Extend,
}
