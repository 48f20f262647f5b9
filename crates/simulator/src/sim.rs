//! The simulated cluster: cores and engines, and the handles by which tests use and look at them.
//! Every choice comes from the seed.

mod barrier;
mod disks;
pub(crate) mod events;
mod faults;
mod membership;

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::{CausalContext, ClusterSecret, ContextToken, NodeId, Stamp, TokenClaims, TokenScope};
use replication::{
    Action, Answer, Barrier, BarrierHand, BarrierStamp, BarrierStart, BarrierTable, BarrierTask,
    BarrierTimes, BucketCall, BucketPolicy, BucketReply, Buckets, Call, CallId, Core, CoreConfig,
    Event, KeptCommits, Message, PolicyTable, Reply, Request, RequestError, kept_ownership,
};
use ring::{Member, Ownership, Partition, PartitionCount, Ring};
use storage::{
    Batch, Checkpoint, Command, DiskSnapshot, Engine, EngineConfig, Log, Replay, ShardSet, Shards,
    SimDisk, SimFiles, SimIndexReader, Ticket, TreeCheck, TreeNode, shard_positions,
};
use values::{Key, Limits, Operation, Scope, Tag, View};

use crate::ledger::{Ledger, tracer};
use crate::trace::{Line, Trace};
use crate::{Fault, Random, SimOptions, Strikes, network::Network, random::mix};

/// The secret of every simulated cluster.
const SECRET: &[u8] = b"simulated";

/// How often nodes are asked to remove what is due, until all of it is. More than it takes.
const SWEEPS: usize = 20;

/// Shards of each node.
const SHARDS: u16 = 4;

/// Replicas that are compared in the background are equal after so long without faults, in
/// milliseconds: two of the longest pauses of what delivers and compares.
const EQUAL_WITHIN_MS: u64 = 120_000;

/// So often it is looked whether they are, in milliseconds: later than the last message of before
/// comes.
const LOOK_MS: u64 = 10_000;

/// What a client was told.
pub type Outcome = Result<Reply, RequestError>;

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    Arrival {
        from: usize,
        from_life: u64,
        to: usize,
        to_life: u64,
        message: Box<Message>,
        /// How far its sender was with the barrier.
        stamp: BarrierStamp,
    },
    /// One node tells another how far the barrier is.
    Told {
        from: usize,
        to: usize,
        to_life: u64,
        table: Box<BarrierTable>,
    },
    /// A node looks after its barrier.
    Barrier {
        node: usize,
        life: u64,
    },
    Committed {
        node: usize,
        life: u64,
        batch: Batch,
    },
    Checkpointed {
        node: usize,
        life: u64,
        checkpoint: Box<Checkpoint>,
    },
    /// Somebody restarts a node whose log takes nothing any more.
    Restarted {
        node: usize,
        life: u64,
    },
    LinkNoticed {
        node: usize,
        peer: usize,
    },
    /// A connection breaks that can be made again.
    LinkBroken {
        node: usize,
        peer: usize,
    },
    Called {
        node: usize,
        life: u64,
        event: Box<Event>,
    },
}

impl Happening {
    /// The node that has to do something.
    const fn node(&self) -> usize {
        match self {
            Self::Arrival { to, .. } | Self::Told { to, .. } => *to,
            Self::Committed { node, .. }
            | Self::Checkpointed { node, .. }
            | Self::Restarted { node, .. }
            | Self::LinkNoticed { node, .. }
            | Self::Barrier { node, .. }
            | Self::LinkBroken { node, .. }
            | Self::Called { node, .. } => *node,
        }
    }
}

