//! Frames: what a connection carries once its handshake is done.
//!
//! Every data frame names its message version, the sender and its incarnation, the ring version,
//! the time its sender still waits, the operation and a trace id (design: execution), so that a
//! later version can route, refuse and trace without understanding what is inside.

use bytes::{Bytes, BytesMut};
use clock::{DecodeError, NodeId};
use futures_util::{SinkExt, StreamExt};
use membership::{Incarnation, Versions};
use replication::{BarrierStamp, Message};
use ring::Sequence;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::OperationName;

/// Longest frame between a client and a node after the handshake, in bytes: an operation of the
/// largest size (8 MiB) fits, and so do the siblings that one coordinator lets stand.
///
/// The codec reserves a frame's length as soon as it has read it. What is reserved and not filled
/// takes address space, not memory, and the number of connections is bounded; a length beyond the
/// limit is refused before anything is reserved.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Longest frame between nodes after the handshake, in bytes. Longer than clients' frames: each of
/// several coordinators, cut off from one another, lets as many siblings stand as its limit
/// allows, and they are replicated together. Only a member that has proven the cluster's secret
/// gets to send one.
pub const PEER_FRAME_BYTES_MAX: usize = 64 << 20;

/// Longest frame of a handshake, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 4 << 10;

/// Versions of frames that this build speaks: those of nodes and those of clients. A connection
/// speaks the highest that both ends do, so builds of neighbouring versions work together.
pub const MESSAGE_VERSIONS: Versions = Versions::only(13);

/// A connection cut into frames.
pub type FrameStream<S> = Framed<S, LengthDelimitedCodec>;

/// What every data frame says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// Version of the message's format: the one that the handshake came to.
    pub version: u16,
    /// Who sends; the node that the handshake proved.
    pub sender: NodeId,
    /// Which start of that node.
    pub incarnation: Incarnation,
    /// By which tenure the answer to a question is to count as an owner's; 0 for one that counts as
    /// nobody's.
    pub sequence: Sequence,
    /// How far the sender is with the barrier: who knows that all others are further refuses the message.
    pub barrier: BarrierStamp,
    /// Milliseconds that the sender still waits, counted from when it sent; 0 for no limit.
    pub deadline_ms: u32,
    /// What is asked or answered.
    pub operation: OperationName,
    /// Names the client's request across nodes.
    pub trace: u64,
}

/// One frame between nodes.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are messages; a box would cost each an allocation"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// A message for one of the receiver's cores.
    Message(FrameHeader, Message),
    /// What membership has to say.
    Gossip(Box<membership::Message>),
    /// Asks for a [`PeerFrame::Pong`] with the same number: shows that the link works.
    Ping(u64),
    /// Answers a ping. Number 0 answers none: whoever sends it is busy with a long frame, or not
    /// ready to read on, and alive.
    Pong(u64),
}

/// Why a frame could not be read or written. The connection is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side closed the connection.
    #[error("connection closed by the other side")]
    Closed,
    /// The operating system said so, or a frame's length was out of bounds.
    #[error("connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// A frame held something else than was due.
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
    /// A value to send is too large.
    #[error(transparent)]
    Oversize(#[from] OversizeFrame),
}

impl FrameError {
    /// What to count it under: one of a few words, whatever the details are.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Closed => "frame: closed",
            Self::Io(_) => "frame: failed",
            Self::Malformed(_) => "frame: malformed",
            Self::Oversize(_) => "frame: oversize",
        }
    }
}

/// A value takes more than a frame holds. Nothing was sent, and the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit in a frame of at most {limit}")]
pub struct OversizeFrame {
    /// Its bytes.
    pub bytes: usize,
    /// What a frame holds.
    pub limit: usize,
}

/// Cuts `stream` into frames of at most [`FRAME_BYTES_MAX`] bytes. Streams that a handshake
/// returned are so already.
pub fn frames<S: AsyncRead + AsyncWrite>(stream: S) -> FrameStream<S> {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_framed(stream)
}

/// Appends `value` as one frame of at most [`FRAME_BYTES_MAX`] bytes, length included: for whoever
/// gathers many frames for one write.
pub fn append_frame<T: Serialize>(buffer: &mut BytesMut, value: &T) -> Result<(), OversizeFrame> {
    append_bounded(buffer, value, FRAME_BYTES_MAX)
}

/// Appends a frame of at most [`PEER_FRAME_BYTES_MAX`] bytes, length included, for another node.
pub fn append_peer_frame(buffer: &mut BytesMut, frame: &PeerFrame) -> Result<(), OversizeFrame> {
    append_bounded(buffer, frame, PEER_FRAME_BYTES_MAX)
}

fn append_bounded<T: Serialize>(
    buffer: &mut BytesMut,
    value: &T,
    limit: usize,
) -> Result<(), OversizeFrame> {
    let bytes = encode_bounded(value, limit)?;
    let oversize = |_| OversizeFrame { bytes: bytes.len(), limit };
    let length = u32::try_from(bytes.len()).map_err(oversize)?;
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(&bytes);
    Ok(())
}

/// Reads one frame.
pub async fn read_frame<T, S>(stream: &mut FrameStream<S>) -> Result<T, FrameError>
where
    T: DeserializeOwned,
    S: AsyncRead + Unpin,
{
    let bytes = stream.next().await.ok_or(FrameError::Closed)??;
    Ok(clock::decode(&bytes)?)
}

/// Writes one frame and flushes it.
pub async fn write_frame<T, S>(stream: &mut FrameStream<S>, value: &T) -> Result<(), FrameError>
where
    T: Serialize,
    S: AsyncWrite + Unpin,
{
    Ok(stream.send(encode_bounded(value, FRAME_BYTES_MAX)?).await?)
}

fn encode_bounded<T: Serialize>(value: &T, limit: usize) -> Result<Bytes, OversizeFrame> {
    let bytes = clock::encode(value);
    if bytes.len() > limit {
        return Err(OversizeFrame { bytes: bytes.len(), limit });
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests;
