//! Forgetting what is left of deleted keys, once no older state of them can come back.
//!
//! A *remnant* is a header with nothing live and no rows: contexts and
//! tombstones, kept so that what they removed stays removed. Each says in which round of the barrier it
//! changed here last, and a row in the meta table lists it under that round, so that forgetting costs
//! what is forgotten, names of requests too: nobody tries them again by then. When that is safe `replication`'s barrier
//! decides; this is what is then done:
//!
//! * *Hide*, once all members agree: the remnant adds nothing to a tree and nothing shows it. It is still
//!   held: what comes from a member that still shows it changes nothing (`merge`), and a write made
//!   here is later than it. Who still shows what it removed has missed it: then it is shown again.
//! * *Drop*, once every member has hidden its own.
//!
//! Where a replica comes to be among others than those that were agreed, what it has hidden is *shown* again: they
//! may hold what it removed.
//!
//! Whatever says more than a hidden remnant knows replaces it: it was made by a member for which the key
//! was as good as gone. Each step of each remnant is a record of the log: so a merge after it meets, when
//! it is replayed, what it met.

use std::ops::ControlFlow;

use clock::Round;

use super::Engine;
use crate::log_record::RecordOut;
use crate::memtable::Memtable;
use crate::record::{Age, Header, age_unchecked, decode_round, encode_round};
use crate::row_key::{
    RowKey, parse_remnant, partition_start, remnant_prefix, remnant_row, remnants, round_row,
};
use crate::{Forgetting, IndexRead, Shard, ShardSet, StorageError, Table};

/// The latest round that any of the shards entered. One that says less enters it again: a remnant that
/// seems younger than it is waits for a round more.
pub(super) fn entered<R: IndexRead>(
    rows: &Memtable<R>,
    shards: &ShardSet,
) -> Result<Option<Round>, StorageError> {
    let mut latest: Option<Round> = None;
    for shard in shards.iter() {
        let Some(row) = shard_row(shards, shard) else { continue };
        // What cannot be read is as good as not entered: the node enters its round again at its start.
        let round = rows.get(Table::Meta, &row, |record| decode_round(&row, record).ok())?;
        latest = latest.into_iter().chain(round.flatten()).max_by_key(|round| round.number);
    }
    Ok(latest)
}

/// The row that says which round a shard entered; none of a shard without partitions.
fn shard_row(shards: &ShardSet, shard: Shard) -> Option<Vec<u8>> {
    let shards = shards.shards();
    let first = shards.first_partition(shard)?;
    Some(round_row(partition_start(first, shards.partitions())))
}

impl<R: IndexRead> Engine<R> {
    /// The number of the round of the barrier that this replica entered last.
    pub fn round(&self) -> u64 {
        self.round.map_or(0, |round| round.number)
    }

    /// Until it enters one this replica is in this round: the one that its node has noted, which may be the one before
    /// its ring's first. In one `is_noted` before this process something may have been named.
    pub fn begin_in(&mut self, round: Round, is_noted: bool) {
        self.first_round = Some(round);
        self.named_in = self.named_in.or(Some(round).filter(|_| is_noted));
    }

    /// The round of the barrier that this replica is in, if any.
    pub(super) fn present_round(&self) -> Option<Round> {
        self.round.or(self.first_round)
    }

    /// Whether there is something that is forgotten once further rounds are over: remnants, or names that may have been
    /// made here and are to be folded.
    pub fn has_to_forget(&self) -> Result<bool, StorageError> {
        let is_to_be_folded = |made: Round| {
            let of_ring =
                self.present_round().filter(|now| now.ring == made.ring && now.is_known());
            of_ring.is_some_and(|now| made.number.saturating_add(Round::FOLD_LAG) >= now.number)
        };
        Ok(self.named_in.is_some_and(is_to_be_folded) || self.oldest_remnant()?.is_some())
    }

    /// The earliest round that a remnant is of which is not hidden; `None` if there is none.
    pub fn oldest_remnant(&self) -> Result<Option<u64>, StorageError> {
        let mut oldest = None;
        self.rows.scan(Table::Meta, &remnant_prefix(false), &[], |row_key, _| {
            oldest = parse_remnant(row_key).map(|(_, round, _)| round);
            ControlFlow::Break(())
        })?;
        Ok(oldest)
    }

    /// Whether nothing is held at all: of no key, and for no other owner.
    pub fn is_blank(&self) -> Result<bool, StorageError> {
        let mut is_blank = !self.has_pending();
        for table in [Table::Header, Table::Element] {
            self.rows.scan(table, &[], &[], |_, _| {
                is_blank = false;
                ControlFlow::Break(())
            })?;
        }
        Ok(is_blank)
    }

    /// Enters a round, as a command.
    pub(super) fn enter_round(&mut self, round: Round) -> Result<(), StorageError> {
        self.check_disk()?;
        self.check_room()?;
        // Whoever enters a round goes on with what there is.
        self.go_on_after_loss();
        self.enter(round)
    }

