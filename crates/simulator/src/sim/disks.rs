//! What befalls the disks of nodes: emptied, set back, exchanged for a copy, full, slow, rotten.

use std::collections::BTreeMap;

use replication::BarrierTable;
use storage::{
    Files, IndexRead, Log, Logged, Shards, Table, row_token, shard_positions, show_record,
};
use values::Key;

use super::rings::Crossing;
use super::{Image, Node, SHARDS, Sim};
use crate::trace::Line;
use crate::{Fault, SimOptions};

/// Tables whose rows are damaged: what clients wrote, which other replicas have too, also what is kept for
/// one of them; and what follows from that. The first are hit most often.
const DATA: [Table; 9] = [
    Table::Header,
    Table::Header,
    Table::Header,
    Table::Element,
    Table::Element,
    Table::Outbox,
    Table::Tree,
    Table::ElementTree,
    Table::Meta,
];

/// A disk that is whole again takes a batch when it is asked so often, at the latest.
const DISK_ASKED: usize = 10;

impl Node {
    fn image(&self) -> Image {
        Image(self.disk.snapshot(), self.membership.clone(), self.crossing.clone())
    }

    fn go_back_to(&mut self, Image(data, membership, crossing): Image) {
        self.disk.restore(&data);
        self.membership = membership;
        self.crossing.go_back_to(crossing);
        self.heard = BarrierTable::default();
    }
}

impl Sim {
    /// Empties the disk of a node that is down.
    ///
    /// # Panics
    /// If the node runs.
    pub fn wipe(&mut self, node: usize) {
        assert!(self.nodes[node].process.is_none(), "crash the node first");
        self.nodes[node].disk.wipe();
        self.nodes[node].membership = None;
        self.nodes[node].crossing.go_back_to(Crossing::default());
        self.lose_ring(node);
        self.nodes[node].heard = BarrierTable::default();
    }

    /// Keeps a copy of what a node's disk holds.
    pub(crate) fn keep_backup(&mut self, node: usize) {
        self.nodes[node].ills.backup = Some(self.nodes[node].image());
    }

    /// Whether such a copy is kept.
    pub(crate) fn has_backup(&self, node: usize) -> bool {
        self.nodes[node].ills.backup.is_some()
    }

    /// Puts back what the disk of a node that is down held some time ago. Returns whether anything
    /// was kept.
    pub(crate) fn restore_backup(&mut self, node: usize) -> bool {
        let node = &mut self.nodes[node];
        let Some(backup) = node.ills.backup.take() else { return false };
        node.go_back_to(backup);
        true
    }

    /// Has a node that is down go on with the other copy of its disk. Returns whether there was
    /// one: if not, its disk is copied.
    pub(crate) fn exchange_twin(&mut self, node: usize) -> bool {
        let node = &mut self.nodes[node];
        let image = node.image();
        let twin = node.ills.twin.replace(image);
        let has_twin = twin.is_some();
        twin.into_iter().for_each(|twin| node.go_back_to(twin));
        has_twin
    }

    /// Whether a node's disk has no room.
    pub(crate) fn fill_disk(&mut self, node: usize, is_full: bool) {
        self.nodes[node].disk.full(is_full);
        self.nodes[node].ills.is_full = is_full;
        self.disk_changed(node, if is_full { "full" } else { "has room again" });
    }

    /// Whether a node's disk can only be read.
    pub(crate) fn lock_disk(&mut self, node: usize, is_read_only: bool) {
        self.nodes[node].disk.read_only(is_read_only);
        self.nodes[node].ills.is_read_only = is_read_only;
        self.disk_changed(node, if is_read_only { "read-only" } else { "writable again" });
    }

    /// Has writes of a node's log take up to so much longer.
    pub(crate) fn slow_disk(&mut self, node: usize, by_ms: u64) {
        self.nodes[node].ills.slow_ms = by_ms;
        self.note(|| Line::Disk { node, what: if by_ms > 0 { "slow" } else { "as fast as ever" } });
    }

    fn disk_changed(&mut self, node: usize, what: &'static str) {
        self.note(|| Line::Disk { node, what });
        let Some(process) = &mut self.nodes[node].process else { return };
        process.engine.probe();
        self.start_commit(node);
    }

    /// Ends all that is wrong with a node's disk, but for what it lost.
    pub(crate) fn mend_disk(&mut self, node: usize) {
        if self.nodes[node].ills.is_full {
            self.fill_disk(node, false);
        }
        if self.nodes[node].ills.is_read_only {
            self.lock_disk(node, false);
        }
        self.nodes[node].ills.slow_ms = 0;
    }

    /// Has nodes whose disk refused the last batch ask it again, a second apart, as a shell does for ever.
    pub(crate) fn ask_disks(&mut self) {
        for _ in 0..DISK_ASKED {
            let mut all_work = true;
            for node in 0..self.nodes.len() {
                let Some(process) = &mut self.nodes[node].process else { continue };
                if process.engine.disk_error().is_some() {
                    all_work = false;
                    process.engine.probe();
                    self.start_commit(node);
                }
            }
            if all_work {
                return;
            }
            self.advance(1_000);
        }
    }

