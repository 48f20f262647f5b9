//! The thread that owns a node's gossip: what other tasks notice goes in, and what comes out is done in
//! its order.
//!
//! A thread of its own, so that neither a busy loop nor the sync of the snapshot makes a heartbeat late or
//! holds up requests. Invariant: nothing is sent or told that rests on a snapshot that is not on disk; while
//! the disk does not take it, this node is silent. It listens all the same: others that start again are
//! admitted, who asks is answered, and this node stops serving where it must.

mod keeping;
mod log;
mod orders;
mod ownership;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use clock::NodeId;
use keeping::Keeper;
use membership::{Command, Destination, Effect, Event, Gossip, Liveness, Message};
use replication::{BarrierHand, RequestError};
use ring::Ring;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::sleep_until;
use wire::{PeerFrame, append_peer_frame};

use crate::identity::random_u64;
use crate::links::Chunk;
use crate::members::{Notice, Route};
use crate::membership_start::Prepared;
use crate::seeds::Seeds;
use crate::shared::Shared;
use crate::threads::{self, Vital, run_local};
use crate::work::Urgent;
use crate::{barrier_rounds, barrier_view, observer, ring_value};

/// Why a node that is older than the barrier does not serve.
const OUTDATED: &str = "what this node holds is older than what its cluster has forgotten: it is set aside at the \
    node's next start, and the others bring what they have";
/// Most nodes whose last connection is remembered. A guess, above the members that there can be.
const ROUTES_MAX: usize = 16_384;

/// Starts the thread; it ends when the node's connections are to end.
pub(crate) fn start(
    shared: Arc<Shared>,
    prepared: Prepared,
    notices: mpsc::Receiver<Notice>,
    hand: BarrierHand,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let name = format!("{}-gossip", shared.config.name);
    let vital = Vital::new(name.clone());
    threads::spawn(name, move || {
        let mut task = MembershipTask::new(shared, &prepared);
        let local = LocalSet::new();
        let shared = Arc::clone(&task.shared);
        local.spawn_local(async move {
            let _vital = vital;
            barrier_rounds::run(shared, hand).await;
        });
        local.spawn_local(observer::run(Arc::clone(&task.shared)));
        run_local(runtime, local, task.run(prepared, notices));
    })
}

struct MembershipTask {
    shared: Arc<Shared>,
    ring: Option<Arc<Ring>>,
    /// The connection by which a node last spoke.
    routes: BTreeMap<NodeId, Route>,
    seeds: Seeds,
    /// What was wrong with a seed when it was last tried.
    seed_errors: BTreeMap<String, String>,
    /// Why this process is no member any more.
    ended: Option<String>,
    /// Whether links and view may be other than membership has it.
    is_stale: bool,
    /// Values that changed, of which nobody is told before the snapshot is on disk.
    unsaid: BTreeMap<String, Bytes>,
    /// Who gave orders that were obeyed, and is told so once the snapshot is on disk.
    unanswered: Vec<oneshot::Sender<Result<(), RequestError>>>,
}

impl MembershipTask {
    fn new(shared: Arc<Shared>, prepared: &Prepared) -> Self {
        Self {
            shared,
            ring: prepared.ring.clone(),
            routes: BTreeMap::new(),
            seeds: Seeds::default(),
            seed_errors: BTreeMap::new(),
            ended: None,
            is_stale: true,
            unsaid: BTreeMap::new(),
            unanswered: Vec::new(),
        }
    }

