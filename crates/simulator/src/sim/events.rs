//! What happens next: one queue, ordered by virtual time and then by the order of insertion, decides
//! everything.

use std::collections::VecDeque;

use clock::{decode, encode};
use replication::{Action, Call, Effect, Event, Message, Now, Reply, RequestError};
use storage::{Answer, Batch, Checkpoint, Command, Engine, SeamError, SimIndexReader, Ticket};
use values::{Delta, Key, Scope, View};

use super::{Happening, Node, Sim};
use crate::Fault;
use crate::ledger::Asked;
use crate::random::mix;
use crate::trace::Line;

/// Wall clock at the start of every simulation, in milliseconds since 1970: any late enough for
/// clocks to be set back.
pub(crate) const WALL_START_MS: u64 = 1_700_000_000_000;

/// A node whose log takes nothing any more is restarted after this long.
pub(super) const RESTART_MS: u64 = 500;

/// Rows of cleared collections that an engine looks at after each commit.
const SWEEP_ROWS: usize = 8;

impl Sim {
    pub(super) fn enqueue(&mut self, at_ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at_ms, self.queued), happening);
    }

    /// Lets the next thing happen if its time is at most `until_ms`.
    pub(super) fn happen_next(&mut self, until_ms: u64) -> bool {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let timeouts = self.nodes.iter().enumerate().filter_map(|(number, node)| {
            let running = node.process.as_ref().filter(|_| node.paused.is_none());
            Some((running?.core.next_timeout()?, number))
        });
        let timeout = timeouts.min();
        match (queued, timeout) {
            (queued, Some((at, node))) if queued.is_none_or(|queued| at < queued) => {
                if at > until_ms {
                    return false;
                }
                self.now_ms = self.now_ms.max(at);
                self.step(node, Event::Tick);
            }
            (Some(at), _) if at <= until_ms => {
                self.now_ms = self.now_ms.max(at);
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            }
            _ => return false,
        }
        true
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        if let Some(waiting) = &mut self.nodes[happening.node()].paused {
            return waiting.push(happening);
        }
        match happening {
            Happening::Arrival { from, from_life, incarnation, to, to_life, message, stamp } => {
                let is_current = self.nodes[to].life == to_life && self.nodes[to].process.is_some();
                // A way that was cut meanwhile swallows what was on it.
                let is_hint = matches!(message.body, replication::Body::Hint { .. });
                let arrives = is_current
                    && !self.is_apart(from, to)
                    && self.is_heard(to, (from, from_life), incarnation)
                    && self.takes(to, from, stamp, is_hint);
                self.note(|| Line::Arrived { from, to, message: message.clone(), arrives });
                if arrives {
                    self.watch_rings(from, to);
                    let from = self.nodes[from].id;
                    self.tell_gossip(to, membership::Event::Heard(from));
                    self.step(to, Event::Received { from, message: *message });
                }
            }
            Happening::Committed { node, life, batch } if self.nodes[node].life == life => {
                self.committed(node, batch);
            }
            Happening::Checkpointed { node, life, checkpoint } if self.nodes[node].life == life => {
                self.checkpointed(node, &checkpoint);
            }
            Happening::Restarted { node, life } if self.nodes[node].life == life => {
                self.restart_process(node);
            }
            Happening::Called { node, life, event } if self.nodes[node].life == life => {
                self.step(node, *event);
            }
            Happening::Told { from, to, to_life, ring, table } => {
                // Gossip brings it, from members that are known.
                let sender = self.nodes[from].id;
                let is_known = self.gossip(to).is_none_or(|it| it.table().get(sender).is_some());
                let is_member = is_known && self.ring_of(to) == ring && !self.is_searching(to);
                if self.nodes[to].life == to_life && is_member && !self.is_apart(from, to) {
                    self.hear_barrier(to, &table);
                }
            }
            Happening::Barrier { node, life } if self.nodes[node].life == life => {
                self.tick_barrier(node);
            }
            Happening::Gossiped { from, from_life, to, to_life, message } => {
                let is_current =
                    self.nodes[from].life == from_life && self.nodes[to].life == to_life;
                if is_current && !self.is_apart(from, to) {
                    self.trace(16, from as u64, to as u64);
                    let from = self.nodes[from].id;
                    self.tell_gossip(to, membership::Event::Received { from, message: *message });
                }
            }
            Happening::Gossip { node, life } if self.nodes[node].life == life => {
                self.tick_gossip(node);
            }
            Happening::Gossip { .. }
            | Happening::Barrier { .. }
            | Happening::Committed { .. }
            | Happening::Checkpointed { .. }
            | Happening::Restarted { .. }
            | Happening::Called { .. } => {}
            Happening::LinkNoticed { node, peer } => self.notice_link(node, peer),
            Happening::LinkBroken { node, peer } => self.break_link(node, peer),
        }
    }

    fn committed(&mut self, node: usize, mut batch: Batch) {
        let disk = &self.nodes[node].disk;
        // A fault is met by the write that it is meant for, or does not come.
        let is_append = !batch.records.is_empty();
        if self.random.chance(self.options.disk.refused) && is_append {
            disk.fail_next(SeamError::Full);
            self.met(Fault::RefusedWrite, node);
        } else if self.random.chance(self.options.disk.misreported) && is_append && batch.sync {
            disk.files.fail_next_sync();
            self.met(Fault::FailedSync, node);
        }
        let life = self.nodes[node].life;
        let wall_ms = self.wall_ms(node);
        let Some(process) = &mut self.nodes[node].process else { return };
        let result = process.log.commit(&mut batch.records, batch.sync);
        process.committing = false;
        match result {
            Err(SeamError::Full) if self.nodes[node].ills.is_full => {
                self.met(Fault::FullDisk, node)
            }
            Err(SeamError::ReadOnly(_)) => self.met(Fault::ReadOnlyDisk, node),
            _ => {}
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.log.failure().is_some() {
            self.enqueue(self.now_ms + RESTART_MS, Happening::Restarted { node, life });
        }
        self.trace(3, node as u64, u64::from(result.is_ok()));
        let mut answers = Vec::new();
        if let Some(process) = &mut self.nodes[node].process {
            process.engine.committed(batch.id, result, &mut answers);
            process.engine.sweep(SWEEP_ROWS);
            process.engine.count_chunks(SWEEP_ROWS);
            process.engine.recount_trees(SWEEP_ROWS);
        }
        let keys = match &mut self.nodes[node].process {
            Some(process) => process.engine.due(wall_ms, SWEEP_ROWS),
            None => Vec::new(),
        };
        let mut events: Vec<Event> =
            answers.into_iter().map(|(ticket, answer)| Event::Storage { ticket, answer }).collect();
        if !keys.is_empty() {
            events.push(Event::Due { keys });
        }
        self.run(node, &mut events);
    }

    fn checkpointed(&mut self, node: usize, checkpoint: &Checkpoint) {
        let disk = &self.nodes[node].disk;
        if self.random.chance(self.options.disk.refused) {
            disk.index.fail_next(SeamError::Full);
            self.met(Fault::RefusedWrite, node);
        }
        let disk = &self.nodes[node].disk;
        let result = checkpoint.write(&mut disk.index.writer(), &mut || ());
        self.trace(10, node as u64, u64::from(result.is_ok()));
        if let Some(process) = &mut self.nodes[node].process {
            if result.is_ok() {
                // A segment that cannot be removed now goes with the next trim.
                let _ = process.log.trim(checkpoint.position());
            }
            process.engine.checkpointed(result);
        }
        self.start_commit(node);
    }

    /// What a node's wall clock shows.
    pub(super) fn wall_ms(&self, node: usize) -> u64 {
        let Node { skew_ms, drift_ppm, .. } = self.nodes[node];
        let drifted_ms = self.now_ms as i64 * drift_ppm / 1_000_000;
        (WALL_START_MS + self.now_ms).saturating_add_signed(skew_ms.saturating_add(drifted_ms))
    }

    pub(super) fn step(&mut self, node: usize, event: Event) {
        self.run(node, &mut vec![event]);
    }

    /// Performs what a core was asked to do outside its events.
    pub(super) fn run_effects(&mut self, node: usize, effects: Vec<Effect>) {
        let mut queue = VecDeque::new();
        for effect in effects {
            self.perform(node, effect, &mut queue);
        }
        self.run(node, &mut queue.into());
    }

    /// Gives a node events until it has done everything that follows at once.
    fn run(&mut self, node: usize, events: &mut Vec<Event>) {
        let mut queue: VecDeque<Event> = std::mem::take(events).into();
        let now = Now { monotonic_ms: self.now_ms, wall_ms: self.wall_ms(node) };
        let mut effects = Vec::new();
        while let Some(event) = queue.pop_front() {
            self.events += 1;
            self.trace_event(node, &event);
            if let Event::Storage { ticket: super::barrier::TICKET, answer } = &event {
                self.barrier_stored(node, answer);
                continue;
            }
            let Some(process) = &mut self.nodes[node].process else { return };
            process.core.step(now, event, &mut effects);
            self.watch_owners(node);
            for effect in std::mem::take(&mut effects) {
                self.perform(node, effect, &mut queue);
            }
        }
        self.watch_requests(node);
        self.start_commit(node);
    }

    fn perform(&mut self, node: usize, effect: Effect, queue: &mut VecDeque<Event>) {
        match effect {
            Effect::Send { to, message } => {
                let to = self.number_of(to);
                let (from_life, to_life) = (self.nodes[node].life, self.nodes[to].life);
                let incarnation = self.incarnation(node);
                let stamp = self.barrier_stamp(node, to);
                let slow_ms = self.nodes[node].slow_ms + self.nodes[to].slow_ms;
                for at_ms in self.network.arrivals(self.now_ms, (node, to), slow_ms) {
                    if self.network.garbles() {
                        self.garble(node, to, &message);
                        continue;
                    }
                    let message = Box::new(message.clone());
                    let from = node;
                    self.enqueue(
                        at_ms,
                        Happening::Arrival {
                            from,
                            from_life,
                            incarnation,
                            to,
                            to_life,
                            message,
                            stamp,
                        },
                    );
                }
                self.note(|| Line::Sent { from: node, to, message: Box::new(message) });
            }
            Effect::Storage { ticket, command } => self.store(node, ticket, command, queue),
            // There is one core, and it is the one that made them.
            Effect::Buckets(buckets) => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.engine.set_tree_classes(buckets.tree_classes());
                }
            }
            // The same.
            Effect::Ownership(_) | Effect::Tenures { .. } => {}
            Effect::Superseded { .. } => {}
            // For the administrator; the answer and the counters say so too.
            Effect::ManySiblings { .. } => {}
            Effect::TimedOut(silent) => {
                self.tell_gossip(node, membership::Event::TimedOut(silent));
            }
            Effect::Reply { id, reply } => {
                self.trace(2, id.0, u64::from(reply.is_ok()));
                if let Ok(Reply::Answer(answer)) = &reply {
                    self.trace_bytes(18, &encode(&answer.view.value));
                }
                if matches!(reply, Err(RequestError::Overloaded)) {
                    self.strikes.count(Fault::Flood);
                }
                self.note(|| Line::Replied { node, call: id, reply: format!("{reply:?}") });
                if let Some(process) = &mut self.nodes[node].process {
                    process.calls.retain(|&call| call != id);
                }
                let before = self.outcomes.insert(id, reply);
                assert!(before.is_none(), "call {id:?} was answered twice");
            }
        }
    }

    /// A message arrives damaged: whoever gets it runs its decoder on it, and the connection breaks.
    /// (What can be decoded all the same is no message that anybody sent: a checksum of the
    /// connection tells.)
    fn garble(&mut self, from: usize, to: usize, message: &Message) {
        let bytes = self.network.garbled(encode(message));
        let _ = decode::<Message>(&bytes);
        self.break_links(from, to);
    }

    pub(super) fn break_links(&mut self, from: usize, to: usize) {
        let at_ms = self.now_ms + 1;
        self.enqueue(at_ms, Happening::LinkBroken { node: to, peer: from });
        self.enqueue(at_ms, Happening::LinkBroken { node: from, peer: to });
    }

    fn store(
        &mut self,
        node: usize,
        ticket: Ticket,
        command: Command,
        queue: &mut VecDeque<Event>,
    ) {
        if let Command::Defer { key, .. } = &command
            && self.options.hints_lost > 0
            && self.random.chance(self.options.hints_lost)
        {
            self.met(Fault::LostHint, node);
            self.note_hint(node, key);
            return queue.push_back(Event::Storage { ticket, answer: Answer::Durable });
        }
        let (id, now_ms) = (self.nodes[node].id, self.now_ms);
        let Some(process) = &mut self.nodes[node].process else { return };
        let asked = match &command {
            Command::Update { key, operation, observed, shown, stamp, named, .. } => {
                let (key, operation) = (key.clone(), operation.clone());
                let (observed, shown) = (observed.clone(), shown.clone());
                let held = read_whole(&mut process.engine, &key);
                let (named, now_ms) = (*named, stamp.millis());
                held.map(|held| Asked { key, operation, named, observed, now_ms, shown, held })
            }
            _ => None,
        };
        let over_damage = match &command {
            Command::Update { key, .. } if asked.is_none() => Some(key.clone()),
            _ => None,
        };
        let deferred = match &command {
            Command::Defer { owner, .. } => {
                Some((*owner, process.engine.pending_bytes_for(*owner)))
            }
            _ => None,
        };
        let mut answers = Vec::new();
        let rows = process.engine.pending_bytes();
        process.engine.execute(ticket, command, &mut answers);
        self.watch_rows(node, rows, &answers);
        if let Some(key) = over_damage.filter(|_| prepared(&answers, ticket).is_some()) {
            self.ledger.give_up(&key);
        }
        if let Some(asked) = asked
            && let Some((delta, repeated)) = prepared(&answers, ticket)
        {
            self.ledger.prepared(id, now_ms, asked, delta, repeated);
            self.watch_names();
        }
        if let Some((owner, before)) = deferred {
            self.watch_hints(node, owner, before, &answers);
        }
        for (ticket, answer) in answers {
            queue.push_back(Event::Storage { ticket, answer });
        }
    }

    pub(super) fn start_commit(&mut self, node: usize) {
        let (life, disk) = (self.nodes[node].life, self.options.disk);
        let Some(process) = &mut self.nodes[node].process else { return };
        if !process.committing
            && let Some(batch) = process.engine.take_batch()
        {
            process.committing = true;
            self.trace_bytes(17, &batch.records);
            let Some(process) = &mut self.nodes[node].process else { return };
            if self.random.chance(self.options.checkpoints) {
                process.engine.freeze(0);
            }
            let mut takes_ms = self.random.between(disk.commit_min_ms, disk.commit_max_ms);
            let slow_ms = self.nodes[node].ills.slow_ms;
            if slow_ms > 0 {
                takes_ms += self.random.below(slow_ms);
                self.strikes.count(Fault::SlowSync);
            }
            self.enqueue(self.now_ms + takes_ms, Happening::Committed { node, life, batch });
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.engine.unfrozen_bytes() > self.options.pending_bytes_max / 4 {
            process.engine.freeze(0);
        }
        if let Some(checkpoint) = process.engine.take_checkpoint() {
            let takes_ms = self.random.between(disk.commit_min_ms, 4 * disk.commit_max_ms);
            self.enqueue(
                self.now_ms + takes_ms,
                Happening::Checkpointed { node, life, checkpoint: Box::new(checkpoint) },
            );
        }
    }

    fn trace_event(&mut self, node: usize, event: &Event) {
        match event {
            Event::Received { from, message } => {
                let name =
                    message.body.name().bytes().fold(0_u64, |all, byte| {
                        all.wrapping_mul(31).wrapping_add(u64::from(byte))
                    });
                self.trace(1, message.id.number ^ name, from.0 ^ message.time.0 ^ node as u64);
            }
            Event::Call { id, call } => {
                let is_read = matches!(call, Call::Request(request) if matches!(request.action, Action::Get(_)));
                self.trace(4, id.0, u64::from(is_read));
            }
            Event::Request { id, after, .. } => {
                self.trace(9, id.0, after.map_or(0, |after| after.0));
            }
            Event::Drain => self.trace(15, node as u64, 0),
            Event::Due { keys } => self.trace(14, keys.len() as u64, node as u64),
            Event::Storage { ticket, .. } => self.trace(5, ticket.0, node as u64),
            Event::Buckets(_) => self.trace(10, node as u64, 0),
            Event::Ownership(_) | Event::Tenures { .. } => self.trace(11, node as u64, 0),
            Event::LinkUp(peer) => self.trace(6, peer.0, node as u64),
            Event::LinkDown(peer) => self.trace(7, peer.0, node as u64),
            Event::Tick => self.trace(8, node as u64, 0),
            Event::Ring(ring) => self.trace(11, node as u64, ring.members().len() as u64),
            Event::Names(names) => self.trace(12, node as u64, names.len() as u64),
            Event::Suspected { node: peer, suspected } => {
                self.trace(13, peer.0 ^ node as u64, u64::from(*suspected));
            }
        }
    }

    /// What was recorded, or answered.
    fn trace_bytes(&mut self, kind: u64, bytes: &[u8]) {
        let fold = |all: u64, word: &[u8]| {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            mix(all ^ u64::from_le_bytes(padded))
        };
        self.trace(kind, bytes.len() as u64, bytes.chunks(8).fold(0, fold));
    }

    const fn trace(&mut self, kind: u64, a: u64, b: u64) {
        let folded = mix(self.trace ^ self.now_ms).wrapping_add(mix(a ^ (kind << 56)));
        self.trace = mix(folded ^ b.rotate_left(17));
    }
}

/// What a replica holds of a key; `None` if its disk cannot be read.
pub(super) fn read_whole(engine: &mut Engine<SimIndexReader>, key: &Key) -> Option<View> {
    let mut answers = Vec::new();
    let command = Command::Read { key: key.clone(), scope: Scope::Whole };
    engine.execute(Ticket(u64::MAX), command, &mut answers);
    match answers.pop() {
        Some((_, Answer::View(view))) => Some(view),
        _ => None,
    }
}

fn prepared(answers: &[(Ticket, Answer)], of: Ticket) -> Option<(&Delta, bool)> {
    answers.iter().find_map(|(ticket, answer)| match answer {
        Answer::Prepared { delta, repeated, .. } if *ticket == of => Some((delta, *repeated)),
        _ => None,
    })
}
