//! The simulated cluster: cores and engines, and the handles by which tests use and look at them.
//! Every choice comes from the seed.

mod barrier;
mod bounds;
pub(crate) mod buckets;
mod calls;
mod disks;
pub(crate) mod events;
mod faults;
mod gossip;
mod look;
mod losses;
mod membership;
mod rings;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::membership::{Incarnation, Versions};
use clock::NodeId;
use replication::{BarrierStamp, BarrierTable, CallId, Core, Event, Message, Reply, RequestError};
use ring::{Member, Ownership, PartitionCount, Ring};
use storage::{
    Batch, Checkpoint, DiskSnapshot, Engine, Log, SimDisk, SimFiles, SimIndexReader, TreeNode,
};

use crate::ledger::Ledger;
use crate::trace::{Line, Trace};
use crate::{Fault, Random, SimOptions, Strikes, network::Network};

/// The secret of every simulated cluster.
pub(crate) const SECRET: &[u8] = b"simulated";

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
        /// Which start of it speaks, where nodes gossip.
        incarnation: Option<Incarnation>,
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
        /// The ring that the sender is of.
        ring: usize,
        table: Box<BarrierTable>,
    },
    /// A message of a node's gossip arrives.
    Gossiped {
        from: usize,
        from_life: u64,
        to: usize,
        to_life: u64,
        message: Box<::membership::Message>,
    },
    /// A node's gossip looks at the time.
    Gossip {
        node: usize,
        life: u64,
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
            Self::Arrival { to, .. } | Self::Told { to, .. } | Self::Gossiped { to, .. } => *to,
            Self::Committed { node, .. }
            | Self::Checkpointed { node, .. }
            | Self::Restarted { node, .. }
            | Self::LinkNoticed { node, .. }
            | Self::Barrier { node, .. }
            | Self::Gossip { node, .. }
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
    /// With which life of each peer it is connected, or was last.
    met: BTreeMap<usize, u64>,
    talker: Option<gossip::Talker>,
    /// The ring that it is of, or looks for.
    ring: usize,
    way: rings::Way,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    disk: SimDisk,
    /// What it persisted of its gossip.
    membership: Option<Vec<u8>>,
    process: Option<Process>,
    /// Which messages it speaks: nodes that have no version in common refuse one another.
    messages: Versions,
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
    /// The ring that its next process is of.
    ring: usize,
    crossing: rings::Crossing,
    /// How much longer messages to and from it may take.
    slow_ms: u64,
    ills: Ills,
    /// Who owns what, as it knew it last.
    owners_known: Option<Arc<Ownership>>,
    /// Whether it never starts again.
    is_gone: bool,
}