    async fn run(&mut self, prepared: Prepared, mut notices: mpsc::Receiver<Notice>) {
        let shared = Arc::clone(&self.shared);
        let mut work = Work { gossip: prepared.gossip, keeper: Keeper::new(prepared.dir) };
        let closed = shared.closed();
        tokio::pin!(closed);
        self.perform(&mut work, prepared.effects, None);
        loop {
            let due = shared.clock.instant(work.gossip.next_tick_ms());
            let now_ms = || shared.clock.monotonic_ms();
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = sleep_until(due) => {
                    let mut effects = Vec::new();
                    let random = random_u64();
                    work.gossip.step(now_ms(), Event::Tick { random }, &mut effects);
                    self.follow_ownership(&mut work);
                    self.perform(&mut work, effects, None);
                }
                () = work.keeper.is_due() => {
                    work.keeper.write();
                    self.catch_up(&work);
                }
                // `shared` has a sender.
                Some(notice) = notices.recv() => self.take(&mut work, notice),
            }
        }
    }

    fn take(&mut self, work: &mut Work, notice: Notice) {
        let now_ms = self.shared.clock.monotonic_ms();
        let mut effects = Vec::new();
        let mut answer_to = None;
        let mut done = None;
        match notice {
            Notice::Received { from, message, route } => {
                self.remember(from, &route);
                answer_to = Some((from, route));
                let event = Event::Received { from, message: *message };
                work.gossip.step(now_ms, event, &mut effects);
            }
            Notice::Met { node, incarnation, route } => {
                self.remember(node, &route);
                answer_to = Some((node, route));
                work.gossip.step(now_ms, Event::Met { node, incarnation }, &mut effects);
            }
            Notice::Heard(node) => work.gossip.step(now_ms, Event::Heard(node), &mut effects),
            Notice::TimedOut(node) => work.gossip.step(now_ms, Event::TimedOut(node), &mut effects),
            Notice::Seed { address, error } => self.tried_seed(address, error),
            Notice::Order { call, reply } => {
                let result = self.order(work, now_ms, &call, &mut effects);
                done = Some((reply, result));
            }
            Notice::Emptied => self.leave(work),
            Notice::Busy(load) => {
                // One that is no member any more has no load to tell of.
                let _ = work.gossip.command(now_ms, Command::Busy(load), &mut effects);
            }
            Notice::Barrier(bytes) => {
                let name = barrier_view::NAME.to_owned();
                let published =
                    work.gossip.command(now_ms, Command::Publish { name, bytes }, &mut effects);
                if let Err(error) = published {
                    tracing::error!(%error, "how far this node is with the barrier cannot be told");
                }
            }
            Notice::Outdated => self.end_as(OUTDATED.into()),
            Notice::Opened => self.is_stale = true,
            // Whoever asked may have left.
            Notice::Report(reply) => drop(reply.send(self.report(work, now_ms))),
        }
        self.perform(work, effects, answer_to);
        match done {
            // An order is acknowledged once it is durable.
            Some((reply, Ok(()))) if work.keeper.is_behind() => {
                self.unanswered.retain(|reply| !reply.is_closed());
                self.unanswered.push(reply);
            }
            // Whoever gave it may have left.
            Some((reply, result)) => drop(reply.send(result)),
            None => (),
        }
    }

    /// Tells what waited for the snapshot, if that is on disk.
    fn catch_up(&mut self, work: &Work) {
        if work.keeper.is_behind() {
            return;
        }
        for (name, bytes) in std::mem::take(&mut self.unsaid) {
            self.value_changed(&name, &bytes);
        }
        self.is_stale = true;
        self.refresh(work);
        for reply in self.unanswered.drain(..) {
            // Whoever gave the order may have left.
            let _ = reply.send(Ok(()));
        }
    }

    fn remember(&mut self, node: NodeId, route: &Route) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(node, route.clone());
    }

    /// Does what is to be done, in order. `answer_to` is by where a node spoke that is answered there.
    fn perform(
        &mut self,
        work: &mut Work,
        effects: Vec<Effect>,
        answer_to: Option<(NodeId, Route)>,
    ) {
        for effect in effects {
            match effect {
                Effect::Persist(snapshot) => {
                    work.keeper.persist(snapshot);
                    self.is_stale = true;
                }
                Effect::MemberChanged { node, before, now } => {
                    self.is_stale = true;
                    log::tell_change(work, node, before, now);
                }
                Effect::LivenessChanged { node, liveness } => {
                    let suspected = liveness == Liveness::Suspected;
                    log::tell_liveness(work, node, suspected);
                    self.shared.routes.tell_all(|| Urgent::Suspected { node, suspected });
                }
                Effect::ValueChanged { name, bytes } if work.keeper.is_behind() => {
                    self.unsaid.insert(name, bytes);
                }
                Effect::ValueChanged { name, bytes } => self.value_changed(&name, &bytes),
                Effect::Report(report) => self.reported(&report),
                Effect::Ended(ending) => self.end(&ending),
                // Lost, as messages may be: it may rest on what is not on disk.
                Effect::Send { .. } if work.keeper.is_behind() => (),
                Effect::Send { to, message } => {
                    self.refresh(work);
                    self.send(to, message, answer_to.as_ref());
                }
            }
        }
        self.refresh(work);
    }

    fn send(&mut self, to: Destination, message: Message, answer_to: Option<&(NodeId, Route)>) {
        let mut buffer = BytesMut::new();
        // Bounded by membership far below what a frame holds.
        if append_peer_frame(&mut buffer, &PeerFrame::Gossip(Box::new(message))).is_err() {
            return;
        }
        let frame = buffer.freeze();
        let node = match to {
            // Seeds frame what they send by themselves.
            Destination::Seed(address) => {
                let now_ms = self.shared.clock.monotonic_ms();
                let chunk = Chunk::gossip(frame.slice(4..), now_ms);
                return self.seeds.say(&self.shared, address, chunk);
            }
            Destination::Node(node) => node,
        };
        if let Some((from, route)) = answer_to
            && *from == node
        {
            self.send_by(route, &frame);
            return;
        }
        let link = self.shared.link(node).map(Route::Link);
        if link.is_some_and(|route| self.send_by(&route, &frame)) {
            return;
        }
        if let Some(route) = self.routes.get(&node) {
            self.send_by(route, &frame);
        }
    }

    /// Whether the frame is on its way; it may be lost.
    fn send_by(&self, route: &Route, frame: &Bytes) -> bool {
        let now_ms = self.shared.clock.monotonic_ms();
        match route {
            Route::Link(link) => link.gossip(frame.clone(), now_ms),
            Route::Connection(answers) => {
                answers.try_send(Chunk::gossip(frame.slice(4..), now_ms)).is_ok()
            }
        }
    }

    fn value_changed(&mut self, name: &str, bytes: &Bytes) {
        match name {
            ring_value::NAME => (),
            barrier_view::NAME => {
                let heard = Arc::new(barrier_view::decode(bytes));
                return drop(self.shared.barrier.heard.send_replace(heard));
            }
            _ => return,
        }
        let Some(ring) = ring_value::decode(bytes) else {
            return tracing::error!("what the cluster has for a ring is none");
        };
        let wanted = self.shared.config.partitions.get();
        let found = ring.partition_count().get();
        if found != wanted {
            // Seen in handshakes before; gossip does not get this far.
            return tracing::error!(found, wanted, "the cluster's ring has other partitions");
        }
        self.ring = Some(Arc::new(ring));
        self.is_stale = true;
    }
}

/// Gossip, and what keeps it.
struct Work {
    gossip: Gossip,
    keeper: Keeper,
}
