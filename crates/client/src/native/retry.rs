//! What of a batch is sent again (design.md, Exactly once). No I/O, no clock: told what came and how
//! long it took, it says what to send next.
//!
//! Invariants. A write of which it is unknown whether it was done is sent again only with a name, under which
//! it counts once. One that may have
//! been done keeps its name: the name is given up only after a first answer that refuses it, since
//! then nothing was written. A refusal that follows an unknown outcome says nothing of what the
//! first try did, so the outcome stays unknown. Requests on one key keep their order: one behind
//! which another was done meanwhile is not sent again, unless both only add.

use std::collections::BTreeSet;

use replication::{Action, Answer, RETRY_WINDOW_MS, Request, RequestError};
use values::UpdateError;

use super::names::Names;

/// Most tries of a request, the first included: a guess at where a cluster is rather down than
/// losing connections.
pub(super) const TRIES_MAX: usize = 4;
/// For so long may a request without a time limit of its own be tried again.
pub(super) const RETRY_LIMIT_MS: u64 = 10_000;

pub(super) type Outcome = Result<Answer, RequestError>;

/// A batch of requests on its way to being answered.
#[derive(Debug)]
pub(super) struct Batch(Vec<Item>);

#[derive(Debug)]
struct Item {
    request: Request,
    /// The time limit that the application gave.
    timeout_ms: Option<u32>,
    /// Whether the name is the client's own choice, which it may give up.
    is_named_here: bool,
    /// Why it is unknown whether an earlier try did it.
    doubt: Option<RequestError>,
    /// How it ended.
    outcome: Option<Outcome>,
}

/// Whether done twice it counts twice.
fn counts(request: &Request) -> bool {
    matches!(&request.action, Action::Update(operation) if operation.counts())
}

/// Whether it is unknown what came of a write that ended so.
const fn is_doubtful(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::Unknown { .. } | RequestError::Disconnected(_) | RequestError::Timeout
    )
}

/// Where what failed may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: this was the last try.
    Nowhere,
    /// To a node that was asked before.
    Again,
    /// To a node that was not asked yet.
    Elsewhere,
}

/// Whether a node not asked yet may well do what this one cannot: fewer nodes are in its reach.
pub(super) const fn is_isolated(error: &RequestError) -> bool {
    matches!(error, RequestError::Unavailable { .. } | RequestError::Timeout)
}

/// Whether nothing was done, and another node may do it.
pub(super) const fn is_turned_away(error: &RequestError) -> bool {
    matches!(error, RequestError::Unreachable(_) | RequestError::Stopping)
}

impl Batch {
    /// `requests`, of which those that count are given one of `names`.
    pub(super) fn new(requests: Vec<Request>, names: Option<&Names>) -> Self {
        let mut items: Vec<Item> = requests
            .into_iter()
            .map(|request| Item {
                timeout_ms: request.timeout_ms,
                request,
                is_named_here: false,
                doubt: None,
                outcome: None,
            })
            .collect();
        let Some(names) = names else { return Self(items) };
        // Keys of later requests before which nothing may come to be done a second time.
        let mut fixed = BTreeSet::new();
        for Item { request, is_named_here, .. } in items.iter_mut().rev() {
            if !counts(request) {
                fixed.insert(request.key.clone());
            } else if request.name.is_none() && !fixed.contains(&request.key) {
                request.name = names.draw(&request.key);
                *is_named_here = request.name.is_some();
            }
        }
        Self(items)
    }

    fn open(&self) -> impl Iterator<Item = &Item> {
        self.0.iter().filter(|item| item.outcome.is_none())
    }

    /// What is to be sent now, in order.
    pub(super) fn pending(&self) -> Vec<Request> {
        self.open().map(|item| item.request.clone()).collect()
    }

    /// How many milliseconds of silence are enough to try elsewhere, `elapsed_ms` after the start;
    /// `None` where something pending may not be done twice.
    pub(super) fn patience_ms(&self, elapsed_ms: u64) -> Option<u64> {
        self.open().try_fold(1, |longest, item| {
            let left = item.limit_ms().saturating_sub(elapsed_ms) / 2;
            item.is_safe().then(|| left.max(longest))
        })
    }