/// A node that runs.
#[derive(Debug)]
struct Process {
    core: Core,
    engine: Engine<SimIndexReader>,
    log: Log<SimFiles>,
    /// Whether the log works on a batch.
    committing: bool,
    calls: Vec<CallId>,
    hand: Option<barrier::Hand>,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    disk: SimDisk,
    process: Option<Process>,
    /// Counts starts and crashes: what was sent in an earlier life does not arrive in this one.
    life: u64,
    /// How far the wall clock is off,
    skew_ms: i64,
    /// and how much faster it runs, in millionths.
    drift_ppm: i64,
    /// What waits for a paused node; `None` for one that is not.
    paused: Option<Vec<Happening>>,
    /// How far the barrier was when it was to begin anew.
    reborn: Option<BarrierTable>,
    /// What it has heard of the barrier, as its disk has it.
    heard: BarrierTable,
    /// Whether it joined a cluster that there was.
    joins: bool,
    /// How much longer messages to and from it may take.
    slow_ms: u64,
    ills: Ills,
    /// Whether it never starts again.
    is_gone: bool,
}

impl Node {
    fn new(id: NodeId, options: &SimOptions, random: &mut Random) -> Self {
        let either_way = |random: &mut Random, most: u64| {
            if most == 0 { 0 } else { random.below(2 * most + 1) as i64 - most as i64 }
        };
        Self {
            id,
            disk: SimDisk::new(),
            process: None,
            life: 0,
            skew_ms: either_way(random, options.skew_ms),
            drift_ppm: either_way(random, options.drift_ppm),
            paused: None,
            reborn: None,
            heard: BarrierTable::default(),
            joins: false,
            slow_ms: 0,
            ills: Ills::default(),
            is_gone: false,
        }
    }
}

/// What is wrong with a node's disk.
#[derive(Debug, Default)]
struct Ills {
    is_full: bool,
    is_read_only: bool,
    /// How much longer writes of the log may take.
    slow_ms: u64,
    /// Whether bytes of the log changed by themselves, or those of a copy that may come back,
    is_rotten: bool,
    /// or rows of the index.
    has_rotten_rows: bool,
    /// What it held some time ago.
    backup: Option<DiskSnapshot>,
    /// What its copy holds.
    twin: Option<DiskSnapshot>,
}

/// A simulated cluster.
#[derive(Debug)]
pub struct Sim {
    options: SimOptions,
    /// The placement that the cluster began with.
    ring: Ring,
    nodes: Vec<Node>,
    network: Network,
    random: Random,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    next_call: u64,
    outcomes: BTreeMap<CallId, Outcome>,
    ledger: Ledger,
    trace: u64,
    events: u64,
    begun_anew: u64,
    strikes: Strikes,
    /// What happened, for people; `None` if nobody is to read it.
    lines: Option<Trace>,
}

impl Sim {
    /// A cluster whose nodes all run, with all links up.
    ///
    /// # Panics
    /// If the options make no cluster.
    pub fn new(seed: u64, options: SimOptions) -> Self {
        let mut random = Random::new(seed);
        let ids: Vec<NodeId> = (1..=options.nodes as u64).map(NodeId).collect();
        let count = PartitionCount::new(options.partitions).expect("a power of two");
        let members: Vec<Member> = ids.iter().copied().map(Member::new).collect();
        let ring = Ring::place(&members, count, usize::from(options.policy.n), None)
            .expect("at least one node")
            .ring;
        let nodes = ids.iter().map(|&id| Node::new(id, &options, &mut random)).collect();
        let network = Network::new(options.network, random.split());
        let mut sim = Self {
            options,
            ring,
            nodes,
            network,
            random,
            now_ms: 1,
            queue: BTreeMap::new(),
            queued: 0,
            next_call: 0,
            outcomes: BTreeMap::new(),
            ledger: Ledger::default(),
            trace: seed,
            events: 0,
            begun_anew: 0,
            strikes: Strikes::default(),
            lines: None,
        };
        for node in 0..sim.nodes.len() {
            sim.start(node);
        }
        for node in 0..sim.nodes.len() {
            for peer in 0..sim.nodes.len() {
                sim.notice_link(node, peer);
            }
        }
        sim
    }

