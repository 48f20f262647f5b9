//! The network of three replicas, and the requests that the tests make.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clock::{ClusterSecret, NodeId};
use replication::{
    Answer, AntiEntropyConfig, BucketPolicy, Call, CallId, Core, CoreConfig, Effect, Event,
    KeptCommits, Message, Now, PolicyTable, Reply, Request, RequestError,
};
use ring::{Member, Ownership, PartitionCount, Ring};
use storage::{
    Batch, Command, Engine, EngineConfig, Log, Replay, ShardSet, Shards, SimDisk, SimFiles,
    SimIndexReader, Ticket,
};
use values::{
    Blob, BytesOp, CounterOp, Key, Limits, ManySiblings, Operation, OrsetOp, Register, RegisterOp,
    Scope, State, Tag, View,
};

pub(crate) const A: NodeId = NodeId(1);
pub(crate) const B: NodeId = NodeId(2);
pub(crate) const C: NodeId = NodeId(3);
const NODES: [NodeId; 3] = [A, B, C];

/// Requests that a core takes at once.
pub(crate) const REQUESTS_MAX: usize = 100;

struct Node {
    core: Core,
    engine: Engine<SimIndexReader>,
    log: Log<SimFiles>,
    disk: SimDisk,
    /// Whether what it writes is committed at once.
    commits: bool,
    batch: Option<Batch>,
}

