//! How handovers go on, in numbers for an administrator: what is left, how fast it goes and what it waits for. Nothing
//! is decided by it.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::Partition;

use super::{Handover, Part, meter::Meter};
use crate::turn::Shared;

/// Why a partition of a [`Flow`] does not go on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum WaitReason {
    /// A member that it needs cannot be reached.
    OutOfReach,
    /// A member has not said yet that it goes by the plan, or that all it was brought is on its disk.
    Unheard,
    /// A member is being sent it.
    Receiver,
    /// A member is to take it to the next stage, once all that are sent it have it.
    Driver,
    /// A receiver did not answer for too long: it is tried again in half a minute.
    Rest,
    /// So many others are under way.
    Turn,
    /// Other comparisons of the same event loop.
    Comparison,
    /// What comparing may send and receive in a second is spent.
    Budget,
    /// Clients have much to do here: they come first.
    Clients,
    /// Its keys are being dropped, some thousands a second.
    Dropping,
}

impl WaitReason {
    /// One word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OutOfReach => "out-of-reach",
            Self::Unheard => "unheard",
            Self::Receiver => "receiver",
            Self::Driver => "driver",
            Self::Rest => "rest",
            Self::Turn => "turn",
            Self::Comparison => "comparison",
            Self::Budget => "budget",
            Self::Clients => "clients",
            Self::Dropping => "dropping",
        }
    }
}

/// What this node has to do with partitions that move, all that is of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Which.
    pub part: Part,
    /// Partitions that are not done.
    pub partitions: u64,
    /// Partitions done for the present plan since the process heard of it.
    pub done: u64,
    /// Keys brought here, or dropped, since then. Of a large collection each range that was brought counts.
    pub keys: u64,
    /// About how many are still to come, of a receiver that has been told how many there are.
    pub keys_left: Option<u64>,
    /// Keys brought or dropped in a thousand seconds, as of late.
    pub keys_per_1000_s: u64,
    /// About how long it takes still, in milliseconds; `None` while that cannot be told.
    pub left_ms: Option<u64>,
    /// Of a receiver: each present owner, how many partitions were not found equal with it yet, and how many keys
    /// came from it. Of one that gives up: each owner that is to say that it has all.
    pub peers: BTreeMap<NodeId, (u64, u64)>,
    /// How many of the partitions wait, by what for and for whom. One may wait for several.
    pub waits: BTreeMap<(WaitReason, Option<NodeId>), u64>,
}

impl Flow {
    fn new(part: Part) -> Self {
        Self {
            part,
            partitions: 0,
            done: 0,
            keys: 0,
            keys_left: Some(0),
            keys_per_1000_s: 0,
            left_ms: None,
            peers: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// The same part of two cores of a node, together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        // They go on side by side.
        self.left_ms = match (self.partitions, other.partitions) {
            (_, 0) => self.left_ms,
            (0, _) => other.left_ms,
            _ => self.left_ms.zip(other.left_ms).map(|(one, two)| one.max(two)),
        };
        self.partitions += other.partitions;
        self.done += other.done;
        self.keys += other.keys;
        self.keys_left = self.keys_left.zip(other.keys_left).map(|(one, two)| one + two);
        self.keys_per_1000_s += other.keys_per_1000_s;
        for (&peer, &(partitions, keys)) in &other.peers {
            let sum = self.peers.entry(peer).or_default();
            (sum.0, sum.1) = (sum.0 + partitions, sum.1 + keys);
        }
        for (&wait, &partitions) in &other.waits {
            *self.waits.entry(wait).or_default() += partitions;
        }
        self
    }

    fn wait(&mut self, reason: WaitReason, on: Option<NodeId>) {
        *self.waits.entry((reason, on)).or_default() += 1;
    }

    /// How long it takes still. By keys it is too little, since every partition is compared once more when it has
    /// them; by partitions too much, since those that are done come last. Where both are known it is between them: of
    /// 38 seconds in which a fourth member got 3,072 partitions and 52,000 keys it was right within a half, and either
    /// alone by a factor of three.
    fn estimate(&mut self, keys: &Meter, partitions: &Meter, now_ms: u64) {
        let time = |left: u64, meter: &Meter| {
            Some(left as f64 * 1_000_000.0 / meter.steady_per_1000_s(now_ms)? as f64)
        };
        let by_partitions = time(self.partitions, partitions);
        let by_keys = self.keys_left.filter(|&left| left > 0).and_then(|left| time(left, keys));
        let left_ms = match (by_keys, by_partitions) {
            (Some(by_keys), Some(by_partitions)) => Some((by_keys * by_partitions).sqrt()),
            (one, other) => one.or(other),
        };
        self.left_ms = left_ms.map(|ms| ms as u64);
    }
}

/// What the core compares at the moment, and why it compares no more.
#[derive(Debug)]
pub(crate) struct Comparing<'a> {
    pub(crate) session: Option<(NodeId, &'a BTreeSet<Partition>)>,
    pub(crate) held_up: Option<WaitReason>,
}

impl Comparing<'_> {
    fn is_with(&self, peer: NodeId, partition: Partition) -> bool {
        self.session.is_some_and(|(of, partitions)| of == peer && partitions.contains(&partition))
    }
}