    pub(super) fn enter(&mut self, round: Round) -> Result<(), StorageError> {
        self.round = Some(round);
        // By the rows: a disk that refuses them takes them back, and not the round that is in memory.
        if entered(&self.rows, &self.config.shards)? == Some(round) {
            return Ok(());
        }
        for shard in self.config.shards.iter().collect::<Vec<_>>() {
            let Some(row) = shard_row(&self.config.shards, shard) else { continue };
            let record = encode_round(&row, round);
            self.rows.put(Table::Meta, &row, Some(record));
            self.record_in(shard, &RecordOut::Enter(round));
        }
        Ok(())
    }

    /// Does a step to up to `limit` remnants: to be forgotten, those of rounds before `below`. Returns whether there
    /// may be more.
    pub(super) fn forget_remnants(
        &mut self,
        step: Forgetting,
        below: u64,
        limit: usize,
    ) -> Result<bool, StorageError> {
        self.check_disk()?;
        self.check_room()?;
        let (mut listed, mut more) = (Vec::new(), false);
        let (prefix, first) = match step {
            Forgetting::Hide => (remnant_prefix(false), Vec::new()),
            Forgetting::Drop => (remnant_prefix(true), Vec::new()),
            // Those of later rounds come before those that are hidden.
            Forgetting::Show => {
                (remnants(), remnant_row(false, self.round().saturating_add(1), &[]))
            }
        };
        // Rows that are deleted are in the way until a checkpoint: none is passed twice.
        let from = match self.forgotten.take() {
            Some((of, last)) if of == step => last,
            _ => Vec::new(),
        };
        let is_begun = !from.is_empty();
        self.rows.scan(Table::Meta, &prefix, &from.max(first), |row_key, _| {
            let is_meant = |round| step == Forgetting::Show || round < below;
            if parse_remnant(row_key).is_none_or(|(_, round, _)| !is_meant(round)) {
                return ControlFlow::Break(());
            }
            more = listed.len() >= limit.max(1);
            if more {
                return ControlFlow::Break(());
            }
            listed.push(row_key.to_vec());
            ControlFlow::Continue(())
        })?;
        match listed.last() {
            Some(last) if more => self.forgotten = Some((step, last.clone())),
            // What was left behind, because a disk refused it, is met from the beginning.
            _ => more |= is_begun,
        }
        for row_key in listed {
            let place = parse_remnant(&row_key);
            // What is shown is of the present round.
            let of = |round| if step == Forgetting::Show { self.round() } else { round };
            let place = place.and_then(|(_, round, at)| Some((of(round), RowKey::read(at)?)));
            let found = place.map(|(round, at)| {
                Ok::<_, StorageError>(
                    self.forget_at(step, &at, |record| {
                        let row = age_unchecked(record)
                            .map(|age| remnant_row(age.is_hidden, age.round, at.as_bytes()));
                        (row.as_ref() == Some(&row_key)).then_some(round)
                    })?
                    .then_some((round, at)),
                )
            });
            match found.transpose()?.flatten() {
                Some((round, at)) => {
                    self.record(at.token(), &RecordOut::Remnant(step, round, at.as_bytes()));
                }
                // Left over from damage: whoever writes the key next lists it again.
                None => self.rows.put(Table::Meta, &row_key, None),
            }
        }
        Ok(more)
    }

    /// Does again what the log says.
    pub(super) fn forget_again(
        &mut self,
        step: Forgetting,
        round: u64,
        at: &[u8],
    ) -> Result<(), StorageError> {
        let Some(at) = RowKey::read(at) else {
            return Err(StorageError::Corrupt("a remnant's row has no such key".into()));
        };
        // The sweep had come to its end then, and leaves no record of that.
        self.sweep_key(&at)?;
        self.forget_at(step, &at, |_| Some(round)).map(drop)
    }

    /// Does a step to the remnant at `at`, whose record is of the round that `round_of` says, if any.
    /// Returns whether it did.
    fn forget_at(
        &mut self,
        step: Forgetting,
        at: &RowKey,
        round_of: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<bool, StorageError> {
        let found = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Some((round_of(record)?, Header::decode(at.as_bytes(), record).ok()?))
        })?;
        let Some((round, (mut header, full))) = found.flatten() else { return Ok(false) };
        let Some(key) = full.or_else(|| at.short_key()) else { return Ok(false) };
        let Age { round: last, is_hidden } = header.age;
        let is_meant = match step {
            Forgetting::Hide => !is_hidden,
            Forgetting::Drop => is_hidden,
            Forgetting::Show => is_hidden || last > round,
        };
        if !header.is_remnant() || !is_meant {
            return Ok(false);
        }
        match step {
            Forgetting::Hide | Forgetting::Show => {
                header.age = Age { round, is_hidden: step == Forgetting::Hide };
                self.write_header(at, &key, &header, None)?;
            }
            Forgetting::Drop => {
                let row = remnant_row(true, header.age.round, at.as_bytes());
                self.rows.put(Table::Meta, &row, None);
                // It adds nothing to a tree and is not counted.
                self.rows.put(Table::Header, at.as_bytes(), None);
            }
        }
        Ok(true)
    }
}
