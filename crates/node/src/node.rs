//! One node, assembled: data directory, loops, threads that write, links, ports; and taken apart again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use client::Datastore;
use replication::{
    AntiEntropyConfig, Barrier, BarrierHand, BarrierStart, BarrierTable, BarrierTask, BarrierTimes,
    Buckets, Core, CoreConfig, KeptCommits, KeptStart, PolicyTable, provisional_ownership,
};
use ring::{Ownership, Ring};
use storage::{Command, Engine, EngineConfig, StorageError, Ticket};
use storage_lmdb::DirectoryLock;
use tokio::sync::{mpsc, watch};
use wire::Identity;

use crate::backups::{Backups, Source};
use crate::barrier_view::{self, BarrierView};
use crate::config::{Beginning, Listeners, NodeConfig};
use crate::core_task::CoreTask;
use crate::data_directory::DataDirectory;
use crate::datastore::NodeDatastore;
use crate::descriptors::Bounds;
use crate::drain::Drain;
use crate::endings::Endings;
use crate::health::Health;
use crate::identity::random_u64;
use crate::links::{Link, LinkMap};
use crate::listen::Bound;
use crate::log_thread::LogJob;
use crate::members::{Members, View};
use crate::membership_start::prepare;
use crate::outgoing::{HeaderBase, Outgoing};
use crate::places::Places;
use crate::recovery::{Recovered, recover};
use crate::routing::{LoopHandle, LoopOwners, Routes, WORK_MAX};
use crate::seats::Seats;
use crate::shard_reader::ShardReader;
use crate::shared::Shared;
use crate::start_error::StartError;
use crate::switchboard::{Switch, Switchboard};
use crate::time::NodeClock;
use crate::whole_cluster;
use crate::work::{Job, Urgent, Work};
use crate::{
    checkpoint_thread, descriptors, drain, event_loop, log_thread, membership_thread, merging,
};

/// Requests under way in one loop before it answers `Overloaded`. A guess.
const REQUESTS_MAX: usize = 16_384;
/// Deltas of the outbox under way to one owner from one loop. With 16 hints came at 0.4 of the speed of ordinary writes,
/// with 64 clients' p99 was twice that of before (`benches/examples/grow_and_deliver.rs`).
const DELIVERIES_MAX: usize = 32;
/// How many times what a checkpoint begins at rows may take in memory before writes are refused. With half of it
/// acknowledgements wait for the checkpoint under way. A guess.
const MEMTABLES_MAX: usize = 4;

/// A running node. Dropped without [`Node::stop`] it stops all the same, but nobody waits.
pub struct Node {
    shared: Arc<Shared>,
    datastore: Arc<NodeDatastore>,
    addresses: Listeners,
    closing: watch::Sender<bool>,
    /// Dropped once checkpoints are to take no rests.
    unhurried: Option<std::sync::mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Held for its lock on the data directory.
    lock: Option<DirectoryLock>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, .. } = self;
        f.debug_struct("Node").field("name", &self.name()).field("addresses", addresses).finish()
    }
}

