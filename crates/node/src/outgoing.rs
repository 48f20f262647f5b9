//! What a loop sends its peers: messages are encoded in the loop, and all that it sends a peer in one turn leaves as
//! one chunk, if it is not too much.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use clock::NodeId;
use membership::Incarnation;
use replication::{BarrierStamp, BarrierTerms, Message};
use wire::{FrameHeader, OperationName, OversizeFrame, PeerFrame, append_peer_frame};

use crate::links::{Chunk, Link, LinkMap};

/// Bytes after which a turn's messages leave in a chunk of their own: what a queue is full for is
/// lost a chunk at a time, not a turn's worth. A guess.
const CHUNK_BYTES: usize = 1 << 20;

/// What one loop gathers for the peers during a turn.
#[derive(Debug)]
pub(crate) struct Outgoing {
    header: HeaderBase,
    terms: Arc<BarrierTerms>,
    peers: BTreeMap<NodeId, Gathered>,
}

/// What is the same in every header, until something changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderBase {
    pub(crate) sender: NodeId,
    pub(crate) incarnation: Incarnation,
}

#[derive(Debug)]
struct Gathered {
    link: Arc<Link>,
    /// What is said of the barrier to this peer.
    barrier: BarrierStamp,
    buffer: BytesMut,
    useful_until_ms: u64,
}

impl Outgoing {
    pub(crate) fn new(header: HeaderBase) -> Self {
        Self { header, terms: Arc::default(), peers: BTreeMap::new() }
    }

    /// These are the links from now on. What was gathered for one that is gone goes with it.
    pub(crate) fn set_links(&mut self, links: &LinkMap) {
        self.peers
            .retain(|node, peer| links.get(node).is_some_and(|it| Arc::ptr_eq(it, &peer.link)));
        for (&node, link) in links {
            self.peers.entry(node).or_insert_with(|| Gathered {
                link: Arc::clone(link),
                barrier: self.terms.stamp(node),
                buffer: BytesMut::new(),
                useful_until_ms: 0,
            });
        }
    }

    /// How far this node and others are with the barrier, from now on.
    pub(crate) fn set_terms(&mut self, terms: Arc<BarrierTerms>) {
        for (&node, peer) in &mut self.peers {
            peer.barrier = terms.stamp(node);
        }
        self.terms = terms;
    }

    /// What all headers say from now on.
    pub(crate) const fn header_mut(&mut self) -> &mut HeaderBase {
        &mut self.header
    }

    /// Gathers a message, unless its link is down. An answer that does not fit in a frame is
    /// replaced by one that says so; of a question that does not, that answer is returned, for
    /// the core that asked.
    #[must_use]
    pub(crate) fn push(&mut self, to: NodeId, message: Message, now_ms: u64) -> Option<Message> {
        let Some(peer) = self.peers.get_mut(&to) else {
            // Gone since, or not known here yet.
            tracing::debug!(%to, "a message to a node that is no member was dropped");
            return None;
        };
        let version = peer.link.spoken().filter(|_| peer.link.is_up())?;
        let frame = framed(self.header, version, peer.barrier, message);
        let Err(OversizeFrame { bytes, limit }) = append_peer_frame(&mut peer.buffer, &frame)
        else {
            peer.extend(&frame, now_ms);
            return None;
        };
        let PeerFrame::Message(_, message) = frame else { return None };
        let operation = message.body.name();
        tracing::warn!(%to, bytes, limit, operation, "a message does not fit in a frame");
        let body = message.body.too_long(bytes, limit);
        if message.body.is_question() {
            return Some(Message { body, ..message });
        }
        let frame = framed(self.header, version, peer.barrier, Message { body, ..message });
        append_peer_frame(&mut peer.buffer, &frame).expect("an error is short");
        peer.extend(&frame, now_ms);
        None
    }

    /// Hands everything gathered to the links.
    pub(crate) fn flush(&mut self) {
        self.peers.values_mut().for_each(Gathered::flush);
    }
}

impl Gathered {
    /// Hands what was gathered to the link.
    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = self.buffer.split().freeze();
        self.link.send(Chunk { bytes, useful_until_ms: self.useful_until_ms });
        self.useful_until_ms = 0;
    }

    /// Takes note of how long a frame just appended is of use, and hands the frames over if they
    /// are many bytes by now.
    fn extend(&mut self, frame: &PeerFrame, now_ms: u64) {
        let useful_until = match frame {
            PeerFrame::Message(header, _) if header.deadline_ms > 0 => {
                now_ms + u64::from(header.deadline_ms)
            }
            _ => u64::MAX,
        };
        self.useful_until_ms = self.useful_until_ms.max(useful_until);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush();
        }
    }
}

fn framed(header: HeaderBase, version: u16, barrier: BarrierStamp, message: Message) -> PeerFrame {
    let HeaderBase { sender, incarnation } = header;
    let header = FrameHeader {
        version,
        sender,
        incarnation,
        sequence: message.sequence,
        barrier,
        deadline_ms: message.budget_ms,
        operation: OperationName::from(message.body.name()),
        // Unique in the cluster for all practical purposes, and the same in the answer.
        trace: message.trace,
    };
    PeerFrame::Message(header, message)
}

#[cfg(test)]
mod tests;