/// What a comparison saw or did of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) peer: NodeId,
    pub(crate) n: u8,
    pub(crate) partition: Partition,
    pub(crate) what: SeenWhat,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SeenWhat {
    /// So many more keys are there than here.
    Missing(u64),
    /// A key is brought here.
    Pulled,
}

/// What was done for the present plan.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) received: Meter,
    pub(super) driven: Meter,
    pub(super) departed: Meter,
    pub(super) pulled: Meter,
    pub(super) dropped: Meter,
    pulled_from: BTreeMap<NodeId, u64>,
    /// Partitions, each of buckets with one n, of which it was counted how many keys are missing, and how many were.
    counted: (u64, u64),
}

impl Handover {
    /// A comparison saw something, which may be of a handover.
    pub(crate) fn saw(&mut self, seen: Seen, now_ms: u64) {
        let Some(pull) = self.pulls.get_mut(&seen.partition) else { return };
        match seen.what {
            SeenWhat::Missing(keys) => {
                if pull.counted(seen.n, keys) {
                    let (partitions, missing) = &mut self.tally.counted;
                    (*partitions, *missing) = (*partitions + 1, *missing + keys);
                }
            }
            SeenWhat::Pulled => {
                pull.pulled(seen.n);
                self.tally.pulled.note(1, now_ms);
                *self.tally.pulled_from.entry(seen.peer).or_default() += 1;
            }
        }
    }