impl Node {
    /// Starts a node. It serves when this returns if it knows its cluster's ring; [`Node::serving`] waits for
    /// that, [`Node::linked`] for the other founders.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let bound = Bound::new(config.listen)?;
        Self::start_bound(config, bound, None)
    }

    /// Starts a node on ports that are bound; `switchboard` makes it one of a development cluster.
    pub(crate) fn start_bound(
        mut config: NodeConfig,
        bound: Bound,
        switchboard: Option<Switchboard>,
    ) -> Result<Self, StartError> {
        config.listen = bound.addresses;
        let mut directory = DataDirectory::open(&config)?;
        let is_merging = merging::prepare(&mut config)
            .map_err(|source| StartError::File { path: config.data.join(merging::FILE), source })?;
        let (lock, secret) = (directory.lock.take(), directory.secret.clone());
        let prepared = prepare(&config, &config.data)?;
        let view = View {
            incarnation: prepared.gossip.own().entry.incarnation,
            admitted: BTreeMap::new(),
            states: BTreeMap::new(),
            ring: prepared.ring.clone(),
            waiting: prepared.ring.is_none().then(|| "this node looks for its cluster".into()),
        };
        let is_serving = view.waiting.is_none();
        let first_identity = Identity {
            cluster: config.cluster.clone(),
            node: config.node(),
            name: config.name.clone(),
            incarnation: view.incarnation,
            partitions: config.partitions.get(),
            versions: config.messages,
        };
        let ownership = match &view.ring {
            Some(ring) => Ownership::new(Ring::clone(ring)),
            // It refuses requests until it knows the ring.
            None => provisional_ownership(config.node().into(), config.partitions),
        };
        let (members, notices) = Members::new(view);
        let table = prepared.gossip.values().get(barrier_view::NAME);
        let table = table.map(|bytes| barrier_view::decode(bytes)).unwrap_or_default();
        let founded = prepared.gossip.cluster_ids().first().map(|id| clock::RingId(id.0 as u64));
        let owners = LoopOwners::new(config.partitions, config.loops.into());
        let (handles, ends): (Vec<_>, Vec<_>) =
            (0..owners.count()).map(|_| LoopEnds::new()).unzip();
        let (closing, closing_seen) = watch::channel(false);
        let nodes = switchboard.as_ref().map_or(1, |nodes| nodes.len());
        let bounds = bounds(&config, nodes);
        let switch = switchboard
            .as_ref()
            .and_then(|switches| switches.get(&config.name).cloned())
            .unwrap_or_else(Switch::new);
        let shared = Arc::new(Shared {
            first_identity,
            secret,
            clock: NodeClock::start(),
            routes: Routes::new(handles, owners),
            members,
            ownership: Arc::new(watch::Sender::new(Arc::new(ownership))),
            serving: watch::Sender::new(false),
            links: watch::Sender::new(Arc::new(LinkMap::new())),
            links_changed: watch::Sender::new(0),
            switch,
            closing: closing_seen,
            places: Places::new(bounds),
            seats: Seats::default(),
            endings: Endings::default(),
            backups: Backups::default(),
            barrier: BarrierView::new(table.clone(), founded.unwrap_or_default()),
            health: Arc::new(Health::new(owners.count())),
            drain: Drain::default(),
            config,
        });
        let datastore = Arc::new(NodeDatastore::new(Arc::clone(&shared), switchboard));
        let mut node = Self {
            addresses: bound.addresses,
            datastore,
            closing,
            unhurried: None,
            threads: Vec::new(),
            lock,
            shared,
        };
        // If a thread cannot be started, dropping the node ends those that were.
        let hand = node.start_storage(directory, ends, table, is_merging)?;
        bound.serve(&node.shared, &node.datastore);
        let is_serving = is_serving && hand.is_open();
        node.shared.serving.send_replace(is_serving);
        let thread = membership_thread::start(Arc::clone(&node.shared), prepared, notices, hand)
            .map_err(StartError::Thread)?;
        node.threads.push(thread);
        tracing::info!(node = node.name(), is_serving, resp = %node.addresses.resp, http = %node.addresses.http,
            peer = %node.addresses.peer, loops = owners.count(), "node started");
        Ok(node)
    }

    /// Opens the storage, and starts the threads that write it and the loops that use it. Returns the node's
    /// hand in the barrier, given what was heard of it.
    fn start_storage(
        &mut self,
        directory: DataDirectory,
        ends: Vec<LoopEnds>,
        heard: BarrierTable,
        is_merging: bool,
    ) -> Result<BarrierHand, StartError> {
        let shared = &self.shared;
        let (config, owners, routes) = (&shared.config, shared.routes.owners(), &shared.routes);
        let (reader, stamp) = (directory.reader.clone(), directory.stamp.clone());
        // All of the log is replayed here, before anything is served.
        let recovered = recover(directory, owners, |loop_index| EngineConfig {
            node: config.node(),
            process: random_u64(),
            shards: owners.set(loop_index),
            pending_bytes_max: (config.memtable_bytes / owners.count())
                .saturating_mul(MEMTABLES_MAX),
            hint_bytes_max: config.hint_bytes_max / u64::from(config.loops),
            bounds: storage::EngineBounds::default(),
        })?;
        let Recovered { log, engines, writer, found } = recovered;
        let damage = found.damage.len() as u64;
        let (engines, indexed): (Vec<_>, Vec<_>) = engines.into_iter().unzip();
        let (log_sender, log_jobs) = log_thread::queue();
        let (index_sender, index_jobs) = checkpoint_thread::queue();
        let (unhurried, hurry) = std::sync::mpsc::channel();
        let thread = checkpoint_thread::start(
            writer,
            &config.name,
            routes.clone(),
            index_jobs,
            log_sender.clone(),
            hurry,
        )
        .map_err(StartError::Thread)?;
        self.unhurried = Some(unhurried);
        self.threads.push(thread);
        let thread = log_thread::start(log, &config.name, routes.clone(), log_jobs, indexed)
            .map_err(StartError::Thread)?;
        self.threads.push(thread);
        shared.backups.open(Source {
            reader,
            stamp,
            shards: owners.shards(),
            log: log_sender.clone(),
        });
        let (mut noted, mut noted_barrier, mut is_blank) = (None, None, true);
        let mut has_doubts = false;
        for engine in &engines {
            is_blank &= engine.is_blank()?;
        }
        for (loop_index, (ends, mut engine)) in ends.into_iter().zip(engines).enumerate() {
            let LoopEnds { work, urgent, jobs } = ends;
            // Notes are seen by the first loop.
            let (policies, commits, ownership) = match &noted {
                Some(noted) => noted,
                None => {
                    let notes = engine.notes()?;
                    noted_barrier = Barrier::of_notes(&notes)?;
                    has_doubts = engine
                        .notes_before_loss()
                        .is_some_and(|before| Barrier::doubts(before, noted_barrier.as_ref()));
                    let kept = KeptStart::of_notes(&notes, &shared.ownership(), is_merging)?;
                    if !kept.forgets.is_empty() {
                        note(&mut engine, &log_sender, kept.forgets)?;
                    }
                    if let Some(ownership) = kept.ownership {
                        drop(shared.ownership.send_replace(Arc::new(ownership)));
                    }
                    let policies = PolicyTable::of_notes(&notes);
                    noted.insert((policies, kept.commits, shared.ownership()))
                }
            };
            let (policies, ownership) = (PolicyTable::clone(policies), Arc::clone(ownership));
            let buckets = Buckets::new(&policies, config.default_policy, &config.limits);
            engine.set_tree_classes(buckets.tree_classes());
            let founds = config.beginning != Beginning::Search;
            let founded = founds.then_some(shared.barrier.founded);
            let begins_in = Barrier::begins_in(noted_barrier.as_ref(), founded);
            if let Some(round) = begins_in.filter(|_| !is_merging) {
                engine.begin_in(round, noted_barrier.is_some());
            }
            let header = HeaderBase {
                sender: config.node(),
                incarnation: shared.first_identity.incarnation,
            };
            let core = core_config(shared, loop_index, policies, commits.clone());
            let task = CoreTask {
                loop_index,
                clock: shared.clock,
                core: Core::new(core, ownership),
                engine,
                outgoing: Outgoing::new(header),
                links: shared.links(),
                names: Arc::default(),
                routes: routes.clone(),
                log: log_sender.clone(),
                index: index_sender.clone(),
                checkpoint_bytes: config.memtable_bytes / owners.count(),
                notices: shared.members.notices.clone(),
                health: Arc::clone(&shared.health),
                ownership: Arc::clone(&shared.ownership),
                log_damage: if loop_index == 0 { damage } else { 0 },
                work,
                urgent,
                wait_max_ms: config.timeouts.request_ms.into(),
                stop_limit: config.timeouts.stop,
            };
            let name = format!("{}-loop{loop_index}", config.name);
            let thread = event_loop::start(name, task, jobs).map_err(StartError::Thread)?;
            self.threads.push(thread);
        }
        // A directory without a note in which something is has an earlier day's disk: it may have to begin anew.
        let is_new = config.beginning == Beginning::Search && noted_barrier.is_none() && is_blank;
        let joins = is_merging || is_new;
        // What it says of the ring that it has left says nothing here.
        let mut barrier = Barrier::new(config.node(), noted_barrier.clone().filter(|_| !joins));
        if !joins {
            barrier = barrier.founding(shared.barrier.founded);
        }
        barrier.heard(&heard);
        // Nothing is in it, whatever befell it: it holds nothing that is older.
        let begins =
            is_blank && noted_barrier.is_none() && barrier.task() == BarrierTask::BeginAnew;
        let restored = Barrier::restored(noted_barrier.clone());
        let noted_life = noted_barrier.as_ref().map(|note| note.standing.life);
        let is_restored = !begins
            && !joins
            && whole_cluster::begins(&config.data, noted_life, restored.life)
                .map_err(|source| StartError::WholeCluster { dir: config.data.clone(), source })?;
        let start = match () {
            () if begins => BarrierStart::As(Barrier::reborn(config.node(), &heard)),
            () if is_merging => BarrierStart::ComingOver,
            () if joins => BarrierStart::Joining,
            () if is_restored => BarrierStart::As(restored),
            () if has_doubts => BarrierStart::Doubting,
            () => BarrierStart::AsNoted,
        };
        if start == BarrierStart::Doubting {
            tracing::error!(
                "what the log lost is from before something that the cluster has forgotten since, and \
                may show that again: unless this node is alone, it begins anew once all others are in reach"
            );
        }
        let times = BarrierTimes {
            interval_ms: config.barrier_interval_ms,
            retries_ms: config.retry_window_ms,
        };
        let hand = BarrierHand::new(barrier, start, times, shared.clock.monotonic_ms());
        shared.barrier.terms.send_replace(Arc::new(hand.terms()));
        shared.barrier.is_open.store(hand.is_open(), Ordering::Release);
        Ok(hand)
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// The node's id.
    pub fn id(&self) -> clock::NodeId {
        self.shared.first_identity.node
    }

    /// Where the node listens; ports that were configured as 0 are known here.
    pub fn addresses(&self) -> Listeners {
        self.addresses
    }

    /// The node's data directory.
    pub fn data(&self) -> &Path {
        &self.shared.config.data
    }

    /// The node from within: what gateways speak to.
    pub fn datastore(&self) -> Arc<dyn Datastore> {
        Arc::clone(&self.datastore) as _
    }

    /// Why the node does not serve, if it does not.
    pub fn waiting(&self) -> Option<String> {
        self.shared.members.view().waiting.clone()
    }

    /// Waits until the node serves.
    pub async fn serving(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.serving.subscribe().wait_for(|serving| *serving).await;
    }

    /// Waits until the node has to begin anew: what it holds is older than the barrier. It serves no
    /// more; stopped and started again it sets that aside, and begins empty.
    pub async fn outdated(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.barrier.outdated.subscribe().wait_for(|outdated| *outdated).await;
    }

    /// Waits until the node is connected to every other founder, and every other member that it has
    /// heard of. For a time limit wrap it in one.
    pub async fn linked(&self) {
        self.links_follow(|_| false).await;
    }

    /// Waits until the node's links are up or down as they must be, given whose are cut.
    pub(crate) async fn links_follow(&self, is_cut: impl Fn(&str) -> bool) {
        let mut changed = self.shared.links_changed.subscribe();
        let up = |link: &Link| !is_cut(self.name()) && !is_cut(&link.name);
        loop {
            changed.mark_unchanged();
            // Looked at without the lock of `links_changed`: whoever changes a link takes that one
            // while it holds the link's.
            let links = self.shared.links();
            let all_known =
                self.shared.config.peers.iter().all(|peer| links.contains_key(&peer.node));
            if all_known && links.values().all(|link| link.is_announced_up() == up(link)) {
                return;
            }
            // The sender lives as long as `self`.
            let _ = changed.changed().await;
        }
    }

    /// Whether the node, [stopped](Self::stop) and started again, joins another ring.
    pub fn joins_another_ring(&self) -> bool {
        self.shared.drain.joins_another_ring()
    }

    /// Waits until an administrator asks the node to drain: to be [stopped](Self::stop).
    pub async fn drain_asked(&self) {
        self.shared.drain.asked().await;
    }

    /// Stops gracefully. It drains first: clients are told to go elsewhere, what was accepted is finished, and
    /// what the node keeps for others in reach is handed over, for as long as the administrator said who asked
    /// for it, or else the configured limit. Then connections end, what is in the log is brought into the
    /// index, and the directory is given back. Returns whether all of the node ended: if not, a thread may still
    /// use its files, and they must not be opened again in this process.
    pub async fn stop(mut self) -> bool {
        drain::drain(&self.shared, self.shared.config.timeouts.stop).await;
        self.closing.send_replace(true);
        self.shared.serving.send_replace(false);
        self.unhurried = None;
        self.shared.backups.close();
        let limit = self.shared.config.timeouts.stop;
        if tokio::time::timeout(limit, self.shared.places.all_ended()).await.is_err() {
            tracing::warn!("some connections did not end in time; they are cut off");
        }
        self.shared.routes.tell_all(|| Urgent::Stop);
        let threads = std::mem::take(&mut self.threads);
        let (joined, all_joined) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the node had panicked");
                }
            }
            // Whoever waited may have given up.
            let _ = joined.send(());
        });
        // The threads have limits of their own; this one is for a disk that does not answer.
        let limit = limit + Duration::from_secs(10);
        let has_ended = tokio::time::timeout(limit, all_joined).await.is_ok();
        if !has_ended {
            tracing::error!("the node's threads did not end in time");
        }
        drop(self.lock.take());
        tracing::info!(node = self.name(), "node stopped");
        has_ended
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.unhurried = None;
        self.shared.backups.close();
        self.shared.routes.tell_all(|| Urgent::Stop);
    }
}

