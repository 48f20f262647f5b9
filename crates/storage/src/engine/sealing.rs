//! Which actors of a collection a write seals and forgets: what `values` does with types whose states are at hand
//! (`operation/sealing.rs`), for elements that have rows of their own.
//!
//! Who is left in the rows only they say. So a write looks at all of them, now and then, where there are few, and more actors
//! than a context is to keep. What is not live but waits for the sweep counts as left. While a schedule names dots nothing is
//! forgotten: it is merged later, and would bring them back.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use clock::{Actor, Round};
use sabotage::Bug;
use values::{Delta, Key, Limits, Minted, State, Tag, row_actors};

use super::Engine;
use super::look::{corrupt, read_element};
use crate::record::{Header, Part};
use crate::row_key::RowKey;
use crate::{IndexRead, StorageError, Table};

impl<R: IndexRead> Engine<R> {
    /// Adds to the delta of a write to a collection which actors it seals, and below which round it forgets them.
    pub(super) fn seal_elements(
        &self,
        at: &RowKey,
        key: &Key,
        header: &Header,
        minted: Minted,
        (round, limits): (Round, &Limits),
        delta: &mut Delta,
    ) -> Result<(), StorageError> {
        let tag = minted.tag;
        let Some(Part::Collection(collection)) = header.tags.get(&tag) else { return Ok(()) };
        let (context, writer) = (&collection.context, minted.first.actor);
        let is_named = match header.tags.get(&Tag::EXPIRY) {
            Some(Part::Whole(State::Expiry(expiry))) => {
                expiry.store.0.values().any(|schedule| schedule.removal.has_dots(tag))
            }
            _ => false,
        };
        if let Some(below) = round.folds_below()
            && !is_named
            && !sabotage::is(Bug::SealsKept)
            && context.has_sealed(|sealed| sealed.is_before(below))
        {
            let mut forgotten = context.only_seals();
            forgotten.forget_below(below);
            delta.seal(tag, &forgotten);
        }
        let resting = || context.open_actors().filter(|actor| *actor != writer);
        let is_turn =
            (writer.epoch.process ^ minted.last).is_multiple_of(self.config.bounds.sealed_every);
        if !is_turn || resting().count() <= limits.actors_resting {
            return Ok(());
        }
        let Some(left) = self.actors_left(at, key, tag)? else { return Ok(()) };
        let is_left = |actor: &Actor| left.contains(actor) && !sabotage::is(Bug::LiveSealed);
        let resting: BTreeSet<Actor> = resting().filter(|actor| !is_left(actor)).collect();
        if resting.len() > limits.actors_resting {
            delta.seal(tag, &context.sealed(&resting, round));
        }
        Ok(())
    }

    /// Of whom something is in the rows of a collection; `None` if these are many, or one is damaged.
    fn actors_left(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
    ) -> Result<Option<BTreeSet<Actor>>, StorageError> {
        let prefix = at.elements(tag);
        let (mut left, mut rows, mut result) = (BTreeSet::new(), 0, Ok(()));
        self.rows.scan(Table::Element, &prefix, &[], |row_key, record| {
            rows += 1;
            let actors = read_element(&prefix, row_key, record, Some(key))
                .and_then(|(_, row)| row_actors(tag, &row).map_err(corrupt));
            result = actors.map(|actors| left.extend(actors));
            match result.is_ok() && rows <= self.config.bounds.sealed_rows_max {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if result.is_err() {
            // Whoever reads the damaged one finds it.
            return Ok(None);
        }
        Ok((rows <= self.config.bounds.sealed_rows_max).then_some(left))
    }
}
