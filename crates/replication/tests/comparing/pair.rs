//! Two replicas of everything, and what they send one another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clock::{CausalContext, ClusterSecret, NodeId, Stamp};
use replication::{
    AntiEntropyConfig, BucketPolicy, Call, CallId, Core, CoreConfig, Counters, Effect, Event,
    KeptCommits, Message, Now, PolicyTable, RepairProgress, RepairRequest, Reply,
};
use ring::{Member, Ownership, Partition, PartitionCount, Ring};
use storage::{
    Answer, Command, Durability, EngineConfig, MemoryEngine, ShardSet, Shards, TreeNode,
};
use values::{Delta, Key, Limits, Operation, Scope, View};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

/// How the two are made.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) partitions: u32,
    pub(crate) shards: u16,
    pub(crate) bytes_per_second: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { partitions: 16, shards: 4, bytes_per_second: u64::MAX }
    }
}

struct Side {
    core: Core,
    engine: MemoryEngine,
}

/// The two.
pub(crate) struct Pair {
    options: Options,
    sides: Vec<Side>,
    pub(crate) now_ms: u64,
    queue: VecDeque<(usize, Message)>,
    replies: BTreeMap<CallId, Reply>,
    calls: u64,
    /// Bytes of all messages, encoded, and how many there were.
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

impl Pair {
    pub(crate) fn new(options: Options) -> Self {
        let partitions = PartitionCount::new(options.partitions).expect("a power of two");
        let shards = ShardSet::all(Shards::new(partitions, options.shards));
        let ring = Ring::place(&NODES.map(Member::new), partitions, 2, None).expect("two nodes");
        let sides = NODES.map(|node| {
            let config = CoreConfig {
                node,
                core: 0,
                shards: shards.clone(),
                anti_entropy: AntiEntropyConfig {
                    interval_ms: None,
                    bytes_per_second: options.bytes_per_second,
                },
                incarnation: node.0,
                names: BTreeMap::new(),
                secret: ClusterSecret::new(*b"secret"),
                default_policy: BucketPolicy::default(),
                policies: PolicyTable::default(),
                commits: KeptCommits::default(),
                limits: Limits::default(),
                timeout_ms: 2_000,
                cover_ms: 100,
                requests_max: 100,
                deliveries_max: 4,
            };
            let engine = EngineConfig {
                node,
                process: node.0.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                shards: shards.clone(),
                pending_bytes_max: 1 << 30,
                hint_bytes_max: u64::MAX,
                bounds: storage::EngineBounds::default(),
            };
            Side {
                core: Core::new(config, Arc::new(Ownership::new(ring.ring.clone()))),
                engine: MemoryEngine::new(engine),
            }
        });
        let mut pair = Self {
            options,
            sides: sides.into(),
            now_ms: 1_000,
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            calls: 0,
            bytes: 0,
            messages: 0,
        };
        pair.link();
        pair
    }

    /// Lets the link between the two come up.
    pub(crate) fn link(&mut self) {
        for side in [A, B] {
            self.event(side, Event::LinkUp(NODES[1 - side]));
        }
        self.run(usize::MAX);
        (self.bytes, self.messages) = (0, 0);
    }

    /// Breaks the link, and loses what was on its way.
    pub(crate) fn cut(&mut self) {
        self.queue.clear();
        for side in [A, B] {
            self.event(side, Event::LinkDown(NODES[1 - side]));
        }
        self.queue.clear();
    }

    pub(crate) fn engine(&mut self, side: usize) -> &mut MemoryEngine {
        &mut self.sides[side].engine
    }

    pub(crate) fn counters(&self, side: usize) -> Counters {
        *self.sides[side].core.counters()
    }

