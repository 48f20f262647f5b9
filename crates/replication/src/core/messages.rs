//! What other nodes send: questions to this one, and answers to its own.

use std::sync::Arc;

use clock::NodeId;
use storage::StorageError;

use super::{COMMANDS_PER_REQUEST, Core};
use crate::{
    Body, Effect, Message, Now, Request, RequestError,
    coordinator::Input,
    replica,
    turn::{Origin, Turn, Waiter},
};

impl Core {
    pub(super) fn received(
        &mut self,
        from: NodeId,
        message: Message,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Message { id, trace, sequence, time, budget_ms, body } = message;
        if let Body::Moved { partition, tenure } = body {
            let of = Arc::clone(&self.shared.ownership);
            self.learn(vec![(partition, tenure)], of, now, effects);
        }
        self.shared.trace = trace;
        self.shared.clock.observe(time);
        match body {
            Body::Forward(request) => {
                self.forwarded(from, id, budget_ms, request, now, effects);
            }
            Body::Policies { digest, entries } => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                match &mut self.registrar {
                    Some(registrar) => registrar.told(from, id, digest, entries, &mut turn),
                    None => turn.answer(from, id, Body::PoliciesKnown(Err(StorageError::Busy))),
                }
            }
            Body::Ownership { digest, tenures, whole } => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                match &mut self.keeper {
                    Some(keeper) => keeper.told((from, id), digest, tenures, whole, &mut turn),
                    None => turn.answer(from, id, Body::OwnershipKnown(Err(StorageError::Busy))),
                }
            }
            Body::Stand { partitions } => {
                let bound = self.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                // Unanswered, it is asked again.
                if turn.shared.stores_waiting() < bound {
                    self.handover.asked(from, id, &partitions, &mut turn);
                }
            }
            Body::Draining { .. } => {
                self.shared.draining.insert(from);
                let cores = self.shared.config.shards.engines();
                let cores = u8::try_from(cores).unwrap_or(u8::MAX);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                turn.answer(from, id, Body::DrainingKnown { cores });
            }
            Body::Hint { owner, .. }
                if self.drain.is_begun() && owner != self.shared.config.node =>
            {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                turn.answer(from, id, Body::Hinted(Err(StorageError::Busy)));
            }
            Body::Compare(compare) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.asked(from, id, compare, &mut turn);
            }
            Body::Read { .. }
            | Body::Digest { .. }
            | Body::Merge { .. }
            | Body::Hint { .. }
            | Body::List { .. }
            | Body::Count { .. }
            | Body::Conflicts { .. }
            | Body::Explain { .. } => {
                let bound = self.shared.config.requests_max.saturating_mul(COMMANDS_PER_REQUEST);
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if turn.shared.stores_waiting() >= bound {
                    return replica::refuse(from, id, &body, &mut turn);
                }
                replica::ask(from, id, sequence, body, &mut turn);
            }
            Body::Forwarded(_)
            | Body::Shown(_)
            | Body::Digested(_)
            | Body::Merged(_)
            | Body::Hinted(_)
            | Body::Listed { .. }
            | Body::Counted(_)
            | Body::ConflictsListed(_)
            | Body::PoliciesKnown(_)
            | Body::OwnershipKnown(_)
            | Body::Stands { .. }
            | Body::Moved { .. }
            | Body::Compared(_)
            | Body::DrainingKnown { .. }
            | Body::Explained { .. } => match self.shared.answered(from, id, now) {
                Some(Waiter::Request { slot, part }) => {
                    self.resume(slot, Input::Answered { part, body }, now, effects);
                }
                Some(Waiter::Delivery(owner)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    match &body {
                        Body::Merged(merged) => {
                            self.delivery.merged(owner, id.number, merged, &mut turn);
                        }
                        Body::Hinted(hinted) => {
                            let kept = hinted.clone().map(|()| None);
                            self.delivery.merged(owner, id.number, &kept, &mut turn);
                        }
                        // Listed once more, it is kept for the owners of then.
                        Body::Moved { .. } => {
                            let failed = Err(StorageError::Busy);
                            self.delivery.merged(owner, id.number, &failed, &mut turn);
                        }
                        _ => {}
                    }
                }
                Some(Waiter::Registrar(wait)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Some(registrar) = &mut self.registrar {
                        registrar.answered(wait, body, &mut turn);
                    }
                }
                Some(Waiter::Keeper(wait)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Some(keeper) = &mut self.keeper {
                        keeper.answered(wait, body, &mut turn);
                    }
                }
                Some(Waiter::Handover) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Body::Stands { stands } = body {
                        self.handover.answered(from, id.number, stands, &mut turn);
                    }
                }
                Some(Waiter::Drain) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    if let Body::DrainingKnown { cores } = body {
                        self.drain.answered(from, id.number, cores, &mut turn);
                    }
                }
                Some(Waiter::AntiEntropy(job)) => {
                    let mut turn = Turn::new(&mut self.shared, now, effects);
                    self.anti_entropy.answered(job, id.number, body, &mut turn);
                }
                Some(
                    Waiter::Delivered(_)
                    | Waiter::Redirected { .. }
                    | Waiter::OutboxOwners
                    | Waiter::Unkept(_)
                    | Waiter::Peer { .. }
                    | Waiter::Compared { .. }
                    | Waiter::Stands { .. }
                    | Waiter::Departure(..)
                    | Waiter::Dropped(..)
                    | Waiter::Nobody,
                )
                | None => {}
            },
        }
    }

    /// Coordinates a request for a node that is no replica of its key, unless it is a copy of one
    /// that was taken already.
    pub(super) fn forwarded(
        &mut self,
        from: NodeId,
        id: crate::RequestId,
        budget_ms: u32,
        mut request: Request,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if !self.forwards.take(from, id) {
            self.shared.counters.forwards_repeated += 1;
            return;
        }
        if self.drain.is_begun() {
            let refused = Err(RequestError::Stopping);
            let mut turn = Turn::new(&mut self.shared, now, effects);
            return turn.answer(from, id, Body::Forwarded(refused));
        }
        request.timeout_ms = (budget_ms > 0).then_some(budget_ms).or(request.timeout_ms);
        let key = request.key.clone();
        let after = self.forwarded.get(&key).copied();
        let origin = Origin::Peer { from, id };
        let Some(slot) = self.request(origin, request, after, now, effects) else { return };
        let running = self.running.get_mut(slot.0);
        if let Some(running) = running.filter(|running| running.is_held || running.is_unmade()) {
            running.gate = Some(key.clone());
            self.forwarded.insert(key, slot);
        }
    }
}
