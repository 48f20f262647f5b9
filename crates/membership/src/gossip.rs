//! One node's gossip: what it knows, and how events change that.
//!
//! Handlers are in files by what they are about: `round` (time passes), `admission` (who may speak),
//! `exchange` (tables and values are compared and merged), `own` (the node's own record), `order`
//! (administrators' commands).

mod admission;
mod exchange;
mod order;
mod own;
mod round;

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use litemap::LiteMap;

use crate::event::{Destination, Effect, Ending, Event, Liveness, Member, Report};
use crate::message::{Body, Header, Message};
use crate::peer::{Peer, Said};
use crate::random::Random;
use crate::schedule::Schedule;
use crate::{ClusterId, Config, Incarnation, InvalidConfig, Record, Snapshot, Table, Values};

/// How long the same report about the same node is not repeated, in milliseconds.
const REPORT_MS: u64 = 60_000;
/// Most reports remembered; beyond that all may be repeated.
const REPORTS_MAX: usize = 1_024;

/// One node's part in the cluster's gossip. Performs nothing: call [`Gossip::step`] and do what comes
/// out.
///
/// - *Input*: [`Gossip::step`] with an [`Event`], [`Gossip::command`] with an order. Each is given
///   the time, in milliseconds of a clock that never goes back.
/// - *Output*: [`Effect`]s appended in the order in which they must be done. A
///   [`Effect::Persist`] comes before every message and change that rests on it; if it cannot be
///   written, the process must stop, for its next start would contradict this one.
/// - *Timer*: an [`Event::Tick`] is due at [`Gossip::next_tick_ms`].
/// - *Getters*: all others; they change nothing.
///
/// ```
/// use clock::NodeId;
/// use membership::{About, ClusterId, Config, Effect, Event, Gossip, MemberState};
///
/// let mut config = Config::new(NodeId(7), "ducks", About::new("a", "127.0.0.1:7380"), 42);
/// config.bootstrap = Some(ClusterId(1));
/// let mut gossip = Gossip::new(config, None, 0).unwrap();
/// let mut effects = Vec::new();
/// gossip.step(0, Event::Tick { random: 4 }, &mut effects);
/// assert!(matches!(effects[0], Effect::Persist(_)));
/// assert_eq!(gossip.member(0, NodeId(7)).unwrap().state, MemberState::Up);
/// ```
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    ids: BTreeSet<ClusterId>,
    table: Table,
    /// One for each record of the table, so that both can be walked side by side.
    peers: LiteMap<NodeId, Peer>,
    /// The table's roster, and how many members of it are not gone, until they change.
    roster: Option<(u128, usize)>,
    values: Values,
    schedule: Schedule,
    random: Random,
    /// Number of changes to records so far.
    changes: u64,
    /// Whether another node has shown that it knows this start of this node.
    settled: bool,
    /// Whether another node has shown that it knows the same members as this start.
    agreed: bool,
    /// Whether this process is no member any more.
    over: bool,
    /// When what was last reported about whom.
    reported: BTreeMap<(NodeId, &'static str), u64>,
    /// Whether there is something to persist before anything is said.
    dirty: bool,
    effects: Vec<Effect>,
    sends: Vec<Effect>,
}

impl Gossip {
    /// A node that starts, with what its last start left on disk. The first event, which should
    /// be a tick, persists the new generation and looks for the cluster.
    pub fn new(
        config: Config,
        snapshot: Option<Snapshot>,
        now_ms: u64,
    ) -> Result<Self, InvalidConfig> {
        config.check(snapshot.as_ref())?;
        let (node, nonce) = (config.node, config.nonce);
        let mut ids = snapshot.as_ref().map_or_else(BTreeSet::new, |it| it.ids.clone());
        let bootstrap = ids.is_empty() && config.bootstrap.is_some();
        ids.extend(config.bootstrap.filter(|_| bootstrap));
        let record = own::first_record(&config, snapshot.as_ref(), bootstrap);
        let (table, values) =
            snapshot.map_or_else(Default::default, |snapshot| (snapshot.table, snapshot.values));
        let others = table.iter().filter(|&(id, _)| id != node);
        let others = others.map(|(id, record)| (id, record.clone()));
        let mut table: Table = others.chain([(node, record)]).collect();
        for (&id, about) in config.fellows.iter().filter(|&(id, _)| *id != node) {
            table.merge(id, &Record::expected(about.clone()));
        }
        let peer = |(id, record): (NodeId, &Record)| {
            (id, Peer::new(now_ms, record, 0, 0, &config.detector))
        };
        let peers = table.iter().map(peer).collect();
        let schedule = Schedule::new(now_ms, config.round_ms);
        Ok(Self {
            config,
            ids,
            table,
            peers,
            roster: None,
            values,
            schedule,
            random: Random::new(nonce),
            changes: 0,
            settled: false,
            agreed: false,
            over: false,
            reported: BTreeMap::new(),
            dirty: true,
            effects: Vec::new(),
            sends: Vec::new(),
        })
    }

