//! What the tasks of a node see of membership: who is admitted, by which ring keys are placed, and
//! whether the node serves; and how they tell membership what they notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::NodeId;
use membership::{Incarnation, Load, MemberState, Message};
use ring::Ring;
use tokio::sync::{mpsc, oneshot, watch};
use wire::{ClusterCall, MemberStatus};

use crate::links::{Chunk, Link};
use crate::time::NodeClock;
use replication::RequestError;

/// Notices that wait for membership. A guess: some for each connection of a thousand members. What does
/// not fit is lost, as messages may be.
pub(crate) const NOTICES_MAX: usize = 4_096;
/// Gossip that waits to be written to one connection.
pub(crate) const ANSWERS_MAX: usize = 16;

/// Who is a member, as of the last change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Which start of this node speaks.
    pub(crate) incarnation: Incarnation,
    /// The other members that are not gone.
    pub(crate) admitted: BTreeMap<NodeId, Incarnation>,
    /// Where all members that were ever heard of stand.
    pub(crate) states: BTreeMap<NodeId, MemberState>,
    /// By which keys are placed, once it is known.
    pub(crate) ring: Option<Arc<Ring>>,
    /// Why the node does not serve, if it does not.
    pub(crate) waiting: Option<String>,
}

impl View {
    /// Whether messages of `node` are taken: those of a member, in its latest start.
    pub(crate) fn admits(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.admitted.get(&node) == Some(&incarnation)
    }
}

/// How gossip gets back to whom it came from.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// Over this node's own connection to a member.
    Link(Arc<Link>),
    /// Over the connection that it came by.
    Connection(mpsc::Sender<Chunk>),
}

/// What membership is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Gossip came.
    Received { from: NodeId, message: Box<Message>, route: Route },
    /// A connection was made with a node in this start.
    Met { node: NodeId, incarnation: Incarnation, route: Route },
    /// Something else came from a node.
    Heard(NodeId),
    /// A node did not answer in time, or cannot be connected to.
    TimedOut(NodeId),
    /// The seed at an address was tried: what was wrong, if something was.
    Seed { address: String, error: Option<String> },
    /// An administrator orders something that is this node's to do.
    Order { call: ClusterCall, reply: oneshot::Sender<Result<(), RequestError>> },
    /// Nothing is left here that another must have before this node goes.
    Emptied,
    /// How busy this node is.
    Busy(Load),
    /// How far this node is with the barrier.
    Barrier(Bytes),
    /// What this node holds is older than the barrier.
    Outdated,
    /// It is known in which life this node is: it may serve.
    Opened,
    /// Somebody asks how all members stand: what only membership knows of each.
    Report(oneshot::Sender<Vec<MemberStatus>>),
}

/// How the tasks of a node and its membership reach one another.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) notices: mpsc::Sender<Notice>,
}

impl Members {
    /// With the end at which notices are taken.
    pub(crate) fn new(view: View) -> (Self, mpsc::Receiver<Notice>) {
        let (notices, taken) = mpsc::channel(NOTICES_MAX);
        (Self { view: watch::Sender::new(Arc::new(view)), notices }, taken)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Tells membership something, unless too much waits or it has ended.
    pub(crate) fn tell(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
    }

    /// Why requests are refused now, if they are.
    pub(crate) fn refusal(&self) -> Option<RequestError> {
        let waiting = self.view.borrow().waiting.clone();
        waiting.map(RequestError::Unreachable)
    }
}

/// The next frame of gossip that waits, or will, without those that waited too long: what they say of silences
/// is not true any more.
pub(crate) async fn next_useful(
    waiting: &mut mpsc::Receiver<Chunk>,
    clock: NodeClock,
) -> Option<Bytes> {
    loop {
        let chunk = waiting.recv().await?;
        if chunk.is_useful(clock.monotonic_ms()) {
            return Some(chunk.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gossip_that_waited_too_long_is_passed_over() {
        let (sender, mut waiting) = mpsc::channel(ANSWERS_MAX);
        for (text, useful_until_ms) in [("old", 0), ("new", u64::MAX), ("old", 0)] {
            sender.try_send(Chunk { bytes: Bytes::from(text), useful_until_ms }).unwrap();
        }
        drop(sender);
        let clock = NodeClock::start();
        assert_eq!(next_useful(&mut waiting, clock).await, Some(Bytes::from("new")));
        assert_eq!(next_useful(&mut waiting, clock).await, None);
    }

    #[test]
    fn only_the_latest_start_of_a_member_is_admitted() {
        let start = |generation| Incarnation { generation, nonce: 7 };
        let view = View {
            incarnation: start(1),
            admitted: BTreeMap::from([(NodeId(2), start(3))]),
            states: BTreeMap::new(),
            ring: None,
            waiting: None,
        };
        let admitted = |node, generation| view.admits(NodeId(node), start(generation));
        assert_eq!([admitted(2, 2), admitted(2, 3), admitted(2, 4)], [false, true, false]);
        assert!(!admitted(3, 3));
    }
}
