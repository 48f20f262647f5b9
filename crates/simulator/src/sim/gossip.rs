//! Gossip, as the shell drives it: every node's part in it, whose messages a node takes because of it, and
//! whom it has the core suspect.
//!
//! Members find one another by seeds, over the same network as everything else. What a node persists of
//! it lies beside its data, and is lost and set back with that. Who owns partitions is told by plans, and
//! members that leave go on gossiping.

use clock::{decode, encode};
use membership::{
    About, ClusterId, Command, CommandError, Config, Destination, Effect, Event, Gossip,
    Incarnation, Liveness, MemberState, Message, Phase, Refusal, Report, Snapshot,
};

use super::{Happening, Sim};
use crate::trace::Line;

/// The cluster that the first nodes of a ring found together.
const fn cluster(ring: usize) -> ClusterId {
    ClusterId(ring as u128 + 1)
}

/// Nodes by which the others find it.
const SEEDS: usize = 3;

/// A node's part, and when it is to look at the time again.
#[derive(Debug)]
pub(super) struct Talker {
    gossip: Gossip,
    due_ms: u64,
}

impl Sim {
    /// Begins a node's gossip, with what it persisted.
    pub(super) fn begin_gossip(&mut self, node: usize) {
        if !self.options.gossip {
            return;
        }
        let id = self.nodes[node].id;
        let mut about = About::new(format!("node{}", id.0), node.to_string());
        about.messages = self.nodes[node].messages;
        let mut config = Config::new(id, "simulated", about, self.random.next());
        let ring = self.nodes[node].ring;
        let is_founder = node < self.options.nodes && self.nodes[node].life == 0;
        config.bootstrap = (is_founder || !self.is_remembered(ring)).then_some(cluster(ring));
        config.seeds = self.seeds(node).into_iter().map(|seed| seed.to_string()).collect();
        if self.are_founded_apart() {
            // It listens neither to those that it left nor, when it joins, to a seed that goes over meanwhile: it has the
            // plans of its ring from the start, and not, as in a shell, of the one that it finds.
            config.left = [cluster(1 - ring)].into();
        }
        if self.is_searching(node) {
            // Whatever it is told it begins no ring.
            config.bootstrap = None;
            config.fellows.clone_from(&self.nodes[node].crossing.fellows);
        }
        let gossip = Gossip::new(config, self.snapshot(node), self.now_ms);
        let gossip = gossip.unwrap_or_else(|error| panic!("node {node} does not gossip: {error}"));
        if let Some(process) = &mut self.nodes[node].process {
            process.talker = Some(Talker { gossip, due_ms: u64::MAX });
        }
        self.tick_gossip(node);
    }

    /// By whom a node finds its cluster.
    fn seeds(&self, node: usize) -> Vec<usize> {
        if !self.are_founded_apart() {
            // Whoever runs them names others in the places of those that are gone for good.
            return (0..self.nodes.len()).filter(|&seed| !self.is_gone(seed)).take(SEEDS).collect();
        }
        // Of the founders of a ring few may be left, or one. Who is still about to leave another one would let it in there.
        let ring = self.nodes[node].ring;
        let is_of_it = |&peer: &usize| self.nodes[peer].ring == ring && self.ring_of(peer) == ring;
        (0..self.nodes.len())
            .filter(|&peer| peer != node && !self.is_gone(peer))
            .filter(is_of_it)
            .collect()
    }

    /// What a node persisted, if its disk has that.
    fn snapshot(&self, node: usize) -> Option<Snapshot> {
        let bytes = self.nodes[node].membership.as_deref()?;
        Some(decode(bytes).expect("a node wrote it"))
    }

