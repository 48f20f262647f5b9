//! What is asked about buckets and what is answered.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BucketPolicy, PolicyError, PolicyFields, Standing};

/// A call about buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketCall {
    /// Creates a bucket, or gives one that was used without being created a policy of its own.
    /// What is not said is as in the node's default policy.
    Create {
        /// Its name.
        name: Bytes,
        /// What is said of it.
        fields: PolicyFields,
    },
    /// Changes what is said of a bucket.
    Set {
        /// Its name.
        name: Bytes,
        /// What is said.
        fields: PolicyFields,
    },
    /// Drops a bucket with all that is in it.
    Drop {
        /// Its name.
        name: Bytes,
    },
    /// How a bucket stands.
    Show {
        /// Its name.
        name: Bytes,
    },
    /// Every bucket that was created or dropped.
    List,
}

impl BucketCall {
    /// The bucket that is to be changed; `None` for a call that changes nothing.
    pub const fn changes(&self) -> Option<&Bytes> {
        match self {
            Self::Create { name, .. } | Self::Set { name, .. } | Self::Drop { name } => Some(name),
            Self::Show { .. } | Self::List => None,
        }
    }
}

/// How a bucket stands at the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name.
    pub name: Bytes,
    /// How often the name was created anew after a drop.
    pub generation: u64,
    /// Whether it was created, or dropped.
    pub standing: Standing,
    /// Its policy; without meaning of one that was dropped.
    pub policy: BucketPolicy,
    /// What of its settings contradicts the others, and what counts instead. So it can be after
    /// changes on two sides of a cut; setting the field again mends it.
    pub doubts: Vec<String>,
}

/// What is answered to a [`BucketCall`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketReply {
    /// A change is durable at this node.
    Changed {
        /// How the bucket stands now.
        bucket: BucketInfo,
        /// Members at which the change is durable, this one included.
        known: u16,
        /// All members. The others are told as soon as they can be reached.
        members: u16,
    },
    /// How the bucket stands.
    Shown(BucketInfo),
    /// All buckets, in order of name.
    Listed(Vec<BucketInfo>),
}

/// Why a bucket cannot be used or changed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// It was dropped.
    #[error(
        "bucket {bucket:?} was dropped; create it again with `merganser bucket create`, PUT \
         /v1/buckets/{{bucket}} or MG.BUCKET CREATE: it begins empty"
    )]
    Dropped {
        /// Its name.
        bucket: String,
    },
    /// It is to be created and was already.
    #[error("bucket {bucket:?} exists already; change its policy with set")]
    Exists {
        /// Its name.
        bucket: String,
    },
    /// It is to be changed and was not created.
    #[error("bucket {bucket:?} has no policy of its own yet; create it first")]
    NotCreated {
        /// Its name.
        bucket: String,
    },
    /// The policy is none.
    #[error(transparent)]
    Policy(PolicyError),
    /// The number of owners is to be changed of a bucket that holds data.
    #[error(
        "bucket {bucket:?} holds data, and n={n} of its keys cannot be changed yet; copy them to a \
         bucket created with the n you want"
    )]
    HoldsData {
        /// Its name.
        bucket: String,
        /// The n that it has.
        n: u8,
    },
    /// The number of owners is to be changed, and not every member could be asked what it holds.
    #[error(
        "not every member could be asked whether bucket {bucket:?} holds data, so its n stays; \
         change it when all are in reach"
    )]
    CannotTell {
        /// Its name.
        bucket: String,
    },
    /// There are too many.
    #[error(
        "there are {limit} names of buckets already, dropped ones included, and that is the most"
    )]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// This node's record of its policy is damaged, so whether it was dropped is not known here.
    #[error(
        "this node's record of bucket {bucket:?} is damaged; it serves the bucket again once another \
         member tells it what it knows; without one, restore the data directory from a copy"
    )]
    Damaged {
        /// Its name.
        bucket: String,
    },
}
