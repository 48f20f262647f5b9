//! Handover: a partition goes from one plan's owners to the next one's, and nothing acknowledged is
//! lost and no read goes back (design: staged handover; `docs/decisions`).
//!
//! Three parts that nodes play, each by itself and for each partition apart:
//!
//! * A *receiver* ([`pull`]) is to own a partition and does not. It compares what it holds with every
//!   present owner, by anti-entropy, until it was found equal with each once.
//! * The *driver* ([`drive`]) alone takes the partition from stage to stage, each time once those
//!   concerned say that they are ready: they are asked where they stand.
//! * A former owner *departs* ([`depart`]): it compares with every owner once more, hears from each
//!   that it holds everything durably, and only then drops its copy.
//!
//! Who stands at a tenure has it on its disk and answers nothing more by an earlier one. So once all
//! former owners stand at the joint stage, no write is acknowledged any more by them alone; what was,
//! they hold, and who compares with them from then on gets. And once they stand at the shifted stage,
//! nobody reads from them any more, so that new owners alone may acknowledge.
//!
//! Nothing of this is kept but the tenures: whoever starts anew begins to compare anew, which costs
//! little where little differs.

mod asking;
mod depart;
mod drive;
mod dropping;
mod flow;
mod meter;
mod pull;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use clock::NodeId;
use ring::{Ownership, Partition, PlanId, Ring, Sequence, Stage, Tenure};
use storage::KeysOf;

pub(crate) use self::flow::{Comparing, Seen, SeenWhat};
pub use self::flow::{Flow, WaitReason};
use self::{asking::Questions, depart::Departure, drive::Drive, flow::Tally, pull::Pull};
use crate::{
    Buckets, Classes,
    anti_entropy::Found,
    turn::{Shared, Timer, Turn},
};

/// Pause before a node is asked again where it stands, and between decisions, in milliseconds: what all
/// partitions are ready for is decided at once, since every change of the ownership costs a sync of the disk
/// at every node, and each of its cores a look at all partitions. All nodes hear of a change at about one time, and what
/// follows from it clients wait behind: with four times as much at a time, as seldom, they waited longer for it.
const POLL_MS: u64 = 50;
/// Partitions received at once by one core, and driven at once past the first stage.
const PULLS_MAX: usize = 16;
const DRIVES_MAX: usize = 64;
/// Partitions looked at once more at each time; the next ones have their turn the next time.
const TURNS_MAX: usize = 64;

/// A comparison to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) peer: NodeId,
    pub(crate) n: u8,
    pub(crate) partition: Partition,
    /// To find what becomes of it.
    pub(crate) number: u64,
    /// Whether writes wait for it, or a copy that nobody is to have.
    pub(crate) is_urgent: bool,
}

/// Where a node says that it stands in a partition's handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stands {
    /// The sequence of the tenure that it goes by.
    pub sequence: Sequence,
    /// The tenure and the plan for which it was found equal with every present owner.
    pub ready: Option<(Sequence, PlanId)>,
    /// The n of all buckets that it knows of: what it says is of these only.
    pub classes: Classes,
}

/// How a partition's handover stands, as this node sees it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Part {
    /// It is to own the partition, and is being sent it.
    Receiving,
    /// It takes the partition from stage to stage.
    Driving,
    /// It owned the partition, and makes sure that the owners hold everything before it drops its copy.
    Departing,
}

impl Part {
    /// One word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Driving => "driving",
            Self::Departing => "departing",
        }
    }
}

/// A handover that this node has a part in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Transfer {
    /// Which partition.
    pub partition: Partition,
    /// What this node has to do with it.
    pub part: Part,
    /// How the partition is owned.
    pub tenure: Tenure,
    /// Whom it waits for; nobody while there is work to do here.
    pub waits_for: Vec<NodeId>,
}

/// The handovers of one core's partitions.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// What was looked at last.
    seen: Option<(Arc<Ownership>, Arc<Buckets>)>,
    drives: BTreeMap<Partition, Drive>,
    pulls: BTreeMap<Partition, Pull>,
    departures: BTreeMap<Partition, Departure>,
    next_departure: u64,
    /// Those whose owners are changing, this node among those before or after: it has yet to hear that it is
    /// over, and then it may have to depart.
    owned: BTreeSet<Partition>,
    /// Those of the drives that are past the first stage, and of the pulls in which something is compared.
    begun: BTreeSet<Partition>,
    pulling: BTreeSet<Partition>,
    /// Whose keys the engine is dropping, and after which partition the next one is chosen.
    dropping: Option<Partition>,
    dropped: Partition,
    /// How many keys more are dropped before the next time.
    drops: u64,
    questions: Questions,
    /// The partition whose turn it was last.
    turn: Partition,
    wants: Vec<Want>,
    next_want: u64,
    tally: Tally,
    decisions: Vec<(Partition, Tenure)>,
}

