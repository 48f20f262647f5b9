//! The node's own record, which it alone writes, and what to do when others know a later one.
//!
//! They may: the disk was lost, or restored from a backup, and the cluster remembers an earlier start
//! with a later generation. Then the node takes the next one and is itself again. Or another process
//! under the same id took this one's place while it was alive, and says so in its entry: then this one
//! stops.

use sabotage::Bug;

use super::Gossip;
use crate::event::{Ending, Report};
use crate::{Config, Entry, Incarnation, Load, Phase, Record, Snapshot, VERSION_MAX};

/// The record of a node that starts.
pub(super) fn first_record(
    config: &Config,
    snapshot: Option<&Snapshot>,
    bootstrap: bool,
) -> Record {
    let nonce = config.nonce;
    let mut record = Record {
        entry: Entry {
            incarnation: Incarnation { generation: 1, nonce },
            version: 1,
            joined: 1,
            over: None,
            phase: if bootstrap { Phase::Up } else { Phase::Joining },
            about: config.about.clone(),
            load: Load::default(),
        },
        ended: 0,
    };
    let Some(snapshot) = snapshot else { return record };
    let before = snapshot.incarnation;
    record.entry.over = Some(before.nonce);
    let known = snapshot.table.get(config.node);
    let ended = known.map_or(0, |known| known.ended);
    let generation = before.generation.max(ended).saturating_add(1);
    record.entry.incarnation.generation = generation.min(Incarnation::GENERATION_MAX);
    record.ended = ended;
    match known.filter(|known| !known.is_over()) {
        Some(known) => {
            (record.entry.joined, record.entry.phase) = (known.entry.joined, known.entry.phase);
        }
        // It left or was removed: it comes back as a new member.
        None => record.entry.joined = record.entry.incarnation.generation,
    }
    record
}

impl Gossip {
    /// Others know this record of this node.
    pub(super) fn on_self(&mut self, now_ms: u64, theirs: &Record) {
        let mine = self.own().clone();
        let said = &theirs.entry;
        let later = said.incarnation > mine.entry.incarnation;
        let foreign = said.incarnation.nonce != self.config.nonce;
        if later && foreign && said.over == Some(self.config.nonce) {
            return self.supersede(said);
        }
        let mut next = mine.clone();
        next.ended = mine.ended.max(theirs.ended);
        if later && !sabotage::is(Bug::GenerationStays) {
            if said.incarnation.generation >= Incarnation::GENERATION_MAX {
                return self.supersede(said);
            }
            next.entry.incarnation.generation = said.incarnation.generation + 1;
            next.entry.over = foreign.then_some(said.incarnation.nonce).or(mine.entry.over);
            next.entry.version = 1;
            // A node that lost its disk, or has an old one, is what it was before, whatever it takes itself for:
            // a founder begins as a full member. Once others know this start, what it says is later than theirs.
            let is_starting = mine.entry.phase == Phase::Joining || !self.settled;
            if is_starting && said.joined > next.ended {
                (next.entry.joined, next.entry.phase) = (said.joined, said.phase);
                next.entry.about.weight = said.about.weight;
            }
        } else if said.incarnation == mine.entry.incarnation && *said > mine.entry {
            // Somebody else wrote it, or this process forgot: the next version is this node's again.
            next.entry.version = said.version.saturating_add(1);
        }
        if next.is_over() && mine.entry.phase != Phase::Left {
            let starting = mine.entry.phase == Phase::Joining && !self.settled;
            let generation = next.entry.incarnation.generation.max(next.ended) + 1;
            if !starting || generation > Incarnation::GENERATION_MAX {
                self.write_own(next);
                return self.end(Ending::Removed);
            }
            next.entry.incarnation.generation = generation;
            (next.entry.joined, next.entry.phase) = (generation, Phase::Joining);
            next.entry.version = 1;
        }
        let (known, now) = (said.incarnation, next.entry.incarnation);
        if now != mine.entry.incarnation {
            let report = Report::Raised { known, now };
            self.report(now_ms, self.config.node, "raised", report);
        }
        self.write_own(next);
    }

    fn supersede(&mut self, by: &Entry) {
        let address = by.about.peer_address().to_owned();
        self.end(Ending::Superseded { by: by.incarnation, address });
    }

    /// Others know a heartbeat of this start that it has not made yet, or has forgotten.
    pub(super) fn outrun_beat(&mut self, now_ms: u64, beat: u64) {
        let me = self.peers.get_mut(&self.config.node).expect("as `own`");
        if beat <= me.beat {
            return;
        }
        me.beat = beat;
        me.beat_now(now_ms);
        if me.beat >= VERSION_MAX {
            let mut next = self.own().clone();
            next.entry.version = VERSION_MAX;
            self.write_own(next);
        }
    }

    /// Says something new of itself.
    pub(super) fn amend(&mut self, change: impl FnOnce(&mut Record)) {
        let mut next = self.own().clone();
        change(&mut next);
        if next != *self.own() {
            next.entry.version += 1;
            self.write_own(next);
        }
    }

    /// Writes the own record. A version that has no next one begins another generation.
    fn write_own(&mut self, mut next: Record) {
        let before = self.own().clone();
        if next == before {
            return;
        }
        if next.entry.version >= VERSION_MAX {
            let generation = next.entry.incarnation.generation + 1;
            next.entry.incarnation.generation = generation.min(Incarnation::GENERATION_MAX);
            next.entry.version = 1;
        }
        if next.entry.incarnation != before.entry.incarnation {
            self.peers.get_mut(&self.config.node).expect("as `own`").beat = 0;
        }
        let node = self.config.node;
        *self.table.own_mut(node) = next;
        self.changed(node, Some(&before));
    }
}