    /// How many milliseconds are left of the longest time limit that the application gave to what is pending,
    /// `elapsed_ms` after the start; `None` where something has only the node's, which is not known.
    pub(super) fn given_ms(&self, elapsed_ms: u64) -> Option<u64> {
        let longest = self.open().try_fold(0, |longest, item| {
            item.timeout_ms.map(|given| longest.max(u64::from(given)))
        });
        longest.map(|longest| longest.saturating_sub(elapsed_ms))
    }

    /// How many milliseconds are left of the longest time limit of what is pending, `elapsed_ms`
    /// after the start.
    pub(super) fn left_ms(&self, elapsed_ms: u64) -> u64 {
        let longest = self.open().map(Item::limit_ms).max().unwrap_or_default();
        longest.saturating_sub(elapsed_ms)
    }

    /// Takes the outcomes of what was pending, `elapsed_ms` after the first try began. `next`
    /// says where another may go. Returns whether something is to be sent.
    pub(super) fn take(
        &mut self,
        outcomes: Vec<Outcome>,
        elapsed_ms: u64,
        next: Next,
        names: Option<&Names>,
    ) -> bool {
        let (mut ended, mut fixed) = (BTreeSet::new(), BTreeSet::new());
        let mut outcomes = outcomes.into_iter().rev();
        for item in self.0.iter_mut().rev() {
            let counts = counts(&item.request);
            if item.outcome.is_none() {
                let outcome = outcomes.next().unwrap_or_else(lost);
                let behind = if counts { &fixed } else { &ended };
                let is_behind = behind.contains(&item.request.key);
                let next = if is_behind { Next::Nowhere } else { next };
                item.settle(outcome, elapsed_ms, next, names);
            }
            if item.outcome.is_some() {
                if !counts {
                    fixed.insert(item.request.key.clone());
                }
                ended.insert(item.request.key.clone());
            }
        }
        self.open().next().is_some()
    }

    /// All outcomes, in the order of the requests.
    pub(super) fn finish(self) -> Vec<Outcome> {
        self.0.into_iter().map(|item| item.outcome.unwrap_or_else(lost)).collect()
    }
}

fn lost() -> Outcome {
    Err(RequestError::Disconnected("no answer came".into()))
}

impl Item {
    fn is_read(&self) -> bool {
        matches!(self.request.action, Action::Get(_))
    }

    /// Whether it may be done twice.
    fn is_safe(&self) -> bool {
        self.is_read() || self.request.name.is_some()
    }

    /// Milliseconds after the start within which another try may begin.
    fn limit_ms(&self) -> u64 {
        let limit_ms = self.timeout_ms.map_or(RETRY_LIMIT_MS, u64::from);
        // A name may be forgotten later.
        if self.request.name.is_some() { limit_ms.min(RETRY_WINDOW_MS / 2) } else { limit_ms }
    }

    fn settle(&mut self, outcome: Outcome, elapsed_ms: u64, next: Next, names: Option<&Names>) {
        let may_retry = next != Next::Nowhere;
        let left_ms = self.limit_ms().saturating_sub(elapsed_ms);
        match outcome {
            Err(RequestError::Update(UpdateError::TooManyNames { .. }))
                if self.is_named_here && self.doubt.is_none() && may_retry =>
            {
                if let Some(names) = names {
                    names.note_full(&self.request.key);
                }
                // Without a name it is not safe, so this try is its last.
                self.request.name = None;
                self.is_named_here = false;
            }
            Err(error)
                if may_retry
                    && left_ms > 0
                    && (is_turned_away(&error)
                        || self.is_safe() && is_doubtful(&error)
                        || next == Next::Elsewhere
                            && matches!(error, RequestError::Unavailable { .. })) =>
            {
                if is_doubtful(&error) && !self.is_read() {
                    self.doubt = Some(error);
                }
                let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
                self.request.timeout_ms = self.timeout_ms.map(|_| left_ms);
            }
            Err(error) if !is_doubtful(&error) => {
                self.outcome = Some(Err(self.doubt.take().unwrap_or(error)));
            }
            outcome => self.outcome = Some(outcome),
        }
    }
}

#[cfg(test)]
mod tests;