/// The owners of a partition of buckets with this n.
fn owners(ring: &Ring, partition: Partition, n: u8) -> BTreeSet<NodeId> {
    ring.owners(partition, usize::from(n)).collect()
}

/// Who is to be sent a partition of buckets with this n when its owners become others. Where they
/// become fewer all: w of those before need not be w of those that stay.
fn receivers(from: &Ring, to: &Ring, partition: Partition, n: u8) -> BTreeSet<NodeId> {
    let (before, after) = (owners(from, partition, n), owners(to, partition, n));
    if after.len() < before.len() { after } else { &after - &before }
}

impl Handover {
    /// Looks at what became of the ownership since it was looked at last.
    pub(crate) fn look(&mut self, turn: &mut Turn<'_>) {
        let (ownership, buckets) = (&turn.shared.ownership, &turn.shared.buckets);
        if let Some(seen) = &self.seen
            && Arc::ptr_eq(&seen.0, ownership)
            && Arc::ptr_eq(&seen.1, buckets)
        {
            return;
        }
        let (ownership, buckets) = (Arc::clone(ownership), Arc::clone(buckets));
        let before = self.seen.replace((Arc::clone(&ownership), Arc::clone(&buckets)));
        let classes = buckets.classes();
        let target = ownership.target().id();
        if before.as_ref().is_some_and(|(before, _)| before.target().id() != target) {
            self.tally = Tally::default();
        }
        let all_changed = before.as_ref().is_none_or(|(before, known)| {
            before.target().id() != target || known.classes() != classes
        });
        let mut departures = 0;
        for partition in ownership.partition_count().iter() {
            let shards = &turn.shared.config.shards;
            let is_changed = || {
                all_changed
                    || before.as_ref().is_none_or(|(before, _)| {
                        before.sequence(partition) != ownership.sequence(partition)
                    })
            };
            if shards.contains(shards.shards().of_partition(partition)) && is_changed() {
                self.look_at(partition, &ownership, &classes, turn);
                // Nearly all partitions of a large cluster are not this node's: some at a time.
                departures += usize::from(self.departures.contains_key(&partition));
                if departures <= TURNS_MAX || !self.departures.contains_key(&partition) {
                    self.go_on(partition, turn);
                }
            }
        }
        self.set_timer(turn);
    }

    fn look_at(
        &mut self,
        partition: Partition,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
        turn: &Turn<'_>,
    ) {
        let (me, tenure) = (turn.me(), ownership.tenure(partition));
        self.questions.forget_answered(partition);
        let target = ownership.target().id();
        let goal = match tenure.stage {
            Stage::Steady { plan } => (plan != target).then_some(target),
            Stage::Joint { to, .. } => Some(to),
            Stage::Shifted { .. } => None,
        };
        if tenure.stage != (Stage::Steady { plan: target })
            && ownership.driver(partition) == Some(me)
        {
            let now_ms = turn.now.monotonic_ms;
            self.drives.entry(partition).or_default().look(tenure, now_ms);
        } else if self.drives.remove(&partition).is_some()
            && tenure.stage == (Stage::Steady { plan: target })
        {
            self.tally.driven.note(1, turn.now.monotonic_ms);
        }
        let pull = goal
            .and_then(|plan| Pull::of(partition, (tenure.sequence, plan), me, ownership, classes));
        match (pull, self.pulls.get_mut(&partition)) {
            (Some(pull), Some(had)) if had.goal() == pull.goal() => had.extend_to(pull),
            (Some(mut pull), had) => {
                if let Some(had) = had.filter(|had| had.goal().1 == pull.goal().1) {
                    pull.follow(had);
                }
                self.pulls.insert(partition, pull);
            }
            (None, _) => {
                let is_owned = |had: Pull| match tenure.stage {
                    Stage::Shifted { to: plan, .. } | Stage::Steady { plan } => {
                        plan == had.goal().1
                    }
                    Stage::Joint { .. } => false,
                };
                if self.pulls.remove(&partition).is_some_and(is_owned) {
                    self.tally.received.note(1, turn.now.monotonic_ms);
                }
            }
        }
        self.count(partition);
        let rings = [
            Some(ownership.present(partition)),
            ownership.beside(partition),
            ownership.coming(partition),
        ];
        let holds = |n: u8| {
            rings.into_iter().flatten().any(|ring| owners(ring, partition, n).contains(&me))
        };
        let is_over = matches!(tenure.stage, Stage::Steady { .. });
        if !is_over && classes.last().is_some_and(|&n| holds(n)) {
            self.owned.insert(partition);
        } else {
            self.owned.remove(&partition);
        }
        // An owner of a bucket's keys is one of those of all buckets with more owners.
        let (keys, given_up) = match classes.iter().find(|&&n| holds(n)) {
            Some(&held) => (
                KeysOf::BucketsUpTo(held - 1),
                classes.iter().copied().filter(|&n| n < held).collect(),
            ),
            None => (KeysOf::AllBuckets, classes.clone()),
        };
        if given_up.is_empty() && keys != KeysOf::AllBuckets {
            self.departures.remove(&partition);
        } else {
            let given_up = (keys, given_up);
            self.next_departure += 1;
            let number = self.next_departure;
            let departure = Departure::of(number, partition, tenure.sequence, ownership, given_up);
            self.departures.insert(partition, departure);
        }
    }

