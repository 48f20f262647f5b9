//! Forwarding: a write is coordinated by a replica of its key, so a node that is none passes it on.
//!
//! Invariant: what would count twice if done twice is sent to a second replica only with a name,
//! under which it counts once ([`RequestName`](crate::RequestName)). A write that counts and has none is given one by
//! this node; where the key has no room for another name it is sent once, without, and a reply that
//! does not come leaves the outcome unknown.

use clock::NodeId;
use values::UpdateError;

use super::{Input, Progress, budget_ms};
use crate::{
    Action, Body, Request, RequestError,
    turn::{Origin, Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// So many nodes with too much to do are asked at most for one request. A guess: others may have room, and a cluster that has
/// none is not to be asked all round.
const OVERLOADED_MAX: usize = 3;

/// A request passed on.
#[derive(Debug)]
pub(crate) struct Forward {
    origin: Origin,
    request: Request,
    /// Whether this node gave the request its name.
    is_named_here: bool,
    /// Who is asked first, if it answers by then.
    first: NodeId,
    /// To whom it was sent, the latest last.
    sent_to: Vec<NodeId>,
    /// Those of them that refused it because they are about to stop, or have too much to do: nothing was done there.
    refused_by: Vec<NodeId>,
    needed: u8,
    deadline: u64,
    retry_at: u64,
}

impl Forward {
    /// `needed` is the w that the request waits for.
    pub(crate) fn new(
        origin: Origin,
        mut request: Request,
        first: NodeId,
        needed: u8,
        deadline: u64,
        turn: &mut Turn<'_>,
    ) -> Self {
        let counts = matches!(&request.action, Action::Update(operation) if operation.counts());
        let is_named_here = counts && request.name.is_none();
        if is_named_here {
            request.name = Some(turn.name());
        }
        Self {
            origin,
            request,
            is_named_here,
            first,
            sent_to: Vec::new(),
            refused_by: Vec::new(),
            needed,
            deadline,
            retry_at: deadline,
        }
    }

    /// When it ends at the latest, in monotonic milliseconds.
    pub(crate) const fn deadline(&self) -> u64 {
        self.deadline
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match input {
            Input::Begin if !self.begin(slot, turn) => {
                let error = RequestError::Unavailable { reachable: 0, needed: self.needed };
                turn.reply(self.origin, Err(error));
                return Progress::Done;
            }
            // It waited for another all the time.
            Input::Time if self.sent_to.is_empty() => {
                turn.reply(self.origin, Err(RequestError::Overloaded));
                return Progress::Done;
            }
            Input::Answered {
                part,
                body: Body::Forwarded(Err(RequestError::Update(UpdateError::TooManyNames { .. }))),
            } if self.is_named_here && self.sent_to.len() == 1 + self.refused_by.len() => {
                // Nothing was written; without a name it may be sent to this one replica only.
                self.is_named_here = false;
                self.request.name = None;
                self.send(part.node, slot, turn);
            }
            Input::Answered {
                part,
                body:
                    Body::Forwarded(Err(error @ (RequestError::Stopping | RequestError::Overloaded))),
            } => {
                self.refused_by.push(part.node);
                let may_go_on =
                    error == RequestError::Stopping || self.refused_by.len() < OVERLOADED_MAX;
                if !(may_go_on && self.send_to_another(slot, turn))
                    && self.sent_to.len() == self.refused_by.len()
                {
                    turn.reply(self.origin, Err(error));
                    return Progress::Done;
                }
            }
            Input::Answered { body: Body::Forwarded(result), .. } => {
                // A refusal by the second says nothing of what the first did.
                let is_known = result.is_ok() || self.sent_to.len() == 1 + self.refused_by.len();
                turn.reply(self.origin, if is_known { result } else { Err(self.unknown()) });
                return Progress::Done;
            }
            Input::LinkDown(node) if Some(&node) != self.sent_to.last() => {}
            Input::LinkDown(_) | Input::Time => {
                let is_over = turn.now.monotonic_ms >= self.deadline;
                if is_over || !self.send_to_another(slot, turn) && self.is_cut(turn) {
                    turn.shared.counters.unmet_quorums += 1;
                    turn.reply(self.origin, Err(self.unknown()));
                    return Progress::Done;
                }
            }
            _ => {}
        }
        let retries = turn.now.monotonic_ms < self.retry_at;
        let at = if retries { self.retry_at.min(self.deadline) } else { self.deadline };
        turn.set_timer(Timer::Request(slot), at);
        Progress::Waiting
    }

    /// Sends it to the first node, or another one if that answers no more. Returns whether there is any.
    fn begin(&mut self, slot: Slot, turn: &mut Turn<'_>) -> bool {
        let first = Some(self.first).filter(|&first| turn.takes_charge(first));
        let Some(to) = first.or_else(|| self.another(turn)) else { return false };
        self.send_also(to, slot, turn);
        let most_ms = u64::from(budget_ms(self.deadline, turn)) / 2;
        let delay_ms = turn.shared.latencies.forward_delay_ms(to, most_ms);
        self.retry_at = turn.now.monotonic_ms.saturating_add(delay_ms);
        true
    }

    const fn unknown(&self) -> RequestError {
        RequestError::Unknown { acked: 0, needed: self.needed, disk: None }
    }

    /// Whether no answer can come any more.
    fn is_cut(&self, turn: &Turn<'_>) -> bool {
        let mut waits = self.sent_to.iter().filter(|node| !self.refused_by.contains(node));
        !waits.any(|&node| turn.shared.is_in_reach(node))
    }

    /// Tries the next node in reach, if the request has a name or nobody may have done it.
    fn send_to_another(&mut self, slot: Slot, turn: &mut Turn<'_>) -> bool {
        if self.request.name.is_none() && self.sent_to.len() > self.refused_by.len() {
            return false;
        }
        let Some(next) = self.another(turn) else { return false };
        turn.shared.counters.forwards_retried += 1;
        self.send_also(next, slot, turn);
        true
    }

    /// The next node in reach to which it was not sent, one that takes charge if there is any.
    fn another(&self, turn: &Turn<'_>) -> Option<NodeId> {
        let list = turn.shared.preference_list(turn.shared.partition(&self.request.key));
        let is_next = |node: &NodeId| {
            *node != turn.me() && !self.sent_to.contains(node) && turn.shared.is_in_reach(*node)
        };
        let mut next = list.into_iter().filter(is_next);
        let first = next.next()?;
        let mut others = std::iter::once(first).chain(next);
        Some(others.find(|&node| turn.takes_charge(node)).unwrap_or(first))
    }

    fn send_also(&mut self, to: NodeId, slot: Slot, turn: &mut Turn<'_>) {
        self.sent_to.push(to);
        self.send(to, slot, turn);
    }

    fn send(&self, to: NodeId, slot: Slot, turn: &mut Turn<'_>) {
        let left_ms = budget_ms(self.deadline, turn);
        // The replica gives up a little earlier, so that what it knows then comes in time.
        let budget_ms = (left_ms - left_ms / 8).max(1);
        let part = Part { round: 0, node: to, kind: PartKind::Ask };
        let body = Body::Forward(self.request.clone());
        turn.ask(to, Waiter::Request { slot, part }, budget_ms, body);
    }
}