impl Node {
    fn new(id: NodeId, ring: usize, options: &SimOptions, random: &mut Random) -> Self {
        let either_way = |random: &mut Random, most: u64| {
            if most == 0 { 0 } else { random.below(2 * most + 1) as i64 - most as i64 }
        };
        Self {
            id,
            disk: SimDisk::new(),
            membership: None,
            process: None,
            messages: Versions::only(1),
            life: 0,
            skew_ms: either_way(random, options.skew_ms),
            drift_ppm: either_way(random, options.drift_ppm),
            paused: None,
            reborn: None,
            heard: BarrierTable::default(),
            joins: false,
            ring,
            crossing: rings::Crossing::default(),
            slow_ms: 0,
            ills: Ills::default(),
            owners_known: None,
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
    backup: Option<Image>,
    /// What its copy holds.
    twin: Option<Image>,
}

/// What a disk held at one time: data, what was persisted of gossip, and of a way to another ring.
#[derive(Debug)]
struct Image(DiskSnapshot, Option<Vec<u8>>, rings::Crossing);

/// A simulated cluster.
#[derive(Debug)]
pub struct Sim {
    options: SimOptions,
    /// The placements that the cluster began with: of one ring, or of two that were founded apart.
    rings: Vec<Ring>,
    /// Whether a node took a message of a ring that it does not belong to.
    mixed: Option<String>,
    /// The ring that nodes go over from, or went.
    left: Option<usize>,
    refusals: u64,
    nodes: Vec<Node>,
    network: Network,
    random: Random,
    now_ms: u64,
    /// How far a clock was from the right time at most when one jumped.
    clocks_off_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    next_call: u64,
    outcomes: BTreeMap<CallId, Outcome>,
    ledger: Ledger,
    owned: losses::Owned,
    losses: Vec<losses::Noted>,
    trace: u64,
    events: u64,
    begun_anew: u64,
    /// How often a member was suspected, and which were told that they are none.
    suspicions: u64,
    ended: Vec<String>,
    /// The first bound that was exceeded, if one was.
    exceeded: Option<String>,
    strikes: Strikes,
    /// What happened, for people; `None` if nobody is to read it.
    lines: Option<Trace>,
}

impl Sim {
    /// A cluster whose nodes all run, with all links up.
    ///
    /// # Panics
    /// If the options make no cluster.
    pub fn new(seed: u64, mut options: SimOptions) -> Self {
        // Nobody gossips alone.
        options.gossip &= options.nodes > 1;
        options.apart = options.apart.min(options.nodes.saturating_sub(1));
        let mut random = Random::new(seed);
        let ids: Vec<NodeId> = (1..=options.nodes as u64).map(NodeId).collect();
        let count = PartitionCount::new(options.partitions).expect("a power of two");
        let rings = rings::founded(&ids, options.apart);
        let placed = rings.iter().map(|ids| {
            let members: Vec<Member> = ids.iter().copied().map(Member::new).collect();
            let placed = Ring::place(&members, count, Ring::spread_for(options.policy.n), None);
            placed.expect("at least one node").ring
        });
        let placed = placed.collect();
        let founders =
            rings.iter().enumerate().flat_map(|(ring, ids)| ids.iter().map(move |&id| (ring, id)));
        let nodes = founders.map(|(ring, id)| Node::new(id, ring, &options, &mut random)).collect();
        let network = Network::new(options.network, random.split());
        let mut sim = Self {
            options,
            rings: placed,
            mixed: None,
            left: None,
            refusals: 0,
            nodes,
            network,
            random,
            now_ms: 1,
            clocks_off_ms: 0,
            queue: BTreeMap::new(),
            queued: 0,
            next_call: 0,
            outcomes: BTreeMap::new(),
            ledger: Ledger::default(),
            owned: losses::Owned::default(),
            losses: Vec::new(),
            trace: seed,
            events: 0,
            begun_anew: 0,
            suspicions: 0,
            ended: Vec::new(),
            exceeded: None,
            strikes: Strikes::default(),
            lines: None,
        };
        if sim.rings.len() > 1 {
            let second = (0..sim.nodes.len()).filter(|&node| sim.ring_of(node) > 0);
            sim.strike(Fault::RingsApart, &second.collect::<Vec<_>>());
        }
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
        if self.pending() > 0 || self.unrest().is_err() || self.members_disagree().is_some() {
            return false;
        }
        let Some(ownership) = self.any_ownership().cloned() else { return false };
        let classes = self.classes();
        let trees = ownership
            .partition_count()
            .iter()
            .flat_map(|partition| classes.iter().map(move |&n| (partition, n)));
        trees.into_iter().all(|(partition, n)| {
            let owners = ownership.present(partition).owners(partition, n.into());
            let owners: Vec<usize> = owners.map(|owner| self.number_of(owner)).collect();
            let roots = owners.into_iter().filter_map(|owner| self.root(owner, partition, n));
            let roots: Vec<TreeNode> = roots.collect();
            roots.windows(2).all(|pair| pair[0] == pair[1])
                && roots.iter().all(|root| root.is_settled)
        })
    }

    /// Has the nodes that run look at all their rows, as they go on doing for ever: what was damaged on a
    /// disk is found. Rows of a collection that was cleared, or whose chunks are not counted, are looked at
    /// once that was done.
    pub fn scrub(&mut self) {
        for node in 0..self.nodes.len() {
            self.sweep(node);
            let Some(process) = &mut self.nodes[node].process else { continue };
            // The round under way, and one of all rows.
            for _ in 0..2 {
                while process.engine.recount_trees(usize::MAX) {}
            }
            self.start_commit(node);
        }
    }

    /// Has the nodes that run sweep and count what is left of that, as a loop does that has nothing else to do.
    pub(crate) fn sweep_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.sweep(node);
            self.start_commit(node);
        }
    }

    fn sweep(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else { return };
        while process.engine.sweep(usize::MAX) {}
        while process.engine.count_chunks(usize::MAX) {}
    }

    /// Has the nodes that run remove all that is due by their clocks. Returns what they do not
    /// remove, and of which owners.
    pub fn expire_all(&mut self) -> BTreeMap<values::Key, Vec<usize>> {
        let mut left: BTreeMap<values::Key, Vec<usize>> = BTreeMap::new();
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
                    for (key, _) in &keys {
                        left.entry(key.clone()).or_default().push(node);
                    }
                    self.step(node, Event::Due { keys });
                }
            }
            if left.is_empty() {
                break;
            }
            self.run_until_quiet();
        }
        left
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

    fn number_of(&self, id: NodeId) -> usize {
        usize::try_from(id.0 - 1).expect("ids are numbers from 1")
    }
}