/// Has the engine keep the notes; durable when this returns.
fn note(
    engine: &mut Engine<ShardReader>,
    log: &std::sync::mpsc::Sender<LogJob>,
    notes: Vec<(Bytes, Bytes)>,
) -> Result<(), StartError> {
    let note = Command::Note { notes };
    // Nobody waits for its answer.
    engine.execute(Ticket(u64::MAX), note, &mut Vec::new());
    let (reply, told) = std::sync::mpsc::sync_channel(1);
    let batch = engine.take_batch().map(|batch| LogJob::Batch { owner: 0, batch });
    let sent = batch.into_iter().chain([LogJob::End(reply)]).try_for_each(|job| log.send(job));
    let is_durable = sent.is_ok() && matches!(told.recv(), Ok(Ok(_)));
    let failed =
        || StorageError::Io("the log does not take that the cluster is another one".into());
    if is_durable { Ok(()) } else { Err(failed().into()) }
}

/// How many connections a node takes that is one of so many in its process.
fn bounds(config: &NodeConfig, nodes: usize) -> Bounds {
    let wanted = config.connections_max;
    let limit = descriptors::raise_limit();
    let bounds = Bounds::of(wanted, limit, nodes, config.loops.into(), config.peers.len());
    let Bounds { connections, .. } = bounds;
    if connections < wanted {
        tracing::warn!(
            connections,
            connections_max = wanted,
            open_files_max = limit,
            "the limit of open files allows fewer connections than connections_max: raise it \
             (ulimit -n, LimitNOFILE)"
        );
    }
    bounds
}

