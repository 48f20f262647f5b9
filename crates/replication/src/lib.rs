//! Replication: coordinators, quorums, outbox delivery and read repair as one pure state machine.
//!
//! Source: DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store" (2007), §4.5, §4.6
//! and §5, over values that are joined instead of versions that are compared.
//!
//! A [`Core`] decides; a shell moves bytes. [`Event`]s come in, [`Effect`]s go out; cores of
//! different nodes speak in [`Message`]s; clients in [`Request`]s.

mod anti_entropy;
mod barrier;
mod bucket_call;
mod coordinator;
mod core;
mod counters;
mod delivery;
mod digest;
mod drain;
mod event;
mod forwards;
mod handover;
mod journal;
mod keeper;
mod latency;
mod message;
mod numbered;
mod ownership_call;
mod policies;
mod policy;
mod quorum;
mod read_repair;
mod registrar;
mod replica;
mod reported;
mod request;
mod request_name;
mod turn;
mod unkept;

pub use self::core::Core;
pub use anti_entropy::{
    AntiEntropyConfig, Compare, Compared, Comparison, ComparisonSummary, RepairProgress,
    RepairRequest,
};
pub use barrier::{
    BARRIER_MEMBERS_MAX, Barrier, BarrierHand, BarrierLook, BarrierNote, BarrierProgress,
    BarrierShown, BarrierStage, BarrierStamp, BarrierStanding, BarrierStart, BarrierStep,
    BarrierTable, BarrierTask, BarrierTerms, BarrierTimes,
};
pub use bucket_call::{BucketCall, BucketError, BucketInfo, BucketReply};
pub use counters::Counters;
pub use digest::ViewDigest;
pub use event::{Call, CallId, CoreConfig, Effect, Event, Now, Reply};
pub use handover::{Flow, Part, Stands, Transfer, WaitReason};
pub use journal::Coordinated;
pub use keeper::{KeptCommits, KeptStart, ownership_note, provisional_ownership};
pub use message::{Body, KnownOwnership, KnownPolicies, Message, RequestId};
pub use ownership_call::{OwnershipCall, OwnershipReply, PlanChange};
pub use policies::{Bucket, BucketEntry, Buckets, Classes, PolicyTable, Setting, Standing};
pub use policy::{
    Availability, BucketPolicy, Field, OWNERS_MAX, PolicyError, PolicyFields, RawValues,
};
pub use request::{
    Acks, Action, Answer, ConflictCursor, ConflictList, ConflictsRequest, Explanation, Level,
    ReplicaView, Request, RequestError, ScanCursor, ScanPage, ScanRequest, summarize, token_scope,
};
pub use request_name::{NamedBy, REQUEST_NAME_BYTES_MAX, RETRY_WINDOW_MS, RequestName};