    /// How many partitions there are of each part.
    pub(crate) fn parts(&self) -> BTreeMap<Part, u64> {
        let counts = [
            (Part::Receiving, self.pulls.len()),
            (Part::Driving, self.drives.len()),
            (Part::Departing, self.departures.len()),
        ];
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(part, count)| (part, count as u64)).collect()
    }

    /// How it goes on, by part; what this core has, and had, no part in is left out.
    pub(crate) fn flows(
        &self,
        shared: &Shared,
        comparing: &Comparing<'_>,
        now_ms: u64,
    ) -> Vec<Flow> {
        let flows = [
            self.receiving(shared, comparing, now_ms),
            self.driving(shared, now_ms),
            self.departing(shared, comparing, now_ms),
        ];
        flows.into_iter().filter(|flow| flow.partitions + flow.done > 0).collect()
    }

    fn receiving(&self, shared: &Shared, comparing: &Comparing<'_>, now_ms: u64) -> Flow {
        let (ownership, tally) = (&shared.ownership, &self.tally);
        let mut flow = Flow::new(Part::Receiving);
        flow.done = tally.received.total();
        (flow.keys, flow.keys_per_1000_s) = (tally.pulled.total(), tally.pulled.per_1000_s(now_ms));
        flow.peers = tally.pulled_from.iter().map(|(&peer, &keys)| (peer, (0, keys))).collect();
        let mut uncounted = 0;
        for (&partition, pull) in &self.pulls {
            flow.partitions += 1;
            let (left, unknown) = pull.keys_left();
            flow.keys_left = flow.keys_left.map(|sum| sum + left);
            uncounted += unknown;
            if pull.is_ready(ownership) {
                let driver = ownership.driver(partition);
                let is_gone = driver.is_some_and(|driver| {
                    driver != shared.config.node && !shared.is_in_reach(driver)
                });
                let reason = if is_gone { WaitReason::OutOfReach } else { WaitReason::Driver };
                flow.wait(reason, driver);
                continue;
            }
            let mut is_compared = false;
            let mut waits = BTreeSet::new();
            let has_turn = pull.is_under_way() || self.pulling.len() < super::PULLS_MAX;
            for (peer, stands) in pull.left(ownership) {
                flow.peers.entry(peer).or_default().0 += 1;
                is_compared |= comparing.is_with(peer, partition);
                waits.insert(match (shared.is_in_reach(peer), stands, has_turn) {
                    (false, ..) => (WaitReason::OutOfReach, Some(peer)),
                    (true, true, _) => (WaitReason::Comparison, None),
                    (true, false, true) => (WaitReason::Unheard, Some(peer)),
                    (true, false, false) => (WaitReason::Turn, None),
                });
            }
            if is_compared {
                waits.retain(|(reason, _)| *reason == WaitReason::OutOfReach);
                waits.extend(comparing.held_up.map(|reason| (reason, None)));
            }
            waits.into_iter().for_each(|(reason, on)| flow.wait(reason, on));
        }
        let (partitions, missing) = tally.counted;
        if uncounted > 0 {
            // As many of each as of those that were counted.
            let more = (missing * uncounted).checked_div(partitions);
            flow.keys_left = flow.keys_left.zip(more).map(|(left, more)| left + more);
        }
        flow.estimate(&tally.pulled, &tally.received, now_ms);
        flow
    }

    fn driving(&self, shared: &Shared, now_ms: u64) -> Flow {
        let (ownership, classes) = (&shared.ownership, shared.buckets.classes());
        let mut flow = Flow::new(Part::Driving);
        (flow.done, flow.keys_left) = (self.tally.driven.total(), None);
        for (&partition, drive) in &self.drives {
            flow.partitions += 1;
            let waits = drive.waits(partition, ownership, &classes);
            if drive.rests(now_ms) {
                flow.wait(WaitReason::Rest, None);
            } else if waits.is_empty() && !drive.is_begun() && self.begun.len() >= super::DRIVES_MAX
            {
                flow.wait(WaitReason::Turn, None);
            }
            for (node, reason) in waits {
                let reason = if shared.is_in_reach(node) { reason } else { WaitReason::OutOfReach };
                flow.wait(reason, Some(node));
            }
        }
        flow.estimate(&Meter::default(), &self.tally.driven, now_ms);
        flow
    }

    fn departing(&self, shared: &Shared, comparing: &Comparing<'_>, now_ms: u64) -> Flow {
        let (ownership, tally) = (&shared.ownership, &self.tally);
        let mut flow = Flow::new(Part::Departing);
        (flow.done, flow.keys_left) = (tally.departed.total(), None);
        (flow.keys, flow.keys_per_1000_s) =
            (tally.dropped.total(), tally.dropped.per_1000_s(now_ms));
        for (&partition, departure) in &self.departures {
            flow.partitions += 1;
            if departure.is_dropping() {
                flow.wait(WaitReason::Dropping, None);
                continue;
            }
            let mut is_compared = false;
            let mut waits = BTreeSet::new();
            for (peer, is_being_compared) in departure.unsure(ownership) {
                flow.peers.entry(peer).or_default().0 += 1;
                is_compared |= comparing.is_with(peer, partition);
                waits.insert(match (shared.is_in_reach(peer), is_being_compared) {
                    (false, _) => (WaitReason::OutOfReach, Some(peer)),
                    (true, true) => (WaitReason::Comparison, None),
                    (true, false) => (WaitReason::Unheard, Some(peer)),
                });
            }
            if is_compared {
                waits.retain(|(reason, _)| *reason == WaitReason::OutOfReach);
                waits.extend(comparing.held_up.map(|reason| (reason, None)));
            }
            waits.into_iter().for_each(|(reason, on)| flow.wait(reason, on));
        }
        flow.estimate(&tally.dropped, &tally.departed, now_ms);
        flow
    }
}
