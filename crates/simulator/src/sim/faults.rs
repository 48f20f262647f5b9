//! What tests and fault injection do to a cluster: cut and mend ways, pause and resume, crash and
//! restart nodes, set clocks. What befalls disks is in `disks`.
//!
//! A crash loses everything on its way to or from the node, and of what its disk had not synced
//! any part, at any byte; a node that starts again has a new process id, as a real one would.

use membership::Versions;
use replication::{Event, RequestError};
use storage::{Files, IndexWrite, RowChange, SeamError};

use super::{Happening, Node, Sim};
use crate::trace::Line;
use crate::{DiskFaults, Fault, NetworkFaults};

/// Writes an index until its machine stops.
struct Stopping<W> {
    writer: W,
    /// Transactions before that.
    left: u64,
}

impl<W: IndexWrite> IndexWrite for Stopping<W> {
    fn commit(&mut self, changes: &[RowChange<'_>]) -> Result<(), SeamError> {
        self.left = self.left.checked_sub(1).ok_or(SeamError::Io("stopped".to_owned()))?;
        self.writer.commit(changes)
    }
}

impl Sim {
    /// Cuts both ways between two nodes.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_way(a, b);
        self.cut_way(b, a);
    }

    /// Cuts the way of messages from one node to another only.
    pub fn cut_way(&mut self, from: usize, to: usize) {
        self.network.cut_way(from, to);
        self.note(|| Line::Cut { from, to });
        self.links_changed(from, to);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
            self.cut(node, peer);
        }
    }

    /// Mends the way of messages from one node to another.
    pub(crate) fn mend_way(&mut self, from: usize, to: usize) {
        self.network.mend_way(from, to);
        self.note(|| Line::Mended { from, to });
        self.links_changed(from, to);
    }

    /// Holds up what is sent from one node to another for a time.
    pub(crate) fn clog(&mut self, from: usize, to: usize, for_ms: u64) {
        self.network.clog(from, to, self.now_ms + for_ms);
        self.note(|| Line::Clogged { from, to, for_ms });
    }

    /// Has messages to and from a node take up to so much longer.
    pub(crate) fn slow(&mut self, node: usize, by_ms: u64) {
        self.nodes[node].slow_ms = by_ms;
        self.note(|| Line::Slow { node, by_ms });
    }

    /// Mends all ways.
    pub fn heal(&mut self) {
        self.network.heal();
        self.note(|| Line::Healed);
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.links_changed(a, b);
            }
        }
    }

    /// Changes what the network does from now on.
    pub const fn set_network(&mut self, faults: NetworkFaults) {
        self.network.faults = faults;
    }

    /// Changes what the disks do from now on. A disk that refused its last batch is asked again, as
    /// a shell does now and then.
    pub fn set_disk(&mut self, faults: DiskFaults) {
        self.options.disk = faults;
        for node in 0..self.nodes.len() {
            if let Some(process) = &mut self.nodes[node].process {
                if process.log.failure().is_some() {
                    self.restart_process(node);
                    continue;
                }
                process.engine.probe();
                self.start_commit(node);
            }
        }
    }

    /// Ends a node's process and starts another at once, on the same machine: what was appended is
    /// there, synced or not.
    pub(super) fn restart_process(&mut self, node: usize) {
        self.end(node);
        self.nodes[node].disk.files.process_ended();
        self.restart(node);
    }

    /// Starts a node again, in a build that speaks `messages`. Returns what the one before spoke.
    pub(crate) fn upgrade(&mut self, node: usize, messages: Versions) -> Versions {
        self.kill(node);
        let before = std::mem::replace(&mut self.nodes[node].messages, messages);
        self.restart(node);
        before
    }

    /// What the newest build speaks that is anywhere.
    pub(crate) fn newest(&self) -> Versions {
        let all = self.nodes.iter().map(|node| node.messages);
        all.max_by_key(|messages| (messages.max, messages.min)).expect("there is a node")
    }

    /// Whether a node is to be upgraded.
    pub(crate) fn is_older(&self, node: usize) -> bool {
        self.nodes[node].messages != self.newest() && !self.is_gone(node)
    }

    /// Whether what is sent from one node to another does not arrive.
    pub(super) fn is_apart(&self, from: usize, to: usize) -> bool {
        let spoken = self.nodes[from].messages.common(self.nodes[to].messages);
        self.network.is_cut(from, to) || spoken.is_none()
    }

    /// Sets a node's wall clock forward or back.
    pub fn jump_clock(&mut self, node: usize, by_ms: i64) {
        self.note(|| Line::Jumped { node, by_ms });
        self.clocks_off_ms = self.clocks_off_ms();
        self.nodes[node].skew_ms = self.nodes[node].skew_ms.saturating_add(by_ms);
        self.clocks_off_ms = self.clocks_off_ms();
    }

    /// How far any clock has been from the right time at most, either way, in milliseconds: one is furthest off now, at
    /// the beginning, or when it jumped.
    pub(crate) fn clocks_off_ms(&self) -> u64 {
        let right_ms = super::events::WALL_START_MS + self.now_ms;
        let now = (0..self.nodes.len()).map(|node| self.wall_ms(node).abs_diff(right_ms));
        let first = self.nodes.iter().map(|node| node.skew_ms.unsigned_abs());
        now.chain(first).max().unwrap_or(0).max(self.clocks_off_ms)
    }

    /// Stops a node's process, as SIGSTOP does: what happens to it waits, its links stay up, and
    /// nobody is told.
    pub fn pause(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            self.nodes[node].paused.get_or_insert_default();
            self.note(|| Line::Paused { node });
        }
    }

    /// Lets a paused node go on, with all that happened to it meanwhile.
    pub fn resume(&mut self, node: usize) {
        let Some(waiting) = self.nodes[node].paused.take() else { return };
        self.note(|| Line::Resumed { node });
        for happening in waiting {
            self.happen(happening);
        }
    }

    /// Kills a node, and half the time its machine with it. What the log works on may have been
    /// appended, and some shards of a checkpoint under way may have been written. Its clients learn
    /// that the connection broke.
    pub fn crash(&mut self, node: usize) {
        if self.random.chance(500) {
            self.kill(node);
        } else {
            self.stop_machine(node);
        }
    }

    /// Kills a node's process: what it had appended is there.
    pub(crate) fn kill(&mut self, node: usize) {
        self.end(node);
        self.nodes[node].disk.files.process_ended();
    }

    /// Stops a node's machine: what was not synced may be lost, at whatever byte.
    pub(crate) fn stop_machine(&mut self, node: usize) {
        self.end(node);
        let before = self.log_bytes(node);
        let random = &mut self.random;
        self.nodes[node].disk.crash(&mut |bound| random.below(bound));
        if self.log_bytes(node) != before {
            self.strike(Fault::TornLog, &[node]);
        }
    }

    fn log_bytes(&self, node: usize) -> Vec<Option<u64>> {
        let files = &self.nodes[node].disk.files;
        let names = files.list().expect("simulated files are listed");
        names.iter().map(|name| files.length(name).expect("a name it listed")).collect()
    }

    /// Ends a node's process.
    pub(super) fn end(&mut self, node: usize) {
        let Some(mut process) = self.nodes[node].process.take() else { return };
        let life = self.nodes[node].life;
        self.nodes[node].life += 1;
        self.nodes[node].paused = None;
        self.note(|| Line::Down { node });
        let at_work: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, happening)| match happening {
                Happening::Committed { node: of, life: in_life, .. }
                | Happening::Checkpointed { node: of, life: in_life, .. } => {
                    *of == node && *in_life == life
                }
                _ => false,
            })
            .map(|(&at, _)| at)
            .collect();
        for at in at_work {
            match self.queue.remove(&at) {
                Some(Happening::Committed { mut batch, .. }) if self.random.chance(500) => {
                    // What a failing disk would have said, nobody is there to hear.
                    let _ = process.log.append(&mut batch.records);
                }
                Some(Happening::Checkpointed { checkpoint, .. }) => {
                    self.strikes.count(Fault::TornCheckpoint);
                    let index = self.nodes[node].disk.index.writer();
                    let mut writer = Stopping { writer: index, left: self.random.below(6) };
                    let _ = checkpoint.write(&mut writer, &mut || ());
                }
                _ => {}
            }
        }
        for id in process.calls {
            self.outcomes
                .entry(id)
                .or_insert_with(|| Err(RequestError::Disconnected("the node crashed".to_owned())));
        }
        for peer in 0..self.nodes.len() {
            self.links_changed(node, peer);
        }
    }

    /// Starts a node that crashed, with what its disk holds; one whose disk takes nothing does not
    /// start.
    pub fn restart(&mut self, node: usize) {
        let Node { process, is_gone, ills, .. } = &self.nodes[node];
        if process.is_none() && !is_gone && !ills.is_read_only {
            self.start(node);
            self.note(|| Line::Up { node });
            for peer in 0..self.nodes.len() {
                self.links_changed(node, peer);
            }
        }
    }

    pub(super) fn links_changed(&mut self, a: usize, b: usize) {
        let notice_ms = self.network.faults.notice_ms;
        for (node, peer) in [(a, b), (b, a)] {
            if node != peer {
                let at = self.now_ms + self.random.below(notice_ms + 1);
                self.enqueue(at, Happening::LinkNoticed { node, peer });
            }
        }
    }

    /// A connection broke; it is made again at once.
    pub(super) fn break_link(&mut self, node: usize, peer: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let id = self.nodes[peer].id;
        if process.core.is_in_reach(id) {
            self.step(node, Event::LinkDown(id));
            self.enqueue(self.now_ms + 1, Happening::LinkNoticed { node, peer });
        }
    }

    pub(super) fn notice_link(&mut self, node: usize, peer: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        if node == peer {
            return;
        }
        let id = self.nodes[peer].id;
        let is_in_reach = process.core.is_in_reach(id);
        let is_linked = self.nodes[peer].process.is_some()
            && !self.is_apart(node, peer)
            && !self.is_apart(peer, node);
        if is_linked && !self.options.gossip {
            self.meets(node, peer);
        }
        let is_up = is_linked && self.admits(node, peer);
        if is_linked
            && self.may_meet(node, peer)
            && let Some(incarnation) = self.incarnation(peer)
        {
            self.tell_gossip(node, membership::Event::Met { node: id, incarnation });
        }
        // A connection does not outlive a process, however soon there is another.
        let life = self.nodes[peer].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        let is_same = process.met.get(&peer) == Some(&life);
        if is_up {
            process.met.insert(peer, life);
        }
        if is_in_reach && !(is_up && is_same) {
            self.step(node, Event::LinkDown(id));
        }
        if is_up && !(is_in_reach && is_same) {
            self.step(node, Event::LinkUp(id));
        }
    }
}
