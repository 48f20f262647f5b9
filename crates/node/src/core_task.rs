//! The task that owns a loop's core and engine and drives them: what happened goes in, what must
//! now be done is done, in order.
//!
//! A turn takes all the work that waits, so that frames, acknowledgements and the batch for the
//! disk leave together: the more there is to do, the less each thing costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use clock::NodeId;
use replication::{Core, Effect, Event, Now, RequestError};
use storage::{Answer, Command, Engine, StorageError, Ticket};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::calls::Calls;
use crate::commit::CommitJob;
use crate::gather::{Gatherings, concerns_all_loops};
use crate::links::{Link, Outgoing};
use crate::routing::Routes;
use crate::shard_reader::ShardReader;
use crate::time::NodeClock;
use crate::work::{CallGroup, LoopReport, MessageBatch, SingleCall, Urgent, Work};

/// Pieces of work taken in one turn. A guess: large enough to share a sync, small enough that the
/// loop's connections get theirs.
const TURN_MAX: usize = 256;

/// Rows of dead collections looked at in a turn.
const SWEEP_ROWS: usize = 64;

/// While dead rows are left, a quiet loop looks at some more after this long.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// While the disk refuses batches, it is asked again after this long.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// A loop's core and engine, and how they reach the rest of the node.
pub(crate) struct CoreTask {
    pub(crate) loop_index: usize,
    pub(crate) clock: NodeClock,
    pub(crate) core: Core,
    pub(crate) engine: Engine<ShardReader>,
    pub(crate) outgoing: Outgoing,
    pub(crate) links: Vec<Arc<Link>>,
    pub(crate) routes: Routes,
    pub(crate) commits: Sender<CommitJob>,
    pub(crate) work: mpsc::Receiver<Work>,
    pub(crate) urgent: mpsc::UnboundedReceiver<Urgent>,
    /// How long a request may have waited in the queue, in milliseconds.
    pub(crate) wait_max_ms: u64,
    /// How long a stop waits for what was accepted.
    pub(crate) stop_limit: Duration,
}

/// What a turn works with; empty between turns.
#[derive(Default)]
struct Scratch {
    effects: Vec<Effect>,
    queue: VecDeque<Effect>,
    answers: Vec<(Ticket, Answer)>,
}

/// A core task under way.
struct Running {
    task: CoreTask,
    calls: Calls,
    gatherings: Gatherings,
    scratch: Scratch,
    now: Now,
    sweeping: bool,
    /// When a disk that refuses batches is asked again.
    probe_at: Option<Instant>,
    /// Set once the loop is to end: when it does so at the latest.
    stopping: Option<Instant>,
}

impl CoreTask {
    /// Runs until [`Urgent::Stop`] and until what was accepted is finished, or the limit passed.
    pub(crate) async fn run(self) {
        let now = self.clock.now();
        let mut running = Running {
            task: self,
            calls: Calls::default(),
            gatherings: Gatherings::default(),
            scratch: Scratch::default(),
            now,
            sweeping: true,
            probe_at: None,
            stopping: None,
        };
        let (mut work, mut urgent) = (Vec::new(), Vec::new());
        while !running.is_done() {
            running.wait(&mut work, &mut urgent).await;
            running.turn(&mut work, &mut urgent);
        }
    }
}

impl Running {
    /// Waits until there is something to do, and takes it.
    async fn wait(&mut self, work: &mut Vec<Work>, urgent: &mut Vec<Urgent>) {
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
        [core, sweep, self.probe_at, self.stopping].into_iter().flatten().min()
    }

    fn turn(&mut self, work: &mut Vec<Work>, urgent: &mut Vec<Urgent>) {
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
        if self.sweeping {
            self.sweeping = self.task.engine.sweep(SWEEP_ROWS);
        }
        self.probe_disk();
        self.task.outgoing.flush();
        if let Some(batch) = self.task.engine.take_batch() {
            // Dead rows come from clearing, and clearing is a write.
            self.sweeping = true;
            let job = CommitJob { owner: self.task.loop_index, batch };
            // The commit thread outlives the loops: they hold the senders that keep it going.
            let sent = self.task.commits.send(job);
            assert!(sent.is_ok(), "the commit thread has died; nothing can be made durable");
        }
    }

    /// Asks a disk that refused a batch again, now and then, so that writes are taken as soon as
    /// there is room.
    fn probe_disk(&mut self) {
        if self.task.engine.disk_error().is_none() {
            self.probe_at = None;
            return;
        }
        let now = Instant::now();
        if *self.probe_at.get_or_insert(now + PROBE_PAUSE) <= now {
            self.task.engine.probe();
            self.probe_at = Some(now + PROBE_PAUSE);
        }
    }