    /// Whether a node's disk says of which cluster it is.
    pub(super) fn remembers_a_ring(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|snapshot| !snapshot.ids.is_empty())
    }

    /// Whether some disk remembers the cluster of a ring. Where all were lost, nodes find nobody who does and wait: whoever
    /// runs them has one found it anew.
    fn is_remembered(&self, ring: usize) -> bool {
        // Of nodes that are gone for good the disks are, too; and one on its way looks for its cluster again.
        let lasts = |&node: &usize| !self.is_gone(node) && !self.nodes[node].crossing.is_merging;
        let there = (0..self.nodes.len()).filter(lasts);
        let mut persisted = there.filter_map(|node| self.snapshot(node));
        persisted.any(|snapshot| snapshot.ids.contains(&cluster(ring)))
    }

    /// Time has passed for a node's gossip.
    pub(super) fn tick_gossip(&mut self, node: usize) {
        let is_owner = self
            .ownership(node)
            .is_some_and(|ownership| ownership.members().contains(&self.nodes[node].id))
            && !self.is_searching(node);
        let random = self.random.next();
        let Some(talker) = self.talker(node) else { return };
        talker.due_ms = u64::MAX;
        if is_owner && talker.gossip.own().state() == MemberState::Joining {
            // Refused before the node has found its cluster: it is tried again.
            let _ = self.order(node, &Command::Declare(Phase::Up));
        }
        self.tell_gossip(node, Event::Tick { random });
    }

    /// Something happened that a node's gossip is to know.
    pub(super) fn tell_gossip(&mut self, node: usize, event: Event) {
        let now_ms = self.now_ms;
        let Some(talker) = self.talker(node) else { return };
        let mut effects = Vec::new();
        talker.gossip.step(now_ms, event, &mut effects);
        self.perform_gossip(node, effects);
    }

    /// Gives a node's gossip an order.
    fn order(&mut self, node: usize, command: &Command) -> Result<(), CommandError> {
        let now_ms = self.now_ms;
        let Some(talker) = self.talker(node) else { return Ok(()) };
        let mut effects = Vec::new();
        let outcome = talker.gossip.command(now_ms, command.clone(), &mut effects);
        self.perform_gossip(node, effects);
        outcome
    }

    fn perform_gossip(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(snapshot) => {
                    self.nodes[node].membership = Some(encode(&*snapshot));
                    if !snapshot.ids.is_empty() {
                        self.has_found(node);
                    }
                }
                Effect::MemberChanged { node: member, .. } => {
                    let peer = self.number_of(member);
                    if peer != node {
                        self.links_changed(node, peer);
                    }
                }
                Effect::LivenessChanged { node: member, liveness } => {
                    let suspected = liveness == Liveness::Suspected;
                    let peer = self.number_of(member);
                    self.note(|| Line::Judged { node, peer, suspected });
                    self.suspicions += u64::from(suspected);
                    let event = replication::Event::Suspected { node: member, suspected };
                    self.step(node, event);
                }
                Effect::Ended(ending) => {
                    self.ended.push(format!("node {node}: {ending:?}"));
                }
                Effect::Send { to, message } => {
                    let to = match to {
                        Destination::Node(member) => Some(self.number_of(member)),
                        Destination::Seed(address) => address.parse().ok(),
                    };
                    if let Some(to) = to.filter(|&to| to < self.nodes.len()) {
                        self.send_gossip(node, to, &message);
                    }
                }
                Effect::Report(Report::Refused { refusal: Refusal::OtherCluster(_), .. }) => {
                    self.refusals += 1;
                }
                Effect::ValueChanged { .. } | Effect::Report(_) => {}
            }
        }
        let life = self.nodes[node].life;
        let Some(talker) = self.talker(node) else { return };
        let next_ms = talker.gossip.next_tick_ms();
        if next_ms < talker.due_ms {
            talker.due_ms = next_ms;
            self.enqueue(next_ms, Happening::Gossip { node, life });
        }
    }

    fn send_gossip(&mut self, from: usize, to: usize, message: &Message) {
        let (from_life, to_life) = (self.nodes[from].life, self.nodes[to].life);
        let slow_ms = self.nodes[from].slow_ms + self.nodes[to].slow_ms;
        for at_ms in self.network.arrivals(self.now_ms, (from, to), slow_ms) {
            if self.network.garbles() {
                let bytes = self.network.garbled(encode(message));
                let _ = decode::<Message>(&bytes);
                self.break_links(from, to);
                continue;
            }
            let message = Box::new(message.clone());
            self.enqueue(at_ms, Happening::Gossiped { from, from_life, to, to_life, message });
        }
    }

    fn talker(&mut self, node: usize) -> Option<&mut Talker> {
        self.nodes[node].process.as_mut()?.talker.as_mut()
    }

    pub(super) fn gossip(&self, node: usize) -> Option<&Gossip> {
        Some(&self.nodes[node].process.as_ref()?.talker.as_ref()?.gossip)
    }

    /// Which start of a node runs; `None` where nobody gossips.
    pub(super) fn incarnation(&self, node: usize) -> Option<Incarnation> {
        Some(self.gossip(node)?.own().entry.incarnation)
    }

    /// Whether a node takes messages of another that runs.
    pub(super) fn admits(&self, node: usize, peer: usize) -> bool {
        self.admits_start(node, peer, self.incarnation(peer))
    }

    /// Whether a node takes messages of a start of another: of a member, in the latest that it has heard of.
    pub(super) fn admits_start(
        &self,
        node: usize,
        peer: usize,
        incarnation: Option<Incarnation>,
    ) -> bool {
        let Some(gossip) = self.gossip(node) else {
            return !self.options.gossip && self.is_of_one_ring(node, peer);
        };
        let record = gossip.table().get(self.nodes[peer].id);
        let is_latest = record.is_some_and(|record| {
            !record.is_over() && Some(record.entry.incarnation) == incarnation
        });
        is_latest && gossip.own().state().is_present()
    }

    /// Whether a node takes what another sent in a life, and a start, of it. What it said last may arrive after that,
    /// until the next life takes the place of the connection.
    pub(super) fn is_heard(
        &mut self,
        node: usize,
        (peer, life): (usize, u64),
        incarnation: Option<Incarnation>,
    ) -> bool {
        let now = &self.nodes[peer];
        if now.life == life {
            return self.admits(node, peer);
        }
        let is_replaced = now.process.is_some() || now.life != life + 1;
        let may_speak = self.options.gossip || !is_replaced;
        may_speak && self.admits_start(node, peer, incarnation) && self.network.outlives()
    }

    /// Whether anything of another node is known to one that runs: a record, or how far it was with the barrier.
    pub(crate) fn has_heard_of(&self, at: usize, node: usize) -> bool {
        let id = self.nodes[node].id;
        let process = self.nodes[at].process.as_ref();
        let hand = process.and_then(|process| process.hand.as_ref());
        let is_recorded = self.gossip(at).is_some_and(|gossip| gossip.table().get(id).is_some());
        is_recorded
            || hand.is_some_and(|hand| hand.hand.barrier().table().standings.contains_key(&id))
    }

    /// Has a node that runs say that another, killed for good, is no member any more. Returns whether it
    /// does: it does not while it takes that one for alive, and of one that it has not heard of a shell does not ask it.
    pub(crate) fn remove_member(&mut self, at: usize, node: usize) -> bool {
        let gone = self.nodes[node].id;
        self.has_heard_of(at, node) && self.order(at, &Command::Remove(gone)).is_ok()
    }

    /// Whether some node that runs knows of a member.
    fn is_known(&self, peer: usize) -> bool {
        let mut talkers = (0..self.nodes.len()).filter_map(|node| self.gossip(node));
        talkers.any(|gossip| gossip.table().get(self.nodes[peer].id).is_some())
    }

    /// How often a member was suspected.
    pub const fn suspicions(&self) -> u64 {
        self.suspicions
    }

    /// What the nodes that run do not agree on: all know the same members, in the same state, and take all
    /// that run for alive and all that were removed for gone.
    pub fn members_disagree(&self) -> Option<String> {
        if let Some(ended) = self.ended.first() {
            return Some(format!("a member was told that it is none: {ended}"));
        }
        for node in 0..self.nodes.len() {
            let Some(gossip) = self.gossip(node) else { continue };
            for peer in 0..self.nodes.len() {
                let Some(member) = gossip.member(self.now_ms, self.nodes[peer].id) else {
                    // One that was killed for good before it had told anybody of itself is no member.
                    if self.nodes[peer].is_gone && !self.is_known(peer) {
                        continue;
                    }
                    return Some(format!("node {node} does not know node {peer}"));
                };
                let is_right = match self.incarnation(peer) {
                    Some(incarnation) => {
                        member.incarnation == incarnation
                            && member.state.is_present()
                            && member.liveness == Liveness::Reachable
                    }
                    None => !self.nodes[peer].is_gone || member.state == MemberState::Removed,
                };
                if !is_right {
                    return Some(format!("node {node} takes node {peer} for {member:?}"));
                }
            }
        }
        None
    }
}
