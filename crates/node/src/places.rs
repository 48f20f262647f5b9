//! How many connections there may be, on all ports together, and who is still told that there are
//! too many, or let in because it is a peer.
//!
//! Those beyond the bound are few, and whoever has taken longest among them makes room for the next:
//! were they all strangers who say nothing, a peer would still get its handshake through.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::descriptors::Bounds;

/// Who may still connect, on all ports together.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// One permit per connection that may still be opened.
    connections: Arc<Semaphore>,
    /// Those beyond, the oldest first. A lock, because it is for moments of distress.
    refusals: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// Most of them.
    refusals_max: usize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What a connection is given when it is accepted.
#[derive(Debug)]
pub(crate) enum Place {
    /// It is one of those that the node may have.
    Connection(OwnedSemaphorePermit),
    /// There are as many as the node may have. It is to be told so, unless it is a peer's.
    Refusal(RefusalPlace),
}

/// A place of a connection beyond the bound.
#[derive(Debug)]
pub(crate) struct RefusalPlace(oneshot::Receiver<()>);

impl RefusalPlace {
    /// Wakes when the place is wanted for a later connection.
    pub(crate) async fn wanted(&mut self) {
        // Nothing is ever sent: only the sender's end is waited for.
        let _ = (&mut self.0).await;
    }
}

impl Place {
    /// Wakes when the connection is to end for a later one's sake.
    pub(crate) async fn wanted(&mut self) {
        match self {
            Self::Connection(_) => std::future::pending().await,
            Self::Refusal(place) => place.wanted().await,
        }
    }
}

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let max = bounds.connections;
        Self {
            max,
            refusals_max: bounds.refusals,
            connections: Arc::new(Semaphore::new(max)),
            refusals: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// A place for a connection to the port of `setting`.
    pub(crate) fn take(&self, setting: &'static str) -> Place {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            return Place::Connection(permit);
        }
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // Whoever connects must not be able to fill the log.
        if refused.is_power_of_two() {
            let max = self.max;
            let advice = "too many connections: raise connections_max, or the limit of open files";
            tracing::warn!(setting, refused, max, "{advice}");
        }
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|held| !held.is_closed());
        if refusals.len() >= self.refusals_max {
            refusals.pop_front();
        }
        let (end, ended) = oneshot::channel();
        refusals.push_back(end);
        Place::Refusal(RefusalPlace(ended))
    }

    /// Returns once all connections that took a place have ended.
    pub(crate) async fn all_ended(&self) {
        let all = u32::try_from(self.max).expect("the configuration allows a million");
        // Nobody closes the semaphore.
        let _ = self.connections.acquire_many(all).await;
    }

    /// What is counted since the start.
    pub(crate) fn counters(&self) -> [(&'static str, u64); 2] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("connections_accepted", read(&self.accepted)),
            ("connections_refused", read(&self.refused)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const REFUSALS: usize = 64;

    fn places(connections: usize) -> Places {
        Places::new(Bounds { connections, refusals: REFUSALS })
    }

    #[test]
    fn strangers_who_hold_every_place_make_room_for_whoever_comes_next() {
        let places = places(1);
        let _one = places.take("peer");
        let mut slow: Vec<Place> = (0..REFUSALS).map(|_| places.take("peer")).collect();
        assert!(slow.iter_mut().all(|place| place.wanted().now_or_never().is_none()));
        let mut next = places.take("peer");
        // The one that has taken longest, and no other.
        assert_eq!(slow[0].wanted().now_or_never(), Some(()));
        assert_eq!(slow[1].wanted().now_or_never(), None);
        assert_eq!(next.wanted().now_or_never(), None);
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_before_anybody_must_go() {
        let places = places(1);
        let _one = places.take("peer");
        let mut slow: Vec<Place> = (0..REFUSALS).map(|_| places.take("peer")).collect();
        slow.pop();
        let _next = places.take("peer");
        assert!(slow.iter_mut().all(|place| place.wanted().now_or_never().is_none()));
    }

    #[test]
    fn as_many_as_configured_have_a_place_that_nobody_wants() {
        let places = places(2);
        let mut held = [places.take("peer"), places.take("resp")];
        let over = places.take("http");
        assert!(matches!(over, Place::Refusal(_)));
        assert!(held.iter_mut().all(|place| place.wanted().now_or_never().is_none()));
        drop(held);
        assert!(matches!(places.take("http"), Place::Connection(_)));
        let counters = [("connections_accepted", 3), ("connections_refused", 1)];
        assert_eq!(places.counters(), counters);
    }
}
