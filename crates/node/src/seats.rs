//! Seats of the peers: of each one's inbound connections at most one counts, the newest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clock::NodeId;
use membership::Incarnation;
use tokio::sync::watch;

/// Who sits where. A lock, because peers connect seldom and their messages do not pass here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<BTreeMap<NodeId, Entry>>>);

#[derive(Debug)]
struct Entry {
    incarnation: Incarnation,
    number: u64,
    /// Dropped to end the connection.
    end: Option<watch::Sender<()>>,
}

/// A peer's place among the inbound connections. Dropped it is given back, unless another
/// connection has it by then: whatever ends a connection, its seat keeps nobody out.
#[derive(Debug)]
pub(crate) struct Seat {
    node: NodeId,
    number: u64,
    ended: watch::Receiver<()>,
    seats: Seats,
}

impl Seats {
    /// Takes the place of `node`, ending an earlier connection of it. `None` if a later
    /// incarnation is connected.
    pub(crate) fn take(&self, node: NodeId, incarnation: Incarnation) -> Option<Seat> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = peers.get(&node);
        if earlier.is_some_and(|other| other.end.is_some() && other.incarnation > incarnation) {
            return None;
        }
        if let Some(other) = earlier.filter(|other| other.incarnation < incarnation) {
            tracing::info!(peer = %node, before = ?other.incarnation, ?incarnation, "a peer started anew");
        }
        let number = earlier.map_or(0, |entry| entry.number + 1);
        let (end, ended) = watch::channel(());
        peers.insert(node, Entry { incarnation, number, end: Some(end) });
        Some(Seat { node, number, ended, seats: self.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut peers = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = peers.get_mut(&self.node).filter(|entry| entry.number == self.number) {
            entry.end = None;
        }
    }
}

impl Seat {
    /// A higher one for every connection of a peer.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

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
        let start = |generation| Incarnation { generation, nonce: 0 };
        let seats = Seats::default();
        let mut first = seats.take(NodeId(1), start(10)).unwrap();
        let second = seats.take(NodeId(1), start(11)).unwrap();
        first.taken().await;
        assert!(seats.take(NodeId(1), start(10)).is_none());
        // The first one's end does not free the second one's place.
        drop(first);
        assert!(seats.take(NodeId(1), start(10)).is_none());
        // A peer that lost its disk is not kept out for good.
        drop(second);
        assert!(seats.take(NodeId(1), start(10)).is_some());
    }
}
