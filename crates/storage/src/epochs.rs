//! Epochs: under which actor this engine mints the next dot of a (key, tag).
//!
//! The rule (design.md, Dots). Among the actors in the tag's local context that are this
//! replica's, of this process, and drawn since the last doubt, the latest goes on; if there is
//! none, a fresh number is drawn. Nothing is remembered per key, and nothing on disk.
//!
//! Why a dot is never issued twice. Dots of other processes are never issued: the process bits are
//! random and drawn at the start, so a restart, a restored backup and a cloned disk issue under
//! actors of their own. Within the process, a dot of actor a of a (key, tag) is minted only as
//! highest(a) + 1 of the local context, and minting puts it there in the same step. So it could be
//! issued again only if the local context lost it while still holding an earlier dot of a, or got
//! one back. Local state is lost by a failed commit and by a damaged record: both are doubts.
//! A lost state that comes back from elsewhere, whole or older, comes by a merge, or with the
//! context that a client presents, and shows a ahead of the local context, where only this engine
//! ever mints for a: a doubt too. And after a doubt no actor drawn before it mints again. (A state
//! lost whole leaves no actor of ours, and a fresh one is drawn.)
//!
//! The index must not be replaced by an older one underneath a running process; the lock on the
//! data directory and the restart that a restore needs see to that.

use clock::{Actor, CausalContext, NodeId};

/// The epochs of one engine.
#[derive(Debug)]
pub(crate) struct Epochs {
    node: NodeId,
    process: u64,
    /// The number to draw next. All smaller ones were drawn.
    next: u64,
    /// Numbers below mint no more.
    floor: u64,
}

impl Epochs {
    pub(crate) const fn new(node: NodeId, process: u64) -> Self {
        Self { node, process, next: 0, floor: 0 }
    }

    /// Whether `actor` may mint.
    fn is_trusted(&self, actor: Actor) -> bool {
        actor.replica == self.node
            && actor.epoch.process == self.process
            && (self.floor..self.next).contains(&u64::from(actor.epoch.number))
    }

    /// The actor under which to mint for a tag with this local context; `None` once this process
    /// has drawn all its numbers (2^32).
    pub(crate) fn actor(&mut self, context: &CausalContext) -> Option<Actor> {
        let trusted = context.actors().filter(|&actor| self.is_trusted(actor)).max();
        match trusted {
            Some(actor) => Some(actor),
            None => self.draw(context),
        }
    }

    fn draw(&mut self, context: &CausalContext) -> Option<Actor> {
        loop {
            let number = u32::try_from(self.next).ok()?;
            self.next += 1;
            let actor = Actor::new(self.node, self.process, number);
            // Present only if somebody forged it.
            if context.highest(actor) == 0 {
                return Some(actor);
            }
        }
    }

    /// Retires every epoch drawn so far.
    pub(crate) const fn doubt(&mut self) {
        self.floor = self.next;
    }

    /// Takes note of what comes in, before it is merged into a tag with the context `local`.
    pub(crate) fn observe(&mut self, local: &CausalContext, inbound: &CausalContext) {
        let ahead = inbound
            .ranges()
            .any(|(actor, _, last)| self.is_trusted(actor) && last > local.highest(actor));
        if ahead {
            self.doubt();
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Dot;

    use super::*;

    const ME: NodeId = NodeId(1);

    fn context(actor: Actor, upto: u64) -> CausalContext {
        (1..=upto).map(|counter| Dot::new(actor, counter)).collect()
    }

    #[test]
    fn an_epoch_goes_on_while_nothing_is_in_doubt() {
        let mut epochs = Epochs::new(ME, 7);
        let first = epochs.actor(&CausalContext::default()).unwrap();
        assert_eq!(first, Actor::new(ME, 7, 0));
        assert_eq!(epochs.actor(&context(first, 3)), Some(first));
        let other = epochs.actor(&CausalContext::default()).unwrap();
        assert_eq!(other, Actor::new(ME, 7, 1), "a key of its own");
        let mut both = context(first, 3);
        both.merge(&context(other, 1));
        assert_eq!(epochs.actor(&both), Some(other), "the latest of two");
    }

    #[test]
    fn epochs_of_other_processes_and_replicas_never_go_on() {
        let mut epochs = Epochs::new(ME, 7);
        epochs.actor(&CausalContext::default()).unwrap();
        for foreign in [Actor::new(ME, 8, 0), Actor::new(NodeId(2), 7, 0)] {
            assert_ne!(epochs.actor(&context(foreign, 3)), Some(foreign));
        }
    }

    #[test]
    fn after_a_doubt_every_key_draws_anew() {
        let mut epochs = Epochs::new(ME, 7);
        let old = epochs.actor(&CausalContext::default()).unwrap();
        epochs.doubt();
        let new = epochs.actor(&context(old, 3)).unwrap();
        assert_ne!(new, old);
        assert_eq!(epochs.actor(&context(new, 1)), Some(new));
    }

    #[test]
    fn what_shows_this_engine_ahead_of_itself_is_a_doubt() {
        let mut epochs = Epochs::new(ME, 7);
        let actor = epochs.actor(&CausalContext::default()).unwrap();
        epochs.observe(&context(actor, 3), &context(actor, 3));
        assert_eq!(epochs.actor(&context(actor, 3)), Some(actor), "no news");
        epochs.observe(&context(actor, 2), &context(actor, 3));
        assert_ne!(epochs.actor(&context(actor, 3)), Some(actor));
    }

    #[test]
    fn a_forged_number_is_neither_trusted_nor_drawn() {
        let mut epochs = Epochs::new(ME, 7);
        let forged = context(Actor::new(ME, 7, 0), 9);
        assert_eq!(epochs.actor(&forged), Some(Actor::new(ME, 7, 1)));
        let last = context(Actor::new(ME, 7, u32::MAX), 9);
        assert_eq!(epochs.actor(&last), Some(Actor::new(ME, 7, 2)));
    }

    #[test]
    fn a_process_that_drew_every_number_says_so() {
        let mut epochs = Epochs::new(ME, 7);
        epochs.next = u64::from(u32::MAX);
        epochs.actor(&CausalContext::default()).unwrap();
        assert_eq!(epochs.actor(&CausalContext::default()), None);
    }
}
