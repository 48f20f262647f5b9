//! Coordinators, quorums, outbox delivery and read repair as pure state machines. (Being written.)

mod event;
mod message;
mod request;

pub use event::{Availability, BucketPolicy, Call, CallId, CoreConfig, Effect, Event, Now, Reply};
pub use message::{Body, Message, RequestId};
pub use request::{
    Acks, Action, Answer, Explanation, Level, ReplicaView, Request, RequestError, ScanCursor,
    ScanPage, ScanRequest, summarize,
};
