//! The ring: where a key lies, which node owns its partition, who stands in when owners are away.
//!
//! Source: DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store" (2007), §4.2, §4.3
//! and §6.2, strategy 3: Q equal partitions, placed on nodes independently of the hash.
//!
//! Everything here is a pure function of its arguments. The crate knows nodes by id only: not
//! whether they are reachable, nor what values are.

mod member;
mod ownership;
mod placement;
mod replacement;
mod ring;
mod token;

pub use member::{InvalidWeight, InvalidZone, Member, Weight, Zone};
pub use ownership::{
    CommitError, InvalidOwnership, InvalidPlan, Joined, Ownership, Plan, PlanId, Sequence, Stage,
    Tenure,
};
pub use placement::{Limit, Placement, PlacementError, Share};
pub use replacement::Replacement;
pub use ring::{InvalidRing, Move, Ring};
pub use token::{InvalidPartitionCount, Partition, PartitionCount, Token};
