//! The thread that owns a node's gossip: what other tasks notice goes in, and what comes out is done in
//! its order.
//!
//! A thread of its own, so that neither a busy loop nor the sync of the snapshot makes a heartbeat late or
//! holds up requests. Invariant: nothing is sent or told that rests on a snapshot that is not on disk; while
//! the disk does not take it, this node is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::NodeId;
use membership::{
    Command, Destination, Effect, Ending, Event, Liveness, MemberState, Message, Phase, Report,
    Snapshot,
};
use replication::RequestError;
use ring::{Ring, Weight};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, sleep_until};
use wire::{ClusterCall, MemberStatus, PeerFrame, append_peer_frame};

use crate::identity::random_u64;
use crate::links::{Link, LinkMap, Target};
use crate::members::{Notice, Route, View};
use crate::membership_start::Prepared;
use crate::seeds::Seeds;
use crate::shared::Shared;
use crate::work::{Job, Urgent};
use crate::{dial, ring_value, snapshot_file};

/// Pause before a disk that did not take a snapshot is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Most nodes whose last connection is remembered. A guess, above the members that there can be.
const ROUTES_MAX: usize = 16_384;

/// Starts the thread; it ends when the node's connections are to end.
pub(crate) fn start(
    shared: Arc<Shared>,
    prepared: Prepared,
    notices: mpsc::Receiver<Notice>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let name = format!("{}-gossip", shared.config.name);
    std::thread::Builder::new().name(name).spawn(move || {
        let mut task = MembershipTask::new(shared, &prepared);
        LocalSet::new().block_on(&runtime, task.run(prepared, notices));
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
        }
    }

    async fn run(&mut self, prepared: Prepared, mut notices: mpsc::Receiver<Notice>) {
        let shared = Arc::clone(&self.shared);
        let mut work = Work { gossip: prepared.gossip, dir: prepared.dir };
        let closed = shared.closed();
        tokio::pin!(closed);
        tokio::select! {
            () = self.perform(&mut work, prepared.effects, None) => (),
            () = &mut closed => return,
        }
        loop {
            let due = shared.clock.instant(work.gossip.next_tick_ms());
            let now_ms = || shared.clock.monotonic_ms();
            let turn = async {
                tokio::select! {
                    biased;
                    () = sleep_until(due) => {
                        let mut effects = Vec::new();
                        let random = random_u64();
                        work.gossip.step(now_ms(), Event::Tick { random }, &mut effects);
                        self.perform(&mut work, effects, None).await;
                    }
                    // `shared` has a sender.
                    Some(notice) = notices.recv() => self.take(&mut work, notice).await,
                }
            };
            tokio::select! {
                () = turn => (),
                () = &mut closed => return,
            }
        }
    }

    async fn take(&mut self, work: &mut Work, notice: Notice) {
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
            // Whoever asked may have left.
            Notice::Report(reply) => drop(reply.send(self.report(work, now_ms))),
        }
        self.perform(work, effects, answer_to).await;
        if let Some((reply, result)) = done {
            // An order is acknowledged once it is durable.
            let _ = reply.send(result);
        }
    }

    fn remember(&mut self, node: NodeId, route: &Route) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(node, route.clone());
    }

    /// Does what is to be done, in order. `answer_to` is by where a node spoke that is answered there.
    async fn perform(
        &mut self,
        work: &mut Work,
        effects: Vec<Effect>,
        answer_to: Option<(NodeId, Route)>,
    ) {
        for effect in effects {
            match effect {
                Effect::Persist(snapshot) => {
                    work.persist(&snapshot).await;
                    self.is_stale = true;
                }
                Effect::MemberChanged { node, before, now } => {
                    self.is_stale = true;
                    tell_change(work, node, before, now);
                }
                Effect::LivenessChanged { node, liveness } => {
                    let suspected = liveness == Liveness::Suspected;
                    let member = name_of(work, node);
                    tracing::warn!(member, suspected, "liveness of a member");
                    self.shared.routes.tell_all(|| Urgent::Suspected { node, suspected });
                }
                Effect::ValueChanged { name, bytes } => self.value_changed(&name, &bytes),
                Effect::Report(report) => self.reported(&report),
                Effect::Ended(ending) => self.end(&ending),
                Effect::Send { to, message } => {
                    self.refresh(work);
                    self.send(to, message, answer_to.as_ref());
                }
            }
        }
        self.leave_if_idle(work).await;
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
                return self.seeds.say(&self.shared, address, frame.slice(4..));
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
        match route {
            Route::Link(link) => link.gossip(frame.clone(), self.shared.clock.monotonic_ms()),
            Route::Connection(answers) => answers.try_send(frame.slice(4..)).is_ok(),
        }
    }

    /// Makes links and view what membership says, if it may say otherwise than before.
    fn refresh(&mut self, work: &Work) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let shared = &self.shared;
        let gossip = &work.gossip;
        let before = shared.members.view();
        let incarnation = gossip.own().entry.incarnation;
        if incarnation != before.incarnation {
            shared.routes.tell_all(|| Urgent::Incarnation(incarnation));
        }
        let is_member = self.ended.is_none() && gossip.own().state().is_present();
        // One that has left still tells the others so.
        self.renew_links(work, self.ended.is_none());
        let others = gossip.table().iter().filter(|&(node, _)| node != shared.config.node());
        let admitted = others
            .filter(|(_, record)| is_member && !record.is_over())
            .map(|(node, record)| (node, record.entry.incarnation));
        let view = View {
            incarnation,
            admitted: admitted.collect(),
            states: gossip.table().iter().map(|(node, record)| (node, record.state())).collect(),
            ring: self.ring.clone(),
            waiting: self.waiting(work),
        };
        let serves = view.waiting.is_none();
        if view.ring != before.ring
            && let Some(ring) = &view.ring
        {
            shared.routes.tell_all(|| Urgent::Ring(Arc::clone(ring)));
        }
        if view != *before {
            shared.members.view.send_replace(Arc::new(view));
        }
        let is_closing = *shared.closing.borrow();
        shared.serving.send_if_modified(|now| {
            let next = serves && !is_closing;
            std::mem::replace(now, next) != next
        });
    }

    fn renew_links(&self, work: &Work, speaks: bool) {
        let shared = &self.shared;
        let before = shared.links();
        let mut links = LinkMap::new();
        let mut queues = Vec::new();
        let mut names = BTreeMap::new();
        for (node, record) in work.gossip.table().iter() {
            let about = &record.entry.about;
            names.insert(node, about.name.clone());
            if node == shared.config.node() || record.is_over() || !speaks {
                continue;
            }
            let address = about.peer_address().to_owned();
            let link = match before.get(&node) {
                Some(link) => {
                    link.lead_to(Target::At(address));
                    Arc::clone(link)
                }
                None => {
                    let (link, queue) = Link::new(node, about.name.clone(), address);
                    queues.push(queue);
                    link
                }
            };
            links.insert(node, link);
        }
        let gone: Vec<&Arc<Link>> =
            before.iter().filter(|(node, _)| !links.contains_key(node)).map(|(_, it)| it).collect();
        let is_same = queues.is_empty() && gone.is_empty();
        if is_same && names.len() == shared.members.view().states.len() {
            return;
        }
        let (links, names) = (Arc::new(links), Arc::new(names));
        shared
            .routes
            .tell_all(|| Urgent::Members { links: Arc::clone(&links), names: Arc::clone(&names) });
        shared.links.send_replace(links);
        gone.into_iter().for_each(|link| link.lead_to(Target::Closed));
        // Dealt to the loops one by one, after all of them know the link.
        for queue in queues {
            let task = Arc::clone(shared);
            let job = Job::new(move || drop(spawn_local(dial::run(task, queue))));
            // A loop that ended already takes nothing more.
            let _ = shared.routes.handle(shared.routes.next()).jobs.send(job);
        }
        shared.links_changed.send_modify(|count| *count += 1);
    }

    /// Why the node does not serve, if it does not.
    fn waiting(&self, work: &Work) -> Option<String> {
        if let Some(ended) = &self.ended {
            return Some(ended.clone());
        }
        if work.gossip.own().state() == MemberState::Left {
            return Some("this node has left the cluster: stop it, and use another one".into());
        }
        if work.gossip.cluster_ids().is_empty() {
            let mut tried: Vec<String> = self
                .seed_errors
                .iter()
                .map(|(address, error)| format!("{address}: {error}"))
                .collect();
            if tried.is_empty() {
                tried.push(self.shared.config.seeds.join(", "));
            }
            return Some(format!(
                "this node waits for a seed that belongs to the cluster ({}); `merganser start \
                 --bootstrap` begins one",
                tried.join("; ")
            ));
        }
        if self.ring.is_none() {
            return Some("this node has not been told the cluster's ring yet".into());
        }
        None
    }

    fn tried_seed(&mut self, address: String, error: Option<String>) {
        let before = match &error {
            Some(error) => self.seed_errors.insert(address.clone(), error.clone()),
            None => self.seed_errors.remove(&address),
        };
        if before == error {
            return;
        }
        self.is_stale = true;
        match error {
            Some(error) => tracing::warn!(seed = address, error, "a seed cannot be asked"),
            None => tracing::info!(seed = address, "a seed answers"),
        }
    }

    fn value_changed(&mut self, name: &str, bytes: &Bytes) {
        if name != ring_value::NAME {
            return;
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

    fn reported(&mut self, report: &Report) {
        let name = &self.shared.config.name;
        match report {
            Report::NoSeed { attempts, again_in_ms } => {
                tracing::warn!(
                    name,
                    attempts,
                    again_in_ms,
                    "no seed of the node's cluster answers"
                );
            }
            Report::Found(id) => {
                self.is_stale = true;
                tracing::info!(name, %id, "the node found its cluster");
            }
            Report::RefusedBy { node, refusal } => {
                tracing::warn!(name, %node, "refused by another node: {refusal}");
            }
            Report::Refused { node, address, refusal } => {
                tracing::warn!(name, %node, address, "refused another node, telling it: {refusal}");
            }
            Report::Raised { known, now } => {
                self.is_stale = true;
                tracing::warn!(name, ?known, ?now, "others remember a later start of this node");
            }
            Report::Malformed { node, reason } => {
                tracing::warn!(name, %node, %reason, "gossip out of bounds was ignored");
            }
            Report::Full { node } => {
                tracing::warn!(name, %node, "there is no room for more members or values");
            }
            _ => (),
        }
    }

    fn end(&mut self, ending: &Ending) {
        let text = match ending {
            Ending::Removed => {
                "this node was removed from the cluster: started again it joins as a new member"
                    .into()
            }
            Ending::Superseded { address, .. } => {
                format!(
                    "another process of this node's name took its place, at {address}: give each node \
                     a name and a data directory of its own"
                )
            }
        };
        tracing::error!(name = self.shared.config.name, "{text}");
        self.ended = Some(text);
        self.is_stale = true;
    }

    fn order(
        &mut self,
        work: &mut Work,
        now_ms: u64,
        call: &ClusterCall,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let refused = |error: &dyn std::fmt::Display| RequestError::Membership(error.to_string());
        let command = match call {
            ClusterCall::Join { .. } => Command::Declare(Phase::Up),
            ClusterCall::Leave { .. } if work.gossip.own().entry.phase == Phase::Joining => {
                Command::Declare(Phase::Left)
            }
            ClusterCall::Leave { .. } => Command::Declare(Phase::Leaving),
            ClusterCall::Weigh { weight, .. } => {
                let weight = Weight::new(*weight).map_err(|error| refused(&error))?;
                let about = work.gossip.own().entry.about.clone();
                Command::Describe(membership::About { weight, ..about })
            }
            ClusterCall::Remove { member } => Command::Remove(
                member_called(work, member)
                    .ok_or_else(|| refused(&format!("there is no member {member:?}")))?,
            ),
        };
        work.gossip.command(now_ms, command, effects).map_err(|error| refused(&error))
    }

    /// A node that is to leave and owns nothing has left.
    async fn leave_if_idle(&mut self, work: &mut Work) {
        let owns = |ring: &Arc<Ring>| {
            let me = self.shared.config.node();
            ring.loads().iter().any(|&(node, count)| node == me && count > 0)
        };
        let is_idle = work.gossip.own().state() == MemberState::Leaving
            && self.ring.as_ref().is_none_or(|ring| !owns(ring));
        if !is_idle || self.ended.is_some() {
            return;
        }
        let mut effects = Vec::new();
        let now_ms = self.shared.clock.monotonic_ms();
        let left = work.gossip.command(now_ms, Command::Declare(Phase::Left), &mut effects);
        if left.is_err() {
            return;
        }
        for effect in effects {
            if let Effect::Persist(snapshot) = effect {
                work.persist(&snapshot).await;
            }
        }
        tracing::info!(name = self.shared.config.name, "this node has left the cluster");
        self.is_stale = true;
    }

    fn report(&self, work: &Work, now_ms: u64) -> Vec<MemberStatus> {
        let row = |member: membership::Member<'_>| MemberStatus {
            node: member.node,
            name: member.about.name.clone(),
            peer_address: member.about.peer_address().to_owned(),
            zone: member.about.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            weight: member.about.weight.get(),
            state: member.state,
            liveness: member.liveness,
            phi: member.phi,
            generation: member.incarnation.generation,
            version: member.about.software.clone(),
            connected: false,
            cut: false,
            partitions: 0,
            pending: 0,
        };
        work.gossip.members(now_ms).map(row).collect()
    }
}