    /// Changes a byte of some row of a node's index.
    pub(crate) fn rot_row(&mut self, node: usize) -> bool {
        let table = *self.random.pick(&DATA);
        let Some(row) = self.some_row(node, table) else { return false };
        let mut length = 0;
        let index = &self.nodes[node].disk.index;
        let look = &mut |record: &[u8]| length = record.len() as u64;
        index.reader().get(table, &row, look).expect("simulated disks are read");
        let offset = self.random.below(length.max(1)) as usize;
        let is_done = self.nodes[node].disk.index.corrupt(table, &row, offset);
        self.rows_damaged(node, table, &row, is_done)
    }

    /// Whether rows of a node's index were damaged.
    pub(crate) fn has_rotten_rows(&self, node: usize) -> bool {
        self.nodes[node].ills.has_rotten_rows
    }

    /// Writes some row of a node's index over with another's bytes.
    pub(crate) fn misdirect_row(&mut self, node: usize) -> bool {
        let table = *self.random.pick(&DATA);
        let (Some(from), Some(to)) = (self.some_row(node, table), self.some_row(node, table))
        else {
            return false;
        };
        let is_done = from != to && self.nodes[node].disk.index.misdirect(table, &from, &to);
        self.rows_damaged(node, table, &to, is_done)
    }

    fn rows_damaged(&mut self, node: usize, table: Table, row: &[u8], is_done: bool) -> bool {
        if is_done {
            self.note_row(node, table, row);
            self.nodes[node].ills.has_rotten_rows = true;
        }
        is_done
    }

    fn some_row(&mut self, node: usize, table: Table) -> Option<Vec<u8>> {
        let mut rows = self.nodes[node].disk.index.keys(table);
        // With a damaged note, which is of no key, a node does not start: its operator has another take its places.
        rows.retain(|row| row_token(table, row).is_some());
        let at = self.random.below(rows.len() as u64) as usize;
        rows.get(at).cloned()
    }

    /// Changes a byte of the log of a node that is down.
    pub(crate) fn rot_log(&mut self, node: usize) -> bool {
        let files = self.nodes[node].disk.files.clone();
        let names = files.list().expect("simulated files are listed");
        if names.is_empty() {
            return false;
        }
        let name = self.random.pick(&names);
        let length = files.length(name).ok().flatten().unwrap_or(0);
        let is_done = files.corrupt(name, self.random.below(length) as usize);
        self.nodes[node].ills.is_rotten |= is_done;
        is_done
    }

    /// Changes a byte of the last record about a key in the log of a node that is down. Returns whether there was one
    /// that its index may lack.
    ///
    /// # Panics
    /// If the disk cannot be read.
    pub fn rot_last_record(&mut self, node: usize, key: &Key) -> bool {
        let last = self.last_records(node).remove(key);
        last.is_some_and(|(_, last)| self.rot_record(node, &last))
    }

    /// Whether logs go over much: of one that does, few bytes are of any consequence.
    pub(crate) fn has_long_logs(&self) -> bool {
        self.options.checkpoints < SimOptions::default().checkpoints
    }

    /// As [`rot_last_record`](Self::rot_last_record), of a key that nothing was done with for longer than with most.
    pub(crate) fn rot_some_last_record(&mut self, node: usize) -> bool {
        let mut records: Vec<(usize, Vec<u8>)> = self.last_records(node).into_values().collect();
        if records.is_empty() {
            return false;
        }
        records.sort_unstable();
        records.truncate(records.len().div_ceil(3));
        let (_, record) = self.random.pick(&records).clone();
        self.rot_record(node, &record)
    }

    /// The last record about each key in the log of a node that is down, of those that its index may lack, and its place
    /// among all.
    fn last_records(&self, node: usize) -> BTreeMap<Key, (usize, Vec<u8>)> {
        let shards = Shards::new(self.rings[0].partition_count(), SHARDS);
        let disk = &self.nodes[node].disk;
        let indexed = shard_positions(&disk.index.reader(), shards).expect("it can be read");
        let (mut last, mut place) = (BTreeMap::new(), 0);
        let visit = &mut |_, logged: Logged<'_>| {
            let Some(record) = logged.record() else { return };
            place += 1;
            if let Some(key) = show_record(record).key {
                last.insert(key, (place, record.to_vec()));
            }
        };
        Log::open(disk.files.clone(), node as u64, &indexed, visit).expect("it can be read");
        last
    }

    fn rot_record(&mut self, node: usize, record: &[u8]) -> bool {
        let Node { disk, ills, .. } = &mut self.nodes[node];
        for name in disk.files.list().expect("simulated files are listed") {
            let bytes = disk.files.read(&name, 0, usize::MAX).expect("a name it listed");
            if let Some(at) = bytes.windows(record.len()).rposition(|part| part == record) {
                ills.is_rotten |= disk.files.corrupt(&name, at);
            }
        }
        ills.is_rotten
    }

    /// Counts a fault of a disk that was just met.
    pub(super) fn met(&mut self, fault: Fault, node: usize) {
        self.strike(fault, &[node]);
    }
}
