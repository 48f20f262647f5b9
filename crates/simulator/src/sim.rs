//! The simulated cluster: cores and engines, the queue of what happens next, and the handles that
//! tests and fault injection pull.
//!
//! One queue, ordered by virtual time and then by the order of insertion, decides everything; every
//! choice comes from the seed. A crash loses what no disk had committed and everything on its way
//! to or from the node; a node that starts again has a new process id, as a real one would.

use std::collections::BTreeMap;

use clock::{ClusterSecret, NodeId};
use replication::{
    Action, Answer, BucketPolicy, Call, CallId, Core, CoreConfig, Effect, Event, Message, Now,
    Reply, Request, RequestError,
};
use ring::{Member, PartitionCount, Ring};
use storage::{
    Batch, Command, Engine, EngineConfig, IndexWrite, SeamError, SimIndex, SimIndexReader,
    SimIndexWriter, Ticket,
};
use values::{Key, Limits, Operation, Scope, View};

use crate::{NetworkFaults, Random, network::Network, oracle::DotOracle, random::mix};

/// Wall clock at the start of every simulation, in milliseconds since 1970: any late enough for
/// clocks to be set back.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// Rows of cleared collections that an engine looks at after each commit.
const SWEEP_ROWS: usize = 8;

/// What disks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// Shortest commit, in milliseconds.
    pub commit_min_ms: u64,
    /// Longest commit, in milliseconds.
    pub commit_max_ms: u64,
    /// Commits that fail with nothing applied, in a thousand.
    pub refused: u32,
    /// Commits that are applied and reported as failed, in a thousand.
    pub misreported: u32,
}

impl Default for DiskFaults {
    /// A disk that does what it should.
    fn default() -> Self {
        Self { commit_min_ms: 1, commit_max_ms: 1, refused: 0, misreported: 0 }
    }
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Nodes, at least 1.
    pub nodes: usize,
    /// Partitions, a power of two.
    pub partitions: u32,
    /// Policy of every bucket.
    pub policy: BucketPolicy,
    /// The network.
    pub network: NetworkFaults,
    /// The disks.
    pub disk: DiskFaults,
    /// How far each wall clock may be off, either way, in milliseconds.
    pub skew_ms: u64,
    /// [`CoreConfig::timeout_ms`].
    pub timeout_ms: u32,
    /// [`CoreConfig::cover_ms`].
    pub cover_ms: u32,
    /// [`CoreConfig::requests_max`].
    pub requests_max: usize,
}

impl Default for SimOptions {
    /// Three nodes, nothing fails.
    fn default() -> Self {
        Self {
            nodes: 3,
            partitions: 16,
            policy: BucketPolicy::default(),
            network: NetworkFaults::default(),
            disk: DiskFaults::default(),
            skew_ms: 0,
            timeout_ms: 2_000,
            cover_ms: 100,
            requests_max: 1_000,
        }
    }
}

/// What a client was told.
pub type Outcome = Result<Reply, RequestError>;

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    Arrival { from: usize, from_life: u64, to: usize, to_life: u64, message: Message },
    Committed { node: usize, life: u64, batch: Batch },
    LinkNoticed { node: usize, peer: usize },
}

/// A node that runs.
#[derive(Debug)]
struct Process {
    core: Core,
    engine: Engine<SimIndexReader>,
    writer: SimIndexWriter,
    /// The batch that the disk works on, if it does.
    committing: bool,
    /// Operations that the engine was given and has not prepared yet.
    preparing: BTreeMap<Ticket, (Key, Operation)>,
    calls: Vec<CallId>,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    disk: SimIndex,
    process: Option<Process>,
    /// Counts starts and crashes: what was sent in an earlier life does not arrive in this one.
    life: u64,
    /// How far the wall clock is off.
    skew_ms: i64,
}

