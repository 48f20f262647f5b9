//! What all parts of a running node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clock::{ClusterSecret, NodeId};
use ring::Ring;
use tokio::sync::{Semaphore, watch};
use wire::Identity;

use crate::config::NodeConfig;
use crate::links::Link;
use crate::routing::Routes;
use crate::switchboard::Switch;
use crate::time::NodeClock;

/// A running node, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) identity: Identity,
    pub(crate) secret: ClusterSecret,
    pub(crate) ring: Ring,
    pub(crate) clock: NodeClock,
    pub(crate) routes: Routes,
    /// One link per other member, in the order of the configuration.
    pub(crate) links: Vec<Arc<Link>>,
    /// Changes whenever a link comes or goes.
    pub(crate) links_changed: watch::Sender<u64>,
    /// Whether the node's links are cut on purpose.
    pub(crate) switch: Switch,
    /// Turns true when connections are to end.
    pub(crate) closing: watch::Receiver<bool>,
    /// One permit per connection that may still be opened.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) inbound: Inbound,
}

impl Shared {
    /// Wakes when connections are to end.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.clone();
        // A sender that is gone has closed all the more.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// Inbound connections of peers: at most one each counts, the newest.
///
/// A lock, because peers connect seldom and their messages do not pass here.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    peers: Mutex<BTreeMap<NodeId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    incarnation: u64,
    number: u64,
    /// Dropped to end the connection.
    end: Option<watch::Sender<()>>,
}

/// A peer's place among the inbound connections.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    ended: watch::Receiver<()>,
}

impl Inbound {
    /// Takes the place of `node`, ending an earlier connection of it. `None` if a later
    /// incarnation is connected.
    pub(crate) fn seat(&self, node: NodeId, incarnation: u64) -> Option<Seat> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = peers.get(&node);
        if earlier.is_some_and(|other| other.end.is_some() && other.incarnation > incarnation) {
            return None;
        }
        if let Some(other) = earlier.filter(|other| other.incarnation < incarnation) {
            tracing::info!(peer = %node, before = other.incarnation, incarnation, "a peer started anew");
        }
        let number = earlier.map_or(0, |entry| entry.number + 1);
        let (end, ended) = watch::channel(());
        peers.insert(node, Entry { incarnation, number, end: Some(end) });
        Some(Seat { number, ended })
    }

    /// Gives a place back, unless another connection has it by now.
    pub(crate) fn leave(&self, node: NodeId, seat: &Seat) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = peers.get_mut(&node).filter(|entry| entry.number == seat.number) {
            entry.end = None;
        }
    }
}

impl Seat {
    /// Wakes when another connection has taken the place.
    pub(crate) async fn taken(&mut self) {
        // Nothing is ever sent: only the sender's end is waited for.
        while self.ended.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_connection_of_a_peer_takes_its_place_and_an_older_start_does_not() {
        let inbound = Inbound::default();
        let mut first = inbound.seat(NodeId(1), 10).unwrap();
        let second = inbound.seat(NodeId(1), 11).unwrap();
        first.taken().await;
        assert!(inbound.seat(NodeId(1), 10).is_none());
        // The first one's end does not free the second one's place.
        inbound.leave(NodeId(1), &first);
        assert!(inbound.seat(NodeId(1), 10).is_none());
        // A clock that was set back keeps nobody out for good.
        inbound.leave(NodeId(1), &second);
        assert!(inbound.seat(NodeId(1), 10).is_some());
    }
}