/// Three replicas of every key. Messages arrive in order, when the test lets them run.
pub(crate) struct Net {
    nodes: BTreeMap<NodeId, Node>,
    pub(crate) now_ms: u64,
    queue: VecDeque<(NodeId, NodeId, Message)>,
    held: Vec<(NodeId, NodeId)>,
    replies: BTreeMap<CallId, Result<Reply, RequestError>>,
    next_call: u64,
    /// What administrators were told of.
    pub(crate) reported: Vec<ManySiblings>,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self::with_room(1 << 30)
    }

    /// Engines that refuse writes once more than `room` bytes wait for the disk.
    pub(crate) fn with_room(room: usize) -> Self {
        let nodes = NODES.map(|id| (id, Node::new(id, room))).into();
        let mut net = Self {
            nodes,
            now_ms: 1_000,
            queue: VecDeque::new(),
            held: Vec::new(),
            replies: BTreeMap::new(),
            next_call: 0,
            reported: Vec::new(),
        };
        net.links(true);
        net
    }

    fn links(&mut self, up: bool) {
        NODES.into_iter().for_each(|node| self.links_of(node, up));
        self.run();
    }

    /// Lets one node know that its links went up or down.
    pub(crate) fn links_of(&mut self, node: NodeId, up: bool) {
        for peer in NODES.into_iter().filter(|&peer| peer != node) {
            self.event(node, if up { Event::LinkUp(peer) } else { Event::LinkDown(peer) });
        }
    }

    /// Holds up what is sent from one node to another.
    pub(crate) fn hold(&mut self, ways: &[(NodeId, NodeId)]) {
        self.held.extend_from_slice(ways);
    }

    /// Lets go of what was held up.
    pub(crate) fn release(&mut self) {
        self.held.clear();
    }

    /// Loses what is on its way.
    pub(crate) fn lose(&mut self) {
        self.queue.clear();
        self.held.clear();
    }

    /// Lets all links come up anew, and five minutes pass.
    pub(crate) fn heal(&mut self) {
        self.held.clear();
        self.links(false);
        self.links(true);
        self.pass(300_000);
    }

    pub(crate) fn disk(&self, node: NodeId) -> &SimDisk {
        &self.nodes[&node].disk
    }

    pub(crate) fn core(&self, node: NodeId) -> &Core {
        &self.nodes[&node].core
    }

    /// Lets a node's writes wait, or commits what waited.
    pub(crate) fn set_commits(&mut self, node: NodeId, commits: bool) {
        self.nodes.get_mut(&node).unwrap().commits = commits;
        if commits {
            self.commit(node);
        }
    }

    fn event(&mut self, id: NodeId, event: Event) {
        let now = Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms };
        let node = self.nodes.get_mut(&id).unwrap();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            node.core.step(now, event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Send { to, message } => self.queue.push_back((id, to, message)),
                    Effect::Storage { ticket, command } => {
                        let mut answers = Vec::new();
                        node.engine.execute(ticket, command, &mut answers);
                        let answers = answers.into_iter();
                        events.extend(
                            answers.map(|(ticket, answer)| Event::Storage { ticket, answer }),
                        );
                    }
                    // There is one core, and it is the one that made them.
                    Effect::Buckets(_)
                    | Effect::Ownership(_)
                    | Effect::Tenures { .. }
                    | Effect::Superseded { .. }
                    | Effect::TimedOut(_) => {}
                    Effect::ManySiblings { many, .. } => self.reported.push(many),
                    Effect::Reply { id, reply } => {
                        assert!(self.replies.insert(id, reply).is_none(), "two replies to {id:?}");
                    }
                }
            }
        }
        if node.commits {
            self.commit(id);
        }
    }

    fn commit(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(batch) = node.batch.take().or_else(|| node.engine.take_batch()) else {
                return;
            };
            let mut batch = batch;
            let result = node.log.commit(&mut batch.records, batch.sync);
            let mut answers = Vec::new();
            node.engine.committed(batch.id, result, &mut answers);
            // What is in the log goes into the index as soon as it can.
            node.engine.freeze(node.log.end());
            if let Some(checkpoint) = node.engine.take_checkpoint() {
                let written = checkpoint.write(&mut node.disk.index.writer(), &mut || ());
                node.engine.checkpointed(written);
            }
            let commits = std::mem::replace(&mut node.commits, false);
            for (ticket, answer) in answers {
                self.event(id, Event::Storage { ticket, answer });
            }
            self.nodes.get_mut(&id).unwrap().commits = commits;
        }
    }

    /// Delivers the oldest message that is not held up; false if there is none.
    pub(crate) fn step(&mut self) -> bool {
        let held = &self.held;
        let goes = |(from, to, _): &(NodeId, NodeId, Message)| !held.contains(&(*from, *to));
        let Some(at) = self.queue.iter().position(goes) else { return false };
        let (from, to, message) = self.queue.remove(at).unwrap();
        self.event(to, Event::Received { from, message });
        true
    }

    /// Delivers everything that is not held up, and what follows from it, at this moment.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// Delivers until a node's own replica shows `value`, and nothing after that.
    pub(crate) fn run_until_register(&mut self, node: NodeId, value: &str) {
        while register(&self.show(node)) != Some(blob(value)) {
            assert!(self.step(), "{node:?} never shows {value}");
        }
    }

    /// Traces of the messages on their way.
    pub(crate) fn traces(&self) -> Vec<u64> {
        self.queue.iter().map(|(_, _, message)| message.trace).collect()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        self.run();
        loop {
            let timeouts = self.nodes.iter();
            let next = timeouts.filter_map(|(&id, node)| Some((node.core.next_timeout()?, id)));
            let Some((at, id)) = next.min().filter(|&(at, _)| at <= end) else { break };
            self.now_ms = self.now_ms.max(at);
            self.event(id, Event::Tick);
            self.run();
        }
        self.now_ms = end;
    }

    /// Gives a node a request, and lets nothing be delivered yet.
    pub(crate) fn call(&mut self, node: NodeId, request: Request) -> CallId {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.event(node, Event::Call { id, call: Call::Request(request) });
        id
    }

    /// Gives a node requests of one caller at once, and lets nothing be delivered yet.
    pub(crate) fn call_all(&mut self, node: NodeId, requests: Vec<Request>) -> Vec<CallId> {
        let first = self.next_call + 1;
        self.next_call += requests.len() as u64;
        let calls: Vec<CallId> = (first..=self.next_call).map(CallId).collect();
        let mut after = None;
        for (&id, request) in calls.iter().zip(requests) {
            let is_followed = Some(&id) != calls.last();
            let after = after.replace(id);
            self.event(node, Event::Request { id, request, after, is_followed });
        }
        calls
    }

    /// Does requests of one caller, given at once, and returns what they were answered.
    pub(crate) fn ask_all(&mut self, node: NodeId, requests: Vec<Request>) -> Vec<Answer> {
        let calls = self.call_all(node, requests);
        self.pass(3_000);
        calls.into_iter().map(|call| self.take_reply(call).expect("an answer").unwrap()).collect()
    }

    /// What a request was answered, once.
    pub(crate) fn take_reply(&mut self, id: CallId) -> Option<Result<Answer, RequestError>> {
        Some(match self.replies.remove(&id)? {
            Ok(Reply::Answer(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?} is no answer to a request"),
            Err(error) => Err(error),
        })
    }

    /// Does a request, within three seconds.
    pub(crate) fn ask(&mut self, node: NodeId, request: Request) -> Result<Answer, RequestError> {
        let id = self.call(node, request);
        self.run();
        if !self.replies.contains_key(&id) {
            self.pass(3_000);
        }
        self.take_reply(id).expect("every request is answered in its time")
    }

    /// Does a request that is answered without that time passes, by w or r owners.
    pub(crate) fn ask_at_once(&mut self, node: NodeId, request: Request) -> Answer {
        let id = self.call(node, request);
        self.run();
        let answer = self.take_reply(id).expect("an answer at once").unwrap();
        assert!(answer.acks.is_met(), "{:?}", answer.acks);
        answer
    }

    /// What a node's own replica shows.
    pub(crate) fn show(&mut self, node: NodeId) -> View {
        let mut answers = Vec::new();
        let command = Command::Read { key: key(), scope: Scope::Whole };
        let node = self.nodes.get_mut(&node).unwrap();
        node.engine.execute(Ticket(u64::MAX), command, &mut answers);
        match answers.pop().unwrap().1 {
            storage::Answer::View(view) => view,
            other => panic!("a read was answered {other:?}"),
        }
    }

    pub(crate) fn assert_replicas_equal(&mut self) {
        let first = self.show(A).value;
        for node in [B, C] {
            assert_eq!(self.show(node).value, first, "{node:?} differs from {A:?}");
        }
    }
}

