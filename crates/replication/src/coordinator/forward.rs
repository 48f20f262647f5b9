//! Forwarding: a write is coordinated by a replica of its key, so a node that is none passes it on.
//!
//! Invariant: a request is sent to one node, once. Sent to a second it could be done twice, so a
//! reply that does not come leaves the outcome unknown.

use clock::NodeId;

use super::{Input, Progress, budget_ms};
use crate::{
    Body, Request, RequestError,
    turn::{Origin, Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// A request passed on.
#[derive(Debug)]
pub(crate) struct Forward {
    origin: Origin,
    request: Option<Request>,
    to: NodeId,
    needed: u8,
    deadline: u64,
}

impl Forward {
    /// `needed` is the w that the request waits for.
    pub(crate) const fn new(
        origin: Origin,
        request: Request,
        to: NodeId,
        needed: u8,
        deadline: u64,
    ) -> Self {
        Self { origin, request: Some(request), to, needed, deadline }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match input {
            Input::Begin => {
                let Some(request) = self.request.take() else { return Progress::Done };
                let part = Part { round: 0, node: self.to, kind: PartKind::Ask };
                let left_ms = budget_ms(self.deadline, turn);
                // The replica gives up a little earlier, so that what it knows then comes in time.
                let budget_ms = (left_ms - left_ms / 8).max(1);
                let waiter = Waiter::Request { slot, part };
                turn.ask(self.to, waiter, budget_ms, Body::Forward(request));
                turn.set_timer(Timer::Request(slot), self.deadline);
                Progress::Waiting
            }
            Input::Answered { body: Body::Forwarded(result), .. } => {
                turn.reply(self.origin, result);
                Progress::Done
            }
            Input::LinkDown(node) if node != self.to => Progress::Waiting,
            _ => {
                turn.shared.counters.unmet_quorums += 1;
                turn.reply(
                    self.origin,
                    Err(RequestError::Unknown { acked: 0, needed: self.needed }),
                );
                Progress::Done
            }
        }
    }
}
