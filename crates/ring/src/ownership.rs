//! Who owns the partitions now, and who is to own them: replicated state, joined like any other.
//!
//! A [`Plan`] says who *is to* own the partitions; the greatest plan known is the target. A
//! [`Tenure`] says, per partition, by which plan it *is* owned, and how far a handover to the next
//! plan is. Joined: the union of the plans, and of each partition the tenure of the greater
//! sequence. Only one node, the partition's [driver](Ownership::driver), makes its tenures, each
//! with a greater sequence than the last; so no two nodes ever contend for one.
//!
//! Invariants, checked on decode: all plans are of the same number of partitions, every plan that a
//! tenure names is there, and every plan is named by a tenure or is the target. What no longer is,
//! is forgotten, so the state takes a few bytes per run of partitions and a ring per plan under way.

mod commit;
mod encoding;
mod plan;
mod tenure;

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::NodeId;
use serde::{Deserialize, Serialize};

pub use self::{
    commit::CommitError,
    encoding::InvalidOwnership,
    plan::{InvalidPlan, Plan, PlanId},
    tenure::{Sequence, Stage, Tenure},
};
use crate::{Partition, PartitionCount, Ring, Token};

/// Most plans of one state: tenures name them by 16-bit numbers. An administrator commits no more than
/// eight that are under way; only forged states come near it, and what is beyond it is passed over.
const PLANS_MAX: usize = u16::MAX as usize;

/// Plans, and which of them each partition is owned by. A join-semilattice.
///
/// ```
/// use clock::NodeId;
/// use ring::{Member, Ownership, Partition, PartitionCount, Ring, Stage};
///
/// let members = [1, 2, 3].map(|id| Member::new(NodeId(id)));
/// let ring = Ring::place(&members, PartitionCount::new(8)?, 3, None)?.ring;
/// let mut ownership = Ownership::new(ring);
/// let more = [1, 2, 3, 4].map(|id| Member::new(NodeId(id)));
/// let plan = ownership.commit(&more, 3, &[])?;
/// ownership.add_plan(plan);
/// // The plan is the target; who owns a partition now has not changed.
/// assert_eq!(ownership.target().ring().members().len(), 4);
/// assert!(matches!(ownership.tenure(Partition(0)).stage, Stage::Steady { .. }));
/// assert_eq!(ownership.present(Partition(0)).members().len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "encoding::Parts", into = "encoding::Parts")]
pub struct Ownership {
    /// Ascending by id; the last is the target.
    plans: Vec<Arc<Plan>>,
    /// Per partition.
    tenures: Vec<Slot>,
    /// The members of all plans, ascending. Follows from the plans.
    members: Vec<NodeId>,
}

/// A [`Tenure`] with indices in place of plan ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    sequence: Sequence,
    by: NodeId,
    kind: Kind,
    /// The plan that owns; of a handover, the one that is left.
    from: u16,
    /// Of a handover, the one that comes; else as `from`.
    to: u16,
}

/// [`Stage`] without the plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Steady,
    Joint,
    Shifted,
}

/// What a join did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Partitions whose tenure changed, ascending.
    pub partitions: Vec<Partition>,
    /// Whether another plan is the target now.
    pub is_retargeted: bool,
    /// Whether a later tenure was passed over, since a plan that it names is not here.
    pub has_passed_over: bool,
}

impl Joined {
    /// Whether anything changed.
    pub fn is_changed(&self) -> bool {
        self.is_retargeted || !self.partitions.is_empty()
    }
}

impl Ownership {
    /// The state of a cluster whose partitions are owned as `ring` says, and all settled.
    pub fn new(ring: Ring) -> Self {
        let count = ring.partition_count().get();
        let plan = Plan::new(ring, Vec::new()).expect("nobody is removed");
        let (sequence, by) = (Sequence::FIRST, NodeId(0));
        let slot = Slot { sequence, by, kind: Kind::Steady, from: 0, to: 0 };
        Self::of(vec![Arc::new(plan)], vec![slot; count as usize])
    }

    fn of(plans: Vec<Arc<Plan>>, tenures: Vec<Slot>) -> Self {
        let nodes = plans.iter().flat_map(|plan| plan.ring().members()).copied();
        let mut members: Vec<NodeId> = nodes.collect();
        members.sort_unstable();
        members.dedup();
        Self { plans, tenures, members }
    }

    /// The plan that is to be reached.
    pub fn target(&self) -> &Plan {
        self.plans.last().expect("there is always a plan")
    }

    /// All plans that matter still, ascending; the last is the target.
    pub fn plans(&self) -> impl ExactSizeIterator<Item = &Plan> {
        self.plans.iter().map(AsRef::as_ref)
    }