/// Gossip, and where it is persisted.
struct Work {
    gossip: membership::Gossip,
    dir: std::path::PathBuf,
}

impl Work {
    /// Writes the snapshot; while the disk does not take it, nothing else is done.
    async fn persist(&self, snapshot: &Snapshot) {
        let mut failures = 0_u64;
        while let Err(error) = snapshot_file::write(&self.dir, snapshot) {
            failures += 1;
            if failures.is_power_of_two() {
                tracing::error!(%error, failures, "membership cannot be persisted; this node is silent");
            }
            sleep(DISK_PAUSE).await;
        }
    }
}

fn member_called(work: &Work, name: &str) -> Option<NodeId> {
    let mut members = work.gossip.table().iter();
    members.find(|(_, record)| record.entry.about.name == name).map(|(node, _)| node)
}

fn name_of(work: &Work, node: NodeId) -> String {
    let record = work.gossip.table().get(node);
    record.map_or_else(|| node.to_string(), |record| record.entry.about.name.clone())
}

fn tell_change(work: &Work, node: NodeId, before: Option<MemberState>, now: MemberState) {
    let member = name_of(work, node);
    let address = work.gossip.table().get(node).map(|it| it.entry.about.peer_address().to_owned());
    let address = address.unwrap_or_default();
    tracing::info!(member, address, ?before, ?now, "a member changed");
}
