//! A loop's part in the barrier: it is looked at, and its engine enters, notes and forgets.

use std::sync::Arc;

use replication::{BarrierLook, BarrierShown, BarrierTerms, Event};
use storage::{Answer, Command, Ticket};
use tokio::sync::oneshot;

use super::Running;

/// Under which the barrier gives the engine commands, one at a time. No core comes as far.
const TICKET: Ticket = Ticket(u64::MAX - 1);

/// What a loop is asked on the barrier's behalf.
#[derive(Debug)]
pub(crate) enum BarrierAsk {
    /// How it stands.
    Look(BarrierLook, oneshot::Sender<BarrierShown>),
    /// To have the engine do this. One command at a time is under way.
    Execute(Box<Command>, oneshot::Sender<Answer>),
    /// To say this in what it sends, and to ask it of what comes.
    Terms(Arc<BarrierTerms>),
}

impl Running {
    pub(super) fn take_barrier(&mut self, ask: BarrierAsk) {
        // Whoever asked goes with the node.
        match ask {
            BarrierAsk::Look(look, reply) => {
                let effects = &mut self.scratch.effects;
                let shown = self.task.core.look(look, self.now, effects);
                self.perform();
                let engine = &self.task.engine;
                let _ = reply.send(BarrierShown {
                    is_pending: engine.has_pending(),
                    has_to_forget: engine.has_to_forget().unwrap_or(false),
                    ..shown
                });
            }
            BarrierAsk::Execute(command, reply) => {
                self.barrier_reply = Some(reply);
                let mut answers = Vec::new();
                self.task.engine.execute(TICKET, *command, &mut answers);
                answers.into_iter().for_each(|(ticket, answer)| self.stored(ticket, answer));
                self.perform();
            }
            BarrierAsk::Terms(terms) => {
                self.task.outgoing.set_terms(Arc::clone(&terms));
                self.terms = terms;
            }
        }
    }

    /// The engine answered what it did not answer at once.
    pub(super) fn stored(&mut self, ticket: Ticket, answer: Answer) {
        if ticket != TICKET {
            return self.step_staged(Event::Storage { ticket, answer });
        }
        if let Some(reply) = self.barrier_reply.take() {
            let _ = reply.send(answer);
        }
    }
}