    fn event(&mut self, side: usize, event: Event) {
        let now = Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms };
        let mut events = VecDeque::from([event]);
        let Side { core, engine } = &mut self.sides[side];
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            core.step(now, event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Send { message, .. } => {
                        self.bytes += clock::encoded_length(&message);
                        self.messages += 1;
                        self.queue.push_back((1 - side, message));
                    }
                    Effect::Storage { ticket, command } => {
                        let answers = engine.execute_now(command).into_iter();
                        events.extend(answers.map(|answer| Event::Storage { ticket, answer }));
                    }
                    Effect::Reply { id, reply } => {
                        self.replies.insert(id, reply.expect("nothing speaks against it"));
                    }
                    Effect::Buckets(_)
                    | Effect::Ownership(_)
                    | Effect::Tenures { .. }
                    | Effect::Superseded { .. }
                    | Effect::ManySiblings { .. }
                    | Effect::TimedOut(_) => {}
                }
            }
        }
    }

    /// Delivers up to `steps` messages, and lets time pass where nothing is on its way. Returns how
    /// many were left.
    pub(crate) fn run(&mut self, mut steps: usize) -> usize {
        loop {
            while let Some((to, message)) = self.queue.pop_front() {
                if steps == 0 {
                    self.queue.push_front((to, message));
                    return 0;
                }
                steps -= 1;
                let from = NODES[1 - to];
                self.event(to, Event::Received { from, message });
            }
            let timeouts = [A, B].map(|side| self.sides[side].core.next_timeout());
            let Some((at, side)) =
                [A, B].into_iter().filter_map(|side| Some((timeouts[side]?, side))).min()
            else {
                return steps;
            };
            self.now_ms = self.now_ms.max(at);
            self.event(side, Event::Tick);
        }
    }

    fn call(&mut self, side: usize, call: Call) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.event(side, Event::Call { id, call });
        id
    }

    /// Has one side compare everything.
    pub(crate) fn begin(&mut self, side: usize) -> RepairProgress {
        self.repair(side, None)
    }

    pub(crate) fn repair(&mut self, side: usize, since_ms: Option<u64>) -> RepairProgress {
        let last = self.options.partitions - 1;
        let request = RepairRequest { first: 0, last, bucket: None, since_ms };
        let id = self.call(side, Call::Repair(request));
        match self.replies.remove(&id) {
            Some(Reply::Repair(progress)) => progress,
            other => panic!("a repair was answered {other:?}"),
        }
    }

    /// Has one side compare everything until all is equal.
    pub(crate) fn compare(&mut self, side: usize) {
        let begun = self.begin(side);
        self.run(usize::MAX);
        let progress = self.repair(side, Some(begun.since_ms));
        assert_eq!(progress.equal, u64::from(self.options.partitions), "{progress:?}");
        assert_eq!(progress.pairs, progress.equal);
    }

    /// Writes at one side alone. Returns the delta.
    pub(crate) fn write(&mut self, side: usize, key: &Key, operation: Operation) -> Delta {
        self.try_write(side, key, operation).expect("nothing speaks against it")
    }

    /// The same; `None` if it was refused.
    pub(crate) fn try_write(
        &mut self,
        side: usize,
        key: &Key,
        operation: Operation,
    ) -> Option<Delta> {
        let seen = self.view(side, key).value.context(values::Tag::BYTES).clone();
        let command = update(key, operation, seen, self.now_ms);
        self.now_ms += 1;
        match self.sides[side].engine.execute_now(command).swap_remove(0) {
            Answer::Prepared { delta, .. } => Some(delta),
            Answer::Refused(_) => None,
            other => panic!("a write was answered {other:?}"),
        }
    }

    pub(crate) fn merge(&mut self, side: usize, key: &Key, delta: Delta) {
        let answers = self.sides[side].engine.execute_now(merge(key, delta));
        assert_eq!(answers, [Answer::Merged(None)]);
    }

    /// Writes many keys at both, for the first time.
    pub(crate) fn fill(&mut self, keys: &[Key], operation: &Operation) {
        for keys in keys.chunks(10_000) {
            let nothing = CausalContext::default;
            let updates =
                keys.iter().map(|key| update(key, operation.clone(), nothing(), self.now_ms));
            let answers = self.sides[A].engine.execute_all(updates);
            let deltas = answers.into_iter().filter_map(|answer| match answer {
                Answer::Prepared { delta, .. } => Some(delta),
                _ => None,
            });
            let merges: Vec<Command> =
                keys.iter().zip(deltas).map(|(key, delta)| merge(key, delta)).collect();
            assert_eq!(merges.len(), keys.len());
            self.sides[B].engine.execute_all(merges);
        }
    }

    /// Writes at both.
    pub(crate) fn write_both(&mut self, key: &Key, operation: Operation) {
        let delta = self.write(A, key, operation);
        self.merge(B, key, delta);
    }

    pub(crate) fn view(&mut self, side: usize, key: &Key) -> View {
        let command = Command::Read { key: key.clone(), scope: Scope::Whole };
        match self.sides[side].engine.execute_now(command).swap_remove(0) {
            Answer::View(view) => view,
            other => panic!("{key:?} was answered {other:?}"),
        }
    }

    /// The roots of all of a side's hash trees.
    pub(crate) fn roots(&mut self, side: usize) -> Vec<TreeNode> {
        let mut roots = Vec::new();
        for partition in (0..self.options.partitions).map(Partition) {
            let command = Command::TreeRoots { n: 3, partitions: vec![partition] };
            match self.sides[side].engine.execute_now(command).swap_remove(0) {
                Answer::TreeNodes(nodes) => roots.extend(nodes),
                other => panic!("a question for roots was answered {other:?}"),
            }
        }
        roots
    }

    /// Sweeps and counts until nothing is left.
    pub(crate) fn settle(&mut self) {
        for side in &mut self.sides {
            while side.engine.sweep(1_000) {}
            while side.engine.count_chunks(1_000) {}
        }
    }

    pub(crate) fn assert_equal(&mut self, keys: &[Key]) {
        for key in keys {
            assert_eq!(self.view(A, key), self.view(B, key), "{key:?}");
        }
        self.settle();
        assert_eq!(self.roots(A), self.roots(B));
    }
}

fn update(key: &Key, operation: Operation, observed: CausalContext, now_ms: u64) -> Command {
    Command::Update {
        key: key.clone(),
        operation,
        lifetime: values::Lifetime::Usual,
        observed,
        shown: Vec::new(),
        stamp: Stamp::from_millis(now_ms),
        named: None,
        limits: Arc::new(Limits::default()),
        durability: Durability::Sync,
    }
}

fn merge(key: &Key, delta: Delta) -> Command {
    Command::Merge { key: key.clone(), delta, show: None, durability: Durability::Sync }
}