fn core_config(
    shared: &Shared,
    loop_index: usize,
    policies: PolicyTable,
    commits: KeptCommits,
) -> CoreConfig {
    let config = &shared.config;
    CoreConfig {
        node: config.node(),
        core: u8::try_from(loop_index).expect("loops are limited to 64"),
        shards: shared.routes.owners().set(loop_index),
        anti_entropy: AntiEntropyConfig {
            interval_ms: config.anti_entropy.interval_ms,
            bytes_per_second: (config.anti_entropy.bytes_per_second / u64::from(config.loops))
                .max(1),
        },
        incarnation: random_u64(),
        names: BTreeMap::from([(config.node(), config.name.clone())]),
        secret: shared.secret.clone(),
        default_policy: config.default_policy,
        policies,
        commits,
        timeout_ms: config.timeouts.request_ms,
        cover_ms: config.timeouts.cover_ms,
        limits: config.limits.clone(),
        requests_max: REQUESTS_MAX,
        deliveries_max: DELIVERIES_MAX,
    }
}

/// The receiving ends of a loop's channels.
struct LoopEnds {
    work: mpsc::Receiver<Work>,
    urgent: mpsc::UnboundedReceiver<Urgent>,
    jobs: mpsc::UnboundedReceiver<Job>,
}

impl LoopEnds {
    fn new() -> (LoopHandle, Self) {
        let (work_sender, work) = mpsc::channel(WORK_MAX);
        let (urgent_sender, urgent) = mpsc::unbounded_channel();
        let (jobs_sender, jobs) = mpsc::unbounded_channel();
        let handle = LoopHandle { work: work_sender, urgent: urgent_sender, jobs: jobs_sender };
        (handle, Self { work, urgent, jobs })
    }
}