    /// Calls at a node, and returns what its outcome is found under. A node that does not run
    /// tells so at once.
    pub fn call(&mut self, node: usize, call: Call) -> CallId {
        self.next_call += 1;
        let id = CallId(self.next_call);
        let life = self.nodes[node].life;
        match &mut self.nodes[node].process {
            Some(process) => {
                process.calls.push(id);
                if let Some(lines) = &mut self.lines {
                    let call = format!("{call:?}");
                    lines.push(self.now_ms, Line::Called { node, call_id: id, call });
                }
                let event = Box::new(Event::Call { id, call });
                self.happen(Happening::Called { node, life, event });
            }
            None => {
                let error = RequestError::Disconnected("the node is down".to_owned());
                self.outcomes.insert(id, Err(error));
            }
        }
        id
    }

    /// Requests at a node, with a tracer in what the client presents to have seen, so that the
    /// ledger knows for which call a delta was made.
    pub(crate) fn call_traced(&mut self, node: usize, mut request: Request) -> CallId {
        if let Action::Update(operation) = &request.action {
            let tag = operation.tag().unwrap_or(Tag::BYTES);
            let key = &request.key;
            let scope = TokenScope {
                bucket: key.bucket(),
                generation: key.generation(),
                key: key.key(),
                tag: tag.0,
            };
            let secret = ClusterSecret::new(SECRET);
            let nothing = TokenClaims { context: CausalContext::default(), time: Stamp(0) };
            let mut claims = match &request.context {
                Some(token) => token.open(&secret, scope).expect("a token of this cluster"),
                None => nothing,
            };
            claims.context.insert(tracer(CallId(self.next_call + 1)));
            request.context = Some(ContextToken::seal(&secret, scope, &claims));
        }
        self.call(node, Call::Request(request))
    }

    /// Makes requests of one caller at once, in order, at a node that runs.
    ///
    /// # Panics
    /// If the node is down or paused.
    pub fn call_all(&mut self, node: usize, requests: Vec<Request>) -> Vec<CallId> {
        let first = self.next_call + 1;
        self.next_call += requests.len() as u64;
        let calls: Vec<CallId> = (first..=self.next_call).map(CallId).collect();
        assert!(self.nodes[node].paused.is_none(), "the node is paused");
        let process = self.nodes[node].process.as_mut().expect("the node runs");
        process.calls.extend_from_slice(&calls);
        let mut last = BTreeMap::new();
        for (&id, request) in calls.iter().zip(requests) {
            let after = last.insert(request.key.clone(), id);
            self.step(node, Event::Request { id, request, after });
        }
        calls
    }

    /// What became of a call, once.
    pub fn take_outcome(&mut self, id: CallId) -> Option<Outcome> {
        self.outcomes.remove(&id)
    }

    /// Lets time pass until the call is answered, as every call is within its time limit.
    ///
    /// # Panics
    /// If nothing is left to happen and the call is not answered.
    pub fn run_until_answered(&mut self, id: CallId) -> Outcome {
        loop {
            if let Some(outcome) = self.take_outcome(id) {
                return outcome;
            }
            assert!(self.happen_next(u64::MAX), "call {id:?} was never answered");
        }
    }

    /// Does a request at a node and waits for its answer.
    pub fn request(&mut self, node: usize, request: Request) -> Result<Answer, RequestError> {
        let id = self.call(node, Call::Request(request));
        match self.run_until_answered(id)? {
            Reply::Answer(answer) => Ok(answer),
            other => unreachable!("a request is answered by an answer, not {other:?}"),
        }
    }

    /// Does an operation at a node and waits for its answer.
    pub fn update(
        &mut self,
        node: usize,
        key: &Key,
        operation: Operation,
    ) -> Result<Answer, RequestError> {
        self.request(node, Request::update(key.clone(), operation))
    }

    /// Reads a key at a node, everything of it, with its contexts.
    pub fn get(&mut self, node: usize, key: &Key) -> Result<Answer, RequestError> {
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.want_context = true;
        self.request(node, request)
    }

