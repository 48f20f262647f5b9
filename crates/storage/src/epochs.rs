//! Epochs: under which actor this engine mints the next dot of a (key, tag).
//!
//! The rule (design.md, Dots). Among the actors in the tag's local context that are this
//! replica's, of this process, drawn since the last doubt and not sealed, the latest goes on; if there is
//! none, a fresh number is drawn. Nothing is remembered on disk; per (key, tag), only that a commit
//! failed that carried its dots (a doubt about no other), for a bounded number of them.
//!
//! Why a dot is never issued twice. Dots of other processes are never issued: the process bits are
//! random and drawn at the start, so a restart, a restored backup and a cloned disk issue under
//! actors of their own. Within the process, a dot of actor a of a (key, tag) is minted only as
//! highest(a) + 1 of the local context, and minting puts it there in the same step. So it could be
//! issued again only if the local context lost it while still holding an earlier dot of a, or got
//! one back. Local state is lost by a failed commit and by a damaged record: both are doubts. (All
//! that a failed commit takes of a's dots are those minted for it, so it is a doubt about the
//! (key, tag)s they were minted for.) A lost state that comes back from elsewhere, whole or older,
//! comes by a merge, with the context that a client presents, or with the dots that a schedule names,
//! and shows a ahead of the local context, where only this engine ever mints for a: a doubt too. And
//! after a doubt no actor drawn before it mints again. (A state lost whole leaves no actor of ours, and
//! a fresh one is drawn.) A context forgets only what was sealed: that mints no more before, and leaves nothing of its actor. Should
//! an old message bring some of it back, that shows the actor ahead.
//!
//! The index must not be replaced by an older one underneath a running process; the lock on the
//! data directory and the restart that a restore needs see to that.

use std::collections::BTreeMap;

use clock::{Actor, CausalContext, NodeId};
use sabotage::Bug;
use values::Tag;

/// (key, tag)s about which there is a doubt of their own, at most. A guess; beyond it everything
/// is doubted.
/// Under test small enough to be met.
const LOST_MAX: usize = if cfg!(test) { 3 } else { 4096 };

/// The epochs of one engine: under which actor it mints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epochs {
    node: NodeId,
    process: u64,
    /// The number to draw next. All smaller ones were drawn.
    next: u64,
    /// Numbers below mint no more.
    floor: u64,
    /// The same for one tag of the key whose header row this is.
    lost: BTreeMap<(Vec<u8>, Tag), u64>,
}

impl Epochs {
    /// Those of a process that starts; `process`: random bits, of this start and no other.
    pub fn new(node: NodeId, process: u64) -> Self {
        let process = if sabotage::is(Bug::EpochSurvivesRestart) { 0 } else { process };
        Self { node, process, next: 0, floor: 0, lost: BTreeMap::new() }
    }

    /// The smallest number that may mint for `tag` of the key with this header row.
    fn floor(&self, at: &[u8], tag: Tag) -> u64 {
        if self.lost.is_empty() {
            return self.floor;
        }
        let floor = self.lost.get(&(at.to_vec(), tag)).copied();
        floor.map_or(self.floor, |floor| floor.max(self.floor))
    }

    /// Whether `actor` may mint where `floor` is the smallest number that may.
    fn is_trusted(&self, actor: Actor, floor: u64) -> bool {
        actor.replica == self.node
            && actor.epoch.process == self.process
            && (floor..self.next).contains(&actor.epoch.number)
    }

    /// The actor under which to mint for `tag` of the key with this header row and the tag's local
    /// context; `None` once this process has drawn all its numbers (2^64).
    pub fn actor(&mut self, at: &[u8], tag: Tag, context: &CausalContext) -> Option<Actor> {
        let floor = self.floor(at, tag);
        let goes_on = |actor: &Actor| self.is_trusted(*actor, floor) && !context.is_sealed(*actor);
        let trusted = context.actors().filter(goes_on).max();
        match trusted {
            Some(actor) => Some(actor),
            None => self.draw(context),
        }
    }

    fn draw(&mut self, context: &CausalContext) -> Option<Actor> {
        loop {
            let number = self.next;
            self.next = number.checked_add(1)?;
            let actor = Actor::new(self.node, self.process, number);
            // Present only if somebody forged it.
            if context.highest(actor) == 0 {
                return Some(actor);
            }
        }
    }

    /// Retires every epoch drawn so far.
    pub fn doubt(&mut self) {
        self.floor = self.next;
        self.lost.clear();
    }

    /// Retires every epoch drawn so far for one (key, tag): dots minted for it were lost.
    pub(crate) fn lose(&mut self, at: &[u8], tag: Tag) {
        self.lost.insert((at.to_vec(), tag), self.next);
        if self.lost.len() > LOST_MAX {
            self.doubt();
        }
    }