    /// The members of all plans that matter still, ascending.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Whether an administrator has said that `node` is gone for good.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.target().removed().binary_search(&node).is_ok()
    }

    /// The number of partitions.
    pub fn partition_count(&self) -> PartitionCount {
        self.target().ring().partition_count()
    }

    /// The partition in which `token` lies.
    pub fn partition(&self, token: Token) -> Partition {
        self.partition_count().partition(token)
    }

    /// How a partition is owned now.
    pub fn tenure(&self, partition: Partition) -> Tenure {
        self.tenure_of(self.slot(partition))
    }

    /// The sequence of a partition's tenure: a greater one with every change.
    pub fn sequence(&self, partition: Partition) -> Sequence {
        self.slot(partition).sequence
    }

    /// The ring whose owners answer reads of a partition, and must acknowledge writes.
    pub fn present(&self, partition: Partition) -> &Ring {
        let slot = self.slot(partition);
        self.ring(if slot.kind == Kind::Shifted { slot.to } else { slot.from })
    }

    /// The ring whose owners must acknowledge writes of a partition too: of a handover that is
    /// about to end, or has just been decided.
    pub fn beside(&self, partition: Partition) -> Option<&Ring> {
        let slot = self.slot(partition);
        match slot.kind {
            Kind::Steady => None,
            Kind::Joint => Some(self.ring(slot.to)),
            Kind::Shifted => Some(self.ring(slot.from)),
        }
    }

    /// The ring whose owners are sent writes of a partition, though nobody waits for them: those of
    /// the target, where it is another than the present one.
    pub fn coming(&self, partition: Partition) -> Option<&Ring> {
        let slot = self.slot(partition);
        let target = self.index(self.plans.len() - 1);
        (slot.kind == Kind::Steady && slot.from != target).then(|| self.ring(target))
    }

    /// The ring whose owners hold a partition's data: until a handover is over, the one it leaves.
    pub fn leaving(&self, partition: Partition) -> &Ring {
        self.ring(self.slot(partition).from)
    }

    /// The ring that a partition's handover leads to, or is to lead to; the present one where it
    /// stays.
    pub fn entering(&self, partition: Partition) -> &Ring {
        let slot = self.slot(partition);
        self.coming(partition).unwrap_or_else(|| self.ring(slot.to))
    }

    /// The one node that may change a partition's tenure: the first owner of the plan that is left,
    /// passing over those that are gone for good.
    ///
    /// Since a handover needs every present owner anyway, that it needs this one costs nothing.
    pub fn driver(&self, partition: Partition) -> Option<NodeId> {
        let first = self.leaving(partition).owner(partition);
        if !self.is_removed(first) {
            return Some(first);
        }
        let lists = [self.leaving(partition), self.target().ring()];
        let mut nodes = lists.into_iter().flat_map(|ring| ring.preference_list(partition));
        nodes.find(|&node| !self.is_removed(node))
    }

    /// The tenure that follows a partition's present one, if `by` makes it. `None` if there is no
    /// greater sequence, or a plan that it names is not here.
    ///
    /// A driver in the place of one that is gone for good leaves the sequences that it may have used
    /// behind: nothing that only the lost one told of outlives its successor's first tenure.
    pub fn next_tenure(&self, partition: Partition, by: NodeId, stage: Stage) -> Option<Tenure> {
        let present = self.slot(partition);
        let takes_over = self.leaving(partition).owner(partition) != by;
        let least = if takes_over { self.target().id().version } else { 0 };
        let sequence = present.sequence.next(least)?;
        let tenure = Tenure { sequence, by, stage };
        self.slot_of(&tenure).map(|_| tenure)
    }

    /// Joins another state into this one. One of another number of partitions is of another
    /// cluster, and is passed over.
    pub fn join(&mut self, other: &Self) -> Joined {
        let mut joined = self.take_plans(other.plans.iter().cloned());
        let tenures = (0..).map(Partition).zip(&other.tenures);
        let tenures = tenures.map(|(partition, slot)| (partition, other.tenure_of(slot)));
        self.take_tenures(tenures, &mut joined);
        self.forget();
        joined
    }

    /// Joins one plan into this state.
    pub fn add_plan(&mut self, plan: Plan) -> Joined {
        let joined = self.take_plans([Arc::new(plan)]);
        self.forget();
        joined
    }

    /// Joins some tenures into this state. One that names a plan that is not here is passed over: whoever
    /// made it known has its plan, and is to tell of its whole state.
    pub fn add_tenures(
        &mut self,
        tenures: impl IntoIterator<Item = (Partition, Tenure)>,
    ) -> Joined {
        let mut joined = Joined::default();
        self.take_tenures(tenures, &mut joined);
        self.forget();
        joined
    }

    /// Joins some tenures into this state that were made of the state `of`: what plans they name that
    /// this one has forgotten, are taken from there.
    pub fn add_tenures_of(
        &mut self,
        of: &Self,
        tenures: impl IntoIterator<Item = (Partition, Tenure)>,
    ) -> Joined {
        let mut joined = self.take_plans(of.plans.iter().cloned());
        self.take_tenures(tenures, &mut joined);
        self.forget();
        joined
    }

    /// How many partitions each member of a plan has still to get, and to give up: those whose
    /// owner differs between what owns them now and the target. Ascending by id.
    pub fn movement(&self, n: usize) -> BTreeMap<NodeId, (u32, u32)> {
        let mut movement = BTreeMap::<NodeId, (u32, u32)>::new();
        for partition in self.partition_count().iter() {
            let (before, after) = (self.leaving(partition), self.target().ring());
            let before: Vec<NodeId> = before.owners(partition, n).collect();
            let after: Vec<NodeId> = after.owners(partition, n).collect();
            for &node in after.iter().filter(|node| !before.contains(node)) {
                movement.entry(node).or_default().0 += 1;
            }
            for &node in before.iter().filter(|node| !after.contains(node)) {
                movement.entry(node).or_default().1 += 1;
            }
        }
        movement
    }

    /// Whether nothing has changed since the cluster was made.
    pub fn is_first(&self) -> bool {
        self.plans.len() == 1 && self.tenures.iter().all(|slot| slot.sequence == Sequence::FIRST)
    }

    /// Whether every partition is owned as the target says.
    pub fn is_settled(&self) -> bool {
        self.plans.len() == 1 && self.tenures.iter().all(|slot| slot.kind == Kind::Steady)
    }

    fn take_plans(&mut self, plans: impl IntoIterator<Item = Arc<Plan>>) -> Joined {
        let (count, before) = (self.partition_count(), self.target().id());
        for plan in plans {
            if plan.ring().partition_count() != count {
                continue;
            }
            if let Err(at) = self.plans.binary_search_by_key(&plan.id(), |known| known.id())
                && self.plans.len() < PLANS_MAX
            {
                self.plans.insert(at, plan);
                let at = self.index(at);
                for slot in &mut self.tenures {
                    slot.from += u16::from(slot.from >= at);
                    slot.to += u16::from(slot.to >= at);
                }
            }
        }
        Joined { is_retargeted: self.target().id() != before, ..Joined::default() }
    }

    fn take_tenures(
        &mut self,
        tenures: impl IntoIterator<Item = (Partition, Tenure)>,
        joined: &mut Joined,
    ) {
        for (partition, theirs) in tenures {
            let Some(ours) = self.tenures.get(partition.0 as usize) else { continue };
            if self.tenure_of(ours) >= theirs {
                continue;
            }
            if let Some(slot) = self.slot_of(&theirs) {
                self.tenures[partition.0 as usize] = slot;
                joined.partitions.push(partition);
            } else {
                joined.has_passed_over = true;
            }
        }
    }

    /// Forgets the plans that no tenure names, but for the target.
    fn forget(&mut self) {
        let mut named = vec![false; self.plans.len()];
        if let Some(target) = named.last_mut() {
            *target = true;
        }
        for slot in &self.tenures {
            named[usize::from(slot.from)] = true;
            named[usize::from(slot.to)] = true;
        }
        let places: Vec<u16> = named
            .iter()
            .scan(0, |left, &named| {
                let place = *left;
                *left += u16::from(named);
                Some(place)
            })
            .collect();
        let mut tenures = std::mem::take(&mut self.tenures);
        for slot in &mut tenures {
            (slot.from, slot.to) = (places[usize::from(slot.from)], places[usize::from(slot.to)]);
        }
        let plans = std::mem::take(&mut self.plans).into_iter().zip(named);
        let plans = plans.filter(|(_, named)| *named).map(|(plan, _)| plan).collect();
        *self = Self::of(plans, tenures);
    }

    fn slot(&self, partition: Partition) -> &Slot {
        // The length is a power of two, and partitions are cyclic.
        &self.tenures[partition.0 as usize & (self.tenures.len() - 1)]
    }

    fn ring(&self, index: u16) -> &Ring {
        self.plans[usize::from(index)].ring()
    }

    fn index(&self, at: usize) -> u16 {
        u16::try_from(at).expect("there are at most PLANS_MAX plans")
    }

    fn tenure_of(&self, slot: &Slot) -> Tenure {
        let (from, to) =
            (self.plans[usize::from(slot.from)].id(), self.plans[usize::from(slot.to)].id());
        let stage = match slot.kind {
            Kind::Steady => Stage::Steady { plan: from },
            Kind::Joint => Stage::Joint { from, to },
            Kind::Shifted => Stage::Shifted { from, to },
        };
        Tenure { sequence: slot.sequence, by: slot.by, stage }
    }

    /// `None` if a plan is not here, or if it says what none can: then it was forged, and what has it would
    /// not be decoded again.
    fn slot_of(&self, tenure: &Tenure) -> Option<Slot> {
        let at = |id: PlanId| {
            let at = self.plans.binary_search_by_key(&id, |plan| plan.id()).ok()?;
            Some(self.index(at))
        };
        let (kind, from, to) = match tenure.stage {
            Stage::Steady { plan } => (Kind::Steady, at(plan)?, at(plan)?),
            Stage::Joint { from, to } => (Kind::Joint, at(from)?, at(to)?),
            Stage::Shifted { from, to } => (Kind::Shifted, at(from)?, at(to)?),
        };
        let is_possible =
            (kind == Kind::Steady || from != to) && tenure.sequence >= Sequence::FIRST;
        is_possible.then_some(Slot { sequence: tenure.sequence, by: tenure.by, kind, from, to })
    }
}