    /// Keeps count of what is under way.
    fn count(&mut self, partition: Partition) {
        let is_begun = self.drives.get(&partition).is_some_and(Drive::is_begun);
        let is_pulling = self.pulls.get(&partition).is_some_and(Pull::is_under_way);
        for (is_counted, set) in [(is_begun, &mut self.begun), (is_pulling, &mut self.pulling)] {
            if is_counted {
                set.insert(partition);
            } else {
                set.remove(&partition);
            }
        }
    }

    /// Something was written here to a partition that this node does not own.
    pub(crate) fn strayed(&mut self, partition: Partition, turn: &mut Turn<'_>) {
        let ownership = Arc::clone(&turn.shared.ownership);
        if self.departures.get(&partition).is_some_and(Departure::compares) {
            return;
        }
        let classes = turn.shared.buckets.classes();
        self.look_at(partition, &ownership, &classes, turn);
        self.go_on(partition, turn);
    }

    /// A peer said where it stands.
    pub(crate) fn stood(
        &mut self,
        node: NodeId,
        partition: Partition,
        stands: Stands,
        turn: &mut Turn<'_>,
    ) {
        self.questions.answered(node, partition);
        if let Some(drive) = self.drives.get_mut(&partition) {
            drive.stood(node, stands);
        }
        let mut wants = Vec::new();
        let stage = turn.shared.ownership.tenure(partition).stage;
        let mut is_urgent = !matches!(stage, Stage::Steady { .. });
        if let Some(pull) = self.pulls.get_mut(&partition) {
            wants.extend(pull.stood(node, stands, turn.shared.classes()));
        }
        if let Some(departure) = self.departures.get_mut(&partition) {
            let compared = departure.stood(node, stands);
            is_urgent |= !compared.is_empty();
            wants.extend(compared);
        }
        for n in wants {
            self.want(node, n, partition, is_urgent);
        }
        self.go_on(partition, turn);
    }

    fn want(&mut self, peer: NodeId, n: u8, partition: Partition, is_urgent: bool) {
        self.next_want += 1;
        let number = self.next_want;
        self.wants.push(Want { peer, n, partition, number, is_urgent });
        if let Some(pull) = self.pulls.get_mut(&partition) {
            pull.wanted(peer, n, number);
        }
        if let Some(departure) = self.departures.get_mut(&partition) {
            departure.wanted(peer, n, number);
        }
    }

    /// What became of a comparison.
    pub(crate) fn found(&mut self, found: Found, turn: &mut Turn<'_>) {
        if let Some(pull) = self.pulls.get_mut(&found.partition) {
            pull.found(&found);
        }
        if let Some(departure) = self.departures.get_mut(&found.partition) {
            departure.found(&found);
        }
        self.go_on(found.partition, turn);
    }

