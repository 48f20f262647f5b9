//! A network double: nodes that are started, stopped and wiped, and a network between them that loses,
//! repeats, reorders, delays and cuts, all from one seed. Messages go through their encoding, and what a
//! node persists is kept as bytes.

#![allow(unreachable_pub, reason = "a module of tests and of an example")]
#![allow(dead_code, reason = "not all of those that use it use all of it")]

use std::collections::{BTreeMap, BTreeSet};

use clock::{NodeId, decode, encode};
use membership::{
    About, ClusterId, Config, Destination, Effect, Ending, Event, Gossip, Incarnation, Liveness,
    Member, MemberState, Message, Report, Snapshot,
};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// What the network does to a message.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Shortest way, in milliseconds.
    pub delay_min_ms: u64,
    /// Longest way; messages overtake one another.
    pub delay_max_ms: u64,
    /// Lost, in a thousand.
    pub loss: u64,
    /// Delivered twice, in a thousand.
    pub duplication: u64,
    /// Most by which a node's timer is late, in milliseconds.
    pub lateness_ms: u64,
}

/// Everything that ever comes out of a node, but for messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Member(NodeId, MemberState),
    Liveness(NodeId, Liveness),
    Value(String),
    Report(Report),
    Ended(Ending),
}

struct Host {
    gossip: Option<Gossip>,
    config: Config,
    disk: Option<Vec<u8>>,
    outcomes: Vec<(u64, Outcome)>,
    /// When the process was started: its clock begins with 0 then.
    started_ms: u64,
    /// Which start the process has persisted.
    persisted: Option<Incarnation>,
}

/// Nodes are named by the numbers of their hosts, from 1; several hosts may run one node.
pub struct Network {
    pub now_ms: u64,
    pub faults: Faults,
    pub random: Random,
    /// Whether messages and snapshots go through their encoding; else snapshots are not kept.
    pub encoded: bool,
    /// Bytes sent so far, by host; counted if `counted`.
    pub bytes_sent: BTreeMap<u64, u64>,
    pub bytes_longest: usize,
    pub counted: bool,
    hosts: BTreeMap<u64, Host>,
    cut: BTreeSet<(u64, u64)>,
    flying: BTreeMap<(u64, u64), (u64, u64, NodeId, Message)>,
    sent: u64,
    ticks: BTreeSet<(u64, u64)>,
    /// Who sent the message that is being delivered, and from which host.
    asker: Option<(NodeId, u64)>,
    paused: BTreeSet<u64>,
}

