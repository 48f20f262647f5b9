//! The simulated network: which messages arrive, when and how often, and which links nodes believe
//! to be up.

use std::collections::BTreeSet;

use crate::Random;

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
}

impl Network {
    pub(crate) const fn new(faults: NetworkFaults, random: Random) -> Self {
        Self { faults, random, cut: BTreeSet::new() }
    }

    /// Delays after which a message sent now arrives: none if it is lost, two if it is copied.
    pub(crate) fn ways(&mut self, from: usize, to: usize) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || self.random.chance(self.faults.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.random.chance(self.faults.duplication));
        (0..copies).map(|_| self.delay()).collect()
    }

    fn delay(&mut self) -> u64 {
        let ordinary = self.random.between(self.faults.delay_min_ms, self.faults.delay_max_ms);
        if self.random.chance(self.faults.straggling) {
            ordinary + self.random.below(self.faults.straggle_ms)
        } else {
            ordinary
        }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Whether a node could keep up a connection: it needs both ways.
    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    pub(crate) fn cut_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}