/// A simulated cluster.
#[derive(Debug)]
pub struct Sim {
    options: SimOptions,
    ring: Ring,
    nodes: Vec<Node>,
    network: Network,
    random: Random,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    next_call: u64,
    outcomes: BTreeMap<CallId, Outcome>,
    oracle: DotOracle,
    trace: u64,
    events: u64,
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
        let skews = options.skew_ms;
        let nodes = ids.iter().map(|&id| Node {
            id,
            disk: SimIndex::new(),
            process: None,
            life: 0,
            skew_ms: random.below(2 * skews + 1) as i64 - skews as i64,
        });
        let nodes = nodes.collect();
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
            oracle: DotOracle::default(),
            trace: seed,
            events: 0,
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
        match &mut self.nodes[node].process {
            Some(process) => {
                process.calls.push(id);
                self.step(node, Event::Call { id, call });
            }
            None => {
                let error = RequestError::Disconnected("the node is down".to_owned());
                self.outcomes.insert(id, Err(error));
            }
        }
        id
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

    /// Lets `ms` milliseconds pass.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now_ms.saturating_add(ms);
        while self.happen_next(until) {}
        self.now_ms = until;
    }

    /// Lets time pass until nothing is left to happen.
    ///
    /// # Panics
    /// If that does not come within an hour: something goes round in circles.
    pub fn run_until_quiet(&mut self) {
        let latest = self.now_ms + 3_600_000;
        while self.happen_next(u64::MAX) {
            assert!(self.now_ms < latest, "the cluster does not come to rest");
        }
    }

    /// Virtual milliseconds since the start.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
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

    /// The placement.
    pub const fn ring(&self) -> &Ring {
        &self.ring
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
        self.ring.preference_list(partition).into_iter().map(|id| self.number_of(id)).collect()
    }

    /// Cuts both ways between two nodes.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_way(a, b);
        self.cut_way(b, a);
    }

    /// Cuts the way of messages from one node to another only.
    pub fn cut_way(&mut self, from: usize, to: usize) {
        self.network.cut_way(from, to);
        self.links_changed(from, to);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
            self.cut(node, peer);
        }
    }

    /// Mends all ways.
    pub fn heal(&mut self) {
        self.network.heal();
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

    /// Changes what the disks do from now on.
    pub const fn set_disk(&mut self, faults: DiskFaults) {
        self.options.disk = faults;
    }

    /// Sets a node's wall clock forward or back.
    pub fn jump_clock(&mut self, node: usize, by_ms: i64) {
        self.nodes[node].skew_ms = self.nodes[node].skew_ms.saturating_add(by_ms);
    }

    /// Kills a node: what its disk has not committed is lost. A batch that the disk works on may
    /// be committed or not. Its clients learn that the connection broke.
    pub fn crash(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else { return };
        let life = self.nodes[node].life;
        self.nodes[node].life += 1;
        let under_way = self.queue.iter().find_map(|(&at, happening)| match happening {
            Happening::Committed { node: of, life: in_life, .. }
                if *of == node && *in_life == life =>
            {
                Some(at)
            }
            _ => None,
        });
        if let Some(at) = under_way
            && let Some(Happening::Committed { batch, .. }) = self.queue.remove(&at)
            && self.random.chance(500)
        {
            // What a failing disk would have said, nobody is there to hear.
            let _ = self.nodes[node].disk.writer().commit(&batch.changes);
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

    /// Starts a node that crashed, with what its disk holds.
    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].process.is_none() {
            self.start(node);
            for peer in 0..self.nodes.len() {
                self.links_changed(node, peer);
            }
        }
    }

    /// Empties the disk of a node that is down.
    ///
    /// # Panics
    /// If the node runs.
    pub fn wipe(&mut self, node: usize) {
        assert!(self.nodes[node].process.is_none(), "crash the node first");
        self.nodes[node].disk.wipe();
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
        let mut answers = Vec::new();
        let command = Command::Read { key: key.clone(), scope: Scope::Whole };
        process.engine.execute(Ticket(u64::MAX), command, &mut answers);
        match answers.pop() {
            Some((_, storage::Answer::View(view))) => Some(view),
            other => panic!("a read was answered {other:?}"),
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

    /// What the oracle of dots found wrong.
    pub fn dot_violations(&self) -> &[String] {
        self.oracle.violations()
    }

    fn number_of(&self, id: NodeId) -> usize {
        usize::try_from(id.0 - 1).expect("ids are numbers from 1")
    }

    fn start(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let process = mix(mix(node as u64 + 1).wrapping_add(life)).wrapping_add(self.random.next());
        let state = &mut self.nodes[node];
        let config = EngineConfig {
            node: state.id,
            process,
            partitions: self.ring.partition_count(),
            limits: Limits::default(),
            pending_bytes_max: 1 << 30,
        };
        let engine = Engine::open(state.disk.reader(), config).expect("simulated disks open");
        let core = CoreConfig {
            node: state.id,
            core: 0,
            incarnation: self.random.next(),
            names: self.ring.members().iter().map(|&id| (id, format!("node{}", id.0))).collect(),
            secret: ClusterSecret::new(*b"simulated"),
            default_policy: self.options.policy,
            policies: BTreeMap::new(),
            timeout_ms: self.options.timeout_ms,
            cover_ms: self.options.cover_ms,
            requests_max: self.options.requests_max,
            deliveries_max: 16,
        };
        state.process = Some(Process {
            core: Core::new(core, self.ring.clone()),
            engine,
            writer: state.disk.writer(),
            committing: false,
            preparing: BTreeMap::new(),
            calls: Vec::new(),
        });
    }

    fn links_changed(&mut self, a: usize, b: usize) {
        let notice_ms = self.network.faults.notice_ms;
        for (node, peer) in [(a, b), (b, a)] {
            if node != peer {
                let at = self.now_ms + self.random.below(notice_ms + 1);
                self.enqueue(at, Happening::LinkNoticed { node, peer });
            }
        }
    }

    fn notice_link(&mut self, node: usize, peer: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        if node == peer {
            return;
        }
        let id = self.nodes[peer].id;
        let is_up = self.nodes[peer].process.is_some() && self.network.is_linked(node, peer);
        match (process.core.is_in_reach(id), is_up) {
            (false, true) => self.step(node, Event::LinkUp(id)),
            (true, false) => self.step(node, Event::LinkDown(id)),
            _ => {}
        }
    }

    fn enqueue(&mut self, at_ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at_ms, self.queued), happening);
    }

    /// Lets the next thing happen if its time is at most `until_ms`.
    fn happen_next(&mut self, until_ms: u64) -> bool {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let timeouts = self.nodes.iter().enumerate().filter_map(|(number, node)| {
            Some((node.process.as_ref()?.core.next_timeout()?, number))
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

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival { from, from_life, to, to_life, message } => {
                let is_current = self.nodes[from].life == from_life
                    && self.nodes[to].life == to_life
                    && self.nodes[to].process.is_some();
                // A way that was cut meanwhile swallows what was on it.
                if is_current && !self.network.is_cut(from, to) {
                    let from = self.nodes[from].id;
                    self.step(to, Event::Received { from, message });
                }
            }
            Happening::Committed { node, life, batch } if self.nodes[node].life == life => {
                self.committed(node, batch);
            }
            Happening::Committed { .. } => {}
            Happening::LinkNoticed { node, peer } => self.notice_link(node, peer),
        }
    }

    fn committed(&mut self, node: usize, batch: Batch) {
        let disk = &self.nodes[node].disk;
        if self.random.chance(self.options.disk.refused) {
            disk.fail_next(SeamError::Full);
        } else if self.random.chance(self.options.disk.misreported) {
            disk.apply_and_fail_next(SeamError::Io("simulated".to_owned()));
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        let result = process.writer.commit(&batch.changes);
        process.committing = false;
        self.trace(3, node as u64, u64::from(result.is_ok()));
        let mut answers = Vec::new();
        if let Some(process) = &mut self.nodes[node].process {
            process.engine.committed(batch.id, result, &mut answers);
            process.engine.sweep(SWEEP_ROWS);
        }
        let mut events: Vec<Event> =
            answers.into_iter().map(|(ticket, answer)| Event::Storage { ticket, answer }).collect();
        self.run(node, &mut events);
    }

    fn step(&mut self, node: usize, event: Event) {
        self.run(node, &mut vec![event]);
    }

    /// Gives a node events until it has done everything that follows at once.
    fn run(&mut self, node: usize, events: &mut Vec<Event>) {
        let mut queue: std::collections::VecDeque<Event> = std::mem::take(events).into();
        let wall = (WALL_START_MS + self.now_ms) as i64 + self.nodes[node].skew_ms;
        let now = Now { monotonic_ms: self.now_ms, wall_ms: wall.max(0) as u64 };
        let mut effects = Vec::new();
        while let Some(event) = queue.pop_front() {
            self.events += 1;
            self.trace_event(node, &event);
            let Some(process) = &mut self.nodes[node].process else { return };
            process.core.step(now, event, &mut effects);
            for effect in std::mem::take(&mut effects) {
                self.perform(node, effect, &mut queue);
            }
        }
        self.start_commit(node);
    }

    fn perform(
        &mut self,
        node: usize,
        effect: Effect,
        queue: &mut std::collections::VecDeque<Event>,
    ) {
        match effect {
            Effect::Send { to, message } => {
                let to = self.number_of(to);
                let (from_life, to_life) = (self.nodes[node].life, self.nodes[to].life);
                for way_ms in self.network.ways(node, to) {
                    let message = message.clone();
                    let arrival =
                        Happening::Arrival { from: node, from_life, to, to_life, message };
                    self.enqueue(self.now_ms + way_ms, arrival);
                }
            }
            Effect::Storage { ticket, command } => self.store(node, ticket, command, queue),
            Effect::Reply { id, reply } => {
                self.trace(2, id.0, u64::from(reply.is_ok()));
                if let Some(process) = &mut self.nodes[node].process {
                    process.calls.retain(|&call| call != id);
                }
                let before = self.outcomes.insert(id, reply);
                assert!(before.is_none(), "call {id:?} was answered twice");
            }
        }
    }

    fn store(
        &mut self,
        node: usize,
        ticket: Ticket,
        command: Command,
        queue: &mut std::collections::VecDeque<Event>,
    ) {
        let id = self.nodes[node].id;
        let Some(process) = &mut self.nodes[node].process else { return };
        if let Command::Update { key, operation, .. } = &command {
            process.preparing.insert(ticket, (key.clone(), operation.clone()));
        }
        let mut answers = Vec::new();
        process.engine.execute(ticket, command, &mut answers);
        for (ticket, answer) in answers {
            if let Some((key, operation)) = process.preparing.remove(&ticket)
                && let storage::Answer::Prepared { delta, .. } = &answer
            {
                self.oracle.prepared(id, &key, &operation, delta);
            }
            queue.push_back(Event::Storage { ticket, answer });
        }
    }

    fn start_commit(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.committing {
            return;
        }
        if let Some(batch) = process.engine.take_batch() {
            process.committing = true;
            let disk = self.options.disk;
            let takes_ms = self.random.between(disk.commit_min_ms, disk.commit_max_ms);
            self.enqueue(self.now_ms + takes_ms, Happening::Committed { node, life, batch });
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
            Event::Storage { ticket, .. } => self.trace(5, ticket.0, node as u64),
            Event::LinkUp(peer) => self.trace(6, peer.0, node as u64),
            Event::LinkDown(peer) => self.trace(7, peer.0, node as u64),
            Event::Tick => self.trace(8, node as u64, 0),
        }
    }

    const fn trace(&mut self, kind: u64, a: u64, b: u64) {
        let folded = mix(self.trace ^ self.now_ms).wrapping_add(mix(a ^ (kind << 56)));
        self.trace = mix(folded ^ b.rotate_left(17));
    }
}
