//! Coordinating an operation: its delta is made from what is held here and what other replicas showed,
//! and merged.

use std::sync::Arc;

use clock::{Actor, CausalContext, Stamp};
use values::{
    ExpiryOp, Field, Key, Lifetime, Limits, Mint, Operation, Prepared, Scope, State, Tag,
    UpdateError, View,
};

use super::Engine;
use super::header_row::Held;
use super::look::Looked;
use crate::record::Header;
use crate::row_key::RowKey;
use crate::{Answer, Durability, IndexRead, StorageError, Ticket};

/// An operation to coordinate.
pub(super) struct Asked {
    pub(super) operation: Operation,
    pub(super) lifetime: Lifetime,
    pub(super) observed: CausalContext,
    pub(super) shown: Vec<View>,
    pub(super) stamp: Stamp,
    pub(super) named: Option<Actor>,
    pub(super) limits: Arc<Limits>,
}

impl<R: IndexRead> Engine<R> {
    /// Coordinates an operation. A damaged key is first brought back to what is whole of it.
    pub(super) fn update(
        &mut self,
        ticket: Ticket,
        key: &Key,
        asked: &Asked,
        durability: Durability,
        answers: &mut Vec<(Ticket, Answer)>,
    ) -> Result<(), StorageError> {
        self.check_disk()?;
        self.check_room()?;
        let at = RowKey::of(key);
        let answer = match self.try_update(&at, key, asked) {
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild(&at, key)?;
                self.try_update(&at, key, asked)?
            }
            done => done?,
        };
        let is_prepared = matches!(answer, Answer::Prepared { .. });
        answers.push((ticket, answer));
        if is_prepared {
            self.settle(ticket, Answer::Durable, durability, answers);
        }
        Ok(())
    }

    fn try_update(
        &mut self,
        at: &RowKey,
        key: &Key,
        asked: &Asked,
    ) -> Result<Answer, StorageError> {
        let Asked { operation, lifetime, observed, shown, stamp, named, limits } = asked;
        let Held { header: held, before } = self.held_to_change(at, key)?;
        let (header, after) = if held.is_hidden() {
            // A write is later than what was deleted: another member may not have hidden that yet.
            (Header::default(), held.tombstone())
        } else {
            (held, None)
        };
        let stamp = after.map_or(*stamp, |after| after.next().max(*stamp));
        let mut looked = Looked::default();
        let mut view =
            self.show_noting(at, key, header.clone(), &operation.scope(), &mut looked)?;
        let tag = operation.minted_tag();
        let local = view.value.context(tag);
        if tag == Tag::BYTES {
            // Of all types only this one merges what the client has seen.
            self.epochs.observe(at.as_bytes(), tag, local, observed);
        }
        // A removal takes what is shown of every type, and the contexts of all come here with it.
        for (&tag, theirs) in shown.iter().flat_map(|shown| &shown.value.0) {
            self.epochs.observe(at.as_bytes(), tag, view.value.context(tag), theirs.context());
        }
        let mut actor = match named {
            Some(actor) => *actor,
            None => self.actor(at, tag, local)?,
        };
        let own_last = local.highest(actor);
        // A schedule has dots of its own, beside those of the operation.
        let schedules = matches!(lifetime, Lifetime::Ends(_)) && operation.adds();
        let scheduler = match named {
            None if schedules => self.actor(at, Tag::EXPIRY, view.value.context(Tag::EXPIRY))?,
            _ => actor,
        };
        let is_here =
            named.is_none_or(|actor| operation.is_known(&view, &CausalContext::default(), actor));
        // A removal is told of this replica's own view beside the others': it may be the one that holds more.
        let own = shown.iter().any(|shown| *shown != view).then(|| view.clone());
        if own.is_some() {
            shown.iter().for_each(|shown| view.merge(shown));
            let all = view.value.context(tag);
            if named.is_none() && (all.highest(actor) < own_last || all.is_sealed(actor)) {
                // Others sealed it, or have forgotten it: counted on from there its dots would be issued again.
                self.epochs.lose(at.as_bytes(), tag);
                actor = self.actor(at, tag, all)?;
            }
        }
        let all = own.iter().chain(shown);
        let apart: Vec<&View> = all.filter(|shown| **shown != view).collect();
        let round = self.present_round().filter(|round| round.is_known());
        let prepare = |view: &View, actor| {
            let mint = Mint { actor, stamp, round };
            let seen = (view, &apart[..]);
            operation.prepare_living((*lifetime, scheduler), seen, observed, mint, limits)
        };
        let mut widened = None;
        if schedules && tag == Tag::MAP {
            // It covers the increments of fields that the operation does not name, too.
            let removal = self.show(at, key, header.clone(), &Scope::Removal)?;
            add_tallies(widened.insert(view.clone()), &removal);
        }
        let seen = widened.as_ref().unwrap_or(&view);
        let mut prepared = prepare(seen, actor);
        if named.is_none() && matches!(prepared, Err(UpdateError::ActorDoubted)) {
            // This actor can go no further with the key: one of a new epoch can.
            self.epochs.doubt();
            let actor = self.actor(at, tag, view.value.context(tag))?;
            prepared = prepare(seen, actor);
        }
        let Prepared { mut delta, changed, repeated, partial, minted } = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Answer::Refused(refused)),
        };
        if partial && !is_here {
            // Merged, it would say that what it took away is gone from here.
            return Ok(Answer::Prepared {
                delta,
                changed,
                repeated,
                partial,
                is_here,
                minted,
                view,
            });
        }
        if *operation == Operation::Expiry(ExpiryOp::Sweep) {
            // The dots that schedules name were in no context here, perhaps.
            self.observe(at, &header, &delta);
        }
        if let (Some(round), Some(minted)) = (round, minted) {
            self.seal_elements(at, key, &header, minted, (round, limits), &mut delta)?;
        }
        let merged = self.merged(at, key, Held { header, before }, &delta, &looked)?;
        // Within the scope this is what reading it again would show, for less.
        let is_shown = own.is_none() && merged.header.show_wholes(&delta, &mut view.value);
        if !is_shown {
            view.value.apply(&delta);
        }
        view.collections = merged.header.summaries();
        self.make(at, key, merged, &delta)?;
        self.current.minted.push((at.shared(), tag));
        let sealed_now = |state: &State| state.context().has_sealed(|it| Some(it) == round);
        let is_to_be_folded = named.is_some() && operation.is_folded() && !repeated;
        if is_to_be_folded || delta.value.0.values().any(sealed_now) {
            self.named_in = round.or(self.named_in);
        }
        if schedules {
            self.current.minted.push((at.shared(), Tag::EXPIRY));
        }
        let is_here = true;
        Ok(Answer::Prepared { delta, changed, repeated, partial, is_here, minted, view })
    }

    /// Who mints for `tag` of the key at `at`, whose context is `context`.
    fn actor(
        &mut self,
        at: &RowKey,
        tag: Tag,
        context: &CausalContext,
    ) -> Result<Actor, StorageError> {
        let actor = self.epochs.actor(at.as_bytes(), tag, context);
        actor.ok_or_else(|| {
            StorageError::Io("this process has drawn every epoch: restart the node".into())
        })
    }
}

/// Adds to a view of some fields of a map the increments of the others that `removal` shows.
fn add_tallies(view: &mut View, removal: &View) {
    let removal = removal.value.state(Tag::MAP);
    if let (Some(State::Map(mine)), Some(State::Map(more))) =
        (view.value.0.get_mut(&Tag::MAP), removal)
    {
        for (name, field) in &more.store.0 {
            let tally = field.tally.clone();
            let only = || Field { tally, ..Field::default() };
            mine.store.0.entry(name.clone()).or_insert_with(only);
        }
    }
}
