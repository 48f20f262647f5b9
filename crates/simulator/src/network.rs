//! The simulated network: which messages arrive, when and how often, and which links nodes believe
//! to be up.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Fault, Random, Strikes};

/// What the network does to messages, per message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFaults {
    /// Shortest way of a message, in milliseconds.
    pub delay_min_ms: u64,
    /// Longest ordinary way, in milliseconds. Messages overtake one another within it.
    pub delay_max_ms: u64,
    /// Lost, in a thousand.
    pub loss: u32,
    /// Delivered twice, in a thousand; the copy takes its own way.
    pub duplication: u32,
    /// Damaged on the way, in a thousand: whoever gets it closes the connection.
    pub garbling: u32,
    /// Arrives though its sender has ended, in a thousand; where nodes gossip, only until the receiver knows of the
    /// sender's next start, and where they do not, only until that begins.
    pub last_words: u32,
    /// Held up for up to `straggle_ms`, in a thousand.
    pub straggling: u32,
    /// Longest way of a message that is held up, in milliseconds.
    pub straggle_ms: u64,
    /// How long it takes until a node notices that a link broke or is back, in milliseconds.
    pub notice_ms: u64,
}

impl Default for NetworkFaults {
    /// A network that does what it should.
    fn default() -> Self {
        Self {
            delay_min_ms: 1,
            delay_max_ms: 1,
            loss: 0,
            duplication: 0,
            garbling: 0,
            last_words: 0,
            straggling: 0,
            straggle_ms: 0,
            notice_ms: 50,
        }
    }
}

/// Nodes are numbered from 0; a way leads from one to another.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) faults: NetworkFaults,
    random: Random,
    cut: BTreeSet<(usize, usize)>,
    /// Ways that let nothing through until a time.
    clogged: BTreeMap<(usize, usize), u64>,
    /// When the last message on each way arrives, of those sent so far.
    latest: BTreeMap<(usize, usize), u64>,
    pub(crate) strikes: Strikes,
}

impl Network {
    pub(crate) fn new(faults: NetworkFaults, random: Random) -> Self {
        Self {
            faults,
            random,
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
            latest: BTreeMap::new(),
            strikes: Strikes::default(),
        }
    }

    /// When a message sent now arrives: never if it is lost, twice if it is copied. `slow_ms`: how
    /// much longer it may take because of who sends and who gets it.
    pub(crate) fn arrivals(
        &mut self,
        now_ms: u64,
        (from, to): (usize, usize),
        slow_ms: u64,
    ) -> Vec<u64> {
        if self.cut.contains(&(from, to)) {
            return Vec::new();
        }
        if self.strikes_with(Fault::Loss, self.faults.loss) {
            return Vec::new();
        }
        let is_copied = self.strikes_with(Fault::Duplication, self.faults.duplication);
        let copies = 1 + usize::from(is_copied);
        (0..copies).map(|_| self.arrival(now_ms, (from, to), slow_ms)).collect()
    }

    fn arrival(&mut self, now_ms: u64, way: (usize, usize), slow_ms: u64) -> u64 {
        let mut at =
            now_ms + self.random.between(self.faults.delay_min_ms, self.faults.delay_max_ms);
        if self.strikes_with(Fault::Delay, self.faults.straggling) {
            at += self.random.below(self.faults.straggle_ms);
        }
        if slow_ms > 0 {
            at += self.random.below(slow_ms);
            self.strikes.count(Fault::Slowness);
        }
        if let Some(&until) = self.clogged.get(&way)
            && at < until
        {
            at = until;
            self.strikes.count(Fault::Clog);
        }
        let latest = self.latest.entry(way).or_default();
        if at < *latest {
            self.strikes.count(Fault::Reordering);
        }
        *latest = at.max(*latest);
        at
    }

    /// Whether a message that goes its way is damaged on it.
    pub(crate) fn garbles(&mut self) -> bool {
        self.strikes_with(Fault::Garbling, self.faults.garbling)
    }

    /// Whether a message arrives whose sender has ended.
    pub(crate) fn outlives(&mut self) -> bool {
        let per_mille = self.faults.last_words;
        per_mille > 0 && self.strikes_with(Fault::LastWords, per_mille)
    }

    fn strikes_with(&mut self, fault: Fault, per_mille: u32) -> bool {
        let strikes = self.random.chance(per_mille);
        if strikes {
            self.strikes.count(fault);
        }
        strikes
    }

    /// Bytes that are not those of a message any more: cut short, or longer, or changed somewhere.
    pub(crate) fn garbled(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.random.below(3) {
            0 => bytes.truncate(self.random.below(bytes.len() as u64) as usize),
            1 => bytes.push(self.random.next() as u8),
            _ => {
                for _ in 0..self.random.between(1, 8) {
                    let at = self.random.below(bytes.len() as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.random.next() as u8;
                    }
                }
            }
        }
        bytes
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn cut_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend_way(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until_ms: u64) {
        self.clogged.insert((from, to), until_ms);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
    }
}