    fn take_urgent(&mut self, event: Urgent) {
        match event {
            Urgent::Committed { batch, result } => {
                let mut answers = std::mem::take(&mut self.scratch.answers);
                self.task.engine.committed(batch, result, &mut answers);
                for (ticket, answer) in answers.drain(..) {
                    self.step(Event::Storage { ticket, answer });
                }
                self.scratch.answers = answers;
            }
            Urgent::Link { node, up: true } => self.step(Event::LinkUp(node)),
            Urgent::Link { node, up: false } => self.step(Event::LinkDown(node)),
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
            Urgent::Stop => {
                self.task.work.close();
                self.stopping.get_or_insert(Instant::now() + self.task.stop_limit);
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Group(group) => self.take_group(group),
            Work::Single(SingleCall { call, reply }) => {
                let id = self.calls.enter_single(reply);
                self.step(Event::Call { id, call });
            }
            Work::Messages(MessageBatch { from, messages, received_ms }) => {
                let waited = self.now.monotonic_ms.saturating_sub(received_ms);
                for message in messages {
                    let limit = u64::from(message.budget_ms);
                    if limit == 0 || waited < limit {
                        self.step(Event::Received { from, message });
                    }
                }
            }
            // Whoever asked may have left.
            Work::Report(reply) => drop(reply.send(self.report())),
        }
    }

    fn take_group(&mut self, CallGroup { requests, reply, queued_ms }: CallGroup) {
        if self.now.monotonic_ms.saturating_sub(queued_ms) > self.task.wait_max_ms {
            // The callers have given up or will have; to do it now would only make others wait.
            let results = vec![Err(RequestError::Overloaded); requests.len()];
            return drop(reply.send(results));
        }
        let first = self.calls.enter_group(requests.len(), reply);
        self.step(Event::Requests { first, requests });
    }

    /// One event into the core, and all that follows from it until nothing more does.
    fn step(&mut self, event: Event) {
        let Scratch { effects, queue, .. } = &mut self.scratch;
        let taken = match &event {
            Event::Call { .. } => Some("call"),
            Event::Requests { .. } => Some("requests"),
            Event::Received { message, .. } => Some(message.body.name()),
            _ => None,
        };
        self.task.core.step(self.now, event, effects);
        queue.extend(effects.drain(..));
        if let Some(taken) = taken {
            tracing::debug!(trace = format_args!("{:016x}", self.task.core.trace()), taken);
        }
        let mut answers = Vec::new();
        while let Some(effect) = self.scratch.queue.pop_front() {
            match effect {
                Effect::Send { to, message } => {
                    let sent = message.body.name();
                    tracing::debug!(trace = format_args!("{:016x}", message.trace), %to, sent);
                    if let Some(answer) =
                        self.task.outgoing.push(to, message, self.now.monotonic_ms)
                    {
                        let event = Event::Received { from: to, message: answer };
                        self.task.core.step(self.now, event, &mut self.scratch.effects);
                        self.scratch.queue.extend(self.scratch.effects.drain(..));
                    }
                }
                Effect::Storage { ticket, command }
                    if self.task.routes.loops().len() > 1 && concerns_all_loops(&command) =>
                {
                    self.ask_all(ticket, command);
                }
                Effect::Storage { ticket, command } => {
                    self.task.engine.execute(ticket, command, &mut answers);
                    for (ticket, answer) in answers.drain(..) {
                        let event = Event::Storage { ticket, answer };
                        self.task.core.step(self.now, event, &mut self.scratch.effects);
                        self.scratch.queue.extend(self.scratch.effects.drain(..));
                    }
                }
                Effect::Reply { id, reply } => self.calls.reply(id, reply),
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
            let settled = self.calls.is_empty()
                && self.task.engine.is_settled()
                && self.task.core.under_way() == 0
                && self.task.work.is_empty();
            settled || Instant::now() >= limit
        })
    }

    fn report(&self) -> LoopReport {
        let pending = |node: NodeId| self.task.engine.pending_for(node);
        let mut counters: Vec<(&'static str, u64)> = self.task.core.counters().named().into();
        counters.push(("damaged_records", self.task.engine.damaged_count()));
        LoopReport {
            live_keys: self.task.engine.live_keys(),
            pending: self.task.links.iter().map(|link| pending(link.member.node)).collect(),
            counters,
        }
    }
}