    /// Asks a node about buckets, or has it change one, and waits for its answer.
    pub fn buckets(&mut self, node: usize, call: BucketCall) -> Result<BucketReply, RequestError> {
        let id = self.call(node, Call::Buckets(call));
        match self.run_until_answered(id)? {
            Reply::Buckets(reply) => Ok(reply),
            other => unreachable!("a call about buckets is not answered {other:?}"),
        }
    }

    /// Lets `ms` milliseconds pass.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now_ms.saturating_add(ms);
        while self.happen_next(until) {}
        self.now_ms = until;
    }

    /// Lets time pass until nothing is left to happen; where replicas are compared for ever, until
    /// they are equal, or should long be.
    ///
    /// # Panics
    /// If that does not come within an hour: something goes round in circles.
    pub fn run_until_quiet(&mut self) {
        if self.compares() {
            let latest = self.now_ms + EQUAL_WITHIN_MS;
            while self.now_ms < latest {
                self.advance(LOOK_MS);
                if self.is_equal() {
                    return;
                }
            }
            return;
        }
        let latest = self.now_ms + 3_600_000;
        while self.happen_next(u64::MAX) {
            assert!(self.now_ms < latest, "the cluster does not come to rest: {:?}", self.unrest());
        }
    }

    /// Whether nothing is pending or handed over, and the hash trees of the owners of every partition are
    /// equal.
    fn is_equal(&mut self) -> bool {
        if self.pending() > 0 || self.unrest().is_err() {
            return false;
        }
        let Some(ownership) = self.any_ownership().cloned() else { return false };
        let n = self.options.policy.n;
        ownership.partition_count().iter().all(|partition| {
            let owners = ownership.present(partition).owners(partition, n.into());
            let owners: Vec<usize> = owners.map(|owner| self.number_of(owner)).collect();
            let roots = owners.into_iter().filter_map(|owner| self.root(owner, partition));
            let roots: Vec<TreeNode> = roots.collect();
            roots.windows(2).all(|pair| pair[0] == pair[1])
                && roots.iter().all(|root| root.is_settled)
        })
    }

    /// Has the nodes that run look at all their rows, as they do now and then: what was damaged on a
    /// disk is found.
    pub fn scrub(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[node].process else { continue };
            while process.engine.recount_trees(usize::MAX) {}
            self.start_commit(node);
        }
    }

    /// Has the nodes that run remove all that is due by their clocks. Returns what they do not
    /// remove.
    pub fn expire_all(&mut self) -> Result<(), String> {
        let mut left = Vec::new();
        for _ in 0..SWEEPS {
            left.clear();
            for node in 0..self.nodes.len() {
                let wall_ms = self.wall_ms(node);
                let Some(process) = &mut self.nodes[node].process else { continue };
                // The search goes on where the last one ended, and then begins again.
                let mut keys = process.engine.due(wall_ms, 1_000);
                keys.extend(process.engine.due(wall_ms, 1_000));
                keys.sort();
                keys.dedup();
                // What a fallback holds is for the owners to remove.
                keys.retain(|(key, _)| self.owners(key).contains(&node));
                if !keys.is_empty() {
                    left.push((node, keys.clone()));
                    self.step(node, Event::Due { keys });
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            self.run_until_quiet();
        }
        Err(format!("due and not removed, by node: {left:?}"))
    }

    /// Whether replicas are compared in the background.
    pub const fn compares(&self) -> bool {
        self.options.anti_entropy.interval_ms.is_some()
    }

    /// Whether what is left of deleted keys is forgotten.
    pub const fn forgets(&self) -> bool {
        self.options.barrier_ms.is_some()
    }

    /// Begins to write down what happens, for people.
    pub fn begin_trace(&mut self) {
        self.lines.get_or_insert_default();
    }

    /// What happened since [`Sim::begin_trace`].
    pub fn take_trace(&mut self) -> Trace {
        self.lines.take().unwrap_or_default()
    }

    /// Writes down what happened, if anybody is to read it.
    fn note(&mut self, line: impl FnOnce() -> Line) {
        if let Some(lines) = &mut self.lines {
            lines.push(self.now_ms, line());
        }
    }

    /// A fault comes.
    pub(crate) fn strike(&mut self, fault: Fault, nodes: &[usize]) {
        self.strikes.count(fault);
        self.note(|| Line::Fault { fault, nodes: nodes.to_vec() });
    }

    /// How often each fault came so far.
    pub fn strikes(&self) -> Strikes {
        let mut strikes = self.strikes.clone();
        strikes.add(&self.network.strikes);
        let drifting = self.nodes.iter().filter(|node| node.drift_ppm != 0);
        drifting.for_each(|_| strikes.count(Fault::ClockDrift));
        strikes
    }

    /// Virtual milliseconds since the start.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Calls made since the start.
    pub const fn calls(&self) -> u64 {
        self.next_call
    }

    /// Events processed since the start.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Depends on everything that happened, and in which order.
    pub const fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// [`SimOptions::requests_max`].
    pub(crate) const fn requests_max(&self) -> usize {
        self.options.requests_max
    }

    /// The bucket policy.
    pub const fn policy(&self) -> BucketPolicy {
        self.options.policy
    }

    /// The numbers of the owners of `key`, in order of preference.
    pub fn owners(&self, key: &Key) -> Vec<usize> {
        let mut nodes = self.preference_list(key);
        nodes.truncate(usize::from(self.options.policy.n));
        nodes
    }

    /// The numbers of all nodes in the order in which they would serve `key`.
    pub fn preference_list(&self, key: &Key) -> Vec<usize> {
        let partition = self.ring.partition(ring::Token::of(key.bucket(), key.key()));
        let ring =
            self.any_ownership().map_or(&self.ring, |ownership| ownership.present(partition));
        ring.preference_list(partition).into_iter().map(|id| self.number_of(id)).collect()
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].process.is_some()
    }

    /// What one node's own replica shows of a key; `None` if the node is down.
    ///
    /// # Panics
    /// If the replica's record of the key is damaged.
    pub fn view(&mut self, node: usize, key: &Key) -> Option<View> {
        let process = self.nodes[node].process.as_mut()?;
        let view = events::read_whole(&mut process.engine, key);
        Some(view.expect("the record is whole"))
    }

    /// What a full scan of a node's replica finds wrong with its hash trees; `None` if it is down.
    ///
    /// # Panics
    /// If the replica cannot be read.
    pub fn check_trees(&self, node: usize) -> Option<TreeCheck> {
        let process = self.nodes[node].process.as_ref()?;
        Some(process.engine.check_trees().expect("simulated disks can be read"))
    }

    /// The root of a node's hash tree over the keys of the partition of `key`; `None` if it is down.
    ///
    /// # Panics
    /// If the replica cannot be read.
    pub fn tree_root(&mut self, node: usize, key: &Key) -> Option<TreeNode> {
        self.root(node, self.ring.partition(ring::Token::of(key.bucket(), key.key())))
    }

    fn root(&mut self, node: usize, partition: Partition) -> Option<TreeNode> {
        let process = self.nodes[node].process.as_mut()?;
        let mut answers = Vec::new();
        let command = Command::TreeRoots { n: self.options.policy.n, partitions: vec![partition] };
        process.engine.execute(Ticket(u64::MAX), command, &mut answers);
        match answers.pop() {
            Some((_, storage::Answer::TreeNodes(nodes))) => nodes.first().copied(),
            other => panic!("a question for a root was answered {other:?}"),
        }
    }

    /// A node's totals of what it did; `None` if it is down.
    pub fn counters(&self, node: usize) -> Option<replication::Counters> {
        self.nodes[node].process.as_ref().map(|process| *process.core.counters())
    }

    /// Keys of which the nodes that run hold deltas for others, summed over the owners.
    pub fn pending(&self) -> u64 {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running
            .map(|process| {
                self.nodes.iter().map(|owner| process.engine.pending_for(owner.id)).sum::<u64>()
            })
            .sum()
    }

    /// Every delta made so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn number_of(&self, id: NodeId) -> usize {
        usize::try_from(id.0 - 1).expect("ids are numbers from 1")
    }

    fn start(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let seed = self.any_ownership().cloned();
        let heard = self.any_barrier();
        let process = mix(mix(node as u64 + 1).wrapping_add(life)).wrapping_add(self.random.next());
        let state = &mut self.nodes[node];
        let config = EngineConfig {
            node: state.id,
            process,
            shards: ShardSet::all(Shards::new(self.ring.partition_count(), SHARDS)),
            pending_bytes_max: 1 << 30,
            hint_bytes_max: u64::MAX,
        };
        let (reader, files) = (state.disk.index.reader(), state.disk.files.clone());
        let indexed = shard_positions(&reader, config.shards.shards()).expect("it can be read");
        let mut replay = Replay::begin(reader, config).expect("it can be read");
        let visit = &mut |position, record: &[u8]| replay.replay(position, record);
        let (log, found) =
            Log::open(files, node as u64, &indexed, visit).expect("simulated disks open");
        assert!(found.damage.is_empty() || state.ills.is_rotten, "a crash is no damage: {found:?}");
        let mut engine = replay.finish(log.end());
        let notes = engine.notes().expect("simulated disks are read");
        let policies = PolicyTable::of_notes(&notes);
        let noted = Barrier::of_notes(&notes).expect("simulated disks keep notes whole");
        let mut barrier = Barrier::new(state.id, noted.clone());
        barrier.heard(&state.heard);
        let mut start = match state.reborn.take() {
            Some(table) => BarrierStart::As(Barrier::reborn(state.id, &table)),
            None => BarrierStart::AsNoted,
        };
        // Nothing is in it, whatever befell it: it holds nothing that is older. A node serves only once it
        // has heard of its cluster.
        let is_blank = noted.is_none() && engine.is_blank().expect("it can be read");
        if is_blank && start == BarrierStart::AsNoted {
            barrier.heard(&heard);
            if state.joins {
                start = BarrierStart::As(Barrier::reborn(state.id, &heard));
            } else if barrier.task() == BarrierTask::BeginAnew {
                start = BarrierStart::As(Barrier::reborn(state.id, &heard));
                self.begun_anew += 1;
            }
        }
        let interval_ms = self.options.barrier_ms;
        // Nodes of a run give names to what they pass on, and wait for it themselves.
        let times = BarrierTimes { interval_ms, retries_ms: 0 };
        let hand = BarrierHand::new(barrier, start, times, self.now_ms);
        let hand = barrier::Hand::new(hand);
        let kept = kept_ownership(&notes).expect("simulated disks keep notes whole");
        // Without a record of its own a node has what another tells it, as one that joins.
        let ownership = match kept {
            Some(kept) => Arc::new(kept),
            None => seed.unwrap_or_else(|| Arc::new(Ownership::new(self.ring.clone()))),
        };
        let buckets = Buckets::new(&policies, self.options.policy, &Limits::default());
        engine.set_tree_classes(buckets.tree_classes());
        let core = CoreConfig {
            node: state.id,
            core: 0,
            shards: ShardSet::all(Shards::new(self.ring.partition_count(), SHARDS)),
            anti_entropy: self.options.anti_entropy,
            incarnation: self.random.next(),
            names: ownership.members().iter().map(|&id| (id, format!("node{}", id.0))).collect(),
            secret: ClusterSecret::new(SECRET),
            default_policy: self.options.policy,
            policies,
            commits: KeptCommits::of_notes(&notes),
            limits: Limits::default(),
            spread: self.options.policy.n,
            timeout_ms: self.options.timeout_ms,
            cover_ms: self.options.cover_ms,
            requests_max: self.options.requests_max,
            deliveries_max: 16,
        };
        state.process = Some(Process {
            core: Core::new(core, ownership),
            engine,
            log,
            committing: false,
            calls: Vec::new(),
            hand: self.options.barrier_ms.is_some().then_some(hand),
        });
        self.enqueue_barrier(node);
    }
}
