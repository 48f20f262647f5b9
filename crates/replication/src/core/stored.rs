//! What the engine answers, and who waits for it.

use storage::Ticket;

use super::Core;
use crate::{
    Body, Effect, Now,
    coordinator::Input,
    handover::Stands,
    replica::{self, Question},
    turn::{Turn, Waiter},
};

impl Core {
    pub(super) fn stored(
        &mut self,
        ticket: Ticket,
        answer: storage::Answer,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_last = !matches!(answer, storage::Answer::Prepared { .. });
        match self.shared.stored(ticket, is_last) {
            Some(Waiter::Request { slot, part }) => {
                self.resume(slot, Input::Stored { part, answer }, now, effects);
            }
            Some(Waiter::Delivery(owner)) => {
                let page = match answer {
                    storage::Answer::Outbox(page) => Ok(page),
                    storage::Answer::Failed(error) => Err(error),
                    _ => return,
                };
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.listed(owner, page, &mut turn);
            }
            Some(Waiter::OutboxOwners) => {
                let storage::Answer::OutboxOwners(owners) = answer else { return };
                let mut turn = Turn::new(&mut self.shared, now, effects);
                for owner in owners {
                    self.delivery.rerouted(owner, &mut turn);
                }
            }
            Some(Waiter::Redirected { number, from, owners }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.redirected((number, from), owners, &answer, &mut turn);
            }
            Some(Waiter::Delivered(owner)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.delivery.delivered(owner, &answer, &mut turn);
            }
            Some(Waiter::Peer { from, id, question }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Question::Hint(owner) = question {
                    let is_kept = answer == storage::Answer::Durable;
                    turn.shared.counters.hints_taken += u64::from(is_kept);
                    // Also what a disk refused may be on it.
                    self.delivery.deferred(owner, &mut turn);
                }
                replica::answer(from, id, question, answer, &mut turn);
            }
            Some(Waiter::AntiEntropy(job)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.stored(job, answer, &mut turn);
            }
            Some(Waiter::Compared { from, id, asked }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.anti_entropy.told(from, id, asked, answer, &mut turn);
            }
            Some(Waiter::Unkept(number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(owner) = self.unkept.stored(number, &answer, &mut turn) {
                    self.delivery.deferred(owner, &mut turn);
                }
            }
            Some(Waiter::Registrar(wait)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(registrar) = &mut self.registrar {
                    registrar.stored(wait, answer, &mut turn);
                }
            }
            Some(Waiter::Stands { from, id, stands }) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                let is_durable = answer == storage::Answer::Durable;
                if from == turn.me() {
                    for (partition, stands) in stands {
                        // Failed, it stands where nothing is to be hoped for, and is asked again.
                        let stands = if is_durable { stands } else { Stands::default() };
                        self.handover.stood(from, partition, stands, &mut turn);
                    }
                } else if is_durable {
                    turn.answer(from, id, Body::Stands { stands });
                }
            }
            Some(Waiter::Departure(partition, number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.handover.looked((partition, number), &answer, &mut turn);
            }
            Some(Waiter::Dropped(partition, number)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                self.handover.dropped((partition, number), &answer, &mut turn);
            }
            Some(Waiter::Handover | Waiter::Drain) => {}
            Some(Waiter::Keeper(_)) => {
                let mut turn = Turn::new(&mut self.shared, now, effects);
                if let Some(keeper) = &mut self.keeper {
                    keeper.stored(&answer, &mut turn);
                }
                self.own_what_is_kept(now, effects);
            }
            Some(Waiter::Nobody) | None => {}
        }
    }
}
