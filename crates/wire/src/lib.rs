//! Frames and messages between nodes and to native clients.
//!
//! A connection begins with a handshake ([`connect_peer`], [`connect_client`], [`accept`]) of
//! small frames under a time limit; then a peer's connection carries [`PeerFrame`]s, a client's
//! [`ClientCall`]s one way and [`ClientReply`]s the other. Every frame is a 4-byte big-endian
//! length and one value in the project's one encoding; whatever is malformed ends the connection.

mod backup;
mod call;
mod drain;
mod frame;
mod handshake;
mod operation_name;
mod plan;
mod transfer;

pub use backup::{BackupCall, BackupProgress, BackupTaken};
pub use call::{
    BarrierDoing, BarrierStatus, CallBody, ClientCall, ClientReply, ClusterCall, ClusterStatus,
    HandoverStatus, MemberStatus, ReplyBody,
};
pub use drain::{DrainCall, DrainProgress, KeptFor};
pub use frame::{
    FRAME_BYTES_MAX, FrameError, FrameHeader, FrameStream, HANDSHAKE_BYTES_MAX, MESSAGE_VERSIONS,
    OversizeFrame, PEER_FRAME_BYTES_MAX, PeerFrame, append_frame, append_peer_frame, frames,
    read_frame, write_frame,
};
pub use handshake::{
    Accepted, Admission, ClientHello, HANDSHAKE_LIMIT, HandshakeError, Hello, Identity, MAGIC,
    NAME_BYTES_MAX, Nonce, PeerHello, Purpose, Refusal, Role, Welcome, accept, connect_client,
    connect_peer,
};
pub use operation_name::OperationName;
pub use plan::{CommittedPlan, PlanCall, PlanReport, PlannedMember, Staged, StagedChange};
pub use transfer::{TransferPeer, TransferReport, TransferStatus, TransferWait};
