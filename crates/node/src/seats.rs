//! Seats of the peers: of the inbound connections of one start of a peer at most one counts, the newest.
//!
//! Connections of several starts stand side by side: which of them is the peer is membership's to say
//! ([`View::admits`](crate::members::View::admits)). A cloned disk must not take the place of the node that
//! it was cloned from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clock::NodeId;
use membership::Incarnation;
use tokio::sync::watch;

/// Who sits where. A lock, because peers connect seldom and their messages do not pass here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    seats: BTreeMap<(NodeId, Incarnation), Entry>,
    /// Number of the last seat.
    last: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// Dropped to end the connection.
    _end: watch::Sender<()>,
}

/// A peer's place among the inbound connections. Dropped it is given back, unless another
/// connection has it by then.
#[derive(Debug)]
pub(crate) struct Seat {
    peer: (NodeId, Incarnation),
    number: u64,
    ended: watch::Receiver<()>,
    seats: Seats,
}

impl Seats {
    /// Takes the place of this start of `node`, ending an earlier connection of it.
    pub(crate) fn take(&self, node: NodeId, incarnation: Incarnation) -> Seat {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.last += 1;
        let number = taken.last;
        let (end, ended) = watch::channel(());
        let peer = (node, incarnation);
        taken.seats.insert(peer, Entry { number, _end: end });
        Seat { peer, number, ended, seats: self.clone() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.seats.get(&self.peer).is_some_and(|entry| entry.number == self.number) {
            taken.seats.remove(&self.peer);
        }
    }
}

impl Seat {
    /// A higher one for every connection.
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
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_newer_connection_takes_the_place_of_one_of_the_same_start_and_of_no_other() {
        let start = |generation| Incarnation { generation, nonce: 0 };
        let seats = Seats::default();
        let mut first = seats.take(NodeId(1), start(10));
        let mut other = seats.take(NodeId(1), start(11));
        let mut second = seats.take(NodeId(1), start(10));
        first.taken().await;
        assert!(first.number() < other.number() && other.number() < second.number());
        // The first one's end does not free the second one's place.
        drop(first);
        assert_eq!(seats.0.lock().unwrap().seats.len(), 2);
        assert!(other.taken().now_or_never().is_none());
        assert!(second.taken().now_or_never().is_none());
        drop((other, second));
        assert!(seats.0.lock().unwrap().seats.is_empty());
    }
}