pub const CLUSTER: ClusterId = ClusterId(7);

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            now_ms: 0,
            faults: Faults {
                delay_min_ms: 1,
                delay_max_ms: 5,
                loss: 0,
                duplication: 0,
                lateness_ms: 0,
            },
            random: Random(seed),
            encoded: true,
            bytes_sent: BTreeMap::new(),
            bytes_longest: 0,
            counted: false,
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            flying: BTreeMap::new(),
            sent: 0,
            ticks: BTreeSet::new(),
            asker: None,
            paused: BTreeSet::new(),
        }
    }

    /// `count` founders of one cluster that know each other's addresses, started and linked.
    pub fn founded(seed: u64, count: u64) -> Self {
        let mut network = Self::new(seed);
        for host in 1..=count {
            let seeds: Vec<u64> = (1..=count.min(3)).collect();
            network.start(host, |config| {
                config.bootstrap = Some(CLUSTER);
                config.seeds = seeds.iter().map(|&seed| address(seed)).collect();
            });
        }
        network.run(10_000);
        network
    }

    /// Starts the node `host` on the host of the same number.
    pub fn start(&mut self, host: u64, change: impl FnOnce(&mut Config)) {
        self.start_as(host, host, change);
    }

    /// Starts the node `node` on `host`, with what is on the host's disk.
    pub fn start_as(&mut self, host: u64, node: u64, change: impl FnOnce(&mut Config)) {
        let about = About::new(format!("node{node}"), address(host));
        let mut config = Config::new(NodeId(node), "ducks", about, self.random.next());
        change(&mut config);
        self.start_with(host, config);
    }

    fn start_with(&mut self, host: u64, config: Config) {
        let disk = self.hosts.get_mut(&host).and_then(|host| host.disk.take());
        let snapshot = disk.as_deref().map(|bytes| decode::<Snapshot>(bytes).expect("own bytes"));
        self.start_from(host, config, snapshot);
        self.host_mut(host).disk = disk;
    }

    /// Starts a node with a snapshot that is on no disk.
    pub fn start_from(&mut self, host: u64, config: Config, snapshot: Option<Snapshot>) {
        let gossip = Gossip::new(config.clone(), snapshot, 0).expect("valid");
        let (gossip, disk, outcomes) = (Some(gossip), None, Vec::new());
        let started_ms = self.now_ms;
        let persisted = None;
        self.hosts.insert(host, Host { gossip, config, disk, outcomes, started_ms, persisted });
        self.ticks.insert((started_ms, host));
    }

    /// Kills the process; the disk stays.
    pub fn kill(&mut self, host: u64) {
        self.host_mut(host).gossip = None;
    }

    /// Stops the process as SIGSTOP does: what is sent to it is lost, and it notices nothing.
    pub fn pause(&mut self, host: u64) {
        self.paused.insert(host);
    }

    /// Lets it run again.
    pub fn resume(&mut self, host: u64) {
        self.paused.remove(&host);
        self.ticks.insert((self.now_ms, host));
    }

    /// Starts the process again with the configuration it had. Its clock may begin anywhere.
    pub fn restart(&mut self, host: u64) {
        let mut config = self.host_mut(host).config.clone();
        config.nonce = self.random.next();
        self.start_with(host, config);
    }

    pub fn wipe(&mut self, host: u64) {
        self.host_mut(host).disk = None;
    }

    pub fn disk(&self, host: u64) -> Option<Snapshot> {
        self.hosts[&host].disk.as_deref().map(|bytes| decode(bytes).expect("own bytes"))
    }

    pub fn copy_disk(&mut self, from: u64, to: u64) {
        let disk = self.hosts[&from].disk.clone();
        let config = self.hosts[&from].config.clone();
        let started_ms = self.now_ms;
        let (gossip, outcomes, persisted) = (None, Vec::new(), None);
        let host = Host { gossip, config, disk, outcomes, started_ms, persisted };
        self.hosts.insert(to, host);
    }

    /// Nothing from `from` reaches `to`.
    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    pub fn cut(&mut self, left: &[u64], right: &[u64]) {
        for &a in left {
            for &b in right {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn is_running(&self, host: u64) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.gossip.is_some())
    }

    pub fn gossip(&self, host: u64) -> &Gossip {
        self.hosts[&host].gossip.as_ref().expect("running")
    }

    pub fn member(&self, host: u64, node: u64) -> Option<Member<'_>> {
        self.gossip(host).member(self.clock_ms(host), NodeId(node))
    }

    pub fn state(&self, host: u64, node: u64) -> Option<MemberState> {
        self.member(host, node).map(|member| member.state)
    }

    pub fn liveness(&self, host: u64, node: u64) -> Option<Liveness> {
        self.member(host, node).map(|member| member.liveness)
    }

    /// What came out of a host's process, with when.
    pub fn outcomes(&self, host: u64) -> &[(u64, Outcome)] {
        &self.hosts[&host].outcomes
    }

    pub fn forget_outcomes(&mut self) {
        self.hosts.values_mut().for_each(|host| host.outcomes.clear());
    }

    pub fn reports(&self, host: u64) -> Vec<&Report> {
        let reports = self.hosts[&host].outcomes.iter();
        reports
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Report(report) => Some(report),
                _ => None,
            })
            .collect()
    }

    pub fn endings(&self, host: u64) -> Vec<&Ending> {
        let endings = self.hosts[&host].outcomes.iter();
        endings
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Ended(ending) => Some(ending),
                _ => None,
            })
            .collect()
    }

    /// Whether all that run know the same, heartbeats aside.
    pub fn is_even(&self) -> bool {
        let mut running = self.hosts.values().filter_map(|host| host.gossip.as_ref());
        let Some(first) = running.next() else { return true };
        running.all(|gossip| {
            gossip.table() == first.table()
                && gossip.values() == first.values()
                && gossip.cluster_ids() == first.cluster_ids()
        })
    }

    /// Runs until all know the same; how long that took, in milliseconds.
    pub fn run_until_even(&mut self, most_ms: u64) -> u64 {
        let start_ms = self.now_ms;
        while !self.is_even() {
            assert!(self.now_ms - start_ms < most_ms, "not even after {most_ms} ms");
            self.run(100);
        }
        self.now_ms - start_ms
    }

    pub fn command(
        &mut self,
        host: u64,
        command: membership::Command,
    ) -> Result<(), membership::CommandError> {
        let mut effects = Vec::new();
        let now_ms = self.clock_ms(host);
        let gossip = self.host_mut(host).gossip.as_mut().expect("running");
        let result = gossip.command(now_ms, command, &mut effects);
        self.perform(host, effects);
        result
    }

    /// Lets `ms` milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        loop {
            let message_at = self.flying.first_key_value().map(|(&key, _)| key);
            let tick_at = self.ticks.first().copied();
            let message_ms = message_at.map_or(u64::MAX, |(at_ms, _)| at_ms);
            let tick_ms = tick_at.map_or(u64::MAX, |(at_ms, _)| at_ms);
            let next_ms = message_ms.min(tick_ms);
            if next_ms > until_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            if tick_ms <= message_ms {
                let (_, host) = self.ticks.pop_first().expect("there is one");
                self.tick(host);
            } else {
                let (_, (from, to, node, message)) = self.flying.pop_first().expect("there is one");
                self.deliver(from, to, node, message);
            }
        }
        self.now_ms = until_ms;
    }

    /// Gives an event to the process of a host.
    pub fn step(&mut self, host: u64, event: Event) {
        if !self.is_running(host) || self.paused.contains(&host) {
            return;
        }
        let now_ms = self.clock_ms(host);
        let gossip = self.host_mut(host).gossip.as_mut().expect("running");
        let mut effects = Vec::new();
        gossip.step(now_ms, event, &mut effects);
        self.perform(host, effects);
    }

    fn tick(&mut self, host: u64) {
        let Some(gossip) = self.hosts[&host].gossip.as_ref() else { return };
        if gossip.next_tick_ms() > self.clock_ms(host) || self.paused.contains(&host) {
            return; // Of a process that is no more.
        }
        let random = self.random.next();
        self.step(host, Event::Tick { random });
        if let Some(gossip) = self.hosts[&host].gossip.as_ref() {
            let due_ms = gossip.next_tick_ms().saturating_add(self.hosts[&host].started_ms);
            let at_ms = due_ms.saturating_add(self.random.below(self.faults.lateness_ms + 1));
            self.ticks.insert((at_ms, host));
        }
    }

    /// What the clock of the host's process shows.
    fn clock_ms(&self, host: u64) -> u64 {
        self.now_ms - self.hosts[&host].started_ms
    }

    fn deliver(&mut self, from: u64, to: u64, node: NodeId, message: Message) {
        if !self.cut.contains(&(from, to)) {
            self.asker = Some((node, from));
            self.step(to, Event::Received { from: node, message });
            self.asker = None;
        }
    }

    fn perform(&mut self, host: u64, effects: Vec<Effect>) {
        let now_ms = self.now_ms;
        let node = self.hosts[&host].config.node;
        for effect in effects {
            let outcome = match effect {
                Effect::Persist(snapshot) => {
                    let disk = self.encoded.then(|| encode(&*snapshot));
                    let incarnation = snapshot.incarnation;
                    let it = self.host_mut(host);
                    (it.disk, it.persisted) = (disk, Some(incarnation));
                    continue;
                }
                Effect::Send { to, message } => {
                    let persisted = self.hosts[&host].persisted;
                    let said = message.header.incarnation;
                    assert_eq!(persisted, Some(said), "said before it was on disk");
                    self.send(host, node, to, message);
                    continue;
                }
                Effect::MemberChanged { node, now, .. } => Outcome::Member(node, now),
                Effect::LivenessChanged { node, liveness } => Outcome::Liveness(node, liveness),
                Effect::ValueChanged { name, .. } => Outcome::Value(name),
                Effect::Report(report) => Outcome::Report(report),
                Effect::Ended(ending) => Outcome::Ended(ending),
            };
            self.host_mut(host).outcomes.push((now_ms, outcome));
        }
    }

    fn send(&mut self, host: u64, node: NodeId, to: Destination, mut message: Message) {
        let to = match to {
            Destination::Seed(address) => number(&address),
            Destination::Node(id) => self.host_of(host, id),
        };
        if self.counted {
            let bytes = clock::encoded_length(&message);
            *self.bytes_sent.entry(host).or_default() += bytes as u64;
            self.bytes_longest = self.bytes_longest.max(bytes);
        }
        if self.encoded {
            message = decode(&encode(&message)).expect("own bytes");
        }
        let copies = 1 + usize::from(self.random.below(1_000) < self.faults.duplication);
        for message in std::iter::repeat_n(message, copies) {
            if self.random.below(1_000) < self.faults.loss {
                continue;
            }
            let Faults { delay_min_ms, delay_max_ms, .. } = self.faults;
            let way_ms = delay_min_ms + self.random.below(delay_max_ms - delay_min_ms + 1);
            self.sent += 1;
            let key = (self.now_ms + way_ms, self.sent);
            self.flying.insert(key, (host, to, node, message));
        }
    }

    /// An answer goes to the host that asked, all else to the address in the sender's table.
    fn host_of(&self, host: u64, node: NodeId) -> u64 {
        if let Some((_, asker)) = self.asker.filter(|&(asker, _)| asker == node) {
            return asker;
        }
        let known = self.hosts[&host].gossip.as_ref().and_then(|it| it.table().get(node));
        known.map_or(node.0, |record| number(record.entry.about.peer_address()))
    }

    fn host_mut(&mut self, host: u64) -> &mut Host {
        self.hosts.get_mut(&host).expect("started before")
    }
}

pub fn address(host: u64) -> String {
    format!("host{host}:7380")
}

fn number(address: &str) -> u64 {
    let host = address.strip_prefix("host").and_then(|rest| rest.split(':').next());
    host.and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}
