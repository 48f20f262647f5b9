//! What comes to a loop and waits its turn: requests, calls, messages. None is begun after its time.

use std::sync::Arc;

use replication::{Body, Event, Message, Request, RequestError};
use tokio::time::Instant;

use super::{Running, Waiting};
use crate::calls::Kind;
use crate::feed::{Feed, Next};
use crate::work::{CallGroup, MessageBatch, SingleCall, Work};

impl Running {
    pub(super) fn take(&mut self, work: Work) {
        match work {
            Work::Group(group) => self.take_group(group),
            Work::Single(single) => {
                let SingleCall { call, reply } = *single;
                let id = self.calls.enter_single(reply);
                self.step(Event::Call { id, call });
            }
            Work::Messages(MessageBatch { from, messages, received_ms, barrier }) => {
                self.messages.extend(messages.into_iter().map(|message| {
                    let useful_ms = match message.budget_ms {
                        0 => u64::MAX,
                        limit => received_ms.saturating_add(limit.into()),
                    };
                    Waiting { from, message, useful_ms, barrier }
                }));
            }
            // Whoever asked may have left.
            Work::Report { reply, depth } => drop(reply.send(self.report(depth))),
        }
    }

    fn take_group(&mut self, CallGroup { requests, reply, allowance, queued_ms }: CallGroup) {
        if self.has_waited_too_long(queued_ms) {
            // The callers have given up or will have; to do it now would only make others wait.
            let results = vec![Err(RequestError::Overloaded); requests.len()];
            return drop(reply.send(results));
        }
        let kinds = requests.iter().map(Kind::of).collect();
        let first = self.calls.enter_group(kinds, reply, Arc::clone(&allowance));
        self.feeds.push(Feed::new(first, requests, allowance, queued_ms));
    }

    fn has_waited_too_long(&self, queued_ms: u64) -> bool {
        self.now.monotonic_ms.saturating_sub(queued_ms) > self.task.wait_max_ms
    }

    /// Takes from a request's time what it waited here. Refuses it if nothing is left: its caller has
    /// given up.
    pub(super) fn charge_wait(
        &self,
        request: &mut Request,
        queued_ms: u64,
    ) -> Option<RequestError> {
        let waited_ms = self.now.monotonic_ms.saturating_sub(queued_ms);
        let limit_ms = request.timeout_ms.map_or(self.task.wait_max_ms, u64::from);
        // A limit of 0 is the core's to refuse.
        if waited_ms == 0 || limit_ms == 0 {
            return None;
        }
        let left_ms = limit_ms.saturating_sub(waited_ms);
        request.timeout_ms = Some(u32::try_from(left_ms).unwrap_or(u32::MAX));
        (left_ms == 0).then_some(RequestError::Overloaded)
    }

    /// Deals with messages until `end`. Returns whether none is left.
    pub(super) fn read(&mut self, end: Instant) -> bool {
        while let Some(waiting) = self.messages.pop_front() {
            let Waiting { from, message, useful_ms, barrier } = waiting;
            // What all agreed on meanwhile may be what it knows nothing of.
            let is_hint = matches!(message.body, Body::Hint { .. });
            if self.terms.takes(from, barrier, is_hint)
                && let Some(message) = still_useful(message, useful_ms, self.now.monotonic_ms)
            {
                self.step_staged(Event::Received { from, message });
            }
            if Instant::now() >= end {
                break;
            }
        }
        self.perform();
        self.messages.is_empty()
    }

    /// Begins requests until `end`, or until all that are left must wait for answers to others.
    /// Returns whether it came to that.
    pub(super) fn feed(&mut self, end: Instant) -> bool {
        let mut feeds = std::mem::take(&mut self.feeds);
        let mut is_in_time = true;
        let mut stalled: Vec<Feed> = Vec::new();
        for mut feed in feeds.drain(..) {
            // What one connection asks for is begun in its order.
            if is_in_time && !stalled.iter().any(|other| other.is_akin(&feed)) {
                is_in_time = self.begin(&mut feed, end);
            }
            if !feed.is_done() {
                stalled.push(feed);
            }
        }
        self.feeds = stalled;
        self.perform();
        is_in_time
    }

    /// Begins requests of one group until `end`, or until one must wait: `true`.
    fn begin(&mut self, feed: &mut Feed, end: Instant) -> bool {
        let group = feed.group();
        while !feed.is_done() && !feed.is_stalled(self.calls.unanswered(group)) {
            let is_read = feed.is_at_read();
            let refusal = if self.has_waited_too_long(feed.queued_ms) {
                Some(RequestError::Overloaded)
            } else if is_read {
                self.calls.refusal(group)
            } else {
                None
            };
            let Some(Next { id, mut request, after, is_followed }) = feed.next() else { break };
            match refusal.or_else(|| self.charge_wait(&mut request, feed.queued_ms)) {
                Some(error) => {
                    feed.refused(id);
                    self.calls.reply(id, Err(error));
                }
                None if is_read => {
                    let event = Event::Request { id, request, after, is_followed };
                    feed.found(self.step_measured(event));
                }
                None => self.step_staged(Event::Request { id, request, after, is_followed }),
            }
            if Instant::now() >= end {
                return feed.is_done();
            }
        }
        true
    }
}

/// A message that has waited, with the time that it has left; `None` if its sender waits no more.
pub(super) fn still_useful(mut message: Message, useful_ms: u64, now_ms: u64) -> Option<Message> {
    let left_ms = useful_ms.checked_sub(now_ms).filter(|&left_ms| left_ms > 0)?;
    if message.budget_ms > 0 {
        message.budget_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
    }
    Some(message)
}
