//! Opening a replica: what the index holds, and then what the log holds beyond it.
//!
//! Replay does what was done, in the same order over the same rows, so it gives the same rows, the
//! numbers of the outbox's included. Each shard has its own position: its records before that are in
//! its rows already.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::merge::completes;
use super::notes::{NOTES, Notes};
use super::{
    Engine, EngineConfig, Waiting, disk, expiry, losses, remnants, sweep, trees, write_out,
};
use crate::census::Census;
use crate::checkpoint::read_shard;
use crate::epochs::Epochs;
use crate::log_record::{self, RecordIn, record_shard};
use crate::memtable::Memtable;
use crate::{IndexRead, Logged, Shard, StorageError};

/// An engine that is being opened.
#[derive(Debug)]
pub struct Replay<R> {
    engine: Engine<R>,
    /// From where on each shard lacks its records.
    positions: BTreeMap<Shard, u64>,
    records: u64,
    /// Whether something is gone that came before the next record: other records, or a row of the index.
    is_after_loss: bool,
    /// From where on the index lacks notes; the end of all logs if it does not say.
    notes_from: u64,
    /// What is noted, if that was looked up since it was noted.
    notes: Option<Arc<Notes>>,
    /// The bounds that hold once it is open: what was accepted is not refused here.
    pending_bytes_max: usize,
    hint_bytes_max: u64,
}

impl<R: IndexRead> Replay<R> {
    /// The replica that `reader` shows. Of shards that have no census there everything is counted.
    pub fn begin(reader: R, mut config: EngineConfig) -> Result<Self, StorageError> {
        let pending_bytes_max = std::mem::replace(&mut config.pending_bytes_max, usize::MAX);
        let hint_bytes_max = std::mem::replace(&mut config.hint_bytes_max, u64::MAX);
        let mut rows = Memtable::new(reader);
        rows.set_replaying(true);
        let (mut census, mut is_counted) = (Census::default(), true);
        let (mut positions, mut notes_from) = (BTreeMap::new(), 0);
        for shard in config.shards.iter() {
            let found = read_shard(rows.reader(), shard)?;
            let is_damaged = found == Some(None);
            let found = found.flatten();
            let position = found.as_ref().map_or(0, |(position, _)| *position);
            positions.insert(shard, position);
            if shard == NOTES {
                notes_from = if is_damaged { u64::MAX } else { position };
            }
            match found.and_then(|(_, part)| part) {
                Some(part) => census.add_shard(shard, &part),
                None => is_counted = false,
            }
        }
        if !is_counted {
            census = Census::of(&rows, config.shards.shards())?;
        }
        let round = remnants::entered(&rows, &config.shards)?;
        let mut engine = Engine {
            round,
            first_round: None,
            // Until then it may have.
            named_in: round,
            epochs: Epochs::new(config.node, config.process),
            census,
            rows,
            trees: trees::Trees::new(config.shards.shards().partitions()),
            config,
            current: Waiting::default(),
            under_way: Waiting::default(),
            position: 0,
            is_unsynced: false,
            out: write_out::Progress::default(),
            sweep: sweep::Progress::default(),
            expiry: expiry::Progress::default(),
            forgotten: None,
            disk: disk::Disk::default(),
            damaged: 0,
            is_replaying: true,
            is_recorded: false,
            losses: losses::Losses::default(),
        };
        engine.find_dropped()?;
        Ok(Self {
            engine,
            positions,
            records: 0,
            is_after_loss: false,
            notes_from,
            notes: None,
            pending_bytes_max,
            hint_bytes_max,
        })
    }

    /// Does again what the record at `position` of the log says, if the index lacks it. What the log gives is given
    /// in order; records of other engines' shards are passed over.
    pub fn replay(&mut self, position: u64, logged: Logged<'_>) {
        let record = match logged {
            Logged::Record(record) => record,
            Logged::GoneTo(to) => return self.lost(position, to),
        };
        let from = record_shard(record).and_then(|shard| self.positions.get(&shard));
        let Some(&from) = from else { return };
        if position < from && !self.is_after_loss {
            return;
        }
        let decoded = log_record::decode(record);
        if let Some(RecordIn::LossMet(losses)) = &decoded {
            // Also one that is in the index: what was lost before is given all the same.
            self.engine.losses.were_met(losses);
        }
        if position < from {
            return;
        }
        self.records += 1;
        if decoded.is_none() {
            self.lost(position, position + 1);
        }
        let engine = &mut self.engine;
        let damaged = engine.damaged;
        let done = match decoded {
            // That a transfer brought all of a collection rests on what came before, of which some may be gone.
            // What was brought would count as removed here, and so everywhere.
            Some(RecordIn::Merge(_, delta)) if self.is_after_loss && completes(&delta) => Ok(()),
            Some(RecordIn::Merge(key, delta)) => engine.merge(&key, &delta),
            Some(RecordIn::Defer(owner, key, delta)) => engine.keep(owner, &key, &delta),
            Some(RecordIn::Delivered(position, version)) => engine.delivered(&position, version),
            Some(RecordIn::Redirect(position, owners)) => {
                engine.redirect_again(&position, &owners).map(|_| ())
            }
            Some(RecordIn::Note(notes)) => {
                self.notes = None;
                engine.note(notes)
            }
            Some(RecordIn::Enter(round)) => engine.enter(round),
            Some(RecordIn::Remnant(step, round, at)) => engine.forget_again(step, round, &at),
            Some(RecordIn::Probe(_) | RecordIn::LossMet(_)) => Ok(()),
            Some(RecordIn::Forget(row_key)) => engine.forget_key(&row_key).map(|_| ()),
            Some(RecordIn::Rebuild(row_key)) => engine.rebuild_again(&row_key),
            None => Err(StorageError::Corrupt("a record that cannot be read".into())),
        };
        if done.is_err_and(|error| error != StorageError::Unseen) {
            engine.damaged += 1;
        }
        self.is_after_loss |= engine.damaged > damaged;
        engine.current.counted.clear();
        engine.current.minted.clear();
        engine.rows.keep();
    }

    /// Records are gone.
    fn lost(&mut self, from: u64, to: u64) {
        self.is_after_loss = true;
        // What is in the index may have been noted later.
        let notes = match &self.notes {
            _ if from < self.notes_from => Arc::default(),
            Some(notes) => Arc::clone(notes),
            None => {
                Arc::clone(self.notes.insert(Arc::new(self.engine.notes().unwrap_or_default())))
            }
        };
        self.engine.losses.meet(from, to, &notes);
    }

    /// Records done again so far.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The engine, once every record up to the `end` of the log was given. `is_synced`: whether all of them are durable.
    pub fn finish(mut self, end: u64, is_synced: bool) -> Engine<R> {
        (self.engine.position, self.engine.is_unsynced) = (end, !is_synced);
        self.engine.is_replaying = false;
        self.engine.rows.set_replaying(false);
        self.engine.config.pending_bytes_max = self.pending_bytes_max;
        self.engine.config.hint_bytes_max = self.hint_bytes_max;
        self.engine
    }
}
