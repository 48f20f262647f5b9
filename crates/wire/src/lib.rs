//! Frames and messages between nodes and to native clients. (Being written.)

mod call;

pub use call::{CallBody, ClientCall, ClientReply, ClusterStatus, MemberStatus, ReplyBody};