    pub(crate) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.questions.link_down(node, turn);
        self.drives.values_mut().for_each(|drive| drive.link_down(node));
        self.departures.values_mut().for_each(|departure| departure.link_down(node));
    }

    /// It is time to look after what waits.
    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        self.questions.forget_late(turn);
        self.pulls.values_mut().for_each(Pull::begin_anew);
        self.pulling.retain(|partition| self.pulls.get(partition).is_some_and(Pull::is_under_way));
        self.departures.values_mut().for_each(Departure::begin_anew);
        let all = self.drives.keys().chain(self.pulls.keys()).chain(self.departures.keys());
        let all: BTreeSet<Partition> = all.copied().collect();
        let mut turns = self.begun.clone();
        let after = all.range((Bound::Excluded(self.turn), Bound::Unbounded));
        let next: Vec<Partition> = after.chain(&all).take(TURNS_MAX).copied().collect();
        self.turn = next.last().copied().unwrap_or_default();
        turns.extend(next);
        let ownership = Arc::clone(&turn.shared.ownership);
        let classes = turn.shared.buckets.classes();
        for partition in turns {
            self.decide(partition, &ownership, &classes, turn);
            self.go_on(partition, turn);
        }
        self.drops = dropping::KEYS_BETWEEN;
        self.drop_next(turn);
        self.set_timer(turn);
    }

    /// Asks whoever a partition waits for, and drops what may be dropped.
    fn go_on(&mut self, partition: Partition, turn: &mut Turn<'_>) {
        let ownership = Arc::clone(&turn.shared.ownership);
        let classes = turn.shared.buckets.classes();
        let mut ask = BTreeSet::new();
        if let Some(drive) = self.drives.get(&partition) {
            ask.extend(drive.waits_for(partition, &ownership, &classes));
        }
        if let Some(pull) = self.pulls.get(&partition)
            && (pull.is_under_way() || self.pulling.len() < PULLS_MAX)
        {
            ask.extend(pull.waits_for(&ownership));
        }
        if let Some(departure) = self.departures.get_mut(&partition) {
            ask.extend(departure.go_on(&ownership, turn));
            if departure.is_dropping() {
                self.drop_next(turn);
            }
        }
        self.count(partition);
        for node in ask {
            self.questions.want(partition, node, turn);
        }
        self.set_timer(turn);
    }

    fn set_timer(&self, turn: &mut Turn<'_>) {
        if self.drives.is_empty() && self.pulls.is_empty() && self.departures.is_empty() {
            turn.shared.clear_timer(Timer::Handover);
        } else {
            let at = turn.now.monotonic_ms.saturating_add(POLL_MS);
            turn.set_timer_if_none(Timer::Handover, at);
        }
    }

    /// Takes a partition further, if that may be.
    fn decide(
        &mut self,
        partition: Partition,
        ownership: &Ownership,
        classes: &BTreeSet<u8>,
        turn: &Turn<'_>,
    ) {
        let begun = self.begun.len();
        let Some(drive) = self.drives.get_mut(&partition) else { return };
        let (me, now_ms) = (turn.me(), turn.now.monotonic_ms);
        let Some(stage) = drive.next(partition, me, now_ms, ownership, classes) else { return };
        if matches!(stage, Stage::Joint { .. }) && !drive.is_begun() && begun >= DRIVES_MAX {
            return;
        }
        if let Some(tenure) = ownership.next_tenure(partition, me, stage) {
            drive.decided(tenure);
            self.begun.extend(drive.is_begun().then_some(partition));
            self.decisions.push((partition, tenure));
        }
    }

    /// In how many partitions' handovers this node has a part, and how many it departs from; `None` if it is
    /// not known yet what the present ownership comes to.
    pub(crate) fn counts(&self, shared: &Shared) -> Option<(u64, u64)> {
        let (ownership, _) = self.seen.as_ref()?;
        let departures = self.departures.len() as u64;
        let parts = self.drives.keys().chain(self.pulls.keys()).chain(self.departures.keys());
        let all = parts.chain(&self.owned).collect::<BTreeSet<_>>().len() as u64;
        Arc::ptr_eq(ownership, &shared.ownership).then_some((all, departures))
    }

    /// Comparisons to be made.
    pub(crate) fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Tenures that this node's partitions are to have.
    pub(crate) fn take_decisions(&mut self) -> Vec<(Partition, Tenure)> {
        std::mem::take(&mut self.decisions)
    }

    /// The handovers that this core has a part in, by partition.
    pub(crate) fn transfers(&self, shared: &Shared) -> Vec<Transfer> {
        let (ownership, classes) = (&shared.ownership, shared.buckets.classes());
        let transfer = |partition, part, waits_for: BTreeSet<NodeId>| Transfer {
            partition,
            part,
            tenure: ownership.tenure(partition),
            waits_for: waits_for.into_iter().collect(),
        };
        let drives = self.drives.iter().map(|(&partition, drive)| {
            transfer(partition, Part::Driving, drive.waits_for(partition, ownership, &classes))
        });
        let pulls = self.pulls.iter().map(|(&partition, pull)| {
            transfer(partition, Part::Receiving, pull.waits_for(ownership))
        });
        let departures = self.departures.iter().map(|(&partition, departure)| {
            transfer(partition, Part::Departing, departure.waits_for(ownership))
        });
        let mut transfers: Vec<Transfer> = drives.chain(pulls).chain(departures).collect();
        transfers.sort_by_key(|transfer| transfer.partition);
        transfers
    }
}