    /// Advances by one event. What must now happen is appended to `effects`.
    pub fn step(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        if !self.over {
            match event {
                Event::Tick { random } => self.on_tick(now_ms, random),
                Event::Received { from, message } => self.on_received(now_ms, from, message),
                Event::Heard(node) => self.on_heard(now_ms, node),
                Event::Met { node, incarnation } => self.on_met(now_ms, node, incarnation),
                Event::TimedOut(node) => self.on_timed_out(now_ms, node),
            }
        }
        self.flush(effects);
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_tick_ms(&self) -> u64 {
        if self.over { u64::MAX } else { self.schedule.round_at_ms }
    }

    /// This node's own record.
    pub fn own(&self) -> &Record {
        self.table.get(self.config.node).expect("a node knows itself from its start on")
    }

    /// The ids of its cluster; none while it has not found one.
    pub fn cluster_ids(&self) -> &BTreeSet<ClusterId> {
        &self.ids
    }

    /// All that is known of the members.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The named values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// A member, as this node sees it now.
    pub fn member(&self, now_ms: u64, node: NodeId) -> Option<Member<'_>> {
        let (record, peer) = (self.table.get(node)?, self.peers.get(&node)?);
        Some(self.seen(now_ms, node, record, peer))
    }

    /// All members, those that are gone and this node included, in order of ids.
    pub fn members(&self, now_ms: u64) -> impl Iterator<Item = Member<'_>> {
        self.known().map(move |(node, record, peer)| self.seen(now_ms, node, record, peer))
    }

    fn seen<'a>(&self, now_ms: u64, node: NodeId, record: &'a Record, peer: &Peer) -> Member<'a> {
        let own = node == self.config.node;
        let entry = &record.entry;
        Member {
            node,
            about: &entry.about,
            load: entry.load,
            incarnation: entry.incarnation,
            state: record.state(),
            liveness: if own { Liveness::Reachable } else { peer.liveness },
            phi: if own { 0.0 } else { peer.phi(now_ms, &self.config.detector) },
            silence_ms: if own { 0 } else { peer.silence_ms(now_ms) },
        }
    }

    /// Records and what is known beside them, in order of ids.
    fn known(&self) -> impl Iterator<Item = (NodeId, &Record, &Peer)> {
        debug_assert_eq!(self.table.len(), self.peers.len());
        self.table
            .iter()
            .zip(self.peers.values())
            .inspect(|((_, record), peer)| debug_assert_eq!(peer.said, Said::of(record)))
            .map(|((node, record), peer)| (node, record, peer))
    }

    /// Gives out what has come together, in the order that [`Gossip`] promises.
    fn flush(&mut self, effects: &mut Vec<Effect>) {
        if self.dirty {
            self.dirty = false;
            effects.push(Effect::Persist(Box::new(Snapshot {
                ids: self.ids.clone(),
                incarnation: self.own().entry.incarnation,
                table: self.table.clone(),
                values: self.values.clone(),
            })));
        }
        effects.append(&mut self.effects);
        if self.over {
            self.sends.clear();
        }
        effects.append(&mut self.sends);
    }

    /// Sends, with a heartbeat of now.
    fn send(&mut self, now_ms: u64, to: Destination, body: Body) {
        let me = self.peers.get_mut(&self.config.node).expect("as `own`");
        me.beat_now(now_ms);
        let beat = me.beat;
        let entry = &self.own().entry;
        let header = Header {
            cluster: self.config.cluster.clone(),
            ids: self.ids.clone(),
            incarnation: entry.incarnation,
            beat,
            address: entry.about.peer_address().to_owned(),
        };
        self.sends.push(Effect::Send { to, message: Message { header, body } });
    }

    /// Takes note of how a record was before it changed.
    fn changed(&mut self, node: NodeId, before: Option<&Record>) {
        self.changes += 1;
        let record = self.table.get(node).expect("it changed");
        if let Some(peer) = self.peers.get_mut(&node) {
            (peer.recency, peer.said) = (self.changes, Said::of(record));
        }
        if before.is_some_and(|before| !record.differs_durably(before)) {
            return;
        }
        let (before, now) = (before.map(Record::state), record.state());
        self.roster = None;
        self.dirty = true;
        self.effects.push(Effect::MemberChanged { node, before, now });
    }

    fn report(&mut self, now_ms: u64, node: NodeId, kind: &'static str, report: Report) {
        let last = self.reported.get(&(node, kind));
        if last.is_some_and(|&last| now_ms.saturating_sub(last) < REPORT_MS) {
            return;
        }
        if self.reported.len() >= REPORTS_MAX {
            self.reported.clear();
        }
        self.reported.insert((node, kind), now_ms);
        self.effects.push(Effect::Report(report));
    }

    /// Stops for good.
    fn end(&mut self, ending: Ending) {
        self.over = true;
        self.effects.push(Effect::Ended(ending));
    }

    fn judge(&mut self, now_ms: u64, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.is_as_usual(now_ms, &self.config.detector) {
            return;
        }
        let phi = peer.phi(now_ms, &self.config.detector);
        if let Some(liveness) = peer.judge(phi, &self.config.detector) {
            self.effects.push(Effect::LivenessChanged { node, liveness });
        }
    }

    fn is_present(&self, node: NodeId) -> bool {
        node != self.config.node && self.peers.get(&node).is_some_and(|peer| !peer.said.is_over)
    }

    fn on_heard(&mut self, now_ms: u64, node: NodeId) {
        if self.is_present(node) {
            self.peers.get_mut(&node).expect("one for each record").heard(now_ms);
            self.judge(now_ms, node);
        }
    }

    fn on_met(&mut self, now_ms: u64, node: NodeId, incarnation: Incarnation) {
        let known = self.table.get(node).map(|record| record.entry.incarnation);
        if node != self.config.node && known != Some(incarnation) {
            self.open(now_ms, Destination::Node(node));
        }
    }

    fn on_timed_out(&mut self, now_ms: u64, node: NodeId) {
        if self.is_present(node) {
            self.peers.get_mut(&node).expect("one for each record").timed_out(now_ms);
            self.judge(now_ms, node);
        }
    }
}
