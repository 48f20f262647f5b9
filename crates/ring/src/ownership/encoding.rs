//! The encoding of an ownership state: plans, and runs of partitions whose tenures say the same.

use std::sync::Arc;

use clock::NodeId;
use serde::{Deserialize, Serialize};

use super::{Kind, Ownership, PLANS_MAX, Plan, Sequence, Slot};

/// What is stored and sent.
#[derive(Serialize, Deserialize)]
pub(super) struct Parts {
    plans: Vec<Plan>,
    runs: Vec<Run>,
}

/// So many partitions, clockwise, of the same tenure.
#[derive(Serialize, Deserialize)]
struct Run {
    count: u32,
    sequence: Sequence,
    by: NodeId,
    kind: Kind,
    from: u16,
    to: u16,
}

/// Why what came in is no state of ownership. Nothing was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOwnership {
    /// No plans, or plans out of order.
    #[error("the plans must be at least one, ascending and distinct")]
    Plans,
    /// Plans of different numbers of partitions, or tenures of another number.
    #[error("plans and tenures are of different numbers of partitions")]
    PartitionCount,
    /// A tenure names a plan that is not there.
    #[error("a tenure of a plan that is not there")]
    UnknownPlan,
    /// A handover leads from a plan to itself, or a partition's owners are of two plans without one.
    #[error("a handover must lead from one plan to another")]
    Stage,
    /// A tenure of no sequence.
    #[error("a tenure's sequence begins with 1")]
    Sequence,
}

impl From<Ownership> for Parts {
    fn from(Ownership { plans, tenures, .. }: Ownership) -> Self {
        let chunks = tenures.chunk_by(|a, b| a == b);
        let runs = chunks.map(|run| {
            let Slot { sequence, by, kind, from, to } = run[0];
            let count = u32::try_from(run.len()).expect("at most 65,536 partitions");
            Run { count, sequence, by, kind, from, to }
        });
        let plans = plans.into_iter().map(Arc::unwrap_or_clone);
        Self { runs: runs.collect(), plans: plans.collect() }
    }
}

impl TryFrom<Parts> for Ownership {
    type Error = InvalidOwnership;

    fn try_from(Parts { plans, runs }: Parts) -> Result<Self, InvalidOwnership> {
        let Some(target) = plans.last() else { return Err(InvalidOwnership::Plans) };
        if !plans.is_sorted_by(|a, b| a.id() < b.id()) || plans.len() > PLANS_MAX {
            return Err(InvalidOwnership::Plans);
        }
        let partitions = target.ring().partition_count();
        if plans.iter().any(|plan| plan.ring().partition_count() != partitions) {
            return Err(InvalidOwnership::PartitionCount);
        }
        let count = runs.iter().fold(0_u64, |all, run| all + u64::from(run.count));
        if count != u64::from(partitions.get()) {
            return Err(InvalidOwnership::PartitionCount);
        }
        let mut tenures = Vec::with_capacity(partitions.get() as usize);
        for Run { count, sequence, by, kind, from, to } in runs {
            if usize::from(from.max(to)) >= plans.len() {
                return Err(InvalidOwnership::UnknownPlan);
            }
            if (kind == Kind::Steady) != (from == to) {
                return Err(InvalidOwnership::Stage);
            }
            if sequence < Sequence::FIRST {
                return Err(InvalidOwnership::Sequence);
            }
            let slot = Slot { sequence, by, kind, from, to };
            tenures.extend(std::iter::repeat_n(slot, count as usize));
        }
        let mut ownership = Self::of(plans.into_iter().map(Arc::new).collect(), tenures);
        ownership.forget();
        Ok(ownership)
    }
}
