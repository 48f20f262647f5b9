//! A group of requests on its way into a loop's core.
//!
//! Reads are begun a few at a time, the fewer the longer their answers are, so that a call which
//! names thousands of long values does not bring them into memory together. A read that must wait
//! holds up what stands behind it: requests on one key are done in order.

use std::sync::Arc;

use replication::{Action, CallId, Request};

use crate::allowance::Allowance;

/// Reads of a group under way at once. A guess: with fewer the way to the other replicas and back
/// would be felt, with more the first ones, whose length nobody knows, take too much memory.
const READS_MAX: usize = 64;
/// Bytes that a group's reads under way should come to, going by the longest so far: twice the
/// longest value.
const READS_BYTES: usize = 16 << 20;

/// What is left of a group.
#[derive(Debug)]
pub(crate) struct Feed {
    first: CallId,
    count: usize,
    requests: std::vec::IntoIter<Request>,
    allowance: Arc<Allowance>,
    /// Monotonic time at which the group was queued, in milliseconds.
    pub(crate) queued_ms: u64,
    longest: usize,
    /// By place; empty where there are reads only, or just one request, and so no order to keep.
    order: Vec<Order>,
}

/// Where a request stands among those on its key.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    /// The place of the last one before it.
    after: Option<usize>,
    /// And of the first one after it.
    next: Option<usize>,
}

/// A request to be begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) id: CallId,
    pub(crate) request: Request,
    /// The last one before it on the same key.
    pub(crate) after: Option<CallId>,
    /// Whether there is one after it on the same key.
    pub(crate) is_followed: bool,
}

impl Feed {
    pub(crate) fn new(
        first: CallId,
        requests: Vec<Request>,
        allowance: Arc<Allowance>,
        queued_ms: u64,
    ) -> Self {
        let count = requests.len();
        let writes = |request: &Request| matches!(request.action, Action::Update(_));
        let is_ordered = count > 1 && requests.iter().any(writes);
        Self {
            first,
            count,
            order: if is_ordered { order(&requests) } else { Vec::new() },
            requests: requests.into_iter(),
            allowance,
            queued_ms,
            longest: 0,
        }
    }

    /// Names the group to [`crate::calls::Calls`].
    pub(crate) fn group(&self) -> CallId {
        self.first
    }

    pub(crate) fn is_done(&self) -> bool {
        self.requests.as_slice().is_empty()
    }

    /// Whether the next request is a read.
    pub(crate) fn is_at_read(&self) -> bool {
        self.requests.as_slice().first().is_some_and(|next| matches!(next.action, Action::Get(_)))
    }

    /// Whether the next request must wait, if so many of the group are `unanswered`, those not
    /// begun among them.
    pub(crate) fn is_stalled(&self, unanswered: usize) -> bool {
        let under_way = unanswered.saturating_sub(self.requests.as_slice().len());
        let room = (READS_BYTES / self.longest.max(1)).clamp(1, READS_MAX);
        self.is_at_read() && under_way >= room
    }

    /// Whether this group came over the same connection as `other`.
    pub(crate) fn is_akin(&self, other: &Self) -> bool {
        self.allowance.is_akin(&other.allowance)
    }

    /// Takes note of the length of what a read found.
    pub(crate) fn found(&mut self, bytes: usize) {
        self.longest = self.longest.max(bytes);
    }

    /// The next request, to be begun or answered.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let place = self.count - self.requests.as_slice().len();
        let request = self.requests.next()?;
        let id = |place| CallId(self.first.0 + u64::try_from(place).expect("a group is small"));
        let Order { after, next } = self.order.get(place).copied().unwrap_or_default();
        Some(Next { id: id(place), request, after: after.map(id), is_followed: next.is_some() })
    }

    /// Takes note that a request was refused and is not begun: what comes after it comes after the one before it.
    pub(crate) fn refused(&mut self, id: CallId) {
        let place = usize::try_from(id.0 - self.first.0).expect("a group is small");
        let Some(&Order { after, next }) = self.order.get(place) else { return };
        if let Some(after) = after {
            self.order[after].next = next;
        }
        if let Some(next) = next {
            self.order[next].after = after;
        }
    }
}

/// How the requests of a group follow one another. Two keys of one identifier count as one: that only makes them wait.
fn order(requests: &[Request]) -> Vec<Order> {
    let mut places: Vec<_> =
        requests.iter().map(|request| request.key.identifier()).zip(0_usize..).collect();
    places.sort_unstable();
    let mut order = vec![Order::default(); requests.len()];
    for pair in places.windows(2) {
        if let &[(key, before), (next_key, next)] = pair
            && key == next_key
        {
            order[before].next = Some(next);
            order[next].after = Some(before);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use values::{CounterOp, Key, Operation, Scope};

    use super::*;

    fn key() -> Key {
        Key::new("b", "k").unwrap()
    }

    fn get() -> Request {
        Request::get(key(), Scope::Whole)
    }

    fn add() -> Request {
        Request::update(key(), Operation::Counter(CounterOp::Add(1)))
    }

    /// Takes requests until one must wait; returns how many.
    fn begin(feed: &mut Feed, unanswered: usize) -> usize {
        std::iter::from_fn(|| if feed.is_stalled(unanswered) { None } else { feed.next() }).count()
    }

    fn feed(requests: Vec<Request>) -> Feed {
        Feed::new(CallId(32), requests, Allowance::new(1), 0)
    }

    #[test]
    fn reads_are_begun_a_few_at_a_time_and_the_fewer_the_longer_they_are() {
        let mut feed = feed(vec![get(); 1_000]);
        assert_eq!(begin(&mut feed, 1_000), READS_MAX);
        assert_eq!(begin(&mut feed, 1_000), 0);
        // Ten were answered.
        assert_eq!(begin(&mut feed, 990), 10);
        feed.found(8 << 20);
        feed.found(5);
        assert_eq!(begin(&mut feed, 930), 0);
        assert_eq!(begin(&mut feed, 926), 2);
        // However long they are, one at a time is begun.
        feed.found(64 << 20);
        assert_eq!(begin(&mut feed, 924), 1);
    }

    #[test]
    fn writes_do_not_wait_unless_behind_a_read_that_does() {
        let mut requests = vec![add(); 500];
        requests.extend([get(), add()]);
        let mut feed = feed(requests);
        assert_eq!(begin(&mut feed, 502), 500);
        assert!(feed.is_at_read() && !feed.is_done());
        assert_eq!(begin(&mut feed, 2), 2);
        assert!(feed.is_done());
    }

    #[test]
    fn requests_are_numbered_by_their_places_and_follow_those_on_their_key() {
        let other = Request::get(Key::new("b", "l").unwrap(), Scope::Whole);
        let mut feed = feed(vec![get(), other, add(), get()]);
        let found: Vec<_> = std::iter::from_fn(|| feed.next())
            .map(|next| (next.id.0, next.after.map(|after| after.0), next.is_followed))
            .collect();
        let after =
            [(32, None, true), (33, None, false), (34, Some(32), true), (35, Some(34), false)];
        assert_eq!(found, after);
    }

    #[test]
    fn what_follows_a_request_that_was_refused_follows_the_one_before_it() {
        let mut feed = feed(vec![add(), add(), add()]);
        let after = |next: Option<Next>| next.and_then(|next| next.after);
        assert_eq!(after(feed.next()), None);
        assert_eq!(after(feed.next()), Some(CallId(32)));
        feed.refused(CallId(33));
        assert_eq!(after(feed.next()), Some(CallId(32)));
    }
}