    /// Takes note of what comes in, before it is merged into a tag with the context `local`.
    pub fn observe(&mut self, at: &[u8], tag: Tag, local: &CausalContext, inbound: &CausalContext) {
        let floor = self.floor(at, tag);
        let is_ahead = |&(actor, _, last): &(Actor, u64, u64)| {
            self.is_trusted(actor, floor)
                && last > local.highest(actor)
                && !local.has_forgotten(actor, inbound)
        };
        let ahead: Vec<Actor> =
            inbound.ranges().filter(is_ahead).map(|(actor, ..)| actor).collect();
        if ahead.is_empty() || sabotage::is(Bug::AheadIsNoDoubt) {
            return;
        }
        // Most likely it was forgotten, and whoever shows it has not heard of that. Should it have been lost, what was lost with
        // it shows itself in the same way.
        match local.forgets() && ahead.iter().all(|&actor| local.highest(actor) == 0) {
            true => self.lose(at, tag),
            false => self.doubt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Dot;

    use super::*;

    const ME: NodeId = NodeId(1);
    const AT: &[u8] = b"a key's row";
    const TAG: Tag = Tag::COUNTER;

    fn context(actor: Actor, upto: u64) -> CausalContext {
        (1..=upto).map(|counter| Dot::new(actor, counter)).collect()
    }

    #[test]
    fn an_epoch_goes_on_while_nothing_is_in_doubt() {
        let mut epochs = Epochs::new(ME, 7);
        let first = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        assert_eq!(first, Actor::new(ME, 7, 0));
        assert_eq!(epochs.actor(AT, TAG, &context(first, 3)), Some(first));
        let other = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        assert_eq!(other, Actor::new(ME, 7, 1), "a key of its own");
        let mut both = context(first, 3);
        both.merge(&context(other, 1));
        assert_eq!(epochs.actor(AT, TAG, &both), Some(other), "the latest of two");
    }

    #[test]
    fn epochs_of_other_processes_and_replicas_never_go_on() {
        let mut epochs = Epochs::new(ME, 7);
        epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        for foreign in [Actor::new(ME, 8, 0), Actor::new(NodeId(2), 7, 0)] {
            assert_ne!(epochs.actor(AT, TAG, &context(foreign, 3)), Some(foreign));
        }
    }

    #[test]
    fn after_a_doubt_every_key_draws_anew() {
        let mut epochs = Epochs::new(ME, 7);
        let old = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        epochs.doubt();
        let new = epochs.actor(AT, TAG, &context(old, 3)).unwrap();
        assert_ne!(new, old);
        assert_eq!(epochs.actor(AT, TAG, &context(new, 1)), Some(new));
    }

    #[test]
    fn what_shows_this_engine_ahead_of_itself_is_a_doubt() {
        let mut epochs = Epochs::new(ME, 7);
        let actor = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        epochs.observe(AT, TAG, &context(actor, 3), &context(actor, 3));
        assert_eq!(epochs.actor(AT, TAG, &context(actor, 3)), Some(actor), "no news");
        epochs.observe(AT, TAG, &context(actor, 2), &context(actor, 3));
        assert_ne!(epochs.actor(AT, TAG, &context(actor, 3)), Some(actor));
    }

    /// Else each old context that a client presents would have every key draw anew.
    #[test]
    fn what_was_forgotten_and_is_shown_again_is_a_doubt_about_its_key_alone() {
        let mut epochs = Epochs::new(ME, 7);
        let actor = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        let shown = context(actor, 3);
        let mut sealed = shown.clone();
        let round = clock::Round { ring: clock::RingId(1), number: 3 };
        sealed.merge(&sealed.sealed(&[actor].into(), round));
        let mut local = sealed.clone();
        local.forget_below(clock::Round { number: 4, ..round });
        assert_eq!(local.highest(actor), 0);
        epochs.observe(AT, TAG, &local, &sealed);
        assert_eq!(epochs.actor(AT, TAG, &shown), Some(actor), "no news");
        epochs.observe(AT, TAG, &local, &shown);
        let next = epochs.actor(AT, TAG, &shown).unwrap();
        assert_ne!(next, actor);
        assert_eq!(epochs.actor(b"another", TAG, &shown), Some(actor));
    }

    #[test]
    fn what_was_lost_of_one_key_and_tag_is_no_doubt_about_others() {
        let mut epochs = Epochs::new(ME, 7);
        let old = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        epochs.lose(AT, TAG);
        assert_eq!(epochs.actor(AT, Tag::LWW, &context(old, 3)), Some(old));
        assert_eq!(epochs.actor(b"another", TAG, &context(old, 3)), Some(old));
        let new = epochs.actor(AT, TAG, &context(old, 3)).unwrap();
        assert_ne!(new, old);
        epochs.observe(AT, TAG, &context(old, 3), &context(old, 4));
        assert_eq!(epochs.actor(AT, TAG, &context(new, 1)), Some(new), "what was lost came back");
        assert_eq!(epochs.actor(b"another", TAG, &context(old, 3)), Some(old));
    }

    #[test]
    fn more_losses_than_are_remembered_are_a_doubt_about_everything() {
        let mut epochs = Epochs::new(ME, 7);
        let old = epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        for n in 0..=LOST_MAX {
            epochs.lose(&n.to_be_bytes(), TAG);
        }
        assert_ne!(epochs.actor(AT, TAG, &context(old, 3)), Some(old));
        assert!(epochs.lost.is_empty());
    }

    #[test]
    fn a_forged_number_is_neither_trusted_nor_drawn() {
        let mut epochs = Epochs::new(ME, 7);
        let forged = context(Actor::new(ME, 7, 0), 9);
        assert_eq!(epochs.actor(AT, TAG, &forged), Some(Actor::new(ME, 7, 1)));
        let last = context(Actor::new(ME, 7, u64::MAX), 9);
        assert_eq!(epochs.actor(AT, TAG, &last), Some(Actor::new(ME, 7, 2)));
    }

    #[test]
    fn a_process_that_drew_every_number_says_so() {
        let mut epochs = Epochs::new(ME, 7);
        epochs.next = u64::MAX - 1;
        epochs.actor(AT, TAG, &CausalContext::default()).unwrap();
        assert_eq!(epochs.actor(AT, TAG, &CausalContext::default()), None);
    }
}
