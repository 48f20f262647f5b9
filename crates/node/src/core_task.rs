//! The task that owns a loop's core and engine and drives them: what happened goes in, what must
//! now be done is done, in order.
//!
//! A turn takes all the work that waits, so that frames, acknowledgements and the batch for the
//! disk leave together: the more there is to do, the less each thing costs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use clock::NodeId;
use replication::{BarrierStamp, BarrierTerms, Core, Effect, Event, Message, Now};
use ring::Ownership;
use storage::{Answer, Command, Engine, StorageError, Ticket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::calls::Calls;
use crate::checkpoint_thread::IndexJob;
use crate::feed::Feed;
use crate::gather::{Gatherings, concerns_all_loops};
use crate::health::Health;
use crate::links::LinkMap;
use crate::log_thread::LogJob;
use crate::members::Notice;
use crate::outgoing::Outgoing;
use crate::routing::Routes;
use crate::shard_reader::ShardReader;
use crate::time::NodeClock;
use crate::work::{Depth, LoopReport, Urgent, Work};

/// Pieces of work taken in one turn. A guess: large enough to share a sync, small enough that the
/// loop's connections get theirs.
const TURN_MAX: usize = 256;

/// Once so many effects are gathered, they are performed. With 16 it is hardly less that it saves, with 256 no more.
const STAGE_MAX: usize = 64;

/// How long a turn takes what waits, before it gives the loop's connections theirs: one stage goes
/// beyond it at most. A guess, a small part of the time between two pings.
const TURN_TIME: Duration = Duration::from_millis(50);

/// Rows of dead collections, and of those that became large, looked at in a turn.
const SWEEP_ROWS: usize = 64;

/// While such are left, a quiet loop looks at some more after this long.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// A loop's core and engine, and how they reach the rest of the node.
pub(crate) struct CoreTask {
    pub(crate) loop_index: usize,
    pub(crate) clock: NodeClock,
    pub(crate) core: Core,
    pub(crate) engine: Engine<ShardReader>,
    pub(crate) outgoing: Outgoing,
    pub(crate) links: Arc<LinkMap>,
    /// All members that were ever heard of.
    pub(crate) names: Arc<BTreeMap<NodeId, String>>,
    pub(crate) routes: Routes,
    pub(crate) log: Sender<LogJob>,
    pub(crate) index: Sender<IndexJob>,
    /// Once rows of so many bytes are in memory, a checkpoint is made.
    pub(crate) checkpoint_bytes: usize,
    pub(crate) work: mpsc::Receiver<Work>,
    pub(crate) urgent: mpsc::UnboundedReceiver<Urgent>,
    /// Membership is told here of members whose requests time out.
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Told whether the disk takes what the loop writes.
    pub(crate) health: Arc<Health>,
    /// Told who owns partitions; by the first loop.
    pub(crate) ownership: Arc<watch::Sender<Arc<Ownership>>>,
    /// Places of the log that the start found damaged, told by one loop.
    pub(crate) log_damage: u64,
    /// How long a request may have waited in the queue, in milliseconds.
    pub(crate) wait_max_ms: u64,
    /// How long a stop waits for what was accepted.
    pub(crate) stop_limit: Duration,
}

pub(crate) use barrier::BarrierAsk;
use checkpoints::{Checkpoints, Last};

/// What a turn works with; empty between turns.
#[derive(Default)]
struct Scratch {
    /// To be performed next.
    effects: Vec<Effect>,
    /// Being performed.
    stage: Vec<Effect>,
    /// To what is being performed.
    answers: Vec<(Ticket, Answer)>,
    /// To what a batch made durable.
    committed: Vec<(Ticket, Answer)>,
}

/// A message that was taken and not dealt with.
struct Waiting {
    from: NodeId,
    message: Message,
    /// Until when it is of use (monotonic milliseconds).
    useful_ms: u64,
    barrier: BarrierStamp,
}

/// A core task under way.
struct Running {
    task: CoreTask,
    calls: Calls,
    gatherings: Gatherings,
    scratch: Scratch,
    /// Messages taken and not dealt with.
    messages: VecDeque<Waiting>,
    /// Groups taken and not begun to the last request.
    feeds: Vec<Feed>,
    /// Whether time was up before all was done that could be.
    is_pressed: bool,
    now: Now,
    sweeping: bool,
    checkpoints: Checkpoints,
    /// When a disk that refuses batches is asked again.
    probe_at: Option<Instant>,
    /// Why the disk refuses writes or checkpoints, as it was told last.
    trouble: Option<StorageError>,
    /// Who owns partitions, as it was told last.
    told: Arc<Ownership>,
    /// When some of the hash trees are counted anew.
    recount_at: Instant,
    /// When what is due is removed.
    expire_at: Instant,
    /// Who waits for the barrier's command.
    barrier_reply: Option<oneshot::Sender<Answer>>,
    /// What is asked of messages, which all may have come further since one was taken.
    terms: Arc<BarrierTerms>,
    /// Set once the loop is to end: when it does so at the latest.
    stopping: Option<Instant>,
}

impl CoreTask {
    /// Runs until [`Urgent::Stop`] and until what was accepted is finished, or the limit passed.
    pub(crate) async fn run(self) {
        let mut running = Running::new(self);
        let (mut work, mut urgent) = (Vec::new(), Vec::new());
        while !running.is_done() {
            running.wait(&mut work, &mut urgent).await;
            running.turn(&mut work, &mut urgent, TURN_TIME);
            if running.is_pressed || !running.task.work.is_empty() {
                // The next turn begins at once: the loop's connections come first.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Running {
    fn new(task: CoreTask) -> Self {
        let now = task.clock.now();
        Self {
            told: Arc::clone(task.core.ownership()),
            task,
            calls: Calls::default(),
            gatherings: Gatherings::default(),
            scratch: Scratch::default(),
            messages: VecDeque::new(),
            feeds: Vec::new(),
            is_pressed: false,
            now,
            sweeping: true,
            checkpoints: Checkpoints::default(),
            probe_at: None,
            trouble: None,
            recount_at: Instant::now() + upkeep::RECOUNT_PAUSE,
            expire_at: Instant::now() + upkeep::EXPIRE_PAUSE,
            barrier_reply: None,
            terms: Arc::default(),
            stopping: None,
        }
    }

    /// Waits until there is something to do, and takes it.
    async fn wait(&mut self, work: &mut Vec<Work>, urgent: &mut Vec<Urgent>) {
        if self.is_pressed {
            while urgent.len() < TURN_MAX
                && let Ok(more) = self.task.urgent.try_recv()
            {
                urgent.push(more);
            }
            return;
        }
        let deadline = self.deadline();
        let accepting = !(self.task.work.is_closed() && self.task.work.is_empty());
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.task.urgent.recv_many(urgent, TURN_MAX) => {
                while work.len() < TURN_MAX && let Ok(more) = self.task.work.try_recv() {
                    work.push(more);
                }
            }
            _ = self.task.work.recv_many(work, TURN_MAX), if accepting => (),
            () = timer => (),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let core = self.task.core.next_timeout().map(|ms| self.task.clock.instant(ms));
        let sweep = self.sweeping.then(|| Instant::now() + SWEEP_PAUSE);
        let background = Some(self.recount_at.min(self.expire_at));
        [core, sweep, background, self.probe_at, self.checkpoints.retry_at, self.stopping]
            .into_iter()
            .flatten()
            .min()
    }

    fn turn(&mut self, work: &mut Vec<Work>, urgent: &mut Vec<Urgent>, time: Duration) {
        let end = Instant::now() + time;
        self.now = self.task.clock.now();
        for event in urgent.drain(..) {
            self.take_urgent(event);
        }
        for work in work.drain(..) {
            self.take(work);
        }
        if self.task.core.next_timeout().is_some_and(|due| due <= self.now.monotonic_ms) {
            self.step(Event::Tick);
        }
        self.is_pressed = !self.read(end) || !self.feed(end);
        if self.sweeping {
            let is_swept = !self.task.engine.sweep(SWEEP_ROWS);
            let is_counted = !self.task.engine.count_chunks(SWEEP_ROWS);
            self.sweeping = !(is_swept && is_counted);
        }
        self.recount_trees();
        self.expire();
        self.probe_disk();
        self.watch_disk();
        self.tell_ownership();
        self.task.outgoing.flush();
        if let Some(batch) = self.task.engine.take_batch() {
            // Dead rows come from clearing, large collections from adding: both are writes.
            self.sweeping = true;
            self.log(LogJob::Batch { owner: self.task.loop_index, batch });
        }
        self.checkpoint();
    }

    fn log(&self, job: LogJob) {
        // The log thread outlives the loops: they hold the senders that keep it going.
        let sent = self.task.log.send(job);
        assert!(sent.is_ok(), "the log thread has died; nothing can be made durable");
    }

    /// Tells the node's other tasks who owns partitions, once that changed.
    fn tell_ownership(&mut self) {
        let ownership = self.task.core.ownership();
        if self.task.loop_index == 0 && !Arc::ptr_eq(ownership, &self.told) {
            self.told = Arc::clone(ownership);
            self.task.ownership.send_replace(Arc::clone(ownership));
        }
    }

    fn take_urgent(&mut self, event: Urgent) {
        match event {
            Urgent::Committed { batch, result } => {
                let mut answers = std::mem::take(&mut self.scratch.committed);
                self.task.engine.committed(batch, result, &mut answers);
                for (ticket, answer) in answers.drain(..) {
                    self.stored(ticket, answer);
                }
                self.scratch.committed = answers;
                self.perform();
            }
            Urgent::LogFailed { error } => self.task.engine.log_failed(&error),
            Urgent::Checkpoint { logged } => self.checkpoints.asked = Some(logged),
            Urgent::Checkpointed { result } => self.checkpointed(result),
            Urgent::Link { node, up: true } => self.step(Event::LinkUp(node)),
            Urgent::Link { node, up: false } => self.step(Event::LinkDown(node)),
            Urgent::Members { links, names } => {
                self.task.outgoing.set_links(&links);
                self.task.links = links;
                self.step(Event::Names(names.as_ref().clone()));
                self.task.names = names;
            }
            Urgent::Suspected { node, suspected } => {
                self.step(Event::Suspected { node, suspected })
            }
            Urgent::Ring(ring) => {
                self.step(Event::Ring(ring.as_ref().clone()));
            }
            Urgent::Incarnation(incarnation) => {
                self.task.outgoing.header_mut().incarnation = incarnation;
            }
            Urgent::Buckets(buckets) => {
                self.task.engine.set_tree_classes(buckets.tree_classes());
                self.step(Event::Buckets(buckets));
            }
            Urgent::Ownership(ownership) => self.step(Event::Ownership(ownership)),
            Urgent::Tenures { tenures, of } => self.step(Event::Tenures { tenures, of }),
            Urgent::Ask { asker, ticket, command } => {
                let mut answers = Vec::new();
                self.task.engine.execute(ticket, command, &mut answers);
                for (ticket, answer) in answers {
                    // A loop that is gone does not wait any more.
                    let _ =
                        self.task.routes.handle(asker).urgent.send(Urgent::Told { ticket, answer });
                }
            }
            Urgent::Told { ticket, answer } => {
                if let Some(answer) = self.gatherings.add(ticket, answer) {
                    self.step(Event::Storage { ticket, answer });
                }
            }
            Urgent::Barrier(ask) => self.take_barrier(ask),
            Urgent::Drain => self.step(Event::Drain),
            Urgent::Stop => {
                self.task.work.close();
                self.stopping.get_or_insert(Instant::now() + self.task.stop_limit);
            }
        }
    }

    /// One event into the core, and all that follows from it until nothing more does.
    fn step(&mut self, event: Event) {
        self.step_measured(event);
    }

    /// As [`Self::step`]. Returns the length of the longest thing that was read on the way.
    fn step_measured(&mut self, event: Event) -> usize {
        self.enter(event);
        self.perform()
    }

    /// One event into the core, as one of several, after the last of which [`Self::perform`] is called. What follows from
    /// them is done stage by stage, first all that the core does, then all that the engine does: its code and what it
    /// looks at stay in the processor's caches, and a pipelined write at n=3 costs a tenth less.
    fn step_staged(&mut self, event: Event) {
        self.enter(event);
        if self.scratch.effects.len() >= STAGE_MAX {
            self.perform();
        }
    }

    fn enter(&mut self, event: Event) {
        let taken = match &event {
            Event::Call { .. } => Some("call"),
            Event::Request { .. } => Some("request"),
            Event::Received { message, .. } => Some(message.body.name()),
            _ => None,
        };
        self.task.core.step(self.now, event, &mut self.scratch.effects);
        if let Some(taken) = taken {
            tracing::debug!(trace = format_args!("{:016x}", self.task.core.trace()), taken);
        }
    }

    /// Does what is to be done, and all that follows from it. Returns the length of the longest thing
    /// that was read.
    fn perform(&mut self) -> usize {
        let mut longest = 0;
        let mut answers = std::mem::take(&mut self.scratch.answers);
        while !self.scratch.effects.is_empty() {
            let next = std::mem::take(&mut self.scratch.stage);
            let mut effects = std::mem::replace(&mut self.scratch.effects, next);
            for effect in effects.drain(..) {
                self.perform_one(effect, &mut answers);
            }
            self.scratch.stage = effects;
            for (ticket, answer) in answers.drain(..) {
                if let Answer::View(view) = &answer {
                    longest = longest.max(view.weight());
                }
                let event = Event::Storage { ticket, answer };
                self.task.core.step(self.now, event, &mut self.scratch.effects);
            }
        }
        self.scratch.answers = answers;
        longest
    }

    fn perform_one(&mut self, effect: Effect, answers: &mut Vec<(Ticket, Answer)>) {
        match effect {
            Effect::Send { to, message } => {
                let sent = message.body.name();
                tracing::debug!(trace = format_args!("{:016x}", message.trace), %to, sent);
                if let Some(answer) = self.task.outgoing.push(to, message, self.now.monotonic_ms) {
                    let event = Event::Received { from: to, message: answer };
                    self.task.core.step(self.now, event, &mut self.scratch.effects);
                }
            }
            Effect::Storage { ticket, command }
                if self.task.routes.loops().len() > 1 && concerns_all_loops(&command) =>
            {
                self.ask_all(ticket, command);
            }
            Effect::Storage { ticket, command } => {
                self.task.engine.execute(ticket, command, answers);
            }
            Effect::Buckets(buckets) => {
                self.task.engine.set_tree_classes(buckets.tree_classes());
                self.tell_others(|| Urgent::Buckets(Arc::clone(&buckets)));
            }
            Effect::Ownership(ownership) => {
                self.tell_others(|| Urgent::Ownership(Arc::clone(&ownership)));
            }
            Effect::Tenures { tenures, of } => {
                let first = self.task.routes.handle(0);
                // A loop that is gone needs no telling.
                let _ = first.urgent.send(Urgent::Tenures { tenures, of });
            }
            Effect::Superseded { lost, again } => match again {
                Ok(plan) => {
                    tracing::warn!(%lost, %plan, "another plan was committed at the same \
                        time and won; this one was computed again on it")
                }
                Err(error) => {
                    tracing::error!(%lost, error, "another plan was committed at the \
                        same time and won, and this one cannot follow it: commit again")
                }
            },
            Effect::ManySiblings { key, many } => {
                let (bucket, key) = (key.bucket().escape_ascii(), shortened(key.key()));
                tracing::warn!(%bucket, %key, "{many}");
            }
            // Where too much waits for membership, it has evidence enough.
            Effect::TimedOut(node) => drop(self.task.notices.try_send(Notice::TimedOut(node))),
            Effect::Reply { id, reply } => self.calls.reply(id, reply),
        }
    }

    /// Tells the other loops how things stand now.
    fn tell_others(&self, urgent: impl Fn() -> Urgent) {
        for (index, handle) in self.task.routes.loops().iter().enumerate() {
            if index != self.task.loop_index {
                // A loop that is gone needs no telling.
                let _ = handle.urgent.send(urgent());
            }
        }
    }

    /// Asks every loop, this one included, for its part of a listing or count.
    fn ask_all(&mut self, ticket: Ticket, command: Command) {
        let loops = self.task.routes.loops();
        self.gatherings.begin(ticket, &command, loops.len());
        let asker = self.task.loop_index;
        for handle in loops {
            let ask = Urgent::Ask { asker, ticket, command: command.clone() };
            if handle.urgent.send(ask).is_err() {
                // Loops end together; this one is about to.
                let error = StorageError::Io("the node is stopping".into());
                let told = Urgent::Told { ticket, answer: Answer::Failed(error) };
                let _ = loops[asker].urgent.send(told);
            }
        }
    }

    /// Whether the loop may end: it is to, and either all is done or time is up.
    fn is_done(&self) -> bool {
        self.stopping.is_some_and(|limit| {
            (self.is_idle() && self.checkpoints.last == Last::Made) || Instant::now() >= limit
        })
    }

    /// Whether everything that was accepted is done and in the log.
    fn is_idle(&self) -> bool {
        self.calls.is_empty()
            && self.task.engine.is_settled()
            && self.task.core.under_way() == 0
            && self.messages.is_empty()
            && self.task.work.is_empty()
    }

    fn report(&self, depth: Depth) -> LoopReport {
        let is_whole = depth >= Depth::Whole;
        let pending = |node: NodeId| self.task.engine.pending_for(node);
        let mut counters: Vec<(&'static str, u64)> = self.task.core.counters().named().into();
        counters.push(("damaged_records", self.task.engine.damaged_count()));
        counters.push(("damaged_log_places", self.task.log_damage));
        LoopReport {
            live_keys: self.task.engine.live_keys(),
            conflicts: if is_whole { self.task.engine.conflicts() } else { Default::default() },
            most_siblings: if is_whole { self.task.engine.most_siblings() } else { 0 },
            // Also what is kept for one that is gone: it is to be kept for others.
            pending: self.task.names.keys().map(|&node| (node, pending(node))).collect(),
            pending_bytes: self
                .task
                .names
                .keys()
                .map(|&node| (node, self.task.engine.pending_bytes_for(node)))
                .collect(),
            compared: if is_whole { self.task.core.compared(self.now) } else { Default::default() },
            counters,
            parts: self.task.core.parts(),
            changed_bytes: self.task.engine.pending_bytes() as u64,
            flows: match depth {
                Depth::Flows => self.task.core.flows(self.now),
                _ => Vec::new(),
            },
            // What is not swept becomes a remnant then.
            has_remnants: is_whole
                && (self.sweeping
                    || self.task.engine.oldest_remnant().is_ok_and(|oldest| oldest.is_some())),
            under_way: (self.calls.under_way() + self.task.core.under_way()) as u64,
            is_drain_known: self.task.core.is_drain_known(),
            is_ownership_known: self.task.core.is_ownership_known(),
        }
    }
}

mod barrier;
mod checkpoints;
mod intake;
mod upkeep;

/// The beginning of a key, for the log.
fn shortened(key: &[u8]) -> impl std::fmt::Display + '_ {
    key[..key.len().min(100)].escape_ascii()
}

#[cfg(test)]
mod tests;
