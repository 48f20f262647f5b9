//! A round: judge all silences, ask those in doubt, and begin an exchange with somebody.

use clock::NodeId;

use super::Gossip;
use crate::event::{Destination, Effect, Liveness, Report};
use crate::message::{Body, Mark, Open};
use crate::schedule::{to_seed, to_unreachable};

/// Members with which a round opens an exchange. With one, news of a member is older than it need be: a
/// dead node among 1,000 is noticed by the last observer after 13 s, with two after less than 10 s, at
/// twice the traffic (measured: docs/explanation/gossip.md).
const PARTNERS: usize = 2;
/// Most members asked directly in one round. A guess: a hundred bytes each, and enough that the silence of
/// a whole zone is noticed in a few rounds.
const ASKED_MAX: usize = 64;
/// A round that is so many rounds late shows that this process was paused. A guess: later than a
/// busy machine makes it.
const PAUSE_ROUNDS: u64 = 2;
/// Most seeds asked at once.
const SEEDS_AT_ONCE: usize = 8;

impl Gossip {
    pub(super) fn on_tick(&mut self, now_ms: u64, random: u64) {
        self.random.stir(random);
        let Some(late_ms) = self.schedule.round(now_ms, &mut self.random) else { return };
        // It was this node that did not run: the others could not be heard.
        if late_ms >= PAUSE_ROUNDS * self.config.round_ms {
            self.peers.iter_mut().for_each(|(_, peer)| peer.excuse(late_ms));
        }
        let (reachable, unreachable) = self.judge_all(now_ms);
        if reachable.is_empty() {
            self.look_for_seeds(now_ms);
        } else {
            self.schedule.found_somebody();
        }
        if self.ids.is_empty() {
            return;
        }
        let partners = self.partners(&reachable);
        self.open_all(now_ms, partners.iter().copied().map(Destination::Node));
        if to_unreachable(reachable.len(), unreachable.len(), &mut self.random)
            && let Some(&node) = self.random.pick(&unreachable)
        {
            self.open(now_ms, Destination::Node(node));
        }
        let seeds = self.seeds();
        if partners.is_empty() {
            return;
        }
        let at: Vec<String> = partners.iter().filter_map(|&node| self.address(node)).collect();
        let a_seed = seeds.iter().any(|seed| at.contains(seed));
        let (reachable, unreachable) = (reachable.len(), unreachable.len());
        if to_seed(seeds.len(), reachable, unreachable, a_seed, &mut self.random)
            && let Some(seed) = self.random.pick(&seeds).cloned()
            && !at.contains(&seed)
        {
            self.open(now_ms, Destination::Seed(seed));
        }
    }

    /// With whom this round opens exchanges: distinct, at random.
    fn partners(&mut self, reachable: &[NodeId]) -> Vec<NodeId> {
        let mut left = reachable.to_vec();
        let mut partners = Vec::new();
        while partners.len() < PARTNERS && !left.is_empty() {
            let at = self.random.below(left.len() as u64) as usize;
            partners.push(left.swap_remove(at));
        }
        partners
    }

    /// Judges all members and asks those in doubt. Who can be reached, and who cannot.
    fn judge_all(&mut self, now_ms: u64) -> (Vec<NodeId>, Vec<NodeId>) {
        let mut reachable = Vec::with_capacity(self.peers.len());
        let (mut unreachable, mut doubted) = (Vec::new(), Vec::new());
        let config = &self.config.detector;
        for (&node, peer) in self.peers.iter_mut() {
            if node == self.config.node || peer.said.is_over {
                continue;
            }
            // Asked a round ago, and no answer since.
            if peer.is_asked {
                peer.is_asked = false;
                peer.timed_out(now_ms);
            }
            let is_expected = peer.said.is_expected;
            if peer.is_as_usual(now_ms, config) && !is_expected {
                reachable.push(node);
                continue;
            }
            let phi = peer.phi(now_ms, config);
            if let Some(liveness) = peer.judge(phi, config) {
                self.effects.push(Effect::LivenessChanged { node, liveness });
            }
            match peer.liveness {
                // It speaks to nobody here yet, whether or not somebody takes it for dead.
                _ if is_expected => unreachable.push(node),
                Liveness::Reachable => {
                    reachable.push(node);
                    if phi >= config.doubt {
                        doubted.push(node);
                    }
                }
                Liveness::Suspected => unreachable.push(node),
            }
        }
        // Any of them, if they are too many.
        while doubted.len() > ASKED_MAX {
            let at = self.random.below(doubted.len() as u64) as usize;
            doubted.swap_remove(at);
        }
        for node in doubted {
            self.peers.get_mut(&node).expect("just seen").is_asked = true;
            self.send(now_ms, Destination::Node(node), Body::Ping);
        }
        (reachable, unreachable)
    }

    /// Nobody can be reached: perhaps a seed can.
    fn look_for_seeds(&mut self, now_ms: u64) {
        let mut seeds = self.seeds();
        if seeds.is_empty() {
            return;
        }
        let Some((attempts, again_in_ms)) = self.schedule.ask_seeds(now_ms, &mut self.random)
        else {
            return;
        };
        if attempts > 0 {
            self.effects.push(Effect::Report(Report::NoSeed { attempts, again_in_ms }));
        }
        while seeds.len() > SEEDS_AT_ONCE {
            let at = self.random.below(seeds.len() as u64) as usize;
            seeds.swap_remove(at);
        }
        for seed in seeds {
            self.open(now_ms, Destination::Seed(seed));
        }
    }

    /// The seeds, this node left out.
    fn seeds(&self) -> Vec<String> {
        let own = self.own().entry.about.peer_address();
        self.config.seeds.iter().filter(|seed| *seed != own).cloned().collect()
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.table.get(node).map(|record| record.entry.about.peer_address().to_owned())
    }

    pub(super) fn open(&mut self, now_ms: u64, to: Destination) {
        self.open_all(now_ms, [to]);
    }

    /// Opens an exchange with each. What is known is gone through once: all that changes from one to the next is
    /// this node's own heartbeat.
    fn open_all(&mut self, now_ms: u64, all: impl IntoIterator<Item = Destination>) {
        let mut marks = self.marks(now_ms);
        let before = self.peers.iter().take_while(|&(&node, _)| node < self.config.node);
        let own = before.filter(|(_, peer)| !peer.said.is_over).count();
        for to in all {
            let me = &self.peers[&self.config.node];
            if !me.said.is_over {
                marks[own] = Self::mark(now_ms, me);
            }
            let ((roster, _), values) = (self.roster(), self.values.digest());
            self.send(now_ms, to, Body::Open(Open { roster, marks: marks.clone(), values }));
        }
    }

    /// How far each member is known that is not gone, in order of ids.
    fn marks(&self, now_ms: u64) -> Vec<Mark> {
        let present = self.peers.values().filter(|peer| !peer.said.is_over);
        let mut marks = Vec::with_capacity(self.peers.len());
        marks.extend(present.map(|peer| Self::mark(now_ms, peer)));
        marks
    }
}