impl Node {
    fn new(id: NodeId, room: usize) -> Self {
        let partitions = PartitionCount::new(16).unwrap();
        let config = CoreConfig {
            node: id,
            core: 0,
            shards: ShardSet::all(Shards::new(partitions, 4)),
            anti_entropy: AntiEntropyConfig::OFF,
            incarnation: id.0,
            names: BTreeMap::new(),
            secret: ClusterSecret::new(*b"secret"),
            default_policy: BucketPolicy::default(),
            policies: PolicyTable::default(),
            commits: KeptCommits::default(),
            limits: Limits::default(),
            timeout_ms: 2_000,
            cover_ms: 100,
            requests_max: REQUESTS_MAX,
            deliveries_max: 64,
        };
        let members = NODES.map(Member::new);
        let ring = Ring::place(&members, partitions, 3, None).unwrap().ring;
        let disk = SimDisk::new();
        let engine = EngineConfig {
            node: id,
            process: id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            shards: ShardSet::all(Shards::new(partitions, 4)),
            pending_bytes_max: room,
            hint_bytes_max: u64::MAX,
            bounds: storage::EngineBounds::default(),
        };
        Self {
            core: Core::new(config, Arc::new(Ownership::new(ring))),
            engine: Replay::begin(disk.index.reader(), engine).unwrap().finish(0, true),
            log: Log::open(disk.files.clone(), 0, &[], &mut |_, _| ()).unwrap().0,
            disk,
            commits: true,
            batch: None,
        }
    }
}

pub(crate) fn key() -> Key {
    Key::new("default", "k").unwrap()
}

pub(crate) fn blob(text: &str) -> Blob {
    Blob::copy_from_slice(text.as_bytes())
}

pub(crate) fn update(operation: Operation) -> Request {
    Request::update(key(), operation)
}

pub(crate) fn put(value: &str) -> Request {
    update(Operation::Bytes(BytesOp::Put(blob(value))))
}

pub(crate) fn sadd(element: &str) -> Request {
    update(Operation::Orset(OrsetOp::Add(vec![blob(element)])))
}

pub(crate) fn srem(element: &str) -> Request {
    update(Operation::Orset(OrsetOp::Remove(vec![blob(element)])))
}

/// As Redis's SET: replaces what is there of any type.
pub(crate) fn set(value: &str) -> Request {
    update(Operation::Register(RegisterOp::Set { value: blob(value), at: None, replace: true }))
}

pub(crate) fn incr(by: i64) -> Request {
    update(Operation::Register(RegisterOp::Increment(by)))
}

pub(crate) fn count(by: i64) -> Request {
    update(Operation::Counter(CounterOp::Add(by)))
}

/// A read at one owner.
pub(crate) fn read_one() -> Request {
    let mut get = Request::get(key(), Scope::Whole);
    get.level.r = Some(1);
    get
}

pub(crate) fn register(view: &View) -> Option<Blob> {
    match view.value.state(Tag::LWW) {
        Some(State::Register(register)) => Register::read(register),
        _ => None,
    }
}

pub(crate) fn counted(view: &View) -> i128 {
    match view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => counter.tally.value(),
        _ => 0,
    }
}
